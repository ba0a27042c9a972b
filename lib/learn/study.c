/*
 * study: images come in pages, of as many steps as fit: while the net learns from one page the next
 * is read from the store. Before each step the threads of the arithmetic change its images: a thread
 * beside them would hold one of them up, and so all. What is drawn depends on the version's number
 * alone, not on who is faster.
 */
#include "lib/learn/study.h"

#include "lib/base/aside.h"
#include "lib/base/clock.h"
#include "lib/base/random.h"
#include "lib/image/augment.h"

#include <math.h>
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
    uint64_t *drawn;            /* the seed of its change */
    size_t wanted;
    uint8_t *x;     /* (count, H, W, C) */
    int *label;     /* (count) */
    uint64_t *seed; /* (count) */
    int count;      /* that were there */
    struct err err;
};

/* All that fills a page; belongs to the reading thread while there is one. */
struct reader {
    const struct course *course;
    const struct pupil *pupil;
    struct draw draw;
    struct page *page; /* the one to fill */
    struct aside aside;
};

/* Whole minibatches. */
static size_t page_images(const struct spec *spec, size_t image) {
    size_t batch = (size_t)spec->minibatch, n = images_at_once(image, READ);
    return n > batch ? n / batch * batch : batch;
}

static void page_make(struct page *pg, size_t most, size_t image) {
    *pg = (struct page){.names = mem_alloc(most * sizeof *pg->names),
                        .old = mem_alloc(most * sizeof *pg->old),
                        .drawn = mem_alloc(most * sizeof *pg->drawn),
                        .x = mem_alloc(most * image),
                        .label = mem_alloc(most * sizeof *pg->label),
                        .seed = mem_alloc(most * sizeof *pg->seed)};
}

static void page_free(struct page *pg) {
    free(pg->names);
    free(pg->old);
    free(pg->drawn);
    free(pg->x);
    free(pg->label);
    free(pg->seed);
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
    memcpy(pg->x + (size_t)pg->count * row->pixels.len, row->pixels.data, row->pixels.len);
    pg->label[pg->count] = label;
    pg->seed[pg->count++] = pg->drawn[i];
    return ERR_NONE;
}

static enum err_kind page_read(struct reader *r, struct err *e) {
    struct page *pg = r->page;
    pg->count = 0;
    return images_get(r->course->images, bytes_of(r->pupil->name),
                      (const char(*)[ROW_HEX + 1]) pg->names, pg->wanted, take, r, e);
}

static void read_page(void *ctx) {
    struct reader *r = ctx;
    (void)!page_read(r, &r->page->err);
}

/* Draws a page and has it filled, beside the arithmetic where there are threads for that. */
static void reader_begin(struct reader *r, struct page *pg, size_t n) {
    r->page = pg;
    pg->wanted = n;
    err_clear(&pg->err);
    for (size_t i = 0; i < n; i++) {
        pg->old[i] = draw_one(&r->draw, pg->names[i]);
        pg->drawn[i] = random_next(&r->draw.seed);
    }
    aside_begin(&r->aside, r->course->threads > 1, read_page, r);
}

/* ---- changed on the way ---- */

/* The images of one step, changed by the threads that learn from them. */
struct changes {
    int threads;
    struct augmenter **augmenters; /* (threads); NULL: images stay as they are */
    size_t image;
    uint8_t *out; /* (a minibatch) */
    const uint8_t *x;
    const uint64_t *seed;
};

static void changes_begin(struct changes *c, const struct spec *spec, const struct net_spec *net,
                          int threads, size_t image) {
    struct augment how = spec_augment(spec);
    static const struct augment nothing = {0};
    *c = (struct changes){.threads = threads, .image = image};
    if (!memcmp(&how, &nothing, sizeof how)) return;
    c->out = mem_alloc((size_t)spec->minibatch * image);
    c->augmenters = mem_alloc((size_t)threads * sizeof(struct augmenter *));
    for (int i = 0; i < threads; i++)
        c->augmenters[i] = augmenter_make(&how, net->height, net->width, net->channels);
}

static void changes_end(struct changes *c) {
    for (int i = 0; i < c->threads && c->augmenters; i++) augmenter_free(c->augmenters[i]);
    free(c->augmenters);
    free(c->out);
}

