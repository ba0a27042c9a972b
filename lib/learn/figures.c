/* figures: names and values side by side, so that they stay in one order. */
#include "lib/learn/figures.h"

#include <math.h>
#include <string.h>

const struct figure figures[FIGURES + 1] = {
    {"model_version", "Version that serves; 0: none yet."},
    {"model_judged_version", "Latest version that was judged."},
    {"model_judged_timestamp_seconds", "When that was, seconds since 1970."},
    {"model_held_out_images", "Images that the figures of what serves are from."},
    {"model_accuracy", "Of what serves, on the images held out."},
    {"model_auc", "Of what serves: area under the ROC curve, mean of the labels."},
    {"model_loss", "Of what serves: cross-entropy."},
    {"model_precision", "Of what serves, mean of the labels."},
    {"model_recall", "Of what serves, mean of the labels."},
    {"model_ece", "Of what serves: expected calibration error."},
    {"model_judged_accuracy", "Of the latest version that was judged, on the same images."},
    {"model_pinned", "1 when no new version may take its place."},
    {0}};

void figures_of(const struct deployed *m, double out[FIGURES]) {
    const struct metrics *x = &m->evaluation;
    memcpy(out,
           (const double[FIGURES]){(double)m->version, (double)m->judged, (double)m->time_ms / 1000,
                                   (double)x->images, x->images ? x->accuracy : NAN, x->auc,
                                   x->loss, x->precision, x->recall, x->ece, m->challenger.accuracy,
                                   m->pinned},
           FIGURES * sizeof *out);
}
