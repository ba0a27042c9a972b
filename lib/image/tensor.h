/*
 * tensor: an image file as a model takes it. Training and answering go the same way, so that both
 * see the same.
 */
#ifndef DARKROOM_IMAGE_TENSOR_H
#define DARKROOM_IMAGE_TENSOR_H

#include "lib/base/settings.h"
#include "lib/image/png.h"

struct tensor_reader { /* {0} but for the setting */
    int64_t max_pixels;
    struct image image; /* used again for every file */
};

/* For a worker's settings table; `member` is its struct tensor_reader. */
#define TENSOR_SETTINGS(type, member)                                                              \
    {                                                                                              \
        "max-pixels", SETTING_INT, offsetof(type, member.max_pixels), "16777216",                  \
            "pixels of an image, at most; larger ones are refused before they are unpacked", NULL, \
            1, 1e9, 0                                                                              \
    }

/*
 * Decodes a PNG and brings it to width x height: uint8 (height, width, channels) row-major into
 * out, which has room for it; channels is 1 or 3. ERR_BAD (empty, not-png, broken-image,
 * too-large).
 */
enum err_kind tensor_read(struct tensor_reader *r, struct bytes file, int width, int height,
                          int channels, enum image_alpha alpha, uint8_t *out,
                          struct err *e) MUST_CHECK;
void tensor_reader_free(struct tensor_reader *r);

#endif
