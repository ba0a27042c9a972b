/* log: one write(2) a line, so lines of several processes do not mix; a failed write is ignored. */
#include "lib/base/log.h"

#include "lib/base/clock.h"
#include "lib/base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *who = "darkroom";
static enum log_level least = LOG_INFO;
static enum log_format format = LOG_HUMAN;
static const char *const names[] = {"debug", "info", "warn", "error"};

void log_setup(const char *w, enum log_level level, enum log_format f) {
    who = w;
    least = level;
    format = f;
}

/* C0, DEL and broken UTF-8 as \xNN; good text as it is. */
static void escape(struct buf *out, const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        size_t n = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4, have = 1;
        while (have < n && p[have]) have++;
        if (have == n && bytes_is_clean_text((struct bytes){p, n})) {
            buf_add(out, p, n);
            p += n - 1;
        } else {
            buf_printf(out, "\\x%02x", *p);
        }
    }
}

static void line(enum log_level level, const char *fmt, va_list args) {
    if (level < least) return;
    char text[1024], time[CLOCK_RFC3339_LEN + 1];
    vsnprintf(text, sizeof text, fmt, args);
    clock_format(clock_now_ms(), time);
    struct buf clean = {0}, out = {0};
    escape(&clean, text);
    if (format == LOG_JSON) {
        struct json_writer w = json_begin(&out);
        json_put_text(&w, "time", bytes_of(time));
        json_put_text(&w, "level", bytes_of(names[level]));
        json_put_text(&w, "stage", bytes_of(who));
        json_put_text(&w, "msg", buf_bytes(&clean));
        json_end(&w);
        buf_add_text(&out, "\n");
    } else {
        buf_printf(&out, "%.12s %-5s %-10s %s\n", time + 11, names[level], who,
                   clean.data ? clean.data : "");
    }
    /* One write a line: lines of several processes on one terminal do not mix. */
    ssize_t ignored = write(STDERR_FILENO, out.data, out.len);
    (void)ignored;
    buf_free(&clean);
    buf_free(&out);
}

#define LEVEL(name, level)                                                                         \
    void name(const char *fmt, ...) {                                                              \
        va_list args;                                                                              \
        va_start(args, fmt);                                                                       \
        line(level, fmt, args);                                                                    \
        va_end(args);                                                                              \
    }
LEVEL(log_debug, LOG_DEBUG)
LEVEL(log_info, LOG_INFO)
LEVEL(log_warn, LOG_WARN)
LEVEL(log_error, LOG_ERROR)

bool log_due(long long *last_ms, long long every_ms) {
    long long now = clock_monotonic_us() / 1000;
    if (*last_ms && now - *last_ms < every_ms) return false;
    *last_ms = now ? now : 1;
    return true;
}
