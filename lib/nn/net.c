/* net.c: a net is made, grows, and answers; net_build.c has worked out its layers. */
#include "lib/nn/net.h"

#include "lib/base/bytes.h"
#include "lib/base/cpu.h"
#include "lib/base/random.h"
#include "lib/nn/layers.h"
#include "lib/nn/matmul.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_FLOATS = 1 << 20 };

/* ---- the first weights ---- */

static float draw_one(uint64_t *state) { /* in -1..1 */
    return (float)(int32_t)(random_next(state) >> 32) / 2147483648.0f;
}

/* Uniform with the variance 2 / inputs before a ReLU (He et al. 2015), 1 / (3 inputs) before the
   softmax, 1 / inputs elsewhere; biases are 0. Uniform and not normal, since it needs nothing of
   libm that differs between machines. A norm's weights are 1, also at the end of a residual block:
   with 0 there (Goyal et al. 2017) the first hundreds of steps learn little. */
static void draw_params(const struct net *net, uint64_t seed, float *params) {
    for (int i = 0; i < net->layer_count; i++) {
        const struct layer *l = &net->layers[i];
        if (!l->weight_count) continue;
        memset(params + l->bias, 0, l->out_c * sizeof *params);
        if (l->type == LAYER_NORM) {
            for (size_t k = 0; k < l->weight_count; k++) params[l->weight + k] = 1;
            continue;
        }
        size_t inputs = l->weight_count / l->out_c;
        bool last = i == net->layer_count - 1;
        float limit = sqrtf((l->relu ? 6.0f : last ? 1.0f : 3.0f) / (float)inputs);
        for (size_t k = 0; k < l->weight_count; k++)
            params[l->weight + k] = limit * draw_one(&seed);
    }
}

size_t net_spec_param_count(const struct net_spec *spec, int classes, struct err *e) {
    struct net net = {.spec = *spec, .classes = classes};
    return net_build(&net, e) ? 0 : net.param_count;
}

struct net *net_make(const struct net_spec *spec, int classes, uint64_t seed, struct err *e) {
    matmul_setup();
    struct net *net = mem_zeroed(1, sizeof *net);
    net->spec = *spec;
    net->classes = classes;
    for (int c = 0; c < NET_MAX_CHANNELS; c++) net->norm.scale[c] = 1;
    net->temperature = 1;
    if (net_build(net, e)) {
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
    *count = net->tensor_count;
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
    int block;                    /* images that go through the layers together */
    int slot[NET_MAX_LAYERS + 1]; /* of each value but the last, which is the answer */
    int slot_count;
    float *slots[NET_MAX_LAYERS + 1]; /* (block, the largest of input and outputs) */
    float *scratch;
};

/* A value's slot is free again behind the last layer that it goes into. A net without joins needs
   two. */
static void assign_slots(struct net_run *run) {
    const struct net *net = run->net;
    int until[NET_MAX_LAYERS + 1] = {0}; /* by value: the last layer that takes it */
    for (int i = 0; i < net->layer_count; i++) {
        const struct layer *l = &net->layers[i];
        until[l->from] = i;
        if (l->other >= 0) until[l->other] = i;
    }
    int busy_until[NET_MAX_LAYERS + 1]; /* by slot */
    for (int v = 0; v < net->layer_count; v++) {
        int k = 0, maker = v - 1;
        while (k < run->slot_count && busy_until[k] >= maker) k++;
        if (k == run->slot_count) run->slot_count++;
        busy_until[k] = until[v];
        run->slot[v] = k;
    }
}

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
    assign_slots(run);
    for (int k = 0; k < run->slot_count; k++) run->slots[k] = floats_make(run->block * widest);
    run->scratch = floats_make(scratch);
    return run;
}

void net_run_free(struct net_run *run) {
    if (!run) return;
    for (int k = 0; k < run->slot_count; k++) free(run->slots[k]);
    free(run->scratch);
    free(run);
}

/* A block of images: x is value 0, in its slot or the caller's. */
static void run_block(struct net_run *run, const float *params, const float *x, int n,
                      float *prob) {
    const struct net *net = run->net;
    for (int i = 0; i < net->layer_count; i++) {
        const struct layer *l = &net->layers[i];
        struct pass p = {.n = n, .params = params, .scratch = run->scratch};
        p.x = l->from ? run->slots[run->slot[l->from]] : x;
        if (l->other >= 0) p.other = l->other ? run->slots[run->slot[l->other]] : x;
        p.y = i == net->layer_count - 1 ? prob : run->slots[run->slot[i + 1]];
        layer_forward(l, &p);
    }
    for (size_t i = 0; net->temperature != 1 && i < (size_t)n * net->classes; i++)
        prob[i] /= net->temperature;
    softmax(prob, n, net->classes);
}

void net_forward(struct net_run *run, const float *params, const uint8_t *x, int n, float *prob) {
    const struct net *net = run->net;
    const struct net_spec *spec = &net->spec;
    size_t size = net_image_size(net);
    uint64_t mode = cpu_denormals_flush();
    if (!params) params = net->params;
    for (int at = 0; at < n; at += run->block) {
        int k = n - at < run->block ? n - at : run->block;
        bytes_to_floats(&net->norm, spec->channels, x + at * size,
                        (size_t)k * spec->height * spec->width, run->slots[0]);
        run_block(run, params, run->slots[0], k, prob + (size_t)at * net->classes);
    }
    cpu_denormals_restore(mode);
}

void net_forward_floats(struct net_run *run, const float *params, const float *x, int n,
                        float *prob) {
    const struct net *net = run->net;
    size_t size = net_image_size(net);
    uint64_t mode = cpu_denormals_flush();
    if (!params) params = net->params;
    for (int at = 0; at < n; at += run->block) {
        int k = n - at < run->block ? n - at : run->block;
        run_block(run, params, x + at * size, k, prob + (size_t)at * net->classes);
    }
    cpu_denormals_restore(mode);
}
