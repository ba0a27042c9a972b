/* orders: *out begins as what serves; an order changes it, or says in its answer why it does not. */
#include "lib/learn/orders.h"

#include "lib/learn/artifacts.h"

#include <string.h>

struct work {
    struct registry *registry;
    const struct order *order;
    const struct record *record;
    const struct deployed *was, *committed;
    struct arena *arena;
    struct deployed *out;
    struct order_answer answer;
};

const struct order_answer *orders_find(const struct deployed *d, struct bytes id) {
    for (size_t i = 0; i < d->order_count; i++)
        if (bytes_equal(d->orders[i].id, id)) return &d->orders[i];
    return NULL;
}

static void say(struct work *w, bool done, const char *text) {
    w->answer.done = done;
    w->answer.text = bytes_of(text);
}

#define SAY(w, done, ...) say(w, done, arena_printf((w)->arena, __VA_ARGS__))

/* ---- what served before ---- */

static void forget(struct deployed *d, int64_t version) {
    size_t kept = 0;
    for (size_t i = 0; i < d->before_count; i++)
        if (d->before[i].version != version) d->before[kept++] = d->before[i];
    d->before_count = kept;
}

static void copy_before(const struct deployed *from, struct deployed *to, struct arena *a) {
    to->before = arena_alloc(a, (FORMER_KEPT + 1) * sizeof *to->before);
    to->before_count = from->before_count;
    if (from->before_count)
        memcpy(to->before, from->before, from->before_count * sizeof *to->before);
}

/* `to` has room for one more. */
static void push_before(struct deployed *to, int64_t version, struct bytes artifact) {
    if (!version) return;
    forget(to, version);
    memmove(to->before + 1, to->before, to->before_count * sizeof *to->before);
    to->before[0] = (struct former){version, artifact};
    if (++to->before_count > FORMER_KEPT) to->before_count = FORMER_KEPT;
}

/* What served after `version`, or is newer, is left behind. */
static void fall_back_to(struct deployed *d, int64_t version) {
    size_t at = 0, kept = 0;
    while (at < d->before_count && d->before[at].version != version) at++;
    for (size_t i = at < d->before_count ? at + 1 : 0; i < d->before_count; i++)
        if (at < d->before_count || d->before[i].version < version)
            d->before[kept++] = d->before[i];
    d->before_count = kept;
}

void orders_keep(const struct deployed *was, struct deployed *now, struct arena *a) {
    copy_before(was, now, a);
    if (now->version != was->version || !bytes_equal(now->artifact, was->artifact))
        push_before(now, was->version, was->artifact);
    forget(now, now->version);
    now->pinned = was->pinned && now->version == was->version;
    now->orders = was->orders;
    now->order_count = was->order_count;
}

/* ---- serving another version ---- */

/* Reads the version with its weights, as predict will. False: refused, or *e says ERR_AGAIN. */
static bool can_serve(struct work *w, int64_t version, struct trained *v, struct err *e) {
    struct model model;
    if (registry_version(w->registry, w->order->model, version, w->arena, v, e) == ERR_BAD) {
        SAY(w, false, "%s", e->text);
    } else if (!e->kind && !v->images) {
        SAY(w, false, "version %lld has seen no image: it cannot serve", (long long)version);
    } else if (!e->kind && !artifact_model(w->registry, v->artifact, &model, e)) {
        model_free(&model);
        return true;
    } else if (e->kind == ERR_BAD) {
        SAY(w, false,
            "the weights of version %lld are gone (keep.versions, or models remove), or damaged: "
            "%.150s",
            (long long)version, e->text);
    }
    if (e->kind == ERR_BAD) err_clear(e);
    return false;
}

static void make_best(struct deployed *d) {
    d->best = d->version;
    d->best_artifact = d->artifact;
    d->best_evaluation = d->evaluation;
}

