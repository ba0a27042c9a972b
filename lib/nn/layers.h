/*
 * layers: what one layer does forward and backward, over n images; internal to lib/nn. One kind of
 * layer, one file; layers.c calls the right one. A convolution takes its bias, ReLU and pool with
 * it, every other layer its ReLU.
 *
 * ReLU and adding a bias keep order, so relu(pool(x) + bias) is pool(relu(x + bias)): the pool
 * comes first and the rest touches a quarter of the numbers.
 *
 * A value is what a layer takes or makes: value 0 is the net's input, value i + 1 what layer i
 * makes. A value may go into several layers; its gradient is the sum of what they say.
 */
#ifndef DARKROOM_NN_LAYERS_H
#define DARKROOM_NN_LAYERS_H

#include "lib/nn/net.h"

#include <stdbool.h>

struct layer {
    enum layer_type type;  /* a RELU only where it could not go along with another */
    bool relu;             /* at its end */
    int from, other;       /* the values that go in; other is -1 but for ADD and CONCAT */
    bool adds, other_adds; /* backward: a layer behind has said its part of the value's gradient */
    int in_h, in_w, in_c;  /* DENSE: 1, 1, inputs */
    int out_h, out_w, out_c; /* DENSE: 1, 1, units */
    int kernel, stride, padding;
    int pool;                             /* CONV, MAXPOOL: side of the pool's window; 1: none */
    int groups;                           /* NORM */
    size_t in_size, other_size, out_size; /* floats of one image */
    size_t keep;                          /* bytes of one image that backward needs of forward */
    size_t weight, bias;                  /* offsets in the flat array */
    size_t weight_count; /* floats; the bias behind them has out_c, or nothing where this is 0 */
};

struct net {
    struct net_spec spec;
    int classes;
    struct net_norm norm;
    float temperature;
    int layer_count;
    struct layer
        layers[NET_MAX_LAYERS + 1]; /* the last is the dense layer to the classes, without ReLU */
    int tensor_count;
    struct net_tensor tensors[2 * NET_MAX_LAYERS + 2];
    size_t param_count;
    float *params;
};

/* net_build.c: layers, tensors and param_count from spec and classes. */
enum err_kind net_build(struct net *net, struct err *e) MUST_CHECK;

/* Zeros, from the beginning of a cache line on, where wide loads are whole; freed with free(). */
float *floats_make(size_t n);

/* The n images that a layer works on. What stands below dy is for backward alone. */
struct pass {
    int n;
    const float *params;
    const float *x, *other; /* (n, in_size), (n, other_size) */
    float *y;               /* (n, out_size) */
    void *keep;             /* (n, keep) bytes; NULL when no backward follows */
    float *scratch;         /* layer_scratch floats, for one caller at a time */
    float *dy;              /* (n, out_size), the loss's gradient by y */
    float *dx, *dother;     /* by x and other; NULL: nobody needs it */
    float *gradient;        /* in the layout of the parameters */
};

size_t layer_scratch(const struct layer *l, bool train);

/* x, other to y; what backward needs to keep. */
void layer_forward(const struct layer *l, const struct pass *p);

/*
 * dy to dx and dother, which are written, or added to where the layer says so, and what the ReLU
 * stopped is cleared in dy. A layer's own gradient is written to `gradient`, but for a dense
 * layer's, which is left to dense_gradient, since that can be shared out better.
 */
void layer_backward(const struct layer *l, const struct pass *p);

/* dense.c. dense_partial writes what the inputs from..to - 1 add to y, without the bias;
   dense_gradient the rows from..to - 1 of the weight's gradient to `rows`, (to - from, units); sum_rows
   of dy is the bias's. */
void dense_forward(const struct layer *l, const struct pass *p);
void dense_partial(const struct layer *l, const float *params, const float *x, int n, int from,
                   int to, float *y);
void dense_backward(const struct layer *l, const struct pass *p);
void dense_gradient(const struct layer *l, const float *x, const float *dy, int n, int from, int to,
                    float *rows);

/* conv.c */
size_t conv_scratch(const struct layer *l, bool train);
void conv_forward(const struct layer *l, const struct pass *p);
void conv_backward(const struct layer *l, const struct pass *p);

/* pool.c. A strip is (pool, width, channels), what a row of a pool's output (out_w, channels) needs,
   width >= out_w * pool. pick (out_w, channels) takes the place in the window of what was taken,
   NULL when no backward follows. unpool_strip leaves alone what stands behind out_w * pool. */
void pool_strip(const struct layer *l, int width, const float *z, float *y, uint8_t *pick);
void unpool_strip(const struct layer *l, int width, const float *dy, const uint8_t *pick,
                  float *dz);
void maxpool_forward(const struct layer *l, const struct pass *p);
void maxpool_backward(const struct layer *l, const struct pass *p);
void globalpool_forward(const struct layer *l, const struct pass *p);
void globalpool_backward(const struct layer *l, const struct pass *p);

/* norm.c */
size_t norm_scratch(const struct layer *l, bool train);
void norm_forward(const struct layer *l, const struct pass *p);
void norm_backward(const struct layer *l, const struct pass *p);

/* join.c: what computes nothing but where values go: ReLU alone, add, concat */
void relu_forward(const struct layer *l, const struct pass *p);
void relu_backward(const struct layer *l, const struct pass *p);
void add_forward(const struct layer *l, const struct pass *p);
void add_backward(const struct layer *l, const struct pass *p);
void concat_forward(const struct layer *l, const struct pass *p);
void concat_backward(const struct layer *l, const struct pass *p);

/* y (n): what is below 0 becomes 0 */
void relu_floats(float *y, size_t n);
/* to (n) <- from, or += from; they do not overlap */
void put_floats(float *to, const float *from, size_t n, bool add);
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
 * returns the sum of the n losses. loss = -sum_j target_j ln p_j. offset (classes) is added to the
 * logits before.
 */
double softmax_loss(float *z, const float *offset, const int *label, int n, int classes,
                    float smoothing, int batch);

#endif
