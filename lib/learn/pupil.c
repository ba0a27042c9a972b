/* pupil: loading walks the chain of lineages back to the first version; saving adds one link. */
#include "lib/learn/pupil.h"

#include "lib/base/log.h"
#include "lib/learn/artifacts.h"
#include "lib/nn/net_spec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ALL_EVERY = 256
}; /* versions between two that write down every row: so long is the longest chain */

void pupil_clear(struct pupil *p) {
    struct pupil kept = {.seen = p->seen};
    memcpy(kept.name, p->name, sizeof kept.name);
    model_free(&p->model);
    rows_free(&p->rows);
    rows_free(&p->held);
    free(p->momentum);
    free(p->second);
    free(p->average);
    free(p->counts);
    free(p->fresh);
    *p = kept;
}

/* ---- from the registry ---- */

static enum err_kind load_params(struct registry *g, struct bytes name, float **out,
                                 struct err *e) {
    struct model m = {0};
    if (!artifact_model(g, name, &m, e)) {
        size_t size = net_param_count(m.net) * sizeof(float);
        *out = memcpy(mem_alloc(size), net_params(m.net), size);
    }
    model_free(&m);
    return e->kind;
}

/* What the store was found to have no more is taken out again, before the version's own rows. */
static enum err_kind drop_gone(struct registry *g, const struct lineage *l, struct rows *rows,
                               struct err *e) {
    struct buf file = {0};
    unsigned char *gone = mem_zeroed(rows->count, 1);
    if (*l->gone && !registry_get_artifact(g, bytes_of(l->gone), &file, e) &&
        !places_unpack(buf_bytes(&file), gone, rows->count, e))
        rows_drop(rows, gone);
    free(gone);
    buf_free(&file);
    return e->kind;
}

/* The rows of every batch up to the version, in the order in which it has them: oldest first, back to
   where all were written down. */
static enum err_kind load_chain(struct registry *g, const struct lineage *head,
                                const struct alive *alive, struct rows *rows, struct err *e) {
    struct lineage *chain = mem_alloc(sizeof *chain);
    size_t n = 1;
    chain[0] = *head;
    while (!e->kind && !*chain[n - 1].all && *chain[n - 1].before) {
        chain = mem_resize(chain, (n + 1) * sizeof *chain);
        if (!alive->still(alive->ctx, e) &&
            !artifact_lineage(g, bytes_of(chain[n - 1].before), &chain[n], e))
            n++;
    }
    if (!e->kind && *chain[n - 1].all) (void)!artifact_rows(g, bytes_of(chain[n - 1].all), rows, e);
    for (size_t v = *chain[n - 1].all ? n - 1 : n; v-- > 0 && !e->kind;) {
        (void)!drop_gone(g, &chain[v], rows, e);
        for (size_t i = 0; i < chain[v].batch_count && !e->kind; i++)
            if (!alive->still(alive->ctx, e))
                (void)!artifact_rows(g, bytes_of(chain[v].batches[i].rows), rows, e);
    }
    while (--n > 0) lineage_free(&chain[n]); /* the first is the caller's */
    free(chain);
    return e->kind;
}

