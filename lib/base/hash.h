/*
 * hash: SHA-256, the name of everything that must be the same bytes (libcrypto behind it).
 */
#ifndef DARKROOM_BASE_HASH_H
#define DARKROOM_BASE_HASH_H

#include "lib/base/bytes.h"

enum { HASH_LEN = 32, HASH_HEX = 64 };

struct hash {
    unsigned char bytes[HASH_LEN];
};

/* Of the pieces one after another. */
struct hash hash_of(struct bytes data);
struct hash hash_of_parts(const struct bytes *parts, size_t n);
/* Lower-case hex of the first `len` bytes (at most 32) and a NUL: out has 2 * len + 1 bytes. */
void hash_hex(const struct hash *h, size_t len, char *out);
bool hash_from_hex(struct bytes hex, struct hash *out); /* exactly 64 digits */
bool hash_equal(const struct hash *a, const struct hash *b);

#endif
