/*
 * net: a feed-forward network for images: layers, each over what the layer before it or an earlier
 * one made, and a softmax over the classes at the end. Images are NHWC: x is (n, height, width,
 * channels) row-major; prob is (n, classes) and its rows sum to 1.
 *
 * All parameters are one flat float32 array, so that an average, a momentum or a file is one array
 * of the same layout; net_tensors names its pieces. A net never changes while it is read: any
 * number of threads may run one net, each with a net_run of its own.
 */
#ifndef DARKROOM_NN_NET_H
#define DARKROOM_NN_NET_H

#include "lib/base/err.h"

#include <stddef.h>
#include <stdint.h>

/* x is what comes in, y what goes out, of one image. ORDER layer_type: append only. */
enum layer_type {
    LAYER_DENSE, /* x (inputs), an image flattened; y (units) = x weight + bias */
    LAYER_CONV,  /* x (h, w, c); y ((h + 2 padding - kernel) / stride + 1, the same of w, units) */
    LAYER_MAXPOOL,    /* x (h, w, c); y (h / kernel, w / kernel, c), rounded down: windows do not
                         overlap, and a rest at the right or lower edge is left out */
    LAYER_RELU,       /* y = max(x, 0) */
    LAYER_GLOBALPOOL, /* x (h, w, c); y (c), the mean over all places */
    LAYER_NORM,       /* x, y (h, w, c): group normalisation (Wu and He 2018), y = (x - mean) /
                         sqrt(variance + 1e-5) weight[c] + bias[c] with the mean and variance of one
                         image's group of c / groups channels. No image changes another's answer, so
                         training and serving, large and small batches do the same. */
    LAYER_ADD,    /* y = x + other, of one shape: the end of a residual block (He et al. 2016) */
    LAYER_CONCAT, /* y (x's floats, then other's), both flattened */
};

/*
 * The last dense layer, to the classes, is implied. It flattens what comes to it, as every dense
 * layer does. Every layer's output must go into another layer, or the classes.
 */
struct layer_spec {
    enum layer_type type;
    int units;   /* DENSE: outputs; CONV: filters */
    int kernel;  /* CONV, MAXPOOL: side of the square window */
    int stride;  /* CONV: step of the window */
    int padding; /* CONV: zeros around the image, on every side, less than the kernel */
    int groups;  /* NORM: a divisor of the channels */
    int from; /* ADD, CONCAT: the layer whose output is `other`; else the layer whose output is x.
                    Layers count from 1; NET_INPUT is the image. 0: none is named, x is what the
                    layer before made */
};

enum {
    NET_INPUT = -1, /* as layer_spec.from */
    NET_MAX_LAYERS = 64,
    NET_MAX_CHANNELS = 4,
    NET_MAX_SIDE = 1024, /* pixels */
    NET_MAX_CLASSES = 4096,
    NET_MAX_UNITS = 4096,
};

struct net_spec {
    int height, width, channels; /* of the input */
    int layer_count;
    struct layer_spec layers[NET_MAX_LAYERS];
};

/* The ready networks; any size of input works. net_ready.c has them with their reasons. */
void net_spec_mlp(struct net_spec *spec, int height, int width, int channels);
void net_spec_cnn(struct net_spec *spec, int height, int width, int channels);
void net_spec_wide_and_deep(struct net_spec *spec, int height, int width, int channels);
void net_spec_resnet_small(struct net_spec *spec, int height, int width, int channels);

/* What is taken off a byte before the first layer: (byte / 255 - mean[c]) * scale[c]. A new net has
   mean 0 and scale 1. */
struct net_norm {
    float mean[NET_MAX_CHANNELS], scale[NET_MAX_CHANNELS];
};

/* A named piece of the flat array: data at params + offset, row-major. */
struct net_tensor {
    char name[24]; /* "conv1.weight", "dense1.bias", "norm1.weight", "classes.weight", ... */
    int rank;
    int shape[4]; /* dense weight (inputs, units); conv weight (kernel, kernel, channels, filters);
                     norm weight (channels); bias (units or channels) */
    size_t offset, count; /* floats */
};

struct net;

/* He initialisation from a generator of our own: one seed, one net, on every machine. ERR_BAD
   (bad-shape) names the layer and the field when the layers do not fit the input, each other, or a
   limit. */
struct net *net_make(const struct net_spec *spec, int classes, uint64_t seed,
                     struct err *e) MUST_CHECK;
/* The floats that such a net has; 0 and ERR_BAD (bad-shape) when there can be none. */
size_t net_spec_param_count(const struct net_spec *spec, int classes, struct err *e);
struct net *net_copy(const struct net *net);
void net_free(struct net *net); /* NULL is fine */

const struct net_spec *net_spec(const struct net *net);
int net_classes(const struct net *net);
size_t net_image_size(const struct net *net); /* height * width * channels: bytes of an image */
struct net_norm *net_norm(struct net *net);   /* to read or set; trainers and runs follow it */
/* What a forward pass divides the logits by before the softmax; a new net has 1. A trainer knows
   nothing of it. */
float net_temperature(const struct net *net);
void net_set_temperature(struct net *net, float temperature); /* > 0 */
size_t net_param_count(const struct net *net);
float *net_params(struct net *net); /* (param_count); to read or set */
const struct net_tensor *net_tensors(const struct net *net, int *count);

/*
 * More classes without losing what is known: the old classes' logits stay what they were, the new
 * ones' weights are drawn anew. The flat array is another one afterwards: runs and trainers of this
 * net are to be freed before. ERR_BAD (bad-shape) when `classes` is fewer than now or over the
 * limit.
 */
enum err_kind net_grow(struct net *net, int classes, uint64_t seed, struct err *e) MUST_CHECK;
/* Puts `before`, a flat array of this net when it had classes_before outputs, into the layout that
   it has now: (param_count), to be freed. What is new comes from `fresh` (now's layout; NULL means
   0). */
float *net_grow_array(const struct net *net, int classes_before, const float *before,
                      const float *fresh);

/* The memory that a forward needs, for up to max_batch images at once; borrows the net. */
struct net_run;
struct net_run *net_run_make(const struct net *net, int max_batch);
void net_run_free(struct net_run *run);

/*
 * n <= max_batch images to prob (n, classes); allocates nothing, one thread. `params` is the flat
 * array to use, such as an average; NULL means the net's own. x is bytes, or floats that are
 * normalised already.
 */
void net_forward(struct net_run *run, const float *params, const uint8_t *x, int n, float *prob);
void net_forward_floats(struct net_run *run, const float *params, const float *x, int n,
                        float *prob);

#endif
