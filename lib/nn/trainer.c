/*
 * trainer: one step in two halves, with all threads waiting for each other after each.
 *
 *   1. every thread takes its part of the images forward and backward; all layers but dense ones put
 *      their gradient into an array of the thread's own
 *   2. every thread takes its part of the parameters: a dense layer's gradient is made here, over the
 *      whole batch at once, so that it never has to be added up; any other's is the sum of the
 *      threads' arrays; and the parameters move at once, while the gradient is in the cache
 *
 * A large dense layer is shared out by its inputs in both halves: a thread adds up what its own
 * inputs mean for all images, and moves their weights, which so never leave its cache. That costs
 * two waits on the way forward.
 */
#include "lib/nn/trainer.h"

#include "lib/base/bytes.h"
#include "lib/base/cpu.h"
#include "lib/nn/crew.h"
#include "lib/nn/layers.h"
#include "lib/nn/optimizer.h"

#include <stdlib.h>
#include <string.h>

struct hand { /* what a thread of the crew has */
    struct trainer *trainer;
    int number;
    float *
        gradient; /* (param_count), written anew each step; the first hand's becomes the sum of all.
                        What dense layers have is not used */
    float *rows;  /* of a dense layer's gradient, (MOVED_ROWS, units) of the widest; NULL */
    float *scratch;
    float *partial; /* (batch, units) of the largest layer that is_large; NULL */
    double loss;    /* sum over its images */
};

struct trainer {
    struct net *net;
    struct train_conf conf;
    uint64_t steps, averaged;
    float *momentum, *second, *average; /* (param_count); NULL when there is none */
    float *offset;                      /* (classes) */

    float *value[NET_MAX_LAYERS + 2];  /* (batch, size); the last is the logits */
    float *delta[NET_MAX_LAYERS + 2];  /* the loss's gradient by value[i]; [0] is not needed */
    uint8_t *keep[NET_MAX_LAYERS + 1]; /* (batch, keep) of layer i; NULL where that is 0 */

    const uint8_t *x; /* of the step under way */
    const int *label;
    int n;
    float *gradient; /* (param_count), wanted instead of a move; NULL */
    void (*prepare)(void *ctx, int number, int from, int n);
    void *prepare_ctx;

    bool convolves;
    struct crew *crew;
    struct hand *hands; /* (conf.threads) */
};

enum {
    LARGE = 32 * 1024, /* weights that are worth the waits */
    MOVED_ROWS = 56    /* of a dense layer's gradient, made and used while they are near */
};

static int part(int n, int number, int of) {
    return (int)((int64_t)n * number / of);
}

/* In a net with convolutions the dense layers are the smaller part of a step, and every wait costs what
   the slower thread was held up since the last one. */
static bool is_large(const struct trainer *t, const struct layer *l) {
    return t->conf.threads > 1 && !t->convolves && l->type == LAYER_DENSE &&
           l->weight_count >= LARGE;
}

/* The images from..from + n - 1 of layer i, forward and backward. Nobody needs the gradient by the
   net's input. */
static struct pass pass_of(struct hand *h, int i, int from, int n) {
    struct trainer *t = h->trainer;
    const struct layer *l = &t->net->layers[i];
    struct pass p = {.n = n,
                     .params = t->net->params,
                     .x = t->value[l->from] + from * l->in_size,
                     .y = t->value[i + 1] + from * l->out_size,
                     .keep = t->keep[i] ? t->keep[i] + from * l->keep : NULL,
                     .scratch = h->scratch,
                     .dy = t->delta[i + 1] + from * l->out_size,
                     .dx = l->from ? t->delta[l->from] + from * l->in_size : NULL,
                     .gradient = h->gradient};
    if (l->other >= 0) p.other = t->value[l->other] + from * l->other_size;
    if (l->other > 0) p.dother = t->delta[l->other] + from * l->other_size;
    return p;
}

/* Layer i: this hand's inputs for all images, then all inputs for its own images, which are p's. */
static void forward_together(struct hand *h, int i, const struct pass *p) {
    struct trainer *t = h->trainer;
    const struct layer *l = &t->net->layers[i];
    int from = part(l->in_c, h->number, t->conf.threads),
        to = part(l->in_c, h->number + 1, t->conf.threads);
    size_t at = p->y - t->value[i + 1], count = (size_t)p->n * l->out_c;
    crew_meet(t->crew);
    dense_partial(l, t->net->params, t->value[l->from], t->n, from, to, h->partial);
    crew_meet(t->crew);
    for (int k = 0; k < t->conf.threads; k++)
        put_floats(p->y, t->hands[k].partial + at, count, k > 0);
    bias_relu(p->y, t->net->params + l->bias, p->n, l->out_c, l->relu);
}

