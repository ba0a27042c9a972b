/*
 * norm: group normalisation. x, y are (n, places, channels); the channels of one group of one image
 * share a mean and a deviation, r = 1 / sqrt(variance + EPSILON), and t = (x - mean) r:
 *
 *   y = t weight + bias
 *   dbias = sum dy, dweight = sum dy t                          over places and images
 *   dx = r (weight dy - A - t B)   with A, B the group's means of weight dy and of weight dy t
 *
 * The three rows come down to one pass for sums and one for y, or dx, with factors of a channel.
 * Functions work on up to LANES channels at once.
 */
#include "lib/nn/layers.h"
#include "lib/nn/wide.h"

#include <math.h>
#include <string.h>

static const float EPSILON = 1e-5f;

WIDE_INLINE void load(vec *v, const float *p, int count) {
    if (count == LANES) {
        *v = *(const loose *)p;
    } else {
        *v = (vec){0};
        memcpy(v, p, count * sizeof *p);
    }
}

WIDE_INLINE void store(float *p, const vec *v, int count) {
    if (count == LANES)
        *(loose *)p = *v;
    else
        memcpy(p, v, count * sizeof *p);
}

/* The mean of each channel, and the sum of (x - mean)^2. Sums are of x less its first value, which
   is as near to the mean as any: no digits are lost where the mean is far from 0. */
WIDE_INLINE void moments_of(const float *x, size_t places, int c, int count, float *mean,
                            float *square) {
    vec first, d, a[2] = {{0}}, b[2] = {{0}};
    load(&first, x, count);
    for (size_t k = 0; k < places; k++) {
        load(&d, x + k * c, count);
        d -= first;
        a[k % 2] += d;
        b[k % 2] += d * d;
    }
    vec sum = a[0] + a[1], m = sum / (float)places, rest = b[0] + b[1] - sum * m;
    first += m;
    store(mean, &first, count);
    store(square, &rest, count);
}

WIDE static void moments(const float *x, size_t places, int c, float *mean, float *square) {
    int at = 0;
    for (; at + LANES <= c; at += LANES)
        moments_of(x + at, places, c, LANES, mean + at, square + at);
    if (at < c) moments_of(x + at, places, c, c - at, mean + at, square + at);
}

/* y = x a + b, not below low */
WIDE static void scale(const float *x, size_t places, int c, const float *a, const float *b,
                       float low, float *y) {
    for (size_t k = 0; k < places; k++, x += c, y += c)
        for (int i = 0; i < c; i++) {
            float v = x[i] * a[i] + b[i];
            y[i] = v < low ? low : v; /* a NaN stays one */
        }
}

/* sum <- sum of dy, dot <- sum of dy (x - mean) */
WIDE_INLINE void dots_of(const float *x, const float *dy, size_t places, int c, int count,
                         const float *mean, float *sum, float *dot) {
    vec m, d, v, a[2] = {{0}}, b[2] = {{0}};
    load(&m, mean, count);
    for (size_t k = 0; k < places; k++) {
        load(&d, dy + k * c, count);
        load(&v, x + k * c, count);
        a[k % 2] += d;
        b[k % 2] += d * (v - m);
    }
    a[0] += a[1];
    b[0] += b[1];
    store(sum, &a[0], count);
    store(dot, &b[0], count);
}

WIDE static void dots(const float *x, const float *dy, size_t places, int c, const float *mean,
                      float *sum, float *dot) {
    int at = 0;
    for (; at + LANES <= c; at += LANES)
        dots_of(x + at, dy + at, places, c, LANES, mean + at, sum + at, dot + at);
    if (at < c) dots_of(x + at, dy + at, places, c, c - at, mean + at, sum + at, dot + at);
}

/* dx = dy a + x q + b, or added to what dx holds */
WIDE_INLINE void mix_of(const float *x, const float *dy, size_t places, int c, int count,
                        const float *a, const float *q, const float *b, bool add, float *dx) {
    vec d, v, was, va, vq, vb;
    load(&va, a, count);
    load(&vq, q, count);
    load(&vb, b, count);
    for (size_t k = 0; k < places; k++) {
        load(&d, dy + k * c, count);
        load(&v, x + k * c, count);
        v = d * va + (v * vq + vb);
        if (add) {
            load(&was, dx + k * c, count);
            v += was;
        }
        store(dx + k * c, &v, count);
    }
}

