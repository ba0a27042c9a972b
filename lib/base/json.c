/* json: cJSON reads, with the checks that it leaves out; the writer is our own. */
#include "lib/base/json.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* struct json is cJSON under another name: no outside type shows in a header of ours. */
static const cJSON *node(const struct json *v) {
    return (const cJSON *)(const void *)v;
}
static const struct json *ours(const cJSON *v) {
    return (const struct json *)(const void *)v;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Whether no name comes twice. Few members: every pair; many: sorted. */
static bool names_differ(const cJSON *v) {
    size_t n = 0;
    for (const cJSON *c = v->child; c; c = c->next, n++)
        if (!names_differ(c)) return false;
    if (!cJSON_IsObject(v) || n < 2) return true;
    if (n <= 16) {
        for (const cJSON *a = v->child; a; a = a->next)
            for (const cJSON *b = a->next; b; b = b->next)
                if (strcmp(a->string, b->string) == 0) return false;
        return true;
    }
    const char **names = mem_alloc(n * sizeof *names);
    size_t i = 0;
    for (const cJSON *c = v->child; c; c = c->next) names[i++] = c->string;
    qsort(names, n, sizeof *names, compare_names);
    bool twice = false;
    for (i = 1; i < n; i++) twice |= strcmp(names[i - 1], names[i]) == 0;
    free(names);
    return !twice;
}

/* Bytes of the UTF-8 character above ASCII at p, of which `left` bytes are there; 0: it is none. */
static size_t character(const unsigned char *p, size_t left) {
    size_t n = *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
    if (n > left) return 0;
    bool control = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0; /* C1: good UTF-8 all the same */
    return control || bytes_is_clean_text((struct bytes){p, n}) ? n : 0;
}

/*
 * What cJSON would take: it recurses a level a bracket, so that "[[[[…" could exhaust the stack,
 * a text ends for it at a NUL, as a byte or as \u0000, so that two names or labels could look the
 * same, any control character is white space to it, and a text may have any bytes in it. NULL is
 * fine.
 */
static const char *refused(struct bytes text) {
    const unsigned char *p = text.data;
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        bool blank = p[i] == '\t' || p[i] == '\n' || p[i] == '\r';
        if (p[i] < 0x20 && (quoted || !blank)) return "a control character";
        if (quoted) {
            if (text.len - i >= 6 && memcmp(p + i, "\\u0000", 6) == 0) return "a NUL in a text";
            if (p[i] == '\\') {
                i++;
            } else if (p[i] == '"') {
                quoted = false;
            } else if (p[i] >= 0x80) {
                size_t n = character(p + i, text.len - i);
                if (!n) return "a text that is not UTF-8";
                i += n - 1;
            }
        } else if (p[i] == '"') {
            quoted = true;
        } else if (p[i] == '[' || p[i] == '{') {
            if (++depth > JSON_DEPTH) return "too many levels";
        } else if (p[i] == ']' || p[i] == '}') {
            depth--;
        }
    }
    return NULL;
}

struct json *json_parse(struct bytes text, struct err *e) {
    const char *end = NULL;
    if (!text.data || !text.len) {
        err_bad(e, REASON_EMPTY, "no JSON: the value is empty");
        return NULL;
    }
    const char *why = refused(text);
    if (why) {
        err_bad(e, REASON_BAD_MESSAGE, "JSON with %s", why);
        return NULL;
    }
    cJSON *root = cJSON_ParseWithLengthOpts(text.data, text.len, &end, false);
    if (!root) {
        size_t at = end ? (size_t)(end - (const char *)text.data) : 0;
        err_bad(e, REASON_BAD_MESSAGE, "not JSON: the text breaks at byte %zu of %zu", at,
                text.len);
        return NULL;
    }
    const char *limit = (const char *)text.data + text.len;
    while (end < limit && (*end == ' ' || *end == '\n' || *end == '\r' || *end == '\t')) end++;
    if (end != limit)
        err_bad(e, REASON_BAD_MESSAGE, "%zu bytes behind the JSON value", (size_t)(limit - end));
    else if (!names_differ(root))
        err_bad(e, REASON_BAD_MESSAGE, "JSON with a name that comes twice in one object");
    else
        return (struct json *)(void *)root;
    cJSON_Delete(root);
    return NULL;
}

