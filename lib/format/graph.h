/*
 * graph: an ONNX model, built node by node and packed at the end (protobuf-c behind it; onnx.proto
 * has the messages). Values have names; a node takes and gives some of them, in order, so that a
 * name is given before it is taken. Everything is copied but what graph_weights borrows.
 */
#ifndef DARKROOM_FORMAT_GRAPH_H
#define DARKROOM_FORMAT_GRAPH_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

enum { GRAPH_OPSET = 13, GRAPH_IR = 8, GRAPH_MAX_RANK = 4 };
enum graph_type { GRAPH_FLOAT = 1, GRAPH_UINT8 = 2, GRAPH_INT64 = 7 }; /* numbers of ONNX */

struct graph;

struct graph *graph_make(const char *name, const char *producer, const char *producer_version);
void graph_free(struct graph *g); /* NULL is fine */

/* A size of -1 is known only when the model runs, and called "N". */
void graph_input(struct graph *g, const char *name, enum graph_type type, const int64_t *shape,
                 int rank, const char *what);
void graph_output(struct graph *g, const char *name, enum graph_type type, const int64_t *shape,
                  int rank, const char *what);

/* A constant, row-major. graph_weights borrows its data until graph_pack. */
void graph_weights(struct graph *g, const char *name, const int64_t *shape, int rank,
                   const float *data);
void graph_float(struct graph *g, const char *name, float value);               /* rank 0 */
void graph_ints(struct graph *g, const char *name, const int64_t *list, int n); /* rank 1 */

/* op is ONNX's word; input is up to three names, NULL where there are fewer. Attributes belong to
   the node added last. */
void graph_node(struct graph *g, const char *op, const char *output, const char *const input[3]);
void graph_attribute(struct graph *g, const char *name, int64_t value);
void graph_attribute_float(struct graph *g, const char *name, float value);
void graph_attribute_list(struct graph *g, const char *name, const int64_t *list, size_t n);

/* About the whole model, for whoever opens it. */
void graph_about(struct graph *g, int64_t version, const char *what);
void graph_property(struct graph *g, const char *key, const char *value);

/* Appends the file. ERR_FATAL when it is larger than the 2 GiB that ONNX can be. */
enum err_kind graph_pack(const struct graph *g, struct buf *out, struct err *e) MUST_CHECK;

#endif
