/*
 * train: batches -> models.trained. Of up to 16 waiting batches those of one model become one new
 * version of it, trained on from the last one, on their images and a sample of all earlier ones
 * (rehearsal, against catastrophic forgetting; lib/learn/learner does it). The version is put into
 * the registry in Redis and announced with its metrics on training and held-out images. An image
 * that is gone from the store meanwhile is counted and left out; one that has a newer revision is
 * left out too: a batch of its own brings it.
 *
 * How it fails: training takes long, and the registry is outside Kafka's transaction. So it keeps
 * with each version the batches that it learned from and the announcement itself, in one step. A
 * batch that comes again after a crash is not learned again: its version is announced once more,
 * with the last of its batches. If the model's newest version (its head) is another meanwhile,
 * because the partition was lost to another trainer, nothing is published and the batches are
 * repeated; what is in memory is trained on only while it is the head. A manifest that cannot be
 * read goes to the dead letters; with Redis unreachable the runtime repeats the batches.
 */
#include "lib/base/log.h"
#include "lib/base/machine.h"
#include "lib/learn/learner.h"
#include "lib/learn/tables.h"
#include "lib/nn/matmul.h"
#include "lib/stage/stage.h"
#include "proto/messages.h"

#include <stdio.h>

struct train {
    struct tables tables;
    int64_t threads;
    struct learner *learner;
};

static const struct setting settings[] = {TABLES_SETTINGS(struct train, tables),
                                          {"threads", SETTING_INT, offsetof(struct train, threads),
                                           "0", "threads of the arithmetic; 0 is one a processor",
                                           NULL, 0, 256, 0},
                                          {0}};

static enum err_kind open_(void *state, struct err *e) {
    struct train *t = state;
    if (tables_open(&t->tables, e)) return e->kind;
    t->learner = learner_open(t->tables.registry, t->tables.images,
                              t->threads ? (int)t->threads : machine_processors());
    return ERR_NONE;
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
   position is not committed, neither is the first announcement. Where the registry lacks the
   version the batch waits, and the log says so, until people have mended what Redis holds. */
static enum err_kind announce_again(struct train *t, const struct manifest *batch, int64_t version,
                                    struct out *out, struct err *e) {
    struct trained m;
    if (registry_version(t->tables.registry, batch->model, version, out_arena(out), &m, e) ==
        ERR_BAD)
        return err_again(e, "the registry knows the batch, but not its version %lld",
                         (long long)version);
    if (e->kind) return e->kind;
    stage_count(out, "replays", 1);
    return bytes_equal(m.batches[m.batch_count - 1], batch->batch) ? announce(&m, out, e)
                                                                   : ERR_NONE;
}

static void say(const struct trained *m, size_t batches) {
    char held_out[80] = "no image held out yet";
    if (m->evaluation.images)
        snprintf(held_out, sizeof held_out, "accuracy %.2f %% on %lld held-out images",
                 100 * m->evaluation.accuracy, (long long)m->evaluation.images);
    log_info("model %.*s: version %lld from %zu batches in %.1f s, %s", (int)m->model.len,
             (const char *)m->model.data, (long long)m->version, batches, m->seconds, held_out);
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
    if (registry_batches(t->tables.registry, model, ids, n, versions, e)) return e->kind;
    for (size_t i = 0; i < n; i++) {
        if (!versions[i])
            new[count++] = list[i];
        else if (announce_again(t, &list[i], versions[i], out, e))
            return e->kind;
    }
    if (!count) return ERR_NONE;
    struct trained m;
    struct alive alive = out_alive(out);
    if (learner_learn(t->learner, model, specs_of(t->tables.specs, model), new, count, &alive, a,
                      &m, e))
        return e->kind;
    stage_count(out, "batches", count);
    stage_count(out, "missing_images", (uint64_t)m.missing);
    say(&m, count);
    return announce(&m, out, e);
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct arena *a = out_arena(out);
    struct manifest *list = arena_alloc(a, n * sizeof *list),
                    *of_model = arena_alloc(a, n * sizeof *of_model);
    struct bytes *models = arena_alloc(a, n * sizeof *models);
    size_t count = 0, model_count = 0;
    for (size_t i = 0; i < n; i++) {
        if (manifest_decode(in[i].value, a, &list[count], e)) {
            out_dead_letter(out, &in[i], e);
            continue;
        }
        list[count].partition = in[i].partition;
        list[count].offset = in[i].offset;
        bytes_enter(models, &model_count, list[count++].model);
    }
    for (size_t k = 0; k < model_count; k++) {
        size_t same = 0;
        for (size_t i = 0; i < count; i++)
            if (bytes_equal(list[i].model, models[k])) of_model[same++] = list[i];
        if (train_model(state, of_model, same, out, e)) return e->kind;
    }
    return ERR_NONE;
}

/* The models may be another trainer's now, and are large. */
static void rewind_(void *state) {
    struct train *t = state;
    if (t->learner) learner_forget(t->learner);
}

static void close_(void *state) {
    struct train *t = state;
    learner_close(t->learner);
    tables_close(&t->tables);
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
