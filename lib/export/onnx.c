/*
 * onnx.c: a walk over the layers, one function a kind. Ours are (N, H, W, C), ONNX convolves
 * (N, C, H, W): the first convolution is preceded by a Transpose, and what stands behind it stays
 * channels-first. A dense layer that flattens such an image has the rows of its weights put into
 * that order, so nothing is turned back when the model runs.
 */
#include "lib/export/model.h"

#include "lib/base/json.h"
#include "lib/base/version.h"
#include "lib/format/graph.h"

#include <math.h>
#include <stdlib.h>

struct walk {
    struct graph *g;
    struct arena arena; /* names, and weights in ONNX's order */
    const float *params;
    const struct net_tensor *next; /* tensors come in the order of the layers that have them */
    const char *at;                /* the value that the next layer takes */
    int height, width, channels;   /* of it */
    enum { PIXELS, CHANNELS_FIRST, FLAT } order;
    int number; /* of the layer, from 1 */
};

static const char *name_of(struct walk *w, const char *what) {
    return arena_printf(&w->arena, "%s_%d", what, w->number);
}

static void add_node(struct walk *w, const char *op, const char *output, const char *second,
                     const char *third) {
    const char *const input[3] = {w->at, second, third};
    graph_node(w->g, op, output, input);
    w->at = output;
}

/* The next tensor of the file, in its own order. */
static const char *add_tensor(struct walk *w) {
    const struct net_tensor *t = w->next++;
    int64_t shape[4];
    for (int d = 0; d < t->rank; d++) shape[d] = t->shape[d];
    graph_weights(w->g, t->name, shape, t->rank, w->params + t->offset);
    return arena_text(&w->arena, bytes_of(t->name));
}

/* (kernel, kernel, channels, filters) to (filters, channels, kernel, kernel) */
static const char *add_filters(struct walk *w) {
    const struct net_tensor *t = w->next++;
    int height = t->shape[0], width = t->shape[1], channels = t->shape[2], filters = t->shape[3];
    const float *from = w->params + t->offset;
    float *to = arena_alloc(&w->arena, t->count * sizeof *to);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++)
                for (int f = 0; f < filters; f++)
                    to[((f * channels + c) * height + y) * width + x] = *from++;
    graph_weights(w->g, t->name, (const int64_t[]){filters, channels, height, width}, 4, to);
    return arena_text(&w->arena, bytes_of(t->name));
}

/* (height * width * channels, units): the rows to the order channels, height, width */
static const char *add_turned_rows(struct walk *w) {
    const struct net_tensor *t = w->next++;
    int units = t->shape[1];
    const float *from = w->params + t->offset;
    float *to = arena_alloc(&w->arena, t->count * sizeof *to);
    for (int y = 0; y < w->height; y++)
        for (int x = 0; x < w->width; x++)
            for (int c = 0; c < w->channels; c++, from += units)
                memcpy(to + (size_t)((c * w->height + y) * w->width + x) * (size_t)units, from,
                       (size_t)units * sizeof *to);
    graph_weights(w->g, t->name, (const int64_t[]){t->shape[0], units}, 2, to);
    return arena_text(&w->arena, bytes_of(t->name));
}

static void dense_to(struct walk *w, const char *output) {
    int units = w->next->shape[1];
    if (w->order != FLAT) {
        add_node(w, "Flatten", name_of(w, "flat"), NULL, NULL);
        graph_attribute(w->g, "axis", 1);
    }
    const char *weight = w->order == CHANNELS_FIRST ? add_turned_rows(w) : add_tensor(w);
    const char *bias = add_tensor(w);
    add_node(w, "Gemm", output, weight, bias);
    w->order = FLAT;
    w->height = w->width = 1;
    w->channels = units;
}

/* ---- a function a kind of layer; each leaves its output in w->at, and that value's shape ---- */

static void dense(struct walk *w, const struct layer_spec *l) {
    (void)l; /* its tensors say it all */
    dense_to(w, name_of(w, "dense"));
}

static void conv(struct walk *w, const struct layer_spec *l) {
    if (w->order == PIXELS) {
        add_node(w, "Transpose", "channels_first", NULL, NULL);
        graph_attribute_list(w->g, "perm", (const int64_t[]){0, 3, 1, 2}, 4);
        w->order = CHANNELS_FIRST;
    }
    const int64_t side[2] = {l->kernel, l->kernel}, step[2] = {l->stride, l->stride},
                  pads[4] = {l->padding, l->padding, l->padding, l->padding};
    const char *filters = add_filters(w), *bias = add_tensor(w);
    add_node(w, "Conv", name_of(w, "conv"), filters, bias);
    graph_attribute_list(w->g, "kernel_shape", side, 2);
    graph_attribute_list(w->g, "strides", step, 2);
    graph_attribute_list(w->g, "pads", pads, 4);
    w->height = (w->height + 2 * l->padding - l->kernel) / l->stride + 1;
    w->width = (w->width + 2 * l->padding - l->kernel) / l->stride + 1;
    w->channels = l->units;
}

/* Without ceil_mode a rest at the right or lower edge is left out, as ours does. */
static void max_pool(struct walk *w, const struct layer_spec *l) {
    const int64_t side[2] = {l->kernel, l->kernel};
    add_node(w, "MaxPool", name_of(w, "pool"), NULL, NULL);
    graph_attribute_list(w->g, "kernel_shape", side, 2);
    graph_attribute_list(w->g, "strides", side, 2);
    w->height /= l->kernel;
    w->width /= l->kernel;
}

static void relu(struct walk *w, const struct layer_spec *l) {
    (void)l;
    add_node(w, "Relu", name_of(w, "relu"), NULL, NULL);
}

