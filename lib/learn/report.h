/*
 * report: how a version does class by class on the images held out, what it takes for what, and how
 * far its probabilities are to be believed. An artifact of JSON, named in models.trained:
 *
 *     { "schema": 1, "model", "version", "images", "temperature",
 *       "calibration": { "images", "ece",
 *                        "bins": [ { "images", "probability", "accuracy" } ] }    15, by probability
 *       "classes": [ { "label", "labelled", "guessed", "right", "precision", "recall", "auc" } ],
 *       "classes_left_out": count,
 *       "confusion": [ { "label", "guess", "images" } ],                          wrong answers
 *       "confusion_left_out": { "pairs", "images" } }
 *
 * It stays below a megabyte however many labels there are: the REPORT_CLASSES classes with the most
 * wrong answers (their images answered otherwise, and others' answered so), and the REPORT_PAIRS
 * pairs of label and answer with the most images; of the rest there are counts. A class without a
 * label stands for all labels that the model does not know.
 */
#ifndef DARKROOM_LEARN_REPORT_H
#define DARKROOM_LEARN_REPORT_H

#include "lib/learn/exam.h"
#include "lib/learn/registry.h"

enum { REPORT_CLASSES = 500, REPORT_PAIRS = 1000 };

struct report_class {
    struct bytes label; /* absent: those that the model does not know */
    struct class_score score;
};
struct report_pair {
    struct bytes label, guess; /* label absent: as above */
    int64_t images;
};
struct version_report {
    struct bytes model;
    int64_t version, images;
    double temperature;
    struct calibration calibration;
    struct report_class *classes; /* most wrong answers first */
    size_t class_count;
    struct report_pair *pairs; /* most images first */
    size_t pair_count;
    int64_t classes_left_out, pairs_left_out, images_left_out;
};

/* Of one sitter; labels are borrowed from its model, arrays are in the arena. The calibration is of
   the answers as they are, so after exam_scale. */
void report_of(const struct exam *x, int sitter, struct arena *a, struct version_report *out);
void report_encode(const struct version_report *r, struct buf *out);
/* Copies into the arena. ERR_BAD (bad-message). */
enum err_kind report_decode(struct bytes json, struct arena *a, struct version_report *out,
                            struct err *e) MUST_CHECK;

/*
 * Measures a new version on the rows held out: gives its net the temperature that fits, and fills
 * out->evaluation, out->temperature and out->report, whose artifact is in the registry then. The
 * version is out->version of out->model; gone as exam_hold, threads are
 * of the arithmetic. Without images to measure on it leaves
 * the temperature 1 and writes no report.
 */
enum err_kind report_measure(struct registry *g, struct images *im, struct model *m,
                             const float *params, int threads, const struct rows *held,
                             unsigned char *gone, const struct alive *alive, struct arena *a,
                             struct trained *out, struct err *e) MUST_CHECK;

#endif
