/*
 * onnx_layers.c: a walk over the layers, one function a kind. Ours are (N, H, W, C), ONNX convolves
 * (N, C, H, W). So each value is kept in the order in which it was made, and put into another when a
 * layer asks for that, once: the first convolution turns the image, and what stands behind it stays
 * channels first. A dense layer that flattens such an image has the rows of its weights put into
 * that order, so nothing is turned back; only a concatenation, whose order others count on, does so.
 */
#include "lib/export/onnx_layers.h"

#include <string.h>

enum order { PIXELS, CHANNELS_FIRST, FLAT, ORDERS }; /* (N, H, W, C), (N, C, H, W), (N, C) */

/* What a layer made. FLAT as an order of an image is that of our memory: H, W, C. */
struct value {
    const char *as[ORDERS]; /* its names in the graph; NULL: not in this order yet */
    enum order order;       /* the one in which it was made */
    int height, width, channels;
};

struct walk {
    struct graph *g;
    struct arena *arena; /* names, and weights in ONNX's order */
    const float *params;
    const struct net_tensor *next; /* tensors come in the order of the layers that have them */
    struct value made[NET_MAX_LAYERS + 1]; /* by each layer; 0 is the input */
    int number;                            /* of the layer, from 1 */
};

static const char *name_of(struct walk *w, const char *what) {
    return arena_printf(w->arena, "%s_%d", what, w->number);
}

static const char *add_node(struct walk *w, const char *op, const char *output, const char *first,
                            const char *second, const char *third) {
    graph_node(w->g, op, output, (const char *const[]){first, second, third});
    return output;
}

static struct value value_of(const char *name, enum order order, int height, int width,
                             int channels) {
    struct value v = {.order = order, .height = height, .width = width, .channels = channels};
    v.as[order] = name;
    return v;
}

static struct value flat_of(const char *name, int channels) {
    return value_of(name, FLAT, 1, 1, channels);
}

/* A value of the same shape and order. */
static struct value like(const struct value *v, const char *name) {
    return value_of(name, v->order, v->height, v->width, v->channels);
}

/* ---- orders ---- */

static const char *add_transpose(struct walk *w, const char *from, const char *ending,
                                 const int64_t order[4]) {
    const char *name = arena_printf(w->arena, "%s_%s", from, ending);
    add_node(w, "Transpose", name, from, NULL, NULL);
    graph_attribute_list(w->g, "perm", order, 4);
    return name;
}

static const char *add_flatten(struct walk *w, const char *from, const char *output) {
    add_node(w, "Flatten", output, from, NULL, NULL);
    graph_attribute(w->g, "axis", 1);
    return output;
}

static const char *add_reshape(struct walk *w, const char *from, const char *output,
                               const int64_t *shape, int rank) {
    const char *as = arena_printf(w->arena, "%s.shape", output);
    graph_ints(w->g, as, shape, rank);
    return add_node(w, "Reshape", output, from, as, NULL);
}

/* Flattened, (C, H, W) and (H, W, C) are the same where one channel or one place is all. */
static bool turns(const struct value *v) {
    return v->channels > 1 && v->height * v->width > 1;
}

static const char *channels_first(struct walk *w, struct value *v) {
    const char **as = &v->as[CHANNELS_FIRST];
    if (*as) return *as;
    if (v->order == PIXELS)
        return *as =
                   add_transpose(w, v->as[PIXELS], "channels_first", (const int64_t[]){0, 3, 1, 2});
    const char *name = arena_printf(w->arena, "%s_image", v->as[FLAT]);
    const int64_t shape[4] = {0, v->channels, 1, 1}; /* 0: as it is */
    return *as = add_reshape(w, v->as[FLAT], name, shape, 4);
}

static const char *flat(struct walk *w, struct value *v) {
    if (v->as[FLAT]) return v->as[FLAT];
    const char *from = v->as[v->order == PIXELS ? PIXELS : CHANNELS_FIRST];
    if (v->order == CHANNELS_FIRST && turns(v))
        from = add_transpose(w, from, "channels_last", (const int64_t[]){0, 2, 3, 1});
    return v->as[FLAT] = add_flatten(w, from, arena_printf(w->arena, "%s_flat", from));
}

/* The value's name in that order. None is ever put into PIXELS that was not made so. */
static const char *in_order(struct walk *w, struct value *v, enum order order) {
    return order == FLAT ? flat(w, v) : order == PIXELS ? v->as[PIXELS] : channels_first(w, v);
}

/* ---- weights ---- */