static void (*const kinds[])(struct walk *w, const struct layer_spec *l) = {
    [LAYER_DENSE] = dense, [LAYER_CONV] = conv, [LAYER_MAXPOOL] = max_pool, [LAYER_RELU] = relu};

static enum err_kind add_layers(struct walk *w, const struct net_spec *spec, struct err *e) {
    for (int i = 0; i < spec->layer_count; i++) {
        unsigned kind = (unsigned)spec->layers[i].type;
        w->number = i + 1;
        if (kind >= sizeof kinds / sizeof *kinds || !kinds[kind])
            return err_bad(e, REASON_BAD_MODEL_FILE,
                           "layer %d is of a kind (%u) that has no ONNX form here", i + 1, kind);
        kinds[kind](w, &spec->layers[i]);
    }
    w->number = spec->layer_count + 1;
    return ERR_NONE;
}

/* ---- what stands before and behind the layers ---- */

/* (byte / 255 - mean) * scale as byte * times + plus, in the arithmetic of our own forward. */
static void add_norm(struct walk *w, const struct net_norm *norm) {
    float *times = arena_alloc(&w->arena, NET_MAX_CHANNELS * sizeof *times);
    float *plus = arena_alloc(&w->arena, NET_MAX_CHANNELS * sizeof *plus);
    const int64_t shape[1] = {w->channels};
    for (int c = 0; c < w->channels; c++) {
        times[c] = norm->scale[c] / 255;
        plus[c] = -norm->mean[c] * norm->scale[c];
    }
    graph_weights(w->g, "norm.times", shape, 1, times);
    graph_weights(w->g, "norm.plus", shape, 1, plus);
    add_node(w, "Cast", "bytes", NULL, NULL);
    graph_attribute(w->g, "to", GRAPH_FLOAT);
    add_node(w, "Mul", "scaled", "norm.times", NULL);
    add_node(w, "Add", "normal", "norm.plus", NULL);
}

static void add_end(struct walk *w, float temperature) {
    dense_to(w, "logits");
    if (temperature != 1) {
        graph_float(w->g, "temperature", temperature);
        add_node(w, "Div", "tempered", "temperature", NULL);
    }
    add_node(w, "Softmax", "probabilities", NULL, NULL);
    graph_attribute(w->g, "axis", 1);
}

static void put_number(struct walk *w, const char *key, int64_t value) {
    graph_property(w->g, key, arena_printf(&w->arena, "%lld", (long long)value));
}

static void put_floats(struct walk *w, const char *key, const float *list, int n) {
    struct buf b = {0};
    export_floats(list, (size_t)n, &b);
    graph_property(w->g, key, b.data);
    buf_free(&b);
}

static void add_properties(struct walk *w, const struct model *m, const struct export_name *name,
                           float temperature) {
    const struct net_spec *spec = net_spec(m->net);
    const struct net_norm *norm = net_norm(m->net);
    const char *alpha = model_note(m, "alpha");
    struct buf text = {0};
    buf_add_text(&text, "[");
    for (int i = 0; i < m->label_count; i++) {
        if (i) buf_add_text(&text, ",");
        json_quote(&text, bytes_of(m->labels[i]));
    }
    buf_add_text(&text, "]");
    graph_property(w->g, "darkroom.model", arena_text(&w->arena, name->model));
    put_number(w, "darkroom.version", name->version);
    graph_property(w->g, "darkroom.artifact", arena_text(&w->arena, name->artifact));
    graph_property(w->g, "darkroom.labels", text.data);
    put_number(w, "darkroom.height", spec->height);
    put_number(w, "darkroom.width", spec->width);
    put_number(w, "darkroom.channels", spec->channels);
    graph_property(w->g, "darkroom.alpha", alpha ? alpha : "white");
    put_floats(w, "darkroom.mean", norm->mean, spec->channels);
    put_floats(w, "darkroom.scale", norm->scale, spec->channels);
    buf_clear(&text);
    export_float(temperature, &text);
    graph_property(w->g, "darkroom.temperature", text.data);
    buf_free(&text);
}

static enum err_kind write_graph(const struct model *m, const struct export_name *name,
                                 struct buf *out, struct err *e) {
    const struct net_spec *spec = net_spec(m->net);
    int tensors;
    float temperature = net_temperature(m->net);
    struct walk w = {.g = graph_make("darkroom", "darkroom", DARKROOM_VERSION),
                     .params = net_params(m->net),
                     .next = net_tensors(m->net, &tensors),
                     .at = "images",
                     .height = spec->height,
                     .width = spec->width,
                     .channels = spec->channels};
    graph_input(w.g, "images", GRAPH_UINT8,
                (const int64_t[]){-1, spec->height, spec->width, spec->channels}, 4,
                "pixels 0..255, row by row, channels last; transparency laid over darkroom.alpha");
    graph_output(w.g, "probabilities", GRAPH_FLOAT, (const int64_t[]){-1, m->label_count}, 2,
                 "of each of darkroom.labels, in their order");
    graph_about(w.g, name->version, "an image classifier of Darkroom");
    add_norm(&w, net_norm(m->net));
    if (!add_layers(&w, spec, e)) {
        add_end(&w, temperature);
        add_properties(&w, m, name, temperature);
        (void)!graph_pack(w.g, out, e);
    }
    graph_free(w.g);
    arena_free(&w.arena);
    return e->kind;
}

enum err_kind export_onnx(struct bytes file, const struct export_name *name, struct buf *out,
                          struct err *e) {
    struct model m;
    if (!model_load(file, &m, e)) (void)!write_graph(&m, name, out, e);
    model_free(&m);
    return e->kind;
}