static void images_part(struct hand *h) {
    struct trainer *t = h->trainer;
    struct net *net = t->net;
    const struct net_spec *spec = &net->spec;
    int from = part(t->n, h->number, t->conf.threads),
        to = part(t->n, h->number + 1, t->conf.threads);
    int n = to - from, last = net->layer_count - 1, classes = net->classes;
    if (t->prepare) t->prepare(t->prepare_ctx, h->number, from, n);
    bytes_to_floats(&net->norm, spec->channels, t->x + from * net_image_size(net),
                    (size_t)n * spec->height * spec->width,
                    t->value[0] + from * net_image_size(net));
    for (int i = 0; i <= last; i++) {
        struct pass p = pass_of(h, i, from, n);
        if (is_large(t, &net->layers[i]))
            forward_together(h, i, &p);
        else
            layer_forward(&net->layers[i], &p);
    }
    float *delta = t->delta[last + 1] + (size_t)from * classes;
    memcpy(delta, t->value[last + 1] + (size_t)from * classes, (size_t)n * classes * sizeof *delta);
    h->loss =
        softmax_loss(delta, t->offset, t->label + from, n, classes, t->conf.label_smoothing, t->n);
    for (int i = last; i >= 0; i--) {
        struct pass p = pass_of(h, i, from, n);
        layer_backward(&net->layers[i], &p);
    }
}

/* The parameters from..from + n - 1, by their gradient. */
static void move(struct trainer *t, size_t from, size_t n, const float *gradient) {
    if (!n) return;
    if (t->gradient) {
        memcpy(t->gradient + from, gradient, n * sizeof *gradient);
        return;
    }
    float *w = t->net->params + from;
    optimizer_move(&t->conf, t->steps, w, t->momentum + from, t->second ? t->second + from : NULL,
                   gradient, n);
    if (t->average) optimizer_average(&t->conf, t->averaged, t->average + from, w, n);
}

/* This hand's rows of a dense layer's weight, a few at a time, so that their gradient stays in the first
   caches; the bias is the first hand's. */
static void dense_part(struct hand *h, int i) {
    struct trainer *t = h->trainer;
    const struct layer *l = &t->net->layers[i];
    int end = part(l->in_c, h->number + 1, t->conf.threads);
    for (int row = part(l->in_c, h->number, t->conf.threads); row < end; row += MOVED_ROWS) {
        int next = end - row < MOVED_ROWS ? end : row + MOVED_ROWS;
        dense_gradient(l, t->value[l->from], t->delta[i + 1], t->n, row, next, h->rows);
        move(t, l->weight + (size_t)row * l->out_c, (size_t)(next - row) * l->out_c, h->rows);
    }
    if (h->number > 0) return;
    sum_rows(t->delta[i + 1], t->n, l->out_c, h->rows);
    move(t, l->bias, l->out_c, h->rows);
}

static void params_part(struct hand *h) {
    struct trainer *t = h->trainer;
    int threads = t->conf.threads;
    for (int i = 0; i < t->net->layer_count; i++) {
        const struct layer *l = &t->net->layers[i];
        if (!l->weight_count) continue;
        if (l->type == LAYER_DENSE) {
            dense_part(h, i);
            continue;
        }
        int count = (int)l->weight_count + l->out_c; /* the bias stands behind the weights */
        size_t from = l->weight + part(count, h->number, threads);
        size_t to = l->weight + part(count, h->number + 1, threads);
        float *sum = t->hands[0].gradient + from;
        for (int k = 1; k < threads; k++)
            put_floats(sum, t->hands[k].gradient + from, to - from, true);
        move(t, from, to - from, sum);
    }
}

/* The momentum of a unit that answers nothing any more decays to denormals and stays there. */
static void step(void *ctx, int number) {
    struct trainer *t = ctx;
    uint64_t mode = cpu_denormals_flush();
    images_part(&t->hands[number]);
    crew_meet(t->crew);
    params_part(&t->hands[number]);
    cpu_denormals_restore(mode);
}

static float run(struct trainer *t, const uint8_t *x, const int *label, int n, float *gradient) {
    t->x = x;
    t->label = label;
    t->n = n;
    t->gradient = gradient;
    crew_do(t->crew, step, t);
    double loss = 0;
    for (int i = 0; i < t->conf.threads; i++) loss += t->hands[i].loss;
    return (float)(loss / n);
}

float trainer_step(struct trainer *t, const uint8_t *x, const int *label, int n) {
    float loss = run(t, x, label, n, NULL);
    t->steps++;
    t->averaged++;
    return loss;
}

