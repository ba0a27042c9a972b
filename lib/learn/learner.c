/*
 * learner: a version is made in this order: look at the new batches, grow the net, study, measure,
 * save the artifacts, publish. Until the last step nothing that others can see has changed; a
 * failure before it throws the model in memory away, and the next try begins from the registry.
 */
#include "lib/learn/learner.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/learn/pupil.h"
#include "lib/learn/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIN_STEPS = 32, /* of a version: a handful of images is seen often enough to matter */
    READ = 1024,    /* images drawn and read from the store at a time, at least a minibatch */
    LOOK = 1000,    /* images that the training metrics look at */
    WARM_UP =
        100, /* steps of a new net in which the rate rises to its value: the first ones are steep */
};

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
    struct lineage lineage; /* of the version to be: its batches */
    int64_t images, missing;
};

struct look {
    const int64_t *revisions; /* that the manifest names */
    unsigned char *good;      /* the store has the row as the manifest says */
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
    return ERR_NONE;
}

static enum err_kind save_batch(struct learner *l, const struct manifest *m, struct fresh *f,
                                size_t from, struct err *e) {
    struct lineage_batch b = {.images = (int64_t)m->image_count};
    snprintf(b.id, sizeof b.id, "%.*s", (int)m->batch.len, (const char *)m->batch.data);
    if (registry_put_artifact(l->registry, rows_pack(&f->train, from, f->train.count), b.rows, e))
        return e->kind;
    lineage_add_batch(&f->lineage, &b);
    return ERR_NONE;
}

static enum err_kind look_at_batch(struct learner *l, struct pupil *p, const struct spec *spec,
                                   const struct manifest *m, struct fresh *f, struct err *e) {
    size_t from = f->train.count;
    char(*names)[ROW_HEX + 1] = mem_alloc(m->image_count * sizeof *names);
    int64_t *revisions = mem_alloc(m->image_count * sizeof *revisions);
    struct look k = {.revisions = revisions, .good = mem_zeroed(m->image_count, 1)};
    for (size_t i = 0; i < m->image_count; i++) {
        snprintf(names[i], sizeof *names, "%.*s", ROW_HEX, (const char *)m->images[i].row.data);
        revisions[i] = m->images[i].revision;
    }
    if (!images_get(l->images, m->model, (const char(*)[ROW_HEX + 1]) names, m->image_count,
                    look_at, &k, e)) {
        for (size_t i = 0; i < m->image_count; i++) {
            if (!k.good[i]) continue;
            pupil_meet_label(p, m->images[i].label);
            if (m->images[i].split == SPLIT_EVAL)
                rows_hold_out(&p->held, names[i], (size_t)spec->eval_most);
            else
                rows_add(&f->train, names[i]);
            f->images++;
        }
        /* A model begins with the labels that it was promised, even if every image is gone. */
        for (size_t i = 0; !p->model.label_count && i < m->image_count; i++)
            pupil_meet_label(p, m->images[i].label);
        f->missing += k.missing;
        (void)!save_batch(l, m, f, from, e);
    }
    free(names);
    free(revisions);
    free(k.good);
    return e->kind;
}

/* ---- studying ---- */

/* Images for the next steps, as they come from the store. */
struct page {
    const struct pupil *pupil;
    char (*names)[ROW_HEX + 1]; /* what to read */
    size_t *old;                /* its place in pupil->rows; NONE: it is a new one */
    unsigned char *gone;        /* (pupil->rows.count): old rows that the store has no more */
    uint8_t *x;                 /* (count, H, W, C) */
    int *label;                 /* (count) */
    int count;
};
static const size_t NONE = (size_t)-1;

static int label_index(const struct model *m, struct bytes label) {
    for (int i = 0; i < m->label_count; i++)
        if (bytes_is(label, m->labels[i])) return i;
    return -1;
}

/* The label is the row's own of now: a correction counts from the moment that it is stored. */
static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct page *pg = ctx;
    const struct net_spec *net = net_spec(pg->pupil->model.net);
    (void)revision, (void)e;
    if (!row && pg->old[i] != NONE) pg->gone[pg->old[i]] = 1;
    int label = row && row->label.data ? label_index(&pg->pupil->model, row->label) : -1;
    if (label < 0 || row->height != net->height || row->width != net->width ||
        row->channels != net->channels)
        return ERR_NONE;
    memcpy(pg->x + (size_t)pg->count * row->pixels.len, row->pixels.data, row->pixels.len);
    pg->label[pg->count++] = label;
    return ERR_NONE;
}

