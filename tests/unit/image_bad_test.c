/*
 * image: bad files, class by class, each with its answer. Files are made by hand, so what is expected of
 * their pixels does not come from libpng.
 *
 *     order      every sequence of chunks up to a length, against the grammar of the specification
 *     checksums  of every chunk, also of those that are skipped
 *     lengths    chunks that end behind the file
 *     bombs      little that unpacks to much
 *     extras     APNG, unknown chunks: not an error
 *     kinds      every colour type, depth, interlace and transparency: not an error, and right
 */
#include "lib/image/png.h"

#include "tests/unit/png_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static struct image picture; /* used again by every decode, as a worker does */
static struct err err;

static enum reason decode(const struct buf *file, int channels, enum image_alpha alpha) {
    err_clear(&err);
    if (!image_decode(buf_bytes(file), channels, alpha, &image_default_limits, &picture, &err))
        return REASON_NONE;
    assert_int_equal(err.kind, ERR_BAD);
    assert_null(picture.pixels);
    assert_true(bytes_is_clean_text(bytes_of(err.text)));
    return err.reason;
}

static void expect(const struct buf *file, enum reason reason, const char *what) {
    enum reason got = decode(file, 1, IMAGE_OVER_WHITE);
    if (got != reason)
        fail_msg("%s: %s instead of %s: %s", what, reason_code(got), reason_code(reason), err.text);
}

static const uint16_t few[] = {0, 1, 2, 3, 3, 2, 1, 0, 1, 1, 2, 2};
static const struct png_sheet small = {PNG_PALETTE, 2, 4, 3, false, few};
static const struct bytes palette = {"\0\0\0\xff\0\0\0\xff\0\0\0\xff", 12}, key = {"\0\x80", 2};

/* ---- order ---- */

/* What letters stand for: H IHDR, P PLTE, T tRNS, D and d the two halves of the picture, A something
   ancillary, E IEND. */
static void add_by_letter(struct buf *b, char letter, const struct png_sheet *s,
                          struct bytes data) {
    size_t half = data.len / 2;
    switch (letter) {
    case 'H': png_header(b, s); break;
    case 'P': png_chunk(b, "PLTE", palette); break;
    case 'T': png_chunk(b, "tRNS", s->type == PNG_PALETTE ? key : BYTES("\0\1\0\1\0\1")); break;
    case 'D': png_chunk(b, "IDAT", (struct bytes){data.data, half}); break;
    case 'd':
        png_chunk(b, "IDAT", (struct bytes){(char *)data.data + half, data.len - half});
        break;
    case 'A': png_chunk(b, "tEXt", BYTES("k\0v")); break;
    default: png_chunk(b, "IEND", BYTES("")); break;
    }
}

/* The grammar: H A* [P A*] [T A*] D d [Dd]* A* E, P needed for a palette. IDAT behind the end of the data
   is as bytes behind the end of the file: ignored. */
static bool is_in_order(const char *letters, bool needs_palette) {
    bool header = false, colours = false, transparent = false, end = false;
    int parts = 0;
    bool apart = false; /* something stood between the data and here */
    for (const char *p = letters; *p && !end; p++) {
        if (*p != 'H' && !header) return false;
        if (parts == 1 && *p != 'd') return false;
        if (parts == 2 && (*p == 'D' || *p == 'd')) {
            if (apart) return false;
            continue;
        }
        apart |= parts == 2;
        switch (*p) {
        case 'H':
            if (header) return false;
            header = true;
            break;
        case 'P':
            if (colours || transparent || parts) return false;
            colours = true;
            break;
        case 'T':
            if (transparent || parts || (needs_palette && !colours)) return false;
            transparent = true;
            break;
        case 'D':
            if (parts || (needs_palette && !colours)) return false;
            parts = 1;
            break;
        case 'd':
            if (parts != 1) return false;
            parts = 2;
            break;
        case 'E': end = true; break;
        default: break;
        }
    }
    return end && parts == 2;
}

