/*
 * deploy: models.trained -> models.deployed. Judges the newest version of a model against the one
 * in service (the champion), both on the images that the new one's lineage holds out, and promotes
 * it by the spec's rule: unless it is worse beyond chance, or only when it is better beyond chance
 * (lib/learn/verdict.h). Where they cannot be compared (nothing serves, nothing is held out, the
 * input has another size) it is promoted too; a version that has seen no image never is.
 * What it writes says which version predict must serve now and why. Older versions that waited
 * meanwhile are passed over, unless the newest cannot be judged. Weights of versions that the spec
 * does not keep any more are removed from Redis, never those that serve, are pinned, did serve until
 * now, are the best version so far, or are what a rollback leads to.
 *
 * People's orders (roll back, promote, pin, unpin, remove; lib/learn/orders) come on the same topic
 * under the model's key, so each has its place among the model's versions: what stands before it is
 * judged before, what stands behind it is judged against what it made serve. A version that was
 * judged is not judged again, so one that was rolled back from does not come back by itself; those
 * that follow descend from it, as from every newest version, and have to be as good as what serves.
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
#include "lib/learn/figures.h"
#include "lib/learn/judge.h"
#include "lib/learn/orders.h"
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

_Static_assert((int)FIGURES <= (int)STAGE_GAUGES, "a stage shows too few gauges");

/* As models.deployed says it, so a worker that has just begun shows it too. */
static void show(const void *state, struct shown *to) {
    const struct deploy *d = state;
    struct arena a = {0};
    for (size_t i = 0; i < d->champions.count; i++) {
        struct deployed m;
        struct err e = {0};
        if (champions_at(&d->champions, i, &a, &m, &e) || !m.model.data) continue;
        double values[STAGE_GAUGES];
        figures_of(&m, values);
        stage_show(to, m.model, values);
    }
    arena_free(&a);
}

/* What serves now; r: the message that it follows from. */
static enum err_kind announce(struct deploy *d, const struct deployed *now, struct bytes id,
                              int64_t time_ms, const struct record *r, struct out *out,
                              struct err *e) {
    struct buf json = {0};
    deployed_encode(now, &json);
    struct event ev = {
        .id = id, .source = BYTES("darkroom/deploy"), .model = now->model, .time_ms = time_ms};
    if (!out_event(out, MODELS_DEPLOYED, now->model, buf_bytes(&json), &ev, r, e))
        champions_say(&d->champions, now);
    buf_free(&json);
    return e->kind;
}

static enum err_kind judge(struct deploy *d, const struct record *r, const struct trained *m,
                           struct out *out, struct err *e) {
    struct arena *a = out_arena(out);
    struct registry *registry = d->tables.registry;
    const struct spec *spec = specs_of(d->tables.specs, m->model);
    struct deployed was, now, committed;
    struct alive alive = out_alive(out);
    if (champions_find(&d->champions, m->model, a, &was, &committed, e)) return e->kind;
    if (judge_knows(&was, m)) {
        stage_count(out, "passed_over", 1);
        return ERR_NONE;
    }
    if (judge_challenger(registry, d->tables.images, spec, m, &was, &alive, a, &now, e))
        return e->kind;
    now.time_ms = clock_now_ms();
    orders_keep(&was, &now, a);
    if (orders_prune(registry, r, spec->keep_versions, &was, &committed, &now, e)) return e->kind;
    stage_count(out, now.promoted ? "promoted" : "rejected", 1);
    log_info("model %.*s: %s: %.*s", (int)m->model.len, (const char *)m->model.data,
             now.promoted ? "promoted" : "not promoted", (int)now.why.len,
             (const char *)now.why.data);
    return announce(d, &now, m->artifact, now.time_ms, r, out, e);
}

static enum err_kind carry_out(struct deploy *d, const struct record *r, const struct order *o,
                               struct out *out, struct err *e) {
    struct arena *a = out_arena(out);
    struct deployed was, now, committed;
    if (champions_find(&d->champions, o->model, a, &was, &committed, e)) return e->kind;
    if (orders_find(&was, o->id)) {
        stage_count(out, "passed_over", 1);
        return ERR_NONE;
    }
    if (orders_carry_out(d->tables.registry, o, r, &was, &committed, clock_now_ms(), a, &now, e))
        return e->kind;
    const struct order_answer *answer = &now.orders[0];
    stage_count(out, answer->done ? "orders" : "orders_refused", 1);
    log_info("model %.*s: order %.*s, %s: %s%.*s", (int)o->model.len, (const char *)o->model.data,
             (int)o->id.len, (const char *)o->id.data, order_action_name(o->action),
             answer->done ? "" : "refused: ", (int)answer->text.len,
             (const char *)answer->text.data);
    return announce(d, &now, o->id, answer->time_ms, r, out, e);
}

/* The versions between two orders, from the newest back: one that cannot be judged leaves the turn
   to the one before it. */
static enum err_kind judge_newest(struct deploy *d, const struct record *in, struct trained *list,
                                  size_t n, struct out *out, struct err *e) {
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

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct deploy *d = state;
    struct arena *a = out_arena(out);
    struct trained *list = arena_alloc(a, n * sizeof *list);
    struct order *orders = arena_alloc(a, n * sizeof *orders); /* those that are none: {0} */
    champions_forget(&d->champions);
    for (size_t i = 0; i < n; i++) {
        bool is_order = bytes_is(record_header(&in[i], "ce_type"), ORDER_TYPE);
        list[i] = (struct trained){0}; /* version 0: refused, or an order; no message has it */
        orders[i] = (struct order){0};
        if (is_order ? orders_read(&in[i], a, &orders[i], e)
                     : trained_decode(in[i].value, a, &list[i], e)) {
            out_dead_letter(out, &in[i], e);
            list[i] = (struct trained){0};
            orders[i] = (struct order){0};
        }
    }
    for (size_t from = 0, to = 0; from < n; from = ++to) {
        while (to < n && !orders[to].id.data) to++;
        if (judge_newest(d, in + from, list + from, to - from, out, e)) return e->kind;
        if (to == n) break;
        if (carry_out(d, &in[to], &orders[to], out, e) == ERR_BAD)
            out_dead_letter(out, &in[to], e);
        else if (e->kind)
            return e->kind;
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
    .counters = {"promoted", "rejected", "passed_over", "orders", "orders_refused"},
    .gauges = figures,
    .open = open_,
    .handle = handle,
    .on_update = on_update,
    .show = show,
    .close = close_,
};

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    return stage_main(&deploy, argc, argv);
}
