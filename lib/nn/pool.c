/* pool: the largest of each window (behind a convolution it is conv.c that asks, a strip at a time),
   and the mean over a whole image. */
#include "lib/nn/layers.h"
#include "lib/nn/wide.h"

#include <string.h>

WIDE static void largest(const struct layer *l, int width, const float *z, float *y,
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

/* A gradient to the place that was taken, 0 to the others. */
WIDE_INLINE void unpool_one(const float *restrict dy, const uint8_t *restrict pick, int place,
                            float *restrict dz, int f) {
    for (int c = 0; c < f; c++) {
        float d = dy[c];
        dz[c] = pick[c] == place ? d : 0;
    }
}

WIDE static void unpool(const struct layer *l, int width, const float *dy, const uint8_t *pick,
                        float *dz) {
    int f = l->out_c, pool = l->pool;
    for (int ox = 0; ox < l->out_w; ox++, dy += f, pick += f) {
        float *window = dz + (size_t)ox * pool * f;
        for (int place = 0; place < pool * pool; place++)
            unpool_one(dy, pick, place,
                       window + ((size_t)(place / pool) * width + place % pool) * f, f);
    }
}

void pool_strip(const struct layer *l, int width, const float *z, float *y, uint8_t *pick) {
    largest(l, width, z, y, pick);
}
void unpool_strip(const struct layer *l, int width, const float *dy, const uint8_t *pick,
                  float *dz) {
    unpool(l, width, dy, pick, dz);
}

/* ---- a pool by itself: x (n, h, w, c) to y (n, h / pool, w / pool, c) ---- */

/* The strip of row `oy` of image i begins there in x and dx. */
static size_t strip_at(const struct layer *l, int i, int oy) {
    return i * l->in_size + (size_t)oy * l->pool * l->in_w * l->in_c;
}

void maxpool_forward(const struct layer *l, const struct pass *p) {
    size_t row = (size_t)l->out_w * l->out_c;
    uint8_t *pick = p->keep;
    for (int i = 0; i < p->n; i++)
        for (int oy = 0; oy < l->out_h; oy++) {
            size_t at = i * l->out_size + oy * row;
            pool_strip(l, l->in_w, p->x + strip_at(l, i, oy), p->y + at, pick ? pick + at : NULL);
            if (l->relu) relu_floats(p->y + at, row);
        }
}

/* One window after the other: as rare as it is, it need not be faster. */
void maxpool_backward(const struct layer *l, const struct pass *p) {
    const uint8_t *pick = p->keep;
    if (!p->dx) return;
    if (!l->adds) memset(p->dx, 0, p->n * l->in_size * sizeof *p->dx);
    for (int i = 0; i < p->n; i++)
        for (size_t k = 0; k < l->out_size; k++) {
            size_t at = i * l->out_size + k;
            int c = (int)(k % l->out_c), ox = (int)(k / l->out_c % l->out_w),
                oy = (int)(k / l->out_c / l->out_w);
            int row = pick[at] / l->pool, column = pick[at] % l->pool;
            size_t to = ((size_t)row * l->in_w + ox * l->pool + column) * l->in_c + c;
            p->dx[strip_at(l, i, oy) + to] += p->dy[at];
        }
}

/* ---- the mean of a whole image: x (n, h, w, c) to y (n, c) ---- */

void globalpool_forward(const struct layer *l, const struct pass *p) {
    size_t places = (size_t)l->in_h * l->in_w;
    for (int i = 0; i < p->n; i++) {
        float *y = p->y + i * l->out_size;
        sum_rows(p->x + i * l->in_size, places, l->in_c, y);
        for (int c = 0; c < l->out_c; c++) y[c] /= (float)places;
    }
    if (l->relu) relu_floats(p->y, p->n * l->out_size);
}

WIDE static void spread(const float *dy, float *dx, size_t places, int c, bool add) {
    float part = 1.0f / (float)places;
    for (size_t k = 0; k < places; k++, dx += c)
        for (int i = 0; i < c; i++) dx[i] = (add ? dx[i] : 0) + dy[i] * part;
}

void globalpool_backward(const struct layer *l, const struct pass *p) {
    for (int i = 0; p->dx && i < p->n; i++)
        spread(p->dy + i * l->out_size, p->dx + i * l->in_size, (size_t)l->in_h * l->in_w, l->in_c,
               l->adds);
}
