/*
 * deploy: models.trained -> models.deployed. Judges the newest version of a model against the one
 * in service (the champion), both on the images that the new one's lineage holds out, and promotes
 * it by the spec's rule: unless it is worse beyond chance, or only when it is better beyond chance
 * (lib/learn/verdict.h). Where they cannot be compared (nothing serves, nothing is held out, the
 * input has another size) it is promoted too; a version that has seen no image never is.
 * What it writes says which version predict must serve now and why. Older versions that waited
 * meanwhile are passed over, unless the newest cannot be judged. Weights of versions that the spec
 * does not keep any more are removed from Redis, never those that serve or did until now, nor those
 * of the best version so far.
 *
 * How it fails: models.deployed is its only state. The runtime reads it to its end before each
 * call, so after a crash, or on another instance, the champion is the one that was committed, never
 * one that was written but not committed; a version that was judged already is passed over. A
 * message that cannot be read, or a version whose artifacts are gone or damaged, goes to the dead
 * letters and the champion stays; a champion whose weights are gone gives way. With Redis
 * unreachable the runtime repeats the versions.
 */
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/learn/champions.h"
#include "lib/learn/judge.h"
#include "lib/learn/tables.h"
#include "lib/nn/matmul.h"
#include "lib/stage/stage.h"
#include "proto/messages.h"

struct deploy {
    struct tables tables;
    struct champions champions;
};

static const struct setting settings[] = {TABLES_SETTINGS(struct deploy, tables), {0}};

static enum err_kind open_(void *state, struct err *e) {
    return tables_open(&((struct deploy *)state)->tables, e);
}

static enum err_kind on_update(void *state, const struct record *r, struct err *e) {
    return champions_update(&((struct deploy *)state)->champions, r, e);
}

/* r: the message that the verdict is on. */
static enum err_kind announce(const struct deployed *now, const struct trained *m,
                              const struct record *r, struct out *out, struct err *e) {
    struct buf json = {0};
    deployed_encode(now, &json);
    struct event ev = {.id = m->artifact,
                       .source = BYTES("darkroom/deploy"),
                       .model = m->model,
                       .time_ms = now->time_ms};
    if (!out_event(out, MODELS_DEPLOYED, m->model, buf_bytes(&json), &ev, r, e)) {
        stage_count(out, now->promoted ? "promoted" : "rejected", 1);
        log_info("model %.*s: %s: %.*s", (int)m->model.len, (const char *)m->model.data,
                 now->promoted ? "promoted" : "not promoted", (int)now->why.len,
                 (const char *)now->why.data);
    }
    buf_free(&json);
    return e->kind;
}

static enum err_kind judge(struct deploy *d, const struct record *r, const struct trained *m,
                           struct out *out, struct err *e) {
    struct arena *a = out_arena(out);
    struct registry *registry = d->tables.registry;
    const struct spec *spec = specs_of(d->tables.specs, m->model);
    struct deployed was, now;
    struct alive alive = out_alive(out);
    if (champions_find(&d->champions, m->model, a, &was, e)) return e->kind;
    /* Judged already. A number that is not higher but whose training began after that judgement is
       of a registry that lost versions. This compares a trainer's clock with a deploy worker's. */
    if (m->version <= was.judged && m->time_ms <= was.time_ms) {
        stage_count(out, "passed_over", 1);
        return ERR_NONE;
    }
    if (m->version <= was.judged)
        log_warn("model %.*s: version %lld comes after version %lld: Redis has lost versions of it",
                 (int)m->model.len, (const char *)m->model.data, (long long)m->version,
                 (long long)was.judged);
    if (judge_challenger(registry, d->tables.images, spec, m, &was, &alive, a, &now, e))
        return e->kind;
    now.time_ms = clock_now_ms();
    /* Before the commit: neither the champion and the best until now are touched, nor the next ones,
       of which each is one of these three. */
    const int64_t spare[] = {now.version, was.version, was.best};
    if (registry_prune(registry, m->model, now.judged - spec->keep_versions, spare, e))
        return e->kind;
    return announce(&now, m, r, out, e);
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct deploy *d = state;
    struct trained *list = arena_alloc(out_arena(out), n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        if (trained_decode(in[i].value, out_arena(out), &list[i], e)) {
            out_dead_letter(out, &in[i], e);
            list[i].version = 0; /* refused; no message has it */
        }
    }
    /* From the newest back: one that cannot be judged leaves the turn to the one before it. */
    for (size_t i = n; i-- > 0;) {
        bool newest = true;
        for (size_t k = i + 1; k < n && newest; k++)
            newest = !list[k].version || !bytes_equal(list[k].model, list[i].model);
        if (!list[i].version) continue;
        if (!newest) {
            stage_count(out, "passed_over", 1);
        } else if (judge(d, &in[i], &list[i], out, e) == ERR_BAD) {
            out_dead_letter(out, &in[i], e);
            list[i].version = 0;
        } else if (e->kind) {
            return e->kind;
        }
    }
    return ERR_NONE;
}

static void close_(void *state) {
    struct deploy *d = state;
    champions_free(&d->champions);
    tables_close(&d->tables);
}

static const struct stage deploy = {
    .name = "deploy",
    .what =
        "models.trained -> models.deployed: judge a new version, and serve it unless it is worse",
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