enum err_kind pupil_load(struct pupil *p, struct registry *g, const struct trained *head,
                         const struct alive *alive, struct err *e) {
    struct lineage l = {0};
    pupil_clear(p);
    snprintf(p->lineage, sizeof p->lineage, "%.*s", (int)head->lineage.len,
             (const char *)head->lineage.data);
    if (artifact_lineage(g, bytes_of(p->lineage), &l, e) || load_chain(g, &l, alive, &p->rows, e) ||
        artifact_rows(g, bytes_of(l.evaluation), &p->held, e) ||
        load_params(g, head->artifact, &p->average, e) ||
        load_params(g, bytes_of(l.momentum), &p->momentum, e) ||
        (*l.second && load_params(g, bytes_of(l.second), &p->second, e)) ||
        artifact_model(g, bytes_of(l.weights), &p->model, e)) {
        pupil_clear(p);
        if (e->kind == ERR_BAD) {
            char was[sizeof e->text];
            memcpy(was, e->text, sizeof was);
            err_again(e, "model %s cannot go on from version %lld: %.120s", p->name,
                      (long long)head->version, was);
        }
    } else {
        size_t labels = (size_t)p->model.label_count;
        p->counts = mem_zeroed(labels, sizeof *p->counts);
        p->fresh = mem_zeroed(labels, sizeof *p->fresh);
        for (size_t i = 0; i < labels && i < l.count_count; i++) p->counts[i] = l.counts[i];
        p->steps = l.steps;
        p->moved = l.moved;
        p->averaged = l.averaged;
        p->version = head->version;
    }
    lineage_free(&l);
    return e->kind;
}

/* ---- the net ---- */

int pupil_meet_label(struct pupil *p, struct bytes label) {
    int n = p->model.label_count, known = model_label(&p->model, label);
    if (known < n) return known;
    char *text = mem_copy(label.data, label.len);
    model_add_label(&p->model, text);
    free(text);
    p->counts = mem_resize(p->counts, (size_t)(n + 1) * sizeof *p->counts);
    p->fresh = mem_resize(p->fresh, (size_t)(n + 1) * sizeof *p->fresh);
    p->counts[n] = p->fresh[n] = 0;
    return n;
}

static enum err_kind begin_anew(struct pupil *p, const struct net_spec *wanted, struct err *e) {
    net_free(p->model.net);
    free(p->momentum);
    free(p->second);
    free(p->average);
    p->momentum = p->second = p->average = NULL;
    p->steps = p->moved = p->averaged = 0;
    p->model.net = net_make(wanted, p->model.label_count, 1, e);
    return p->model.net ? ERR_NONE : e->kind;
}

enum err_kind pupil_grow(struct pupil *p, const struct net_spec *wanted, bool *anew,
                         struct err *e) {
    *anew = !p->model.net || !net_spec_equal(net_spec(p->model.net), wanted);
    if (*anew) return begin_anew(p, wanted, e);
    int before = net_classes(p->model.net);
    if (p->model.label_count == before) return ERR_NONE;
    p->averaged = 0; /* what it was before it knew the label would hold it back for long */
    if (net_grow(p->model.net, p->model.label_count, (uint64_t)p->version + 1, e)) return e->kind;
    float *momentum = net_grow_array(p->model.net, before, p->momentum, NULL);
    float *average = net_grow_array(p->model.net, before, p->average, net_params(p->model.net));
    if (p->second) {
        float *second = net_grow_array(p->model.net, before, p->second, NULL);
        free(p->second);
        p->second = second;
    }
    free(p->momentum);
    free(p->average);
    p->momentum = momentum;
    p->average = average;
    return ERR_NONE;
}

struct trainer *pupil_trainer(struct pupil *p, const struct train_conf *conf, struct err *e) {
    struct trainer *t = trainer_make(p->model.net, conf, e);
    if (!t || !p->momentum) return t;
    size_t size = net_param_count(p->model.net) * sizeof(float);
    memcpy(trainer_average(t), p->average, size);
    trainer_set_averaged(t, (uint64_t)p->averaged);
    if (!p->second != !trainer_second(t)) { /* another optimizer's state is of no use */
        p->moved = 0;
        return t;
    }
    memcpy(trainer_momentum(t), p->momentum, size);
    if (p->second) memcpy(trainer_second(t), p->second, size);
    trainer_set_steps(t, (uint64_t)p->moved);
    return t;
}