static int try_all(char *letters, int at, int most, const struct png_sheet *s, struct bytes data,
                   struct buf before) {
    int tried = 0;
    for (const char *p = "HPTDdAE"; *p; p++) {
        struct buf file = {0};
        buf_add(&file, before.data, before.len);
        add_by_letter(&file, *p, s, data);
        letters[at] = *p;
        letters[at + 1] = 0;
        enum reason want =
            is_in_order(letters, s->type == PNG_PALETTE) ? REASON_NONE : REASON_BROKEN_IMAGE;
        expect(&file, want, letters);
        tried++;
        if (at + 1 < most) tried += try_all(letters, at + 1, most, s, data, file);
        buf_free(&file);
    }
    return tried;
}

static void every_order_of_chunks(void **state) {
    static const uint16_t colours[4 * 3 * 3] = {1, 1, 1, 200, 100, 50};
    const struct png_sheet sheets[] = {small, {PNG_RGB, 8, 4, 3, false, colours}};
    for (size_t i = 0; i < 2; i++) {
        struct buf data = {0}, start = {0};
        char letters[16];
        png_data(&data, &sheets[i]);
        png_begin(&start);
        int most = i ? 5 : 6,
            tried = try_all(letters, 0, most, &sheets[i], buf_bytes(&data), start);
        print_message("%d orders of up to %d chunks\n", tried, most);
        buf_free(&data);
        buf_free(&start);
    }
}

/* ---- checksums and lengths ---- */

static void full_file(struct buf *b, size_t *places, size_t *count) {
    static const char *const names[] = {"IHDR", "gAMA", "PLTE", "tRNS", "prVt",
                                        "IDAT", "IDAT", "tEXt", "IEND"};
    struct buf data = {0};
    png_data(&data, &small);
    size_t half = data.len / 2;
    png_begin(b);
    *count = sizeof names / sizeof *names;
    for (size_t i = 0; i < *count; i++) {
        places[i] = b->len;
        if (i == 0)
            png_header(b, &small);
        else if (i == 5)
            png_chunk(b, "IDAT", (struct bytes){data.data, half});
        else if (i == 6)
            png_chunk(b, "IDAT", (struct bytes){data.data + half, data.len - half});
        else if (i == 8)
            png_chunk(b, "IEND", BYTES(""));
        else
            png_chunk(b, names[i], i == 2 ? palette : i == 3 ? key : BYTES("some"));
    }
    places[*count] = b->len;
    buf_free(&data);
}

static void a_wrong_checksum_of_any_chunk(void **state) {
    struct buf file = {0};
    size_t places[16], count;
    full_file(&file, places, &count);
    expect(&file, REASON_NONE, "whole");
    for (size_t i = 0; i < count; i++)
        for (size_t k = 1; k <= 4; k++) {
            char what[32];
            snprintf(what, sizeof what, "checksum of chunk %zu", i);
            file.data[places[i + 1] - k] = (char)(file.data[places[i + 1] - k] ^ 0x55);
            expect(&file, REASON_BROKEN_IMAGE, what);
            file.data[places[i + 1] - k] = (char)(file.data[places[i + 1] - k] ^ 0x55);
        }
    buf_free(&file);
}

static void a_length_past_the_file(void **state) {
    static const uint32_t lengths[] = {0x7fffffff, 0x80000000, 0xffffffff, 1 << 20, 100};
    struct buf file = {0};
    size_t places[16], count;
    full_file(&file, places, &count);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            char was[4], what[40];
            struct buf number = {0};
            png_number(&number, lengths[k]);
            snprintf(what, sizeof what, "length %x of chunk %zu", lengths[k], i);
            memcpy(was, file.data + places[i], 4);
            memcpy(file.data + places[i], number.data, 4);
            expect(&file, REASON_BROKEN_IMAGE, what);
            memcpy(file.data + places[i], was, 4);
            buf_free(&number);
        }
    buf_free(&file);
}

/* Cut within or behind any chunk, and cut with each chunk left out. */
static void chunks_that_are_missing(void **state) {
    struct buf file = {0};
    size_t places[16], count;
    full_file(&file, places, &count);
    for (size_t i = 0; i < count; i++) {
        struct buf cut = {0};
        buf_add(&cut, file.data, places[i]);
        expect(&cut, REASON_BROKEN_IMAGE, "cut behind a chunk");
        buf_add(&cut, file.data + places[i + 1], file.len - places[i + 1]);
        bool needed = i == 0 || i == 2 || i == 5 || i == 6 || i == 8;
        expect(&cut, needed ? REASON_BROKEN_IMAGE : REASON_NONE, "without a chunk");
        buf_free(&cut);
    }
    buf_free(&file);
}

