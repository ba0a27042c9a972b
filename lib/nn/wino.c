/*
 * wino, in the letters of the paper: V = B'dB of the input's tile d, U = GgG' of the kernel g,
 * M = V U at each point, output = A'MA. Backward, with the transposes: dM = A dY A', dU = V'dM,
 * dV = dM U', dd = B dV B', dg = G'dU G.
 *
 * Arrays are (point, tile or channel, channel or filter). Every function works on LANES channels at
 * once, and a tile's 64 numbers stay in the first cache. Points stand `gap` floats further apart
 * than they need to, or all 64 would fall on the same few places of that cache.
 */
#include "lib/nn/wino.h"

#include "lib/nn/matmul.h"
#include "lib/nn/wide.h"

enum {
    SIDE = 8,
    POINTS = SIDE * SIDE,
    GAP = 16,
    PIECE_FLOATS = 3 * 64 * 1024,
    MOST_PAIRS = 1 << 18 /* channels times filters, of which U has 64 floats each */
};

typedef uint8_t bvec __attribute__((vector_size(LANES), aligned(1)));

struct grid {
    int m;            /* outputs of a tile, each way */
    int down, across; /* tiles of an image */
    int tiles;        /* of a piece */
    size_t v, u, z;   /* floats from point to point in V, U and M */
};

static struct grid grid_of(const struct layer *l) {
    struct grid g = {.m = SIDE + 1 - l->kernel};
    g.down = (l->out_h * l->pool + g.m - 1) / g.m;
    g.across = (l->out_w * l->pool + g.m - 1) / g.m;
    g.tiles = PIECE_FLOATS / POINTS * 2 / (l->in_c + l->out_c);
    if (g.tiles < 8) g.tiles = 8;
    g.v = (size_t)g.tiles * l->in_c + GAP;
    g.z = (size_t)g.tiles * l->out_c + GAP;
    g.u = (size_t)l->in_c * l->out_c + GAP;
    return g;
}

bool wino_fits(const struct layer *l) {
    return l->type == LAYER_CONV && l->stride == 1 && (l->kernel == 3 || l->kernel == 5) &&
           l->in_c % LANES == 0 && l->out_c % LANES == 0 && l->in_c * l->out_c <= MOST_PAIRS &&
           (SIDE + 1 - l->kernel) % l->pool == 0;
}

/* The kernels' way to the points costs about as much as 16 tiles save; the tiles' own way there and
   back, of which a small image leaves much unused, is paid for where it saves half of the products.
 */
bool wino_pays(const struct layer *l, int n) {
    struct grid g = grid_of(l);
    int64_t tiles = (int64_t)g.down * g.across;
    int64_t plain = (int64_t)l->kernel * l->kernel * l->out_h * l->out_w * l->pool * l->pool;
    return n * tiles >= 16 && plain >= 2 * POINTS * tiles;
}

size_t wino_scratch(const struct layer *l, bool train) {
    struct grid g = grid_of(l);
    return POINTS * (g.v + g.z + g.u * (train ? 2 : 1));
}

/* ---- one dimension; `in` and `out` are steps of `step` apart ---- */

/* 8 <- B' 8 */
WIDE_INLINE void to_points(const vec *in, vec *out, int step) {
    vec x0 = in[0], x1 = in[step], x2 = in[2 * step], x3 = in[3 * step];
    vec x4 = in[4 * step], x5 = in[5 * step], x6 = in[6 * step], x7 = in[7 * step];
    vec even = x2 + x6 - 4.25f * x4, odd = x1 + x5 - 4.25f * x3;
    out[0] = x0 - x6 + 5.25f * (x4 - x2);
    out[step] = even + odd;
    out[2 * step] = even - odd;
    even = x6 + 0.25f * x2 - 1.25f * x4;
    odd = 0.5f * x1 - 2.5f * x3 + 2.0f * x5;
    out[3 * step] = even + odd;
    out[4 * step] = even - odd;
    even = x6 + 4.0f * x2 - 5.0f * x4;
    odd = 2.0f * x1 - 2.5f * x3 + 0.5f * x5;
    out[5 * step] = even + odd;
    out[6 * step] = even - odd;
    out[7 * step] = x7 - x1 + 5.25f * (x3 - x5);
}

