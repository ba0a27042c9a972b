/* clock: RFC 3339 in and out, and time that stands still. */
#define _GNU_SOURCE
#include "lib/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void format(void **state) {
    static const struct {
        int64_t ms;
        const char *text;
    } table[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {1795441200123, "2026-11-23T13:40:00.123Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[CLOCK_RFC3339_LEN + 1];
        struct err e;
        int64_t back = 0;
        clock_format(table[i].ms, text);
        assert_string_equal(text, table[i].text);
        assert_int_equal(clock_parse(bytes_of(text), &back, &e), ERR_NONE);
        assert_true(back == table[i].ms);
    }
}

static void parse(void **state) {
    static const struct {
        const char *text;
        int64_t ms;
    } table[] = {
        {"2026-11-23T13:40:00Z", 1795441200000},
        {"2026-11-23t13:40:00z", 1795441200000},
        {"2026-11-23 13:40:00Z", 1795441200000},
        {"2026-11-23T15:40:00+02:00", 1795441200000},
        {"2026-11-23T08:10:00-05:30", 1795441200000},
        {"2026-11-23T13:40:00+00:00", 1795441200000},
        {"2026-11-24T03:39:00+13:59", 1795441200000},
        {"2026-11-23T13:40:00.5Z", 1795441200500},
        {"2026-11-23T13:40:00.1239999999Z", 1795441200123},
        {"2026-11-23T13:40:00.000001+00:00", 1795441200000},
        {"2016-12-31T23:59:60Z", 1483228800000}, /* a leap second is the next one */
        {"2000-02-29T00:00:00Z", 951782400000},
        {"1969-12-31T23:59:59.25Z", -750},
    };
    struct err e;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int64_t ms = 0;
        if (clock_parse(bytes_of(table[i].text), &ms, &e) || ms != table[i].ms)
            fail_msg("%s is %lld", table[i].text, (long long)ms);
    }
}

static void no_times(void **state) {
    static const char *const table[] = {
        "",
        "now",
        "2026",
        "2026-11-23",
        "2026-11-23T13:40:00",
        "2026-11-23T13:40Z",
        "2026-11-23T13:40:00ZZ",
        "2026-11-23T13:40:00.Z",
        "2026-11-23T13:40:00,5Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-11-00T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T13:60:00Z",
        "2026-11-23T13:40:61Z",
        "2026-1-3T1:2:3Z",
        "2026-11-23T 3:40:00Z",
        "2026-11-23T+3:40:00Z",
        " 2026-11-23T13:40:00Z",
        "+026-11-23T13:40:00Z",
        "2026-11-23T13:40:00+2:00",
        "2026-11-23T13:40:00+0200",
        "2026-11-23T13:40:00+24:00",
        "2026-11-23T13:40:00+02:60",
        "2026-11-23T13:40:00+-2:00",
        "2026-11-23T13:40:00 02:00",
        "2026-11-23T13:40:00.00000000000000000000000000000000000000Z",
    };
    struct err e;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int64_t ms = 77;
        if (clock_parse(bytes_of(table[i]), &ms, &e) != ERR_BAD) fail_msg("%s was taken", table[i]);
        assert_int_equal(e.reason, REASON_BAD_EVENT);
        assert_int_equal(ms, 77);
    }
    int64_t ms;
    assert_int_equal(clock_parse((struct bytes){0}, &ms, &e), ERR_BAD);
    assert_int_equal(clock_parse(BYTES("2026-11-23T13:40:00Z\0"), &ms, &e), ERR_BAD);
}

static void time_that_stands_still(void **state) {
    int64_t real = clock_now_ms();
    assert_true(real > 1700000000000);
    clock_simulate(5000);
    assert_int_equal(clock_now_ms(), 5000);
    int64_t begin = clock_monotonic_us();
    clock_sleep_ms(3600 * 1000);
    clock_sleep_ms(-5);
    assert_int_equal(clock_now_ms(), 3605000);
    assert_true(clock_monotonic_us() - begin == 3600000000);
    clock_simulate(-1);
    assert_true(clock_now_ms() >= real);
    begin = clock_monotonic_us();
    clock_sleep_ms(2);
    assert_true(clock_monotonic_us() - begin >= 2000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format),
        cmocka_unit_test(parse),
        cmocka_unit_test(no_times),
        cmocka_unit_test(time_that_stands_still),
    };
    return cmocka_run_group_tests_name("base_clock", tests, NULL, NULL);
}
