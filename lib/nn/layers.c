/* layers.c: what all layers share: aligned arrays, bias, ReLU, sums, softmax; and who is called. */
#include "lib/nn/layers.h"

#include "lib/base/bytes.h"
#include "lib/nn/wide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

float *floats_make(size_t n) {
    size_t size = (n * sizeof(float) + 63) / 64 * 64 + 64;
    float *p = aligned_alloc(64, size);
    if (!p)
        return mem_zeroed(size, 1); /* tries again, and ends the process with a line that says so */
    memset(p, 0, size);
    return p;
}

WIDE static void to_floats(const struct net_norm *norm, int channels, const uint8_t *bytes,
                           size_t pixels, float *x) {
    float times[NET_MAX_CHANNELS], plus[NET_MAX_CHANNELS];
    for (int c = 0; c < channels; c++) {
        times[c] = norm->scale[c] / 255;
        plus[c] = -norm->mean[c] * norm->scale[c];
    }
    if (channels == 1) {
        float a = times[0], b = plus[0];
        for (size_t i = 0; i < pixels; i++) x[i] = (float)bytes[i] * a + b;
        return;
    }
    for (size_t i = 0; i < pixels; i++)
        for (int c = 0; c < channels; c++)
            x[i * channels + c] = (float)bytes[i * channels + c] * times[c] + plus[c];
}

WIDE static void add_bias(float *y, const float *bias, size_t n, int units, bool relu) {
    float low = relu ? 0 : -INFINITY;
    for (size_t i = 0; i < n; i++, y += units)
        for (int u = 0; u < units; u++) {
            float v = y[u] + bias[u];
            y[u] = v < low ? low : v; /* a NaN stays one */
        }
}

WIDE static void sum_of_rows(const float *y, size_t n, int units, float *sum) {
    memset(sum, 0, units * sizeof *sum);
    for (size_t i = 0; i < n; i++, y += units)
        for (int u = 0; u < units; u++) sum[u] += y[u];
}

WIDE static void stop_at_relu(float *dy, const float *y, size_t count) {
    for (size_t i = 0; i < count; i++) dy[i] = y[i] > 0 ? dy[i] : 0;
}

WIDE static void only_positive(float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = y[i] < 0 ? 0 : y[i]; /* a NaN stays one */
}

WIDE static void add_to(float *restrict to, const float *restrict from, size_t n) {
    for (size_t i = 0; i < n; i++) to[i] += from[i];
}

void bytes_to_floats(const struct net_norm *norm, int channels, const uint8_t *bytes, size_t pixels,
                     float *x) {
    to_floats(norm, channels, bytes, pixels, x);
}
void bias_relu(float *y, const float *bias, size_t n, int units, bool relu) {
    add_bias(y, bias, n, units, relu);
}
void relu_floats(float *y, size_t n) {
    only_positive(y, n);
}
void put_floats(float *to, const float *from, size_t n, bool add) {
    if (add)
        add_to(to, from, n);
    else
        memcpy(to, from, n * sizeof *to);
}
void sum_rows(const float *y, size_t n, int units, float *sum) {
    sum_of_rows(y, n, units, sum);
}

void softmax(float *z, int n, int classes) {
    for (int i = 0; i < n; i++, z += classes) {
        float top = z[0], sum = 0;
        for (int c = 1; c < classes; c++) top = z[c] > top ? z[c] : top;
        for (int c = 0; c < classes; c++) sum += z[c] = expf(z[c] - top);
        float part = 1 / sum;
        for (int c = 0; c < classes; c++) z[c] *= part;
    }
}

double softmax_loss(float *z, const float *offset, const int *label, int n, int classes,
                    float smoothing, int batch) {
    double loss = 0;
    float rest = smoothing / classes, share = 1.0f / batch;
    for (int i = 0; i < n; i++, z += classes) {
        float top = z[0] + offset[0], sum = 0, sum_z = 0;
        for (int c = 0; c < classes; c++) {
            z[c] += offset[c];
            top = z[c] > top ? z[c] : top;
        }
        for (int c = 0; c < classes; c++) {
            z[c] -= top;
            sum_z += z[c];
            sum += expf(z[c]);
        }
        float ln = logf(sum);
        loss += ln - (1 - smoothing) * z[label[i]] - rest * sum_z;
        for (int c = 0; c < classes; c++) {
            float target = rest + (c == label[i] ? 1 - smoothing : 0);
            z[c] = (expf(z[c] - ln) - target) * share;
        }
    }
    return loss;
}

/* ---- one kind or the other; ORDER layer_type ---- */

static const struct {
    size_t (*scratch)(const struct layer *l, bool train);
    void (*forward)(const struct layer *l, const struct pass *p);
    void (*backward)(const struct layer *l, const struct pass *p);
} kinds[] = {
    [LAYER_DENSE] = {NULL, dense_forward, dense_backward},
    [LAYER_CONV] = {conv_scratch, conv_forward, conv_backward},
    [LAYER_MAXPOOL] = {NULL, maxpool_forward, maxpool_backward},
    [LAYER_RELU] = {NULL, relu_forward, relu_backward},
    [LAYER_GLOBALPOOL] = {NULL, globalpool_forward, globalpool_backward},
    [LAYER_NORM] = {norm_scratch, norm_forward, norm_backward},
    [LAYER_ADD] = {NULL, add_forward, add_backward},
    [LAYER_CONCAT] = {NULL, concat_forward, concat_backward},
};

size_t layer_scratch(const struct layer *l, bool train) {
    return kinds[l->type].scratch ? kinds[l->type].scratch(l, train) : 0;
}

void layer_forward(const struct layer *l, const struct pass *p) {
    kinds[l->type].forward(l, p);
}

void layer_backward(const struct layer *l, const struct pass *p) {
    if (l->relu) stop_at_relu(p->dy, p->y, p->n * l->out_size);
    kinds[l->type].backward(l, p);
}
