/* calibrate.c: ln p is the logits but for a constant of the row, which the softmax takes out again. */
#include "lib/nn/calibrate.h"

#include "lib/nn/score.h"

#include <math.h>

enum { MOST_STEPS = 60 };
static const double HOLD = 20; /* twice the weight of (b - 1)^2 */

void calibration_of(const float *prob, const int *label, size_t n, int classes,
                    struct calibration *out) {
    *out = (struct calibration){.ece = NAN};
    for (size_t i = 0; i < n; i++) {
        const float *p = prob + i * (size_t)classes;
        int guess = score_guess(p, classes);
        double top = p[guess];
        if (!(top >= 0 && top <= 1)) top = top > 1; /* rounding, or a NaN */
        int bin = (int)ceil(top * CALIBRATION_BINS) - 1;
        if (bin < 0) bin = 0;
        out->bins[bin].images++;
        out->bins[bin].probability += top;
        out->bins[bin].accuracy += guess == label[i];
        out->images++;
    }
    if (!out->images) return;
    out->ece = 0;
    for (int k = 0; k < CALIBRATION_BINS; k++) {
        if (!out->bins[k].images) continue;
        double images = (double)out->bins[k].images;
        out->ece += fabs(out->bins[k].accuracy - out->bins[k].probability) / (double)out->images;
        out->bins[k].probability /= images;
        out->bins[k].accuracy /= images;
    }
}

static double logit(float p) {
    return log(p > 1e-37f ? (double)p : 1e-37);
}

/*
 * First and second derivative by b of the loss of a row: with q = softmax(b z), they are
 * E_q[z] - z[label] and Var_q[z].
 */
static void slope_of(const float *p, int label, int classes, double b, double *first,
                     double *second) {
    double sum = 0, mean = 0, square = 0, top = logit(p[score_guess(p, classes)]);
    for (int c = 0; c < classes; c++) {
        double z = logit(p[c]) - top, w = exp(b * z);
        sum += w;
        mean += w * z;
        square += w * z * z;
    }
    mean /= sum;
    *first += mean - (logit(p[label]) - top);
    *second += square / sum - mean * mean;
}

/* Newton's steps on the slope, which rises with b; one that leaves the bracket halves it. */
double calibration_temperature(const float *prob, const int *label, size_t n, int classes) {
    double low = 1 / CALIBRATION_MOST, high = 1 / CALIBRATION_LEAST, b = 1;
    for (int step = 0; step < MOST_STEPS && high - low > 1e-9; step++) {
        double first = HOLD * (b - 1), second = HOLD;
        for (size_t i = 0; i < n; i++)
            if (label[i] >= 0 && label[i] < classes)
                slope_of(prob + i * (size_t)classes, label[i], classes, b, &first, &second);
        if (!isfinite(first) || !isfinite(second)) return 1;
        if (first > 0)
            high = b;
        else
            low = b;
        double next = b - first / second;
        if (fabs(next - b) < 1e-7) break;
        b = next > low && next < high ? next : (low + high) / 2;
    }
    return 1 / b;
}

void calibration_scale(float *prob, size_t n, int classes, double temperature) {
    double b = 1 / temperature;
    for (size_t i = 0; b != 1 && i < n; i++) {
        float *p = prob + i * (size_t)classes;
        double sum = 0, top = logit(p[score_guess(p, classes)]);
        for (int c = 0; c < classes; c++) {
            double w = exp(b * (logit(p[c]) - top));
            p[c] = (float)w;
            sum += w;
        }
        for (int c = 0; c < classes; c++) p[c] = (float)(p[c] / sum);
    }
}
