/*
 * growth: whether a batch comes to cost more when much came before it. For each size a store of so
 * many images, all learned from already, and versions of 1,000 new ones each, the sizes in turn:
 * their median seconds, and the last size's over the first's. A store has its size when half of them
 * are made.
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

enum { BATCH = 1000, JOIN = 64, LARGE = 4000, FIRST = 2, MEASURED = 15, CLASSES = 10 };

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

/* A model that has learned from many images, and a Redis of its own. */
struct grown {
    size_t images;
    struct redis_server server;
    struct redis *redis;
    struct images *store;
    struct registry *registry;
    struct learner *learner;
    double seconds[MEASURED];
};

static double learn(struct grown *g, const struct spec *spec, const struct manifest *list, size_t n,
                    struct arena *a) {
    const struct alive alive = {.still = still};
    struct trained out;
    int64_t from = clock_monotonic_us();
    if (learner_learn(g->learner, BYTES("default"), spec, list, n, &alive, a, &out, &err)) die();
    return (double)(clock_monotonic_us() - from) * 1e-6;
}

static void grow(struct grown *g, const struct spec *spec, size_t images, struct arena *a) {
    struct spec quick = *spec;
    quick.passes = 0.01;
    redis_server_start(&g->server, NULL);
    g->redis = redis_open(&(struct redis_conf){.url = redis_server_url(&g->server)}, &err);
    if (!g->redis) die();
    g->store = images_open(g->redis, "g.");
    g->registry = registry_open(g->redis, "g.");
    g->learner = learner_open(g->registry, g->store, 2);
    while (g->images < images) {
        struct manifest list[JOIN];
        size_t n = 0;
        for (; n < JOIN && g->images < images; n++) {
            size_t left = images - g->images, k = left < LARGE ? left : LARGE;
            list[n] = store(g->store, spec, g->images, k, a);
            g->images += k;
        }
        learn(g, &quick, list, n, a);
        arena_reset(a);
        fprintf(stderr, "\r%zu images are there", g->images);
    }
    fprintf(stderr, "\r%*s\r", 40, "");
}

/* Seconds of a version of BATCH new images. */
static double version(struct grown *g, const struct spec *spec, struct arena *a) {
    struct manifest m = store(g->store, spec, g->images, BATCH, a);
    g->images += BATCH;
    double seconds = learn(g, spec, &m, 1, a);
    arena_reset(a);
    return seconds;
}

static void grown_free(struct grown *g) {
    learner_close(g->learner);
    registry_close(g->registry);
    images_close(g->store);
    redis_close(g->redis);
    redis_server_stop(&g->server);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    const char *preset[] = {"10000", "1000000"};
    const char *const *size = argc > 1 ? (const char *const *)argv + 1 : preset;
    int n = argc > 1 ? argc - 1 : 2;
    struct grown *all = mem_zeroed((size_t)n, sizeof *all);
    struct specs *specs = specs_load(NULL, &err);
    if (!specs) die();
    const struct spec *spec = specs_of(specs, BYTES("default"));
    struct arena a = {0};
    for (int i = 0; i < n; i++) {
        size_t images = strtoul(size[i], NULL, 10), half = (FIRST + MEASURED / 2) * BATCH;
        grow(&all[i], spec, images > half + BATCH ? images - half : BATCH, &a);
    }
    /* In turn: a machine that slows down slows all of them. */
    for (int k = -FIRST; k < MEASURED; k++)
        for (int i = 0; i < n; i++) {
            double seconds = version(&all[i], spec, &a);
            if (k >= 0) all[i].seconds[k] = seconds;
        }
    for (int i = 0; i < n; i++) {
        double *s = all[i].seconds;
        qsort(s, MEASURED, sizeof *s, by_value);
        printf("%10s images: %.3f s a version of %d (%.3f-%.3f)\n", size[i], s[MEASURED / 2], BATCH,
               s[0], s[MEASURED - 1]);
        grown_free(&all[i]);
    }
    printf("ratio %.2f\n", all[n - 1].seconds[MEASURED / 2] / all[0].seconds[MEASURED / 2]);
    free(all);
    specs_free(specs);
    arena_free(&a);
    return 0;
}
