/* net.c: shapes and layout of a net when it is made; the forward pass is a walk over its layers. */
#include "lib/nn/net.h"

#include "lib/base/bytes.h"
#include "lib/nn/layers.h"
#include "lib/nn/matmul.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Floats: what the parameters, one image's output of a layer, and a layer's scratch may take at
 * most. */
static const int64_t MAX_FLOATS = (int64_t)1 << 26;
enum { MAX_KERNEL = 31, MAX_POOL = 15, RUN_FLOATS = 1 << 20 };

void net_spec_mlp(struct net_spec *spec, int height, int width, int channels) {
    *spec = (struct net_spec){
        .height = height,
        .width = width,
        .channels = channels,
        .layer_count = 2,
        .layers = {{.type = LAYER_DENSE, .units = 256}, {.type = LAYER_RELU}},
    };
}

void net_spec_cnn(struct net_spec *spec, int height, int width, int channels) {
    static const int filters[] = {32, 64};
    *spec = (struct net_spec){.height = height, .width = width, .channels = channels};
    struct layer_spec *l = spec->layers;
    int padding = height < 16 || width < 16 ? 2 : 0;
    for (int i = 0; i < 2; i++) {
        *l++ = (struct layer_spec){
            .type = LAYER_CONV, .units = filters[i], .kernel = 5, .stride = 1, .padding = padding};
        *l++ = (struct layer_spec){.type = LAYER_RELU};
        height += 2 * padding - 4;
        width += 2 * padding - 4;
        if (height < 2 || width < 2) continue;
        *l++ = (struct layer_spec){.type = LAYER_MAXPOOL, .kernel = 2};
        height /= 2;
        width /= 2;
    }
    *l++ = (struct layer_spec){.type = LAYER_DENSE, .units = 256};
    *l++ = (struct layer_spec){.type = LAYER_RELU};
    spec->layer_count = (int)(l - spec->layers);
}

/* ---- from the spec to layers ---- */

static enum err_kind wrong(int i, const char *what, struct err *e) {
    return err_bad(e, REASON_BAD_SHAPE, "layer %d: %s", i + 1, what);
}

static void set_dense(struct layer *l, int units) {
    *l = (struct layer){.type = LAYER_DENSE,
                        .in_h = 1,
                        .in_w = 1,
                        .in_c = l->in_h * l->in_w * l->in_c,
                        .out_h = 1,
                        .out_w = 1,
                        .out_c = units,
                        .pool = 1};
}

/* Takes spec->layers[*at] and the ReLU and pool behind it into l, whose in_* are set. */
static enum err_kind take_layer(const struct net_spec *spec, int *at, struct layer *l,
                                struct err *e) {
    int i = *at;
    const struct layer_spec *s = &spec->layers[i];
    if (s->type != LAYER_DENSE && s->type != LAYER_CONV)
        return wrong(i, "a ReLU or a pool must stand behind a dense layer or a convolution", e);
    if (s->units < 1 || s->units > NET_MAX_UNITS) return wrong(i, "units are out of range", e);
    if (s->type == LAYER_DENSE) {
        set_dense(l, s->units);
    } else {
        l->type = LAYER_CONV;
        l->kernel = s->kernel;
        l->stride = s->stride;
        l->padding = s->padding;
        l->pool = 1;
        if (s->kernel < 1 || s->kernel > MAX_KERNEL || s->stride < 1 || s->stride > s->kernel ||
            s->padding < 0 || s->padding >= s->kernel)
            return wrong(i, "kernel, stride or padding are out of range", e);
        int h = l->in_h + 2 * s->padding - s->kernel, w = l->in_w + 2 * s->padding - s->kernel;
        if (h < 0 || w < 0) return wrong(i, "the kernel is larger than its input", e);
        l->out_h = h / s->stride + 1;
        l->out_w = w / s->stride + 1;
        l->out_c = s->units;
    }
    for (i++; i < spec->layer_count; i++) {
        s = &spec->layers[i];
        if (s->type == LAYER_RELU && !l->relu) {
            l->relu = true;
        } else if (s->type == LAYER_MAXPOOL && l->type == LAYER_CONV && l->pool == 1) {
            if (s->kernel < 2 || s->kernel > MAX_POOL)
                return wrong(i, "the pool's kernel is out of range", e);
            if (s->kernel > l->out_h || s->kernel > l->out_w)
                return wrong(i, "the pool is larger than its input", e);
            l->pool = s->kernel;
            l->out_h /= s->kernel;
            l->out_w /= s->kernel;
        } else {
            break;
        }
    }
    *at = i;
    return ERR_NONE;
}