void json_free(struct json *root) {
    cJSON_Delete((cJSON *)(void *)root);
}

void json_print(const struct json *v, struct buf *to) {
    char *text = cJSON_PrintUnformatted(node(v));
    if (!text) abort(); /* no memory */
    buf_add_text(to, text);
    cJSON_free(text);
}

const struct json *json_member(const struct json *object, const char *name) {
    return object ? ours(cJSON_GetObjectItemCaseSensitive(node(object), name)) : NULL;
}
bool json_is_object(const struct json *v) {
    return v && cJSON_IsObject(node(v));
}
bool json_is_array(const struct json *v) {
    return v && cJSON_IsArray(node(v));
}
bool json_is_null(const struct json *v) {
    return !v || cJSON_IsNull(node(v));
}
const struct json *json_first(const struct json *v) {
    return v ? ours(node(v)->child) : NULL;
}
const struct json *json_next(const struct json *v) {
    return ours(node(v)->next);
}
const char *json_name(const struct json *v) {
    return node(v)->string ? node(v)->string : "";
}
size_t json_count(const struct json *v) {
    size_t n = 0;
    for (v = json_first(v); v; v = json_next(v)) n++;
    return n;
}

/* *v is NULL when the member may be absent and is. */
static enum err_kind find(const struct json *o, const char *name, bool need, const cJSON **v,
                          struct err *e) {
    *v = NULL;
    if (!json_is_object(o)) return err_bad(e, REASON_BAD_MESSAGE, "an object was expected");
    *v = node(json_member(o, name));
    if (*v && cJSON_IsNull(*v)) *v = NULL;
    if (!*v && need) return err_bad(e, REASON_BAD_MESSAGE, "\"%s\" is missing", name);
    return ERR_NONE;
}

static enum err_kind wrong(const char *name, const char *type, struct err *e) {
    return err_bad(e, REASON_BAD_MESSAGE, "\"%s\" must be %s", name, type);
}

enum err_kind json_get_text(const struct json *o, const char *name, bool need, struct bytes *out,
                            struct err *e) {
    const cJSON *v;
    if (find(o, name, need, &v, e)) return e->kind;
    if (!v) return ERR_NONE;
    if (!cJSON_IsString(v)) return wrong(name, "a string", e);
    *out = bytes_of(v->valuestring);
    return ERR_NONE;
}

enum err_kind json_get_int(const struct json *o, const char *name, bool need, int64_t *out,
                           struct err *e) {
    const cJSON *v;
    if (find(o, name, need, &v, e)) return e->kind;
    if (!v) return ERR_NONE;
    if (cJSON_IsNumber(v)) {
        double d = v->valuedouble;
        if (!(d >= -9007199254740992.0 && d <= 9007199254740992.0) || d != floor(d))
            return wrong(name, "a whole number", e);
        *out = (int64_t)d;
        return ERR_NONE;
    }
    if (!cJSON_IsString(v)) return wrong(name, "a whole number", e);
    const char *digits = v->valuestring + (*v->valuestring == '-');
    char *end;
    errno = 0;
    long long n = strtoll(v->valuestring, &end, 10);
    if (*digits < '0' || *digits > '9' || *end || errno) return wrong(name, "a whole number", e);
    *out = n;
    return ERR_NONE;
}

enum err_kind json_get_real(const struct json *o, const char *name, bool need, double *out,
                            struct err *e) {
    const cJSON *v;
    if (find(o, name, need, &v, e)) return e->kind;
    if (!v) return ERR_NONE;
    if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble)) return wrong(name, "a number", e);
    *out = v->valuedouble;
    return ERR_NONE;
}

enum err_kind json_get_bool(const struct json *o, const char *name, bool need, bool *out,
                            struct err *e) {
    const cJSON *v;
    if (find(o, name, need, &v, e)) return e->kind;
    if (!v) return ERR_NONE;
    if (!cJSON_IsBool(v)) return wrong(name, "true or false", e);
    *out = cJSON_IsTrue(v);
    return ERR_NONE;
}

enum err_kind json_as_text(const struct json *v, struct bytes *out, struct err *e) {
    if (!v || !cJSON_IsString(node(v))) return wrong("an element", "a string", e);
    *out = bytes_of(node(v)->valuestring);
    return ERR_NONE;
}

