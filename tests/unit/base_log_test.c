/* log: what stands on stderr, byte for byte. */
#define _GNU_SOURCE
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What `say` writes to stderr. */
static const char *written(void (*say)(void)) {
    static char text[8192];
    int ends[2], was = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    say();
    dup2(was, STDERR_FILENO);
    close(was);
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static void say_plain(void) {
    log_info("%d images of \xc3\xa9", 5);
}
static void say_quietly(void) {
    log_debug("not asked for");
}
static void say_hostile(void) {
    log_error("file \x1b[2J\x07 \"q\" \\ \x7f \xc2\x9b \xff \xe2\x82 line\nnext\r");
}
static void say_long(void) {
    char text[5000];
    memset(text, 'x', sizeof text);
    log_warn("%.*s", (int)sizeof text, text);
}

static void for_people(void **state) {
    clock_simulate(1795441200123);
    log_setup("store", LOG_INFO, LOG_HUMAN);
    assert_string_equal(written(say_plain), "13:40:00.123 info  store      5 images of \xc3\xa9\n");
    assert_string_equal(written(say_quietly), "");
    assert_string_equal(written(say_hostile),
                        "13:40:00.123 error store      file \\x1b[2J\\x07 \"q\" \\ \\x7f "
                        "\\xc2\\x9b \\xff \\xe2\\x82 line\\x0anext\\x0d\n");
    log_setup("store", LOG_DEBUG, LOG_HUMAN);
    assert_string_equal(written(say_quietly), "13:40:00.123 debug store      not asked for\n");
    clock_simulate(-1);
}

static void as_json(void **state) {
    struct err e;
    struct bytes msg;
    clock_simulate(1795441200123);
    log_setup("store", LOG_INFO, LOG_JSON);
    assert_string_equal(
        written(say_plain),
        "{\"time\":\"2026-11-23T13:40:00.123Z\",\"level\":\"info\",\"stage\":\"store\","
        "\"msg\":\"5 images of \xc3\xa9\"}\n");
    void (*const says[])(void) = {say_hostile, say_long};
    for (size_t i = 0; i < 2; i++) {
        const char *text = written(says[i]);
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1); /* one line */
        struct json *line = json_parse(bytes_of(text), &e);
        assert_non_null(line);
        assert_int_equal(json_get_text(line, "msg", true, &msg, &e), 0);
        assert_true(bytes_is_clean_text(msg));
        json_free(line);
    }
    clock_simulate(-1);
}

static void not_too_often(void **state) {
    long long last = 0;
    clock_simulate(1000000);
    assert_true(log_due(&last, 1000));
    assert_false(log_due(&last, 1000));
    clock_sleep_ms(999);
    assert_false(log_due(&last, 1000));
    clock_sleep_ms(1);
    assert_true(log_due(&last, 1000));
    clock_simulate(-1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(for_people),
        cmocka_unit_test(as_json),
        cmocka_unit_test(not_too_often),
    };
    return cmocka_run_group_tests_name("base_log", tests, NULL, NULL);
}
