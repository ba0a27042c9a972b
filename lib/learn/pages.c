/* pages: two in turn, one of them being learned from while the other is filled. */
#include "lib/learn/pages.h"

#include "lib/base/aside.h"
#include "lib/base/random.h"

#include <stdlib.h>
#include <string.h>

enum {
    READ = 1024,     /* images of a page, at most; but at least a minibatch */
    KEPT = 128 << 20 /* bytes of pixels that are not read again */
};
enum { UNREAD, UNFIT, FIRST }; /* places on the shelf begin with FIRST */

/* What was read already. Images are counted on from the old ones to the new ones; one that is gone, or
   of another shape or label, is UNFIT. */
struct shelf {
    uint32_t *place; /* (old + new) */
    size_t room, count;
    uint8_t *x; /* (room, H, W, C) */
    int *label; /* (room) */
};

struct draw {
    size_t *order, next; /* of the new ones */
    double share;        /* of new ones */
    uint64_t seed;
};

struct slot {
    struct page page;
    size_t *image;   /* drawn */
    uint64_t *drawn; /* the seed of its change */
    size_t wanted;
    struct err err;
};

struct pages {
    const struct course *course;
    const struct pupil *pupil;
    size_t image, most; /* bytes; of a page */
    struct draw draw;
    struct shelf shelf;
    struct slot slots[2], *filling;
    size_t left;                /* to be drawn after the page that is being filled */
    char (*names)[ROW_HEX + 1]; /* to be read, of the page being filled */
    size_t *at;                 /* their places in it */
    struct aside aside;
};

/* ---- which ---- */

