/*
 * conv: a convolution as one large matrix product. The windows under the kernel are laid out as
 * rows (im2col): cols (positions, kernel * kernel * channels) times weight (the same, filters).
 * That copy is many times the image, so it is made a piece at a time, small enough to stay in the
 * cache; a piece is a number of strips, and a strip is the rows of positions that one row of the
 * pool's output needs. Pieces cross from image to image, so small images make large products too.
 *
 * Where it can, and where there are images enough, wino.c takes a shorter way.
 */
#include "lib/nn/layers.h"

#include "lib/nn/matmul.h"
#include "lib/nn/wide.h"
#include "lib/nn/wino.h"

#include <string.h>

enum { PIECE_FLOATS = 96 * 1024 };

struct shape {
    int width;     /* positions in a row; what the pool leaves out at the edge is not computed */
    int positions; /* of a strip: pool * width */
    int window;    /* kernel * kernel * in_c */
    int strips;    /* of a piece */
};

static struct shape shape_of(const struct layer *l) {
    struct shape s = {.width = l->out_w * l->pool, .window = l->kernel * l->kernel * l->in_c};
    s.positions = s.width * l->pool;
    size_t strip = (size_t)s.positions * (s.window + l->out_c);
    s.strips = strip < PIECE_FLOATS ? (int)(PIECE_FLOATS / strip) : 1;
    return s;
}

size_t conv_scratch(const struct layer *l, bool train) {
    struct shape s = shape_of(l);
    size_t need = (size_t)s.strips * s.positions * (s.window + l->out_c);
    size_t wino = wino_fits(l) ? wino_scratch(l, train) : 0;
    return need > wino ? need : wino;
}

/* Most first layers see one gray value under a row of five: worth a copy that is no call. */
static inline void copy_run(float *to, const float *from, int run) {
    if (run == 5)
        memcpy(to, from, 5 * sizeof *to);
    else
        memcpy(to, from, run * sizeof *to);
}

/* The windows of strip `at` of all images (image at / out_h, row at % out_h), to cols. */
static void windows_of_strip(const struct layer *l, const struct shape *s, const float *x,
                             size_t at, float *cols) {
    const float *image = x + at / l->out_h * l->in_size;
    int first = (int)(at % l->out_h) * l->pool, run = l->kernel * l->in_c;
    for (int p = 0; p < s->positions; p++) {
        int top = (first + p / s->width) * l->stride - l->padding;
        int left = p % s->width * l->stride - l->padding;
        int skip = left < 0 ? -left : 0; /* columns left of the image */
        int end = left + l->kernel > l->in_w ? l->in_w - left : l->kernel; /* and where it ends */
        for (int ky = 0; ky < l->kernel; ky++, cols += run) {
            int y = top + ky;
            const float *from = image + ((ptrdiff_t)y * l->in_w + left) * l->in_c;
            if (y < 0 || y >= l->in_h || skip >= end) {
                memset(cols, 0, run * sizeof *cols);
            } else if (end - skip == l->kernel) {
                copy_run(cols, from, run);
            } else {
                memset(cols, 0, run * sizeof *cols);
                memcpy(cols + skip * l->in_c, from + skip * l->in_c,
                       (end - skip) * l->in_c * sizeof *cols);
            }
        }
    }
}

WIDE static void add_floats(float *to, const float *from, int n) {
    for (int i = 0; i < n; i++) to[i] += from[i];
}

/* The way back: what stands in cols is added to where it came from. */
static void windows_to_strip(const struct layer *l, const struct shape *s, const float *cols,
                             size_t at, float *dx) {
    float *image = dx + at / l->out_h * l->in_size;
    int first = (int)(at % l->out_h) * l->pool, run = l->kernel * l->in_c;
    for (int p = 0; p < s->positions; p++) {
        int top = (first + p / s->width) * l->stride - l->padding;
        int left = p % s->width * l->stride - l->padding;
        int skip = left < 0 ? -left : 0;
        int end = left + l->kernel > l->in_w ? l->in_w - left : l->kernel;
        for (int ky = 0; ky < l->kernel; ky++, cols += run) {
            int y = top + ky;
            if (y < 0 || y >= l->in_h || skip >= end) continue;
            add_floats(image + ((ptrdiff_t)y * l->in_w + left + skip) * l->in_c,
                       cols + skip * l->in_c, (end - skip) * l->in_c);
        }
    }
}

