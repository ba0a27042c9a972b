/* augment: what each image draws, and the colours; where its pixels come from is warp's. */
#include "lib/image/augment.h"

#include "lib/base/bytes.h"
#include "lib/base/random.h"
#include "lib/image/warp.h"

#include <math.h>
#include <stdlib.h>

struct augmenter {
    struct augment how;
    int height, width, channels;
    struct warper *warper;
};

struct augmenter *augmenter_make(const struct augment *how, int height, int width, int channels) {
    struct augmenter *a = mem_zeroed(1, sizeof *a);
    *a = (struct augmenter){.how = *how,
                            .height = height,
                            .width = width,
                            .channels = channels,
                            .warper = warper_make(height, width, channels, cpu_vectors())};
    return a;
}

void augmenter_free(struct augmenter *a) {
    if (!a) return;
    warper_free(a->warper);
    free(a);
}

static float stretch(double most, uint64_t *seed) {
    return (float)(1 + most * random_either(seed));
}

/* Everything is drawn, also what is not wanted: a change that is switched off leaves the others as
   they are. */
static void draw(const struct augmenter *a, uint64_t *seed, struct warp *c) {
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
    for (int i = 0; i < WARP_NODES; i++)
        for (int k = 0; k < WARP_NODES; k++) {
            c->dx[i][k] = (float)(how->elastic * random_either(seed) * a->width);
            c->dy[i][k] = (float)(how->elastic * random_either(seed) * a->height);
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
    struct warp w;
    draw(a, &seed, &w);
    warper_run(a->warper, &w, in, out);
    if (a->how.color > 0) recolour(a, &seed, out);
}