static void add_tensor(struct net *net, int *count, const char *name, int number, const char *what,
                       const struct layer *l, size_t offset) {
    struct net_tensor *t = &net->tensors[(*count)++];
    if (number)
        snprintf(t->name, sizeof t->name, "%s%d.%s", name, number, what);
    else
        snprintf(t->name, sizeof t->name, "%s.%s", name, what);
    t->offset = offset;
    if (offset == l->bias) {
        t->rank = 1;
        t->shape[0] = l->out_c;
        t->count = l->out_c;
    } else if (l->type == LAYER_DENSE) {
        t->rank = 2;
        t->shape[0] = l->in_c;
        t->shape[1] = l->out_c;
        t->count = l->weight_count;
    } else {
        t->rank = 4;
        t->shape[0] = t->shape[1] = l->kernel;
        t->shape[2] = l->in_c;
        t->shape[3] = l->out_c;
        t->count = l->weight_count;
    }
}

/* Sizes, offsets and names, once the layers' shapes are known. */
static enum err_kind lay_out(struct net *net, struct err *e) {
    size_t offset = 0;
    int count = 0, convs = 0, denses = 0;
    for (int i = 0; i < net->layer_count; i++) {
        struct layer *l = &net->layers[i];
        bool last = i == net->layer_count - 1, conv = l->type == LAYER_CONV;
        int64_t window = conv ? (int64_t)l->kernel * l->kernel * l->in_c : l->in_c;
        int64_t out = (int64_t)l->out_h * l->out_w * l->out_c;
        int64_t strip = conv ? (int64_t)l->out_w * l->pool * l->pool * (window + l->out_c) : 0;
        if (window * l->out_c + l->out_c + (int64_t)offset > MAX_FLOATS || out > MAX_FLOATS ||
            strip > MAX_FLOATS)
            return err_bad(e, REASON_BAD_SHAPE, "the network is too large at its layer %d", i + 1);
        l->in_size = (size_t)l->in_h * l->in_w * l->in_c;
        l->out_size = out;
        l->weight_count = window * l->out_c;
        l->weight = offset;
        l->bias = offset + l->weight_count;
        offset = l->bias + l->out_c;
        const char *name = last ? "classes" : conv ? "conv" : "dense";
        int number = last ? 0 : conv ? ++convs : ++denses;
        add_tensor(net, &count, name, number, "weight", l, l->weight);
        add_tensor(net, &count, name, number, "bias", l, l->bias);
    }
    net->param_count = offset;
    return ERR_NONE;
}

