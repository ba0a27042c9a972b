/*
 * warp: every place of the new image is taken from a place of the old one, between its four pixels;
 * what lies outside is the edge, continued.
 */
#ifndef DARKROOM_IMAGE_WARP_H
#define DARKROOM_IMAGE_WARP_H

#include "lib/base/cpu.h"

#include <stdbool.h>
#include <stdint.h>

enum { WARP_NODES = 5 }; /* of the grid, along each side */

/* Where (x, y) of the new image, both from the middle, is taken from: (xx x + xy y + x0, yx x + yy y
   + y0), in pixels, and what the grid adds there, between its nodes. */
struct warp {
    float xx, xy, x0, yx, yy, y0;
    bool bent; /* else the grid adds nothing */
    float dx[WARP_NODES][WARP_NODES], dy[WARP_NODES][WARP_NODES];
};

struct warper; /* tables for one size of image; one thread at a time */

/* With the vectors of `most`, or less where the program or the image has no use for them: the new
   image is the same, bit for bit. */
struct warper *warper_make(int height, int width, int channels, enum cpu_vectors most);
void warper_free(struct warper *w); /* NULL is fine */
enum cpu_vectors warper_vectors(const struct warper *w);

/* in and out: (height, width, channels) uint8. */
void warper_run(struct warper *w, const struct warp *how, const uint8_t *in, uint8_t *out);

#endif
