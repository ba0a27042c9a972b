/* optimizer.c: the formulas of trainer.h, one pass over the arrays each. */
#include "lib/nn/optimizer.h"

#include "lib/nn/wide.h"

#include <math.h>

static const float EPSILON = 1e-8f;

WIDE static void sgd(float *restrict w, float *restrict v, const float *restrict g, size_t n,
                     float rate, float momentum, float decay) {
    for (size_t i = 0; i < n; i++) {
        v[i] = momentum * v[i] + (g[i] + decay * w[i]);
        w[i] -= rate * v[i];
    }
}

/* `first` and `second` are what brings m and v to their size, rate and bias of the start taken in. */
WIDE static void adam(float *restrict w, float *restrict m, float *restrict v,
                      const float *restrict g, size_t n, const struct train_conf *c, float first,
                      float second) {
    float b1 = c->momentum, b2 = c->second, keep = 1 - c->rate * c->weight_decay;
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + (1 - b1) * g[i];
        v[i] = b2 * v[i] + (1 - b2) * (g[i] * g[i]);
        w[i] = keep * w[i] - first * m[i] / (sqrtf(v[i]) * second + EPSILON);
    }
}

WIDE static void follow(float *restrict average, const float *restrict w, size_t n, float d) {
    for (size_t i = 0; i < n; i++) average[i] += (1 - d) * (w[i] - average[i]);
}

void optimizer_move(const struct train_conf *conf, uint64_t steps, float *w, float *momentum,
                    float *second, const float *gradient, size_t n) {
    if (conf->optimizer == OPTIMIZER_SGD) {
        sgd(w, momentum, gradient, n, conf->rate, conf->momentum, conf->weight_decay);
        return;
    }
    double t = (double)(steps + 1);
    adam(w, momentum, second, gradient, n, conf, (float)(conf->rate / (1 - pow(conf->momentum, t))),
         (float)(1 / sqrt(1 - pow(conf->second, t))));
}

void optimizer_average(const struct train_conf *conf, uint64_t steps, float *average,
                       const float *w, size_t n) {
    float d = (float)(1 + steps) / (float)(10 + steps);
    follow(average, w, n, d < conf->average ? d : conf->average);
}