enum err_kind json_as_real(const struct json *v, double *out, struct err *e) {
    if (!v || !cJSON_IsNumber(node(v)) || !isfinite(node(v)->valuedouble))
        return wrong("an element", "a number", e);
    *out = node(v)->valuedouble;
    return ERR_NONE;
}

/* ---- writing ---- */

void json_quote(struct buf *to, struct bytes text) {
    const unsigned char *p = text.len ? text.data : (const void *)"", *end = p + text.len;
    buf_add(to, "\"", 1);
    while (p < end) {
        const unsigned char *run = p;
        while (p < end && *p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') p++;
        if (p > run) buf_add(to, run, (size_t)(p - run));
        if (p == end) break;
        size_t n = *p < 0x80 ? 0 : character(p, (size_t)(end - p));
        if (*p == '"' || *p == '\\') {
            char pair[2] = {'\\', (char)*p};
            buf_add(to, pair, 2);
            p++;
        } else if (*p && *p < 0x80) {
            buf_printf(to, "\\u%04x", *p++);
        } else if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) {
            buf_printf(to, "\\u%04x", p[1]); /* a C1 control: good UTF-8, unfit for a terminal */
            p += 2;
        } else if (n) {
            buf_add(to, p, n);
            p += n;
        } else {
            buf_add_text(to, "\xef\xbf\xbd");
            p++;
        }
    }
    buf_add(to, "\"", 1);
}

static void lead(struct json_writer *w, const char *name) {
    if (w->comma) buf_add(w->to, ",", 1);
    w->comma = true;
    if (name) {
        json_quote(w->to, bytes_of(name)); /* a name may come from outside: a label */
        buf_add(w->to, ":", 1);
    }
}

static void open_(struct json_writer *w, const char *name, const char *bracket) {
    lead(w, name);
    buf_add(w->to, bracket, 1);
    w->comma = false;
}

static void close_(struct json_writer *w, const char *bracket) {
    buf_add(w->to, bracket, 1);
    w->comma = true;
}

struct json_writer json_begin(struct buf *to) {
    buf_add(to, "{", 1);
    return (struct json_writer){.to = to};
}
void json_end(struct json_writer *w) {
    close_(w, "}");
}
void json_open_object(struct json_writer *w, const char *name) {
    open_(w, name, "{");
}
void json_close_object(struct json_writer *w) {
    close_(w, "}");
}
void json_open_array(struct json_writer *w, const char *name) {
    open_(w, name, "[");
}
void json_close_array(struct json_writer *w) {
    close_(w, "]");
}

void json_put_text(struct json_writer *w, const char *name, struct bytes text) {
    lead(w, name);
    json_quote(w->to, text);
}

void json_put_int(struct json_writer *w, const char *name, int64_t value) {
    char digits[24];
    char *p = digits + sizeof digits;
    uint64_t v = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do *--p = (char)('0' + v % 10);
    while (v /= 10);
    if (value < 0) *--p = '-';
    lead(w, name);
    buf_add(w->to, p, (size_t)(digits + sizeof digits - p));
}

void json_put_real(struct json_writer *w, const char *name, double value) {
    lead(w, name);
    if (!isfinite(value)) {
        buf_add(w->to, "null", 4); /* JSON has no NaN */
        return;
    }
    char text[40];
    for (int digits = 6; digits <= 17; digits += digits < 15 ? 9 : 1) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    buf_add(w->to, text, strlen(text));
}

void json_put_fraction(struct json_writer *w, const char *name, double value) {
    lead(w, name);
    unsigned v = value >= 1 ? 1000000u : value > 0 ? (unsigned)(value * 1e6 + 0.5) : 0u;
    char text[8] = {(char)('0' + v / 1000000), '.'};
    v %= 1000000;
    for (int i = 7; i >= 2; i--, v /= 10) text[i] = (char)('0' + v % 10);
    buf_add(w->to, text, 8);
}

void json_put_bool(struct json_writer *w, const char *name, bool value) {
    lead(w, name);
    buf_add_text(w->to, value ? "true" : "false");
}

void json_put_null(struct json_writer *w, const char *name) {
    lead(w, name);
    buf_add(w->to, "null", 4);
}

void json_put_raw(struct json_writer *w, const char *name, struct bytes json) {
    lead(w, name);
    buf_add(w->to, json.data, json.len);
}