static enum err_kind read_page(struct learner *l, struct page *pg, size_t n, struct err *e) {
    pg->count = 0;
    return images_get(l->images, bytes_of(pg->pupil->name), (const char(*)[ROW_HEX + 1]) pg->names,
                      n, take, pg, e);
}

/* Mean and standard deviation of each channel over some of the new images. */
static enum err_kind normalise(struct learner *l, struct pupil *p, const struct rows *fresh,
                               struct page *pg, struct err *e) {
    struct net_norm *norm = net_norm(p->model.net);
    size_t n = fresh->count < READ ? fresh->count : READ,
           c = (size_t)net_spec(p->model.net)->channels;
    double sum[NET_MAX_CHANNELS] = {0}, square[NET_MAX_CHANNELS] = {0};
    for (size_t i = 0; i < n; i++) {
        rows_name(fresh, i, pg->names[i]);
        pg->old[i] = NONE;
    }
    if (read_page(l, pg, n, e)) return e->kind;
    size_t values = (size_t)pg->count * net_image_size(p->model.net) / c;
    for (size_t i = 0; i < values * c; i++) {
        double v = pg->x[i] / 255.0;
        sum[i % c] += v;
        square[i % c] += v * v;
    }
    for (size_t k = 0; k < c && values; k++) {
        double mean = sum[k] / (double)values, variance = square[k] / (double)values - mean * mean;
        norm->mean[k] = (float)mean;
        norm->scale[k] = (float)(1 / sqrt(variance > 1e-4 ? variance : 1e-4));
    }
    return ERR_NONE;
}

/* splitmix64 (Steele, Lea, Flood 2014): one seed, one sequence, everywhere. */
static uint64_t next_random(uint64_t *s) {
    uint64_t z = *s += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static double uniform(uint64_t *s) {
    return (double)(next_random(s) >> 11) * 0x1p-53;
}

static void shuffle(size_t *order, size_t n, uint64_t *seed) {
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)(uniform(seed) * (double)i), t = order[i - 1];
        order[i - 1] = order[k];
        order[k] = t;
    }
}

/* Which image comes next: new ones in shuffled order again and again, old ones evenly from all. */
struct draw {
    const struct rows *fresh, *old;
    size_t *order, next; /* of the new ones */
    double share;        /* of new ones */
    uint64_t seed;
};

static void draw_page(struct draw *d, struct page *pg, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool new = uniform(&d->seed) < d->share;
        if (new && d->next == d->fresh->count) {
            shuffle(d->order, d->fresh->count, &d->seed);
            d->next = 0;
        }
        pg->old[i] = new ? NONE : (size_t)(uniform(&d->seed) * (double)d->old->count);
        if (new)
            rows_name(d->fresh, d->order[d->next++], pg->names[i]);
        else
            rows_name(d->old, pg->old[i], pg->names[i]);
    }
}

struct course {
    int64_t steps, presentations;
    double loss; /* mean over the steps */
};

static enum err_kind step_through(struct trainer *t, const struct spec *spec, const struct page *pg,
                                  const struct alive *alive, struct course *c, struct err *e) {
    size_t image = net_image_size(pg->pupil->model.net);
    for (int at = 0; at < pg->count; at += (int)spec->minibatch) {
        int n = pg->count - at < (int)spec->minibatch ? pg->count - at : (int)spec->minibatch;
        double warm = (double)(trainer_steps(t) + 1) / WARM_UP;
        trainer_set_rate(t, (float)(spec->rate * (warm < 1 ? warm : 1)));
        c->loss += (double)trainer_step(t, pg->x + (size_t)at * image, pg->label + at, n);
        c->steps++;
        c->presentations += n;
        if (alive->still(alive->ctx, e)) return e->kind;
    }
    return ERR_NONE;
}

