/*
 * score: how good the answers of a net are, from its probabilities and the true labels.
 */
#ifndef DARKROOM_NN_SCORE_H
#define DARKROOM_NN_SCORE_H

#include <stddef.h>

/* With n == 0 everything is 0, and auc is 0.5. */
struct score {
    size_t n;
    double accuracy;  /* right / n; a guess is the first class of the largest probability */
    double log_loss;  /* mean of -ln max(p of the true class, 1e-15) */
    double precision; /* macro: mean over the classes that are someone's label or guess of
                         right / guessed; 0 for a class that was never guessed */
    double recall; /* macro: mean over the classes that are someone's label of right / labelled */
    double auc;    /* macro, one against the rest, ties count half; classes without positives or
                      without negatives are left out; 0.5 when none is left */
};

/* Of one class: precision is right / guessed, recall right / labelled. */
struct class_score {
    size_t labelled, guessed, right; /* images */
    double auc;                      /* NAN without positives or without negatives */
};

/* prob is (n, classes), label (n) in 0..classes-1; each is (classes), or NULL when not wanted. */
void score_of(const float *prob, const int *label, size_t n, int classes, struct score *out,
              struct class_score *each);

/* The answer of one row (classes): the first class of the largest probability. */
int score_guess(const float *prob, int classes);

#endif
