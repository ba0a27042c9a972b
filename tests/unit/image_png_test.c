/*
 * png: what is decoded is compared with a reference that reads the samples it made, not the file;
 * what is damaged must be refused at every byte. Files are made with libpng here, chunk by chunk
 * where it would refuse to.
 */
#include "lib/image/png.h"

#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct err e;

/* ---- making files ---- */

static void add_to_buf(png_structp png, png_bytep data, size_t n) {
    buf_add(png_get_io_ptr(png), data, n);
}
static void no_flush(png_structp png) {
    (void)png;
}

enum { W = 11, H = 9 };
static uint16_t samples[W * H * 4];
static png_color palette[256];
static uint8_t palette_alpha[256];

static int channels_of(int type) {
    return type == PNG_COLOR_TYPE_RGB          ? 3
           : type == PNG_COLOR_TYPE_RGB_ALPHA  ? 4
           : type == PNG_COLOR_TYPE_GRAY_ALPHA ? 2
                                               : 1;
}

static void make_samples(int type, int depth, int width, int height) {
    unsigned seed = (unsigned)(type * 100 + depth);
    for (int i = 0; i < width * height * channels_of(type); i++) {
        seed = seed * 1103515245u + 12345u;
        samples[i] = (uint16_t)((seed >> 8) & ((1u << depth) - 1));
    }
    for (int i = 0; i < 256; i++) {
        palette[i] = (png_color){(png_byte)(i * 7), (png_byte)(255 - i * 3), (png_byte)(i * 31)};
        palette_alpha[i] = (uint8_t)(255 - i * 5);
    }
}

/* The samples as a file; `key`: with a tRNS chunk, for grey and RGB the colour of the first pixel.
 */
static struct buf make_png(int type, int depth, int interlace, bool key, int width, int height) {
    struct buf out = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &out, add_to_buf, no_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, depth, type, interlace, 0, 0);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 1 << depth);
    if (key && type == PNG_COLOR_TYPE_PALETTE) {
        png_set_tRNS(png, info, palette_alpha, 1 << depth, NULL);
    } else if (key) {
        png_color_16 colour = {
            .gray = samples[0], .red = samples[0], .green = samples[1], .blue = samples[2]};
        png_set_tRNS(png, info, NULL, 0, &colour);
    }
    png_set_gAMA(png, info, 1.0);
    png_write_info(png, info);
    int n = channels_of(type);
    size_t stride = ((size_t)width * (size_t)n * (size_t)depth + 7) / 8;
    uint8_t *plane = mem_zeroed(stride, (size_t)height);
    png_bytep rows[256];
    for (int y = 0; y < height; y++) {
        rows[y] = plane + (size_t)y * stride;
        for (int i = 0; i < width * n; i++) {
            unsigned s = samples[y * width * n + i];
            if (depth == 16)
                rows[y][2 * i] = (uint8_t)(s >> 8), rows[y][2 * i + 1] = (uint8_t)s;
            else
                rows[y][i * depth / 8] |= (uint8_t)(s << (8 - depth - i * depth % 8));
        }
    }
    png_write_image(png, rows);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(plane);
    return out;
}

static unsigned crc_of(const uint8_t *p, size_t n) {
    unsigned c = ~0u;
    while (n--) {
        c ^= *p++;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    }
    return ~c;
}

