/*
 * study: before each step the threads of the arithmetic change its images: a thread beside them would
 * hold one of them up, and so all. What is drawn depends on the version's number alone, not on who is
 * faster.
 */
#include "lib/learn/study.h"

#include "lib/base/clock.h"
#include "lib/image/augment.h"
#include "lib/learn/pages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float SECOND = 0.999f; /* decay of adamw's second moment */
enum {
    MIN_STEPS = 16, /* of a version: a handful of images is seen often enough to matter */
    WARM_UP = 100   /* steps of a new net or optimizer, in which the rate rises: they are steep */
};

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

/* Mean and standard deviation of each channel over some of all images, as they are. */
static enum err_kind normalise(struct pages *pages, struct net *net, struct err *e) {
    const struct page *pg = pages_sample(pages, e);
    if (!pg) return e->kind;
    struct net_norm *norm = net_norm(net);
    size_t c = (size_t)net_spec(net)->channels,
           values = (size_t)pg->count * net_image_size(net) / c;
    double sum[NET_MAX_CHANNELS] = {0}, square[NET_MAX_CHANNELS] = {0};
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
        trainer_set_rate(t, (float)(spec_rate(c->spec) * (warm < 1 ? warm : 1)));
        (void)trainer_step(t, change(changes, t, pg, at), pg->label + at, n);
        c->steps++;
        c->presentations += n;
        if (alive->still(alive->ctx, e)) return e->kind;
    }
    return ERR_NONE;
}

static enum err_kind go_through(struct course *c, const struct pupil *p, struct pages *pages,
                                struct trainer *t, struct changes *changes,
                                const struct alive *alive, struct err *e) {
    size_t batch = (size_t)c->spec->minibatch;
    double worth = (double)c->fresh->count + (c->spec->corrected - 1) * (double)c->corrected;
    int64_t steps = (int64_t)ceil(c->spec->passes * worth / (double)batch);
    /* Of a single label there is nothing to learn: every gradient is 0. */
    bool idle = !c->fresh->count || p->model.label_count < 2;
    int64_t begin = clock_monotonic_us();
    const struct page *page;
    pages_begin(pages, idle ? 0 : (size_t)(steps > MIN_STEPS ? steps : MIN_STEPS) * batch);
    while ((page = pages_next(pages, e)))
        if (step_through(c, t, changes, page, alive, e)) break;
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
    struct train_conf conf = {.optimizer = (enum optimizer)spec->optimizer,
                              .rate = (float)spec_rate(spec),
                              .momentum = (float)spec->momentum,
                              .second = SECOND,
                              .weight_decay = (float)spec->decay,
                              .label_smoothing = (float)spec->smoothing,
                              .average = (float)spec->average,
                              .batch = (int)spec->minibatch,
                              .threads = c->threads};
    struct pages *pages = pages_open(c, p);
    struct changes changes;
    struct trainer *t = NULL;
    changes_begin(&changes, spec, net_spec(p->model.net), c->threads, net_image_size(p->model.net));
    if (p->steps > 0 || !normalise(pages, p->model.net, e)) t = pupil_trainer(p, &conf, e);
    if (t) {
        float *start = pupil_params(p);
        set_offset(t, p, spec->balance, pages_share(pages));
        if (!go_through(c, p, pages, t, &changes, alive, e)) pupil_learned(p, t, start);
        free(start);
    }
    trainer_free(t);
    changes_end(&changes);
    pages_close(pages);
    return e->kind;
}
