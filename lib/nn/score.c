/* score.c: metrics from probabilities. AUC sorts each class's column once. */
#include "lib/nn/score.h"

#include "lib/base/bytes.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

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

static double macro_auc(const float *prob, const int *label, size_t n, int classes,
                        struct class_score *each) {
    struct ranked *r = mem_alloc(n * sizeof *r);
    double sum = 0;
    int counted = 0;
    for (int c = 0; c < classes; c++) {
        for (size_t i = 0; i < n; i++) {
            float p = prob[i * classes + c];
            r[i] = (struct ranked){isnan(p) ? -1 : p, label[i] == c}; /* a NaN has no order */
        }
        double auc = auc_of(r, n);
        each[c].auc = auc < 0 ? NAN : auc;
        if (auc < 0) continue;
        sum += auc;
        counted++;
    }
    free(r);
    return counted ? sum / counted : 0.5;
}

/* Precision and recall of a class, and their unweighted means: Sokolova and Lapalme 2009, table 3.
 */
static void macro_of(const struct class_score *each, int classes, struct score *out) {
    int labelled = 0, seen = 0;
    for (int c = 0; c < classes; c++) {
        const struct class_score *k = &each[c];
        labelled += k->labelled > 0;
        seen += k->labelled > 0 || k->guessed > 0;
        if (k->guessed) out->precision += (double)k->right / (double)k->guessed;
        if (k->labelled) out->recall += (double)k->right / (double)k->labelled;
    }
    out->precision /= seen;
    out->recall /= labelled;
}

int score_guess(const float *prob, int classes) {
    int guess = 0;
    for (int c = 1; c < classes; c++)
        if (prob[c] > prob[guess]) guess = c;
    return guess;
}

void score_of(const float *prob, const int *label, size_t n, int classes, struct score *out,
              struct class_score *each) {
    struct class_score *own = each ? each : mem_alloc((size_t)classes * sizeof *own);
    size_t right = 0;
    for (int c = 0; c < classes; c++) own[c] = (struct class_score){.auc = NAN};
    *out = (struct score){.n = n, .auc = 0.5};
    for (size_t i = 0; i < n; i++) {
        const float *p = prob + i * classes;
        int guess = score_guess(p, classes);
        own[label[i]].labelled++;
        own[guess].guessed++;
        own[guess].right += guess == label[i];
        right += guess == label[i];
        double q = p[label[i]];
        out->log_loss -= log(q > 1e-15 ? q : 1e-15);
    }
    if (n) {
        out->accuracy = (double)right / (double)n;
        out->log_loss /= (double)n;
        macro_of(own, classes, out);
        out->auc = macro_auc(prob, label, n, classes, own);
    }
    if (!each) free(own);
}
