/* lineage: the JSON artifact of a version, and rows in memory. */
#include "lib/learn/lineage.h"

#include "lib/base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void lineage_free(struct lineage *l) {
    free(l->batches);
    free(l->counts);
    *l = (struct lineage){0};
}

void lineage_add_batch(struct lineage *l, const struct lineage_batch *b) {
    l->batches = mem_resize(l->batches, (l->batch_count + 1) * sizeof *l->batches);
    l->batches[l->batch_count++] = *b;
}

void lineage_add_count(struct lineage *l, int64_t count) {
    l->counts = mem_resize(l->counts, (l->count_count + 1) * sizeof *l->counts);
    l->counts[l->count_count++] = count;
}

void lineage_encode(const struct lineage *l, struct bytes model, int64_t version, int64_t parent,
                    struct buf *out) {
    struct json_writer w = json_begin(out);
    json_put_int(&w, "schema", MESSAGE_SCHEMA);
    json_put_text(&w, "model", model);
    json_put_int(&w, "version", version);
    json_put_int(&w, "parent", parent);
    json_put_text(&w, "before", bytes_of(l->before));
    json_put_text(&w, "weights", bytes_of(l->weights));
    json_put_text(&w, "momentum", bytes_of(l->momentum));
    json_put_text(&w, "second", bytes_of(l->second));
    json_put_int(&w, "steps", l->steps);
    json_put_int(&w, "moved", l->moved);
    json_put_int(&w, "averaged", l->averaged);
    json_put_text(&w, "evaluation", bytes_of(l->evaluation));
    json_put_text(&w, "all", bytes_of(l->all));
    json_put_text(&w, "recipe", bytes_of(l->recipe));
    json_put_text(&w, "gone", bytes_of(l->gone));
    json_open_array(&w, "counts");
    for (size_t i = 0; i < l->count_count; i++) json_put_int(&w, NULL, l->counts[i]);
    json_close_array(&w);
    json_open_array(&w, "batches");
    for (size_t i = 0; i < l->batch_count; i++) {
        json_open_object(&w, NULL);
        json_put_text(&w, "id", bytes_of(l->batches[i].id));
        json_put_int(&w, "partition", l->batches[i].partition);
        json_put_int(&w, "offset", l->batches[i].offset);
        json_put_text(&w, "rows", bytes_of(l->batches[i].rows));
        json_put_text(&w, "contents", bytes_of(l->batches[i].contents));
        json_put_int(&w, "images", l->batches[i].images);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_end(&w);
}

static enum err_kind copy_hex(struct bytes from, char *to, size_t digits, struct err *e) {
    const char *p = from.data;
    bool good = from.len == digits;
    for (size_t i = 0; good && i < digits; i++)
        good = (p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f');
    if (!good) return err_bad(e, REASON_BAD_MODEL_FILE, "a name must be %zu hex digits", digits);
    memcpy(to, from.data, digits);
    to[digits] = 0;
    return ERR_NONE;
}

static enum err_kind get_name(const struct json *o, const char *name, char to[HASH_HEX + 1],
                              struct err *e) {
    struct bytes text = {0};
    if (json_get_text(o, name, true, &text, e) || copy_hex(text, to, HASH_HEX, e))
        return err_in(e, "%s", name);
    return ERR_NONE;
}

/* The same, or "". */
static enum err_kind get_link(const struct json *o, const char *name, bool need,
                              char to[HASH_HEX + 1], struct err *e) {
    struct bytes text = {0};
    if (json_get_text(o, name, need, &text, e) || (text.len && copy_hex(text, to, HASH_HEX, e)))
        return err_in(e, "%s", name);
    return ERR_NONE;
}

static enum err_kind get_count(const struct json *o, const char *name, bool need, int64_t *to,
                               struct err *e) {
    if (json_get_int(o, name, need, to, e)) return e->kind;
    return *to < 0 ? err_bad(e, REASON_BAD_MODEL_FILE, "%s is negative", name) : ERR_NONE;
}

static enum err_kind read_counts(const struct json *counts, struct lineage *l, struct err *e) {
    if (counts && !json_is_array(counts))
        return err_bad(e, REASON_BAD_MODEL_FILE, "counts must be an array");
    for (const struct json *v = json_first(counts); v; v = json_next(v)) {
        double count;
        if (json_as_real(v, &count, e)) return e->kind;
        if (!(count >= 0 && count < 0x1p53 && count == floor(count)))
            return err_bad(e, REASON_BAD_MODEL_FILE, "a count is no whole number");
        lineage_add_count(l, (int64_t)count);
    }
    return ERR_NONE;
}

static enum err_kind read_all(const struct json *o, struct lineage *l, struct err *e) {
    if (read_counts(json_member(o, "counts"), l, e)) return e->kind;
    if (get_link(o, "before", true, l->before, e) || get_link(o, "all", true, l->all, e) ||
        get_link(o, "second", false, l->second, e) || get_link(o, "recipe", false, l->recipe, e) ||
        get_link(o, "gone", false, l->gone, e))
        return e->kind;
    if (get_name(o, "weights", l->weights, e) || get_name(o, "momentum", l->momentum, e) ||
        get_name(o, "evaluation", l->evaluation, e) || get_count(o, "steps", true, &l->steps, e))
        return e->kind;
    l->moved = l->averaged = l->steps; /* in versions of long ago */
    if (get_count(o, "moved", false, &l->moved, e) ||
        get_count(o, "averaged", false, &l->averaged, e))
        return e->kind;
    const struct json *batches = json_member(o, "batches");
    if (!json_is_array(batches))
        return err_bad(e, REASON_BAD_MODEL_FILE, "batches must be an array");
    l->batches = mem_zeroed(json_count(batches), sizeof *l->batches);
    for (const struct json *v = json_first(batches); v; v = json_next(v)) {
        struct lineage_batch *b = &l->batches[l->batch_count];
        if (get_name(v, "id", b->id, e) || get_name(v, "rows", b->rows, e) ||
            get_link(v, "contents", false, b->contents, e) ||
            get_count(v, "images", true, &b->images, e) ||
            get_count(v, "partition", false, &b->partition, e) ||
            get_count(v, "offset", false, &b->offset, e))
            return e->kind;
        l->batch_count++;
    }
    return ERR_NONE;
}

enum err_kind lineage_decode(struct bytes json, struct lineage *l, struct err *e) {
    *l = (struct lineage){0};
    err_clear(e);
    struct json *o = json_parse(json, e);
    if (!o) return e->kind;
    if (read_all(o, l, e)) {
        e->reason = REASON_BAD_MODEL_FILE;
        err_in(e, "lineage");
        lineage_free(l);
    }
    json_free(o);
    return e->kind;
}

/* ---- rows ---- */

void rows_free(struct rows *r) {
    free(r->list);
    *r = (struct rows){0};
}

static int nibble(char c) {
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void pack_name(const char name[ROW_HEX + 1], unsigned char row[ROW_HEX / 2]) {
    for (size_t i = 0; i < ROW_HEX / 2; i++)
        row[i] = (unsigned char)(nibble(name[2 * i]) << 4 | nibble(name[2 * i + 1]));
}

static void make_room(struct rows *r, size_t more) {
    size_t cap = 64; /* a power of two, so realloc has nothing to do but when one is passed */
    while (cap < r->count + more) cap *= 2;
    r->list = mem_resize(r->list, cap * sizeof *r->list);
}

void rows_add(struct rows *r, const char name[ROW_HEX + 1]) {
    make_room(r, 1);
    pack_name(name, r->list[r->count++]);
}

void rows_name(const struct rows *r, size_t i, char name[ROW_HEX + 1]) {
    struct hash h = {{0}};
    memcpy(h.bytes, r->list[i], ROW_HEX / 2);
    hash_hex(&h, ROW_HEX / 2, name);
}

struct content content_of(int64_t revision, struct bytes pixels, struct bytes label) {
    struct content c;
    struct hash of_pixels = hash_of(pixels);
    const struct bytes parts[] = {{of_pixels.bytes, sizeof of_pixels.bytes}, label};
    struct hash h = hash_of_parts(parts, 2);
    for (int i = 0; i < 4; i++) c.bytes[i] = (unsigned char)(revision >> 8 * i);
    memcpy(c.bytes + 4, h.bytes, sizeof c.bytes - 4);
    return c;
}

int64_t content_revision(const struct content *c) {
    int64_t revision = 0;
    for (int i = 3; i >= 0; i--) revision = revision << 8 | c->bytes[i];
    return revision;
}

void places_pack(const unsigned char *gone, size_t n, struct buf *out) {
    for (size_t i = 0; i < n; i++) {
        if (!gone[i]) continue;
        unsigned char place[4];
        for (int k = 0; k < 4; k++) place[k] = (unsigned char)(i >> 8 * k);
        buf_add(out, place, sizeof place);
    }
}

enum err_kind places_unpack(struct bytes packed, unsigned char *gone, size_t n, struct err *e) {
    const unsigned char *p = packed.data;
    for (size_t at = 0; at + 4 <= packed.len; at += 4) {
        size_t i = (size_t)p[at] | (size_t)p[at + 1] << 8 | (size_t)p[at + 2] << 16 |
                   (size_t)p[at + 3] << 24;
        if (i >= n) return err_bad(e, REASON_BAD_MODEL_FILE, "place %zu of %zu rows", i, n);
        gone[i] = 1;
    }
    return packed.len % 4 ? err_bad(e, REASON_BAD_MODEL_FILE, "places of %zu bytes", packed.len)
                          : ERR_NONE;
}

void rows_drop(struct rows *r, const unsigned char *gone) {
    size_t kept = 0;
    while (kept < r->count && !gone[kept]) kept++; /* mostly all */
    for (size_t i = kept; i < r->count; i++)
        if (!gone[i]) memcpy(r->list[kept++], r->list[i], sizeof *r->list);
    r->count = kept;
}

void rows_hold_out(struct rows *r, const char name[ROW_HEX + 1], size_t most) {
    unsigned char row[ROW_HEX / 2];
    size_t low = 0, high = r->count;
    pack_name(name, row);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = memcmp(r->list[mid], row, sizeof row);
        if (order == 0) return;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    if (low >= most) return;
    if (r->count < most) {
        make_room(r, 1);
        r->count++;
    }
    memmove(r->list + low + 1, r->list + low, (r->count - low - 1) * sizeof *r->list);
    memcpy(r->list[low], row, sizeof row);
}

struct bytes rows_pack(const struct rows *r, size_t from, size_t to) {
    return (struct bytes){r->list ? (const void *)(r->list + from) : "",
                          (to - from) * sizeof *r->list};
}

enum err_kind rows_unpack(struct rows *r, struct bytes packed, struct err *e) {
    size_t n = packed.len / sizeof *r->list;
    if (packed.len % sizeof *r->list)
        return err_bad(e, REASON_BAD_MODEL_FILE, "a rows artifact of %zu bytes", packed.len);
    make_room(r, n);
    if (n) memcpy(r->list + r->count, packed.data, packed.len);
    r->count += n;
    return ERR_NONE;
}
