/* hash: SHA-256 by libcrypto. Without it nothing can be named, so the process ends. */
#include "lib/base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fetching the algorithm costs more than hashing an image: once a thread, then the context is
 * reused. */
static _Thread_local EVP_MD_CTX *context;
static EVP_MD *algorithm;

struct hash hash_of_parts(const struct bytes *parts, size_t n) {
    struct hash h;
    if (!algorithm) algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!context) context = EVP_MD_CTX_new();
    int ok = algorithm && context && EVP_DigestInit_ex2(context, algorithm, NULL);
    for (size_t i = 0; ok && i < n; i++)
        ok = EVP_DigestUpdate(context, parts[i].data, parts[i].len);
    if (!ok || !EVP_DigestFinal_ex(context, h.bytes, NULL)) {
        fprintf(stderr, "libcrypto has no SHA-256: nothing can be named or checked\n");
        abort();
    }
    return h;
}

struct hash hash_of(struct bytes data) {
    return hash_of_parts(&data, 1);
}

void hash_hex(const struct hash *h, size_t len, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len && i < HASH_LEN; i++) {
        *out++ = digits[h->bytes[i] >> 4];
        *out++ = digits[h->bytes[i] & 15];
    }
    *out = 0;
}

bool hash_from_hex(struct bytes hex, struct hash *out) {
    if (hex.len != HASH_HEX) return false;
    const char *p = hex.data;
    for (size_t i = 0; i < HASH_HEX; i++) {
        char c = p[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0) return false;
        out->bytes[i / 2] = (unsigned char)(i % 2 ? out->bytes[i / 2] << 4 | v : v);
    }
    return true;
}

bool hash_equal(const struct hash *a, const struct hash *b) {
    return memcmp(a->bytes, b->bytes, HASH_LEN) == 0;
}
