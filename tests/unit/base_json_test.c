/* json: what is refused, what is read, and writing that reads back. */
#define _GNU_SOURCE
#include "lib/base/json.h"

#include <math.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct err e;

static struct json *parsed(const char *text) {
    struct json *root = json_parse(bytes_of(text), &e);
    if (!root) fail_msg("%s: %s", text, e.text);
    return root;
}

static void what_is_refused(void **state) {
    static const char *const table[] = {
        "{",
        "}",
        "{\"a\":1",
        "{\"a\":1}x",
        "{\"a\":1} {}",
        "[1,2",
        "[1,]",
        "{\"a\"}",
        "{a:1}",
        "'a'",
        "nul",
        "{\"a\":1,\"a\":2}",
        "[{\"x\":{\"a\":1,\"b\":2,\"a\":3}}]",
        "\"cut",
        "\"a\\",
        "{\"a\\u0000b\":1}",
        "\"a\\u0000\"",
        "\"\\ud800\"",
        "\"\\x\"",
        " ",
        "-",
        "{\"a\":}",
        "[1 2]",
        /* many members: the other way to look for doubles */
        ("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,"
         "\"l\":1,"
         "\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1,\"a\":1}"),
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (json_parse(bytes_of(table[i]), &e)) fail_msg("%s was taken", table[i]);
        assert_int_equal(e.kind, ERR_BAD);
        assert_int_equal(e.reason, REASON_BAD_MESSAGE);
    }
    assert_null(json_parse((struct bytes){0}, &e));
    assert_int_equal(e.reason, REASON_EMPTY);
    /* without a NUL behind it, at every length */
    const char text[] = "{\"a\":[1,2.5e3,\"x\\n\\u00e9\"],\"b\":null}";
    for (size_t n = 1; n < sizeof text; n++) {
        char *copy = malloc(n);
        memcpy(copy, text, n);
        struct json *root = json_parse((struct bytes){copy, n}, &e);
        assert_int_equal(root != NULL, n == sizeof text - 1);
        json_free(root);
        free(copy);
    }
}

static void depth(void **state) {
    for (int n = JSON_DEPTH - 1; n <= JSON_DEPTH + 1; n++) {
        struct buf b = {0};
        for (int i = 0; i < n; i++) buf_add_text(&b, "[");
        buf_add_text(&b, "1"); /* a value is no level */
        for (int i = 0; i < n; i++) buf_add_text(&b, "]");
        struct json *root = json_parse(buf_bytes(&b), &e);
        assert_int_equal(root != NULL, n <= JSON_DEPTH);
        json_free(root);
        buf_free(&b);
    }
    struct buf bomb = {0};
    for (int i = 0; i < 1000000; i++) buf_add_text(&bomb, i % 2 ? "[" : "[{\"a\":");
    assert_null(json_parse(buf_bytes(&bomb), &e));
    buf_free(&bomb);
    json_free(parsed("\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ \\\" [[[\""));
}

