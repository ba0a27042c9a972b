/* err: kinds, reasons and one line. */
#define _GNU_SOURCE
#include "lib/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void kinds(void **state) {
    struct err e;
    assert_int_equal(err_bad(&e, REASON_TOO_LARGE, "%d of %s", 5, "x"), ERR_BAD);
    assert_int_equal(e.kind, ERR_BAD);
    assert_int_equal(e.reason, REASON_TOO_LARGE);
    assert_string_equal(e.text, "5 of x");
    assert_int_equal(err_again(&e, "later"), ERR_AGAIN);
    assert_int_equal(e.reason, REASON_NONE);
    assert_int_equal(err_fatal(&e, "never"), ERR_FATAL);
    assert_int_equal(err_in(&e, "model %s", "m"), ERR_FATAL);
    assert_string_equal(e.text, "model m: never");
    err_clear(&e);
    assert_int_equal(e.kind, ERR_NONE);
    assert_string_equal(e.text, "");
}

static void long_texts_lose_their_end(void **state) {
    struct err e;
    char long_text[1000];
    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = 0;
    err_bad(&e, REASON_EMPTY, "%s", long_text);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    err_in(&e, "context");
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_memory_equal(e.text, "context: xxx", 12);
    for (size_t n = sizeof e.text - 8; n < sizeof e.text + 8; n++) {
        err_again(&e, "was");
        err_in(&e, "%.*s", (int)n, long_text);
        assert_true(strlen(e.text) < sizeof e.text);
        assert_int_equal(e.text[0], 'x');
    }
}

static void every_reason_has_its_code(void **state) {
    for (int i = 0; i < REASON_COUNT; i++) {
        const char *code = reason_code((enum reason)i);
        assert_int_equal(strspn(code, "abcdefghijklmnopqrstuvwxyz-"), strlen(code));
        assert_true(strlen(reason_what((enum reason)i)) > 10);
        for (int j = 0; j < i; j++) assert_string_not_equal(code, reason_code((enum reason)j));
    }
    assert_string_equal(reason_code(REASON_NOT_PNG), "not-png");
    assert_string_equal(reason_code(REASON_COUNT), "unknown");
    assert_string_equal(reason_what((enum reason)1000), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(long_texts_lose_their_end),
        cmocka_unit_test(every_reason_has_its_code),
    };
    return cmocka_run_group_tests_name("base_err", tests, NULL, NULL);
}
