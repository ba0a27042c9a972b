/* settings: presets, environment, flags and files, and what is said when one is wrong. */
#define _GNU_SOURCE
#include "lib/base/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct conf {
    const char *name, *secret;
    int level;
    bool on;
    int64_t count, size, age;
    double rate;
};
static const struct setting table[] = {
    {"test-name", SETTING_TEXT, offsetof(struct conf, name), "nobody", "Who it is", .letter = 'n'},
    {"test-secret", SETTING_SECRET, offsetof(struct conf, secret), NULL, "What nobody may see"},
    {"test-level", SETTING_CHOICE, offsetof(struct conf, level), "mid", "How much",
     .allowed = "low|mid|high"},
    {"test-on", SETTING_BOOL, offsetof(struct conf, on), "false", "Whether at all"},
    {"test-count", SETTING_INT, offsetof(struct conf, count), "5", "How many", .least = 1,
     .most = 100},
    {"test-size", SETTING_SIZE, offsetof(struct conf, size), "16M", "How large"},
    {"test-age", SETTING_TIME, offsetof(struct conf, age), "5s", "How old", .least = 10,
     .most = 60000},
    {"test-rate", SETTING_REAL, offsetof(struct conf, rate), "0.05", "How fast", .least = 0,
     .most = 1},
    {0},
};
static struct conf conf;
static struct err e;
static int operand;
static bool help;

static enum err_kind read_with(const char *const *words) {
    static char *argv[16];
    int argc = 0;
    argv[argc++] = "program";
    while (words && *words) argv[argc++] = (char *)*words++;
    argv[argc] = NULL;
    conf = (struct conf){0};
    return settings_read((struct settings_use[]){{table, &conf}, {0}}, argc, argv, &operand, &help,
                         &e);
}
#define READ(...) read_with((const char *const[]){__VA_ARGS__, NULL})

static int clean(void **state) {
    for (const struct setting *s = table; s->name; s++) {
        char name[80], *p = name;
        snprintf(name, sizeof name, "DARKROOM_%s", s->name);
        for (; *p; p++) *p = *p == '-' ? '_' : *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
        unsetenv(name);
    }
    unsetenv("DARKROOM_TEST_SECRET_FILE");
    return 0;
}

static void presets(void **state) {
    assert_int_equal(read_with(NULL), 0);
    assert_string_equal(conf.name, "nobody");
    assert_null(conf.secret);
    assert_int_equal(conf.level, 1);
    assert_false(conf.on);
    assert_int_equal(conf.count, 5);
    assert_int_equal(conf.size, 16 << 20);
    assert_int_equal(conf.age, 5000);
    assert_true(conf.rate == 0.05);
    assert_int_equal(operand, 1);
    assert_false(help);
}

static void flags_over_environment(void **state) {
    setenv("DARKROOM_TEST_COUNT", "7", 1);
    setenv("DARKROOM_TEST_LEVEL", "high", 1);
    setenv("DARKROOM_TEST_ON", "true", 1);
    assert_int_equal(READ("--test-count=9", "file", "-n", "ann", "--test-on=false", "--test-size",
                          "64K", "other"),
                     0);
    assert_int_equal(conf.count, 9);
    assert_int_equal(conf.level, 2);
    assert_string_equal(conf.name, "ann");
    assert_false(conf.on);
    assert_int_equal(conf.size, 65536);
    assert_int_equal(operand, 7);
    assert_int_equal(READ("--test-on", "--", "--test-count=1"), 0);
    assert_true(conf.on);
    assert_int_equal(conf.count, 7);
    assert_int_equal(READ("--help"), 0);
    assert_true(help);
    assert_int_equal(READ("-h"), 0);
    assert_true(help);
}

static void a_secret_from_a_file(void **state) {
    char path[] = "/tmp/darkroom-secret-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "hunter2\n", 8), 8);
    close(fd);
    setenv("DARKROOM_TEST_SECRET_FILE", path, 1);
    assert_int_equal(read_with(NULL), 0);
    assert_string_equal(conf.secret, "hunter2");
    setenv("DARKROOM_TEST_SECRET", "nearer", 1);
    assert_int_equal(read_with(NULL), 0);
    assert_string_equal(conf.secret, "nearer");
    unsetenv("DARKROOM_TEST_SECRET");
    unlink(path);
    assert_int_equal(read_with(NULL), ERR_FATAL);
    assert_non_null(strstr(e.text, "DARKROOM_TEST_SECRET_FILE"));
}

