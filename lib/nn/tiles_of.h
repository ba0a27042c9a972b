/*
 * tiles_of: the products of tiles.h for one kind of processor; tiles.c includes this once for each.
 *
 *   UNIT(name)  its own names      TARGET     what the processor can do
 *   FLOATS      of a vector        MOST_ROWS  of a tile: two vectors each, and two for B, are all
 *                                             registers that there are
 *   MASK, MASK_OF(n), LOAD(mask, from), STORE(mask, to, vector)   the first n floats of a vector
 */
typedef float UNIT(vec) __attribute__((vector_size(FLOATS * sizeof(float))));
typedef float UNIT(loose) __attribute__((vector_size(FLOATS * sizeof(float)), aligned(4)));

/* The last columns, fewer than a vector has, are masked; `left` counts them. A loop over the rows that
   is not unrolled keeps the sums in memory. */
TARGET static inline __attribute__((always_inline)) void UNIT(tile)(
    int rows, int vecs, bool masked, int left, const struct tiles_a *t, const float *a,
    const float *b, size_t ldb, bool add, float *c, size_t ldc) {
    UNIT(vec) sum[MOST_ROWS][2];
    MASK mask = MASK_OF(left);
    size_t row = t->row, step = t->step;
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vecs; v++) sum[i][v] = (UNIT(vec)){0};
    for (int o = 0; o < t->outer; o++, a += t->jump) {
        const float *from = a;
        for (int p = 0; p < t->inner; p++, from += step, b += ldb) {
            UNIT(vec) x[2];
            for (int v = 0; v < vecs; v++)
                x[v] = masked ? LOAD(mask, b) : *(const UNIT(loose) *)(b + v * FLOATS);
#pragma GCC unroll 14
            for (int i = 0; i < rows; i++)
                for (int v = 0; v < vecs; v++) sum[i][v] += from[i * row] * x[v];
        }
    }
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++, c += ldc)
        for (int v = 0; v < vecs; v++) {
            UNIT(loose) *to = (UNIT(loose) *)(c + v * FLOATS);
            if (masked)
                STORE(mask, c, add ? sum[i][v] + LOAD(mask, c) : sum[i][v]);
            else
                *to = add ? *to + sum[i][v] : sum[i][v];
        }
}

/* The compiler has to know the number of rows to keep a tile in registers. */
#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        if (left >= 2 * FLOATS)                                                                    \
            UNIT(tile)(n, 2, false, left, t, a, b, ldb, add, c, ldc);                              \
        else if (left >= FLOATS)                                                                   \
            UNIT(tile)(n, 1, false, left, t, a, b, ldb, add, c, ldc);                              \
        else                                                                                       \
            UNIT(tile)(n, 1, true, left, t, a, b, ldb, add, c, ldc);                               \
        break;

TARGET static void UNIT(rows)(int rows, int left, const struct tiles_a *t, const float *a,
                              const float *b, size_t ldb, bool add, float *c, size_t ldc) {
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3) ROWS(4) ROWS(5) ROWS(6)
#if MOST_ROWS > 6
            ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13) ROWS(14)
#endif
    }
}
#undef ROWS

/* All tiles are about as high: a last one of a row or two would wait for its own sums. */
static void UNIT(product)(int m, int n, const struct tiles_a *t, const float *b, size_t ldb,
                          bool add, float *c, size_t ldc) {
    int tiles = (m + MOST_ROWS - 1) / MOST_ROWS;
    for (int j = 0, left = n; left > 0;) {
        for (int k = 0; k < tiles; k++) {
            int i = m * k / tiles, end = m * (k + 1) / tiles;
            UNIT(rows)(end - i, left, t, t->a + i * t->row, b + j, ldb, add, c + i * ldc + j, ldc);
        }
        int done = left >= 2 * FLOATS ? 2 * FLOATS : FLOATS;
        j += done, left -= done;
    }
}
