/* augment: for each place of the new image the place in the old one that it is taken from, between
   its four pixels. */
#include "lib/image/augment.h"

#include "lib/base/bytes.h"
#include "lib/base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 5 }; /* of the elastic grid, along each side */

struct augmenter {
    struct augment how;
    int height, width, channels;
    int *node;     /* (width): the grid's column left of each pixel */
    float *beyond; /* (width): and how far the pixel is beyond it, 0..1 */
    float *x, *y;  /* (width): where the pixels of a row are taken from */
};

struct augmenter *augmenter_make(const struct augment *how, int height, int width, int channels) {
    struct augmenter *a = mem_zeroed(1, sizeof *a);
    *a = (struct augmenter){.how = *how, .height = height, .width = width, .channels = channels};
    a->node = mem_zeroed((size_t)width, sizeof *a->node);
    a->beyond = mem_zeroed((size_t)width, sizeof *a->beyond);
    a->x = mem_zeroed((size_t)width, sizeof *a->x);
    a->y = mem_zeroed((size_t)width, sizeof *a->y);
    for (int i = 0; i < width; i++) {
        double at = (double)i * (NODES - 1) / width;
        a->node[i] = (int)at;
        a->beyond[i] = (float)(at - floor(at));
    }
    return a;
}

void augmenter_free(struct augmenter *a) {
    if (!a) return;
    free(a->node);
    free(a->beyond);
    free(a->x);
    free(a->y);
    free(a);
}

/* What one image draws. The old place of (x, y), both from the middle, is (xx x + xy y + x0,
   yx x + yy y + y0), and what the grid adds. */
struct change {
    float xx, xy, x0, yx, yy, y0;
    bool bent;
    float dx[NODES][NODES], dy[NODES][NODES];
};

static float stretch(double most, uint64_t *seed) {
    return (float)(1 + most * random_either(seed));
}

/* Everything is drawn, also what is not wanted: a change that is switched off leaves the others as
   they are. */
static void draw(const struct augmenter *a, uint64_t *seed, struct change *c) {
    const struct augment *how = &a->how;
    float angle = (float)(how->rotate * 0.017453292519943295 * random_either(seed));
    float sx = stretch(how->scale, seed), sy = stretch(how->scale, seed);
    float shear = (float)(how->shear * random_either(seed));
    float mx = (float)(how->shift * random_either(seed) * a->width),
          my = (float)(how->shift * random_either(seed) * a->height);
    float kept = (float)(1 - how->crop * random_uniform(seed));
    float left = (float)(random_either(seed) * 0.5 * (1 - kept) * a->width),
          top = (float)(random_either(seed) * 0.5 * (1 - kept) * a->height);
    float mirror = random_uniform(seed) < how->flip ? -1.0f : 1.0f;
    float cosine = cosf(angle), sine = sinf(angle);
    sx = kept / sx, sy = kept / sy;
    c->xx = mirror * sx * cosine;
    c->xy = sx * (shear * cosine - sine);
    c->yx = mirror * sy * sine;
    c->yy = sy * (shear * sine + cosine);
    c->x0 = left - mx;
    c->y0 = top - my;
    c->bent = how->elastic > 0;
    for (int i = 0; i < NODES; i++)
        for (int k = 0; k < NODES; k++) {
            c->dx[i][k] = (float)(how->elastic * random_either(seed) * a->width);
            c->dy[i][k] = (float)(how->elastic * random_either(seed) * a->height);
        }
}

/* x and y of row `at`, kept inside. */
static void places(struct augmenter *a, const struct change *c, int at) {
    float middle_x = 0.5f * (float)(a->width - 1), middle_y = 0.5f * (float)(a->height - 1);
    float v = (float)at - middle_y;
    float x0 = c->xy * v + c->x0 + middle_x, y0 = c->yy * v + c->y0 + middle_y;
    for (int i = 0; i < a->width; i++) {
        float u = (float)i - middle_x;
        a->x[i] = c->xx * u + x0;
        a->y[i] = c->yx * u + y0;
    }
    if (c->bent) {
        float dx[NODES], dy[NODES], down = (float)at * (NODES - 1) / (float)a->height;
        int row = (int)down;
        down -= (float)row;
        for (int k = 0; k < NODES; k++) {
            dx[k] = c->dx[row][k] + down * (c->dx[row + 1][k] - c->dx[row][k]);
            dy[k] = c->dy[row][k] + down * (c->dy[row + 1][k] - c->dy[row][k]);
        }
        for (int i = 0; i < a->width; i++) {
            int k = a->node[i];
            a->x[i] += dx[k] + a->beyond[i] * (dx[k + 1] - dx[k]);
            a->y[i] += dy[k] + a->beyond[i] * (dy[k + 1] - dy[k]);
        }
    }
    float right = (float)(a->width - 1), bottom = (float)(a->height - 1);
    for (int i = 0; i < a->width; i++) {
        float x = a->x[i], y = a->y[i];
        x = x < 0 ? 0 : x;
        y = y < 0 ? 0 : y;
        a->x[i] = x > right ? right : x;
        a->y[i] = y > bottom ? bottom : y;
    }
}

static void take_row(const struct augmenter *a, const uint8_t *in, uint8_t *out) {
    int channels = a->channels, line = a->width * channels;
    for (int i = 0; i < a->width; i++, out += channels) {
        int x = (int)a->x[i], y = (int)a->y[i];
        float fx = a->x[i] - (float)x, fy = a->y[i] - (float)y;
        const uint8_t *p = in + (ptrdiff_t)y * line + (ptrdiff_t)x * channels;
        int right = x + 1 < a->width ? channels : 0, down = y + 1 < a->height ? line : 0;
        for (int c = 0; c < channels; c++, p++) {
            float top = (float)p[0] + fx * (float)(p[right] - p[0]);
            float low = (float)p[down] + fx * (float)(p[down + right] - p[down]);
            out[c] = (uint8_t)(top + fy * (low - top) + 0.5f);
        }
    }
}

static uint8_t to_byte(float v) {
    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)(v + 0.5f);
}

/* Contrast around the middle, brightness as a shift, saturation around the pixel's own grey. */
static void recolour(const struct augmenter *a, uint64_t *seed, uint8_t *out) {
    float contrast = stretch(a->how.color, seed), saturation = stretch(a->how.color, seed);
    float shift = (float)(a->how.color * 128 * random_either(seed)) + 128 - 128 * contrast;
    size_t pixels = (size_t)a->height * (size_t)a->width;
    int channels = a->channels;
    for (size_t i = 0; i < pixels; i++, out += channels) {
        float grey = 0;
        if (channels == 3)
            grey = 0.299f * (float)out[0] + 0.587f * (float)out[1] + 0.114f * (float)out[2];
        for (int c = 0; c < channels; c++) {
            float v = (float)out[c];
            if (channels == 3) v = grey + saturation * (v - grey);
            out[c] = to_byte(contrast * v + shift);
        }
    }
}

void augmenter_run(struct augmenter *a, uint64_t seed, const uint8_t *in, uint8_t *out) {
    struct change c;
    size_t line = (size_t)a->width * (size_t)a->channels;
    draw(a, &seed, &c);
    for (int y = 0; y < a->height; y++) {
        places(a, &c, y);
        take_row(a, in, out + (size_t)y * line);
    }
    if (a->how.color > 0) recolour(a, &seed, out);
}