static void a_secret_in_the_arguments(void **state) {
    char joined[] = "--test-secret=hunter2", flag[] = "--test-secret", word[] = "hunter3";
    char *argv[] = {"program", joined, NULL}, *again[] = {"program", flag, word, NULL};
    const struct settings_use uses[] = {{table, &conf}, {0}};
    assert_int_equal(settings_read(uses, 2, argv, &operand, &help, &e), 0);
    assert_string_equal(conf.secret, "hunter2");
    assert_string_equal(joined, "--test-secret=xxxxxxx");
    assert_int_equal(settings_read(uses, 3, again, &operand, &help, &e), 0);
    assert_string_equal(conf.secret, "hunter3");
    assert_string_equal(word, "xxxxxxx");
}

/* Secrets that went to the wrong place are not repeated to everybody who reads the log. */
static void a_secret_in_the_wrong_place(void **state) {
    setenv("DARKROOM_TEST_SECRET_FILE", "hunter2", 1);
    assert_int_equal(read_with(NULL), ERR_FATAL);
    assert_non_null(strstr(e.text, "DARKROOM_TEST_SECRET_FILE"));
    assert_null(strstr(e.text, "hunter2"));
    unsetenv("DARKROOM_TEST_SECRET_FILE");
    assert_int_equal(READ("--test-sceret=hunter2"), ERR_FATAL);
    assert_non_null(strstr(e.text, "--test-sceret"));
    assert_null(strstr(e.text, "hunter2"));
}

