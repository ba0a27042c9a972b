/*
 * JSON: what is read, written and read again is written as the same bytes; every way to ask for a member
 * gives an answer.
 */
#include "lib/base/json.h"

#include "tests/fuzz/fuzz.h"

static void write_value(struct json_writer *w, const char *name, const struct json *v) {
    struct err e = {0};
    struct bytes text;
    double number;
    if (json_is_object(v) || json_is_array(v)) {
        bool object = json_is_object(v);
        size_t n = 0;
        if (object)
            json_open_object(w, name);
        else
            json_open_array(w, name);
        for (const struct json *c = json_first(v); c; c = json_next(c), n++)
            write_value(w, object ? json_name(c) : NULL, c);
        if (object)
            json_close_object(w);
        else
            json_close_array(w);
        HOLDS(n == json_count(v));
    } else if (!json_as_text(v, &text, &e)) {
        json_put_text(w, name, text);
    } else if (!json_as_real(v, &number, &e)) {
        json_put_real(w, name, number);
    } else {
        json_put_null(w, name);
    }
}

static void ask(const struct json *o) {
    for (const struct json *v = json_first(o); v; v = json_next(v)) {
        struct err e = {0};
        struct bytes text;
        double real;
        int64_t whole;
        bool yes = false;
        if (json_is_object(o)) HOLDS(json_member(o, json_name(v)) == v);
        if (!json_get_text(o, json_name(v), true, &text, &e)) HOLDS(text.data);
        if (!json_get_real(o, json_name(v), true, &real, &e)) HOLDS(real - real == 0);
        if (!json_get_int(o, json_name(v), true, &whole, &e)) {
            struct buf b = {0};
            struct json_writer w = {.to = &b};
            json_put_int(&w, NULL, whole);
            HOLDS(strtoll(b.data, NULL, 10) == whole);
            buf_free(&b);
        }
        if (!json_get_bool(o, json_name(v), false, &yes, &e)) {
            struct buf b = {0};
            struct json_writer w = json_begin(&b);
            json_put_bool(&w, "b", yes);
            json_put_raw(&w, "raw", BYTES("[]"));
            json_put_fraction(&w, "f", yes);
            json_end(&w);
            buf_free(&b);
        }
    }
}

static void write_all(const struct json *v, struct buf *to) {
    struct json_writer w = json_begin(to);
    write_value(&w, "v", v);
    json_end(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e = {0};
    struct json *root = json_parse((struct bytes){data, size}, &e);
    holds_of_error(root ? ERR_NONE : ERR_BAD, &e);
    if (!root) return 0;
    struct buf once = {0}, twice = {0};
    ask(root);
    write_all(root, &once);
    HOLDS(bytes_is_clean_text(buf_bytes(&once)));
    struct json *again = json_parse(buf_bytes(&once), &e);
    if (again) { /* one level more may be one too many */
        write_all(json_member(again, "v"), &twice);
        HOLDS(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
    } else {
        HOLDS(strstr(e.text, "levels"));
    }
    json_free(again);
    json_free(root);
    buf_free(&once);
    buf_free(&twice);
    return 0;
}
