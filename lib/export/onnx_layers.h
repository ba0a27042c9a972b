/* onnx_layers: a net's layers as ONNX nodes; onnx.c puts them into a whole model. */
#ifndef DARKROOM_EXPORT_ONNX_LAYERS_H
#define DARKROOM_EXPORT_ONNX_LAYERS_H

#include "lib/base/bytes.h"
#include "lib/format/graph.h"
#include "lib/nn/net.h"

/*
 * Adds all layers and the dense layer to the classes: from the value `input`, float (N, height,
 * width, channels) and normalised, to the value "logits", float (N, classes). Weights lie in the
 * arena or the net until graph_pack. ERR_BAD (bad-model-file) names a layer that has no ONNX form.
 */
enum err_kind onnx_add_layers(struct graph *g, struct arena *arena, struct net *net,
                              const char *input, struct err *e) MUST_CHECK;

#endif
