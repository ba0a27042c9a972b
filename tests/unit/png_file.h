/*
 * png_file: PNG files made by hand, chunk by chunk and without libpng, so that nothing which is
 * expected of a file comes from the library that reads it. Pixels stand in stored blocks of zlib,
 * rows have the filters 0 to 4 in turn.
 */
#ifndef DARKROOM_TESTS_PNG_FILE_H
#define DARKROOM_TESTS_PNG_FILE_H

#include "lib/base/bytes.h"

#include <stdlib.h>

enum { PNG_GREY = 0, PNG_RGB = 2, PNG_PALETTE = 3, PNG_GREY_ALPHA = 4, PNG_RGB_ALPHA = 6 };

struct png_sheet {
    int type, depth, width, height; /* depth: bits of a sample */
    bool interlaced;
    const uint16_t *samples; /* (height, width, png_channels(type)) */
};

static inline int png_channels(int type) {
    return type == PNG_RGB ? 3 : type == PNG_RGB_ALPHA ? 4 : type == PNG_GREY_ALPHA ? 2 : 1;
}

static inline void png_number(struct buf *b, uint32_t v) {
    const uint8_t four[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_add(b, four, sizeof four);
}

/* CRC-32 of the PNG specification, annex D. */
static inline uint32_t png_crc(const void *data, size_t n) {
    uint32_t c = ~0u;
    for (const uint8_t *p = data; n--; p++) {
        c ^= *p;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    }
    return ~c;
}

static inline void png_begin(struct buf *b) {
    buf_add(b, "\x89PNG\r\n\x1a\n", 8);
}

static inline void png_chunk(struct buf *b, const char *name, struct bytes data) {
    png_number(b, (uint32_t)data.len);
    size_t from = b->len;
    buf_add(b, name, 4);
    buf_add(b, data.data, data.len);
    png_number(b, png_crc(b->data + from, b->len - from));
}

static inline void png_header(struct buf *b, const struct png_sheet *s) {
    struct buf h = {0};
    png_number(&h, (uint32_t)s->width);
    png_number(&h, (uint32_t)s->height);
    const uint8_t rest[] = {(uint8_t)s->depth, (uint8_t)s->type, 0, 0, s->interlaced};
    buf_add(&h, rest, sizeof rest);
    png_chunk(b, "IHDR", buf_bytes(&h));
    buf_free(&h);
}

/* ---- rows ---- */

static inline int png_paeth(int a, int b, int c) {
    int p = a + b - c, pa = abs(p - a), pb = abs(p - b), pc = abs(p - c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* One row of a pass (before: the one above it, or zeros) with a filter, appended. */
static inline void png_filtered(struct buf *b, const uint8_t *row, const uint8_t *before, size_t n,
                                size_t step, int filter) {
    buf_add(b, &(uint8_t){(uint8_t)filter}, 1);
    for (size_t i = 0; i < n; i++) {
        int left = i < step ? 0 : row[i - step], up = before[i];
        int corner = i < step ? 0 : before[i - step];
        const int guess[] = {0, left, up, (left + up) / 2, png_paeth(left, up, corner)};
        buf_add(b, &(uint8_t){(uint8_t)(row[i] - guess[filter])}, 1);
    }
}

/* The pixels x0, x0 + dx, … of the rows y0, y0 + dy, … as one pass; nothing when there are none. */
static inline void png_pass(struct buf *b, const struct png_sheet *s, int x0, int y0, int dx,
                            int dy) {
    int n = png_channels(s->type);
    size_t columns = x0 < s->width ? (size_t)((s->width - x0 + dx - 1) / dx) : 0;
    size_t bits = columns * (size_t)(n * s->depth), stride = (bits + 7) / 8;
    size_t step = (size_t)(n * s->depth + 7) / 8;
    uint8_t *row = mem_zeroed(2, stride + 1), *before = row + stride + 1;
    for (int y = y0, count = 0; columns && y < s->height; y += dy, count++) {
        memcpy(before, row, stride);
        memset(row, 0, stride);
        size_t at = 0;
        for (int x = x0; x < s->width; x += dx)
            for (int c = 0; c < n; c++, at += (size_t)s->depth) {
                unsigned v = s->samples[(y * s->width + x) * n + c];
                if (s->depth == 16)
                    row[at / 8] = (uint8_t)(v >> 8), row[at / 8 + 1] = (uint8_t)v;
                else
                    row[at / 8] |= (uint8_t)(v << (8 - s->depth - (int)(at % 8)));
            }
        png_filtered(b, row, before, stride, step, count % 5);
    }
    free(row);
}

static inline void png_rows(struct buf *b, const struct png_sheet *s) {
    static const int adam7[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                    {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
    if (!s->interlaced) png_pass(b, s, 0, 0, 1, 1);
    for (int p = 0; s->interlaced && p < 7; p++)
        png_pass(b, s, adam7[p][0], adam7[p][1], adam7[p][2], adam7[p][3]);
}

/* zlib: a header, blocks that are stored as they are, Adler-32. */
static inline void png_stored(struct buf *b, struct bytes data) {
    const uint8_t *p = data.data;
    uint32_t low = 1, high = 0;
    buf_add(b, "\x78\x01", 2);
    for (size_t at = 0, n; at < data.len; at += n) {
        n = data.len - at < 65535 ? data.len - at : 65535;
        const uint8_t head[] = {at + n == data.len, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n,
                                (uint8_t)(~n >> 8)};
        buf_add(b, head, sizeof head);
        buf_add(b, p + at, n);
    }
    for (size_t i = 0; i < data.len; i++) {
        low = (low + p[i]) % 65521;
        high = (high + low) % 65521;
    }
    png_number(b, high << 16 | low);
}

/* What belongs into the IDAT chunks of a sheet. */
static inline void png_data(struct buf *b, const struct png_sheet *s) {
    struct buf rows = {0};
    png_rows(&rows, s);
    png_stored(b, buf_bytes(&rows));
    buf_free(&rows);
}

/* A whole file; palette and key (tRNS) absent: without them. */
static inline void png_file(struct buf *b, const struct png_sheet *s, struct bytes palette,
                            struct bytes key) {
    struct buf data = {0};
    png_data(&data, s);
    png_begin(b);
    png_header(b, s);
    if (palette.data) png_chunk(b, "PLTE", palette);
    if (key.data) png_chunk(b, "tRNS", key);
    png_chunk(b, "IDAT", buf_bytes(&data));
    png_chunk(b, "IEND", BYTES(""));
    buf_free(&data);
}

#endif
