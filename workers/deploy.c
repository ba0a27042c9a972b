/*
 * deploy: models.trained -> models.deployed. Judges the newest version of a model against the one in service,
 * both on the same held-out images, and promotes it unless it is worse. What it writes says which version
 * predict must serve now and why; older versions that waited meanwhile are passed over.
 *
 * How it fails: models.deployed is its only state. It is read to its end before each judgement, so after a
 * crash, or on another instance, the champion is the one that was committed, never one that was only
 * meant. A version whose artifacts are gone or damaged goes to the dead letters; the champion stays.
 */
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/learn/judge.h"
#include "lib/nn/matmul.h"
#include "lib/stage/stage.h"

#include <stdlib.h>
#include <string.h>

struct deploy {
    const char *models, *redis_url;
    struct specs *specs;
    struct redis *redis;
    struct registry *registry;
    struct images *images;
    struct slot *slots; /* the latest models.deployed message of every model */
    size_t slot_count;
};

struct slot {
    char model[EVENT_MODEL_MAX + 1];
    struct buf message; /* empty: nothing is deployed */
};

static const struct setting settings[] = {
    SPEC_SETTING(struct deploy, models), REDIS_SETTING(struct deploy, redis_url), {0}};

static enum err_kind open_(void *state, struct err *e) {
    struct deploy *d = state;
    if (!d->specs && !(d->specs = specs_load(d->models, e))) return e->kind;
    if (!d->redis && !(d->redis = redis_open(&(struct redis_conf){.url = d->redis_url}, e))) return e->kind;
    if (!d->registry) d->registry = registry_open(d->redis, topics_prefix_now());
    if (!d->images) d->images = images_open(d->redis, topics_prefix_now());
    return images_check(d->images, e);
}

static struct buf *latest_of(struct deploy *d, struct bytes model) {
    for (size_t i = 0; i < d->slot_count; i++)
        if (bytes_is(model, d->slots[i].model)) return &d->slots[i].message;
    d->slots = mem_resize(d->slots, (d->slot_count + 1) * sizeof *d->slots);
    struct slot *slot = &d->slots[d->slot_count++];
    *slot = (struct slot){0};
    memcpy(slot->model, model.data, model.len);
    return &slot->message;
}

static enum err_kind on_update(void *state, const struct record *r, struct err *e) {
    if (!event_model_is_valid(r->key)) return err_bad(e, REASON_BAD_MODEL, "a record whose key names no model");
    struct buf *latest = latest_of(state, r->key);
    buf_clear(latest);
    if (r->value.data) buf_add(latest, r->value.data, r->value.len);
    return ERR_NONE;
}

static enum err_kind still(void *out, struct err *e) {
    return stage_alive(out, e);
}

/* Weights that are too old to come back to, and do not serve. */
static enum err_kind prune(struct deploy *d, const struct deployed *was, const struct deployed *now, struct arena *a, struct err *e) {
    int64_t keep = specs_of(d->specs, now->model)->keep_versions;
    for (int64_t v = was->judged - keep + 1 > 1 ? was->judged - keep + 1 : 1; v <= now->judged - keep; v++) {
        struct trained old;
        if (registry_version(d->registry, now->model, v, a, &old, e) == ERR_BAD) err_clear(e);
        else if (e->kind) return e->kind;
        else if (v != now->version && registry_remove_artifact(d->registry, old.artifact, e)) return e->kind;
    }
    return ERR_NONE;
}

static enum err_kind judge(struct deploy *d, const struct record *r, const struct trained *m, struct out *out, struct err *e) {
    struct arena *a = out_arena(out);
    struct deployed was = {0}, now;
    if (!event_model_is_valid(m->model)) return err_bad(e, REASON_BAD_MODEL, "the message names no model");
    struct buf *latest = latest_of(d, m->model), json = {0};
    if (latest->len && deployed_decode(buf_bytes(latest), a, &was, e)) return err_in(e, "models.deployed");
    if (m->version <= was.judged) return ERR_NONE; /* judged before a crash, or before it was sent twice */
    if (judge_challenger(d->registry, d->images, m, &was, &(struct alive){still, out}, a, &now, e)) return e->kind;
    now.time_ms = clock_now_ms();
    if (prune(d, &was, &now, a, e)) return e->kind;

    deployed_encode(&now, &json);
    struct event ev = {.id = m->artifact, .source = BYTES("darkroom/deploy"), .type = BYTES("darkroom.model.deployed"), .model = m->model,
                       .content_type = bytes_of(topic_info(MODELS_DEPLOYED)->content_type), .time_ms = now.time_ms};
    struct record deployed = {.key = m->model, .value = buf_bytes(&json), .time_ms = -1};
    event_write(&ev, r, a, &deployed);
    if (!out_send(out, MODELS_DEPLOYED, &deployed, e)) {
        stage_count(out, now.promoted ? "promoted" : "rejected", 1);
        log_info("model %.*s: %s: %.*s", (int)m->model.len, (const char *)m->model.data, now.promoted ? "promoted" : "not promoted", (int)now.why.len,
                 (const char *)now.why.data);
    }
    buf_free(&json);
    return e->kind;
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out, struct err *e) {
    struct deploy *d = state;
    struct trained *list = arena_alloc(out_arena(out), n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        err_clear(e);
        if (trained_decode(in[i].value, out_arena(out), &list[i], e)) {
            out_dead_letter(out, &in[i], e);
            list[i].version = 0;
        }
    }
    for (size_t i = 0; i < n; i++) {
        bool newest = list[i].version > 0;
        for (size_t k = i + 1; k < n && newest; k++) newest = !list[k].version || !bytes_equal(list[k].model, list[i].model);
        err_clear(e);
        if (!newest) stage_count(out, "passed_over", list[i].version > 0);
        else if (judge(d, &in[i], &list[i], out, e) == ERR_BAD) out_dead_letter(out, &in[i], e);
        else if (e->kind) return e->kind;
    }
    err_clear(e);
    return ERR_NONE;
}

static void close_(void *state) {
    struct deploy *d = state;
    for (size_t i = 0; i < d->slot_count; i++) buf_free(&d->slots[i].message);
    free(d->slots);
    images_close(d->images);
    registry_close(d->registry);
    redis_close(d->redis);
    specs_free(d->specs);
}

static const struct stage deploy = {
    .name = "deploy",
    .what = "models.trained -> models.deployed: judge a new version, and serve it unless it is worse",
    .in = MODELS_TRAINED,
    .out = {MODELS_DEPLOYED},
    .watch = MODELS_DEPLOYED,
    .watch_first = true,
    .max_records = 64,
    .max_bytes = 4 << 20,
    .settings = settings,
    .state_size = sizeof(struct deploy),
    .counters = {"promoted", "rejected", "passed_over"},
    .open = open_,
    .handle = handle,
    .on_update = on_update,
    .close = close_,
};

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    return stage_main(&deploy, argc, argv);
}