/* ---- what the header and the palette may say ---- */

static void headers_that_cannot_be(void **state) {
    static const struct {
        int type, depth, width, height;
    } table[] = {
        {PNG_GREY, 3, 4, 3},
        {PNG_GREY, 0, 4, 3},
        {PNG_GREY, 32, 4, 3},
        {PNG_RGB, 4, 4, 3},
        {PNG_PALETTE, 16, 4, 3},
        {PNG_GREY_ALPHA, 4, 4, 3},
        {PNG_RGB_ALPHA, 2, 4, 3},
        {1, 8, 4, 3},
        {5, 8, 4, 3},
        {7, 8, 4, 3},
        {255, 8, 4, 3},
        {PNG_GREY, 8, 0, 3},
        {PNG_GREY, 8, 4, 0},
        {PNG_GREY, 8, -1, 0},
    };
    struct buf data = {0};
    png_data(&data, &small);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct png_sheet s = {table[i].type,   table[i].depth, table[i].width,
                              table[i].height, false,          NULL};
        struct buf file = {0};
        png_begin(&file);
        png_header(&file, &s);
        png_chunk(&file, "PLTE", palette);
        png_chunk(&file, "IDAT", buf_bytes(&data));
        png_chunk(&file, "IEND", BYTES(""));
        expect(&file, REASON_BROKEN_IMAGE, "a header");
        buf_free(&file);
    }
    static const struct {
        uint8_t compression, filter, interlace;
    } methods[] = {{1, 0, 0}, {0, 1, 0}, {0, 64, 0}, {0, 0, 2}, {0, 0, 255}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        struct buf file = {0}, header = {0};
        const uint8_t rest[] = {2, PNG_PALETTE, methods[i].compression, methods[i].filter,
                                methods[i].interlace};
        png_number(&header, 4);
        png_number(&header, 3);
        buf_add(&header, rest, sizeof rest);
        for (size_t cut = 0; cut < 2; cut++) { /* and a header that is too short */
            buf_clear(&file);
            png_begin(&file);
            png_chunk(&file, "IHDR", (struct bytes){header.data, header.len - cut});
            png_chunk(&file, "PLTE", palette);
            png_chunk(&file, "IDAT", buf_bytes(&data));
            png_chunk(&file, "IEND", BYTES(""));
            expect(&file, REASON_BROKEN_IMAGE, "methods");
        }
        buf_free(&file);
        buf_free(&header);
    }
    buf_free(&data);
}

static void palettes_that_cannot_be(void **state) {
    static const char long_one[3 * 257];
    const struct bytes bad[] = {{"", 0}, {long_one, 1}, {long_one, 11}, {long_one, 3 * 257}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf file = {0};
        png_file(&file, &small, bad[i], (struct bytes){0});
        char what[32];
        snprintf(what, sizeof what, "palette of %zu bytes", bad[i].len);
        expect(&file, REASON_BROKEN_IMAGE, what);
        buf_free(&file);
    }
    const struct bytes keys[] = {{"", 0}, {long_one, 5}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct buf file = {0};
        png_file(&file, &small, palette, keys[i]);
        expect(&file, REASON_BROKEN_IMAGE, "a tRNS that the palette does not have");
        buf_free(&file);
    }
}

