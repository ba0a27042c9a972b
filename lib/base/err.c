/* err: kinds and texts of errors, and the table of reasons. */
#include "lib/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum err_kind fill(struct err *e, enum err_kind kind, enum reason reason, const char *fmt,
                          va_list args) {
    e->kind = kind;
    e->reason = reason;
    vsnprintf(e->text, sizeof e->text, fmt, args);
    return kind;
}

enum err_kind err_bad(struct err *e, enum reason reason, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(e, ERR_BAD, reason, fmt, args);
    va_end(args);
    return ERR_BAD;
}

enum err_kind err_again(struct err *e, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(e, ERR_AGAIN, REASON_NONE, fmt, args);
    va_end(args);
    return ERR_AGAIN;
}

enum err_kind err_fatal(struct err *e, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(e, ERR_FATAL, REASON_NONE, fmt, args);
    va_end(args);
    return ERR_FATAL;
}

enum err_kind err_in(struct err *e, const char *fmt, ...) {
    char context[sizeof e->text], was[sizeof e->text];
    va_list args;
    va_start(args, fmt);
    vsnprintf(context, sizeof context, fmt, args);
    va_end(args);
    memcpy(was, e->text, sizeof was);
    /* A text that is too long loses its end, never its context: two steps keep the compiler's
       truncation warning honest. */
    size_t n = strlen(context);
    memcpy(e->text, context, n + 1);
    if (n + 3 < sizeof e->text)
        snprintf(e->text + n, sizeof e->text - n, ": %.*s", (int)(sizeof e->text - n - 3), was);
    return e->kind;
}

void err_clear(struct err *e) {
    *e = (struct err){0};
}

static const struct {
    const char *code, *what;
} reasons[] = {
#define X(name, code, what) {code, what},
    REASONS(X)
#undef X
};

const char *reason_code(enum reason reason) {
    return reason >= 0 && reason < REASON_COUNT ? reasons[reason].code : "unknown";
}

const char *reason_what(enum reason reason) {
    return reason >= 0 && reason < REASON_COUNT ? reasons[reason].what : "unknown";
}