static void draw_begin(struct draw *d, const struct course *c, const struct pupil *p) {
    size_t n = c->fresh->count;
    *d = (struct draw){.order = mem_alloc(n * sizeof *d->order),
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

static size_t draw_one(struct pages *ps) {
    struct draw *d = &ps->draw;
    size_t old = ps->pupil->rows.count, fresh = ps->course->fresh->count;
    if (random_uniform(&d->seed) >= d->share)
        return (size_t)(random_uniform(&d->seed) * (double)old);
    if (d->next == fresh) {
        shuffle(d->order, fresh, &d->seed);
        d->next = 0;
    }
    return old + d->order[d->next++];
}

static void name_of(const struct pages *ps, size_t image, char name[ROW_HEX + 1]) {
    size_t old = ps->pupil->rows.count;
    if (image < old)
        rows_name(&ps->pupil->rows, image, name);
    else
        rows_name(ps->course->fresh, image - old, name);
}

/* ---- reading ---- */

static void fill(struct pages *ps, size_t i, const uint8_t *x, int label) {
    struct page *pg = &ps->filling->page;
    memcpy(pg->x + i * ps->image, x, ps->image);
    pg->label[i] = label;
}

/* The label is the row's own, not that of the batch that brought it. */
static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct pages *ps = ctx;
    struct shelf *s = &ps->shelf;
    const struct model *m = &ps->pupil->model;
    const struct net_spec *net = net_spec(m->net);
    size_t image = ps->filling->image[ps->at[i]];
    int label = row && row->label.data ? model_label(m, row->label) : m->label_count;
    (void)revision, (void)e;
    if (image < ps->pupil->rows.count) {
        if (!row) ps->course->gone[image] = 1;
        if (ps->course->used) ps->course->used[image] = 1;
    }
    if (label == m->label_count || row->height != net->height || row->width != net->width ||
        row->channels != net->channels) {
        s->place[image] = UNFIT;
        return ERR_NONE;
    }
    fill(ps, ps->at[i], row->pixels.data, label);
    if (s->place[image] != UNREAD || s->count == s->room) return ERR_NONE;
    memcpy(s->x + s->count * ps->image, row->pixels.data, ps->image);
    s->label[s->count] = label;
    s->place[image] = (uint32_t)(FIRST + s->count++);
    return ERR_NONE;
}

/* Those that are not there leave no gap. */
static void close_gaps(struct pages *ps) {
    struct slot *slot = ps->filling;
    struct page *pg = &slot->page;
    pg->count = 0;
    for (size_t i = 0; i < slot->wanted; i++) {
        if (pg->label[i] < 0) continue;
        size_t to = (size_t)pg->count++;
        if (to != i) memcpy(pg->x + to * ps->image, pg->x + i * ps->image, ps->image);
        pg->label[to] = pg->label[i];
        pg->seed[to] = slot->drawn[i];
    }
}

static void read_page(void *ctx) {
    struct pages *ps = ctx;
    struct slot *slot = ps->filling;
    const struct shelf *s = &ps->shelf;
    size_t unread = 0;
    err_clear(&slot->err);
    for (size_t i = 0; i < slot->wanted; i++) {
        uint32_t place = s->place[slot->image[i]];
        slot->page.label[i] = -1;
        if (place >= FIRST)
            fill(ps, i, s->x + (place - FIRST) * ps->image, s->label[place - FIRST]);
        if (place != UNREAD) continue;
        name_of(ps, slot->image[i], ps->names[unread]);
        ps->at[unread++] = i;
    }
    if (!images_get(ps->course->images, bytes_of(ps->pupil->name),
                    (const char(*)[ROW_HEX + 1]) ps->names, unread, take, ps, &slot->err))
        close_gaps(ps);
}

/* ---- in turn ---- */

static void read_ahead(struct pages *ps) {
    struct slot *slot = ps->filling = &ps->slots[ps->filling == &ps->slots[0]];
    slot->wanted = ps->left < ps->most ? ps->left : ps->most;
    ps->left -= slot->wanted;
    for (size_t i = 0; i < slot->wanted; i++) {
        slot->image[i] = draw_one(ps);
        slot->drawn[i] = random_next(&ps->draw.seed);
    }
    if (slot->wanted) aside_begin(&ps->aside, ps->course->threads > 1, read_page, ps);
}

void pages_begin(struct pages *ps, size_t images) {
    ps->left = images;
    read_ahead(ps);
}

const struct page *pages_next(struct pages *ps, struct err *e) {
    struct slot *slot = ps->filling;
    aside_wait(&ps->aside);
    if (!slot->wanted) return NULL;
    if (slot->err.kind) {
        *e = slot->err;
        return NULL;
    }
    read_ahead(ps);
    return &slot->page;
}

const struct page *pages_sample(struct pages *ps, struct err *e) {
    struct slot *slot = ps->filling = &ps->slots[0];
    size_t all = ps->pupil->rows.count + ps->course->fresh->count;
    slot->wanted = all < ps->most ? all : ps->most;
    for (size_t i = 0; i < slot->wanted; i++) slot->image[i] = i * all / slot->wanted;
    read_page(ps);
    if (!slot->err.kind) return &slot->page;
    *e = slot->err;
    return NULL;
}

double pages_share(const struct pages *ps) {
    return ps->draw.share;
}

struct pages *pages_open(const struct course *c, const struct pupil *p) {
    struct pages *ps = mem_zeroed(1, sizeof *ps);
    size_t image = net_image_size(p->model.net), all = p->rows.count + c->fresh->count,
           batch = (size_t)c->spec->minibatch, most = images_at_once(image, READ);
    most = most > batch ? most / batch * batch : batch;
    ps->course = c;
    ps->pupil = p;
    ps->image = image;
    ps->most = most;
    draw_begin(&ps->draw, c, p);
    ps->shelf.room = all < KEPT / image ? all : KEPT / image;
    ps->shelf.place = mem_zeroed(all, sizeof *ps->shelf.place);
    ps->shelf.x = mem_alloc(ps->shelf.room * image);
    ps->shelf.label = mem_alloc(ps->shelf.room * sizeof *ps->shelf.label);
    ps->names = mem_alloc(most * sizeof *ps->names);
    ps->at = mem_alloc(most * sizeof *ps->at);
    for (int i = 0; i < 2; i++)
        ps->slots[i] = (struct slot){.page = {.x = mem_alloc(most * image),
                                              .label = mem_alloc(most * sizeof(int)),
                                              .seed = mem_alloc(most * sizeof(uint64_t))},
                                     .image = mem_alloc(most * sizeof(size_t)),
                                     .drawn = mem_alloc(most * sizeof(uint64_t))};
    return ps;
}

void pages_close(struct pages *ps) {
    if (!ps) return;
    aside_wait(&ps->aside);
    for (int i = 0; i < 2; i++) {
        struct slot *slot = &ps->slots[i];
        free(slot->page.x);
        free(slot->page.label);
        free(slot->page.seed);
        free(slot->image);
        free(slot->drawn);
    }
    free(ps->draw.order);
    free(ps->shelf.place);
    free(ps->shelf.x);
    free(ps->shelf.label);
    free(ps->names);
    free(ps->at);
    free(ps);
}