static void damaged_data_with_right_checksums(void **state) {
    struct buf rows = {0}, data = {0};
    png_rows(&rows, &small);
    for (size_t at = 0; at < rows.len; at += 2) { /* two bytes a row: the filter, and four pixels */
        char was = rows.data[at];
        for (int filter = 5; filter < 256; filter += 50) {
            struct buf file = {0};
            rows.data[at] = (char)filter;
            buf_clear(&data);
            png_stored(&data, buf_bytes(&rows));
            png_begin(&file);
            png_header(&file, &small);
            png_chunk(&file, "PLTE", palette);
            png_chunk(&file, "IDAT", buf_bytes(&data));
            png_chunk(&file, "IEND", BYTES(""));
            expect(&file, REASON_BROKEN_IMAGE, "an unknown filter");
            buf_free(&file);
        }
        rows.data[at] = was;
    }
    buf_clear(&data);
    png_stored(&data, buf_bytes(&rows));
    for (size_t at = 0; at < data.len; at++) { /* zlib's own header, blocks, data and sum */
        struct buf file = {0};
        data.data[at] = (char)(data.data[at] ^ 0x11);
        png_begin(&file);
        png_header(&file, &small);
        png_chunk(&file, "PLTE", palette);
        png_chunk(&file, "IDAT", buf_bytes(&data));
        png_chunk(&file, "IEND", BYTES(""));
        char what[40];
        snprintf(what, sizeof what, "byte %zu of %zu of the data", at, data.len);
        expect(&file, REASON_BROKEN_IMAGE, what);
        data.data[at] = (char)(data.data[at] ^ 0x11);
        buf_free(&file);
    }
    buf_free(&rows);
    buf_free(&data);
}

/* ---- bombs ---- */

static struct bytes data_of(const struct buf *file) {
    for (size_t at = 8; at + 12 <= file->len;) {
        const uint8_t *p = (const uint8_t *)file->data + at;
        size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (memcmp(p + 4, "IDAT", 4) == 0) return (struct bytes){p + 8, n};
        at += n + 12;
    }
    return (struct bytes){0};
}

/* 16 million white pixels are some 16 KB: within the limits when the header says so, refused at once,
   with no memory for them, when it says more, and damage when it says less. */
static void little_that_unpacks_to_much(void **state) {
    enum { SIDE = 4096 };
    struct image blank = {SIDE, SIDE, 1, mem_zeroed(SIDE, SIDE)};
    struct buf file = {0};
    assert_int_equal(image_encode(&blank, &file, &err), ERR_NONE);
    image_free(&blank);
    assert_true(file.len < 64 << 10);
    expect(&file, REASON_NONE, "as large as the limit");
    assert_int_equal(picture.width, SIDE);
    const struct {
        int width, height;
        enum reason reason;
    } says[] = {{1, 1, REASON_BROKEN_IMAGE},           {SIDE, SIDE - 1, REASON_BROKEN_IMAGE},
                {SIDE, SIDE + 1, REASON_TOO_LARGE},    {65535, 65535, REASON_TOO_LARGE},
                {0x7fffffff, 1, REASON_TOO_LARGE},     {1, 0x7fffffff, REASON_TOO_LARGE},
                {SIDE * SIDE, 1, REASON_BROKEN_IMAGE}, {1, SIDE * SIDE, REASON_BROKEN_IMAGE}};
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        struct buf other = {0};
        struct png_sheet s = {PNG_GREY, 8, says[i].width, says[i].height, false, NULL};
        png_begin(&other);
        png_header(&other, &s);
        png_chunk(&other, "IDAT", data_of(&file));
        png_chunk(&other, "IEND", BYTES(""));
        char what[40];
        snprintf(what, sizeof what, "%d x %d", says[i].width, says[i].height);
        clock_t began = clock();
        expect(&other, says[i].reason, what);
        double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
        if (says[i].reason == REASON_TOO_LARGE && seconds > 0.05)
            fail_msg("%s took %f s", what, seconds);
        buf_free(&other);
    }
    buf_free(&file);
    image_free(&picture);
}

/* A chunk before the header hides the size from whoever looks for it at its place. */
static void a_size_behind_another_chunk(void **state) {
    struct png_sheet s = {PNG_GREY, 8, 0x7fffffff, 0x7fffffff, false, NULL};
    struct buf file = {0};
    png_begin(&file);
    png_chunk(&file, "tEXt", BYTES("k\0v"));
    png_header(&file, &s);
    png_chunk(&file, "IDAT", BYTES("\x78\x9c"));
    png_chunk(&file, "IEND", BYTES(""));
    expect(&file, REASON_BROKEN_IMAGE, "a chunk before the header");
    buf_free(&file);
}

