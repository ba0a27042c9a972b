/*
 * show: text, tables, CSV and progress, for people and programs.
 */
#include "lib/client/show.h"

#include "lib/base/clock.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many bytes from here on are printable ASCII: taken at once, they are most of any text. */
static size_t plain(const unsigned char *p, size_t n) {
    size_t i = 0;
    while (i < n && p[i] >= ' ' && p[i] < 0x7f) i++;
    return i;
}

void show_text(struct buf *out, struct bytes text) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = text.data;
    if (!p) buf_add_text(out, "-");
    for (size_t i = 0, n; p && i < text.len; i += n) {
        if ((n = plain(p + i, text.len - i))) {
            buf_add(out, p + i, n);
            continue;
        }
        n = p[i] < 0x80 ? 1 : p[i] < 0xe0 ? 2 : p[i] < 0xf0 ? 3 : 4;
        if (n <= text.len - i && bytes_is_clean_text((struct bytes){p + i, n})) {
            buf_add(out, p + i, n);
        } else {
            const char hex[] = {'\\', 'x', digits[p[i] >> 4], digits[p[i] & 15]};
            buf_add(out, hex, sizeof hex); /* a megabyte of them is not formatted one by one */
            n = 1;
        }
    }
    buf_add(out, "", 0);
}

/* Characters of clean text: every byte that does not continue one. */
static size_t width_of(const char *text, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void blanks(struct buf *out, size_t n) {
    while (n--) buf_add(out, " ", 1);
}

void show_padded(struct buf *out, struct bytes text, size_t width) {
    size_t start = out->len;
    show_text(out, text);
    size_t have = width_of(out->data + start, out->len - start);
    if (have < width) blanks(out, width - have);
}

const char *show_count(int64_t n, char out[32]) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu",
                       n < 0 ? 0 - (unsigned long long)n : (unsigned long long)n);
    char *p = out;
    if (n < 0) *p++ = '-';
    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) *p++ = ',';
        *p++ = digits[i];
    }
    *p = 0;
    return out;
}

const char *show_size(int64_t bytes, char out[32]) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double n = (double)bytes;
    size_t unit = 0;
    while (n >= 1000 && unit < 4) n /= 1000, unit++;
    snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", n, units[unit]);
    return out;
}

uint32_t show_percentile(const uint32_t *sorted, size_t n, double share) {
    if (!n) return 0;
    double k = ceil((double)n * share);
    return sorted[k < 1 ? 0 : k > (double)n ? n - 1 : (size_t)k - 1];
}

/* ---- tables ---- */

struct table table_make(const char *const *heads, size_t columns) {
    return (struct table){.heads = heads, .columns = columns};
}

void table_text(struct table *t, struct bytes text) {
    struct buf b = {0};
    show_text(&b, text);
    if (t->count == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->cells = mem_resize(t->cells, t->cap * sizeof *t->cells);
    }
    t->cells[t->count++] = arena_copy(&t->texts, buf_bytes(&b));
    buf_free(&b);
}

void table_print(struct table *t, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    table_text(t, bytes_of(text));
}

static void add_cell(struct buf *out, struct bytes text, size_t width, bool right, bool last) {
    size_t have = width_of(text.data, text.len), missing = have < width ? width - have : 0;
    if (right) blanks(out, missing);
    buf_add(out, text.data, text.len);
    if (!right && !last) blanks(out, missing);
    buf_add_text(out, last ? "\n" : "  ");
}

void table_write(const struct table *t, struct buf *out) {
    size_t *width = mem_zeroed(t->columns, sizeof *width);
    struct bytes *heads = mem_zeroed(t->columns, sizeof *heads);
    for (size_t i = 0; i < t->columns; i++) {
        heads[i] = bytes_of(t->heads[i] + (t->heads[i][0] == '>'));
        width[i] = width_of(heads[i].data, heads[i].len);
    }
    for (size_t i = 0; i < t->count; i++) {
        size_t n = width_of(t->cells[i].data, t->cells[i].len);
        if (n > width[i % t->columns]) width[i % t->columns] = n;
    }
    for (size_t i = 0; i < t->columns + t->count; i++) {
        size_t column = i % t->columns;
        add_cell(out, i < t->columns ? heads[i] : t->cells[i - t->columns], width[column],
                 t->heads[column][0] == '>', column + 1 == t->columns);
    }
    free(width);
    free(heads);
}

void table_end(struct table *t) {
    struct buf b = {0};
    table_write(t, &b);
    fwrite(b.data, 1, b.len, stdout);
    buf_free(&b);
    table_free(t);
}

void table_free(struct table *t) {
    free(t->cells);
    arena_free(&t->texts);
    *t = (struct table){0};
}

void csv_field(struct buf *out, struct bytes text) {
    const char *p = text.data;
    bool quote = text.len && (strchr("=+-@\t ", p[0]) || p[text.len - 1] == ' ');
    for (size_t i = 0; i < text.len && !quote; i++)
        quote = p[i] == ',' || p[i] == '"' || p[i] == '\r' || p[i] == '\n';
    if (!quote) {
        buf_add(out, p, text.len);
        return;
    }
    buf_add(out, "\"", 1);
    for (size_t i = 0; i < text.len; i++)
        buf_add(out, p[i] == '"' ? "\"\"" : p + i, p[i] == '"' ? 2 : 1);
    buf_add(out, "\"", 1);
}

/* ---- progress: one line of one process ---- */

enum { BAR = 24, TERMINAL_EVERY_US = 100000, PLAIN_EVERY_US = 5000000 };

static struct {
    const char *what; /* NULL: there is none */
    int64_t total, start_us, last_us;
    bool terminal, shown;
} line;

void progress_begin(const char *what, int64_t total) {
    const char *term = getenv("TERM");
    int64_t now = clock_monotonic_us();
    line.what = what;
    line.total = total;
    line.start_us = line.last_us = now;
    line.terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    line.shown = false;
}

void progress_at(int64_t done, int64_t bytes) {
    int64_t now = clock_monotonic_us();
    if (!line.what || now - line.last_us < (line.terminal ? TERMINAL_EVERY_US : PLAIN_EVERY_US))
        return;
    line.last_us = now;
    char count[32], of[32], size[32], rate[32], bar[BAR + 4] = "";
    if (line.terminal && line.total > 0) {
        int64_t full = done >= line.total ? BAR : done * BAR / line.total;
        bar[0] = '[';
        for (int i = 0; i < BAR; i++) bar[i + 1] = i < full ? '#' : '.';
        memcpy(bar + BAR + 1, "] ", 3);
    }
    show_count(done, count);
    show_count((int64_t)((double)done * 1e6 / (double)(now - line.start_us + 1)), rate);
    fprintf(stderr, "%s%s %s%s", line.terminal ? "\r\033[K" : "", line.what, bar, count);
    if (line.total > 0) fprintf(stderr, " of %s", show_count(line.total, of));
    if (bytes > 0) fprintf(stderr, ", %s", show_size(bytes, size));
    fprintf(stderr, ", %s/s%s", rate, line.terminal ? "" : "\n");
    fflush(stderr);
    line.shown = line.terminal;
}

void progress_hide(void) {
    if (line.shown) fputs("\r\033[K", stderr);
    line.shown = false;
}

void progress_end(void) {
    progress_hide();
    line.what = NULL;
}