static void typed_reading(void **state) {
    struct json *o = parsed(
        "{\"t\":\"x\",\"i\":-5,\"big\":\"9223372036854775807\",\"r\":0.25,\"b\":true,\"n\":null,"
        "\"T\":\"other case\",\"list\":[\"p\",1.5],\"escaped\":\"\\\\u0000\"}");
    struct bytes text = BYTES("untouched");
    int64_t whole = 7;
    double real = 7;
    bool yes = false;
    assert_int_equal(json_get_text(o, "t", true, &text, &e), 0);
    assert_true(bytes_is(text, "x"));
    assert_int_equal(json_get_text(o, "escaped", true, &text, &e), 0);
    assert_true(bytes_is(text, "\\u0000"));
    assert_int_equal(json_get_int(o, "i", true, &whole, &e), 0);
    assert_int_equal(whole, -5);
    assert_int_equal(json_get_int(o, "big", true, &whole, &e), 0);
    assert_true(whole == INT64_MAX);
    assert_int_equal(json_get_real(o, "r", true, &real, &e), 0);
    assert_true(real == 0.25);
    assert_int_equal(json_get_bool(o, "b", true, &yes, &e), 0);
    assert_true(yes);
    /* absent and null */
    whole = 7;
    assert_int_equal(json_get_int(o, "nothing", false, &whole, &e), 0);
    assert_int_equal(json_get_int(o, "n", false, &whole, &e), 0);
    assert_int_equal(whole, 7);
    assert_int_equal(json_get_int(o, "nothing", true, &whole, &e), ERR_BAD);
    assert_non_null(strstr(e.text, "nothing"));
    assert_int_equal(json_get_text(o, "n", true, &text, &e), ERR_BAD);
    /* wrong types, needed or not */
    assert_int_equal(json_get_text(o, "i", false, &text, &e), ERR_BAD);
    assert_int_equal(json_get_int(o, "r", false, &whole, &e), ERR_BAD);
    assert_int_equal(json_get_int(o, "b", false, &whole, &e), ERR_BAD);
    assert_int_equal(json_get_real(o, "big", false, &real, &e), ERR_BAD);
    assert_int_equal(json_get_bool(o, "i", false, &yes, &e), ERR_BAD);
    /* walking */
    const struct json *list = json_member(o, "list");
    assert_true(json_is_array(list));
    assert_int_equal(json_count(list), 2);
    assert_int_equal(json_as_text(json_first(list), &text, &e), 0);
    assert_int_equal(json_as_real(json_next(json_first(list)), &real, &e), 0);
    assert_true(real == 1.5);
    assert_int_equal(json_as_real(json_first(list), &real, &e), ERR_BAD);
    assert_int_equal(json_as_text(NULL, &text, &e), ERR_BAD);
    assert_string_equal(json_name(json_first(o)), "t");
    assert_true(json_is_null(json_member(o, "n")) && json_is_null(NULL));
    assert_null(json_member(list, "t"));
    json_free(o);
    o = parsed("[1]");
    assert_int_equal(json_get_int(o, "i", false, &whole, &e), ERR_BAD); /* no object */
    json_free(o);
    json_free(NULL);
}

