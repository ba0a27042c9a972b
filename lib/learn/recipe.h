/*
 * recipe: all that a version's arithmetic depends on beside its parent and its images: the spec,
 * the number of threads, and what computes. An artifact of the registry, shared by all versions
 * that were made alike:
 *
 *     { "schema": 1, "machine": "darkroom 0.1.0, gcc 12.2.0, …", "threads": 2,
 *       "spec": { "input.width": "28", … } }        every field of a spec, as it would be typed
 */
#ifndef DARKROOM_LEARN_RECIPE_H
#define DARKROOM_LEARN_RECIPE_H

#include "lib/learn/spec.h"

struct recipe {
    struct spec spec;
    int threads;
    char machine[200];
};

/* This program on this processor: its version and compiler, the libraries of the arithmetic, their
   kernels. Where two of these texts are equal, so are the bits. */
void recipe_machine(char text[200]);

void recipe_encode(const struct spec *spec, int threads, struct buf *out);
/* ERR_BAD (bad-model-file). A field that it does not name has its preset, and so has the network:
   which one it was is in the version's own file. */
enum err_kind recipe_decode(struct bytes json, struct recipe *r, struct err *e) MUST_CHECK;

#endif
