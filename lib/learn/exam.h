/*
 * exam: one or more versions answer the same stored images, read once for all of them.
 *
 * A version's temperature is fitted on all of these images, and its calibration error is measured on
 * them as well. Kept apart, two halves make the temperature itself worse, by more than what a single
 * number gains on the images that it was fitted to.
 */
#ifndef DARKROOM_LEARN_EXAM_H
#define DARKROOM_LEARN_EXAM_H

#include "lib/base/alive.h"
#include "lib/learn/images.h"
#include "lib/learn/lineage.h"
#include "lib/nn/calibrate.h"
#include "lib/nn/model.h"
#include "lib/nn/score.h"

enum { EXAM_MOST = 3 };

struct sitter {
    const struct model *model; /* borrowed */
    const float *params;       /* borrowed; NULL: the model's own weights */
    float *prob;               /* (n, classes of the model) */
    int *label;                /* (n): the model's class; its number of classes for a label that it
                                  does not know, which no answer has */
    bool unknown;              /* there is such a label */
};

struct exam { /* {0}, but for what the caller says: sitters, count, threads, look, ctx */
    struct sitter sitters[EXAM_MOST];
    int count;   /* of sitters: 1..EXAM_MOST, whose inputs are of one size */
    int threads; /* of the arithmetic; 0 is one. The answers do not depend on it */
    size_t n;    /* images that were answered */
    /* Or NULL: is shown the pixels (n - from, H, W, C) of the images from..n-1 when they are answered. */
    void (*look)(void *ctx, const struct exam *x, size_t from, const uint8_t *pixels);
    void *ctx;
};

/*
 * Asks the first n of the rows. A row that is gone, has no label or another shape than the inputs is
 * left out. gone (n), when not NULL, gets 1 for a row that the store has no more.
 */
enum err_kind exam_hold(struct exam *x, struct images *im, struct bytes name,
                        const struct rows *rows, size_t n, unsigned char *gone,
                        const struct alive *alive, struct err *e) MUST_CHECK;
void exam_free(struct exam *x);

/* The sitter's answers with a column more, which nobody chose, for the labels that it does not know:
   (n, classes + 1), to be freed; NULL when it knows all. */
float *exam_widen(const struct exam *x, int sitter);

/* Everything is NAN when no image was answered. each (classes + 1), or NULL, ends with the labels
   that the model does not know. */
void exam_metrics(const struct exam *x, int sitter, struct metrics *out, struct class_score *each);
void exam_calibration(const struct exam *x, int sitter, struct calibration *out);
/* The temperature that fits answers of a net whose own is 1; exam_scale makes them those of a net
   that has it. */
double exam_temperature(const struct exam *x, int sitter);
void exam_scale(struct exam *x, int sitter, double temperature);

/* On how many images exactly one of the two is right: a alone, b alone. */
struct duel {
    size_t a, b;
};
struct duel exam_duel(const struct exam *x, int a, int b);

#endif
