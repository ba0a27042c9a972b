/* What people and programs read: tables, CSV, escaped text, figures. */
#include "lib/client/show.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

static void tables_line_up(void **state) {
    static const char *const heads[] = {"name", ">count", "why"};
    struct table t = table_make(heads, 3);
    struct buf b = {0};
    table_text(&t, BYTES("Zoë"));
    table_print(&t, "%d", 7);
    table_text(&t, BYTES("good"));
    table_text(&t, BYTES("x"));
    table_print(&t, "%d", 1234567);
    table_text(&t, (struct bytes){0});
    table_write(&t, &b);
    assert_string_equal(b.data, "name    count  why\n"
                                "Zoë         7  good\n"
                                "x     1234567  -\n");
    buf_free(&b);
    b = (struct buf){0};
    t.count = 0;
    table_write(&t, &b);
    assert_string_equal(b.data, "name  count  why\n");
    buf_free(&b);
    free(t.cells);
    arena_free(&t.texts);
}

static void text_from_outside_cannot_move_the_cursor(void **state) {
    struct buf b = {0};
    show_text(&b, BYTES("a\033[2Jb\n\xff\xc3\xa9\xe2\x82"));
    assert_string_equal(b.data, "a\\x1b[2Jb\\x0a\\xff\xc3\xa9\\xe2\\x82");
    buf_clear(&b);
    show_padded(&b, BYTES("é"), 3);
    assert_string_equal(b.data, "é  ");
    buf_free(&b);
}

static void csv_is_quoted_and_never_altered(void **state) {
    const struct { struct bytes from; const char *to; } cases[] = {
        {BYTES("plain.png"), "plain.png"},    {BYTES(""), ""},           {{0}, ""},
        {BYTES("a,b"), "\"a,b\""},            {BYTES("a\"b"), "\"a\"\"b\""}, {BYTES("a\r\nb"), "\"a\r\nb\""},
        {BYTES("=1+1"), "\"=1+1\""},          {BYTES("+1"), "\"+1\""},   {BYTES("-1"), "\"-1\""},
        {BYTES("@x"), "\"@x\""},              {BYTES("a-1"), "a-1"},     {BYTES(" a"), "\" a\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        buf_add(&b, "", 0);
        csv_field(&b, cases[i].from);
        buf_add(&b, "", 0);
        assert_string_equal(b.data, cases[i].to);
        buf_free(&b);
    }
}

static void figures_for_people(void **state) {
    char text[32];
    assert_string_equal(show_count(0, text), "0");
    assert_string_equal(show_count(999, text), "999");
    assert_string_equal(show_count(60000, text), "60,000");
    assert_string_equal(show_count(-1234567, text), "-1,234,567");
    assert_string_equal(show_count(INT64_MIN, text), "-9,223,372,036,854,775,808");
    assert_string_equal(show_size(999, text), "999 B");
    assert_string_equal(show_size(16200000, text), "16.2 MB");
}

static void percentiles_are_of_the_nearest_rank(void **state) {
    uint32_t list[100];
    for (uint32_t i = 0; i < 100; i++) list[i] = i + 1;
    assert_int_equal(show_percentile(list, 100, 0.5), 50);
    assert_int_equal(show_percentile(list, 100, 0.99), 99);
    assert_int_equal(show_percentile(list, 100, 1), 100);
    assert_int_equal(show_percentile(list, 100, 0), 1);
    assert_int_equal(show_percentile(list, 3, 0.5), 2);
    assert_int_equal(show_percentile(list, 1, 0.99), 1);
    assert_int_equal(show_percentile(list, 0, 0.5), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_from_outside_cannot_move_the_cursor), cmocka_unit_test(csv_is_quoted_and_never_altered),
        cmocka_unit_test(figures_for_people), cmocka_unit_test(percentiles_are_of_the_nearest_rank),
        cmocka_unit_test(tables_line_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
