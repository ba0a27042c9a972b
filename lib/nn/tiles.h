/*
 * tiles: matrix products whose factors are read where they stand, internal to lib/nn.
 *
 * OpenBLAS copies both factors into an order of its own before it multiplies, which pays when each
 * number is used hundreds of times. With some dozen rows, or with windows of an image that would
 * have to be laid out first (im2col), the copies cost as much as the product. Here a tile of C, as
 * large as the registers, is summed up at once: a vector of B, times one number of A for each row.
 */
#ifndef DARKROOM_NN_TILES_H
#define DARKROOM_NN_TILES_H

#include <stdbool.h>
#include <stddef.h>

bool tiles_fit(void); /* whether this processor has the vectors for it */

/* How the numbers of A follow each other. Row i begins at a + i * row; in it come `outer` runs,
   `jump` floats from one to the next, of `inner` numbers that are `step` apart. */
struct tiles_a {
    const float *a;
    size_t row, step, jump;
    int inner, outer;
};

/* C (m, n) = A B, or C += A B; B is (outer * inner, n); ld* is the floats from row to row. */
void tiles_product(int m, int n, const struct tiles_a *a, const float *b, size_t ldb, bool add,
                   float *c, size_t ldc);

#endif