/* 8 <- B 8, the transpose */
WIDE_INLINE void from_points(const vec *in, vec *out, int step) {
    vec t0 = in[0], t7 = in[7 * step];
    vec s1 = in[step] + in[2 * step], d1 = in[step] - in[2 * step];
    vec s2 = in[3 * step] + in[4 * step], d2 = in[3 * step] - in[4 * step];
    vec s3 = in[5 * step] + in[6 * step], d3 = in[5 * step] - in[6 * step];
    out[0] = t0;
    out[step] = d1 + 0.5f * d2 + 2.0f * d3 - t7;
    out[2 * step] = s1 + 0.25f * s2 + 4.0f * s3 - 5.25f * t0;
    out[3 * step] = 5.25f * t7 - 4.25f * d1 - 2.5f * (d2 + d3);
    out[4 * step] = 5.25f * t0 - 4.25f * s1 - 1.25f * s2 - 5.0f * s3;
    out[5 * step] = d1 + 2.0f * d2 + 0.5f * d3 - 5.25f * t7;
    out[6 * step] = s1 + s2 + s3 - t0;
    out[7 * step] = t7;
}

/* m <- A' 8; m is 4 or 6 */
WIDE_INLINE void to_outputs(const vec *in, vec *out, int step, int m) {
    vec s1 = in[step] + in[2 * step], d1 = in[step] - in[2 * step];
    vec s2 = in[3 * step] + in[4 * step], d2 = in[3 * step] - in[4 * step];
    vec s3 = in[5 * step] + in[6 * step], d3 = in[5 * step] - in[6 * step];
    out[0] = in[0] + s1 + s2 + s3;
    out[step] = d1 + 2.0f * d2 + 0.5f * d3;
    out[2 * step] = s1 + 4.0f * s2 + 0.25f * s3;
    out[3 * step] = d1 + 8.0f * d2 + 0.125f * d3;
    if (m == 6) {
        out[4 * step] = s1 + 16.0f * s2 + 0.0625f * s3;
        out[5 * step] = d1 + 32.0f * d2 + 0.03125f * d3;
    }
    out[(m - 1) * step] += in[7 * step];
}

/* 8 <- A m, the transpose */
WIDE_INLINE void from_outputs(const vec *in, vec *out, int step, int m) {
    vec g0 = in[0], g1 = in[step], g2 = in[2 * step], g3 = in[3 * step];
    vec even1 = g0 + g2, odd1 = g1 + g3;
    vec even2 = g0 + 4.0f * g2, odd2 = 2.0f * g1 + 8.0f * g3;
    vec even3 = g0 + 0.25f * g2, odd3 = 0.5f * g1 + 0.125f * g3;
    if (m == 6) {
        vec g4 = in[4 * step], g5 = in[5 * step];
        even1 += g4, odd1 += g5;
        even2 += 16.0f * g4, odd2 += 32.0f * g5;
        even3 += 0.0625f * g4, odd3 += 0.03125f * g5;
    }
    vec end = in[(m - 1) * step];
    out[0] = g0;
    out[step] = even1 + odd1;
    out[2 * step] = even1 - odd1;
    out[3 * step] = even2 + odd2;
    out[4 * step] = even2 - odd2;
    out[5 * step] = even3 + odd3;
    out[6 * step] = even3 - odd3;
    out[7 * step] = end;
}

/* ---- tiles ---- */

struct tile {
    size_t image;
    int top, left; /* of its outputs */
};

static struct tile tile_at(const struct grid *g, size_t at) {
    size_t per_image = (size_t)g->down * g->across, k = at % per_image;
    return (struct tile){at / per_image, (int)(k / g->across) * g->m, (int)(k % g->across) * g->m};
}

