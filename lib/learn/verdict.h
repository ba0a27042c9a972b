/*
 * verdict: whether a new version takes the place of the one that serves. A function of figures
 * alone; judge.c gets them.
 *
 *     fresh   the newest serves, unless it is worse beyond chance than the one that serves now, or
 *             more than `deploy.margin` points below that one or the best so far
 *     better  it serves only when it is better beyond chance
 *
 * Under both never below `deploy.floor`, nor in the place of one that is pinned; what is held back for
 * that is no best either, as it did not serve. "Beyond chance" is the exact sign test of McNemar's table
 * (McNemar 1947; Dietterich 1998, section 3.1): only images that exactly one of the two gets right
 * tell them apart, and of equals each of these is a coin's flip. One-sided, at `deploy.error`: of
 * challengers that are no better, `better` promotes no larger share; of those that are no worse,
 * `fresh` turns no larger share away for the test.
 *
 * Small losses that no test can see would add up under fresh, each against the loser before. So the
 * best version so far is remembered, with its weights, and answers the same images at the same time:
 * a figure from other images would be no measure, as what is held out grows and is corrected. A
 * version takes the best's place when it is promoted and better than it beyond chance, by the same
 * test: were a higher figure enough, then of hundreds of versions that are a little worse the luckiest
 * would become the measure, one after the other. Gains too small for the test add up until they are
 * not. Where the best cannot answer (its weights are lost, its input has another size) the champion
 * takes its place, and the challenger, once promoted, where that cannot answer either.
 */
#ifndef DARKROOM_LEARN_VERDICT_H
#define DARKROOM_LEARN_VERDICT_H

#include "lib/learn/exam.h"
#include "lib/learn/spec.h"

/* The chance of at least `heads` heads when a fair coin is flipped heads + tails times. */
double sign_test(size_t heads, size_t tails);

struct contest {
    int64_t challenger, champion, best; /* versions; champion 0: nothing serves; best may be it */
    int64_t learned;                    /* images that the challenger has learned from */
    bool champion_gone;                 /* its weights are lost */
    bool other_input;                   /* the challenger's input is of another size than its */
    bool pinned;                        /* the champion can serve, and somebody wants it to stay */
    int64_t images;                     /* held out, and answered */
    double accuracy, champion_accuracy, best_accuracy; /* on these; NAN where it did not answer */
    struct duel duel;                                  /* challenger (a) and champion (b) */
    struct duel best_duel;                             /* challenger (a) and best (b) */
};

enum best { BEST_STAYS, BEST_CHAMPION, BEST_CHALLENGER };

struct verdict {
    bool promoted;
    enum best best; /* which is the best from now on */
    const char *why;
};
/* why is in the arena. */
void verdict_of(const struct spec *spec, const struct contest *c, struct arena *a,
                struct verdict *out);

#endif
