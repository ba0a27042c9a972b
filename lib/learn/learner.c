/*
 * learner: a version is made in this order: look at the new batches, grow the net, study, measure,
 * save the artifacts, publish. Until the last step nothing that others can see has changed; a
 * failure before it throws the model in memory away, and the next try begins from the registry.
 */
#include "lib/learn/learner.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/learn/pupil.h"
#include "lib/learn/recipe.h"
#include "lib/learn/report.h"
#include "lib/learn/study.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK = 1000 }; /* images that the training metrics look at */

struct learner {
    struct registry *registry;
    struct images *images;
    int threads;
    struct pupil **list;
    size_t count;
};

struct learner *learner_open(struct registry *g, struct images *im, int threads) {
    struct learner *l = mem_zeroed(1, sizeof *l);
    l->registry = g;
    l->images = im;
    l->threads = threads;
    return l;
}

void learner_forget(struct learner *l) {
    for (size_t i = 0; i < l->count; i++) pupil_clear(l->list[i]);
}

void learner_close(struct learner *l) {
    if (!l) return;
    learner_forget(l);
    for (size_t i = 0; i < l->count; i++) free(l->list[i]);
    free(l->list);
    free(l);
}

static struct pupil *pupil_of(struct learner *l, struct bytes model) {
    for (size_t i = 0; i < l->count; i++)
        if (bytes_is(model, l->list[i]->name)) return l->list[i];
    l->list = mem_resize(l->list, (l->count + 1) * sizeof(struct pupil *));
    struct pupil *p = l->list[l->count++] = mem_zeroed(1, sizeof *p);
    snprintf(p->name, sizeof p->name, "%.*s", (int)model.len, (const char *)model.data);
    return p;
}

/* ---- looking at the new batches ---- */

/* What the new batches bring. */
struct fresh {
    struct rows train;
    size_t corrected;       /* of those: another revision of an image that came before */
    struct lineage lineage; /* of the version to be: its batches */
    int64_t images, missing;
};

struct look {
    const int64_t *revisions; /* that the manifest names */
    unsigned char *good;      /* the store has the row as the manifest says */
    struct content *contents; /* of those */
    int64_t missing;
};

/* A row that is gone is missing; one of another revision has another batch of its own, with the
 * correction. */
static enum err_kind look_at(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                             struct err *e) {
    struct look *k = ctx;
    (void)e;
    k->missing += !row;
    k->good[i] = row && revision == k->revisions[i];
    if (k->good[i]) k->contents[i] = content_of(revision, row->pixels, row->label);
    return ERR_NONE;
}

/* The training rows from `from` on are the batch's. */
static enum err_kind save_batch(struct learner *l, const struct manifest *m, struct fresh *f,
                                size_t from, struct bytes contents, struct err *e) {
    struct lineage_batch b = {
        .images = (int64_t)m->image_count, .partition = m->partition, .offset = m->offset};
    snprintf(b.id, sizeof b.id, "%.*s", (int)m->batch.len, (const char *)m->batch.data);
    if (registry_put_artifact(l->registry, rows_pack(&f->train, from, f->train.count), b.rows, e) ||
        registry_put_artifact(l->registry, contents, b.contents, e))
        return e->kind;
    lineage_add_batch(&f->lineage, &b);
    return ERR_NONE;
}

static enum err_kind look_at_batch(struct learner *l, struct pupil *p, const struct spec *spec,
                                   const struct manifest *m, struct fresh *f, struct err *e) {
    size_t from = f->train.count;
    char(*names)[ROW_HEX + 1] = mem_alloc(m->image_count * sizeof *names);
    int64_t *revisions = mem_alloc(m->image_count * sizeof *revisions);
    struct look k = {.revisions = revisions,
                     .good = mem_zeroed(m->image_count, 1),
                     .contents = mem_alloc(m->image_count * sizeof *k.contents)};
    struct buf contents = {0};
    for (size_t i = 0; i < m->image_count; i++) {
        snprintf(names[i], sizeof *names, "%.*s", ROW_HEX, (const char *)m->images[i].row.data);
        revisions[i] = m->images[i].revision;
    }
    if (!images_get(l->images, m->model, (const char(*)[ROW_HEX + 1]) names, m->image_count,
                    look_at, &k, e)) {
        for (size_t i = 0; i < m->image_count; i++) {
            if (!k.good[i]) continue;
            int label = pupil_meet_label(p, m->images[i].label);
            f->images++;
            if (m->images[i].split == SPLIT_EVAL) {
                rows_hold_out(&p->held, names[i], (size_t)spec->eval_most);
                continue;
            }
            rows_add(&f->train, names[i]);
            p->fresh[label]++;
            f->corrected += revisions[i] > 1;
            buf_add(&contents, &k.contents[i], sizeof k.contents[i]);
        }
        /* A model begins with the labels that it was promised, even if every image is gone. */
        for (size_t i = 0; !p->model.label_count && i < m->image_count; i++)
            pupil_meet_label(p, m->images[i].label);
        f->missing += k.missing;
        (void)!save_batch(l, m, f, from, buf_bytes(&contents), e);
    }
    free(names);
    free(revisions);
    free(k.good);
    free(k.contents);
    buf_free(&contents);
    return e->kind;
}

/* ---- a version ---- */