/* V of `count` tiles from the tile `at` on. */
WIDE static void tiles_to_points(const struct layer *l, const struct grid *g, const float *x,
                                 size_t at, int count, float *v) {
    for (int i = 0; i < count; i++) {
        struct tile t = tile_at(g, at + i);
        int top = t.top - l->padding, left = t.left - l->padding;
        const float *image = x + t.image * l->in_size;
        for (int c = 0; c < l->in_c; c += LANES) {
            vec d[POINTS], h[POINTS];
            for (int p = 0; p < POINTS; p++) {
                int iy = top + p / SIDE, ix = left + p % SIDE;
                bool inside = iy >= 0 && iy < l->in_h && ix >= 0 && ix < l->in_w;
                d[p] = inside ? *(const loose *)(image + ((size_t)iy * l->in_w + ix) * l->in_c + c)
                              : (vec){0};
            }
            for (int k = 0; k < SIDE; k++) to_points(d + k, h + k, SIDE);
            for (int k = 0; k < SIDE; k++) to_points(h + k * SIDE, d + k * SIDE, 1);
            float *to = v + (size_t)i * l->in_c + c;
            for (int p = 0; p < POINTS; p++) *(loose *)(to + p * g->v) = d[p];
        }
    }
}

/* And back: dV to dx, added, since tiles overlap. */
WIDE static void points_to_tiles(const struct layer *l, const struct grid *g, const float *v,
                                 size_t at, int count, float *dx) {
    for (int i = 0; i < count; i++) {
        struct tile t = tile_at(g, at + i);
        int top = t.top - l->padding, left = t.left - l->padding;
        float *image = dx + t.image * l->in_size;
        for (int c = 0; c < l->in_c; c += LANES) {
            vec d[POINTS], h[POINTS];
            const float *from = v + (size_t)i * l->in_c + c;
            for (int p = 0; p < POINTS; p++) d[p] = *(const loose *)(from + p * g->v);
            for (int k = 0; k < SIDE; k++) from_points(d + k, h + k, SIDE);
            for (int k = 0; k < SIDE; k++) from_points(h + k * SIDE, d + k * SIDE, 1);
            for (int p = 0; p < POINTS; p++) {
                int iy = top + p / SIDE, ix = left + p % SIDE;
                if (iy >= 0 && iy < l->in_h && ix >= 0 && ix < l->in_w)
                    *(loose *)(image + ((size_t)iy * l->in_w + ix) * l->in_c + c) += d[p];
            }
        }
    }
}

/* M to y: the outputs of a tile, through pool, bias and ReLU. */
WIDE_INLINE void points_to_outputs(const struct layer *l, const struct grid *g, const float *z,
                                   const float *bias, size_t at, int count, float *y, uint8_t *pick,
                                   int m) {
    int pool = l->pool, side = m / pool;
    for (int i = 0; i < count; i++) {
        struct tile t = tile_at(g, at + i);
        int top = t.top / pool, left = t.left / pool;
        int rows = l->out_h - top < side ? l->out_h - top : side;
        int columns = l->out_w - left < side ? l->out_w - left : side;
        for (int f = 0; f < l->out_c; f += LANES) {
            vec d[POINTS], h[POINTS];
            const float *from = z + (size_t)i * l->out_c + f;
            for (int p = 0; p < POINTS; p++) d[p] = *(const loose *)(from + p * g->z);
            for (int k = 0; k < SIDE; k++) to_outputs(d + k, h + k, SIDE, m);
            for (int k = 0; k < m; k++) to_outputs(h + k * SIDE, d + k * SIDE, 1, m);
            for (int place = 0; place < rows * columns; place++) {
                int oy = place / columns, ox = place % columns;
                const vec *window = d + oy * pool * SIDE + ox * pool;
                size_t to = t.image * l->out_size +
                            ((size_t)(top + oy) * l->out_w + left + ox) * l->out_c + f;
                vec best = window[0];
                ivec which = {0};
                for (int k = 1; k < pool * pool; k++) {
                    vec other = window[k / pool * SIDE + k % pool];
                    ivec more = other > best;
                    which = (more & k) | (~more & which);
                    best = (vec)((more & (ivec)other) | (~more & (ivec)best));
                }
                if (pick) *(bvec *)(pick + to) = __builtin_convertvector(which, bvec);
                best += *(const loose *)(bias + f);
                if (l->relu) best = (vec)(~(ivec)(best < 0) & (ivec)best); /* a NaN stays one */
                *(loose *)(y + to) = best;
            }
        }
    }
}

