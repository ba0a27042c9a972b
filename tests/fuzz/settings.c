/*
 * Settings. An input is lines: NAME=value is an environment variable, everything else a word of the
 * command line. A variable that ends in _FILE names a file with what stands behind the '=' in it, or one
 * that is not there (!), or a folder (/). What is taken is within its bounds; what is refused names the
 * setting and shows no secret.
 */
#define _GNU_SOURCE
#include "lib/base/settings.h"

#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

struct conf {
    const char *text, *secret;
    int choice;
    bool yes;
    int64_t whole, any, size, time;
    double real;
};
static const struct setting table[] = {
    {"text", SETTING_TEXT, offsetof(struct conf, text), "t", "A text", .letter = 't'},
    {"secret", SETTING_SECRET, offsetof(struct conf, secret), NULL, "A secret"},
    {"choice", SETTING_CHOICE, offsetof(struct conf, choice), "b", "A choice",
     .allowed = "a|b|long"},
    {"yes", SETTING_BOOL, offsetof(struct conf, yes), "false", "Yes or no", .letter = 'y'},
    {"whole", SETTING_INT, offsetof(struct conf, whole), "7", "A number", .least = 1, .most = 100},
    {"any", SETTING_INT, offsetof(struct conf, any), "0", "Any number"},
    {"size", SETTING_SIZE, offsetof(struct conf, size), "1K", "A size", .least = 1,
     .most = 1 << 20},
    {"time", SETTING_TIME, offsetof(struct conf, time), "1s", "A time"},
    {"real", SETTING_REAL, offsetof(struct conf, real), "0.5", "A share", .least = 0, .most = 1},
    {0}};

enum { WORDS = 24, LINE = 256 };

static void set_variable(char *name, char *value) {
    static int fd = -1;
    size_t n = strlen(name);
    char path[64];
    if (fd < 0) fd = memfd_create("secret", 0);
    if (n > 5 && strcmp(name + n - 5, "_FILE") == 0) {
        size_t len = strlen(value);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        HOLDS(ftruncate(fd, 0) == 0 && pwrite(fd, value, len, 0) == (ssize_t)len);
        value = *value == '!' ? "/proc/self/none" : *value == '/' ? "/" : path;
    }
    setenv(name, value, 1);
}

static enum err_kind take(void *ctx, const char *property, const char *value, struct err *e) {
    HOLDS(!strchr(property, '_') || strlen(property) > 0);
    return value[0] == 'x' ? err_fatal(e, "%s is refused", property) : ERR_NONE;
}

/* What a value is told as is taken as the same value. */
static void holds_of_text(const struct conf *c) {
    for (const struct setting *s = table; s->name; s++) {
        struct conf again = *c;
        struct err e = {0};
        char text[64];
        settings_get(s, c, text, sizeof text);
        if (s->type == SETTING_TEXT || s->type == SETTING_SECRET) continue;
        HOLDS(!settings_put(s, &again, text, s->name, &e) && !memcmp(&again, c, sizeof again));
    }
}

static void holds_of_conf(const struct conf *c, int argc, int operand, bool help) {
    HOLDS(help || (operand >= 1 && operand <= argc));
    HOLDS(c->text && c->choice >= 0 && c->choice < 3);
    HOLDS(c->whole >= 1 && c->whole <= 100 && c->size >= 1 && c->size <= 1 << 20);
    HOLDS(c->time >= 0 && c->real >= 0 && c->real <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char lines[WORDS][LINE];
    char *argv[WORDS + 2] = {"program"};
    int argc = 1;
    clearenv();
    for (size_t i = 0, from = 0; i < WORDS && from < size; i++) {
        const uint8_t *stop = memchr(data + from, '\n', size - from);
        size_t n = stop ? (size_t)(stop - data) - from : size - from;
        size_t kept = n < LINE - 1 ? n : LINE - 1;
        memcpy(lines[i], data + from, kept);
        lines[i][kept] = 0;
        from += n + 1;
        char *equals = strncmp(lines[i], "DARKROOM_", 9) == 0 ? strchr(lines[i], '=') : NULL;
        if (equals) {
            *equals = 0;
            set_variable(lines[i], equals + 1);
        } else {
            argv[argc++] = lines[i];
        }
    }
    struct conf c = {0};
    struct err e = {0};
    bool help;
    int operand = 0;
    enum err_kind kind =
        settings_read((struct settings_use[]){{table, &c}, {0}}, argc, argv, &operand, &help, &e);
    HOLDS(kind == e.kind && (kind == ERR_NONE || kind == ERR_FATAL));
    if (kind)
        HOLDS(e.text[0]);
    else
        holds_of_conf(&c, argc, operand, help), holds_of_text(&c);
    err_clear(&e);
    (void)!settings_properties("DARKROOM_KAFKA_", take, NULL, &e);
    static bool shown;
    if (!shown) {
        struct buf b = {0};
        settings_help(table, &b);
        settings_reference(table, &b);
        buf_free(&b);
        shown = true;
    }
    return 0;
}
