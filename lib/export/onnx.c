/* onnx.c: a whole ONNX model: what stands before and behind the layers, and what is said about it. */
#include "lib/export/model.h"

#include "lib/base/json.h"
#include "lib/base/version.h"
#include "lib/export/onnx_layers.h"
#include "lib/format/graph.h"

#include <math.h>
#include <stdlib.h>

struct whole {
    struct graph *g;
    struct arena arena; /* names, and weights in ONNX's order */
};

/* The constant may be NULL. */
static void add_node(struct whole *w, const char *op, const char *output, const char *input,
                     const char *constant) {
    graph_node(w->g, op, output, (const char *const[]){input, constant, NULL});
}

/* (byte / 255 - mean) * scale as byte * times + plus, in the arithmetic of our own forward. */
static void add_norm(struct whole *w, const struct net_norm *norm, int channels) {
    float *times = arena_alloc(&w->arena, NET_MAX_CHANNELS * sizeof *times);
    float *plus = arena_alloc(&w->arena, NET_MAX_CHANNELS * sizeof *plus);
    const int64_t shape[1] = {channels};
    for (int c = 0; c < channels; c++) {
        times[c] = norm->scale[c] / 255;
        plus[c] = -norm->mean[c] * norm->scale[c];
    }
    graph_weights(w->g, "norm.times", shape, 1, times);
    graph_weights(w->g, "norm.plus", shape, 1, plus);
    add_node(w, "Cast", "bytes", "images", NULL);
    graph_attribute(w->g, "to", GRAPH_FLOAT);
    add_node(w, "Mul", "scaled", "bytes", "norm.times");
    add_node(w, "Add", "normal", "scaled", "norm.plus");
}

static void add_end(struct whole *w, float temperature) {
    const char *at = "logits";
    if (temperature != 1) {
        graph_float(w->g, "temperature", temperature);
        add_node(w, "Div", "tempered", at, "temperature");
        at = "tempered";
    }
    add_node(w, "Softmax", "probabilities", at, NULL);
    graph_attribute(w->g, "axis", 1);
}

static void put_number(struct whole *w, const char *key, int64_t value) {
    graph_property(w->g, key, arena_printf(&w->arena, "%lld", (long long)value));
}

static void put_floats(struct whole *w, const char *key, const float *list, int n) {
    struct buf b = {0};
    export_floats(list, (size_t)n, &b);
    graph_property(w->g, key, b.data);
    buf_free(&b);
}

static void add_properties(struct whole *w, const struct model *m, const struct export_name *name,
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
    float temperature = net_temperature(m->net);
    struct whole w = {.g = graph_make("darkroom", "darkroom", DARKROOM_VERSION)};
    graph_input(w.g, "images", GRAPH_UINT8,
                (const int64_t[]){-1, spec->height, spec->width, spec->channels}, 4,
                "pixels 0..255, row by row, channels last; transparency laid over darkroom.alpha");
    graph_output(w.g, "probabilities", GRAPH_FLOAT, (const int64_t[]){-1, m->label_count}, 2,
                 "of each of darkroom.labels, in their order");
    graph_about(w.g, name->version, "an image classifier of Darkroom");
    add_norm(&w, net_norm(m->net), spec->channels);
    if (!onnx_add_layers(w.g, &w.arena, m->net, "normal", e)) {
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
