/* conv_tiles.c: an image at a time, with its padding around it, and as many strips (the rows of
   positions that a row of the pool's output needs) as stay in the first cache. */
#include "lib/nn/conv_tiles.h"

#include "lib/nn/tiles.h"

#include <string.h>

enum { LEAST_WIDTH = 8, STRIP_FLOATS = 6 * 1024 };

struct shape {
    int width;    /* positions in a row; what the pool leaves out is not computed */
    size_t strip; /* floats of a strip of positions: (pool, width, filters) */
    int strips;   /* at a time */
    int line;     /* floats of a row of the padded image */
    size_t image; /* floats of it; 0: it is read where it stands */
};

static struct shape shape_of(const struct layer *l) {
    struct shape s = {.width = l->out_w * l->pool, .line = (l->in_w + 2 * l->padding) * l->in_c};
    s.strip = (size_t)l->pool * s.width * l->out_c;
    s.strips = l->pool == 1 ? l->out_h : (int)(STRIP_FLOATS / s.strip);
    if (s.strips < 1) s.strips = 1;
    if (s.strips > l->out_h) s.strips = l->out_h;
    if (l->padding) s.image = (size_t)(l->in_h + 2 * l->padding) * s.line;
    return s;
}

bool conv_tiles_fit(const struct layer *l) {
    return tiles_fit() && l->out_w * l->pool >= LEAST_WIDTH;
}

/* Of the image, then strips of positions; a vector's worth between them. */
size_t conv_tiles_scratch(const struct layer *l) {
    struct shape s = shape_of(l);
    return (s.image + 15) / 16 * 16 + s.strips * s.strip;
}

static const float *padded(const struct layer *l, const struct shape *s, const float *x,
                           float *scratch) {
    if (!s->image) return x;
    size_t row = (size_t)l->in_w * l->in_c;
    float *to = scratch + (size_t)l->padding * s->line + (size_t)l->padding * l->in_c;
    for (int y = 0; y < l->in_h; y++)
        memcpy(to + (size_t)y * s->line, x + y * row, row * sizeof *to);
    return scratch;
}

/* Where the scratch's strips begin; what stands around the images is 0. */
static float *begin(const struct shape *s, float *scratch) {
    memset(scratch, 0, s->image * sizeof *scratch);
    return scratch + (s->image + 15) / 16 * 16;
}

void conv_tiles_forward(const struct layer *l, const float *params, const float *x, int n, float *y,
                        uint8_t *pick, float *scratch) {
    struct shape s = shape_of(l);
    struct tiles_a windows = {.row = (size_t)l->stride * l->in_c,
                              .step = 1,
                              .inner = l->kernel * l->in_c,
                              .jump = s.line,
                              .outer = l->kernel};
    float *z = begin(&s, scratch);
    size_t row = (size_t)l->out_w * l->out_c;
    for (int i = 0; i < n; i++, x += l->in_size) {
        const float *image = padded(l, &s, x, scratch);
        for (int oy = 0; oy < l->out_h; oy++, y += row) {
            float *to = l->pool > 1 ? z : y;
            for (int r = 0; r < l->pool; r++) {
                windows.a = image + (size_t)(oy * l->pool + r) * l->stride * s.line;
                tiles_product(s.width, l->out_c, &windows, params + l->weight, l->out_c, false,
                              to + (size_t)r * s.width * l->out_c, l->out_c);
            }
            if (l->pool > 1) pool_strip(l, s.width, z, y, pick);
            if (pick) pick += row;
            bias_relu(y, params + l->bias, l->out_w, l->out_c, l->relu);
        }
    }
}

/* dweight (kernel, kernel * channels, filters): for each row of the kernel the sum over all
   positions of what the window held there, times the position's gradient. */
void conv_tiles_gradient(const struct layer *l, const float *x, const uint8_t *pick, int n,
                         const float *dy, float *gradient, float *scratch) {
    struct shape s = shape_of(l);
    struct tiles_a values = {.row = 1,
                             .step = (size_t)l->stride * l->in_c,
                             .inner = s.width,
                             .jump = (size_t)l->stride * s.line};
    float *dz = begin(&s, scratch), *to = gradient + l->weight;
    size_t row = (size_t)l->out_w * l->out_c;
    int run = l->kernel * l->in_c;
    bool add = false;
    for (int i = 0; i < n; i++, x += l->in_size) {
        const float *image = padded(l, &s, x, scratch);
        for (int oy = 0; oy < l->out_h; oy += s.strips) {
            int strips = l->out_h - oy < s.strips ? l->out_h - oy : s.strips;
            for (int k = 0; l->pool > 1 && k < strips; k++)
                unpool_strip(l, s.width, dy + k * row, pick + k * row, dz + k * s.strip);
            values.outer = strips * l->pool;
            for (int ky = 0; ky < l->kernel; ky++) {
                values.a = image + ((size_t)oy * l->pool * l->stride + ky) * s.line;
                tiles_product(run, l->out_c, &values, l->pool > 1 ? dz : dy, l->out_c, add,
                              to + (size_t)ky * run * l->out_c, l->out_c);
            }
            add = true;
            dy += strips * row;
            if (l->pool > 1) pick += strips * row;
        }
    }
}
