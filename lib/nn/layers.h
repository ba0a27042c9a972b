/*
 * layers: what one layer does forward and backward, over n images; internal to lib/nn. A
 * convolution takes its bias, ReLU and pool with it, a dense layer its bias and ReLU.
 *
 * ReLU and adding a bias keep order, so relu(pool(x) + bias) is pool(relu(x + bias)): the pool
 * comes first and the rest touches a quarter of the numbers.
 */
#ifndef DARKROOM_NN_LAYERS_H
#define DARKROOM_NN_LAYERS_H

#include "lib/nn/net.h"

#include <stdbool.h>

struct layer {
    enum layer_type type; /* DENSE or CONV */
    bool relu;
    int in_h, in_w, in_c;    /* DENSE: 1, 1, inputs */
    int out_h, out_w, out_c; /* DENSE: 1, 1, units */
    int kernel, stride, padding;
    int pool;                 /* side of the pool's window; 1: none */
    size_t in_size, out_size; /* floats of one image */
    size_t weight, bias;      /* offsets in the flat array */
    size_t weight_count;      /* floats; the bias has out_c */
};

struct net {
    struct net_spec spec;
    int classes;
    struct net_norm norm;
    float temperature;
    int layer_count;
    struct layer
        layers[NET_MAX_LAYERS + 1]; /* the last is the dense layer to the classes, without ReLU */
    struct net_tensor tensors[2 * NET_MAX_LAYERS + 2];
    size_t param_count;
    float *params;
};

/* Zeros, from the beginning of a cache line on, where wide loads are whole; freed with free(). */
float *floats_make(size_t n);

/* Floats of scratch memory that the calls below need (one caller at a time). */
size_t layer_scratch(const struct layer *l, bool train);

/*
 * x (n, in) to y (n, out). `pick` (n, out) takes, of a pool, the place in the window of what was
 * taken; NULL when no backward follows.
 */
void layer_forward(const struct layer *l, const float *params, const float *x, int n, float *y,
                   uint8_t *pick, float *scratch);

/*
 * dy (n, out) is the loss's gradient by y; what the ReLU stopped is cleared in it. dx (n, in) takes
 * the gradient by x, NULL when nobody needs it. A convolution's own gradient is written to
 * `gradient` (in the layout of the parameters); a dense layer's is left to dense_gradient, which
 * can be shared out better.
 */
void layer_backward(const struct layer *l, const float *params, const float *x, const float *y,
                    const uint8_t *pick, int n, float *dy, float *dx, float *gradient,
                    float *scratch);

/* The rows from..to-1 of a dense layer's weight gradient; sum_rows of dy is its bias gradient. */
void dense_gradient(const struct layer *l, const float *x, const float *dy, int n, int from, int to,
                    float *gradient);

/* conv.c: the same for a convolution alone */
size_t conv_scratch(const struct layer *l, bool train);
void conv_forward(const struct layer *l, const float *params, const float *x, int n, float *y,
                  uint8_t *pick, float *scratch);
void conv_backward(const struct layer *l, const float *params, const float *x, const uint8_t *pick,
                   int n, const float *dy, float *dx, float *gradient, float *scratch);

/* x[i] = (byte / 255 - mean[c]) * scale[c]; `pixels` of `channels` each */
void bytes_to_floats(const struct net_norm *norm, int channels, const uint8_t *bytes, size_t pixels,
                     float *x);
/* y (n, units) <- y + bias, and what is below 0 becomes 0 with relu */
void bias_relu(float *y, const float *bias, size_t n, int units, bool relu);
/* sum (units) <- the sum of the rows of y (n, units) */
void sum_rows(const float *y, size_t n, int units, float *sum);
/* z (n, classes) logits become probabilities; safe for any finite logits */
void softmax(float *z, int n, int classes);
/*
 * z (n, classes) logits become the gradient of the mean loss of a batch of `batch` images by them;
 * returns the sum of the n losses. loss = -sum_j target_j ln p_j.
 */
double softmax_loss(float *z, const int *label, int n, int classes, float smoothing, int batch);

#endif