/* The next tensor of the file, in its own order, with `ones` axes of size 1 behind its own. */
static const char *add_tensor(struct walk *w, int ones) {
    const struct net_tensor *t = w->next++;
    int64_t shape[GRAPH_MAX_RANK];
    int rank = 0;
    while (rank < t->rank) shape[rank] = t->shape[rank], rank++;
    while (ones--) shape[rank++] = 1;
    graph_weights(w->g, t->name, shape, rank, w->params + t->offset);
    return t->name;
}

/* (kernel, kernel, channels, filters) to (filters, channels, kernel, kernel) */
static const char *add_filters(struct walk *w) {
    const struct net_tensor *t = w->next++;
    int height = t->shape[0], width = t->shape[1], channels = t->shape[2], filters = t->shape[3];
    const float *from = w->params + t->offset;
    float *to = arena_alloc(w->arena, t->count * sizeof *to);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                for (int f = 0; f < filters; f++)
                    to[((f * channels + c) * height + y) * width + x] = *from++;
    graph_weights(w->g, t->name, (const int64_t[]){filters, channels, height, width}, 4, to);
    return t->name;
}

/* (height * width * channels, units) of the image v: the rows to the order channels, height, width */
static const char *add_turned_rows(struct walk *w, const struct value *v) {
    const struct net_tensor *t = w->next++;
    int units = t->shape[1];
    const float *from = w->params + t->offset;
    float *to = arena_alloc(w->arena, t->count * sizeof *to);
    for (int y = 0; y < v->height; y++)
        for (int x = 0; x < v->width; x++)
            for (int c = 0; c < v->channels; c++, from += units)
                memcpy(to + (size_t)((c * v->height + y) * v->width + x) * (size_t)units, from,
                       (size_t)units * sizeof *to);
    graph_weights(w->g, t->name, (const int64_t[]){t->shape[0], units}, 2, to);
    return t->name;
}

static const char *add_equal(struct walk *w, const char *name, int n, float value) {
    float *list = arena_alloc(w->arena, (size_t)n * sizeof *list);
    for (int i = 0; i < n; i++) list[i] = value;
    graph_weights(w->g, name, (const int64_t[]){n}, 1, list);
    return name;
}

/* ---- a function a kind of layer: from x to what it makes ---- */

static struct value dense_to(struct walk *w, struct value *x, const char *output) {
    int units = w->next->shape[1];
    bool turned = !x->as[FLAT] && x->order == CHANNELS_FIRST && turns(x);
    const char *in =
        turned ? add_flatten(w, x->as[CHANNELS_FIRST], name_of(w, "flat")) : flat(w, x);
    const char *weight = turned ? add_turned_rows(w, x) : add_tensor(w, 0);
    const char *bias = add_tensor(w, 0);
    return flat_of(add_node(w, "Gemm", output, in, weight, bias), units);
}

static struct value dense(struct walk *w, const struct layer_spec *l, struct value *x) {
    (void)l; /* its tensors say it all */
    return dense_to(w, x, name_of(w, "dense"));
}

static struct value conv(struct walk *w, const struct layer_spec *l, struct value *x) {
    const int64_t side[2] = {l->kernel, l->kernel}, step[2] = {l->stride, l->stride},
                  pads[4] = {l->padding, l->padding, l->padding, l->padding};
    const char *in = channels_first(w, x), *filters = add_filters(w), *bias = add_tensor(w, 0);
    const char *name = add_node(w, "Conv", name_of(w, "conv"), in, filters, bias);
    graph_attribute_list(w->g, "kernel_shape", side, 2);
    graph_attribute_list(w->g, "strides", step, 2);
    graph_attribute_list(w->g, "pads", pads, 4);
    return value_of(name, CHANNELS_FIRST, (x->height + 2 * l->padding - l->kernel) / l->stride + 1,
                    (x->width + 2 * l->padding - l->kernel) / l->stride + 1, l->units);
}

/* Without ceil_mode a rest at the right or lower edge is left out, as ours does. */
static struct value max_pool(struct walk *w, const struct layer_spec *l, struct value *x) {
    const int64_t side[2] = {l->kernel, l->kernel};
    const char *in = channels_first(w, x);
    const char *name = add_node(w, "MaxPool", name_of(w, "pool"), in, NULL, NULL);
    graph_attribute_list(w->g, "kernel_shape", side, 2);
    graph_attribute_list(w->g, "strides", side, 2);
    return value_of(name, CHANNELS_FIRST, x->height / l->kernel, x->width / l->kernel, x->channels);
}

static struct value relu(struct walk *w, const struct layer_spec *l, struct value *x) {
    (void)l;
    return like(x, add_node(w, "Relu", name_of(w, "relu"), x->as[x->order], NULL, NULL));
}

