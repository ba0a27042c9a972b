/* crew: who waits looks a while before it sleeps: a step of a small net is shorter than waking up. */
#define _POSIX_C_SOURCE 200809L
#include "lib/nn/crew.h"

#include "lib/base/bytes.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    SPINS = 30000, /* looks, one or two thousandths of a second */
    YIELD = 500    /* looks after which another thread may have the core, if one waits for it */
};

struct hand {
    struct crew *crew;
    int number; /* 0 is the caller's, which has no thread of ours */
    pthread_t thread;
};

struct crew {
    atomic_int threads, come; /* come: to the gate, in this round */
    atomic_uint round;
    pthread_mutex_t lock;
    pthread_cond_t open;
    void (*work)(void *ctx, int number); /* NULL: go home */
    void *ctx;
    struct hand hands[];
};

void crew_meet(struct crew *c) {
    unsigned round = atomic_load(&c->round);
    if (atomic_fetch_add(&c->come, 1) == c->threads - 1) {
        atomic_store(&c->come, 0);
        pthread_mutex_lock(&c->lock);
        atomic_store(&c->round, round + 1);
        pthread_cond_broadcast(&c->open);
        pthread_mutex_unlock(&c->lock);
        return;
    }
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&c->round) != round) return;
        if (i % YIELD == YIELD - 1) sched_yield();
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&c->lock);
    while (atomic_load(&c->round) == round) pthread_cond_wait(&c->open, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

static void *hand_main(void *arg) {
    struct hand *h = arg;
    for (;;) {
        crew_meet(h->crew);
        if (!h->crew->work) return NULL;
        h->crew->work(h->crew->ctx, h->number);
        crew_meet(h->crew);
    }
}

void crew_do(struct crew *c, void (*work)(void *ctx, int number), void *ctx) {
    c->work = work;
    c->ctx = ctx;
    crew_meet(c);
    work(ctx, 0);
    crew_meet(c);
}

struct crew *crew_make(int threads, struct err *e) {
    struct crew *c = mem_zeroed(1, sizeof *c + (size_t)threads * sizeof *c->hands);
    c->threads = threads;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->open, NULL);
    for (int i = 1; i < threads; i++) {
        struct hand *h = &c->hands[i];
        *h = (struct hand){.crew = c, .number = i};
        if (!pthread_create(&h->thread, NULL, hand_main, h)) continue;
        err_fatal(e, "cannot start thread %d of %d of the arithmetic", i + 1, threads);
        c->threads = i; /* those who wait at the gate, with us */
        crew_free(c);
        return NULL;
    }
    return c;
}

void crew_free(struct crew *c) {
    if (!c) return;
    c->work = NULL;
    crew_meet(c);
    for (int i = 1; i < c->threads; i++) pthread_join(c->hands[i].thread, NULL);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->open);
    free(c);
}

int crew_threads(const struct crew *c) {
    return c->threads;
}