static void add_number(struct buf *b, unsigned v) {
    uint8_t four[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_add(b, four, 4);
}

static void add_chunk(struct buf *b, const char *type, struct bytes data) {
    add_number(b, (unsigned)data.len);
    size_t begin = b->len;
    buf_add(b, type, 4);
    buf_add(b, data.data, data.len);
    add_number(b, crc_of((uint8_t *)b->data + begin, b->len - begin));
}

static struct bytes chunk_of(const struct buf *file, const char *type) {
    for (size_t at = 8; at + 12 <= file->len;) {
        size_t n = png_get_uint_32((png_bytep)file->data + at);
        if (memcmp(file->data + at + 4, type, 4) == 0)
            return (struct bytes){file->data + at + 8, n};
        at += n + 12;
    }
    return (struct bytes){0};
}

static void begin_file(struct buf *b) {
    buf_add(b, "\x89PNG\r\n\x1a\n", 8);
}

/* The parts of a file, with one more chunk between the header and the picture. */
static struct buf with_chunk(const struct buf *file, const char *type, struct bytes data) {
    struct buf out = {0};
    begin_file(&out);
    add_chunk(&out, "IHDR", chunk_of(file, "IHDR"));
    add_chunk(&out, type, data);
    add_chunk(&out, "IDAT", chunk_of(file, "IDAT"));
    add_chunk(&out, "IEND", (struct bytes){"", 0});
    return out;
}

/* ---- the reference ---- */

static int to_8(unsigned sample, int depth) {
    return (int)((double)sample * 255.0 / (double)((1u << depth) - 1) + 0.5);
}

static int blend(int v, int a, int under) {
    return (int)(((double)v * a + (double)under * (255 - a)) / 255.0 + 0.5);
}

static void expected_pixel(int type, int depth, bool key, int at, int under, int rgb[3]) {
    const uint16_t *s = samples + at * channels_of(type);
    int alpha = 255;
    if (type == PNG_COLOR_TYPE_PALETTE) {
        rgb[0] = palette[s[0]].red, rgb[1] = palette[s[0]].green, rgb[2] = palette[s[0]].blue;
        if (key) alpha = palette_alpha[s[0]];
    } else {
        bool colour = type & PNG_COLOR_MASK_COLOR;
        for (int c = 0; c < 3; c++) rgb[c] = to_8(s[colour ? c : 0], depth);
        if (type & PNG_COLOR_MASK_ALPHA) alpha = to_8(s[colour ? 3 : 1], depth);
        if (key && memcmp(s, samples, (colour ? 3 : 1) * sizeof *s) == 0) alpha = 0;
    }
    for (int c = 0; c < 3; c++) rgb[c] = blend(rgb[c], alpha, under);
}

static void check_picture(int type, int depth, int interlace, bool key, int width, int height) {
    make_samples(type, depth, width, height);
    struct buf file = make_png(type, depth, interlace, key, width, height);
    for (int channels = 1; channels <= 3; channels += 2)
        for (int over = 0; over < 2; over++) {
            struct image im = {0};
            enum image_alpha alpha = over ? IMAGE_OVER_BLACK : IMAGE_OVER_WHITE;
            if (image_decode(buf_bytes(&file), channels, alpha, &image_default_limits, &im, &e))
                fail_msg("type %d depth %d: %s", type, depth, e.text);
            assert_int_equal(im.width, width);
            assert_int_equal(im.height, height);
            assert_int_equal(im.channels, channels);
            for (int i = 0; i < width * height; i++) {
                int rgb[3];
                expected_pixel(type, depth, key, i, over ? 0 : 255, rgb);
                if (channels == 3) {
                    for (int c = 0; c < 3; c++) assert_int_equal(im.pixels[3 * i + c], rgb[c]);
                } else if (type & PNG_COLOR_MASK_COLOR) {
                    int grey = (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000;
                    assert_int_equal(im.pixels[i], grey);
                } else {
                    assert_int_equal(im.pixels[i], rgb[0]);
                }
            }
            image_free(&im);
        }
    buf_free(&file);
}

static void every_kind_of_png(void **state) {
    static const struct {
        int type, depths[6];
    } kinds[] = {
        {PNG_COLOR_TYPE_GRAY, {1, 2, 4, 8, 16}}, {PNG_COLOR_TYPE_RGB, {8, 16}},
        {PNG_COLOR_TYPE_PALETTE, {1, 2, 4, 8}},  {PNG_COLOR_TYPE_GRAY_ALPHA, {8, 16}},
        {PNG_COLOR_TYPE_RGB_ALPHA, {8, 16}},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (const int *depth = kinds[k].depths; *depth; depth++)
            for (int interlace = 0; interlace < 2; interlace++)
                for (int key = 0; key < (kinds[k].type & PNG_COLOR_MASK_ALPHA ? 1 : 2); key++) {
                    check_picture(kinds[k].type, *depth, interlace, key, W, H);
                    check_picture(kinds[k].type, *depth, interlace, key, 1, 1);
                }
}

/* ---- refusals ---- */

static struct image kept; /* used again by every decode, as a worker does */

static enum reason decode(struct bytes file) {
    err_clear(&e);
    if (!image_decode(file, 1, IMAGE_OVER_WHITE, &image_default_limits, &kept, &e))
        return REASON_NONE;
    assert_int_equal(e.kind, ERR_BAD);
    assert_null(kept.pixels);
    return e.reason;
}

static void expect(struct buf file, enum reason reason) {
    enum reason got = decode(buf_bytes(&file));
    if (got != reason)
        fail_msg("%s instead of %s: %s", reason_code(got), reason_code(reason), e.text);
    buf_free(&file);
}

static void what_is_no_png(void **state) {
    assert_int_equal(decode((struct bytes){0}), REASON_EMPTY);
    assert_int_equal(decode(BYTES("")), REASON_EMPTY);
    assert_int_equal(decode(BYTES("\x89PNG\r\n\x1a")), REASON_NOT_PNG);
    assert_int_equal(decode(BYTES("GIF89a-and-more")), REASON_NOT_PNG);
    assert_int_equal(decode(BYTES("\x89PNG\r\n\x1a\n")), REASON_BROKEN_IMAGE);
}

/* The file at an address of its own, so that a sanitizer sees a byte read too many. */
static enum reason decode_copy(const char *data, size_t len) {
    char *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    enum reason reason = decode((struct bytes){copy, len});
    free(copy);
    return reason;
}

static void cut_or_flipped_at_every_byte(void **state) {
    for (int interlace = 0; interlace < 2; interlace++) {
        make_samples(PNG_COLOR_TYPE_PALETTE, 4, W, H);
        struct buf file = make_png(PNG_COLOR_TYPE_PALETTE, 4, interlace, true, W, H);
        assert_int_equal(decode_copy(file.data, file.len), REASON_NONE);
        for (size_t n = 0; n < file.len; n++) {
            enum reason want = n == 0 ? REASON_EMPTY : n < 8 ? REASON_NOT_PNG : REASON_BROKEN_IMAGE;
            if (decode_copy(file.data, n) != want) fail_msg("cut to %zu of %zu bytes", n, file.len);
        }
        for (size_t at = 0; at < file.len; at++)
            for (int bit = 0; bit < 8; bit++) {
                file.data[at] = (char)(file.data[at] ^ 1 << bit);
                if (decode_copy(file.data, file.len) == REASON_NONE)
                    fail_msg("bit %d of byte %zu of %zu was flipped", bit, at, file.len);
                file.data[at] = (char)(file.data[at] ^ 1 << bit);
            }
        buf_free(&file);
    }
}

/* Every checksum of a chunk is right, what is in it is not enough or not in its place. */
static void broken_with_right_checksums(void **state) {
    make_samples(PNG_COLOR_TYPE_GRAY, 8, W, H);
    struct buf file = make_png(PNG_COLOR_TYPE_GRAY, 8, 0, false, W, H);
    struct bytes header = chunk_of(&file, "IHDR"), data = chunk_of(&file, "IDAT");
    for (size_t cut = 1; cut < data.len; cut++) {
        struct buf b = {0};
        begin_file(&b);
        add_chunk(&b, "IHDR", header);
        add_chunk(&b, "IDAT", (struct bytes){data.data, data.len - cut});
        add_chunk(&b, "IEND", (struct bytes){"", 0});
        enum reason got = decode(buf_bytes(&b));
        if (got != REASON_BROKEN_IMAGE)
            fail_msg("%zu bytes less of IDAT: %s", cut, reason_code(got));
        buf_free(&b);
    }
    struct buf b = {0}; /* the picture before its header */
    begin_file(&b);
    add_chunk(&b, "IDAT", data);
    add_chunk(&b, "IHDR", header);
    add_chunk(&b, "IEND", (struct bytes){"", 0});
    expect(b, REASON_BROKEN_IMAGE);

    expect(with_chunk(&file, "IHDR", header), REASON_BROKEN_IMAGE); /* two headers */
    expect(with_chunk(&file, "XXXX", BYTES("a critical chunk that nobody knows")),
           REASON_BROKEN_IMAGE);

    b = (struct buf){0}; /* no picture at all */
    begin_file(&b);
    add_chunk(&b, "IHDR", header);
    add_chunk(&b, "IEND", (struct bytes){"", 0});
    expect(b, REASON_BROKEN_IMAGE);

    b = (struct buf){0}; /* a palette picture without its palette */
    uint8_t h[13];
    memcpy(h, header.data, 13);
    h[9] = PNG_COLOR_TYPE_PALETTE;
    begin_file(&b);
    add_chunk(&b, "IHDR", (struct bytes){h, 13});
    add_chunk(&b, "IDAT", data);
    add_chunk(&b, "IEND", (struct bytes){"", 0});
    expect(b, REASON_BROKEN_IMAGE);
    buf_free(&file);
}

static void what_others_put_into_png(void **state) {
    make_samples(PNG_COLOR_TYPE_GRAY, 8, W, H);
    struct buf file = make_png(PNG_COLOR_TYPE_GRAY, 8, 0, false, W, H);
    expect(with_chunk(&file, "acTL", BYTES("\0\0\0\2\0\0\0\0")), REASON_NONE); /* an APNG says so */
    expect(with_chunk(&file, "prVt", BYTES("of some program")), REASON_NONE);
    expect(with_chunk(&file, "gAMA", BYTES("not four bytes")), REASON_NONE);
    expect(with_chunk(&file, "iCCP", BYTES("nonsense")), REASON_NONE);
    for (int i = 0; i < W * H; i++) assert_int_equal(kept.pixels[i], samples[i]);
    buf_add_text(&file, "behind IEND");
    assert_int_equal(decode(buf_bytes(&file)), REASON_NONE);
    buf_free(&file);
}

static struct buf with_size(unsigned width, unsigned height) {
    struct buf b = {0}, header = {0};
    add_number(&header, width);
    add_number(&header, height);
    buf_add(&header, "\x10\6\0\0\0", 5);
    begin_file(&b);
    add_chunk(&b, "IHDR", buf_bytes(&header));
    add_chunk(&b, "IDAT", BYTES("\x78\x9c"));
    add_chunk(&b, "IEND", (struct bytes){"", 0});
    buf_free(&header);
    return b;
}

static void bombs(void **state) {
    expect(with_size(100000, 100000), REASON_TOO_LARGE);
    expect(with_size(0x7fffffff, 0x7fffffff), REASON_TOO_LARGE);
    expect(with_size(0xffffffff, 0xffffffff), REASON_TOO_LARGE);
    expect(with_size(4097, 4096), REASON_TOO_LARGE);
    expect(with_size(0, 5), REASON_BROKEN_IMAGE);
    expect(with_size(16 << 20, 1),
           REASON_BROKEN_IMAGE); /* allowed, but there is no picture in it */

    make_samples(PNG_COLOR_TYPE_GRAY, 8, W, H);
    struct buf file = make_png(PNG_COLOR_TYPE_GRAY, 8, 0, false, W, H);
    /* 64 MB of zeros in a text: libpng writes it, and the same bytes are a zTXt and an iCCP. */
    struct buf bomb = {0};
    char *text = mem_alloc((64 << 20) + 1);
    memset(text, 'x', 64 << 20);
    text[64 << 20] = 0;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &bomb, add_to_buf, no_flush);
    png_set_IHDR(png, info, 1, 1, 8, PNG_COLOR_TYPE_GRAY, 0, 0, 0);
    png_text item = {.compression = PNG_TEXT_COMPRESSION_zTXt,
                     .key = "k",
                     .text = text,
                     .text_length = 64 << 20};
    png_set_text(png, info, &item, 1);
    png_write_info(png, info);
    png_destroy_write_struct(&png, &info);
    free(text);
    struct bytes packed = chunk_of(&bomb, "zTXt");
    assert_non_null(packed.data);
    expect(with_chunk(&file, "zTXt", packed), REASON_NONE);
    expect(with_chunk(&file, "iCCP", packed), REASON_NONE);
    struct buf international = {0}; /* keyword, compressed, method, no language, no translation */
    buf_add(&international, "k\0\1\0\0\0", 6);
    buf_add(&international, (const char *)packed.data + 3, packed.len - 3);
    expect(with_chunk(&file, "iTXt", buf_bytes(&international)), REASON_NONE);
    buf_free(&international);
    buf_free(&bomb);

    struct buf big = {0};
    buf_reserve(&big, 2 << 20);
    memset(big.data, 'x', 2 << 20);
    big.len = 2 << 20;
    expect(with_chunk(&file, "tEXt", buf_bytes(&big)), REASON_NONE); /* skipped, not kept */
    buf_free(&big);

    struct image_limits tight = image_default_limits;
    tight.max_bytes = (int64_t)file.len - 1;
    assert_int_equal(image_decode(buf_bytes(&file), 1, IMAGE_OVER_WHITE, &tight, &kept, &e),
                     ERR_BAD);
    assert_int_equal(e.reason, REASON_TOO_LARGE);
    tight = image_default_limits;
    tight.max_pixels = W * H - 1;
    assert_int_equal(image_decode(buf_bytes(&file), 1, IMAGE_OVER_WHITE, &tight, &kept, &e),
                     ERR_BAD);
    assert_int_equal(e.reason, REASON_TOO_LARGE);
    tight.max_pixels = W * H;
    assert_int_equal(image_decode(buf_bytes(&file), 1, IMAGE_OVER_WHITE, &tight, &kept, &e),
                     ERR_NONE);
    buf_free(&file);
}

/* ---- values ---- */

static int grey_of(int type, const uint16_t *pixel, enum image_alpha alpha) {
    memcpy(samples, pixel, (size_t)channels_of(type) * sizeof *pixel);
    struct buf file = make_png(type, 8, 0, false, 1, 1);
    struct image im = {0};
    assert_int_equal(image_decode(buf_bytes(&file), 1, alpha, &image_default_limits, &im, &e), 0);
    int grey = im.pixels[0];
    image_free(&im);
    buf_free(&file);
    return grey;
}

static void known_values(void **state) {
    static const struct {
        uint16_t rgba[4];
        int white, black;
    } table[] = {
        {{255, 0, 0, 255}, 76, 76},       {{0, 255, 0, 255}, 150, 150},
        {{0, 0, 255, 255}, 29, 29},       {{255, 255, 255, 255}, 255, 255},
        {{10, 10, 10, 255}, 10, 10},      {{0, 0, 0, 0}, 255, 0},
        {{200, 200, 200, 0}, 255, 0},     {{0, 0, 0, 128}, 127, 0},
        {{255, 255, 255, 128}, 255, 128}, {{100, 100, 100, 51}, 224, 20},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_int_equal(grey_of(PNG_COLOR_TYPE_RGB_ALPHA, table[i].rgba, IMAGE_OVER_WHITE),
                         table[i].white);
        assert_int_equal(grey_of(PNG_COLOR_TYPE_RGB_ALPHA, table[i].rgba, IMAGE_OVER_BLACK),
                         table[i].black);
    }
}

static void there_and_back(void **state) {
    uint8_t pixels[37 * 23 * 3];
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 37 + i / 50);
    for (int channels = 1; channels <= 3; channels += 2) {
        struct image from = {37, 23, channels, pixels}, back = {0};
        struct buf file = {0};
        buf_add_text(&file, "before");
        assert_int_equal(image_encode(&from, &file, &e), ERR_NONE);
        struct bytes png = {file.data + 6, file.len - 6};
        assert_int_equal(
            image_decode(png, channels, IMAGE_OVER_WHITE, &image_default_limits, &back, &e), 0);
        assert_int_equal(back.width, 37);
        assert_int_equal(back.height, 23);
        assert_memory_equal(back.pixels, pixels, (size_t)(37 * 23 * channels));
        image_free(&back);
        buf_free(&file);
    }
    struct image none = {0, 5, 1, pixels}, two = {5, 5, 2, pixels};
    struct buf file = {0};
    assert_int_equal(image_encode(&none, &file, &e), ERR_FATAL);
    assert_int_equal(image_encode(&two, &file, &e), ERR_FATAL);
    assert_int_equal(file.len, 0);
}

/* A small picture after a large one, a larger one after it: the memory fits each. */
static void memory_used_again(void **state) {
    struct image im = {0};
    static const int sizes[] = {8, 2, 4, 8, 11, 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int n = sizes[i];
        make_samples(PNG_COLOR_TYPE_GRAY, 8, n, n);
        struct buf file = make_png(PNG_COLOR_TYPE_GRAY, 8, 0, false, n, n);
        int channels = i % 2 ? 3 : 1;
        assert_int_equal(image_decode(buf_bytes(&file), channels, IMAGE_OVER_WHITE,
                                      &image_default_limits, &im, &e),
                         0);
        for (int p = 0; p < n * n; p++) assert_int_equal(im.pixels[p * channels], samples[p]);
        buf_free(&file);
    }
    image_free(&im);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_png),
        cmocka_unit_test(what_is_no_png),
        cmocka_unit_test(cut_or_flipped_at_every_byte),
        cmocka_unit_test(broken_with_right_checksums),
        cmocka_unit_test(what_others_put_into_png),
        cmocka_unit_test(bombs),
        cmocka_unit_test(known_values),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(memory_used_again),
    };
    int failed = cmocka_run_group_tests_name("image_png", tests, NULL, NULL);
    image_free(&kept);
    return failed;
}
