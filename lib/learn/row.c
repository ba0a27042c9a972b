/* row: read and written by hand, a field after the other. */
#include "lib/learn/row.h"

#include <string.h>

enum {
    ABSENT = 0xffff,
    MOST_SIDE = 999999, /* what a shape can say */
    SKEW_MS = 60000
};
static const uint32_t MAGIC = 0x31495244; /* "DRI1" */

static void put32(struct buf *b, uint32_t v) {
    unsigned char x[4];
    for (int i = 0; i < 4; i++) x[i] = (unsigned char)(v >> 8 * i);
    buf_add(b, x, sizeof x);
}

static void put64(struct buf *b, uint64_t v) {
    put32(b, (uint32_t)v);
    put32(b, (uint32_t)(v >> 32));
}

static void put_length(struct buf *b, struct bytes text) {
    uint32_t n = text.data ? (uint32_t)text.len : ABSENT;
    unsigned char x[2] = {(unsigned char)n, (unsigned char)(n >> 8)};
    buf_add(b, x, sizeof x);
}

void row_encode(const struct row *r, struct buf *b) {
    const struct image_row *im = &r->image;
    buf_clear(b);
    put32(b, MAGIC);
    put32(b, r->revision);
    put32(b, r->origin_count);
    for (uint32_t i = 0; i < r->origin_count; i++) {
        put64(b, r->origins[i].log);
        put64(b, (uint64_t)r->origins[i].offset);
        put64(b, (uint64_t)r->origins[i].record_ms);
        put32(b, r->origins[i].partition);
        put32(b, r->origins[i].revision);
    }
    put64(b, (uint64_t)im->time_ms);
    put32(b, (uint32_t)im->height);
    put32(b, (uint32_t)im->width);
    put32(b, (uint32_t)im->channels | (uint32_t)r->split << 24);
    buf_add(b, r->pixels.bytes, HASH_LEN);
    const struct bytes texts[] = {im->id, im->source, im->label, im->filename};
    for (int i = 0; i < 4; i++) put_length(b, texts[i]);
    for (int i = 0; i < 4; i++) buf_add(b, texts[i].data, texts[i].data ? texts[i].len : 0);
    buf_add(b, im->pixels.data, im->pixels.len);
}

/* Reads on from *at; false at the end. */
static bool take(const unsigned char **at, const unsigned char *end, void *to, size_t n) {
    if ((size_t)(end - *at) < n) return false;
    memcpy(to, *at, n);
    *at += n;
    return true;
}

static bool take64(const unsigned char **at, const unsigned char *end, uint64_t *v, int bytes) {
    unsigned char x[8];
    if (!take(at, end, x, (size_t)bytes)) return false;
    *v = 0;
    for (int i = 0; i < bytes; i++) *v |= (uint64_t)x[i] << 8 * i;
    return true;
}

static bool take_text(const unsigned char **at, const unsigned char *end, uint64_t n,
                      struct bytes *text) {
    *text = (struct bytes){0};
    if (n == ABSENT) return true;
    if ((size_t)(end - *at) < n) return false;
    *text = (struct bytes){*at, n};
    *at += n;
    return true;
}

