/* dense: y (n, units) = x (n, inputs) weight (inputs, units) + bias (units). */
#include "lib/nn/layers.h"
#include "lib/nn/matmul.h"

void dense_forward(const struct layer *l, const struct pass *p) {
    matmul(p->n, l->out_c, l->in_c, p->x, l->in_c, p->params + l->weight, l->out_c, 0, p->y,
           l->out_c);
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
                    float *gradient) {
    if (from < to)
        matmul_at(to - from, l->out_c, n, x + from, l->in_c, dy, l->out_c, 0,
                  gradient + l->weight + (size_t)from * l->out_c, l->out_c);
}
