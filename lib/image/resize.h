/* resize: a picture in another size. */
#ifndef DARKROOM_IMAGE_RESIZE_H
#define DARKROOM_IMAGE_RESIZE_H

#include "lib/image/png.h"

/*
 * `from` in width x height into out: (height, width, from->channels) row-major. Each axis by
 * itself: smaller is the average over the area that a pixel covers, larger is bilinear between
 * pixel centres with the edges held. Exact integer arithmetic, rounded once. The proportions are
 * not kept. All sizes >= 1.
 */
void image_fit(const struct image *from, int width, int height, uint8_t *out);

#endif