static void what_is_wrong_is_named(void **state) {
    static const struct {
        const char *flag, *says;
    } rows[] = {
        {"--test-count=0", "from 1 to 100"},
        {"--test-count=101", "--test-count"},
        {"--test-count=5x", "whole number"},
        {"--test-count=", "whole number"},
        {"--test-count=1.5", "whole number"},
        {"--test-count=99999999999999999999", "whole number"},
        {"--test-level=none", "low|mid|high"},
        {"--test-level=", "low|mid|high"},
        {"--test-level=lo", "low|mid|high"},
        {"--test-on=yes", "true or false"},
        {"--test-size=-1", "64K"},
        {"--test-size=5X", "64K"},
        {"--test-size=nan", "64K"},
        {"--test-size=1e15G", "64K"},
        {"--test-size=", "64K"},
        {"--test-age=5", "250ms"},
        {"--test-age=9ms", "from 10 to 60000 ms"},
        {"--test-age=2m", "60000"},
        {"--test-rate=nan", "a number"},
        {"--test-rate=1.1", "from 0 to 1"},
        {"--test-rate=fast", "a number"},
        {"--test-nonsense", "--test-nonsense"},
        {"--test-name", "needs a value"},
        {"-x", "-x"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (READ(rows[i].flag) != ERR_FATAL) fail_msg("%s was taken", rows[i].flag);
        if (!strstr(e.text, rows[i].says)) fail_msg("%s: %s", rows[i].flag, e.text);
    }
    setenv("DARKROOM_TEST_COUNT", "many", 1);
    assert_int_equal(read_with(NULL), ERR_FATAL);
    assert_non_null(strstr(e.text, "DARKROOM_TEST_COUNT is \"many\""));
}

static void units(void **state) {
    static const struct {
        const char *flag;
        int64_t size, age;
    } rows[] = {
        {"--test-size=512", 512, 5000},      {"--test-size=1.5K", 1536, 5000},
        {"--test-size=2g", 2LL << 30, 5000}, {"--test-size=0", 0, 5000},
        {"--test-age=250ms", 16 << 20, 250}, {"--test-age=0.5s", 16 << 20, 500},
        {"--test-age=1m", 16 << 20, 60000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (READ(rows[i].flag)) fail_msg("%s", e.text);
        assert_true(conf.size == rows[i].size && conf.age == rows[i].age);
    }
}

/* What settings_get tells is taken again as the same, at the far ends too. */
static void told_and_taken(void **state) {
    assert_int_equal(READ("--test-size=8e9G", "--test-rate=0x1p-1074", "--test-count=99"), 0);
    assert_true(conf.size == 8000000000LL << 30 && conf.rate > 0);
    struct conf again = {0};
    char text[64];
    for (const struct setting *s = table; s->name; s++) {
        if (s->type == SETTING_TEXT || s->type == SETTING_SECRET) continue;
        settings_get(s, &conf, text, sizeof text);
        if (settings_put(s, &again, text, s->name, &e)) fail_msg("%s", e.text);
    }
    assert_true(again.size == conf.size && again.rate == conf.rate && again.count == 99 &&
                again.age == conf.age && again.level == conf.level && again.on == conf.on);
}

static void help_and_reference(void **state) {
    struct buf text = {0}, rows = {0};
    settings_help(table, &text);
    settings_reference(table, &rows);
    size_t lines = 0, count = 0;
    for (const struct setting *s = table; s->name; s++, count++) {
        char flag[80];
        snprintf(flag, sizeof flag, "--%s", s->name);
        assert_non_null(strstr(text.data, flag));
        assert_non_null(strstr(rows.data, flag));
        assert_non_null(strstr(text.data, s->what));
        assert_non_null(strstr(rows.data, s->what));
    }
    assert_non_null(strstr(text.data, "-n, --test-name"));
    assert_non_null(strstr(text.data, "DARKROOM_TEST_SECRET"));
    assert_non_null(strstr(text.data, "low|mid|high"));
    assert_non_null(strstr(rows.data, "low/mid/high")); /* a bar would end the cell */
    for (const char *p = rows.data; *p; lines += *p++ == '\n')
        ;
    assert_int_equal(lines, count);
    buf_free(&text);
    buf_free(&rows);
}

static enum err_kind collect(void *ctx, const char *property, const char *value, struct err *err) {
    buf_printf(ctx, "%s=%s;", property, value);
    return strcmp(value, "refuse") == 0 ? err_fatal(err, "refused") : ERR_NONE;
}

static void properties(void **state) {
    char path[] = "/tmp/darkroom-secret-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "hunter2\r\n", 9), 9);
    close(fd);
    struct buf got = {0};
    setenv("DARKROOM_TEST_KAFKA_SECURITY_PROTOCOL", "ssl=a", 1);
    assert_int_equal(settings_properties("DARKROOM_TEST_KAFKA_", collect, &got, &e), 0);
    assert_string_equal(got.data, "security.protocol=ssl=a;");
    unsetenv("DARKROOM_TEST_KAFKA_SECURITY_PROTOCOL");
    buf_clear(&got);
    setenv("DARKROOM_TEST_KAFKA_SASL_PASS__WORD_FILE", path, 1);
    assert_int_equal(settings_properties("DARKROOM_TEST_KAFKA_", collect, &got, &e), 0);
    assert_string_equal(got.data, "sasl.pass_word=hunter2;");
    unlink(path);
    assert_int_equal(settings_properties("DARKROOM_TEST_KAFKA_", collect, &got, &e), ERR_FATAL);
    unsetenv("DARKROOM_TEST_KAFKA_SASL_PASS__WORD_FILE");
    setenv("DARKROOM_TEST_KAFKA_X", "refuse", 1);
    assert_int_equal(settings_properties("DARKROOM_TEST_KAFKA_", collect, &got, &e), ERR_FATAL);
    unsetenv("DARKROOM_TEST_KAFKA_X");
    buf_free(&got);
}

int main(void) {
#define CLEAN(test) cmocka_unit_test_setup_teardown(test, clean, clean)
    const struct CMUnitTest tests[] = {
        CLEAN(presets),
        CLEAN(flags_over_environment),
        CLEAN(a_secret_from_a_file),
        CLEAN(a_secret_in_the_arguments),
        CLEAN(a_secret_in_the_wrong_place),
        CLEAN(what_is_wrong_is_named),
        CLEAN(units),
        CLEAN(told_and_taken),
        CLEAN(help_and_reference),
        CLEAN(properties),
    };
    return cmocka_run_group_tests_name("base_settings", tests, NULL, NULL);
}
