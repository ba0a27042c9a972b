/*
 * train: batches -> models.trained. The batches that wait, up to 16, become one new version of
 * their model, grown from the last one with a sample of every image before, so that nothing is
 * forgotten (lib/learn/learner does it). The version is put into the registry in Redis and
 * announced with its metrics on training and held-out images.
 *
 * How it fails: training takes long and cannot be undone, so the registry keeps with each version
 * the batches it learned from and the announcement itself, in one step. A batch that comes again
 * after a crash is not learned again: its version is announced once more, with the last of its
 * batches. If the model's head has moved meanwhile, because the partition was lost to another
 * trainer, nothing is published. A manifest that cannot be read goes to the dead letters; with
 * Redis away the runtime repeats the batches.
 */
#include "lib/base/log.h"
#include "lib/base/machine.h"
#include "lib/learn/learner.h"
#include "lib/nn/matmul.h"
#include "lib/stage/stage.h"
#include "proto/messages.h"

#include <stdlib.h>

struct train {
    const char *models, *redis_url;
    int64_t threads;
    struct specs *specs;
    struct redis *redis;
    struct registry *registry;
    struct images *images;
    struct learner *learner;
};

static const struct setting settings[] = {SPEC_SETTING(struct train, models),
                                          REDIS_SETTING(struct train, redis_url),
                                          {"threads", SETTING_INT, offsetof(struct train, threads),
                                           "0", "threads of the arithmetic; 0 is one a processor",
                                           NULL, 0, 256, 0},
                                          {0}};

static enum err_kind open_(void *state, struct err *e) {
    struct train *t = state;
    if (!t->specs && !(t->specs = specs_load(t->models, e))) return e->kind;
    if (!t->redis && !(t->redis = redis_open(&(struct redis_conf){.url = t->redis_url}, e)))
        return e->kind;
    if (!t->registry) t->registry = registry_open(t->redis, topics_prefix_now());
    if (!t->images) t->images = images_open(t->redis, topics_prefix_now());
    if (!t->learner)
        t->learner = learner_open(t->registry, t->images,
                                  t->threads ? (int)t->threads : machine_processors());
    return images_check(t->images, e);
}

static enum err_kind still(void *out, struct err *e) {
    return stage_alive(out, e);
}

static enum err_kind announce(const struct trained *m, struct out *out, struct err *e) {
    struct buf json = {0};
    trained_encode(m, &json);
    struct event ev = {.id = m->artifact,
                       .source = BYTES("darkroom/train"),
                       .model = m->model,
                       .time_ms = m->time_ms};
    enum err_kind kind = out_event(out, MODELS_TRAINED, m->model, buf_bytes(&json), &ev, NULL, e);
    buf_free(&json);
    return kind;
}

/* A version whose batches come again is announced again with its last batch: while that one's
   position is not committed, neither is the first announcement. */
static enum err_kind announce_again(struct train *t, const struct manifest *batch, int64_t version,
                                    struct out *out, struct err *e) {
    struct trained m;
    if (registry_version(t->registry, batch->model, version, out_arena(out), &m, e))
        return err_again(e, "the registry knows the batch, but not its version %lld",
                         (long long)version);
    stage_count(out, "replays", 1);
    return bytes_equal(m.batches[m.batch_count - 1], batch->batch) ? announce(&m, out, e)
                                                                   : ERR_NONE;
}

/* The batches of one model, in their order. */
static enum err_kind train_model(struct train *t, const struct manifest *list, size_t n,
                                 struct out *out, struct err *e) {
    struct arena *a = out_arena(out);
    struct bytes model = list[0].model, *ids = arena_alloc(a, n * sizeof *ids);
    int64_t *versions = arena_alloc(a, n * sizeof *versions);
    struct manifest *new = arena_alloc(a, n * sizeof *new);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) ids[i] = list[i].batch;
    if (registry_batches(t->registry, model, ids, n, versions, e)) return e->kind;
    for (size_t i = 0; i < n; i++) {
        if (!versions[i])
            new[count++] = list[i];
        else if (announce_again(t, &list[i], versions[i], out, e))
            return e->kind;
    }
    if (!count) return ERR_NONE;
    struct trained m;
    if (learner_learn(t->learner, model, specs_of(t->specs, model), new, count,
                      &(struct alive){still, out}, a, &m, e))
        return e->kind;
    stage_count(out, "batches", count);
    stage_count(out, "missing_images", (uint64_t)m.missing);
    log_info("model %.*s: version %lld from %zu batches in %.1f s, accuracy %.2f %% on %lld "
             "held-out images",
             (int)model.len, (const char *)model.data, (long long)m.version, count, m.seconds,
             100 * m.evaluation.accuracy, (long long)m.evaluation.images);
    return announce(&m, out, e);
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct arena *a = out_arena(out);
    struct manifest *list = arena_alloc(a, n * sizeof *list),
                    *of_model = arena_alloc(a, n * sizeof *of_model);
    size_t left = 0;
    for (size_t i = 0; i < n; i++) {
        err_clear(e);
        if (manifest_decode(in[i].value, a, &list[left], e))
            out_dead_letter(out, &in[i], e);
        else
            left++;
    }
    err_clear(e);
    while (left) {
        size_t same = 0, others = 0;
        struct bytes model = list[0].model;
        for (size_t i = 0; i < left; i++) {
            if (bytes_equal(list[i].model, model))
                of_model[same++] = list[i];
            else
                list[others++] = list[i];
        }
        left = others;
        if (train_model(state, of_model, same, out, e)) return e->kind;
    }
    return ERR_NONE;
}

static void rewind_(void *state) {
    struct train *t = state;
    if (t->learner) learner_forget(t->learner);
}

static void close_(void *state) {
    struct train *t = state;
    learner_close(t->learner);
    images_close(t->images);
    registry_close(t->registry);
    redis_close(t->redis);
    specs_free(t->specs);
}

static const struct stage train = {
    .name = "train",
    .what = "batches -> models.trained: the next version of a model",
    .in = BATCHES,
    .out = {MODELS_TRAINED},
    .max_records = 16,
    .max_bytes = 16 << 20,
    .settings = settings,
    .state_size = sizeof(struct train),
    .counters = {"batches", "replays", "missing_images"},
    .open = open_,
    .handle = handle,
    .rewind = rewind_,
    .close = close_,
};

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    return stage_main(&train, argc, argv);
}
