/* tensor: decode, convert, resize. */
#include "lib/image/tensor.h"

#include "lib/image/resize.h"

enum err_kind tensor_read(struct tensor_reader *r, struct bytes file, int width, int height,
                          int channels, enum image_alpha alpha, uint8_t *out, struct err *e) {
    struct image_limits limits = image_default_limits;
    limits.max_pixels = r->max_pixels;
    if (image_decode(file, channels, alpha, &limits, &r->image, e)) return e->kind;
    image_fit(&r->image, width, height, out);
    return ERR_NONE;
}

void tensor_reader_free(struct tensor_reader *r) {
    image_free(&r->image);
}
