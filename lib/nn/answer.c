/* answer: the threads take what is left, a piece at a time. */
#include "lib/nn/answer.h"

#include "lib/base/bytes.h"

#include <stdatomic.h>
#include <stdlib.h>

struct answerer {
    const struct net *net;
    struct crew *crew;
    const float *params; /* of the forward under way, as the rest */
    const uint8_t *x;
    size_t n;
    float *prob;
    atomic_size_t next;
    struct net_run *runs[]; /* one for each thread */
};

struct answerer *answerer_make(const struct net *net, struct crew *crew) {
    int threads = crew_threads(crew);
    struct answerer *a = mem_zeroed(1, sizeof *a + (size_t)threads * sizeof *a->runs);
    a->net = net;
    a->crew = crew;
    for (int i = 0; i < threads; i++) a->runs[i] = net_run_make(net, ANSWER_PIECE);
    return a;
}

void answerer_free(struct answerer *a) {
    if (!a) return;
    for (int i = 0; i < crew_threads(a->crew); i++) net_run_free(a->runs[i]);
    free(a);
}

static void pieces(void *ctx, int number) {
    struct answerer *a = ctx;
    size_t image = net_image_size(a->net), classes = (size_t)net_classes(a->net);
    for (size_t at; (at = atomic_fetch_add(&a->next, ANSWER_PIECE)) < a->n;) {
        size_t n = a->n - at < ANSWER_PIECE ? a->n - at : ANSWER_PIECE;
        net_forward(a->runs[number], a->params, a->x + at * image, (int)n, a->prob + at * classes);
    }
}

void answerer_forward(struct answerer *a, const float *params, const uint8_t *x, size_t n,
                      float *prob) {
    a->params = params;
    a->x = x;
    a->n = n;
    a->prob = prob;
    atomic_store(&a->next, 0);
    crew_do(a->crew, pieces, a);
}
