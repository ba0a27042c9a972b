/*
 * answers: how a version answers the images that its lineage holds out, one by one: what the
 * pictures and curves of a report are made of.
 */
#ifndef DARKROOM_EXPORT_ANSWERS_H
#define DARKROOM_EXPORT_ANSWERS_H

#include "lib/base/alive.h"
#include "lib/image/png.h"
#include "lib/learn/images.h"
#include "lib/learn/registry.h"
#include "lib/nn/model.h"

enum { MISTAKES_MOST = 24 };

/* An image that was answered wrongly. */
struct mistake {
    int label, guess;
    float right, wrong; /* probability of the label and of the guess */
    struct image image; /* as the model saw it */
};

/* {0} is empty; owned. Names of classes are those of the model. */
struct answers {
    struct model model;
    int classes;  /* columns: the model's, and one more when a label is none of them */
    size_t count; /* images answered */
    float *prob;  /* (count, classes); a column that is not the model's is 0 */
    int *label;   /* (count) */
    struct mistake mistakes[MISTAKES_MOST]; /* the worst first: least probability of the label */
    int mistake_count;
};

/* A row that is gone, has no label or another shape is left out, as by judge. ERR_BAD when the
   version's artifacts are gone or damaged. */
enum err_kind answers_get(struct registry *g, struct images *im, const struct trained *version,
                          const struct alive *alive, struct answers *out, struct err *e) MUST_CHECK;
void answers_free(struct answers *a);                          /* back to {0} */
const char *answers_label(const struct answers *a, int class); /* of the extra column "other" */

#endif
