/*
 * log: one line an event on stderr, for people or as JSON (one object a line: time, level, stage,
 * msg). Control characters from outside are escaped, so a hostile file name cannot move a
 * terminal's cursor.
 */
#ifndef DARKROOM_BASE_LOG_H
#define DARKROOM_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_HUMAN, LOG_JSON };

/* `who` (borrowed, for ever) stands in every line; nothing below `level` is printed. */
void log_setup(const char *who, enum log_level level, enum log_format format);

void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* At most one line every `every_ms` from one place: keep a `static int64_t last` and ask. */
bool log_due(long long *last_ms, long long every_ms);

#endif