/* A hundred thousand chunks that are skipped: time and memory stay what the file's size says. */
static void a_crowd_of_chunks(void **state) {
    static const char *const names[] = {"zTXt", "iTXt", "iCCP", "sPLT", "hIST", "eXIf", "tIME",
                                        "prVt", "acTL", "fcTL", "fdAT", "bKGD", "sBIT", "pHYs"};
    struct buf file = {0}, data = {0};
    png_data(&data, &small);
    png_begin(&file);
    png_header(&file, &small);
    for (size_t i = 0; i < 50000; i++) png_chunk(&file, names[i % 14], BYTES("k\0\0\x78\x9c"));
    png_chunk(&file, "PLTE", palette);
    for (size_t i = 0; i < data.len; i++) /* a byte a chunk, with empty ones between */
        for (size_t k = 0; k < 100; k++)
            png_chunk(&file, "IDAT", (struct bytes){data.data + i, k == 50});
    for (size_t i = 0; i < 50000; i++) png_chunk(&file, names[i % 14], BYTES(""));
    png_chunk(&file, "IEND", BYTES(""));
    expect(&file, REASON_NONE, "a crowd");
    buf_free(&file);
    buf_free(&data);
}

/* ---- not errors ---- */

static void an_apng_is_its_plain_picture(void **state) {
    struct buf data = {0}, frame = {0}, with = {0}, without = {0};
    static const uint16_t other[12] = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
    struct png_sheet second = small;
    second.samples = other;
    png_data(&data, &small);
    png_number(&frame, 2); /* sequence number */
    png_data(&frame, &second);
    png_file(&without, &small, palette, key);
    assert_int_equal(decode(&without, 3, IMAGE_OVER_BLACK), REASON_NONE);
    uint8_t want[4 * 3 * 3];
    memcpy(want, picture.pixels, sizeof want);
    for (int first = 0; first < 2;
         first++) { /* whether the plain picture is part of the animation */
        buf_clear(&with);
        png_begin(&with);
        png_header(&with, &small);
        png_chunk(&with, "acTL", BYTES("\0\0\0\2\0\0\0\0"));
        png_chunk(&with, "PLTE", palette);
        png_chunk(&with, "tRNS", key);
        if (first)
            png_chunk(&with, "fcTL", BYTES("\0\0\0\0\0\0\0\4\0\0\0\3\0\0\0\0\0\0\0\0\0\1\0\2\0\0"));
        png_chunk(&with, "IDAT", buf_bytes(&data));
        png_chunk(&with, "fcTL", BYTES("\0\0\0\1\0\0\0\4\0\0\0\3\0\0\0\0\0\0\0\0\0\1\0\2\0\0"));
        png_chunk(&with, "fdAT", buf_bytes(&frame));
        png_chunk(&with, "IEND", BYTES(""));
        assert_int_equal(decode(&with, 3, IMAGE_OVER_BLACK), REASON_NONE);
        assert_memory_equal(picture.pixels, want, sizeof want);
    }
    buf_free(&data);
    buf_free(&frame);
    buf_free(&with);
    buf_free(&without);
}

static void a_palette_longer_than_its_pixels_can_say(void **state) {
    char long_one[3 * 256];
    for (size_t i = 0; i < sizeof long_one; i++) long_one[i] = (char)(i * 3);
    struct buf file = {0};
    png_file(&file, &small, (struct bytes){long_one, sizeof long_one}, (struct bytes){0});
    assert_int_equal(decode(&file, 3, IMAGE_OVER_BLACK), REASON_NONE);
    for (size_t i = 0; i < 12; i++)
        assert_memory_equal(picture.pixels + 3 * i, long_one + 3 * few[i], 3);
    buf_free(&file);
}

static void a_pixel_without_a_colour_is_black(void **state) {
    struct buf file = {0};
    png_file(&file, &small, BYTES("\x10\x20\x30\x40\x50\x60"), BYTES("\xff\x80"));
    for (int black = 0; black < 2; black++) {
        assert_int_equal(decode(&file, 3, black ? IMAGE_OVER_BLACK : IMAGE_OVER_WHITE),
                         REASON_NONE);
        for (size_t i = 0; i < 12; i++)
            if (few[i] > 1) assert_memory_equal(picture.pixels + 3 * i, "\0\0\0", 3);
    }
    buf_free(&file);
}