/* True when the version serves now, or did already. */
static bool serve(struct work *w, int64_t version, struct err *e) {
    struct deployed *out = w->out;
    struct trained v;
    if (version == w->was->version) return true;
    if (!can_serve(w, version, &v, e)) return false;
    if (w->order->action == ORDER_ROLLBACK) {
        fall_back_to(out, version);
    } else {
        push_before(out, w->was->version, w->was->artifact);
        forget(out, version);
    }
    out->version = version;
    out->artifact = v.artifact;
    out->evaluation = v.evaluation;
    make_best(out);
    if (version > out->judged) { /* it needs no judgement any more; deploy compares the times */
        out->judged = version;
        out->challenger = v.evaluation;
        out->time_ms = v.time_ms > w->answer.time_ms ? v.time_ms : w->answer.time_ms;
    }
    out->promoted = out->judged == version;
    return true;
}

static const char *and_pinned(const struct work *w) {
    if (!w->out->pinned) return "";
    return w->was->pinned ? "; it is pinned, as the other was" : "; it is pinned";
}

static void move(struct work *w, int64_t version, struct err *e) {
    enum order_action action = w->order->action;
    long long was = (long long)w->was->version, now = (long long)version;
    w->answer.version = version;
    if (!version) {
        SAY(w, false,
            action == ORDER_PIN ? "nothing serves that could be pinned"
                                : "nothing served before that is known: name a version");
        return;
    }
    if (!serve(w, version, e)) return;
    if (action == ORDER_PIN || w->order->pin) w->out->pinned = true;
    if (was == now)
        SAY(w, true, "version %lld serves%s%s", now, action == ORDER_PIN ? "" : " already",
            w->out->pinned ? " and is pinned" : "");
    else if (action == ORDER_ROLLBACK && was)
        SAY(w, true, "rolled back from version %lld to version %lld%s", was, now, and_pinned(w));
    else if (was)
        SAY(w, true, "version %lld takes the place of version %lld by an order%s", now, was,
            and_pinned(w));
    else
        SAY(w, true, "version %lld serves by an order%s", now, and_pinned(w));
    if (was != now) w->out->why = w->answer.text;
}

static void unpin(struct work *w) {
    w->answer.version = w->was->version;
    w->out->pinned = false;
    SAY(w, true,
        w->was->pinned ? "version %lld is pinned no more" : "version %lld serves and is not pinned",
        (long long)w->was->version);
}

/* ---- removing ---- */

static bool serves(const struct deployed *d, const struct trained *v) {
    return d->version == v->version || bytes_equal(d->artifact, v->artifact);
}

static void remove_weights(struct work *w, struct err *e) {
    struct trained v, head;
    long long n = (long long)w->order->version;
    enum dropped dropped;
    w->answer.version = w->order->version;
    if (registry_version(w->registry, w->order->model, w->order->version, w->arena, &v, e)) {
        if (e->kind != ERR_BAD) return;
        SAY(w, false, "%s", e->text);
        err_clear(e);
        return;
    }
    if (registry_head(w->registry, w->order->model, w->arena, &head, e)) return;
    if (serves(w->was, &v))
        SAY(w, false, "version %lld serves: it is not removed", n);
    else if (serves(w->committed, &v))
        SAY(w, false, "version %lld has served until this moment: order it again", n);
    else if (v.version == head.version)
        SAY(w, false,
            "version %lld is the newest, which the next one grows from: it is not removed", n);
    else if (v.version > w->was->judged)
        SAY(w, false, "version %lld is not judged yet: it is not removed", n);
    else if (v.version > w->committed->judged || w->was->judged < w->committed->judged)
        /* if the judgement must be repeated it needs them */
        SAY(w, false, "version %lld has been judged this moment: order it again", n);
    else if (registry_drop(w->registry, w->order->model, v.version, w->record, &dropped, e))
        return;
    else if (dropped == DROP_OVERTAKEN) /* by another worker, or by ours before a failed commit */
        say(w, false, "an order behind this one was begun before it: order it again");
    else if (dropped == DROP_DONE)
        SAY(w, true, "the weights of version %lld are removed", n);
    else
        SAY(w, true, "the weights of version %lld were gone already", n);
    if (!w->answer.done) return;
    forget(w->out, v.version);
    if (w->out->best == v.version) make_best(w->out);
}

