/*
 * model: a net with what must travel with it - its labels, its normalisation, notes - as one
 * safetensors file. The metadata holds "darkroom.format" = "1", "darkroom.net" (the layers:
 * net_spec.h), "darkroom.labels" and "darkroom.norm" as JSON, and "darkroom.temperature", what the
 * logits are divided by before the softmax, where that is not 1; everything else in the metadata is
 * a note. The file needs nothing else to be used.
 */
#ifndef DARKROOM_NN_MODEL_H
#define DARKROOM_NN_MODEL_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"
#include "lib/nn/net.h"

struct model_note {
    char *key, *value; /* owned */
};

/* {0} is empty; everything is owned. label_count == net_classes(net). */
struct model {
    struct net *net;
    char **labels; /* (label_count), clean UTF-8 */
    int label_count;
    struct model_note *notes;
    int note_count;
};

void model_free(struct model *m); /* back to {0} */
/* A label or a note is copied. model_add_label does not grow the net. */
void model_add_label(struct model *m, const char *label);
int model_label(const struct model *m,
                struct bytes label); /* its class; label_count: none of ours */
void model_set_note(struct model *m, const char *key, const char *value);
const char *model_note(const struct model *m, const char *key); /* NULL: no such note */

/* Appends the file; `params` is the flat array to write, such as an average, NULL the net's own.
   The same model gives the same bytes. ERR_FATAL when labels and notes pass what a header may hold.
 */
enum err_kind model_save(const struct model *m, const float *params, struct buf *out,
                         struct err *e) MUST_CHECK;
/* *m is overwritten; {0} after an error. ERR_BAD (bad-model-file) when the file is damaged, of
   another format, or its tensors are not those that its layers ask for, or not finite. */
enum err_kind model_load(struct bytes file, struct model *m, struct err *e) MUST_CHECK;

#endif
