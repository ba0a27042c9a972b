/*
 * calibrate: whether probabilities mean what they say, and the one number that mends them.
 *
 * Temperature scaling (Guo, Pleiss, Sun and Weinberger 2017, section 4.2): softmax(logits / T). T
 * above 1 takes confidence away, below 1 it adds some. It keeps the order of the classes, so no
 * answer changes.
 */
#ifndef DARKROOM_NN_CALIBRATE_H
#define DARKROOM_NN_CALIBRATE_H

#include <stddef.h>

enum { CALIBRATION_BINS = 15 };

/*
 * Expected calibration error (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, equation 3): the
 * images are put into 15 bins of equal width, (k / 15, (k + 1) / 15], by the probability of the
 * answer; ece = sum over the bins of their share of the images times |accuracy - mean probability|.
 */
struct calibration {
    size_t images;
    double ece; /* 0..1; NAN without images */
    struct {
        size_t images;
        double probability, accuracy; /* means; 0 in an empty bin */
    } bins[CALIBRATION_BINS];
};

/* prob is (n, classes); a label (n) of another number than 0..classes-1 is one that no answer has. */
void calibration_of(const float *prob, const int *label, size_t n, int classes,
                    struct calibration *out);

/*
 * T from probabilities that were made with T = 1: with b = 1 / T it minimises
 *
 *     sum over the rows of -ln softmax(b ln p)[label] + 10 (b - 1)^2
 *
 * which is convex in b. The second term holds T near 1 while there are few images, as some fifty
 * images that T = 1 fits would; it is little beside a thousand. Rows of unknown labels are left out.
 * Within CALIBRATION_LEAST..CALIBRATION_MOST; 1 when there is nothing to fit to. p below 1e-37 counts
 * as that: float has lost it.
 */
#define CALIBRATION_LEAST 0.1
#define CALIBRATION_MOST 10.0
double calibration_temperature(const float *prob, const int *label, size_t n, int classes);

/* What probabilities (n, classes) made with T = 1 are with another T. */
void calibration_scale(float *prob, size_t n, int classes, double temperature);

#endif