/* dy to dM */
WIDE_INLINE void outputs_to_points(const struct layer *l, const struct grid *g, const float *dy,
                                   const uint8_t *pick, size_t at, int count, float *z, int m) {
    int pool = l->pool, side = m / pool;
    for (int i = 0; i < count; i++) {
        struct tile t = tile_at(g, at + i);
        int top = t.top / pool, left = t.left / pool;
        for (int f = 0; f < l->out_c; f += LANES) {
            vec d[POINTS], h[POINTS];
            for (int place = 0; place < side * side; place++) {
                int oy = place / side, ox = place % side;
                bool inside = top + oy < l->out_h && left + ox < l->out_w;
                size_t from = t.image * l->out_size +
                              ((size_t)(top + oy) * l->out_w + left + ox) * l->out_c + f;
                vec value = inside ? *(const loose *)(dy + from) : (vec){0};
                vec *window = d + oy * pool * SIDE + ox * pool;
                ivec which = {0};
                if (pool > 1 && inside)
                    which = __builtin_convertvector(*(const bvec *)(pick + from), ivec);
                for (int k = 0; k < pool * pool; k++)
                    window[k / pool * SIDE + k % pool] = (vec)((which == k) & (ivec)value);
            }
            for (int k = 0; k < m; k++) from_outputs(d + k, h + k, SIDE, m);
            for (int k = 0; k < SIDE; k++) from_outputs(h + k * SIDE, d + k * SIDE, 1, m);
            float *to = z + (size_t)i * l->out_c + f;
            for (int p = 0; p < POINTS; p++) *(loose *)(to + p * g->z) = d[p];
        }
    }
}

WIDE static void forward_piece(const struct layer *l, const struct grid *g, const float *z,
                               const float *bias, size_t at, int count, float *y, uint8_t *pick) {
    if (g->m == 4)
        points_to_outputs(l, g, z, bias, at, count, y, pick, 4);
    else
        points_to_outputs(l, g, z, bias, at, count, y, pick, 6);
}

WIDE static void backward_piece(const struct layer *l, const struct grid *g, const float *dy,
                                const uint8_t *pick, size_t at, int count, float *z) {
    if (g->m == 4)
        outputs_to_points(l, g, dy, pick, at, count, z, 4);
    else
        outputs_to_points(l, g, dy, pick, at, count, z, 6);
}

/* ---- kernels ---- */

/* G: a row a point, 1, a, a^2 ... over the product of a's distances from the other points. */
static const float G[SIDE][5] = {
    {1, 0, 0, 0, 0},
    {-2 / 9.f, -2 / 9.f, -2 / 9.f, -2 / 9.f, -2 / 9.f},
    {-2 / 9.f, 2 / 9.f, -2 / 9.f, 2 / 9.f, -2 / 9.f},
    {1 / 90.f, 2 / 90.f, 4 / 90.f, 8 / 90.f, 16 / 90.f},
    {1 / 90.f, -2 / 90.f, 4 / 90.f, -8 / 90.f, 16 / 90.f},
    {32 / 45.f, 16 / 45.f, 8 / 45.f, 4 / 45.f, 2 / 45.f},
    {32 / 45.f, -16 / 45.f, 8 / 45.f, -4 / 45.f, 2 / 45.f},
    {0, 0, 0, 0, 1}, /* infinity: the last column, of a kernel of 3 the third */
};

static float g_of(int point, int column, int kernel) {
    return point == SIDE - 1 ? column == kernel - 1 : G[point][column];
}

WIDE_INLINE void kernels_in(const struct layer *l, const struct grid *g, const float *weight,
                            float *u, int r) {
    size_t pair_count = (size_t)l->in_c * l->out_c;
    for (size_t pair = 0; pair < pair_count; pair += LANES) {
        vec h[SIDE][5];
        for (int p = 0; p < SIDE; p++)
            for (int x = 0; x < r; x++) {
                h[p][x] = (vec){0};
                for (int y = 0; y < r; y++)
                    h[p][x] +=
                        g_of(p, y, r) * *(const loose *)(weight + (y * r + x) * pair_count + pair);
            }
        for (int p = 0; p < POINTS; p++) {
            vec sum = {0};
            for (int x = 0; x < r; x++) sum += g_of(p % SIDE, x, r) * h[p / SIDE][x];
            *(loose *)(u + p * g->u + pair) = sum;
        }
    }
}

