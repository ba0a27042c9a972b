/*
 * study: the steps of one version: which images are seen, in which order, how they are changed on
 * the way, and the arithmetic on them.
 */
#ifndef DARKROOM_LEARN_STUDY_H
#define DARKROOM_LEARN_STUDY_H

#include "lib/base/alive.h"
#include "lib/learn/images.h"
#include "lib/learn/pupil.h"

struct course {
    struct images *images; /* borrowed; while a study runs nobody else may use it */
    const struct spec *spec;
    const struct rows *fresh; /* the new images; those of before are the pupil's */
    size_t corrected;         /* of the new ones: another revision of an image that came before */
    int threads;              /* of the arithmetic; with more than one the next images are read in a
                                 thread of their own meanwhile */
    unsigned char *gone; /* (pupil->rows.count), gets 1 for an old row that is no more; zeros */
    unsigned char *used; /* (pupil->rows.count), gets 1 for an old row that was seen; or NULL */
    /* answers */
    int64_t steps, presentations;
    double seconds; /* of the steps, what they waited for included */
};

/*
 * The pupil's net learns from the new images and from a fair sample of the old ones. Of a single
 * label there is nothing to learn. Until a net has learned anything, the input's normalisation is
 * taken from all of them first. The same pupil, rows, spec, content of the store and number of
 * threads give the same bits; a change here that gives others raises ARITHMETIC of recipe.c. Where
 * the outcome is not finite (a rate too high) the net stays what it was.
 */
enum err_kind study(struct course *c, struct pupil *p, const struct alive *alive,
                    struct err *e) MUST_CHECK;

#endif