/* Every first letter in lower case is ancillary: skipped whatever is in it. In upper case: refused. */
static void unknown_chunks(void **state) {
    for (int critical = 0; critical < 2; critical++)
        for (int place = 0; place < 3; place++) {
            struct buf file = {0}, data = {0};
            const char *name = critical ? "NeVr" : "neVr";
            png_data(&data, &small);
            png_begin(&file);
            png_header(&file, &small);
            if (place == 0) png_chunk(&file, name, BYTES("\xff\0\n"));
            png_chunk(&file, "PLTE", palette);
            if (place == 1) png_chunk(&file, name, BYTES(""));
            png_chunk(&file, "IDAT", buf_bytes(&data));
            if (place == 2) png_chunk(&file, name, BYTES("\xff\0\n"));
            png_chunk(&file, "IEND", BYTES(""));
            expect(&file, critical ? REASON_BROKEN_IMAGE : REASON_NONE, name);
            buf_free(&file);
            buf_free(&data);
        }
    static const char *const names[] = {"1234", "ne r", "ne\x01r", "\xff\xff\xff\xff", "\0\0\0\0"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct buf file = {0}, data = {0};
        png_data(&data, &small);
        png_begin(&file);
        png_header(&file, &small);
        png_chunk(&file, names[i], BYTES("x"));
        png_chunk(&file, "PLTE", palette);
        png_chunk(&file, "IDAT", buf_bytes(&data));
        png_chunk(&file, "IEND", BYTES(""));
        expect(&file, REASON_BROKEN_IMAGE, "a chunk whose name is no letters");
        buf_free(&file);
        buf_free(&data);
    }
}

/* ---- every kind ---- */

static int to_8(unsigned sample, int depth) {
    return (int)((double)sample * 255.0 / (double)((1u << depth) - 1) + 0.5);
}

static int blend(int v, int alpha, int under) {
    return (int)(((double)v * alpha + (double)under * (255 - alpha)) / 255.0 + 0.5);
}

struct kind {
    struct png_sheet sheet;
    struct bytes palette, key;
};

/* What the specification says of one pixel. */
static void expected(const struct kind *k, int at, int under, int rgb[3]) {
    const struct png_sheet *s = &k->sheet;
    const uint16_t *v = s->samples + at * png_channels(s->type);
    const uint8_t *colours = k->palette.data, *transparent = k->key.data;
    bool colour = s->type == PNG_RGB || s->type == PNG_RGB_ALPHA;
    int alpha = 255;
    for (int c = 0; c < 3; c++)
        rgb[c] = s->type == PNG_PALETTE ? colours[3 * v[0] + c] : to_8(v[colour ? c : 0], s->depth);
    if (s->type == PNG_GREY_ALPHA) alpha = to_8(v[1], s->depth);
    if (s->type == PNG_RGB_ALPHA) alpha = to_8(v[3], s->depth);
    if (s->type == PNG_PALETTE && v[0] < k->key.len) alpha = transparent[v[0]];
    if (s->type != PNG_PALETTE && k->key.data) {
        bool same = true;
        for (int c = 0; c < (colour ? 3 : 1); c++)
            same &= v[c] == (transparent[2 * c] << 8 | transparent[2 * c + 1]);
        if (same) alpha = 0;
    }
    for (int c = 0; c < 3; c++) rgb[c] = blend(rgb[c], alpha, under);
}

