/* dense: y (n, units) = x (n, inputs) weight (inputs, units) + bias (units). */
#include "lib/nn/layers.h"
#include "lib/nn/matmul.h"
#include "lib/nn/tiles.h"

enum { LEAST_ROWS = 4 }; /* for a tile: fewer wait for their own sums */

void dense_partial(const struct layer *l, const float *params, const float *x, int n, int from,
                   int to, float *y) {
    const float *weight = params + l->weight + (size_t)from * l->out_c;
    struct tiles_a a = {.a = x + from, .row = l->in_c, .step = 1, .inner = to - from, .outer = 1};
    if (n >= LEAST_ROWS && tiles_fit())
        tiles_product(n, l->out_c, &a, weight, l->out_c, false, y, l->out_c);
    else
        matmul(n, l->out_c, to - from, x + from, l->in_c, weight, l->out_c, 0, y, l->out_c);
}

void dense_forward(const struct layer *l, const struct pass *p) {
    dense_partial(l, p->params, p->x, p->n, 0, l->in_c, p->y);
    bias_relu(p->y, p->params + l->bias, p->n, l->out_c, l->relu);
}

/* dx (n, inputs) = dy (n, units) weight' */
void dense_backward(const struct layer *l, const struct pass *p) {
    if (p->dx)
        matmul_bt(p->n, l->in_c, l->out_c, p->dy, l->out_c, p->params + l->weight, l->out_c,
                  l->adds, p->dx, l->in_c);
}

/* dweight (inputs, units) = x' dy */
void dense_gradient(const struct layer *l, const float *x, const float *dy, int n, int from, int to,
                    float *rows) {
    struct tiles_a a = {.a = x + from, .row = 1, .step = l->in_c, .inner = n, .outer = 1};
    if (tiles_fit())
        tiles_product(to - from, l->out_c, &a, dy, l->out_c, false, rows, l->out_c);
    else if (from < to)
        matmul_at(to - from, l->out_c, n, x + from, l->in_c, dy, l->out_c, 0, rows, l->out_c);
}
