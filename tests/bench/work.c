/*
 * work: what a stage's own work costs on one core, part by part, without Kafka: W. One thread;
 * processor time is counted, so that other programs on the machine do not change the figures.
 *
 *   work preprocess|predict-mlp|predict-cnn FOLDER SECONDS
 *   work store FOLDER SECONDS REDIS_URL PREFIX
 *
 * Prints microseconds of an image: preprocess "decode" (libpng's plain loop, as anybody would write
 * it); store "put" (its own idempotent writes in a pipeline, the client's side) and "redis" (what
 * the server spent on them); predict "decode", "forward" (in passes of 256) and "json". "events" is
 * reading and writing the headers, "ours" the decoder of lib/image; neither counts as work.
 */
#define _POSIX_C_SOURCE 200809L
#include "lib/base/clock.h"
#include "lib/image/png.h"
#include "lib/learn/images.h"
#include "lib/nn/matmul.h"
#include "lib/nn/net.h"
#include "proto/event.h"
#include "proto/messages.h"
#include "tests/bench/bench.h"

#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES = 20000, SIDE = 28, PIXELS = SIDE * SIDE, CLASSES = 10, SLICE = 256, PUT = 4096 };

static struct files files;
static uint8_t pixels[FILES * PIXELS]; /* of the files, once decoded */
static struct err err;

static void ok(enum err_kind kind) {
    if (kind) die("%s", err.text);
}

/* ---- the plain libpng loop ---- */

static void read_bytes(png_structp png, png_bytep to, size_t n) {
    struct bytes *left = png_get_io_ptr(png);
    if (n > left->len) png_error(png, "the file ends too early");
    memcpy(to, left->data, n);
    *left = (struct bytes){(const char *)left->data + n, left->len - n};
}

static void decode(struct bytes file, uint8_t *to) {
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_bytep rows[SIDE];
    if (setjmp(png_jmpbuf(png))) die("a file is no picture that libpng reads");
    png_set_read_fn(png, &file, read_bytes);
    png_read_info(png, info);
    png_set_expand(png);
    png_set_strip_alpha(png);
    if (png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR)
        png_set_rgb_to_gray(png, PNG_ERROR_ACTION_NONE, -1, -1);
    png_read_update_info(png, info);
    if (png_get_image_width(png, info) != SIDE || png_get_image_height(png, info) != SIDE ||
        png_get_rowbytes(png, info) != SIDE)
        die("the pictures must have %d x %d pixels", SIDE, SIDE);
    for (int y = 0; y < SIDE; y++) rows[y] = to + y * SIDE;
    png_read_image(png, rows);
    png_read_end(png, NULL);
    png_destroy_read_struct(&png, &info, NULL);
}

static double decode_us(double seconds) {
    double from = seconds_used();
    long n = 0;
    while (n < (long)files.count || seconds_used() - from < seconds) {
        size_t i = (size_t)n++ % files.count;
        decode(files.list[i], pixels + i * PIXELS);
    }
    return (seconds_used() - from) / (double)n * 1e6;
}

static double ours_us(double seconds) {
    struct image im = {0};
    double from = seconds_used();
    long n = 0;
    for (; !(n & 255) ? seconds_used() - from < seconds : true; n++)
        ok(image_decode(files.list[(size_t)n % files.count], 1, IMAGE_OVER_WHITE,
                        &image_default_limits, &im, &err));
    image_free(&im);
    return (seconds_used() - from) / (double)n * 1e6;
}