WIDE_INLINE void kernels_out(const struct layer *l, const struct grid *g, const float *u,
                             float *gradient, int r) {
    size_t pair_count = (size_t)l->in_c * l->out_c;
    for (size_t pair = 0; pair < pair_count; pair += LANES) {
        vec h[SIDE][5];
        for (int p = 0; p < SIDE; p++)
            for (int x = 0; x < r; x++) {
                h[p][x] = (vec){0};
                for (int q = 0; q < SIDE; q++)
                    h[p][x] += g_of(q, x, r) * *(const loose *)(u + (p * SIDE + q) * g->u + pair);
            }
        for (int k = 0; k < r * r; k++) {
            vec sum = {0};
            for (int p = 0; p < SIDE; p++) sum += g_of(p, k / r, r) * h[p][k % r];
            *(loose *)(gradient + k * pair_count + pair) = sum;
        }
    }
}

WIDE static void kernels_to_points(const struct layer *l, const struct grid *g, const float *weight,
                                   float *u) {
    if (l->kernel == 5)
        kernels_in(l, g, weight, u, 5);
    else
        kernels_in(l, g, weight, u, 3);
}

WIDE static void points_to_kernels(const struct layer *l, const struct grid *g, const float *u,
                                   float *gradient) {
    if (l->kernel == 5)
        kernels_out(l, g, u, gradient, 5);
    else
        kernels_out(l, g, u, gradient, 3);
}

/* ---- the layer ---- */

void wino_forward(const struct layer *l, const float *params, const float *x, int n, float *y,
                  uint8_t *pick, float *scratch) {
    struct grid g = grid_of(l);
    float *v = scratch, *z = v + POINTS * g.v, *u = z + POINTS * g.z;
    size_t total = (size_t)n * g.down * g.across;
    kernels_to_points(l, &g, params + l->weight, u);
    for (size_t at = 0; at < total; at += g.tiles) {
        int count = total - at < (size_t)g.tiles ? (int)(total - at) : g.tiles;
        tiles_to_points(l, &g, x, at, count, v);
        for (int p = 0; p < POINTS; p++)
            matmul(count, l->out_c, l->in_c, v + p * g.v, l->in_c, u + p * g.u, l->out_c, 0,
                   z + p * g.z, l->out_c);
        forward_piece(l, &g, z, params + l->bias, at, count, y, pick);
    }
}

void wino_backward(const struct layer *l, const float *params, const float *x, const uint8_t *pick,
                   int n, const float *dy, float *dx, float *gradient, float *scratch) {
    struct grid g = grid_of(l);
    float *v = scratch, *z = v + POINTS * g.v, *u = z + POINTS * g.z, *du = u + POINTS * g.u;
    size_t total = (size_t)n * g.down * g.across;
    if (dx) kernels_to_points(l, &g, params + l->weight, u);
    for (size_t at = 0; at < total; at += g.tiles) {
        int count = total - at < (size_t)g.tiles ? (int)(total - at) : g.tiles;
        tiles_to_points(l, &g, x, at, count, v);
        backward_piece(l, &g, dy, pick, at, count, z);
        for (int p = 0; p < POINTS; p++) {
            matmul_at(l->in_c, l->out_c, count, v + p * g.v, l->in_c, z + p * g.z, l->out_c, at > 0,
                      du + p * g.u, l->out_c);
            if (dx) /* V is done with: dV takes its place */
                matmul_bt(count, l->in_c, l->out_c, z + p * g.z, l->out_c, u + p * g.u, l->out_c, 0,
                          v + p * g.v, l->in_c);
        }
        if (dx) points_to_tiles(l, &g, v, at, count, dx);
    }
    points_to_kernels(l, &g, du, gradient + l->weight);
}