static enum err_kind build(struct net *net, struct err *e) {
    const struct net_spec *spec = &net->spec;
    if (spec->height < 1 || spec->height > NET_MAX_SIDE || spec->width < 1 ||
        spec->width > NET_MAX_SIDE || spec->channels < 1 || spec->channels > NET_MAX_CHANNELS)
        return err_bad(e, REASON_BAD_SHAPE, "an input of %d x %d x %d is out of range",
                       spec->height, spec->width, spec->channels);
    if (spec->layer_count < 0 || spec->layer_count > NET_MAX_LAYERS)
        return err_bad(e, REASON_BAD_SHAPE, "%d layers are out of range", spec->layer_count);
    if (net->classes < 1 || net->classes > NET_MAX_CLASSES)
        return err_bad(e, REASON_BAD_SHAPE, "%d classes are out of range (1 to %d)", net->classes,
                       NET_MAX_CLASSES);
    int h = spec->height, w = spec->width, c = spec->channels, at = 0;
    while (at < spec->layer_count) {
        struct layer *l = &net->layers[net->layer_count++];
        *l = (struct layer){.in_h = h, .in_w = w, .in_c = c};
        int from = at;
        if (take_layer(spec, &at, l, e)) return e->kind;
        if (l->type == LAYER_CONV && net->layer_count > 1 && l[-1].type == LAYER_DENSE)
            return wrong(from, "a convolution cannot follow a dense layer", e);
        h = l->out_h, w = l->out_w, c = l->out_c;
    }
    struct layer *l = &net->layers[net->layer_count++];
    *l = (struct layer){.in_h = h, .in_w = w, .in_c = c};
    set_dense(l, net->classes);
    return lay_out(net, e);
}

/* ---- the first weights ---- */

/* splitmix64 (Steele, Lea, Flood 2014), as a number in -1..1 */
static float next_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (float)(int32_t)(z >> 32) / 2147483648.0f;
}

/* Uniform with the variance 2 / inputs before a ReLU (He et al. 2015), 1 / (3 inputs) before the
   softmax; biases are 0. Uniform and not normal, since it needs nothing of libm that differs
   between machines. */
static void draw_params(const struct net *net, uint64_t seed, float *params) {
    for (int i = 0; i < net->layer_count; i++) {
        const struct layer *l = &net->layers[i];
        size_t inputs = l->weight_count / l->out_c;
        float limit = sqrtf((l->relu ? 6.0f : 1.0f) / (float)inputs);
        for (size_t k = 0; k < l->weight_count; k++)
            params[l->weight + k] = limit * next_random(&seed);
        memset(params + l->bias, 0, l->out_c * sizeof *params);
    }
}

size_t net_spec_param_count(const struct net_spec *spec, int classes, struct err *e) {
    struct net net = {.spec = *spec, .classes = classes};
    return build(&net, e) ? 0 : net.param_count;
}

struct net *net_make(const struct net_spec *spec, int classes, uint64_t seed, struct err *e) {
    matmul_setup();
    struct net *net = mem_zeroed(1, sizeof *net);
    net->spec = *spec;
    net->classes = classes;
    for (int c = 0; c < NET_MAX_CHANNELS; c++) net->norm.scale[c] = 1;
    net->temperature = 1;
    if (build(net, e)) {
        free(net);
        return NULL;
    }
    net->params = floats_make(net->param_count);
    draw_params(net, seed, net->params);
    return net;
}

struct net *net_copy(const struct net *net) {
    struct net *copy = mem_alloc(sizeof *copy);
    *copy = *net;
    copy->params = floats_make(net->param_count);
    memcpy(copy->params, net->params, net->param_count * sizeof *net->params);
    return copy;
}

void net_free(struct net *net) {
    if (!net) return;
    free(net->params);
    free(net);
}

const struct net_spec *net_spec(const struct net *net) {
    return &net->spec;
}
int net_classes(const struct net *net) {
    return net->classes;
}
size_t net_image_size(const struct net *net) {
    return (size_t)net->spec.height * net->spec.width * net->spec.channels;
}
struct net_norm *net_norm(struct net *net) {
    return &net->norm;
}
float net_temperature(const struct net *net) {
    return net->temperature;
}
void net_set_temperature(struct net *net, float temperature) {
    net->temperature = temperature;
}
size_t net_param_count(const struct net *net) {
    return net->param_count;
}
float *net_params(struct net *net) {
    return net->params;
}
const struct net_tensor *net_tensors(const struct net *net, int *count) {
    *count = 2 * net->layer_count;
    return net->tensors;
}

/* ---- growing ---- */

