/*
 * train: what the network library does by itself, without a broker: images a second of training and
 * of forward, from memory. The images are noise, and their labels others each time that they come:
 * what can be learned by heart ends with gradients too small for a float, which are slow.
 *
 *   train [NETWORK] [threads] [seconds] [height width channels]
 */
#define _POSIX_C_SOURCE 200809L
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/nn/answer.h"
#include "lib/nn/matmul.h"
#include "lib/nn/net_spec.h"
#include "lib/nn/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 16384, BATCH = 128, CLASSES = 10, RUNS = 5 };

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double *rate) {
    qsort(rate, RUNS, sizeof *rate, by_value);
    printf("%-24s %9.0f images/s (%.0f-%.0f)\n", what, rate[RUNS / 2], rate[0], rate[RUNS - 1]);
}

/* The images of a step, gathered by the threads that learn from them. */
struct batch {
    const uint8_t *x;
    uint8_t *out;
    const int *order;
    size_t pixels;
};

static void gather(void *ctx, int number, int from, int n) {
    const struct batch *b = ctx;
    (void)number;
    for (int i = from; i < from + n; i++)
        memcpy(b->out + (size_t)i * b->pixels, b->x + (size_t)b->order[i] * b->pixels, b->pixels);
}

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    const char *network = argc > 1 ? argv[1] : "cnn";
    int threads = argc > 2 ? atoi(argv[2]) : 2;
    double seconds = argc > 3 ? atof(argv[3]) : 2, rate[RUNS];
    bool sized = argc > 6;
    int h = sized ? atoi(argv[4]) : 28, w = sized ? atoi(argv[5]) : 28,
        c = sized ? atoi(argv[6]) : 1;
    size_t pixels = (size_t)h * w * c;
    struct err e = {0};
    struct net_spec spec;
    struct net *net =
        net_spec_ready(network, h, w, c, &spec, &e) ? NULL : net_make(&spec, CLASSES, 1, &e);
    struct train_conf conf = {.rate = 0.01f, .momentum = 0.9f, .batch = BATCH, .threads = threads};
    struct trainer *t = net ? trainer_make(net, &conf, &e) : NULL;
    if (!t) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    uint8_t *x = mem_alloc(IMAGES * pixels), *batch = mem_alloc(BATCH * pixels);
    int label[BATCH], *order = mem_alloc(IMAGES * sizeof *order), next = 0, seen = 0;
    for (size_t i = 0; i < IMAGES * pixels; i++) x[i] = (uint8_t)rand();
    for (int i = 0; i < IMAGES; i++) order[i] = rand() % IMAGES;
    struct batch b = {.x = x, .out = batch, .pixels = pixels};
    trainer_set_prepare(t, gather, &b);
    printf("%s, kernels %s\n", network, matmul_kernels());

    for (int r = -1; r < RUNS; r++) {
        int64_t from = clock_monotonic_us(), n = 0;
        while (clock_monotonic_us() - from < seconds * 1e6) {
            b.order = order + next;
            for (int i = 0; i < BATCH; i++) label[i] = order[(next + i + seen) % IMAGES] % CLASSES;
            next += BATCH;
            if (next == IMAGES) next = 0, seen++;
            trainer_step(t, batch, label, BATCH);
            n += BATCH;
        }
        if (r >= 0) rate[r] = n * 1e6 / (clock_monotonic_us() - from);
    }
    char what[64];
    snprintf(what, sizeof what, "train, %d threads", threads);
    print(what, rate);
    trainer_free(t);

    float *prob = mem_alloc((size_t)IMAGES * CLASSES * sizeof *prob);
    static const int sizes[] = {1, 32, 128, 256, 512};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int k = sizes[s];
        struct net_run *run = net_run_make(net, k);
        for (int r = -1; r < RUNS; r++) {
            int64_t from = clock_monotonic_us(), n = 0;
            while (clock_monotonic_us() - from < seconds * 0.5e6) {
                net_forward(run, NULL, x + n % (IMAGES - k + 1) * pixels, k, prob);
                n += k;
            }
            if (r >= 0) rate[r] = n * 1e6 / (clock_monotonic_us() - from);
        }
        snprintf(what, sizeof what, "forward of %d", k);
        print(what, rate);
        net_run_free(run);
    }
    struct crew *crew = crew_make(threads, &e);
    if (!crew) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    struct answerer *answerer = answerer_make(net, crew);
    /* the same images each time, as forward.py's; the bytes are still made floats, which its are */
    for (int r = -1; r < RUNS; r++) {
        int64_t from = clock_monotonic_us(), n = 0;
        while (clock_monotonic_us() - from < seconds * 0.5e6) {
            answerer_forward(answerer, NULL, x, BATCH, prob);
            n += BATCH;
        }
        if (r >= 0) rate[r] = n * 1e6 / (clock_monotonic_us() - from);
    }
    snprintf(what, sizeof what, "forward of %d, %d threads", BATCH, threads);
    print(what, rate);
    answerer_free(answerer);
    crew_free(crew);
    free(x);
    free(order);
    free(batch);
    free(prob);
    net_free(net);
    return 0;
}
