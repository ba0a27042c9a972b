/*
 * growth: whether a batch comes to cost more when much came before it. For each size a store of so
 * many images, all learned from already, then versions of 1,000 new ones each: their seconds, and
 * the largest size's over the smallest's.
 *
 *   growth [IMAGES...]      10000 1000000
 */
#define _GNU_SOURCE
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/random.h"
#include "lib/learn/learner.h"
#include "lib/nn/matmul.h"
#include "tests/unit/redis_server.h"

enum { BATCH = 1000, JOIN = 64, LARGE = 4000, MEASURED = 7, CLASSES = 10 };

static struct err err;

static void die(void) {
    fprintf(stderr, "growth: %s\n", err.text);
    exit(1);
}

static enum err_kind still(void *ctx, struct err *e) {
    (void)ctx, (void)e;
    return ERR_NONE;
}

/* Noise with a bright square whose place is the class: quick to make, and something to learn. */
static struct manifest store(struct images *im, const struct spec *spec, size_t from, size_t n,
                             struct arena *a) {
    size_t size = (size_t)(spec->width * spec->height * spec->channels);
    struct image_put *put = arena_alloc(a, n * sizeof *put);
    struct manifest m = {.model = BYTES("default"),
                         .images = arena_alloc(a, n * sizeof *m.images),
                         .image_count = n,
                         .batch = bytes_of(arena_printf(a, "%064zu", from))};
    for (size_t i = 0; i < n; i++) {
        uint64_t seed = from + i;
        size_t class = (from + i) % CLASSES;
        uint8_t *x = arena_alloc(a, size);
        for (size_t k = 0; k < size; k += 8) {
            uint64_t bits = random_next(&seed) & 0x3f3f3f3f3f3f3f3fu;
            memcpy(x + k, &bits, size - k < 8 ? size - k : 8);
        }
        for (size_t k = 0; k < 6; k++)
            memset(x + (4 + class / 5 * 10 + k) * (size_t)spec->width + 2 + class % 5 * 5, 250, 4);
        put[i] = (struct image_put){.row = {.model = m.model,
                                            .id = bytes_of(arena_printf(a, "%zu", from + i)),
                                            .source = BYTES("growth"),
                                            .label = bytes_of(arena_printf(a, "%zu", class)),
                                            .time_ms = (int64_t)(from + i),
                                            .height = (int)spec->height,
                                            .width = (int)spec->width,
                                            .channels = (int)spec->channels,
                                            .pixels = {x, size}},
                                    .from = {"c", "t", 0, (int64_t)(from + i), 1},
                                    .share = spec->eval_share};
    }
    if (images_put(im, put, n, NULL, NULL, &err)) die();
    for (size_t i = 0; i < n; i++)
        m.images[i] = (struct manifest_image){bytes_of(arena_text(a, bytes_of(put[i].name))),
                                              put[i].revision, put[i].row.label, put[i].split};
    return m;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of a version of BATCH new images, with `before` there and learned from. */
static double measure(size_t before) {
    struct redis_server server;
    struct arena a = {0};
    const struct alive alive = {.still = still};
    struct specs *specs = specs_load(NULL, &err);
    if (!specs) die();
    struct spec spec = *specs_of(specs, BYTES("default")), quick = spec;
    quick.passes = 0.01;
    redis_server_start(&server, NULL);
    struct redis *redis = redis_open(&(struct redis_conf){.url = redis_server_url(&server)}, &err);
    if (!redis) die();
    struct images *im = images_open(redis, "g.");
    struct registry *g = registry_open(redis, "g.");
    struct learner *l = learner_open(g, im, 2);
    struct trained out;
    double seconds[MEASURED];
    for (size_t at = 0; at < before;) {
        struct manifest list[JOIN];
        size_t n = 0;
        for (; n < JOIN && at < before; n++) {
            size_t k = before - at < LARGE ? before - at : LARGE;
            list[n] = store(im, &spec, at, k, &a);
            at += k;
        }
        if (learner_learn(l, BYTES("default"), &quick, list, n, &alive, &a, &out, &err)) die();
        arena_reset(&a);
        fprintf(stderr, "\r%zu images are there", at);
    }
    for (int i = -2; i < MEASURED; i++) {
        struct manifest m = store(im, &spec, before + (size_t)(i + 2) * BATCH, BATCH, &a);
        int64_t from = clock_monotonic_us();
        if (learner_learn(l, BYTES("default"), &spec, &m, 1, &alive, &a, &out, &err)) die();
        if (i >= 0) seconds[i] = (double)(clock_monotonic_us() - from) * 1e-6;
        arena_reset(&a);
    }
    fprintf(stderr, "\r%*s\r", 40, "");
    learner_close(l);
    registry_close(g);
    images_close(im);
    redis_close(redis);
    redis_server_stop(&server);
    specs_free(specs);
    qsort(seconds, MEASURED, sizeof *seconds, by_value);
    printf("%10zu images: %.3f s a version of %d (%.3f-%.3f)\n", before, seconds[MEASURED / 2],
           BATCH, seconds[0], seconds[MEASURED - 1]);
    fflush(stdout);
    return seconds[MEASURED / 2];
}

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    double first = 0, last = 0;
    const char *preset[] = {"10000", "1000000"};
    int n = argc > 1 ? argc - 1 : 2;
    for (int i = 0; i < n; i++) {
        last = measure(strtoul(argc > 1 ? argv[i + 1] : preset[i], NULL, 10));
        if (!i) first = last;
    }
    printf("ratio %.2f\n", last / first);
    return 0;
}