float *net_grow_array(const struct net *net, int classes_before, const float *before,
                      const float *fresh) {
    const struct layer *last = &net->layers[net->layer_count - 1];
    float *now = floats_make(net->param_count);
    if (fresh) memcpy(now, fresh, net->param_count * sizeof *now);
    memcpy(now, before, last->weight * sizeof *now); /* the last layer comes last */
    const float *from = before + last->weight;
    for (int row = 0; row <= last->in_c; row++) /* one row an input, and the bias behind them */
        memcpy(now + last->weight + (size_t)row * last->out_c, from + (size_t)row * classes_before,
               classes_before * sizeof *now);
    return now;
}

enum err_kind net_grow(struct net *net, int classes, uint64_t seed, struct err *e) {
    if (classes < net->classes)
        return err_bad(e, REASON_BAD_SHAPE, "a net of %d classes cannot shrink to %d", net->classes,
                       classes);
    struct net *grown = net_make(&net->spec, classes, seed, e);
    if (!grown) return e->kind;
    grown->norm = net->norm;
    grown->temperature = net->temperature;
    float *params = net_grow_array(grown, net->classes, net->params, grown->params);
    free(grown->params);
    free(net->params);
    *net = *grown;
    net->params = params;
    free(grown);
    return ERR_NONE;
}

/* ---- forward ---- */

struct net_run {
    const struct net *net;
    int block; /* images that go through the layers together */
    float *a,
        *b; /* (block, the largest of input and outputs): from one layer to the next, in turn */
    float *scratch;
};

struct net_run *net_run_make(const struct net *net, int max_batch) {
    struct net_run *run = mem_zeroed(1, sizeof *run);
    size_t widest = net_image_size(net), scratch = 0;
    for (int i = 0; i < net->layer_count; i++) {
        const struct layer *l = &net->layers[i];
        size_t need = layer_scratch(l, false);
        if (l->out_size > widest) widest = l->out_size;
        if (need > scratch) scratch = need;
    }
    run->net = net;
    run->block = (int)(RUN_FLOATS / widest);
    if (run->block > max_batch) run->block = max_batch;
    if (run->block < 1) run->block = 1;
    run->a = floats_make(run->block * widest);
    run->b = floats_make(run->block * widest);
    run->scratch = floats_make(scratch);
    return run;
}

void net_run_free(struct net_run *run) {
    if (!run) return;
    free(run->a);
    free(run->b);
    free(run->scratch);
    free(run);
}

/* A block of images: x is run->a or the caller's. */
static void run_block(struct net_run *run, const float *params, const float *x, int n,
                      float *prob) {
    const struct net *net = run->net;
    for (int i = 0; i < net->layer_count; i++) {
        float *y = i == net->layer_count - 1 ? prob : x == run->b ? run->a : run->b;
        layer_forward(&net->layers[i], params, x, n, y, NULL, run->scratch);
        x = y;
    }
    for (size_t i = 0; net->temperature != 1 && i < (size_t)n * net->classes; i++)
        prob[i] /= net->temperature;
    softmax(prob, n, net->classes);
}

void net_forward(struct net_run *run, const float *params, const uint8_t *x, int n, float *prob) {
    const struct net *net = run->net;
    const struct net_spec *spec = &net->spec;
    size_t size = net_image_size(net);
    if (!params) params = net->params;
    for (int at = 0; at < n; at += run->block) {
        int k = n - at < run->block ? n - at : run->block;
        bytes_to_floats(&net->norm, spec->channels, x + at * size,
                        (size_t)k * spec->height * spec->width, run->a);
        run_block(run, params, run->a, k, prob + (size_t)at * net->classes);
    }
}

void net_forward_floats(struct net_run *run, const float *params, const float *x, int n,
                        float *prob) {
    const struct net *net = run->net;
    size_t size = net_image_size(net);
    if (!params) params = net->params;
    for (int at = 0; at < n; at += run->block) {
        int k = n - at < run->block ? n - at : run->block;
        run_block(run, params, x + at * size, k, prob + (size_t)at * net->classes);
    }
}
