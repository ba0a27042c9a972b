/*
 * Both axes are weighted sums of neighbours with whole weights, so nothing is rounded before the
 * end.
 *
 * From n to m < n pixels: output i covers [i*n, (i+1)*n) and source j covers [j*m, (j+1)*m). A
 * weight is their overlap; an output's weights sum to n.
 *
 * From n to m >= n: the centre of output i is ((2i+1)*n - m) / 2m in source pixels. The weights of
 * its two neighbours sum to 2m.
 *
 * A source row is first made `width` pixels wide; only the two last of these are kept, as sums.
 */
#include "lib/image/resize.h"

#include <stdlib.h>
#include <string.h>

struct tap {
    int first, count; /* source pixels first .. first + count - 1 */
    const uint32_t *weights;
};

struct axis {
    int from, to;
    uint64_t sum; /* of the weights of each output */
    struct tap *taps;
    uint32_t *weights;
};

static struct axis axis_make(int from, int to) {
    struct axis a = {.from = from, .to = to};
    int64_t n = from, m = to;
    a.sum = (uint64_t)(m < n ? n : 2 * m);
    a.taps = mem_alloc((size_t)m * sizeof *a.taps);
    /* Down, each output shares at most one source pixel with the next; up, it has two. */
    a.weights = mem_alloc((size_t)(m < n ? n + m : 2 * m) * sizeof *a.weights);
    uint32_t *w = a.weights;
    for (int64_t i = 0; i < m; i++) {
        struct tap *t = &a.taps[i];
        t->weights = w;
        if (m < n) {
            int64_t begin = i * n, end = begin + n;
            t->first = (int)(begin / m);
            t->count = (int)((end + m - 1) / m) - t->first;
            for (int64_t j = t->first; j < t->first + t->count; j++) {
                int64_t low = j * m > begin ? j * m : begin;
                int64_t high = (j + 1) * m < end ? (j + 1) * m : end;
                *w++ = (uint32_t)(high - low);
            }
        } else {
            int64_t at = (2 * i + 1) * n - m;
            if (at < 0) at = 0;
            if (at > (n - 1) * 2 * m) at = (n - 1) * 2 * m;
            uint32_t rest = (uint32_t)(at % (2 * m));
            t->first = (int)(at / (2 * m));
            t->count = rest ? 2 : 1;
            *w++ = (uint32_t)(2 * m) - rest;
            *w++ = rest;
        }
    }
    return a;
}

static void axis_free(struct axis *a) {
    free(a->taps);
    free(a->weights);
}

static void narrow_row(const struct axis *x, const uint8_t *row, int channels, uint64_t *out) {
    for (int i = 0; i < x->to; i++) {
        const struct tap *t = &x->taps[i];
        for (int c = 0; c < channels; c++) {
            const uint8_t *p = row + (size_t)t->first * (size_t)channels + c;
            uint64_t sum = 0;
            for (int k = 0; k < t->count; k++, p += channels) sum += (uint64_t)t->weights[k] * *p;
            *out++ = sum;
        }
    }
}

void image_fit(const struct image *from, int width, int height, uint8_t *out) {
    size_t channels = (size_t)from->channels;
    size_t in_stride = (size_t)from->width * channels, stride = (size_t)width * channels;
    if (width == from->width && height == from->height) {
        memcpy(out, from->pixels, stride * (size_t)height);
        return;
    }
    struct axis x = axis_make(from->width, width), y = axis_make(from->height, height);
    uint64_t *sums = mem_alloc(3 * stride * sizeof *sums), *total = sums + 2 * stride;
    int held[2] = {-1, -1}; /* source row in each half of sums: row r is in half r % 2 */
    uint64_t whole = x.sum * y.sum;
    for (int i = 0; i < height; i++, out += stride) {
        const struct tap *t = &y.taps[i];
        memset(total, 0, stride * sizeof *total);
        for (int k = 0; k < t->count; k++) {
            int r = t->first + k;
            uint64_t *row = sums + (size_t)(r % 2) * stride;
            if (held[r % 2] != r) {
                narrow_row(&x, from->pixels + (size_t)r * in_stride, from->channels, row);
                held[r % 2] = r;
            }
            for (size_t j = 0; j < stride; j++) total[j] += t->weights[k] * row[j];
        }
        for (size_t j = 0; j < stride; j++) out[j] = (uint8_t)((total[j] + whole / 2) / whole);
    }
    free(sums);
    axis_free(&x);
    axis_free(&y);
}
