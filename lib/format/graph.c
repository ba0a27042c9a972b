/* graph.c: the pieces live in one arena, the lists that grow beside it. */
#include "lib/format/graph.h"

#include <onnx.pb-c.h>
#include <stdlib.h>

typedef Darkroom__Onnx__Node Node;
typedef Darkroom__Onnx__Attribute Attribute;
typedef Darkroom__Onnx__Tensor Tensor;
typedef Darkroom__Onnx__ValueInfo ValueInfo;
typedef Darkroom__Onnx__StringEntry StringEntry;

struct graph {
    struct arena arena;
    Darkroom__Onnx__Model model;
    Darkroom__Onnx__Graph graph;
    Darkroom__Onnx__OperatorSet opset, *opsets[1];
    ValueInfo *inputs[1], *outputs[1];
};

static char *text_of(struct graph *g, const char *text) {
    return arena_text(&g->arena, bytes_of(text));
}

#define NEW(g, type, init)                                                                         \
    memcpy(arena_alloc(&(g)->arena, sizeof(type)), &(const type)init, sizeof(type))

/* One more at the end of a list of pointers. */
static void *append(void *list, size_t *n, void *item) {
    void **grown = mem_resize(list, (*n + 1) * sizeof *grown);
    grown[(*n)++] = item;
    return grown;
}

struct graph *graph_make(const char *name, const char *producer, const char *producer_version) {
    struct graph *g = mem_zeroed(1, sizeof *g);
    g->model = (Darkroom__Onnx__Model)DARKROOM__ONNX__MODEL__INIT;
    g->graph = (Darkroom__Onnx__Graph)DARKROOM__ONNX__GRAPH__INIT;
    g->opset = (Darkroom__Onnx__OperatorSet)DARKROOM__ONNX__OPERATOR_SET__INIT;
    g->opset.version = GRAPH_OPSET;
    g->opsets[0] = &g->opset;
    g->graph.name = text_of(g, name);
    g->graph.input = g->inputs;
    g->graph.output = g->outputs;
    g->model.ir_version = GRAPH_IR;
    g->model.producer_name = text_of(g, producer);
    g->model.producer_version = text_of(g, producer_version);
    g->model.graph = &g->graph;
    g->model.n_opset_import = 1;
    g->model.opset_import = g->opsets;
    return g;
}

void graph_free(struct graph *g) {
    if (!g) return;
    for (size_t i = 0; i < g->graph.n_node; i++) free(g->graph.node[i]->attribute);
    free(g->graph.node);
    free(g->graph.initializer);
    free(g->model.metadata_props);
    arena_free(&g->arena);
    free(g);
}

static ValueInfo *value_of(struct graph *g, const char *name, enum graph_type type,
                           const int64_t *shape, int rank, const char *what) {
    ValueInfo *v = NEW(g, ValueInfo, DARKROOM__ONNX__VALUE_INFO__INIT);
    Darkroom__Onnx__TypeTensor *t =
        NEW(g, Darkroom__Onnx__TypeTensor, DARKROOM__ONNX__TYPE_TENSOR__INIT);
    v->name = text_of(g, name);
    v->doc_string = text_of(g, what);
    v->type = NEW(g, Darkroom__Onnx__Type, DARKROOM__ONNX__TYPE__INIT);
    v->type->tensor_type = t;
    t->elem_type = (int32_t)type;
    t->shape = NEW(g, Darkroom__Onnx__Shape, DARKROOM__ONNX__SHAPE__INIT);
    t->shape->n_dim = (size_t)rank;
    t->shape->dim = arena_alloc(&g->arena, (size_t)rank * sizeof *t->shape->dim);
    for (int i = 0; i < rank; i++) {
        Darkroom__Onnx__Shape__Dimension *d =
            NEW(g, Darkroom__Onnx__Shape__Dimension, DARKROOM__ONNX__SHAPE__DIMENSION__INIT);
        if (shape[i] < 0) {
            d->value_case = DARKROOM__ONNX__SHAPE__DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = text_of(g, "N");
        } else {
            d->value_case = DARKROOM__ONNX__SHAPE__DIMENSION__VALUE_DIM_VALUE;
            d->dim_value = shape[i];
        }
        t->shape->dim[i] = d;
    }
    return v;
}

void graph_input(struct graph *g, const char *name, enum graph_type type, const int64_t *shape,
                 int rank, const char *what) {
    g->inputs[0] = value_of(g, name, type, shape, rank, what);
    g->graph.n_input = 1;
}

