/* lineage: the JSON artifact of a version, and the sorted sample of held-out rows. */
#include "lib/learn/lineage.h"

#include "lib/base/json.h"

#include <stdlib.h>
#include <string.h>

void lineage_free(struct lineage *l) {
    free(l->batches);
    free(l->evaluation);
    *l = (struct lineage){0};
}

void lineage_add_batch(struct lineage *l, const struct lineage_batch *b) {
    l->batches = mem_resize(l->batches, (l->batch_count + 1) * sizeof *l->batches);
    l->batches[l->batch_count++] = *b;
}

void lineage_hold_out(struct lineage *l, const char row[ROW_HEX + 1], size_t most) {
    size_t low = 0, high = l->evaluation_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(l->evaluation[mid], row);
        if (order == 0) return;
        if (order < 0) low = mid + 1;
        else high = mid;
    }
    if (low >= most) return;
    if (l->evaluation_count < most) {
        l->evaluation = mem_resize(l->evaluation, (l->evaluation_count + 1) * sizeof *l->evaluation);
        l->evaluation_count++;
    }
    memmove(l->evaluation + low + 1, l->evaluation + low, (l->evaluation_count - low - 1) * sizeof *l->evaluation);
    memcpy(l->evaluation[low], row, ROW_HEX + 1);
}

void lineage_encode(const struct lineage *l, struct bytes model, int64_t version, int64_t parent, struct buf *out) {
    struct json_writer w = json_begin(out);
    json_put_int(&w, "schema", MESSAGE_SCHEMA);
    json_put_text(&w, "model", model);
    json_put_int(&w, "version", version);
    json_put_int(&w, "parent", parent);
    json_put_text(&w, "weights", bytes_of(l->weights));
    json_put_text(&w, "momentum", bytes_of(l->momentum));
    json_put_int(&w, "steps", l->steps);
    json_open_array(&w, "batches");
    for (size_t i = 0; i < l->batch_count; i++) {
        json_open_object(&w, NULL);
        json_put_text(&w, "id", bytes_of(l->batches[i].id));
        json_put_text(&w, "rows", bytes_of(l->batches[i].rows));
        json_put_int(&w, "images", l->batches[i].images);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_open_array(&w, "evaluation");
    for (size_t i = 0; i < l->evaluation_count; i++) json_put_text(&w, NULL, bytes_of(l->evaluation[i]));
    json_close_array(&w);
    json_end(&w);
}

static enum err_kind copy_hex(struct bytes from, char *to, size_t digits, struct err *e) {
    if (from.len != digits) return err_bad(e, REASON_BAD_MODEL_FILE, "a name of %zu characters, not %zu", from.len, digits);
    memcpy(to, from.data, digits);
    to[digits] = 0;
    return ERR_NONE;
}

static enum err_kind get_name(const struct json *o, const char *name, char to[HASH_HEX + 1], struct err *e) {
    struct bytes text = {0};
    if (json_get_text(o, name, true, &text, e) || copy_hex(text, to, HASH_HEX, e)) return err_in(e, "%s", name);
    return ERR_NONE;
}

static enum err_kind read_all(const struct json *o, struct lineage *l, struct err *e) {
    if (get_name(o, "weights", l->weights, e) || get_name(o, "momentum", l->momentum, e) || json_get_int(o, "steps", true, &l->steps, e))
        return e->kind;
    const struct json *batches = json_member(o, "batches"), *rows = json_member(o, "evaluation");
    if (!json_is_array(batches) || !json_is_array(rows)) return err_bad(e, REASON_BAD_MODEL_FILE, "batches and evaluation must be arrays");
    l->batches = mem_alloc(json_count(batches) * sizeof *l->batches);
    for (const struct json *v = json_first(batches); v; v = json_next(v)) {
        struct lineage_batch *b = &l->batches[l->batch_count];
        if (get_name(v, "id", b->id, e) || get_name(v, "rows", b->rows, e) || json_get_int(v, "images", true, &b->images, e)) return e->kind;
        l->batch_count++;
    }
    l->evaluation = mem_alloc(json_count(rows) * sizeof *l->evaluation);
    for (const struct json *v = json_first(rows); v; v = json_next(v)) {
        struct bytes text = {0};
        if (json_as_text(v, &text, e) || copy_hex(text, l->evaluation[l->evaluation_count], ROW_HEX, e)) return e->kind;
        l->evaluation_count++;
    }
    return ERR_NONE;
}

enum err_kind lineage_decode(struct bytes json, struct lineage *l, struct err *e) {
    *l = (struct lineage){0};
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
