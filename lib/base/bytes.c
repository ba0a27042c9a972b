/* bytes: borrowed and owned memory. An arena is a list of blocks, each twice the last. */
#include "lib/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *or_die(void *p, size_t n) {
    if (!p && n) {
        fprintf(stderr, "out of memory: %zu bytes were refused by the system\n", n);
        abort();
    }
    return p;
}

void *mem_alloc(size_t n) {
    return or_die(malloc(n ? n : 1), n);
}

void *mem_zeroed(size_t n, size_t size) {
    return or_die(calloc(n ? n : 1, size ? size : 1), n);
}

void *mem_resize(void *p, size_t n) {
    return or_die(realloc(p, n ? n : 1), n);
}

char *mem_copy(const void *data, size_t len) {
    char *copy = mem_alloc(len + 1);
    if (len) memcpy(copy, data, len);
    copy[len] = 0;
    return copy;
}

struct bytes bytes_of(const char *text) {
    return (struct bytes){text, text ? strlen(text) : 0};
}

size_t bytes_enter(struct bytes *set, size_t *n, struct bytes x) {
    size_t i = 0;
    while (i < *n && !bytes_equal(set[i], x)) i++;
    if (i == *n) set[(*n)++] = x;
    return i;
}

bool bytes_is_clean_text(struct bytes a) {
    if (!a.len) return true;
    const unsigned char *p = a.data, *end = p + a.len;
    while (p < end) {
        uint32_t c = *p++;
        int more = 0;
        if (c < 0x20 || c == 0x7f) return false;
        if (c < 0x80) continue;
        if (c >= 0xc2 && c <= 0xdf)
            more = 1, c &= 0x1f;
        else if (c >= 0xe0 && c <= 0xef)
            more = 2, c &= 0x0f;
        else if (c >= 0xf0 && c <= 0xf4)
            more = 3, c &= 0x07;
        else
            return false;
        int left = more;
        while (left--) {
            if (p == end || (*p & 0xc0) != 0x80) return false;
            c = c << 6 | (*p++ & 0x3f);
        }
        if (c < 0xa0) return false;                                               /* C1 controls */
        if ((more == 2 && c < 0x800) || (more == 3 && c < 0x10000)) return false; /* overlong */
        if ((c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff) return false;
    }
    return true;
}

void buf_reserve(struct buf *b, size_t more) {
    size_t need = b->len + more + 1;
    if (need <= b->cap) return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need) cap *= 2;
    b->data = mem_resize(b->data, cap);
    b->cap = cap;
}

void buf_add(struct buf *b, const void *data, size_t len) {
    buf_reserve(b, len);
    if (len) memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
}

void buf_add_text(struct buf *b, const char *text) {
    buf_add(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n > 0) {
        buf_reserve(b, (size_t)n);
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_clear(struct buf *b) {
    b->len = 0;
    if (b->data) b->data[0] = 0;
}

void buf_free(struct buf *b) {
    free(b->data);
    *b = (struct buf){0};
}

struct bytes buf_bytes(const struct buf *b) {
    return (struct bytes){b->data ? b->data : "", b->len};
}

struct arena_block {
    struct arena_block *next; /* older and smaller, or a single large piece */
    size_t size, at;
    _Alignas(16) char data[];
};

static const size_t FIRST_BLOCK = 1 << 16;

void *arena_alloc(struct arena *a, size_t n) {
    n = (n + 15) & ~(size_t)15;
    struct arena_block *block = a->block;
    if (!block || block->size - block->at < n) {
        size_t size = block ? block->size * 2 : FIRST_BLOCK;
        while (size < n) size *= 2;
        block = mem_alloc(sizeof *block + size);
        block->next = a->block;
        block->size = size;
        block->at = 0;
        a->block = block;
    }
    void *p = block->data + block->at;
    block->at += n;
    a->used += n;
    return p;
}

struct bytes arena_copy(struct arena *a, struct bytes from) {
    if (!from.data) return from;
    return (struct bytes){arena_text(a, from), from.len};
}

char *arena_text(struct arena *a, struct bytes from) {
    char *copy = arena_alloc(a, from.len + 1);
    if (from.len) memcpy(copy, from.data, from.len);
    copy[from.len] = 0;
    return copy;
}

char *arena_printf(struct arena *a, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = arena_alloc(a, (size_t)(n > 0 ? n : 0) + 1);
    vsnprintf(text, (size_t)(n > 0 ? n : 0) + 1, fmt, again);
    va_end(again);
    return text;
}

void arena_reset(struct arena *a) {
    if (a->block) {
        struct arena_block *b = a->block->next;
        while (b) {
            struct arena_block *next = b->next;
            free(b);
            b = next;
        }
        a->block->next = NULL;
        a->block->at = 0;
    }
    a->used = 0;
}

void arena_free(struct arena *a) {
    arena_reset(a);
    free(a->block);
    *a = (struct arena){0};
}