/* Over both places' axes, wherever the order has them. */
static struct value global_pool(struct walk *w, const struct layer_spec *l, struct value *x) {
    (void)l;
    const int64_t first[2] = {2, 3}, last[2] = {1, 2};
    const char *name =
        add_node(w, "ReduceMean", name_of(w, "global_pool"), x->as[x->order], NULL, NULL);
    graph_attribute_list(w->g, "axes", x->order == PIXELS ? last : first, 2);
    graph_attribute(w->g, "keepdims", 0);
    return flat_of(name, x->channels);
}

/* Groups are what ONNX calls an instance's channels, once all of a group's floats stand in a row. */
static struct value norm(struct walk *w, const struct layer_spec *l, struct value *x) {
    bool is_flat = x->order == FLAT;
    const char *name = is_flat ? x->as[FLAT] : channels_first(w, x);
    const int64_t rows[3] = {0, l->groups, -1}, shape[4] = {0, x->channels, x->height, x->width};
    const char *ones = add_equal(w, name_of(w, "ones"), l->groups, 1);
    const char *zeros = add_equal(w, name_of(w, "zeros"), l->groups, 0);
    name = add_reshape(w, name, name_of(w, "groups"), rows, 3);
    name = add_node(w, "InstanceNormalization", name_of(w, "normal_groups"), name, ones, zeros);
    graph_attribute_float(w->g, "epsilon", 1e-5f);
    name = add_reshape(w, name, name_of(w, "normal"), shape, is_flat ? 2 : 4);
    name = add_node(w, "Mul", name_of(w, "weighted"), name, add_tensor(w, is_flat ? 0 : 2), NULL);
    name = add_node(w, "Add", name_of(w, "norm"), name, add_tensor(w, is_flat ? 0 : 2), NULL);
    return value_of(name, is_flat ? FLAT : CHANNELS_FIRST, x->height, x->width, x->channels);
}

static struct value *other_of(struct walk *w, const struct layer_spec *l) {
    return &w->made[l->from == NET_INPUT ? 0 : l->from];
}

/* Pixels stay pixels only when both are: what comes then will rather want channels first. */
static struct value add(struct walk *w, const struct layer_spec *l, struct value *x) {
    struct value *other = other_of(w, l);
    enum order order = x->order == FLAT || x->order == other->order ? x->order : CHANNELS_FIRST;
    const char *first = in_order(w, x, order), *second = in_order(w, other, order);
    const char *name = add_node(w, "Add", name_of(w, "add"), first, second, NULL);
    return value_of(name, order, x->height, x->width, x->channels);
}

static struct value concat(struct walk *w, const struct layer_spec *l, struct value *x) {
    struct value *other = other_of(w, l);
    const char *first = flat(w, x), *second = flat(w, other);
    const char *name = add_node(w, "Concat", name_of(w, "concat"), first, second, NULL);
    graph_attribute(w->g, "axis", 1);
    return flat_of(name, x->height * x->width * x->channels +
                             other->height * other->width * other->channels);
}

/* ORDER layer_type */
static struct value (*const kinds[])(struct walk *w, const struct layer_spec *l,
                                     struct value *x) = {
    [LAYER_DENSE] = dense,
    [LAYER_CONV] = conv,
    [LAYER_MAXPOOL] = max_pool,
    [LAYER_RELU] = relu,
    [LAYER_GLOBALPOOL] = global_pool,
    [LAYER_NORM] = norm,
    [LAYER_ADD] = add,
    [LAYER_CONCAT] = concat,
};

static struct value *input_of(struct walk *w, const struct layer_spec *l) {
    bool joins = l->type == LAYER_ADD || l->type == LAYER_CONCAT;
    return l->from && !joins ? other_of(w, l) : &w->made[w->number - 1];
}

enum err_kind onnx_add_layers(struct graph *g, struct arena *arena, struct net *net,
                              const char *input, struct err *e) {
    const struct net_spec *spec = net_spec(net);
    int tensors;
    struct walk w = {
        .g = g, .arena = arena, .params = net_params(net), .next = net_tensors(net, &tensors)};
    w.made[0] = value_of(input, PIXELS, spec->height, spec->width, spec->channels);
    for (w.number = 1; w.number <= spec->layer_count; w.number++) {
        const struct layer_spec *l = &spec->layers[w.number - 1];
        unsigned kind = (unsigned)l->type;
        if (kind >= sizeof kinds / sizeof *kinds || !kinds[kind])
            return err_bad(e, REASON_BAD_MODEL_FILE,
                           "layer %d is of a kind (%u) that has no ONNX form here", w.number, kind);
        w.made[w.number] = kinds[kind](&w, l, input_of(&w, l));
    }
    (void)dense_to(&w, &w.made[spec->layer_count], "logits");
    return ERR_NONE;
}
