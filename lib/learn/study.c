/*
 * study: images come in pages, of as many steps as fit: while the net learns from one page the next
 * is read from the store and changed. What is drawn depends on the version's number alone, not on
 * who is faster.
 */
#include "lib/learn/study.h"

#include "lib/base/random.h"
#include "lib/image/augment.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIN_STEPS = 16, /* of a version: a handful of images is seen often enough to matter */
    READ = 1024,    /* images of a page, at most; but at least a minibatch */
    WARM_UP =
        100, /* steps of a new net in which the rate rises to its value: the first ones are steep */
};
static const size_t NONE = (size_t)-1;

/* ---- which images ---- */

/* New ones in shuffled order again and again, old ones evenly from all. */
struct draw {
    const struct rows *fresh, *old;
    size_t *order, next; /* of the new ones */
    double share;        /* of new ones */
    uint64_t seed;
};

static void draw_begin(struct draw *d, const struct course *c, const struct pupil *p) {
    size_t n = c->fresh->count;
    *d = (struct draw){.fresh = c->fresh,
                       .old = &p->rows,
                       .order = mem_alloc(n * sizeof *d->order),
                       .next = n,
                       .share = (double)n / (double)(n + p->rows.count + 1),
                       .seed = (uint64_t)p->version + 1};
    for (size_t i = 0; i < n; i++) d->order[i] = i;
    if (d->share < c->spec->fresh) d->share = c->spec->fresh;
    if (!p->rows.count) d->share = 1;
}

static void shuffle(size_t *order, size_t n, uint64_t *seed) {
    for (size_t i = n; i > 1; i--) {
        size_t k = (size_t)(random_uniform(seed) * (double)i), t = order[i - 1];
        order[i - 1] = order[k];
        order[k] = t;
    }
}

/* The name of the next one, and its place among the old ones, NONE for a new one. */
static size_t draw_one(struct draw *d, char name[ROW_HEX + 1]) {
    if (random_uniform(&d->seed) >= d->share) {
        size_t old = (size_t)(random_uniform(&d->seed) * (double)d->old->count);
        rows_name(d->old, old, name);
        return old;
    }
    if (d->next == d->fresh->count) {
        shuffle(d->order, d->fresh->count, &d->seed);
        d->next = 0;
    }
    rows_name(d->fresh, d->order[d->next++], name);
    return NONE;
}

/* ---- pages ---- */

struct page {
    char (*names)[ROW_HEX + 1]; /* what to read */
    size_t *old;                /* its place in pupil->rows, or NONE */
    uint64_t *seed;             /* of its change */
    size_t wanted;
    uint8_t *x; /* (count, H, W, C) */
    int *label; /* (count) */
    int count;  /* that were there */
    struct err err;
};

/* All that fills a page; belongs to the reading thread while there is one. */
struct reader {
    const struct course *course;
    const struct pupil *pupil;
    struct draw draw;
    struct augmenter *augmenter; /* NULL: images stay as they are */
    struct page *page;           /* the one to fill */
    pthread_t thread;
    bool running;
};

/* Whole minibatches. */
static size_t page_images(const struct spec *spec, size_t image) {
    size_t batch = (size_t)spec->minibatch, n = images_at_once(image, READ);
    return n > batch ? n / batch * batch : batch;
}

static void page_make(struct page *pg, size_t most, size_t image) {
    *pg = (struct page){.names = mem_alloc(most * sizeof *pg->names),
                        .old = mem_alloc(most * sizeof *pg->old),
                        .seed = mem_alloc(most * sizeof *pg->seed),
                        .x = mem_alloc(most * image),
                        .label = mem_alloc(most * sizeof *pg->label)};
}

static void page_free(struct page *pg) {
    free(pg->names);
    free(pg->old);
    free(pg->seed);
    free(pg->x);
    free(pg->label);
}

