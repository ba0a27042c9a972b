/*
 * show: what people and programs read: text made safe for a terminal, tables that line up, one progress
 * line, CSV fields, and the figures of a summary.
 */
#ifndef DARKROOM_CLIENT_SHOW_H
#define DARKROOM_CLIENT_SHOW_H

#include "lib/base/bytes.h"

/* Appends text that came from outside: control characters and broken UTF-8 as \xNN, absent as "-". */
void show_text(struct buf *out, struct bytes text);
/* The same, filled up with blanks to `width` characters. */
void show_padded(struct buf *out, struct bytes text, size_t width);

/* Numbers for people: 60,000 and 16.2 MB; they return `out`. */
const char *show_count(int64_t n, char out[32]);
const char *show_size(int64_t bytes, char out[32]);
/* The k-th smallest with k = ceil(n * share), of n sorted values; 0 when there are none. */
uint32_t show_percentile(const uint32_t *sorted, size_t n, double share);

/* Cells come row after row. A head that begins with '>' is a column of numbers, and stands to the right. */
struct table {
    const char *const *heads;
    size_t columns;
    struct bytes *cells;
    size_t count, cap;
    struct arena texts;
};
struct table table_make(const char *const *heads, size_t columns); /* heads are borrowed */
void table_text(struct table *t, struct bytes text);
void table_print(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void table_write(const struct table *t, struct buf *out);
void table_end(struct table *t); /* writes to stdout and frees */
void table_free(struct table *t);

/* RFC 4180: quoted where needed, and where a spreadsheet would take it for a formula; never altered. */
void csv_field(struct buf *out, struct bytes text);

/* One line on stderr that moves, on a terminal; elsewhere a plain line every five seconds. total 0: unknown. */
void progress_begin(const char *what, int64_t total);
void progress_at(int64_t done, int64_t bytes);
void progress_hide(void); /* makes room for another line */
void progress_end(void);

#endif
