/* score.c: metrics from probabilities. AUC sorts each class's column once. */
#include "lib/nn/score.h"

#include "lib/base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ranked {
    float p;
    bool positive;
};

static int by_p(const void *a, const void *b) {
    float x = ((const struct ranked *)a)->p, y = ((const struct ranked *)b)->p;
    return (x > y) - (x < y);
}

/*
 * The chance that a positive stands above a negative, ties counting half: with R the sum of the
 * positives' ranks, those of a tie being their mean, (R - P (P + 1) / 2) / (P N); Mann and Whitney
 * 1947, Hanley and McNeil 1982. Below 0 when there are no positives or no negatives.
 */
static double auc_of(struct ranked *r, size_t n) {
    size_t positives = 0;
    for (size_t i = 0; i < n; i++) positives += r[i].positive;
    if (!positives || positives == n) return -1;
    qsort(r, n, sizeof *r, by_p);
    double ranks = 0;
    for (size_t from = 0, to; from < n; from = to) {
        size_t hits = 0;
        for (to = from; to < n && r[to].p == r[from].p; to++) hits += r[to].positive;
        ranks += (double)hits * ((double)(from + 1) + (double)to) / 2;
    }
    double p = (double)positives;
    return (ranks - p * (p + 1) / 2) / (p * (double)(n - positives));
}

static double macro_auc(const float *prob, const int *label, size_t n, int classes) {
    struct ranked *r = mem_alloc(n * sizeof *r);
    double sum = 0;
    int counted = 0;
    for (int c = 0; c < classes; c++) {
        for (size_t i = 0; i < n; i++) {
            float p = prob[i * classes + c];
            r[i] = (struct ranked){isnan(p) ? -1 : p, label[i] == c}; /* a NaN has no order */
        }
        double auc = auc_of(r, n);
        if (auc < 0) continue;
        sum += auc;
        counted++;
    }
    free(r);
    return counted ? sum / counted : 0.5;
}

/* Precision and recall of a class, and their unweighted means: Sokolova and Lapalme 2009, table 3.
 */
static void macro_of(const uint32_t *confusion, int classes, struct score *out) {
    int labelled_classes = 0, seen_classes = 0;
    for (int c = 0; c < classes; c++) {
        double labelled = 0, guessed = 0, right = confusion[(size_t)c * classes + c];
        for (int k = 0; k < classes; k++) {
            labelled += confusion[(size_t)c * classes + k];
            guessed += confusion[(size_t)k * classes + c];
        }
        labelled_classes += labelled > 0;
        seen_classes += labelled > 0 || guessed > 0;
        if (guessed > 0) out->precision += right / guessed;
        if (labelled > 0) out->recall += right / labelled;
    }
    out->precision /= seen_classes;
    out->recall /= labelled_classes;
}

void score_of(const float *prob, const int *label, size_t n, int classes, struct score *out,
              uint32_t *confusion) {
    size_t cells = (size_t)classes * classes, right = 0;
    uint32_t *counts = confusion ? confusion : mem_alloc(cells * sizeof *counts);
    memset(counts, 0, cells * sizeof *counts);
    *out = (struct score){.n = n, .auc = 0.5};
    for (size_t i = 0; i < n; i++) {
        const float *p = prob + i * classes;
        int guess = 0;
        for (int c = 1; c < classes; c++)
            if (p[c] > p[guess]) guess = c;
        counts[(size_t)label[i] * classes + guess]++;
        right += guess == label[i];
        double q = p[label[i]];
        out->log_loss -= log(q > 1e-15 ? q : 1e-15);
    }
    if (n) {
        out->accuracy = (double)right / (double)n;
        out->log_loss /= (double)n;
        macro_of(counts, classes, out);
        out->auc = macro_auc(prob, label, n, classes);
    }
    if (!confusion) free(counts);
}
