/* safetensors.c: the format, written in one pass; reading trusts no number of the header. */
#include "lib/nn/safetensors.h"

#include "lib/base/json.h"

#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

static size_t count_of(const struct safetensors_tensor *t) {
    size_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->shape[i];
    return n;
}

static void write_header(const struct safetensors_text *text, int text_count,
                         const struct safetensors_tensor *tensor, int tensor_count,
                         struct buf *header) {
    struct json_writer w = json_begin(header);
    size_t at = 0;
    json_put_raw(&w, "__metadata__", BYTES("{"));
    for (int i = 0; i < text_count; i++) {
        if (i) buf_add_text(header, ",");
        json_quote(header,
                   bytes_of(text[i].key)); /* keys may be anything: the writer wants names */
        buf_add_text(header, ":");
        json_quote(header, bytes_of(text[i].value));
    }
    buf_add_text(header, "}");
    for (int i = 0; i < tensor_count; i++) {
        const struct safetensors_tensor *t = &tensor[i];
        json_open_object(&w, t->name);
        json_put_text(&w, "dtype", BYTES("F32"));
        json_open_array(&w, "shape");
        for (int d = 0; d < t->rank; d++) json_put_int(&w, NULL, t->shape[d]);
        json_close_array(&w);
        json_open_array(&w, "data_offsets");
        json_put_int(&w, NULL, (int64_t)at);
        at += count_of(t) * sizeof(float);
        json_put_int(&w, NULL, (int64_t)at);
        json_close_array(&w);
        json_close_object(&w);
    }
    json_end(&w);
    while (header->len % 8) buf_add_text(header, " ");
}

enum err_kind safetensors_write(const struct safetensors_text *text, int text_count,
                                const struct safetensors_tensor *tensor, int tensor_count,
                                struct buf *out, struct err *e) {
    struct buf header = {0};
    write_header(text, text_count, tensor, tensor_count, &header);
    if (header.len > SAFETENSORS_MAX_HEADER) {
        err_fatal(e, "a header of %zu bytes is over the limit of %d", header.len,
                  SAFETENSORS_MAX_HEADER);
        buf_free(&header);
        return e->kind;
    }
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.len >> 8 * i);
    buf_add(out, length, sizeof length);
    buf_add(out, header.data, header.len);
    for (int i = 0; i < tensor_count; i++)
        buf_add(out, tensor[i].data, count_of(&tensor[i]) * sizeof(float));
    buf_free(&header);
    return ERR_NONE;
}

/* ---- reading ---- */

struct safetensors {
    struct json *header; /* names, keys and values are borrowed from it */
    int tensor_count, text_count;
    struct safetensors_tensor *tensors;
    struct safetensors_text *texts;
};

static enum err_kind bad(struct err *e, const char *what) {
    return err_bad(e, REASON_BAD_MODEL_FILE, "not a safetensors file: %s", what);
}

/* A whole number in 0..most, as an element of an array. */
static bool whole(const struct json *v, int64_t most, int64_t *out) {
    struct err ignored;
    double d;
    if (!v || json_as_real(v, &d, &ignored)) return false;
    if (!(d >= 0 && d <= (double)most)) return false;
    *out = (int64_t)d;
    return (double)*out == d;
}

static enum err_kind read_tensor(const struct json *v, struct bytes data,
                                 struct safetensors_tensor *t, struct err *e) {
    struct bytes dtype;
    t->name = json_name(v);
    if (json_get_text(v, "dtype", true, &dtype, e)) return bad(e, "a tensor has no type");
    if (!bytes_is(dtype, "F32")) return bad(e, "a tensor is of another type than F32");
    const struct json *shape = json_member(v, "shape"), *offsets = json_member(v, "data_offsets");
    if (!json_is_array(shape) || json_count(shape) > SAFETENSORS_MAX_RANK)
        return bad(e, "a tensor's shape is not a short array");
    int64_t count = 1, most = (int64_t)(data.len / sizeof(float)), begin, end;
    for (const struct json *d = json_first(shape); d; d = json_next(d)) {
        int64_t size;
        if (!whole(d, most, &size)) return bad(e, "a tensor's shape is out of range");
        if (size && count > most / size) return bad(e, "a tensor is larger than the file");
        t->shape[t->rank++] = size;
        count *= size;
    }
    if (!json_is_array(offsets) || json_count(offsets) != 2 ||
        !whole(json_first(offsets), (int64_t)data.len, &begin) ||
        !whole(json_next(json_first(offsets)), (int64_t)data.len, &end))
        return bad(e, "a tensor's offsets are not two places in the file");
    if (begin > end || end - begin != count * (int64_t)sizeof(float))
        return bad(e, "a tensor's offsets do not match its shape");
    if (begin % (int64_t)sizeof(float)) return bad(e, "a tensor is not aligned");
    t->data = (const char *)data.data + begin;
    t->count = (size_t)count;
    return ERR_NONE;
}

