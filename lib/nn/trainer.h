/*
 * trainer: stochastic gradient descent over one net, in parallel over the images of a batch.
 *
 * With threads > 1 it keeps threads of its own; each takes a fixed part of the batch and of the
 * parameters, and gradients are added in a fixed order: the same start, batches and thread count
 * give the same bits. A step allocates nothing.
 *
 * OPTIMIZER_SGD, with momentum (Sutskever et al. 2013), in PyTorch's form:
 *   v <- momentum v + (gradient + weight_decay w)
 *   w <- w - rate v
 * OPTIMIZER_ADAM, with decoupled decay (Kingma and Ba 2015; Loshchilov and Hutter 2019), step t from 1:
 *   m <- momentum m + (1 - momentum) gradient
 *   s <- second s + (1 - second) gradient^2
 *   w <- (1 - rate weight_decay) w - rate m' / (sqrt(s') + 1e-8)
 *       m' = m / (1 - momentum^t), s' = s / (1 - second^t)
 * and after either:
 *   average <- d average + (1 - d) w
 *       d = min(conf.average, (1 + averaged) / (10 + averaged)), so that the start is soon forgotten
 */
#ifndef DARKROOM_NN_TRAINER_H
#define DARKROOM_NN_TRAINER_H

#include "lib/base/err.h"
#include "lib/nn/net.h"

enum optimizer { OPTIMIZER_SGD, OPTIMIZER_ADAM };

struct train_conf {
    enum optimizer optimizer;
    float rate;            /* of learning, > 0 */
    float momentum;        /* 0 to below 1 */
    float second;          /* ADAM: 0 to below 1, such as 0.999 */
    float weight_decay;    /* >= 0 */
    float label_smoothing; /* 0 to below 1: the target is (1 - s) + s / classes, and s / classes */
    float average; /* of the weights, 0 to below 1; 0 keeps none: the average is the weights */
    int batch;     /* images of a step, at most */
    int threads;   /* >= 1 */
};

struct trainer;

/* Borrows the net and changes its parameters; starts from them with moments 0, average = weights.
   NULL and ERR_FATAL when a value is out of its range or a thread cannot be started. */
struct trainer *trainer_make(struct net *net, const struct train_conf *conf,
                             struct err *e) MUST_CHECK;
void trainer_free(struct trainer *t); /* NULL is fine */

/* One step over 1 to conf.batch images: x is (n, height, width, channels) bytes, label (n) in
   0..classes-1. Returns the mean loss (cross-entropy with the smoothed target) before the step. */
float trainer_step(struct trainer *t, const uint8_t *x, const int *label, int n);
/* Within a step the thread `number` (0..threads - 1) calls prepare(ctx, number, from, n) before it reads the
   images from..from + n - 1 of x, which are its own; NULL: nothing. */
void trainer_set_prepare(struct trainer *t, void (*prepare)(void *ctx, int number, int from, int n),
                         void *ctx);
void trainer_set_rate(struct trainer *t, float rate);
/* What is added to the logits in training alone, (classes); 0 until then. With the logarithm of how
   much more often a class is drawn here than it should count, the net's own logits are those of
   what should count (logit adjustment, Menon et al. 2021). */
void trainer_set_offset(struct trainer *t, const float *offset);

/* The state beside the net's parameters; arrays are (param_count), to read, to save or to set. */
float *trainer_momentum(struct trainer *t); /* v, or m */
float *trainer_second(struct trainer *t);   /* s; NULL with OPTIMIZER_SGD */
float *trainer_average(struct trainer *t);  /* the net's own parameters when conf.average is 0 */
uint64_t trainer_steps(const struct trainer *t);
void trainer_set_steps(struct trainer *t, uint64_t steps);
/* Steps that are in the average. */
uint64_t trainer_averaged(const struct trainer *t);
void trainer_set_averaged(struct trainer *t, uint64_t steps);

/* The gradient of the mean loss (no weight decay) into `gradient` (param_count), and the loss;
   changes nothing else. For checks. */
float trainer_gradient(struct trainer *t, const uint8_t *x, const int *label, int n,
                       float *gradient);

#endif
