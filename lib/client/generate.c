/*
 * generate: digit images of many hands in folders, for trying Darkroom without data at hand.
 */
#define _DEFAULT_SOURCE
#include "lib/client/client.h"
#include "lib/client/digits.h"
#include "lib/client/show.h"
#include "lib/image/png.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct options {
    int64_t seed;
};
static const struct setting settings[] = {
    {"seed", SETTING_INT, offsetof(struct options, seed), "1", "Other hands for another number; the same for the same", NULL, 0, 9e15, 0},
    {0}};

/* Makes a folder and those above it. */
static enum err_kind make_folder(const char *path, struct err *e) {
    char *copy = mem_copy(path, strlen(path));
    for (char *p = copy + 1;; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = 0;
        if (mkdir(copy, 0777) && errno != EEXIST) {
            err_fatal(e, "cannot make the folder %s: %s", copy, strerror(errno));
            break;
        }
        *p = end;
        if (!end) break;
    }
    free(copy);
    return e->kind;
}

static enum err_kind write_file(const char *path, const struct buf *b, struct err *e) {
    FILE *f = fopen(path, "wb");
    bool bad = !f || fwrite(b->data, 1, b->len, f) != b->len;
    if (f && fclose(f)) bad = true;
    return bad ? err_fatal(e, "cannot write %s: %s", path, strerror(errno)) : ERR_NONE;
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct buf path = {0}, png = {0};
    uint8_t pixels[DIGITS_PIXELS];
    struct image image = {.width = DIGITS_SIZE, .height = DIGITS_SIZE, .channels = 1, .pixels = pixels};
    char *end, count_text[32];
    errno = 0;
    long long count = strtoll(operands[1], &end, 10);
    if (errno || end == operands[1] || *end || count < 1 || count > 10000000)
        return client_usage(c, "\"%s\" must be a number of images, from 1 to 10000000", operands[1]);
    for (int digit = 0; digit < 10 && !e.kind; digit++) {
        buf_clear(&path);
        buf_printf(&path, "%s/%d", operands[0], digit);
        (void)!make_folder(path.data, &e);
    }
    progress_begin("generate", count);
    long long i = 0;
    for (; i < count && !e.kind && !client_stopped(); i++) {
        int digit = (int)(i % 10);
        digits_draw(digit, (uint64_t)o->seed, (uint64_t)i, pixels);
        buf_clear(&png);
        buf_clear(&path);
        buf_printf(&path, "%s/%d/%05lld.png", operands[0], digit, i / 10);
        if (!image_encode(&image, &png, &e)) (void)!write_file(path.data, &png, &e);
        progress_at(i, 0);
    }
    progress_end();
    buf_free(&path);
    buf_free(&png);
    if (e.kind) return client_fail(c, &e);
    printf("%s images of %d x %d in %s/<digit>/\n", show_count(i, count_text), DIGITS_SIZE, DIGITS_SIZE, operands[0]);
    return i < count ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_generate_digits = {
    .name = "generate digits", .operands = "DIR N", .what = "makes images of handwritten digits, to try things with",
    .help = "Draws N grey images of 28 x 28 pixels, as many of each digit, into DIR/0, DIR/1, …, DIR/9. They are drawn\n"
            "by many made-up hands, each with its slant, proportions, pen and way to write a 4 or a 7. The same seed\n"
            "gives the same images; take another for images that the model has not seen:\n\n"
            "  darkroom generate digits digits 7000\n"
            "  darkroom generate digits --seed 2 test 1000",
    .least = 2, .most = 2, .settings = settings, .options_size = sizeof(struct options), .run = run};