/* ---- an order ---- */

static enum err_kind check_model(struct work *w, struct err *e) {
    struct trained head;
    if (w->was->judged || w->was->version) return ERR_NONE;
    if (registry_head(w->registry, w->order->model, w->arena, &head, e)) return e->kind;
    if (head.version) return ERR_NONE;
    return err_bad(e, REASON_NO_MODEL, "there is no model %.*s", (int)w->order->model.len,
                   (const char *)w->order->model.data);
}

static void begin(struct work *w) {
    struct deployed *out = w->out;
    *out = *w->was;
    copy_before(w->was, out, w->arena);
    if (out->model.data) return;
    out->model = w->order->model;
    out->evaluation = out->challenger = out->best_evaluation = METRICS_NONE;
    out->time_ms = w->answer.time_ms;
}

static void put_answer(struct work *w) {
    struct deployed *out = w->out;
    size_t old = w->was->order_count < ORDERS_KEPT ? w->was->order_count : ORDERS_KEPT - 1;
    out->orders = arena_alloc(w->arena, ORDERS_KEPT * sizeof *out->orders);
    out->orders[0] = w->answer;
    if (old) memcpy(out->orders + 1, w->was->orders, old * sizeof *out->orders);
    out->order_count = old + 1;
    if (!out->why.data) out->why = w->answer.text;
}

enum err_kind orders_carry_out(struct registry *g, const struct order *o, const struct record *r,
                               const struct deployed *was, const struct deployed *committed,
                               int64_t now_ms, struct arena *a, struct deployed *out,
                               struct err *e) {
    struct work w = {
        .registry = g,
        .order = o,
        .record = r,
        .was = was,
        .committed = committed,
        .arena = a,
        .out = out,
        .answer = {.id = o->id, .action = o->action, .from = was->version, .time_ms = now_ms}};
    err_clear(e);
    if (check_model(&w, e)) return e->kind;
    begin(&w);
    /* First: from here on nobody who is behind this order removes what it wants to serve. */
    if (registry_ordered(g, o->model, r, e)) return e->kind;
    switch (o->action) {
    case ORDER_ROLLBACK:
        move(&w, o->version ? o->version : was->before_count ? was->before[0].version : 0, e);
        break;
    case ORDER_PROMOTE: move(&w, o->version, e); break;
    case ORDER_PIN: move(&w, o->version ? o->version : was->version, e); break;
    case ORDER_UNPIN: unpin(&w); break;
    case ORDER_REMOVE: remove_weights(&w, e); break;
    case ORDER_NONE: break;
    }
    if (!e->kind) put_answer(&w);
    return e->kind;
}

enum err_kind orders_read(const struct record *r, struct arena *a, struct order *o, struct err *e) {
    if (order_decode(r->value, a, o, e)) return e->kind;
    if (bytes_equal(r->key, o->model)) return ERR_NONE;
    return err_bad(e, REASON_BAD_MESSAGE, "order: the record's key must be the model");
}

enum err_kind orders_prune(struct registry *g, const struct record *r, int64_t keep_versions,
                           const struct deployed *was, const struct deployed *committed,
                           const struct deployed *now, struct err *e) {
    const int64_t back = now->before_count ? now->before[0].version : 0;
    const int64_t spare[] = {now->version, was->version, committed->version,
                             back,         was->best,    committed->best};
    int64_t up_to = now->judged - keep_versions;
    /* What this hand-over has judged is judged again if its commit fails. Where Redis has lost versions
       nobody can tell by the numbers: the next judgement prunes. */
    if (now->judged < committed->judged) return ERR_NONE;
    if (up_to > committed->judged) up_to = committed->judged;
    return registry_prune(g, now->model, up_to, spare, sizeof spare / sizeof *spare, r, e);
}