/* The label is the row's own of now: a correction counts from the moment that it is stored. */
static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct reader *r = ctx;
    struct page *pg = r->page;
    const struct net_spec *net = net_spec(r->pupil->model.net);
    (void)revision, (void)e;
    if (!row && pg->old[i] != NONE) r->course->gone[pg->old[i]] = 1;
    if (r->course->used && pg->old[i] != NONE) r->course->used[pg->old[i]] = 1;
    const struct model *m = &r->pupil->model;
    int label = row && row->label.data ? model_label(m, row->label) : m->label_count;
    if (label == m->label_count || row->height != net->height || row->width != net->width ||
        row->channels != net->channels)
        return ERR_NONE;
    uint8_t *to = pg->x + (size_t)pg->count * row->pixels.len;
    if (r->augmenter)
        augmenter_run(r->augmenter, pg->seed[i], row->pixels.data, to);
    else
        memcpy(to, row->pixels.data, row->pixels.len);
    pg->label[pg->count++] = label;
    return ERR_NONE;
}

static enum err_kind page_read(struct reader *r, struct err *e) {
    struct page *pg = r->page;
    pg->count = 0;
    return images_get(r->course->images, bytes_of(r->pupil->name),
                      (const char(*)[ROW_HEX + 1]) pg->names, pg->wanted, take, r, e);
}

static void *reader_main(void *ctx) {
    struct reader *r = ctx;
    (void)!page_read(r, &r->page->err);
    return NULL;
}

/* Draws a page and has it filled, beside the arithmetic where there are threads for that. */
static void reader_begin(struct reader *r, struct page *pg, size_t n) {
    r->page = pg;
    pg->wanted = n;
    err_clear(&pg->err);
    for (size_t i = 0; i < n; i++) {
        pg->old[i] = draw_one(&r->draw, pg->names[i]);
        pg->seed[i] = random_next(&r->draw.seed);
    }
    r->running = r->course->threads > 1 && !pthread_create(&r->thread, NULL, reader_main, r);
    if (!r->running) reader_main(r);
}

static void reader_wait(struct reader *r) {
    if (r->running) pthread_join(r->thread, NULL);
    r->running = false;
}

static struct augmenter *augmenter_of(const struct spec *spec, const struct net_spec *net) {
    struct augment how = spec_augment(spec);
    static const struct augment nothing = {0};
    if (!memcmp(&how, &nothing, sizeof how)) return NULL;
    return augmenter_make(&how, net->height, net->width, net->channels);
}

/* ---- the arithmetic ---- */

