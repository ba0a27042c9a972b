/*
 * learner: a version is made in this order: look at the new batches, grow the net, study, save the artifacts,
 * measure, publish. Until the last step nothing that others can see has changed; a failure before it throws the
 * model in memory away, and the next try begins from the registry.
 */
#include "lib/learn/learner.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/learn/lineage.h"
#include "lib/nn/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIN_STEPS = 32,  /* of a version: a handful of images is seen often enough to matter */
    READ = 1024,     /* images drawn and read from the store at a time, at least a minibatch */
    LOOK = 1000,     /* images that the training metrics look at */
    WARM_UP = 100,   /* steps of a new net in which the rate rises to its value: the first ones are steep */
};

/* Every training row of a model, 16 bytes each, in the order of its batches. */
struct rows {
    unsigned char (*list)[ROW_HEX / 2];
    size_t count;
};

/* One model as of a version: everything that the next one grows from. */
struct pupil {
    char name[72];
    int64_t version; /* 0: nothing yet */
    struct lineage lineage;
    struct rows rows;
    struct model model;  /* net == NULL: nothing yet */
    float *momentum, *average; /* (param_count) */
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

static void pupil_clear(struct pupil *p) {
    lineage_free(&p->lineage);
    model_free(&p->model);
    free(p->rows.list);
    free(p->momentum);
    free(p->average);
    p->rows = (struct rows){0};
    p->momentum = p->average = NULL;
    p->version = 0;
}

void learner_forget(struct learner *l) {
    for (size_t i = 0; i < l->count; i++) {
        pupil_clear(l->list[i]);
        free(l->list[i]);
    }
    l->count = 0;
}

void learner_close(struct learner *l) {
    if (!l) return;
    learner_forget(l);
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

static bool same_net(const struct net_spec *a, const struct net_spec *b) {
    if (a->height != b->height || a->width != b->width || a->channels != b->channels || a->layer_count != b->layer_count) return false;
    for (int i = 0; i < a->layer_count; i++) {
        const struct layer_spec *x = &a->layers[i], *y = &b->layers[i];
        if (x->type != y->type || x->units != y->units || x->kernel != y->kernel || x->stride != y->stride || x->padding != y->padding) return false;
    }
    return true;
}

static struct net_spec net_of(const struct spec *spec) {
    struct net_spec n;
    (spec->network == NETWORK_CNN ? net_spec_cnn : net_spec_mlp)(&n, (int)spec->height, (int)spec->width, (int)spec->channels);
    return n;
}

/* ---- the head, from the registry ---- */

static enum err_kind add_rows(struct rows *r, struct bytes packed, struct err *e) {
    size_t n = packed.len / sizeof *r->list;
    if (packed.len % sizeof *r->list) return err_bad(e, REASON_BAD_MODEL_FILE, "a rows artifact of %zu bytes", packed.len);
    r->list = mem_resize(r->list, (r->count + n) * sizeof *r->list);
    memcpy(r->list + r->count, packed.data, packed.len);
    r->count += n;
    return ERR_NONE;
}

static enum err_kind load_model(struct learner *l, const char *name, struct buf *file, struct model *m, struct err *e) {
    if (registry_get_artifact(l->registry, bytes_of(name), file, e)) return e->kind;
    return model_load(buf_bytes(file), m, e);
}

static float *params_of(const struct model *m) {
    size_t size = net_param_count(m->net) * sizeof(float);
    return memcpy(mem_alloc(size), net_params(m->net), size);
}

static enum err_kind load_head(struct learner *l, struct pupil *p, const struct trained *head, struct err *e) {
    struct buf file = {0};
    struct model other = {0};
    char artifact[HASH_HEX + 1];
    snprintf(artifact, sizeof artifact, "%.*s", (int)head->artifact.len, (const char *)head->artifact.data);
    pupil_clear(p);
    if (registry_get_artifact(l->registry, head->lineage, &file, e) || lineage_decode(buf_bytes(&file), &p->lineage, e)) goto done;
    for (size_t i = 0; i < p->lineage.batch_count; i++)
        if (registry_get_artifact(l->registry, bytes_of(p->lineage.batches[i].rows), &file, e) || add_rows(&p->rows, buf_bytes(&file), e)) goto done;
    if (load_model(l, artifact, &file, &other, e)) goto done;
    p->average = params_of(&other);
    model_free(&other);
    if (load_model(l, p->lineage.momentum, &file, &other, e)) goto done;
    p->momentum = params_of(&other);
    if (load_model(l, p->lineage.weights, &file, &p->model, e)) goto done;
    p->version = head->version;
done:
    /* Gone while we read: somebody published the next version. Gone for good: people must know. */
    if (e->kind == ERR_BAD) err_again(e, "model %s: version %lld cannot be gone on from", p->name, (long long)head->version);
    if (e->kind) pupil_clear(p);
    model_free(&other);
    buf_free(&file);
    return e->kind;
}

/* ---- images ---- */

/* Images read from the store for the next steps. */
struct page {
    const struct pupil *pupil;
    const struct net_spec *net;
    uint8_t *x;  /* (READ, H, W, C) */
    int *label;  /* (READ) */
    int count;
    char (*names)[ROW_HEX + 1]; /* (READ): what to read */
    /* of new images, when not NULL: revision that the manifest names; gone ones are counted */
    const int64_t *revisions;
    int64_t missing;
    unsigned char *good; /* per name: the store has it as the manifest says */
};

static int label_index(const struct model *m, struct bytes label) {
    for (int i = 0; i < m->label_count; i++)
        if (bytes_is(label, m->labels[i])) return i;
    return -1;
}

static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision, struct err *e) {
    struct page *pg = ctx;
    (void)i, (void)revision, (void)e;
    int label = row && row->label.data ? label_index(&pg->pupil->model, row->label) : -1;
    if (label < 0 || row->height != pg->net->height || row->width != pg->net->width || row->channels != pg->net->channels) return ERR_NONE;
    memcpy(pg->x + (size_t)pg->count * row->pixels.len, row->pixels.data, row->pixels.len);
    pg->label[pg->count++] = label;
    return ERR_NONE;
}

/* A row that is gone is missing; one of another revision has another batch of its own, with the correction. */
static enum err_kind check(void *ctx, size_t i, const struct image_row *row, int64_t revision, struct err *e) {
    struct page *pg = ctx;
    (void)e;
    pg->missing += !row;
    pg->good[i] = row && revision == pg->revisions[i];
    return ERR_NONE;
}

static void hex_of(const unsigned char row[ROW_HEX / 2], char name[ROW_HEX + 1]) {
    struct hash h;
    memcpy(h.bytes, row, ROW_HEX / 2);
    hash_hex(&h, ROW_HEX / 2, name);
}

static void row_from_hex(struct bytes name, unsigned char row[ROW_HEX / 2]) {
    struct hash h = {{0}};
    char wide[HASH_HEX];
    memset(wide, '0', sizeof wide);
    memcpy(wide, name.data, ROW_HEX);
    (void)hash_from_hex((struct bytes){wide, sizeof wide}, &h); /* decoding the manifest checked the digits */
    memcpy(row, h.bytes, ROW_HEX / 2);
}

/* The new batches: their rows by split, what is missing, labels that the model has not met. */
struct fresh {
    struct rows train;
    size_t *ends;  /* (batches): rows of train up to and with this batch */
    int64_t missing, images;
};

static enum err_kind look_at_batch(struct learner *l, struct pupil *p, const struct spec *spec, const struct manifest *m, struct fresh *f, struct err *e) {
    char (*names)[ROW_HEX + 1] = mem_alloc(m->image_count * sizeof *names);
    int64_t *revisions = mem_alloc(m->image_count * sizeof *revisions);
    struct page pg = {.revisions = revisions, .good = mem_zeroed(m->image_count, 1)};
    for (size_t i = 0; i < m->image_count; i++) {
        snprintf(names[i], sizeof *names, "%.*s", ROW_HEX, (const char *)m->images[i].row.data);
        revisions[i] = m->images[i].revision;
    }
    if (!images_get(l->images, m->model, (const char (*)[ROW_HEX + 1])names, m->image_count, check, &pg, e)) {
        f->train.list = mem_resize(f->train.list, (f->train.count + m->image_count) * sizeof *f->train.list);
        for (size_t i = 0; i < m->image_count; i++) {
            if (!pg.good[i]) continue;
            if (m->images[i].split == SPLIT_EVAL) lineage_hold_out(&p->lineage, names[i], (size_t)spec->eval_most);
            else row_from_hex(m->images[i].row, f->train.list[f->train.count++]);
            f->images++;
        }
        f->missing += pg.missing;
    }
    free(names);
    free(revisions);
    free(pg.good);
    return e->kind;
}

/* ---- the net ---- */

/* Mean and standard deviation of each channel over some of the new images. */
static enum err_kind normalise(struct learner *l, struct pupil *p, const struct rows *rows, struct page *pg, struct err *e) {
    struct net_norm *norm = net_norm(p->model.net);
    size_t n = rows->count < READ ? rows->count : READ, c = (size_t)pg->net->channels;
    double sum[NET_MAX_CHANNELS] = {0}, square[NET_MAX_CHANNELS] = {0};
    for (size_t i = 0; i < n; i++) hex_of(rows->list[i], pg->names[i]);
    pg->count = 0;
    if (images_get(l->images, bytes_of(p->name), (const char (*)[ROW_HEX + 1])pg->names, n, take, pg, e)) return e->kind;
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

static void grow(struct pupil *p, const struct net_spec *wanted, const struct manifest *batches, size_t n, bool *anew, struct err *e) {
    struct arena a = {0};
    int before = p->model.label_count;
    for (size_t b = 0; b < n; b++)
        for (size_t i = 0; i < batches[b].image_count; i++)
            if (label_index(&p->model, batches[b].images[i].label) < 0) model_add_label(&p->model, arena_text(&a, batches[b].images[i].label));
    arena_free(&a);
    *anew = !p->model.net || !same_net(net_spec(p->model.net), wanted);
    if (!*anew && p->model.label_count > before) {
        if (net_grow(p->model.net, p->model.label_count, (uint64_t)p->version + 1, e)) return;
        float *momentum = net_grow_array(p->model.net, before, p->momentum, NULL);
        float *average = net_grow_array(p->model.net, before, p->average, net_params(p->model.net));
        free(p->momentum);
        free(p->average);
        p->momentum = momentum;
        p->average = average;
    } else if (*anew) { /* the first version, or the spec asks for another network now */
        net_free(p->model.net);
        free(p->momentum);
        free(p->average);
        p->momentum = p->average = NULL;
        p->lineage.steps = 0;
        p->model.net = net_make(wanted, p->model.label_count, 1, e);
    }
}

/* ---- the steps ---- */

/* splitmix64 (Steele, Lea, Flood 2014): one seed, one sequence, everywhere. */
static uint64_t next_random(uint64_t *s) {
    uint64_t z = *s += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t below(uint64_t *s, size_t n) {
    return (size_t)((double)(next_random(s) >> 11) * 0x1p-53 * (double)n);
}

static void shuffle(struct rows *r, uint64_t *seed) {
    for (size_t i = r->count; i > 1; i--) {
        unsigned char t[ROW_HEX / 2];
        size_t k = below(seed, i);
        memcpy(t, r->list[i - 1], sizeof t);
        memcpy(r->list[i - 1], r->list[k], sizeof t);
        memcpy(r->list[k], t, sizeof t);
    }
}

struct course {
    int64_t steps, presentations;
    double loss; /* mean over the steps */
};

static enum err_kind study(struct learner *l, struct pupil *p, const struct spec *spec, struct rows *fresh, struct trainer *t, struct page *pg,
                           const struct alive *alive, struct course *c, struct err *e) {
    const struct rows *old = &p->rows;
    uint64_t seed = (uint64_t)p->version + 1;
    size_t batch = (size_t)spec->minibatch, next = fresh->count;
    size_t image = net_image_size(p->model.net), page = READ / batch > 0 ? READ / batch * batch : batch;
    double share = (double)fresh->count / (double)(fresh->count + old->count);
    if (share < spec->fresh) share = spec->fresh;
    if (!old->count) share = 1;
    int64_t steps = (int64_t)ceil(spec->passes * (double)fresh->count / (double)batch);
    if (steps < MIN_STEPS) steps = MIN_STEPS;
    size_t left = fresh->count ? (size_t)steps * batch : 0;
    while (left && !e->kind) {
        size_t n = left < page ? left : page;
        for (size_t i = 0; i < n; i++) {
            bool new = (double)(next_random(&seed) >> 11) * 0x1p-53 < share;
            if (new && next == fresh->count) shuffle(fresh, &seed), next = 0;
            hex_of(new ? fresh->list[next++] : old->list[below(&seed, old->count)], pg->names[i]);
        }
        left -= n;
        pg->count = 0;
        if (images_get(l->images, bytes_of(p->name), (const char (*)[ROW_HEX + 1])pg->names, n, take, pg, e)) break;
        for (int at = 0; at < pg->count; at += (int)batch) {
            int k = pg->count - at < (int)batch ? pg->count - at : (int)batch;
            double warm = (double)(trainer_steps(t) + 1) / WARM_UP;
            trainer_set_rate(t, (float)(spec->rate * (warm < 1 ? warm : 1)));
            c->loss += (double)trainer_step(t, pg->x + (size_t)at * image, pg->label + at, k);
            c->steps++;
            c->presentations += k;
            if (alive->still(alive->ctx, e)) break;
        }
    }
    if (c->steps) c->loss /= (double)c->steps;
    return e->kind;
}

/* ---- a version ---- */

static enum err_kind save(struct learner *l, struct pupil *p, const float *params, char name[HASH_HEX + 1], struct err *e) {
    struct buf file = {0};
    if (!model_save(&p->model, params, &file, e)) (void)!registry_put_artifact(l->registry, buf_bytes(&file), name, e);
    buf_free(&file);
    return e->kind;
}

static enum err_kind save_batches(struct learner *l, struct pupil *p, const struct manifest *batches, size_t n, const struct fresh *f, struct err *e) {
    for (size_t i = 0, from = 0; i < n; from = f->ends[i++]) {
        struct lineage_batch b = {.images = (int64_t)batches[i].image_count};
        struct bytes rows = {f->train.list ? (const void *)(f->train.list + from) : "", (f->ends[i] - from) * sizeof *f->train.list};
        snprintf(b.id, sizeof b.id, "%.*s", (int)batches[i].batch.len, (const char *)batches[i].batch.data);
        if (registry_put_artifact(l->registry, rows, b.rows, e)) return e->kind;
        lineage_add_batch(&p->lineage, &b);
    }
    return ERR_NONE;
}

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* A rate that is too high ends in numbers that are none. Such a version would never recover and serve
   nobody: it keeps the weights that it began with, and people are told. */
static void undo_divergence(struct pupil *p, struct trainer *t, const float *start) {
    size_t n = net_param_count(p->model.net), size = n * sizeof(float);
    if (all_finite(net_params(p->model.net), n) && all_finite(trainer_average(t), n) && all_finite(trainer_momentum(t), n)) return;
    log_error("model %s: training of version %lld diverged; it keeps the weights of before (is train.rate too high?)", p->name, (long long)p->version + 1);
    const float *average = p->average ? p->average : start;
    memcpy(net_params(p->model.net), start, size);
    memcpy(trainer_average(t), average, size);
    memset(trainer_momentum(t), 0, size);
}

/* Weights, momentum and average out of the trainer, into artifacts and into the pupil. */
static enum err_kind graduate(struct learner *l, struct pupil *p, struct trainer *t, const struct spec *spec, struct arena *a, struct trained *out, struct err *e) {
    char artifact[HASH_HEX + 1], lineage[HASH_HEX + 1];
    size_t size = net_param_count(p->model.net) * sizeof(float);
    struct buf text = {0};
    model_set_note(&p->model, "alpha", spec->alpha ? "black" : "white");
    p->average = memcpy(mem_resize(p->average, size), trainer_average(t), size);
    p->momentum = memcpy(mem_resize(p->momentum, size), trainer_momentum(t), size);
    p->lineage.steps = (int64_t)trainer_steps(t);
    if (save(l, p, p->average, artifact, e) || save(l, p, NULL, p->lineage.weights, e) || save(l, p, p->momentum, p->lineage.momentum, e)) return e->kind;
    lineage_encode(&p->lineage, out->model, out->version, out->parent, &text);
    enum err_kind kind = registry_put_artifact(l->registry, buf_bytes(&text), lineage, e);
    buf_free(&text);
    out->artifact = bytes_of(arena_text(a, bytes_of(artifact)));
    out->lineage = bytes_of(arena_text(a, bytes_of(lineage)));
    return kind;
}

static enum err_kind measure(struct learner *l, struct pupil *p, const struct rows *fresh, const struct course *c, const struct alive *alive, struct trained *out, struct err *e) {
    size_t n = fresh->count < LOOK ? fresh->count : LOOK;
    char (*names)[ROW_HEX + 1] = mem_alloc(n * sizeof *names);
    for (size_t i = 0; i < n; i++) hex_of(fresh->list[i], names[i]);
    struct bytes model = bytes_of(p->name);
    if (!judge_score(l->images, model, &p->model, p->average, (const char (*)[ROW_HEX + 1])names, n, alive, &out->training, e))
        (void)!judge_score(l->images, model, &p->model, p->average, (const char (*)[ROW_HEX + 1])p->lineage.evaluation, p->lineage.evaluation_count, alive, &out->evaluation, e);
    if (c->steps) out->training.loss = c->loss;
    free(names);
    return e->kind;
}

/* The training state of the version before is not needed any more; a failure to remove it only costs room. */
static void remove_state(struct learner *l, const char *weights, const char *momentum) {
    struct err ignored = {0};
    if (*weights && registry_remove_artifact(l->registry, bytes_of(weights), &ignored)) return;
    if (*momentum) (void)!registry_remove_artifact(l->registry, bytes_of(momentum), &ignored);
}

static enum err_kind next_version(struct learner *l, struct pupil *p, const struct spec *spec, const struct manifest *batches, size_t n,
                                  struct fresh *f, const struct alive *alive, int64_t start, struct arena *a, struct trained *out, struct err *e) {
    struct net_spec wanted = net_of(spec);
    size_t most = (size_t)(spec->minibatch > READ ? spec->minibatch : READ), image = (size_t)wanted.height * wanted.width * wanted.channels;
    struct page pg = {.pupil = p, .net = &wanted, .x = mem_alloc(most * image), .label = mem_alloc(most * sizeof *pg.label), .names = mem_alloc(most * sizeof *pg.names)};
    struct train_conf conf = {.rate = (float)spec->rate, .momentum = (float)spec->momentum, .weight_decay = (float)spec->decay, .label_smoothing = (float)spec->smoothing,
                              .average = (float)spec->average, .batch = (int)spec->minibatch, .threads = l->threads};
    struct trainer *t = NULL;
    struct course course = {0};
    char weights[HASH_HEX + 1], momentum[HASH_HEX + 1];
    bool anew;
    memcpy(weights, p->lineage.weights, sizeof weights);
    memcpy(momentum, p->lineage.momentum, sizeof momentum);

    grow(p, &wanted, batches, n, &anew, e);
    if (e->kind || (anew && normalise(l, p, &f->train, &pg, e))) goto done;
    if (!(t = trainer_make(p->model.net, &conf, e))) goto done;
    if (!anew) {
        memcpy(trainer_momentum(t), p->momentum, net_param_count(p->model.net) * sizeof(float));
        memcpy(trainer_average(t), p->average, net_param_count(p->model.net) * sizeof(float));
        trainer_set_steps(t, (uint64_t)p->lineage.steps);
    }
    /* study shuffles a copy: the rows artifacts keep the batches' order */
    struct rows shuffled = {.count = f->train.count};
    shuffled.list = memcpy(mem_alloc(f->train.count * sizeof *shuffled.list), f->train.list ? (const void *)f->train.list : "", f->train.count * sizeof *shuffled.list);
    float *start_params = params_of(&p->model);
    enum err_kind kind = study(l, p, spec, &shuffled, t, &pg, alive, &course, e);
    free(shuffled.list);
    if (!kind) undo_divergence(p, t, start_params);
    free(start_params);
    if (kind || save_batches(l, p, batches, n, f, e) || graduate(l, p, t, spec, a, out, e) || measure(l, p, &f->train, &course, alive, out, e)) goto done;
    out->presentations += course.presentations;
    out->labels = p->model.label_count;
    out->seconds = (double)(clock_monotonic_us() - start) * 1e-6;
    if (registry_publish(l->registry, out, e)) goto done;
    remove_state(l, weights, momentum);
    if (f->train.count && add_rows(&p->rows, (struct bytes){f->train.list, f->train.count * sizeof *f->train.list}, e)) goto done;
    p->version = out->version;
done:
    trainer_free(t);
    free(pg.x);
    free(pg.label);
    free(pg.names);
    return e->kind;
}

enum err_kind learner_learn(struct learner *l, struct bytes model, const struct spec *spec, const struct manifest *batches, size_t n,
                            const struct alive *alive, struct arena *a, struct trained *out, struct err *e) {
    int64_t start = clock_monotonic_us();
    struct trained head;
    struct pupil *p = pupil_of(l, model);
    struct fresh f = {.ends = mem_alloc(n * sizeof *f.ends)};
    if (registry_head(l->registry, model, a, &head, e)) goto done;
    if (head.version != p->version || !p->model.net) {
        if (head.version == 0) pupil_clear(p);
        else if (load_head(l, p, &head, e)) goto done;
    }
    for (size_t i = 0; i < n; i++) {
        if (look_at_batch(l, p, spec, &batches[i], &f, e)) goto done;
        f.ends[i] = f.train.count;
    }
    *out = (struct trained){.model = model, .version = head.version + 1, .parent = head.version, .images = head.images + f.images, .presentations = head.presentations,
                            .missing = f.missing, .batches = arena_alloc(a, n * sizeof *out->batches), .batch_count = n, .time_ms = clock_now_ms()};
    for (size_t i = 0; i < n; i++) out->batches[i] = batches[i].batch;
    (void)!next_version(l, p, spec, batches, n, &f, alive, start, a, out, e);
done:
    if (e->kind) pupil_clear(p); /* half a step on: begin again from the registry */
    free(f.train.list);
    free(f.ends);
    return e->kind;
}