static void change_part(void *ctx, int number, int from, int n) {
    struct changes *c = ctx;
    for (int i = from; i < from + n; i++) {
        size_t at = (size_t)i * c->image;
        augmenter_run(c->augmenters[number], c->seed[i], c->x + at, c->out + at);
    }
}

/* Where the step will find the page's images from `at` on. */
static const uint8_t *change(struct changes *c, struct trainer *t, const struct page *pg, int at) {
    const uint8_t *x = pg->x + (size_t)at * c->image;
    if (!c->augmenters) return x;
    c->x = x;
    c->seed = pg->seed + at;
    trainer_set_prepare(t, change_part, c);
    return c->out;
}

/* ---- the arithmetic ---- */

/* Mean and standard deviation of each channel over some of all images, evenly taken, as they are. */
static enum err_kind normalise(struct reader *r, struct page *pg, size_t most, struct err *e) {
    struct net *net = r->pupil->model.net;
    struct net_norm *norm = net_norm(net);
    const struct rows *fresh = r->course->fresh, *old = &r->pupil->rows;
    size_t c = (size_t)net_spec(net)->channels, all = old->count + fresh->count;
    double sum[NET_MAX_CHANNELS] = {0}, square[NET_MAX_CHANNELS] = {0};
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
    if (page_read(r, e)) return e->kind;
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

static enum err_kind step_through(struct course *c, struct trainer *t, struct changes *changes,
                                  const struct page *pg, const struct alive *alive, struct err *e) {
    int batch = (int)c->spec->minibatch;
    for (int at = 0; at < pg->count; at += batch) {
        int n = pg->count - at < batch ? pg->count - at : batch;
        double warm = (double)(trainer_steps(t) + 1) / WARM_UP;
        trainer_set_rate(t, (float)(c->spec->rate * (warm < 1 ? warm : 1)));
        c->loss += (double)trainer_step(t, change(changes, t, pg, at), pg->label + at, n);
        c->steps++;
        c->presentations += n;
        if (alive->still(alive->ctx, e)) return e->kind;
    }
    return ERR_NONE;
}

/* Two pages in turn: one is learned from while the other is filled. */
static enum err_kind go_through(struct course *c, struct reader *r, struct page pages[2],
                                struct trainer *t, struct changes *changes,
                                const struct alive *alive, struct err *e) {
    size_t batch = (size_t)c->spec->minibatch, page = page_images(c->spec, changes->image);
    double worth = (double)c->fresh->count + (c->spec->corrected - 1) * (double)c->corrected;
    int64_t steps = (int64_t)ceil(c->spec->passes * worth / (double)batch);
    /* Of a single label there is nothing to learn: every gradient is 0. */
    bool idle = !c->fresh->count || r->pupil->model.label_count < 2;
    size_t left = idle ? 0 : (size_t)(steps > MIN_STEPS ? steps : MIN_STEPS) * batch;
    size_t n = left < page ? left : page;
    struct page *now = &pages[0], *next = &pages[1];
    int64_t begin = clock_monotonic_us();
    if (n) reader_begin(r, now, n);
    while (n) {
        aside_wait(&r->aside);
        if (now->err.kind) {
            *e = now->err;
            break;
        }
        left -= n;
        n = left < page ? left : page;
        if (n) reader_begin(r, next, n);
        if (step_through(c, t, changes, now, alive, e)) break;
        struct page *swap = now;
        now = next;
        next = swap;
    }
    aside_wait(&r->aside);
    if (c->steps) c->loss /= (double)c->steps;
    c->seconds = (double)(clock_monotonic_us() - begin) * 1e-6;
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
    struct reader r = {.course = c, .pupil = p};
    struct changes changes;
    struct trainer *t = NULL;
    draw_begin(&r.draw, c, p);
    changes_begin(&changes, spec, net_spec(p->model.net), c->threads, image);
    for (int i = 0; i < 2; i++) page_make(&pages[i], most, image);
    if (p->steps > 0 || !normalise(&r, &pages[0], most, e)) t = pupil_trainer(p, &conf, e);
    if (t) {
        float *start = pupil_params(p);
        set_offset(t, p, spec->balance, r.draw.share);
        if (!go_through(c, &r, pages, t, &changes, alive, e)) pupil_learned(p, t, start);
        free(start);
    }
    trainer_free(t);
    for (int i = 0; i < 2; i++) page_free(&pages[i]);
    changes_end(&changes);
    free(r.draw.order);
    return e->kind;
}
