/*
 * png: a picture from a PNG file and back; the one door to libpng.
 *
 * Reads every colour type, bit depth and interlace into 8 bits of grey or RGB. A file is either
 * decoded whole or refused: one that is cut short, has a wrong checksum in any chunk, or chunks out
 * of order is broken-image with what libpng said; one over the limits is too-large before anything
 * of its size is allocated. Gamma, colour profiles and every other ancillary chunk but tRNS are
 * skipped unread, so they cannot hide a bomb and pixels are what the file stores; an APNG is its
 * plain picture. Bytes behind IEND, and colours of a palette that no pixel can name, are ignored; a
 * pixel that names no colour of its palette is black.
 */
#ifndef DARKROOM_IMAGE_PNG_H
#define DARKROOM_IMAGE_PNG_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

struct image {
    int width, height;
    int channels;    /* 1: grey; 3: RGB */
    uint8_t *pixels; /* (height, width, channels) row-major; owned */
};

struct image_limits {
    int64_t max_pixels; /* width * height */
    int64_t max_bytes;  /* of the file */
};
extern const struct image_limits image_default_limits; /* 16 Mi pixels, 16 MiB */

/* What shows through where the picture is transparent. */
enum image_alpha { IMAGE_OVER_WHITE, IMAGE_OVER_BLACK };

/*
 * Decodes into `channels` (1 or 3). In this order, each step rounded to 8 bits: samples to 0..255,
 * alpha over the background, grey by Rec. 601 (0.299 R + 0.587 G + 0.114 B). *out is {0} or an
 * earlier picture, whose memory is used again when it is large enough. ERR_BAD (empty, not-png,
 * broken-image, too-large) leaves *out empty. Runs on 64 KiB of stack; small pictures allocate
 * nothing but their pixels.
 */
enum err_kind image_decode(struct bytes file, int channels, enum image_alpha alpha,
                           const struct image_limits *limits, struct image *out,
                           struct err *e) MUST_CHECK;

/* Appends a PNG of 8-bit grey or RGB to `out`; ERR_FATAL when `im` is not a picture. */
enum err_kind image_encode(const struct image *im, struct buf *out, struct err *e) MUST_CHECK;

void image_free(struct image *im); /* back to {0} */

#endif
