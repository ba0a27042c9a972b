/*
 * join: layers that compute nothing, but say where values go: a ReLU that stands alone, the sum of
 * two values (the shortcut of a residual block), and one behind the other (a wide path beside a deep
 * one). Their gradient is dy itself, which layer_backward has cleared where a ReLU stopped it.
 */
#include "lib/nn/layers.h"
#include "lib/nn/wide.h"

#include <math.h>
#include <string.h>

WIDE static void add_relu(const float *x, const float *other, float *y, size_t n, float low) {
    for (size_t i = 0; i < n; i++) {
        float v = x[i] + other[i];
        y[i] = v < low ? low : v; /* a NaN stays one */
    }
}

void relu_forward(const struct layer *l, const struct pass *p) {
    put_floats(p->y, p->x, p->n * l->out_size, false);
    relu_floats(p->y, p->n * l->out_size);
}

void relu_backward(const struct layer *l, const struct pass *p) {
    if (p->dx) put_floats(p->dx, p->dy, p->n * l->out_size, l->adds);
}

void add_forward(const struct layer *l, const struct pass *p) {
    add_relu(p->x, p->other, p->y, p->n * l->out_size, l->relu ? 0 : -INFINITY);
}

void add_backward(const struct layer *l, const struct pass *p) {
    if (p->dx) put_floats(p->dx, p->dy, p->n * l->out_size, l->adds);
    if (p->dother) put_floats(p->dother, p->dy, p->n * l->out_size, l->other_adds);
}

/* x (n, in_size) and other (n, other_size) to y (n, in_size + other_size) */
void concat_forward(const struct layer *l, const struct pass *p) {
    for (int i = 0; i < p->n; i++) {
        float *y = p->y + i * l->out_size;
        memcpy(y, p->x + i * l->in_size, l->in_size * sizeof *y);
        memcpy(y + l->in_size, p->other + i * l->other_size, l->other_size * sizeof *y);
    }
    if (l->relu) relu_floats(p->y, p->n * l->out_size);
}

void concat_backward(const struct layer *l, const struct pass *p) {
    for (int i = 0; i < p->n; i++) {
        const float *dy = p->dy + i * l->out_size;
        if (p->dx) put_floats(p->dx + i * l->in_size, dy, l->in_size, l->adds);
        if (p->dother)
            put_floats(p->dother + i * l->other_size, dy + l->in_size, l->other_size,
                       l->other_adds);
    }
}
