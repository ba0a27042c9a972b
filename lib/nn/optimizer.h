/* optimizer: one step of the parameters along a gradient; internal to lib/nn. Arrays are (n), a piece
   of the net's. */
#ifndef DARKROOM_NN_OPTIMIZER_H
#define DARKROOM_NN_OPTIMIZER_H

#include "lib/nn/trainer.h"

/* w, momentum and, with Adam, second move as trainer.h says; `steps` is how many were before. */
void optimizer_move(const struct train_conf *conf, uint64_t steps, float *w, float *momentum,
                    float *second, const float *gradient, size_t n);
/* average follows w */
void optimizer_average(const struct train_conf *conf, uint64_t steps, float *average,
                       const float *w, size_t n);

#endif