static void check_kind(const struct kind *k) {
    const struct png_sheet *s = &k->sheet;
    bool colour = s->type == PNG_PALETTE || s->type == PNG_RGB || s->type == PNG_RGB_ALPHA;
    struct buf file = {0};
    png_file(&file, s, k->palette, k->key);
    for (int channels = 1; channels <= 3; channels += 2)
        for (int black = 0; black < 2; black++) {
            if (decode(&file, channels, black ? IMAGE_OVER_BLACK : IMAGE_OVER_WHITE))
                fail_msg("type %d, depth %d, %d x %d: %s", s->type, s->depth, s->width, s->height,
                         err.text);
            assert_int_equal(picture.width, s->width);
            assert_int_equal(picture.height, s->height);
            for (int i = 0; i < s->width * s->height; i++) {
                int rgb[3];
                expected(k, i, black ? 0 : 255, rgb);
                int grey =
                    colour ? (299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000 : rgb[0];
                for (int c = 0; c < channels; c++) {
                    int want = channels == 3 ? rgb[c] : grey,
                        got = picture.pixels[i * channels + c];
                    if (got != want)
                        fail_msg("type %d, depth %d, interlaced %d, key %d, %d x %d, pixel %d: %d "
                                 "instead of %d",
                                 s->type, s->depth, s->interlaced, k->key.data != NULL, s->width,
                                 s->height, i, got, want);
                }
            }
        }
    buf_free(&file);
}

static void every_kind_is_right(void **state) {
    static const struct {
        int type, depths[6];
    } kinds[] = {{PNG_GREY, {1, 2, 4, 8, 16}},
                 {PNG_RGB, {8, 16}},
                 {PNG_PALETTE, {1, 2, 4, 8}},
                 {PNG_GREY_ALPHA, {8, 16}},
                 {PNG_RGB_ALPHA, {8, 16}}};
    static const int sizes[][2] = {{1, 1}, {2, 3}, {3, 2},  {5, 1},
                                   {1, 9}, {8, 8}, {9, 13}, {17, 5}};
    uint16_t samples[17 * 13 * 4];
    uint8_t colours[3 * 256], transparent[256], one[6];
    uint32_t seed = 1;
    int checked = 0;
    for (size_t i = 0; i < sizeof colours; i++) colours[i] = (uint8_t)(i * 89 + i / 7);
    for (size_t i = 0; i < sizeof transparent; i++) transparent[i] = (uint8_t)(i * 37);
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++)
        for (const int *depth = kinds[n].depths; *depth; depth++)
            for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++)
                for (int form = 0; form < 4; form++) {
                    bool with_key = form & 1 && kinds[n].type < PNG_GREY_ALPHA;
                    struct kind k = {.sheet = {kinds[n].type, *depth, sizes[z][0], sizes[z][1],
                                               form & 2, samples}};
                    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
                        seed = seed * 1664525u + 1013904223u;
                        samples[i] = (uint16_t)(seed >> 16 & ((1u << *depth) - 1));
                    }
                    if (k.sheet.type == PNG_PALETTE)
                        k.palette = (struct bytes){colours, 3u << *depth};
                    /* The first pixel's colour is the transparent one; half of a palette has an alpha. */
                    for (int c = 0; c < 3; c++)
                        one[2 * c] = (uint8_t)(samples[c] >> 8),
                                one[2 * c + 1] = (uint8_t)samples[c];
                    if (with_key)
                        k.key = k.sheet.type == PNG_PALETTE
                                    ? (struct bytes){transparent, (size_t)1 << (*depth - 1)}
                                    : (struct bytes){one, k.sheet.type == PNG_RGB ? 6 : 2};
                    check_kind(&k);
                    checked++;
                }
    print_message("%d files\n", checked);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_of_chunks),
        cmocka_unit_test(a_wrong_checksum_of_any_chunk),
        cmocka_unit_test(a_length_past_the_file),
        cmocka_unit_test(chunks_that_are_missing),
        cmocka_unit_test(headers_that_cannot_be),
        cmocka_unit_test(palettes_that_cannot_be),
        cmocka_unit_test(damaged_data_with_right_checksums),
        cmocka_unit_test(little_that_unpacks_to_much),
        cmocka_unit_test(a_size_behind_another_chunk),
        cmocka_unit_test(a_crowd_of_chunks),
        cmocka_unit_test(an_apng_is_its_plain_picture),
        cmocka_unit_test(a_palette_longer_than_its_pixels_can_say),
        cmocka_unit_test(a_pixel_without_a_colour_is_black),
        cmocka_unit_test(unknown_chunks),
        cmocka_unit_test(every_kind_is_right),
    };
    int failed = cmocka_run_group_tests_name("image_bad", tests, NULL, NULL);
    image_free(&picture);
    return failed;
}
