/* bytes: borrowed, owned and given back all at once. */
#define _GNU_SOURCE
#include "lib/base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void equal_and_absent(void **state) {
    assert_true(bytes_equal(BYTES("a"), bytes_of("a")));
    assert_false(bytes_equal(BYTES("a"), BYTES("ab")));
    assert_true(bytes_equal((struct bytes){0}, BYTES("")));
    assert_null(bytes_of(NULL).data);
    assert_true(bytes_is(BYTES("abc"), "abc"));
    assert_false(bytes_is(BYTES("abc"), "ab"));
    assert_int_equal(BYTES("a\0b").len, 3);
}

static void a_small_set(void **state) {
    struct bytes set[3];
    size_t n = 0;
    assert_int_equal(bytes_enter(set, &n, BYTES("a")), 0);
    assert_int_equal(bytes_enter(set, &n, BYTES("b")), 1);
    assert_int_equal(bytes_enter(set, &n, BYTES("a")), 0);
    assert_int_equal(bytes_enter(set, &n, BYTES("")), 2);
    assert_int_equal(n, 3);
}

static void clean_text(void **state) {
    static const struct {
        struct bytes text;
        bool clean;
    } table[] = {
        {{0}, true},
        {BYTES(""), true},
        {BYTES("plain, with spaces ~"), true},
        {BYTES("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x93\xb7"), true}, /* é € 📷 */
        {BYTES("\xc2\xa0"), true},                               /* the first behind C1 */
        {BYTES("\xed\x9f\xbf\xee\x80\x80"), true},               /* around the surrogates */
        {BYTES("\xf4\x8f\xbf\xbf"), true},                       /* U+10FFFF */
        {BYTES("a\nb"), false},
        {BYTES("a\tb"), false},
        {BYTES("a\0b"), false},
        {BYTES("\x1b[2J"), false},
        {BYTES("\x7f"), false},
        {BYTES("\xc2\x9b"), false}, /* a C1 control: CSI */
        {BYTES("\x80"), false},     /* a continuation alone */
        {BYTES("\xc3"), false},     /* cut */
        {BYTES("\xe2\x82"), false},
        {BYTES("\xf0\x9f\x93"), false},
        {BYTES("\xc3("), false},    /* no continuation */
        {BYTES("\xc0\xaf"), false}, /* overlong */
        {BYTES("\xe0\x80\xaf"), false},
        {BYTES("\xf0\x80\x80\xaf"), false},
        {BYTES("\xed\xa0\x80"), false},     /* a surrogate */
        {BYTES("\xf4\x90\x80\x80"), false}, /* over U+10FFFF */
        {BYTES("\xf5\x80\x80\x80"), false},
        {BYTES("\xfe"), false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (bytes_is_clean_text(table[i].text) != table[i].clean) fail_msg("row %zu", i);
}

static void a_buf_grows(void **state) {
    struct buf b = {0};
    assert_true(bytes_is(buf_bytes(&b), ""));
    buf_printf(&b, "%s", "");
    for (int i = 0; i < 1000; i++) buf_printf(&b, "%d,", i);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(b.data), b.len);
    assert_memory_equal(b.data + b.len - 8, "998,999,", 8);
    size_t cap = b.cap;
    buf_clear(&b);
    assert_int_equal(b.len, 0);
    assert_string_equal(b.data, "");
    buf_add(&b, "x\0y", 3);
    buf_add(&b, NULL, 0);
    assert_int_equal(b.len, 3);
    assert_int_equal(b.cap, cap);
    buf_free(&b);
    assert_null(b.data);
}

static void an_arena(void **state) {
    struct arena a = {0};
    for (int round = 0; round < 3; round++) {
        char *pieces[2000];
        for (int i = 0; i < 2000; i++) {
            pieces[i] = arena_alloc(&a, (size_t)i);
            assert_int_equal((uintptr_t)pieces[i] % 16, 0);
            memset(pieces[i], i, (size_t)i);
        }
        for (int i = 0; i < 2000; i++)
            for (int j = 0; j < i; j += 97) assert_int_equal((unsigned char)pieces[i][j], i & 255);
        char *large = arena_alloc(&a, 5 << 20);
        memset(large, 1, 5 << 20);
        assert_string_equal(arena_printf(&a, "%s-%d", "n", round), round == 0   ? "n-0"
                                                                   : round == 1 ? "n-1"
                                                                                : "n-2");
        assert_true(a.used > 7000000);
        arena_reset(&a);
        assert_int_equal(a.used, 0);
    }
    assert_string_equal(arena_text(&a, (struct bytes){"abcdef", 3}), "abc");
    assert_null(arena_copy(&a, (struct bytes){0}).data);
    struct bytes empty = arena_copy(&a, BYTES(""));
    assert_non_null(empty.data);
    assert_int_equal(empty.len, 0);
    arena_free(&a);
    arena_free(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_and_absent),
        cmocka_unit_test(a_small_set),
        cmocka_unit_test(clean_text),
        cmocka_unit_test(a_buf_grows),
        cmocka_unit_test(an_arena),
    };
    return cmocka_run_group_tests_name("base_bytes", tests, NULL, NULL);
}