float trainer_gradient(struct trainer *t, const uint8_t *x, const int *label, int n,
                       float *gradient) {
    return run(t, x, label, n, gradient);
}

static bool in_range(const struct train_conf *c) {
    return (c->optimizer == OPTIMIZER_SGD || c->optimizer == OPTIMIZER_ADAM) && c->rate > 0 &&
           c->second >= 0 && c->second < 1 && c->momentum >= 0 && c->momentum < 1 &&
           c->weight_decay >= 0 && c->label_smoothing >= 0 && c->label_smoothing < 1 &&
           c->average >= 0 && c->average < 1 && c->batch >= 1 && c->threads >= 1 &&
           c->threads <= CREW_MOST;
}

struct trainer *trainer_make(struct net *net, const struct train_conf *conf, struct err *e) {
    if (!in_range(conf)) {
        err_fatal(e, "a value of the training's settings is out of range");
        return NULL;
    }
    struct trainer *t = mem_zeroed(1, sizeof *t);
    size_t count = net->param_count, scratch = 0, partial = 0, units = 0;
    t->net = net;
    t->conf = *conf;
    t->momentum = floats_make(count);
    t->offset = floats_make((size_t)net->classes);
    if (conf->optimizer == OPTIMIZER_ADAM) t->second = floats_make(count);
    if (conf->average > 0) {
        t->average = floats_make(count);
        memcpy(t->average, net->params, count * sizeof *t->average);
    }
    for (int i = 0; i < net->layer_count; i++) t->convolves |= net->layers[i].type == LAYER_CONV;
    t->value[0] = floats_make(conf->batch * net_image_size(net));
    for (int i = 0; i < net->layer_count; i++) {
        const struct layer *l = &net->layers[i];
        size_t need = layer_scratch(l, true);
        t->value[i + 1] = floats_make(conf->batch * l->out_size);
        t->delta[i + 1] = floats_make(conf->batch * l->out_size);
        if (l->keep) t->keep[i] = mem_zeroed(conf->batch, l->keep);
        if (need > scratch) scratch = need;
        if (is_large(t, l) && l->out_size > partial) partial = l->out_size;
        if (l->type == LAYER_DENSE && l->out_size > units) units = l->out_size;
    }
    t->hands = mem_zeroed(conf->threads, sizeof *t->hands);
    for (int i = 0; i < conf->threads; i++)
        t->hands[i] = (struct hand){.trainer = t,
                                    .number = i,
                                    .gradient = floats_make(count),
                                    .rows = units ? floats_make(MOVED_ROWS * units) : NULL,
                                    .scratch = floats_make(scratch),
                                    .partial = partial ? floats_make(conf->batch * partial) : NULL};
    t->crew = crew_make(conf->threads, e);
    if (t->crew) return t;
    trainer_free(t);
    return NULL;
}

void trainer_free(struct trainer *t) {
    if (!t) return;
    crew_free(t->crew);
    for (int i = 0; i < t->conf.threads; i++) {
        free(t->hands[i].gradient);
        free(t->hands[i].rows);
        free(t->hands[i].scratch);
        free(t->hands[i].partial);
    }
    for (int i = 0; i <= t->net->layer_count; i++) {
        free(t->value[i]);
        free(t->delta[i]);
        if (i < t->net->layer_count) free(t->keep[i]);
    }
    free(t->hands);
    free(t->momentum);
    free(t->second);
    free(t->average);
    free(t->offset);
    free(t);
}

void trainer_set_offset(struct trainer *t, const float *offset) {
    memcpy(t->offset, offset, (size_t)t->net->classes * sizeof *offset);
}
void trainer_set_prepare(struct trainer *t, void (*prepare)(void *ctx, int number, int from, int n),
                         void *ctx) {
    t->prepare = prepare;
    t->prepare_ctx = ctx;
}
void trainer_set_rate(struct trainer *t, float rate) {
    t->conf.rate = rate;
}
float *trainer_momentum(struct trainer *t) {
    return t->momentum;
}
float *trainer_second(struct trainer *t) {
    return t->second;
}
float *trainer_average(struct trainer *t) {
    return t->average ? t->average : t->net->params;
}
uint64_t trainer_steps(const struct trainer *t) {
    return t->steps;
}
void trainer_set_steps(struct trainer *t, uint64_t steps) {
    t->steps = steps;
}
uint64_t trainer_averaged(const struct trainer *t) {
    return t->averaged;
}
void trainer_set_averaged(struct trainer *t, uint64_t steps) {
    t->averaged = steps;
}
