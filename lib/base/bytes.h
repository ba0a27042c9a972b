/*
 * bytes: borrowed memory (struct bytes), owned memory that grows (struct buf), and memory that is
 * given back all at once (struct arena). Running out of memory ends the process with a clear line:
 * sizes that come from outside are checked against limits before they get here.
 */
#ifndef DARKROOM_BASE_BYTES_H
#define DARKROOM_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Never NULL; freed with free(). mem_zeroed clears n * size bytes and refuses an overflow. */
void *mem_alloc(size_t n);
void *mem_zeroed(size_t n, size_t size);
void *mem_resize(void *p, size_t n);
char *mem_copy(const void *data, size_t len); /* with a NUL behind it */

/* Borrowed: whoever made it owns the memory. data == NULL is "absent" (a Kafka null); len 0 with
   data is "empty". */
struct bytes {
    const void *data;
    size_t len;
};
#define BYTES(literal) ((struct bytes){literal, sizeof(literal) - 1})
struct bytes bytes_of(const char *text); /* NULL gives absent */
static inline bool bytes_equal(struct bytes a, struct bytes b) {
    return a.len == b.len && (!a.len || memcmp(a.data, b.data, a.len) == 0);
}
/* Inline, so that the length of a literal is known before anything is read. */
static inline bool bytes_is(struct bytes a, const char *text) {
    return bytes_equal(a, (struct bytes){text, strlen(text)});
}
/* The place of x in a small set of *n, which it joins when it is new. */
size_t bytes_enter(struct bytes *set, size_t *n, struct bytes x);
/* Valid UTF-8 without control characters (C0, DEL, C1): fit for logs, terminals, CSV and JSON. */
bool bytes_is_clean_text(struct bytes a);

/* Owned: {0} is empty; data has a NUL behind it whenever it is not NULL. */
struct buf {
    char *data;
    size_t len, cap;
};
void buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_text(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_clear(struct buf *b); /* keeps the memory */
void buf_free(struct buf *b);  /* back to {0} */
struct bytes buf_bytes(const struct buf *b);

/* A bump allocator: many small pieces with one end. {0} is empty. Pieces are aligned to 16 bytes.
 */
struct arena {
    struct arena_block *block;
    size_t used; /* bytes handed out since the last reset */
};
void *arena_alloc(struct arena *a, size_t n);
struct bytes arena_copy(struct arena *a, struct bytes from); /* absent stays absent */
char *arena_text(struct arena *a, struct bytes from);        /* a copy with a NUL behind it */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_reset(struct arena *a); /* keeps the largest block */
void arena_free(struct arena *a);

#endif
