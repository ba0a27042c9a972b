/*
 * model: a model's artifact in the forms that other programs read.
 *
 * ONNX (opset 13): one graph from pixels to probabilities.
 *
 *     input   images          uint8 (N, height, width, channels), N any number: the image as the
 *                             model's spec has it, resized, transparency laid over `alpha`
 *     output  probabilities   float (N, classes), in the order of the labels; rows sum to 1
 *
 * Every kind of layer has its form; normalisation, temperature and softmax are in the graph.
 * metadata_props has darkroom.model, .version, .artifact (SHA-256 of the safetensors file), .labels
 * (JSON), .height, .width, .channels, .alpha, .mean, .scale (JSON: (byte / 255 - mean[c]) *
 * scale[c]) and .temperature.
 *
 * JSON: one object for people and scripts: model, version, artifact, net (size of the input, layers),
 * alpha, norm, temperature, labels, notes, and tensors as arrays in arrays; every float is the
 * shortest number that reads back as the same.
 */
#ifndef DARKROOM_EXPORT_MODEL_H
#define DARKROOM_EXPORT_MODEL_H

#include "lib/nn/model.h"

struct export_name { /* of what is exported */
    struct bytes model, artifact;
    int64_t version;
};

/* `file` is the artifact; they append the other form. ERR_BAD (bad-model-file): it is damaged, has a
   layer that has no ONNX form here, or a note that is wrong. */
enum err_kind export_onnx(struct bytes file, const struct export_name *name, struct buf *out,
                          struct err *e) MUST_CHECK;
enum err_kind export_json(struct bytes file, const struct export_name *name, struct buf *out,
                          struct err *e) MUST_CHECK;

/* A float, and an array of them, as JSON. */
void export_float(float value, struct buf *out);
void export_floats(const float *list, size_t n, struct buf *out);

#endif