/* A strip (pool, width, filters) to a row (out_w, filters): the largest of each window. */
WIDE static void pool_strip(const struct layer *l, int width, const float *z, float *y,
                            uint8_t *pick) {
    int f = l->out_c, pool = l->pool;
    for (int ox = 0; ox < l->out_w; ox++, y += f) {
        const float *window = z + (size_t)ox * pool * f;
        memcpy(y, window, f * sizeof *y);
        if (pick) memset(pick, 0, f);
        for (int place = 1; place < pool * pool; place++) {
            const float *v = window + ((size_t)(place / pool) * width + place % pool) * f;
            if (pick)
                for (int c = 0; c < f; c++) pick[c] = v[c] > y[c] ? (uint8_t)place : pick[c];
            for (int c = 0; c < f; c++) y[c] = v[c] > y[c] ? v[c] : y[c];
        }
        if (pick) pick += f;
    }
}

/* And back: a row of gradients to the places that were taken, 0 elsewhere. */
WIDE_INLINE void unpool_one(const float *restrict dy, const uint8_t *restrict pick, int place,
                            float *restrict dz, int f) {
    for (int c = 0; c < f; c++) {
        float d = dy[c];
        dz[c] = pick[c] == place ? d : 0;
    }
}

WIDE static void unpool_strip(const struct layer *l, int width, const float *dy,
                              const uint8_t *pick, float *dz) {
    int f = l->out_c, pool = l->pool;
    for (int ox = 0; ox < l->out_w; ox++, dy += f, pick += f) {
        float *window = dz + (size_t)ox * pool * f;
        for (int place = 0; place < pool * pool; place++)
            unpool_one(dy, pick, place,
                       window + ((size_t)(place / pool) * width + place % pool) * f, f);
    }
}

void conv_forward(const struct layer *l, const float *params, const float *x, int n, float *y,
                  uint8_t *pick, float *scratch) {
    if (wino_fits(l) && wino_pays(l, n)) {
        wino_forward(l, params, x, n, y, pick, scratch);
        return;
    }
    struct shape s = shape_of(l);
    size_t total = (size_t)n * l->out_h, row = (size_t)l->out_w * l->out_c;
    float *cols = scratch, *z = scratch + (size_t)s.strips * s.positions * s.window;
    for (size_t at = 0; at < total; at += s.strips) {
        int strips = total - at < (size_t)s.strips ? (int)(total - at) : s.strips;
        for (int i = 0; i < strips; i++)
            windows_of_strip(l, &s, x, at + i, cols + (size_t)i * s.positions * s.window);
        float *to = l->pool > 1 ? z : y + at * row;
        matmul(strips * s.positions, l->out_c, s.window, cols, s.window, params + l->weight,
               l->out_c, 0, to, l->out_c);
        for (int i = 0; l->pool > 1 && i < strips; i++)
            pool_strip(l, s.width, z + (size_t)i * s.positions * l->out_c, y + (at + i) * row,
                       pick ? pick + (at + i) * row : NULL);
        bias_relu(y + at * row, params + l->bias, (size_t)strips * l->out_w, l->out_c, l->relu);
    }
}

void conv_backward(const struct layer *l, const float *params, const float *x, const uint8_t *pick,
                   int n, const float *dy, float *dx, float *gradient, float *scratch) {
    struct shape s = shape_of(l);
    size_t total = (size_t)n * l->out_h, row = (size_t)l->out_w * l->out_c;
    float *cols = scratch, *dz = scratch + (size_t)s.strips * s.positions * s.window;
    if (dx) memset(dx, 0, n * l->in_size * sizeof *dx);
    sum_rows(dy, total * l->out_w, l->out_c, gradient + l->bias);
    if (wino_fits(l) && wino_pays(l, n)) {
        wino_backward(l, params, x, pick, n, dy, dx, gradient, scratch);
        return;
    }
    if (!n) memset(gradient + l->weight, 0, l->weight_count * sizeof *gradient);
    for (size_t at = 0; at < total; at += s.strips) {
        int strips = total - at < (size_t)s.strips ? (int)(total - at) : s.strips;
        const float *from = dz;
        for (int i = 0; i < strips; i++)
            windows_of_strip(l, &s, x, at + i, cols + (size_t)i * s.positions * s.window);
        for (int i = 0; l->pool > 1 && i < strips; i++)
            unpool_strip(l, s.width, dy + (at + i) * row, pick + (at + i) * row,
                         dz + (size_t)i * s.positions * l->out_c);
        if (l->pool == 1) from = dy + at * row;
        matmul_at(s.window, l->out_c, strips * s.positions, cols, s.window, from, l->out_c, at > 0,
                  gradient + l->weight, l->out_c);
        if (!dx) continue;
        matmul_bt(strips * s.positions, s.window, l->out_c, from, l->out_c, params + l->weight,
                  l->out_c, 0, cols, s.window);
        for (int i = 0; i < strips; i++)
            windows_to_strip(l, &s, cols + (size_t)i * s.positions * s.window, at + i, dx);
    }
}
