/* conv_tiles: convolutions by the tiles of tiles.h, internal to lib/nn: the window under the kernel
   is a run of numbers for each of the kernel's rows, and it moves on by the stride. */
#ifndef DARKROOM_NN_CONV_TILES_H
#define DARKROOM_NN_CONV_TILES_H

#include "lib/nn/layers.h"

/* Whether the layer can go this way, and rows are long enough that it pays. */
bool conv_tiles_fit(const struct layer *l);
size_t conv_tiles_scratch(const struct layer *l);
/* As conv_forward; and the weight's gradient as conv_backward. */
void conv_tiles_forward(const struct layer *l, const float *params, const float *x, int n, float *y,
                        uint8_t *pick, float *scratch);
void conv_tiles_gradient(const struct layer *l, const float *x, const uint8_t *pick, int n,
                         const float *dy, float *gradient, float *scratch);

#endif