WIDE static void mix(const float *x, const float *dy, size_t places, int c, const float *a,
                     const float *q, const float *b, bool add, float *dx) {
    int at = 0;
    for (; at + LANES <= c; at += LANES)
        mix_of(x + at, dy + at, places, c, LANES, a + at, q + at, b + at, add, dx + at);
    if (at < c) mix_of(x + at, dy + at, places, c, c - at, a + at, q + at, b + at, add, dx + at);
}

/* ---- the layer ---- */

/* Forward needs 4 rows of channels and up to 2 for what it would keep, backward 6. */
size_t norm_scratch(const struct layer *l, bool train) {
    return 6 * (size_t)l->in_c;
}

/* keep: mean and 1 / deviation of each group, an image after the other. */
void norm_forward(const struct layer *l, const struct pass *p) {
    int c = l->in_c, width = c / l->groups;
    size_t places = (size_t)l->in_h * l->in_w;
    float *mean = p->scratch, *square = mean + c, *a = square + c, *b = a + c, *own = b + c;
    const float *weight = p->params + l->weight, *bias = p->params + l->bias;
    for (int i = 0; i < p->n; i++) {
        const float *x = p->x + i * l->in_size;
        float *keep = p->keep ? (float *)p->keep + (size_t)i * 2 * l->groups : own;
        moments(x, places, c, mean, square);
        for (int g = 0; g < l->groups; g++) {
            double sum = 0, squares = 0;
            for (int k = g * width; k < (g + 1) * width; k++) sum += mean[k];
            double middle = sum / width;
            for (int k = g * width; k < (g + 1) * width; k++)
                squares += square[k] + places * (mean[k] - middle) * (mean[k] - middle);
            keep[2 * g] = (float)middle;
            keep[2 * g + 1] = (float)(1 / sqrt(squares / ((double)places * width) + EPSILON));
            for (int k = g * width; k < (g + 1) * width; k++) {
                a[k] = keep[2 * g + 1] * weight[k];
                b[k] = bias[k] - keep[2 * g] * a[k];
            }
        }
        scale(x, places, c, a, b, l->relu ? 0 : -INFINITY, p->y + i * l->out_size);
    }
}

void norm_backward(const struct layer *l, const struct pass *p) {
    int c = l->in_c, width = c / l->groups;
    size_t places = (size_t)l->in_h * l->in_w;
    float *mean = p->scratch, *sum = mean + c, *dot = sum + c, *a = dot + c, *q = a + c, *b = q + c;
    const float *weight = p->params + l->weight;
    float *dweight = p->gradient + l->weight, *dbias = p->gradient + l->bias;
    memset(dweight, 0, c * sizeof *dweight);
    memset(dbias, 0, c * sizeof *dbias);
    for (int i = 0; i < p->n; i++) {
        const float *x = p->x + i * l->in_size, *dy = p->dy + i * l->out_size;
        const float *keep = (const float *)p->keep + (size_t)i * 2 * l->groups;
        for (int k = 0; k < c; k++) mean[k] = keep[k / width * 2];
        dots(x, dy, places, c, mean, sum, dot);
        for (int g = 0; g < l->groups; g++) {
            float r = keep[2 * g + 1], m = (float)places * (float)width;
            double all = 0, along = 0; /* A and B, times m */
            for (int k = g * width; k < (g + 1) * width; k++) {
                dbias[k] += sum[k];
                dweight[k] += dot[k] * r;
                all += weight[k] * sum[k];
                along += weight[k] * dot[k] * r;
            }
            for (int k = g * width; k < (g + 1) * width; k++) {
                a[k] = r * weight[k];
                q[k] = -r * r * (float)along / m;
                b[k] = -r * (float)all / m - mean[k] * q[k];
            }
        }
        if (p->dx) mix(x, dy, places, c, a, q, b, l->adds, p->dx + i * l->in_size);
    }
}
