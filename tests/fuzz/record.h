/*
 * record: a record out of a fuzzer's bytes, a list of pieces: a length, then so many bytes; 255 is an absent
 * piece, 254 and 253 are the next byte 130 and 1,100 times. The first is the key, the second the value, then names
 * and values of headers in turn.
 */
#ifndef DARKROOM_TESTS_FUZZ_RECORD_H
#define DARKROOM_TESTS_FUZZ_RECORD_H

#include "lib/base/record.h"

enum { RECORD_HEADERS = 16 };

static inline struct bytes record_piece(const uint8_t **at, const uint8_t *end, struct arena *a) {
    if (*at == end || **at == 255) {
        *at += *at < end;
        return (struct bytes){0};
    }
    size_t n = *(*at)++, left = (size_t)(end - *at);
    if (n >= 253) {
        size_t times = n == 254 ? 130 : 1100;
        char *text = arena_alloc(a, times);
        memset(text, left ? **at : 'x', times);
        *at += left > 0;
        return (struct bytes){text, times};
    }
    if (n > left) n = left;
    const uint8_t *from = *at;
    *at += n;
    return (struct bytes){from, n};
}

/* Borrows the data; headers are in the arena. */
static inline struct record record_of_bytes(const uint8_t *data, size_t size, struct arena *a) {
    const uint8_t *at = data, *end = data + size;
    struct header *headers = arena_alloc(a, RECORD_HEADERS * sizeof *headers);
    struct record r = {.topic = "darkroom.images", .headers = headers, .time_ms = 1790000000000};
    r.key = record_piece(&at, end, a);
    r.value = record_piece(&at, end, a);
    while (at < end && r.header_count < RECORD_HEADERS) {
        struct bytes name = record_piece(&at, end, a);
        if (!name.data) name = BYTES("");
        headers[r.header_count++] = (struct header){name, record_piece(&at, end, a)};
    }
    return r;
}

#endif
