/*
 * PNG: what is refused leaves no picture and takes no memory of the size that it claims; what is taken is
 * the same picture in grey as in colour, and again after it was encoded. Three of four inputs get
 * right checksums, or nothing behind a checksum would ever be reached.
 */
#include "lib/image/tensor.h"

#include "tests/fuzz/fuzz.h"
#include "tests/unit/png_file.h"

static const struct image_limits limits = {1 << 16, 1 << 20};

static void holds_of_picture(const struct image *im) {
    HOLDS(im->pixels && im->width >= 1 && im->height >= 1);
    HOLDS((int64_t)im->width * im->height <= limits.max_pixels);
}

static void there_and_back(const struct image *im) {
    struct buf file = {0};
    struct image back = {0};
    struct err e = {0};
    HOLDS(!image_encode(im, &file, &e));
    HOLDS(!image_decode(buf_bytes(&file), im->channels, IMAGE_OVER_BLACK, &limits, &back, &e));
    HOLDS(back.width == im->width && back.height == im->height);
    HOLDS(!memcmp(back.pixels, im->pixels,
                  (size_t)im->width * (size_t)im->height * (size_t)im->channels));
    image_free(&back);
    buf_free(&file);
    uint8_t pixel = 0;
    const struct image none = {.width = 0, .height = 1, .channels = 1, .pixels = &pixel};
    const struct image wide = {.width = 1 << 24, .height = 1, .channels = 1, .pixels = &pixel};
    HOLDS(image_encode(&none, &file, &e) == ERR_FATAL &&
          image_encode(&wide, &file, &e) == ERR_FATAL);
    buf_free(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes file = {data, size};
    enum image_alpha alpha = size & 1 ? IMAGE_OVER_BLACK : IMAGE_OVER_WHITE;
    struct image grey = {0}, colour = {0};
    struct err e = {0};
    enum err_kind kind = image_decode(file, 1, alpha, &limits, &grey, &e);
    holds_of_error(kind, &e);
    HOLDS(image_decode(file, 3, alpha, &limits, &colour, &e) == kind);
    if (kind) {
        HOLDS(!grey.pixels && !colour.pixels);
        return 0;
    }
    holds_of_picture(&grey);
    const struct image_limits tight = {limits.max_pixels, (int64_t)size - 1};
    HOLDS(image_decode(file, 1, alpha, &tight, &(struct image){0}, &e) &&
          e.reason == REASON_TOO_LARGE);
    HOLDS(grey.width == colour.width && grey.height == colour.height);
    size_t n = (size_t)grey.width * (size_t)grey.height;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = colour.pixels + 3 * i;
        HOLDS(grey.pixels[i] == (299 * p[0] + 587 * p[1] + 114 * p[2] + 500) / 1000);
    }
    if (n <= 1024) there_and_back(n & 1 ? &grey : &colour);
    struct tensor_reader r = {.max_pixels = limits.max_pixels};
    uint8_t tensor[5 * 7 * 3];
    HOLDS(!tensor_read(&r, file, 5, 7, 3, alpha, tensor, &e));
    tensor_reader_free(&r);
    image_free(&grey);
    image_free(&colour);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    size = LLVMFuzzerMutate(data, size, max_size);
    for (size_t at = 8; seed % 4 && at + 12 <= size;) {
        size_t n = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 |
                   data[at + 3];
        if (n > size - at - 12) break;
        uint32_t sum = png_crc(data + at + 4, n + 4);
        for (int i = 0; i < 4; i++) data[at + 8 + n + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
        at += n + 12;
    }
    return size;
}