bool row_parse(struct bytes data, struct row *r) {
    const unsigned char *at = data.data, *end = at + data.len;
    uint64_t magic, n, x[4], length[4];
    if (!take64(&at, end, &magic, 4) || magic != MAGIC || !take64(&at, end, &x[0], 4) ||
        !take64(&at, end, &n, 4) || n < 1 || n > ORIGINS)
        return false;
    r->revision = (uint32_t)x[0];
    r->origin_count = (uint32_t)n;
    for (uint64_t i = 0; i < n; i++) {
        struct origin *o = &r->origins[i];
        if (!take64(&at, end, &o->log, 8) || !take64(&at, end, &x[0], 8) ||
            !take64(&at, end, &x[1], 8) || !take64(&at, end, &x[2], 4) ||
            !take64(&at, end, &x[3], 4))
            return false;
        o->offset = (int64_t)x[0];
        o->record_ms = (int64_t)x[1];
        o->partition = (uint32_t)x[2];
        o->revision = (uint32_t)x[3];
    }
    struct image_row *im = &r->image;
    *im = (struct image_row){0};
    if (!take64(&at, end, &x[0], 8) || !take64(&at, end, &x[1], 4) || !take64(&at, end, &x[2], 4) ||
        !take64(&at, end, &x[3], 4))
        return false;
    r->split = (uint8_t)(x[3] >> 24);
    x[3] &= 0xffffff;
    if (r->split > 1 + SPLIT_EVAL) return false;
    if (x[1] > MOST_SIDE || x[2] > MOST_SIDE || x[3] > MOST_SIDE) return false;
    im->time_ms = (int64_t)x[0];
    im->height = (int)x[1];
    im->width = (int)x[2];
    im->channels = (int)x[3];
    if (!take(&at, end, r->pixels.bytes, HASH_LEN)) return false;
    for (int i = 0; i < 4; i++)
        if (!take64(&at, end, &length[i], 2)) return false;
    struct bytes *const texts[] = {&im->id, &im->source, &im->label, &im->filename};
    for (int i = 0; i < 4; i++)
        if (!take_text(&at, end, length[i], texts[i])) return false;
    im->pixels = (struct bytes){at, (size_t)(end - at)};
    return im->pixels.len == x[1] * x[2] * x[3];
}

struct bytes row_head(struct bytes data, const struct row *r) {
    return (struct bytes){data.data, 12 + 32 * (size_t)r->origin_count};
}

struct origin row_origin(const struct image_put *p) {
    return (struct origin){p->log, p->from.offset, p->from.time_ms, (uint32_t)p->from.partition, 1};
}

bool row_same_text(struct bytes a, struct bytes b) {
    return !a.data == !b.data && bytes_equal(a, b);
}

void row_judge(const struct row *was, const struct origin *o, struct image_put *p) {
    const struct origin *newest = &was->origins[was->origin_count - 1];
    if (was->split) p->split = was->split - 1;
    for (uint32_t i = 0; i < was->origin_count; i++) {
        const struct origin *k = &was->origins[i];
        if (k->log == o->log && k->partition == o->partition && k->offset == o->offset &&
            k->record_ms == o->record_ms) {
            p->verdict = IMAGE_REPLAYED;
            p->revision = k->revision;
            return;
        }
    }
    p->revision = was->revision;
    p->verdict = IMAGE_DUPLICATE;
    /* Passed already, and it left no revision. The time tells it from a topic made anew, whose
       offsets begin again but whose records are younger, by more than the clocks of two producers
       differ. */
    if (newest->log == o->log && newest->partition == o->partition && o->offset < newest->offset &&
        o->record_ms <= newest->record_ms + SKEW_MS)
        return;
    if (hash_equal(&was->pixels, &p->pixels) && row_same_text(was->image.label, p->row.label) &&
        was->image.height == p->row.height && was->image.width == p->row.width)
        return;
    p->verdict = IMAGE_REVISED;
    p->revision = was->revision + 1;
}

void row_first(const struct image_put *p, const struct origin *o, struct buf *out) {
    struct row r = {.revision = 1,
                    .origin_count = 1,
                    .origins = {*o},
                    .image = p->row,
                    .pixels = p->pixels,
                    .split = (uint8_t)(1 + p->split)};
    row_encode(&r, out);
}

void row_next(const struct row *was, const struct image_put *p, const struct origin *o,
              struct buf *out) {
    struct row r = {.revision = was->revision + 1,
                    .image = p->row,
                    .pixels = p->pixels,
                    .split = (uint8_t)(1 + p->split)};
    uint32_t from = was->origin_count == ORIGINS ? 1 : 0;
    for (uint32_t i = from; i < was->origin_count; i++)
        r.origins[r.origin_count++] = was->origins[i];
    r.origins[r.origin_count] = *o;
    r.origins[r.origin_count++].revision = r.revision;
    row_encode(&r, out);
}