static int by_place(const void *a, const void *b) {
    const struct safetensors_tensor *x = *(const struct safetensors_tensor *const *)a;
    const struct safetensors_tensor *y = *(const struct safetensors_tensor *const *)b;
    const char *p = x->data, *q = y->data;
    if (p != q) return p < q ? -1 : 1;
    return (x->count > y->count) - (x->count < y->count); /* empty ones first */
}

/* The tensors, one after another, are the data: no gap, no overlap, nothing behind them. */
static enum err_kind check_places(const struct safetensors *s, struct bytes data, struct err *e) {
    const struct safetensors_tensor *sorted[SAFETENSORS_MAX_TENSORS];
    for (int i = 0; i < s->tensor_count; i++) sorted[i] = &s->tensors[i];
    qsort(sorted, s->tensor_count, sizeof *sorted, by_place);
    const char *at = data.data, *end = at + data.len;
    for (int i = 0; i < s->tensor_count; i++) {
        if ((const char *)sorted[i]->data != at) return bad(e, "tensors overlap or leave a gap");
        at += sorted[i]->count * sizeof(float);
    }
    return at == end ? ERR_NONE : bad(e, "there is data that belongs to no tensor");
}

static enum err_kind read_texts(struct safetensors *s, const struct json *v, struct err *e) {
    if (!json_is_object(v)) return bad(e, "__metadata__ is not an object");
    s->texts = mem_zeroed(json_count(v), sizeof *s->texts);
    for (v = json_first(v); v; v = json_next(v)) {
        struct bytes value;
        if (json_as_text(v, &value, e)) return bad(e, "a value in __metadata__ is not a text");
        s->texts[s->text_count++] = (struct safetensors_text){json_name(v), value.data};
    }
    return ERR_NONE;
}

static enum err_kind read_all(struct safetensors *s, struct bytes data, struct err *e) {
    size_t count = json_count(s->header);
    if (!json_is_object(s->header)) return bad(e, "the header is not an object");
    if (count > SAFETENSORS_MAX_TENSORS) return bad(e, "too many tensors");
    s->tensors = mem_zeroed(count, sizeof *s->tensors);
    for (const struct json *v = json_first(s->header); v; v = json_next(v)) {
        if (strcmp(json_name(v), "__metadata__") == 0) {
            if (read_texts(s, v, e)) return e->kind;
        } else if (read_tensor(v, data, &s->tensors[s->tensor_count++], e)) {
            return e->kind;
        }
    }
    return check_places(s, data, e);
}

struct safetensors *safetensors_read(struct bytes file, struct err *e) {
    uint64_t length = 0;
    const unsigned char *p = file.data;
    if (file.len < 8) {
        bad(e, "it is shorter than 8 bytes");
        return NULL;
    }
    for (int i = 0; i < 8; i++) length |= (uint64_t)p[i] << 8 * i;
    if (length > SAFETENSORS_MAX_HEADER || length > file.len - 8) {
        bad(e, "the header is longer than the limit or the file");
        return NULL;
    }
    struct safetensors *s = mem_zeroed(1, sizeof *s);
    struct bytes data = {p + 8 + length, file.len - 8 - (size_t)length};
    s->header = json_parse((struct bytes){p + 8, (size_t)length}, e);
    if (s->header ? read_all(s, data, e) : bad(e, "the header is not JSON")) {
        safetensors_free(s);
        return NULL;
    }
    return s;
}

void safetensors_free(struct safetensors *s) {
    if (!s) return;
    json_free(s->header);
    free(s->tensors);
    free(s->texts);
    free(s);
}

int safetensors_count(const struct safetensors *s) {
    return s->tensor_count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *s, int i) {
    return &s->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name) {
    for (int i = 0; i < s->tensor_count; i++)
        if (strcmp(s->tensors[i].name, name) == 0) return &s->tensors[i];
    return NULL;
}

int safetensors_text_count(const struct safetensors *s) {
    return s->text_count;
}

struct safetensors_text safetensors_text_at(const struct safetensors *s, int i) {
    return s->texts[i];
}

const char *safetensors_text(const struct safetensors *s, const char *key) {
    for (int i = 0; i < s->text_count; i++)
        if (strcmp(s->texts[i].key, key) == 0) return s->texts[i].value;
    return NULL;
}