/* New training images, and where they are few old ones evenly taken. */
static void sample(const struct pupil *p, const struct rows *fresh, struct rows *out) {
    size_t new = fresh->count < LOOK ? fresh->count : LOOK, old = LOOK - new;
    char name[ROW_HEX + 1];
    if (old > p->rows.count) old = p->rows.count;
    for (size_t i = 0; i < new + old; i++) {
        if (i < new)
            rows_name(fresh, i, name);
        else
            rows_name(&p->rows, (i - new) * p->rows.count / old, name);
        rows_add(out, name);
    }
}

/* On training images and on those that are held out, of which the ones that are gone are dropped. */
static enum err_kind measure(struct learner *l, struct pupil *p, const struct rows *fresh,
                             const struct course *c, const struct alive *alive, struct arena *a,
                             struct trained *out, struct err *e) {
    struct rows some = {0};
    sample(p, fresh, &some);
    unsigned char *gone = mem_zeroed(p->held.count, 1);
    struct bytes model = bytes_of(p->name);
    if (!report_measure(l->registry, l->images, &p->model, p->average, c->threads, &p->held, gone,
                        alive, a, out, e) &&
        !judge_score(l->images, model, &p->model, p->average, c->threads, &some, some.count, NULL,
                     alive, &out->training, e))
        rows_drop(&p->held, gone);
    rows_free(&some);
    free(gone);
    return e->kind;
}

/* What it takes to make the version again, beside its parent and batches. */
static enum err_kind save_recipe(struct learner *l, const struct course *c, size_t rows,
                                 struct lineage *to, struct err *e) {
    struct buf recipe = {0}, gone = {0};
    recipe_encode(c->spec, c->threads, &recipe);
    places_pack(c->gone, rows, &gone);
    if (!registry_put_artifact(l->registry, buf_bytes(&recipe), to->recipe, e) && gone.len)
        (void)!registry_put_artifact(l->registry, buf_bytes(&gone), to->gone, e);
    buf_free(&recipe);
    buf_free(&gone);
    return e->kind;
}

static enum err_kind next_version(struct learner *l, struct pupil *p, const struct spec *spec,
                                  struct fresh *f, const struct alive *alive, struct arena *a,
                                  struct trained *out, struct err *e) {
    int64_t begin = clock_monotonic_us();
    struct net_spec wanted;
    struct course c = {.images = l->images,
                       .spec = spec,
                       .fresh = &f->train,
                       .corrected = f->corrected,
                       .threads = l->threads,
                       .gone = mem_zeroed(p->rows.count, 1)};
    bool anew;
    if (spec_net(spec, &wanted, e) || pupil_grow(p, &wanted, &anew, e)) goto done;
    model_set_note(&p->model, "alpha", spec->alpha ? "black" : "white");
    if (study(&c, p, alive, e) || measure(l, p, &f->train, &c, alive, a, out, e) ||
        save_recipe(l, &c, p->rows.count, &f->lineage, e))
        goto done;
    out->presentations += c.presentations;
    out->training_seconds = c.seconds;
    out->labels = p->model.label_count;
    out->seconds = (double)(clock_monotonic_us() - begin) * 1e-6;
    rows_drop(&p->rows, c.gone);
    if (rows_unpack(&p->rows, rows_pack(&f->train, 0, f->train.count), e) ||
        pupil_save(p, l->registry, &f->lineage, a, out, e))
        goto done;
    struct bytes beside[4] = {bytes_of(f->lineage.weights), bytes_of(f->lineage.momentum)};
    size_t n = 2;
    if (*f->lineage.second) beside[n++] = bytes_of(f->lineage.second);
    if (out->report.data) beside[n++] = out->report;
    if (registry_publish(l->registry, out, beside, n, e)) goto done;
    pupil_published(p, out);
done:
    free(c.gone);
    return e->kind;
}

enum err_kind learner_learn(struct learner *l, struct bytes model, const struct spec *spec,
                            const struct manifest *batches, size_t n, const struct alive *alive,
                            struct arena *a, struct trained *out, struct err *e) {
    struct trained head;
    struct pupil *p = pupil_of(l, model);
    struct fresh f = {{0}};
    if (registry_head(l->registry, model, a, &head, e)) goto done;
    if (head.version < p->seen)
        log_warn("model %s: version %lld, which it had, is not in Redis any more; it goes on after "
                 "version %lld",
                 p->name, (long long)p->seen, (long long)head.version);
    p->seen = head.version;
    /* By its hash: another registry, or another trainer, may have another version of the number. */
    if (!bytes_is(head.lineage, p->lineage) || !p->model.net) {
        pupil_clear(p);
        if (head.version && pupil_load(p, l->registry, &head, alive, e)) goto done;
    }
    for (size_t i = 0; i < n; i++)
        if (look_at_batch(l, p, spec, &batches[i], &f, e)) goto done;
    *out = (struct trained){.model = model,
                            .version = head.version + 1,
                            .parent = head.version,
                            .images = head.images + f.images,
                            .presentations = head.presentations,
                            .missing = f.missing,
                            .batches = arena_alloc(a, n * sizeof *out->batches),
                            .batch_count = n,
                            .time_ms = clock_now_ms()};
    for (size_t i = 0; i < n; i++) out->batches[i] = batches[i].batch;
    if (!next_version(l, p, spec, &f, alive, a, out, e)) p->seen = out->version;
done:
    if (e->kind) pupil_clear(p); /* half a step on: begin again from the registry */
    rows_free(&f.train);
    lineage_free(&f.lineage);
    return e->kind;
}
