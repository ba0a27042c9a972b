/*
 * conv: a convolution as one large matrix product. The windows under the kernel are laid out as
 * rows (im2col): cols (positions, kernel * kernel * channels) times weight (the same, filters).
 * That copy is many times the image, so it is made a piece at a time, small enough to stay in the
 * cache; a piece is a number of strips, and a strip is the rows of positions that one row of the
 * pool's output needs. Pieces cross from image to image, so small images make large products too.
 *
 * Where it can, and where there are images enough, wino.c takes a shorter way; and where the
 * processor has the vectors, conv_tiles.c reads the windows where they stand.
 */
#include "lib/nn/layers.h"

#include "lib/nn/conv_tiles.h"
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
    size_t tiles = conv_tiles_fit(l) ? conv_tiles_scratch(l) : 0;
    need = need > wino ? need : wino;
    return need > tiles ? need : tiles;
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

void conv_forward(const struct layer *l, const struct pass *p) {
    uint8_t *pick = p->keep;
    if (wino_fits(l) && wino_pays(l, p->n)) {
        wino_forward(l, p->params, p->x, p->n, p->y, pick, p->scratch);
        return;
    }
    if (conv_tiles_fit(l)) {
        conv_tiles_forward(l, p->params, p->x, p->n, p->y, pick, p->scratch);
        return;
    }
    struct shape s = shape_of(l);
    size_t total = (size_t)p->n * l->out_h, row = (size_t)l->out_w * l->out_c;
    float *cols = p->scratch, *z = cols + (size_t)s.strips * s.positions * s.window;
    for (size_t at = 0; at < total; at += s.strips) {
        int strips = total - at < (size_t)s.strips ? (int)(total - at) : s.strips;
        for (int i = 0; i < strips; i++)
            windows_of_strip(l, &s, p->x, at + i, cols + (size_t)i * s.positions * s.window);
        float *y = p->y + at * row, *to = l->pool > 1 ? z : y;
        matmul(strips * s.positions, l->out_c, s.window, cols, s.window, p->params + l->weight,
               l->out_c, 0, to, l->out_c);
        for (int i = 0; l->pool > 1 && i < strips; i++)
            pool_strip(l, s.width, z + (size_t)i * s.positions * l->out_c, y + i * row,
                       pick ? pick + (at + i) * row : NULL);
        bias_relu(y, p->params + l->bias, (size_t)strips * l->out_w, l->out_c, l->relu);
    }
}

void conv_backward(const struct layer *l, const struct pass *p) {
    struct shape s = shape_of(l);
    size_t total = (size_t)p->n * l->out_h, row = (size_t)l->out_w * l->out_c;
    float *cols = p->scratch, *dz = cols + (size_t)s.strips * s.positions * s.window;
    const uint8_t *pick = p->keep;
    if (p->dx && !l->adds) memset(p->dx, 0, p->n * l->in_size * sizeof *p->dx);
    sum_rows(p->dy, total * l->out_w, l->out_c, p->gradient + l->bias);
    if (wino_fits(l) && wino_pays(l, p->n)) {
        wino_backward(l, p->params, p->x, pick, p->n, p->dy, p->dx, p->gradient, p->scratch);
        return;
    }
    if (!p->n) memset(p->gradient + l->weight, 0, l->weight_count * sizeof(float));
    bool tiles = conv_tiles_fit(l);
    if (tiles) conv_tiles_gradient(l, p->x, pick, p->n, p->dy, p->gradient, p->scratch);
    if (tiles && !p->dx) return;
    for (size_t at = 0; at < total; at += s.strips) {
        int strips = total - at < (size_t)s.strips ? (int)(total - at) : s.strips;
        const float *dy = p->dy + at * row, *from = l->pool > 1 ? dz : dy;
        for (int i = 0; !tiles && i < strips; i++)
            windows_of_strip(l, &s, p->x, at + i, cols + (size_t)i * s.positions * s.window);
        for (int i = 0; l->pool > 1 && i < strips; i++)
            unpool_strip(l, s.width, dy + i * row, pick + (at + i) * row,
                         dz + (size_t)i * s.positions * l->out_c);
        if (!tiles)
            matmul_at(s.window, l->out_c, strips * s.positions, cols, s.window, from, l->out_c,
                      at > 0, p->gradient + l->weight, l->out_c);
        if (!p->dx) continue;
        matmul_bt(strips * s.positions, s.window, l->out_c, from, l->out_c, p->params + l->weight,
                  l->out_c, 0, cols, s.window);
        for (int i = 0; i < strips; i++)
            windows_to_strip(l, &s, cols + (size_t)i * s.positions * s.window, at + i, p->dx);
    }
}
