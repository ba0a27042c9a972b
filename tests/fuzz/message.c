/*
 * A message of proto/messages.h, MESSAGE by the build: what is decoded and encoded is decoded and encoded
 * to the same bytes, and what is encoded is clean text.
 */
#include "proto/messages.h"

#include "tests/fuzz/fuzz.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define DECODE JOIN(MESSAGE, _decode)
#define ENCODE JOIN(MESSAGE, _encode)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct MESSAGE m;
    static struct arena a; /* its memory is used again: a decoder is faster than malloc */
    struct err e = {0};
    enum err_kind kind = DECODE((struct bytes){data, size}, &a, &m, &e);
    holds_of_error(kind, &e);
    if (!kind) {
        struct MESSAGE back;
        struct buf once = {0}, twice = {0};
        ENCODE(&m, &once);
        HOLDS(bytes_is_clean_text(buf_bytes(&once)));
        kind = DECODE(buf_bytes(&once), &a, &back, &e);
        HOLDS(!kind);
        ENCODE(&back, &twice);
        HOLDS(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
        buf_free(&once);
        buf_free(&twice);
    }
    arena_reset(&a);
    return 0;
}
