/*
 * images: the store as a table: label, time, file name and pixels of every image, oldest first.
 */
#include "lib/base/clock.h"
#include "lib/client/client.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"
#include "proto/event.h"

#include <stdio.h>
#include <string.h>

struct options {
    const char *model;
    bool csv;
};
static const struct setting settings[] = {
    {"csv", SETTING_BOOL, offsetof(struct options, csv), "false", "As CSV, the only form there is", NULL, 0, 0, 0},
    {"model", SETTING_TEXT, offsetof(struct options, model), EVENT_DEFAULT_MODEL, "Whose images", NULL, 0, 0, 0},
    {0}};

struct export {
    struct buf line;
    int64_t rows;
    size_t pixels; /* of the first image: as many columns as the header has */
};

static void put_pixels(struct buf *b, struct bytes pixels) {
    const uint8_t *p = pixels.data;
    for (size_t i = 0; i < pixels.len; i++) {
        char text[4], *at = text;
        *at++ = ',';
        if (p[i] >= 100) *at++ = (char)('0' + p[i] / 100);
        if (p[i] >= 10) *at++ = (char)('0' + p[i] / 10 % 10);
        *at++ = (char)('0' + p[i] % 10);
        buf_add(b, text, (size_t)(at - text));
    }
}

static enum err_kind put_row(void *ctx, const char *name, const struct image_row *row, int64_t revision, struct err *e) {
    struct export *x = ctx;
    char time[CLOCK_RFC3339_LEN + 1];
    buf_clear(&x->line);
    if (!x->rows) {
        x->pixels = row->pixels.len;
        buf_add_text(&x->line, "label,time,filename");
        for (size_t i = 0; i < x->pixels; i++) buf_printf(&x->line, ",px%zu", i);
        buf_add_text(&x->line, "\r\n");
    }
    if (row->pixels.len != x->pixels)
        return err_fatal(e, "the image %s has %zu pixels and the first one %zu: the model's input size was changed", name,
                         row->pixels.len, x->pixels);
    clock_format(row->time_ms, time);
    csv_field(&x->line, row->label);
    buf_add_text(&x->line, ",");
    csv_field(&x->line, bytes_of(time));
    buf_add_text(&x->line, ",");
    csv_field(&x->line, row->filename);
    put_pixels(&x->line, row->pixels);
    buf_add_text(&x->line, "\r\n");
    if (fwrite(x->line.data, 1, x->line.len, stdout) != x->line.len) return err_fatal(e, "cannot write to stdout");
    progress_at(++x->rows, 0);
    return client_stopped() ? err_fatal(e, "interrupted after %lld images", (long long)x->rows) : ERR_NONE;
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct export x = {0};
    int64_t count = 0;
    if (!o->csv) return client_usage(c, "say --csv");
    if (!event_model_is_valid(bytes_of(o->model))) return client_usage(c, "\"%s\" is no model's name", o->model);
    struct shelf s = {0};
    if (!shelf_open(c, 3 * SHELF_WAIT_MS, &s, &e) && !images_count(s.images, bytes_of(o->model), &count, &e)) {
        progress_begin("export", count);
        (void)!images_each(s.images, bytes_of(o->model), put_row, &x, &e);
        progress_end();
    }
    shelf_close(&s);
    buf_free(&x.line);
    if (e.kind) return client_fail(c, &e);
    if (!x.rows) client_say(c, "the model \"%s\" has no images", o->model);
    return CLIENT_DONE;
}

const struct command command_images_export = {
    .name = "images export", .what = "the stored images as a table", .needs = NEEDS_REDIS,
    .help = "Writes every image of a model to stdout, oldest first, as CSV (RFC 4180) with a header line:\n"
            "label,time,filename,px0,px1,… with the pixels row by row, and channel by channel within a pixel. Fields\n"
            "that begin with = + - @ are quoted, not altered.\n\n"
            "  darkroom images export --csv >images.csv\n"
            "  darkroom images export --csv --model pets | cut -d, -f1 | sort | uniq -c",
    .settings = settings, .options_size = sizeof(struct options), .run = run};