static enum err_kind study(struct learner *l, struct pupil *p, const struct spec *spec,
                           const struct rows *fresh, struct trainer *t, struct page *pg,
                           const struct alive *alive, struct course *c, struct err *e) {
    size_t batch = (size_t)spec->minibatch, page = batch > READ ? batch : READ / batch * batch;
    struct draw d = {.fresh = fresh,
                     .old = &p->rows,
                     .order = mem_alloc(fresh->count * sizeof *d.order),
                     .next = fresh->count,
                     .seed = (uint64_t)p->version + 1};
    int64_t steps = (int64_t)ceil(spec->passes * (double)fresh->count / (double)batch);
    size_t left = fresh->count ? (size_t)(steps > MIN_STEPS ? steps : MIN_STEPS) * batch : 0;
    for (size_t i = 0; i < fresh->count; i++) d.order[i] = i;
    d.share = (double)fresh->count / (double)(fresh->count + d.old->count + 1);
    if (d.share < spec->fresh) d.share = spec->fresh;
    if (!d.old->count) d.share = 1;
    while (left && !e->kind) {
        size_t n = left < page ? left : page;
        left -= n;
        draw_page(&d, pg, n);
        if (!read_page(l, pg, n, e)) (void)!step_through(t, spec, pg, alive, c, e);
    }
    if (c->steps) c->loss /= (double)c->steps;
    free(d.order);
    return e->kind;
}

/* ---- a version ---- */

/* On the new training images and on those that are held out, of which the ones that are gone are
 * dropped. */
static enum err_kind measure(struct learner *l, struct pupil *p, const struct rows *fresh,
                             const struct course *c, const struct alive *alive, struct arena *a,
                             struct trained *out, struct err *e) {
    size_t n = fresh->count < LOOK ? fresh->count : LOOK;
    unsigned char *gone = mem_zeroed(p->held.count, 1);
    struct bytes model = bytes_of(p->name);
    if (!report_measure(l->registry, l->images, &p->model, p->average, &p->held, gone, alive, a,
                        out, e) &&
        !judge_score(l->images, model, &p->model, p->average, fresh, n, NULL, alive, &out->training,
                     e)) {
        if (c->steps) out->training.loss = c->loss;
        rows_drop(&p->held, gone);
    }
    free(gone);
    return e->kind;
}

static enum err_kind learn(struct learner *l, struct pupil *p, const struct spec *spec,
                           const struct fresh *f, struct page *pg, const struct alive *alive,
                           struct arena *a, struct trained *out, struct err *e) {
    struct train_conf conf = {.rate = (float)spec->rate,
                              .momentum = (float)spec->momentum,
                              .weight_decay = (float)spec->decay,
                              .label_smoothing = (float)spec->smoothing,
                              .average = (float)spec->average,
                              .batch = (int)spec->minibatch,
                              .threads = l->threads};
    struct course c = {0};
    if (p->steps == 0 && normalise(l, p, &f->train, pg, e)) return e->kind;
    struct trainer *t = pupil_trainer(p, &conf, e);
    if (!t) return e->kind;
    float *start = pupil_params(p);
    if (!study(l, p, spec, &f->train, t, pg, alive, &c, e)) pupil_learned(p, t, start);
    free(start);
    trainer_free(t);
    if (e->kind || measure(l, p, &f->train, &c, alive, a, out, e)) return e->kind;
    out->presentations += c.presentations;
    out->labels = p->model.label_count;
    return ERR_NONE;
}

static enum err_kind next_version(struct learner *l, struct pupil *p, const struct spec *spec,
                                  struct fresh *f, const struct alive *alive, struct arena *a,
                                  struct trained *out, struct err *e) {
    int64_t begin = clock_monotonic_us();
    struct net_spec wanted;
    size_t most = (size_t)(spec->minibatch > READ ? spec->minibatch : READ);
    struct page pg = {.pupil = p, .gone = mem_zeroed(p->rows.count, 1)};
    bool anew;
    (spec->network == NETWORK_CNN ? net_spec_cnn : net_spec_mlp)(
        &wanted, (int)spec->height, (int)spec->width, (int)spec->channels);
    if (pupil_grow(p, &wanted, &anew, e)) goto done;
    model_set_note(&p->model, "alpha", spec->alpha ? "black" : "white");
    pg.x = mem_alloc(most * net_image_size(p->model.net));
    pg.label = mem_alloc(most * sizeof *pg.label);
    pg.names = mem_alloc(most * sizeof *pg.names);
    pg.old = mem_alloc(most * sizeof *pg.old);
    if (learn(l, p, spec, f, &pg, alive, a, out, e)) goto done;
    out->seconds = (double)(clock_monotonic_us() - begin) * 1e-6;
    rows_drop(&p->rows, pg.gone);
    if (rows_unpack(&p->rows, rows_pack(&f->train, 0, f->train.count), e) ||
        pupil_save(p, l->registry, &f->lineage, a, out, e) || registry_publish(l->registry, out, e))
        goto done;
    pupil_published(p, l->registry, &f->lineage, out);
done:
    free(pg.gone);
    free(pg.x);
    free(pg.label);
    free(pg.names);
    free(pg.old);
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