/* Mean and standard deviation of each channel over some of all images, evenly taken, as they are. */
static enum err_kind normalise(struct reader *r, struct page *pg, size_t most, struct err *e) {
    struct net *net = r->pupil->model.net;
    struct net_norm *norm = net_norm(net);
    const struct rows *fresh = r->course->fresh, *old = &r->pupil->rows;
    size_t c = (size_t)net_spec(net)->channels, all = old->count + fresh->count;
    double sum[NET_MAX_CHANNELS] = {0}, square[NET_MAX_CHANNELS] = {0};
    struct augmenter *augmenter = r->augmenter;
    r->augmenter = NULL;
    r->page = pg;
    pg->wanted = all < most ? all : most;
    for (size_t i = 0; i < pg->wanted; i++) {
        size_t at = i * all / pg->wanted;
        pg->old[i] = at < old->count ? at : NONE;
        if (at < old->count)
            rows_name(old, at, pg->names[i]);
        else
            rows_name(fresh, at - old->count, pg->names[i]);
    }
    (void)!page_read(r, e);
    r->augmenter = augmenter;
    if (e->kind) return e->kind;
    size_t values = (size_t)pg->count * net_image_size(net) / c;
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

static enum err_kind step_through(struct course *c, struct trainer *t, const struct page *pg,
                                  size_t image, const struct alive *alive, struct err *e) {
    int batch = (int)c->spec->minibatch;
    for (int at = 0; at < pg->count; at += batch) {
        int n = pg->count - at < batch ? pg->count - at : batch;
        double warm = (double)(trainer_steps(t) + 1) / WARM_UP;
        trainer_set_rate(t, (float)(c->spec->rate * (warm < 1 ? warm : 1)));
        c->loss += (double)trainer_step(t, pg->x + (size_t)at * image, pg->label + at, n);
        c->steps++;
        c->presentations += n;
        if (alive->still(alive->ctx, e)) return e->kind;
    }
    return ERR_NONE;
}

/* Two pages in turn: one is learned from while the other is filled. */
static enum err_kind go_through(struct course *c, struct reader *r, struct page pages[2],
                                struct trainer *t, const struct alive *alive, struct err *e) {
    size_t batch = (size_t)c->spec->minibatch, image = net_image_size(r->pupil->model.net),
           page = page_images(c->spec, image);
    int64_t steps = (int64_t)ceil(c->spec->passes * (double)c->fresh->count / (double)batch);
    /* Of a single label there is nothing to learn: every gradient is 0. */
    bool idle = !c->fresh->count || r->pupil->model.label_count < 2;
    size_t left = idle ? 0 : (size_t)(steps > MIN_STEPS ? steps : MIN_STEPS) * batch;
    size_t n = left < page ? left : page;
    struct page *now = &pages[0], *next = &pages[1];
    if (n) reader_begin(r, now, n);
    while (n) {
        reader_wait(r);
        if (now->err.kind) {
            *e = now->err;
            break;
        }
        left -= n;
        n = left < page ? left : page;
        if (n) reader_begin(r, next, n);
        if (step_through(c, t, now, image, alive, e)) break;
        struct page *swap = now;
        now = next;
        next = swap;
    }
    reader_wait(r);
    if (c->steps) c->loss /= (double)c->steps;
    return e->kind;
}

/*
 * New images are drawn more often than old ones, and often they are of one label: what the net would
 * take for its frequency is taken off its logits (logit adjustment, Menon et al. 2021). A label that
 * came n times is to count as n^balance: with 1 as often as it comes, which is best for the likeliest
 * answer; with 0 all alike, which is best for rare ones.
 */
static void set_offset(struct trainer *t, const struct pupil *p, double balance, double share) {
    size_t n = (size_t)p->model.label_count;
    float *offset = mem_zeroed(n, sizeof *offset);
    double old = 0, fresh = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double both = (double)(p->counts[i] + p->fresh[i]);
        old += (double)p->counts[i];
        fresh += (double)p->fresh[i];
        all += both > 0 ? pow(both, balance) : 0;
    }
    for (size_t i = 0; i < n; i++) {
        double both = (double)(p->counts[i] + p->fresh[i]);
        double drawn = (fresh > 0 ? share * (double)p->fresh[i] / fresh : 0) +
                       (old > 0 ? (1 - share) * (double)p->counts[i] / old : 0);
        if (both > 0 && drawn > 0) offset[i] = (float)log(drawn / (pow(both, balance) / all));
    }
    trainer_set_offset(t, offset);
    free(offset);
}

enum err_kind study(struct course *c, struct pupil *p, const struct alive *alive, struct err *e) {
    const struct spec *spec = c->spec;
    struct train_conf conf = {.rate = (float)spec->rate,
                              .momentum = (float)spec->momentum,
                              .weight_decay = (float)spec->decay,
                              .label_smoothing = (float)spec->smoothing,
                              .average = (float)spec->average,
                              .batch = (int)spec->minibatch,
                              .threads = c->threads};
    size_t image = net_image_size(p->model.net), most = page_images(spec, image);
    struct page pages[2];
    struct reader r = {
        .course = c, .pupil = p, .augmenter = augmenter_of(spec, net_spec(p->model.net))};
    struct trainer *t = NULL;
    draw_begin(&r.draw, c, p);
    for (int i = 0; i < 2; i++) page_make(&pages[i], most, image);
    if (p->steps > 0 || !normalise(&r, &pages[0], most, e)) t = pupil_trainer(p, &conf, e);
    if (t) {
        float *start = pupil_params(p);
        set_offset(t, p, spec->balance, r.draw.share);
        if (!go_through(c, &r, pages, t, alive, e)) pupil_learned(p, t, start);
        free(start);
    }
    trainer_free(t);
    for (int i = 0; i < 2; i++) page_free(&pages[i]);
    augmenter_free(r.augmenter);
    free(r.draw.order);
    return e->kind;
}