static void whole_numbers(void **state) {
    static const struct {
        const char *json;
        bool good;
    } table[] = {
        {"0", true},
        {"-1", true},
        {"9007199254740992", true},
        {"1e3", true},
        {"\"-12\"", true},
        {"\"-9223372036854775808\"", true},
        {"\"9223372036854775808\"", false},
        {"9007199254740994", false},
        {"1.5", false},
        {"1e999", false},
        {"\"\"", false},
        {"\" 5\"", false},
        {"\"+5\"", false},
        {"\"5 \"", false},
        {"\"-\"", false},
        {"\"0x10\"", false},
        {"\"1e3\"", false},
        {"[1]", false},
        {"{}", false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[80];
        int64_t v;
        snprintf(text, sizeof text, "{\"n\":%s}", table[i].json);
        struct json *o = parsed(text);
        if ((json_get_int(o, "n", true, &v, &e) == 0) != table[i].good) fail_msg("%s", text);
        json_free(o);
    }
}

static void writing_reads_back(void **state) {
    struct buf b = {0};
    struct json_writer w = json_begin(&b);
    json_put_text(&w, "text", BYTES("a \"b\" \\ \n\t\x01\x7f \xc3\xa9 \xf0\x9f\x93\xb7"));
    json_put_int(&w, "least", INT64_MIN);
    json_put_int(&w, "zero", 0);
    json_put_bool(&w, "yes", true);
    json_put_null(&w, "none");
    json_open_array(&w, "list");
    json_put_int(&w, NULL, 1);
    json_open_object(&w, NULL);
    json_close_object(&w);
    json_open_object(&w, NULL);
    json_put_raw(&w, "raw", BYTES("[true]"));
    json_close_object(&w);
    json_close_array(&w);
    json_put_int(&w, "a \"hostile\"\n name", 1);
    json_end(&w);
    assert_string_equal(
        b.data,
        "{\"text\":\"a \\\"b\\\" \\\\ \\u000a\\u0009\\u0001\\u007f \xc3\xa9 \xf0\x9f\x93\xb7\","
        "\"least\":-9223372036854775808,\"zero\":0,\"yes\":true,\"none\":null,"
        "\"list\":[1,{},{\"raw\":[true]}],\"a \\\"hostile\\\"\\u000a name\":1}");
    struct json *o = parsed(b.data);
    struct bytes text;
    assert_int_equal(json_get_text(o, "text", true, &text, &e), 0);
    assert_true(bytes_is(text, "a \"b\" \\ \n\t\x01\x7f \xc3\xa9 \xf0\x9f\x93\xb7"));
    json_free(o);
    buf_free(&b);
}

static void hostile_text(void **state) {
    unsigned seed = 1;
    for (int round = 0; round < 2000; round++) { /* any bytes become JSON whose text is UTF-8 */
        char junk[40];
        size_t n = 0;
        for (; n < (size_t)(round % 40); n++)
            junk[n] = (char)((seed = seed * 1103515245u + 12345u) >> 16 | 1);
        struct buf b = {0};
        struct json_writer w = json_begin(&b);
        json_put_text(&w, "t", (struct bytes){junk, n});
        json_end(&w);
        for (size_t i = 0; i < b.len; i++) assert_true((unsigned char)b.data[i] >= 0x20);
        assert_true(bytes_is_clean_text(buf_bytes(&b)));
        json_free(parsed(b.data));
        buf_free(&b);
    }
    static const struct {
        struct bytes in;
        const char *out;
    } table[] = {
        {BYTES("\xff"), "\"\xef\xbf\xbd\""},
        {BYTES("\xc3"), "\"\xef\xbf\xbd\""},
        {BYTES("\xed\xa0\x80"), "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {BYTES("\xc2\x9b"), "\"\\u009b\""},
        {BYTES("a\0b"), "\"a\xef\xbf\xbd"
                         "b\""}, /* our own reader refuses a NUL */
        {{0}, "\"\""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct buf b = {0};
        json_quote(&b, table[i].in);
        assert_string_equal(b.data, table[i].out);
        buf_free(&b);
    }
}

static void fractions_and_reals(void **state) {
    static const struct {
        double v;
        const char *text;
    } table[] = {
        {0, "0.000000"},         {1, "1.000000"},         {0.5, "0.500000"},
        {0.1234567, "0.123457"}, {0.9999999, "1.000000"}, {1e-9, "0.000000"},
        {-0.5, "0.000000"},      {7, "1.000000"},         {NAN, "0.000000"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct buf b = {0};
        struct json_writer w = {.to = &b};
        json_put_fraction(&w, NULL, table[i].v);
        assert_string_equal(b.data, table[i].text);
        buf_free(&b);
    }
    static const double reals[] = {0,      -0.0, 0.1,           1.0 / 3,    1e300,
                                   5e-324, -2.5, 123456789.123, 1e15 + 0.3, 99.13};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        struct buf b = {0};
        struct json_writer w = {.to = &b};
        json_put_real(&w, NULL, reals[i]);
        assert_true(strtod(b.data, NULL) == reals[i]);
        json_free(parsed(b.data));
        buf_free(&b);
    }
    struct buf b = {0};
    struct json_writer w = json_begin(&b);
    json_put_real(&w, "a", 0.1);
    json_put_real(&w, "b", NAN);
    json_put_real(&w, "c", INFINITY);
    json_end(&w);
    assert_string_equal(b.data, "{\"a\":0.1,\"b\":null,\"c\":null}");
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused),     cmocka_unit_test(depth),
        cmocka_unit_test(typed_reading),       cmocka_unit_test(whole_numbers),
        cmocka_unit_test(writing_reads_back),  cmocka_unit_test(hostile_text),
        cmocka_unit_test(fractions_and_reals),
    };
    return cmocka_run_group_tests_name("base_json", tests, NULL, NULL);
}
