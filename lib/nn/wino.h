/*
 * wino: convolutions by the short way of Winograd (Lavin and Gray 2016), internal to lib/nn.
 *
 * An 8 x 8 tile of the input and a kernel are taken to 64 points, where the convolution is a plain
 * product; m x m outputs (m = 9 - kernel) then cost 64 products a channel and filter instead of
 * m * m * kernel * kernel: 6.25 times fewer for a kernel of 5, 5 times for a kernel of 3. The
 * points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity, whose rounding float32 can bear. Each point
 * is one matrix product over many tiles, and the gradients go the same way back.
 */
#ifndef DARKROOM_NN_WINO_H
#define DARKROOM_NN_WINO_H

#include "lib/nn/layers.h"

/* Whether the layer can go this way, and whether it pays for n images. */
bool wino_fits(const struct layer *l);
bool wino_pays(const struct layer *l, int n);
size_t wino_scratch(const struct layer *l, bool train);
/* As conv_forward and conv_backward, but the bias's gradient, which the caller makes; dx is added
   to. */
void wino_forward(const struct layer *l, const float *params, const float *x, int n, float *y,
                  uint8_t *pick, float *scratch);
void wino_backward(const struct layer *l, const float *params, const float *x, const uint8_t *pick,
                   int n, const float *dy, float *dx, float *gradient, float *scratch);

#endif