void graph_output(struct graph *g, const char *name, enum graph_type type, const int64_t *shape,
                  int rank, const char *what) {
    g->outputs[0] = value_of(g, name, type, shape, rank, what);
    g->graph.n_output = 1;
}

/* Numbers in memory are little-endian on every machine that this is built for; proto says so. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "raw_data must be little-endian"
#endif

/* Borrows data, size bytes an item. */
static void add_constant(struct graph *g, const char *name, enum graph_type type,
                         const int64_t *shape, int rank, const void *data, size_t size) {
    Tensor *t = NEW(g, Tensor, DARKROOM__ONNX__TENSOR__INIT);
    t->name = text_of(g, name);
    t->data_type = (int32_t)type;
    t->n_dims = (size_t)rank;
    t->dims = arena_alloc(&g->arena, (size_t)rank * sizeof *t->dims);
    for (int i = 0; i < rank; i++) size *= (size_t)(t->dims[i] = shape[i]);
    t->raw_data.len = size;
    t->raw_data.data = (uint8_t *)(uintptr_t)data; /* only read */
    g->graph.initializer = append(g->graph.initializer, &g->graph.n_initializer, t);
}

static void *copy_of(struct graph *g, const void *data, size_t size) {
    return memcpy(arena_alloc(&g->arena, size), data, size);
}

void graph_weights(struct graph *g, const char *name, const int64_t *shape, int rank,
                   const float *data) {
    add_constant(g, name, GRAPH_FLOAT, shape, rank, data, sizeof *data);
}

void graph_float(struct graph *g, const char *name, float value) {
    graph_weights(g, name, NULL, 0, copy_of(g, &value, sizeof value));
}

void graph_ints(struct graph *g, const char *name, const int64_t *list, int n) {
    const int64_t *copy = copy_of(g, list, (size_t)n * sizeof *list);
    add_constant(g, name, GRAPH_INT64, (const int64_t[]){n}, 1, copy, sizeof *copy);
}

void graph_node(struct graph *g, const char *op, const char *output, const char *const input[3]) {
    Node *n = NEW(g, Node, DARKROOM__ONNX__NODE__INIT);
    n->op_type = text_of(g, op);
    n->name = text_of(g, output);
    n->output = arena_alloc(&g->arena, sizeof *n->output);
    n->output[n->n_output++] = n->name;
    n->input = arena_alloc(&g->arena, 3 * sizeof *n->input);
    for (int i = 0; i < 3 && input[i]; i++) n->input[n->n_input++] = text_of(g, input[i]);
    g->graph.node = append(g->graph.node, &g->graph.n_node, n);
}

static Attribute *add_attribute(struct graph *g, const char *name, int32_t type) {
    Node *n = g->graph.node[g->graph.n_node - 1];
    Attribute *a = NEW(g, Attribute, DARKROOM__ONNX__ATTRIBUTE__INIT);
    a->name = text_of(g, name);
    a->type = type;
    n->attribute = append(n->attribute, &n->n_attribute, a);
    return a;
}

void graph_attribute(struct graph *g, const char *name, int64_t value) {
    add_attribute(g, name, 2)->i = value;
}

void graph_attribute_float(struct graph *g, const char *name, float value) {
    add_attribute(g, name, 1)->f = value;
}

void graph_attribute_list(struct graph *g, const char *name, const int64_t *list, size_t n) {
    Attribute *a = add_attribute(g, name, 7);
    a->n_ints = n;
    a->ints = copy_of(g, list, n * sizeof *list);
}

void graph_about(struct graph *g, int64_t version, const char *what) {
    g->model.model_version = version;
    g->model.doc_string = text_of(g, what);
}

void graph_property(struct graph *g, const char *key, const char *value) {
    StringEntry *s = NEW(g, StringEntry, DARKROOM__ONNX__STRING_ENTRY__INIT);
    s->key = text_of(g, key);
    s->value = text_of(g, value);
    g->model.metadata_props = append(g->model.metadata_props, &g->model.n_metadata_props, s);
}

enum err_kind graph_pack(const struct graph *g, struct buf *out, struct err *e) {
    size_t n = darkroom__onnx__model__get_packed_size(&g->model);
    if (n > INT32_MAX)
        return err_fatal(e, "an ONNX file of %zu bytes is larger than the 2 GiB that it can be", n);
    uint8_t *packed = mem_alloc(n);
    darkroom__onnx__model__pack(&g->model, packed);
    buf_add(out, packed, n);
    free(packed);
    return ERR_NONE;
}