/* Reading the headers of what comes in, and writing those of what goes out. */
static double events_us(double seconds) {
    struct arena first = {0}, a = {0};
    struct record in = {.topic = "bench.images",
                        .key = BYTES(
                            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")},
                  out = {0};
    struct event ev = {.id = in.key,
                       .source = BYTES("darkroom/publish"),
                       .type = BYTES("darkroom.image"),
                       .subject = BYTES("7/00007.png"),
                       .model = BYTES("default"),
                       .label = BYTES("7"),
                       .content_type = BYTES("image/png"),
                       .time_ms = clock_now_ms()};
    event_write(&ev, NULL, &first, &in);
    double from = seconds_used();
    long n = 0;
    for (; !(n & 255) ? seconds_used() - from < seconds : true; n++) {
        if (!(n & 4095)) arena_reset(&a);
        ok(event_read(&in, &a, &ev, &err));
        event_write(&ev, &in, &a, &out);
    }
    double us = (seconds_used() - from) / (double)n * 1e6;
    arena_free(&a);
    arena_free(&first);
    return us;
}

static void work_preprocess(double seconds) {
    double plain = decode_us(seconds);
    printf("{\"decode\":%.4f,\"ours\":%.4f,\"events\":%.4f}\n", plain, ours_us(seconds),
           events_us(seconds / 2));
}

/* ---- store ---- */

/* Processor seconds that the server and its children have used. */
static double redis_used(struct redis *r) {
    struct redis_reply reply;
    double sum = 0;
    ok(redis_do(r, &reply, &err, 2, (const struct bytes[]){BYTES("INFO"), BYTES("cpu")}));
    char *text = mem_copy(reply.text.data, reply.text.len);
    static const char *const which[] = {"\nused_cpu_sys:", "\nused_cpu_user:",
                                        "\nused_cpu_sys_children:", "\nused_cpu_user_children:"};
    for (size_t i = 0; i < sizeof which / sizeof *which; i++) {
        const char *at = strstr(text, which[i]);
        if (at) sum += atof(at + strlen(which[i]));
    }
    free(text);
    return sum;
}

static void work_store(double seconds, const char *url, const char *prefix) {
    struct redis *r = redis_open(&(struct redis_conf){.url = url}, &err);
    if (!r) die("%s", err.text);
    struct images *im = images_open(r, prefix);
    struct image_put *list = mem_zeroed(PUT, sizeof *list);
    char(*id)[HASH_HEX + 1] = mem_zeroed(PUT, sizeof *id);
    decode_us(0);
    ok(redis_ping(r, &err));
    double server = redis_used(r), client = 0;
    long n = 0;
    for (double end = seconds_now() + seconds; seconds_now() < end;) {
        for (int i = 0; i < PUT; i++, n++) {
            size_t k = (size_t)n % files.count;
            snprintf(id[i], sizeof id[i], "%064ld", n);
            list[i] = (struct image_put){.row = {.model = BYTES("default"),
                                                 .id = bytes_of(id[i]),
                                                 .source = BYTES("darkroom/publish"),
                                                 .label = bytes_of(files.label[k]),
                                                 .filename = BYTES("7/00007.png"),
                                                 .time_ms = clock_now_ms(),
                                                 .height = SIDE,
                                                 .width = SIDE,
                                                 .channels = 1,
                                                 .pixels = {pixels + k * PIXELS, PIXELS}},
                                         .from = {"a-cluster-of-22-letters",
                                                  "bench.images.prepared", (int32_t)(n % 8), n,
                                                  clock_now_ms()}};
        }
        double from = seconds_used();
        ok(images_put(im, list, PUT, NULL, NULL, &err));
        client += seconds_used() - from;
    }
    server = redis_used(r) - server;
    printf("{\"put\":%.4f,\"redis\":%.4f,\"events\":%.4f}\n", client / (double)n * 1e6,
           server / (double)n * 1e6, events_us(seconds / 2));
    images_close(im);
    redis_close(r);
}

/* ---- predict ---- */

static double forward_us(double seconds, bool mlp, float *prob) {
    struct net_spec spec;
    (mlp ? net_spec_mlp : net_spec_cnn)(&spec, SIDE, SIDE, 1);
    struct net *net = net_make(&spec, CLASSES, 1, &err);
    if (!net) die("%s", err.text);
    struct net_run *run = net_run_make(net, SLICE);
    net_forward(run, NULL, pixels, SLICE, prob);
    double from = seconds_used();
    size_t n = 0;
    while (seconds_used() - from < seconds) {
        size_t at = n % (files.count - SLICE + 1);
        net_forward(run, NULL, pixels + at * PIXELS, SLICE, prob);
        n += SLICE;
    }
    double us = (seconds_used() - from) / (double)n * 1e6;
    net_run_free(run);
    net_free(net);
    return us;
}

static double json_us(double seconds, const float *prob) {
    static const char *const labels[CLASSES] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    static const char hex[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct buf json = {0};
    double from = seconds_used();
    long n = 0;
    for (; !(n & 255) ? seconds_used() - from < seconds : true; n++) {
        struct result m = {.id = bytes_of(hex),
                           .model = BYTES("default"),
                           .version = 7,
                           .artifact = bytes_of(hex),
                           .label = BYTES("3"),
                           .probability = (double)prob[3],
                           .labels = labels,
                           .probabilities = prob + n % SLICE * CLASSES,
                           .label_count = CLASSES};
        buf_clear(&json);
        result_encode(&m, &json);
    }
    buf_free(&json);
    return (seconds_used() - from) / (double)n * 1e6;
}

static void work_predict(double seconds, bool mlp) {
    static float prob[SLICE * CLASSES];
    if (files.count < SLICE) die("at least %d files are needed", SLICE);
    double plain = decode_us(seconds), forward = forward_us(seconds, mlp, prob);
    printf("{\"decode\":%.4f,\"forward\":%.4f,\"json\":%.4f,\"ours\":%.4f,\"events\":%.4f,"
           "\"kernels\":\"%s\"}\n",
           plain, forward, json_us(seconds / 2, prob), ours_us(seconds / 2), events_us(seconds / 2),
           matmul_kernels());
}

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    if (argc < 4) die("preprocess|store|predict-mlp|predict-cnn FOLDER SECONDS [REDIS_URL PREFIX]");
    files = files_load(argv[2], FILES);
    double seconds = atof(argv[3]);
    if (!strcmp(argv[1], "preprocess"))
        work_preprocess(seconds);
    else if (!strcmp(argv[1], "store") && argc == 6)
        work_store(seconds, argv[4], argv[5]);
    else if (!strncmp(argv[1], "predict-", 8))
        work_predict(seconds, !strcmp(argv[1] + 8, "mlp"));
    else
        die("there is no work called %s", argv[1]);
    return 0;
}