float *pupil_params(const struct pupil *p) {
    size_t size = net_param_count(p->model.net) * sizeof(float);
    return memcpy(mem_alloc(size), net_params(p->model.net), size);
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

void pupil_learned(struct pupil *p, struct trainer *t, const float *start) {
    size_t n = net_param_count(p->model.net), size = n * sizeof(float);
    if (!all_finite(net_params(p->model.net), n) || !all_finite(trainer_average(t), n) ||
        !all_finite(trainer_momentum(t), n) ||
        (trainer_second(t) && !all_finite(trainer_second(t), n))) {
        /* Such a version would serve nobody, and nothing would ever grow from it. */
        log_error("model %s: training of version %lld diverged; it keeps the weights of before (is "
                  "train.rate too high?)",
                  p->name, (long long)p->version + 1);
        memcpy(net_params(p->model.net), start, size);
        memcpy(trainer_average(t), p->average ? p->average : start, size);
        memset(trainer_momentum(t), 0, size);
        if (trainer_second(t)) memset(trainer_second(t), 0, size);
    }
    p->momentum = memcpy(mem_resize(p->momentum, size), trainer_momentum(t), size);
    p->average = memcpy(mem_resize(p->average, size), trainer_average(t), size);
    free(p->second);
    p->second = NULL;
    if (trainer_second(t)) p->second = memcpy(mem_alloc(size), trainer_second(t), size);
    p->steps += (int64_t)trainer_steps(t) - p->moved;
    p->moved = (int64_t)trainer_steps(t);
    p->averaged = (int64_t)trainer_averaged(t);
}

/* ---- to the registry ---- */

/* The notes make every file its version's and role's own: equal weights never share an artifact, so
   none that is removed is another's. */
static enum err_kind save_params(struct pupil *p, struct registry *g, const char *role,
                                 const float *params, char name[HASH_HEX + 1], struct err *e) {
    struct buf file = {0};
    char version[24];
    snprintf(version, sizeof version, "%lld", (long long)p->version + 1);
    model_set_note(&p->model, "model", p->name);
    model_set_note(&p->model, "version", version);
    model_set_note(&p->model, "role", role);
    if (!model_save(&p->model, params, &file, e))
        (void)!registry_put_artifact(g, buf_bytes(&file), name, e);
    buf_free(&file);
    return e->kind;
}

enum err_kind pupil_save(struct pupil *p, struct registry *g, struct lineage *l, struct arena *a,
                         struct trained *out, struct err *e) {
    char artifact[HASH_HEX + 1], lineage[HASH_HEX + 1];
    struct buf text = {0};
    if (save_params(p, g, "average", p->average, artifact, e) ||
        save_params(p, g, "weights", NULL, l->weights, e) ||
        save_params(p, g, "momentum", p->momentum, l->momentum, e) ||
        (p->second && save_params(p, g, "second moment", p->second, l->second, e)) ||
        registry_put_artifact(g, rows_pack(&p->held, 0, p->held.count), l->evaluation, e))
        return e->kind;
    if (out->version % ALL_EVERY == 0 &&
        registry_put_artifact(g, rows_pack(&p->rows, 0, p->rows.count), l->all, e))
        return e->kind;
    memcpy(l->before, p->lineage, sizeof l->before);
    l->steps = p->steps;
    l->moved = p->moved;
    l->averaged = p->averaged;
    for (int i = 0; i < p->model.label_count; i++) lineage_add_count(l, p->counts[i] + p->fresh[i]);
    lineage_encode(l, bytes_of(p->name), out->version, out->parent, &text);
    if (!registry_put_artifact(g, buf_bytes(&text), lineage, e)) {
        out->artifact = bytes_of(arena_text(a, bytes_of(artifact)));
        out->lineage = bytes_of(arena_text(a, bytes_of(lineage)));
    }
    buf_free(&text);
    return e->kind;
}

void pupil_published(struct pupil *p, const struct trained *out) {
    snprintf(p->lineage, sizeof p->lineage, "%.*s", (int)out->lineage.len,
             (const char *)out->lineage.data);
    p->version = out->version;
    for (int i = 0; i < p->model.label_count; i++) {
        p->counts[i] += p->fresh[i];
        p->fresh[i] = 0;
    }
}
