/*
 * learn: what the default spec makes of few drawn images, within seconds: far more than softmax
 * regression on the same ones. tests/bench/sets has the whole sets.
 */
#define _GNU_SOURCE
#include "lib/learn/learner.h"
#include "tests/bench/made.h"
#include "tests/unit/redis_server.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct redis_server server;
static struct err err;

static enum err_kind go_on(void *ctx, struct err *e) {
    (void)ctx, (void)e;
    return ERR_NONE;
}

/* n images, the classes in turn; every fifth of each is held out. */
static struct manifest arrive(struct images *images, const struct made *made, int classes, int n,
                              struct arena *a) {
    size_t size = (size_t)(made->height * made->width * made->channels);
    struct image_put *put = arena_alloc(a, (size_t)n * sizeof *put);
    struct manifest m = {.model = BYTES("m"), .batch = bytes_of(arena_printf(a, "%064d", 0))};
    m.images = arena_alloc(a, (size_t)n * sizeof *m.images);
    for (int i = 0; i < n; i++) {
        uint8_t *x = arena_alloc(a, size);
        made->draw(i % classes, 1000003 * (uint64_t)i + 17, x);
        put[i] =
            (struct image_put){.row = {.model = m.model,
                                       .id = bytes_of(arena_printf(a, "%d", i)),
                                       .source = BYTES("s"),
                                       .label = bytes_of(arena_printf(a, "c%03d", i % classes)),
                                       .time_ms = i,
                                       .height = made->height,
                                       .width = made->width,
                                       .channels = made->channels,
                                       .pixels = {x, size}},
                               .from = {"c", "t", 0, i, 1}};
    }
    if (images_put(images, put, (size_t)n, NULL, NULL, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < n; i++)
        m.images[m.image_count++] = (struct manifest_image){
            bytes_of(arena_text(a, bytes_of(put[i].name))), put[i].revision, put[i].row.label,
            i / classes % 5 == 4 ? SPLIT_EVAL : SPLIT_TRAIN};
    return m;
}

/* Accuracy on the held-out images after one batch. */
static double accuracy(const struct made *made, const char *network, int classes, int n,
                       double passes, int minibatch) {
    const struct alive alive = {go_on, NULL};
    struct arena arena = {0};
    struct trained out;
    struct redis_reply reply;
    struct specs *specs = specs_load(NULL, &err);
    struct spec spec = *specs_of(specs, BYTES("m"));
    struct redis *redis = redis_open(&(struct redis_conf){.url = redis_server_url(&server)}, &err);
    if (redis_do(redis, &reply, &err, 1, (const struct bytes[]){BYTES("FLUSHALL")}))
        fail_msg("%s", err.text);
    struct images *images = images_open(redis, "t.");
    struct registry *registry = registry_open(redis, "t.");
    struct learner *l = learner_open(registry, images, 2);
    spec.width = made->width;
    spec.height = made->height;
    spec.channels = made->channels;
    spec.network = network;
    spec.passes = passes;
    spec.minibatch = minibatch;
    struct manifest m = arrive(images, made, classes, n, &arena);
    if (learner_learn(l, BYTES("m"), &spec, &m, 1, &alive, &arena, &out, &err))
        fail_msg("%s", err.text);
    double share = out.evaluation.accuracy;
    printf("%s, %s, %lld presentations: %.1f %% of %lld\n", made->name, network,
           (long long)out.presentations, 100 * share, (long long)out.evaluation.images);
    learner_close(l);
    registry_close(registry);
    images_close(images);
    redis_close(redis);
    specs_free(specs);
    arena_free(&arena);
    return share;
}

static void test_glyphs(void **state) {
    (void)state;
    assert_true(accuracy(&made_glyphs, "[]", 20, 1000, 8.5, 32) < 0.75);
    assert_true(accuracy(&made_glyphs, "auto", 20, 1000, 8.5, 32) > 0.9);
}

static void test_shapes(void **state) {
    (void)state;
    assert_true(accuracy(&made_shapes, "[]", 2, 1000, 8.5, 16) < 0.65);
    assert_true(accuracy(&made_shapes, "auto", 2, 1000, 16, 16) > 0.8);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_glyphs),
                                       cmocka_unit_test(test_shapes)};
    redis_server_start(&server, (char *)NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    redis_server_stop(&server);
    return failed;
}
