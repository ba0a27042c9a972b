/*
 * publish: images to be learned from, onto the images topic.
 *
 * The id of an image is the SHA-256 of its bytes, so publishing a folder again, or going on after an
 * interruption, doubles nothing. A file that cannot be read or sent is said at once and counted, and the
 * rest go on; what does not look like an image is counted and left out.
 */
#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/bus/publisher.h"
#include "lib/client/client.h"
#include "lib/client/show.h"
#include "lib/client/source.h"
#include "lib/client/watch.h"
#include "proto/event.h"

#include <stdio.h>

struct options {
    const char *label, *model;
    int64_t rate, limit;
    bool watch, in_order, all;
};
static const struct setting settings[] = {
    {"label", SETTING_TEXT, offsetof(struct options, label), NULL, "Of every image, whatever its folder is called", NULL, 0, 0, 0},
    {"model", SETTING_TEXT, offsetof(struct options, model), EVENT_DEFAULT_MODEL, "The model that learns from them", NULL, 0, 0, 0},
    {"watch", SETTING_BOOL, offsetof(struct options, watch), "false", "Go on with files as they are written, until Ctrl-C", NULL, 0, 0, 0},
    {"rate", SETTING_INT, offsetof(struct options, rate), "0", "Images a second, at most; 0: as fast as it goes", NULL, 0, 1e9, 0},
    {"limit", SETTING_INT, offsetof(struct options, limit), "0", "Images to publish, at most; 0: all", NULL, 0, 1e12, 0},
    {"in-order", SETTING_BOOL, offsetof(struct options, in_order), "false", "In the order of the names, not shuffled", NULL, 0, 0, 0},
    {"all", SETTING_BOOL, offsetof(struct options, all), "false", "Also files that do not begin as a PNG does", NULL, 0, 0, 0},
    {0}};

enum { TROUBLES_TOLD = 20, STALLED_S = 60 };

struct publishing {
    const struct client *c;
    const struct options *o;
    struct source source;
    struct publisher *publisher;
    struct arena arena;
    struct buf file;
    int64_t start_us, bytes;
    int64_t sent, skipped, failed, looked_at;
    char skipped_first[256];
};

static void trouble(struct publishing *p, const char *name, const char *why) {
    if (p->failed++ < TROUBLES_TOLD) client_say(p->c, "%s: %s", name, why);
    if (p->failed == TROUBLES_TOLD) client_say(p->c, "further files like this are only counted");
}

static void not_accepted(void *ctx, uint64_t tag, const struct err *why) {
    struct publishing *p = ctx;
    p->sent--;
    trouble(p, tag < p->source.count ? source_name(&p->source, &p->source.images[tag]) : "a file", why->text);
}

static bool is_label(struct bytes label) {
    return label.len && label.len <= EVENT_LABEL_MAX && bytes_is_clean_text(label);
}

/* ERR_BAD: this image cannot be sent, the rest can. */
static enum err_kind send_image(struct publishing *p, size_t i, struct err *e) {
    const struct source_image *im = &p->source.images[i];
    if (source_read(&p->source, im, topic_info(IMAGES)->max_bytes, p->o->all, &p->file, e)) return e->kind;
    struct bytes label = p->o->label ? bytes_of(p->o->label) : source_label(&p->source, im);
    if (label.data && !is_label(label))
        return err_bad(e, REASON_BAD_LABEL, "its folder's name is no label: 1 to %d bytes of clean UTF-8 are", EVENT_LABEL_MAX);
    char id[HASH_HEX + 1];
    struct hash h = hash_of(buf_bytes(&p->file));
    hash_hex(&h, HASH_LEN, id);
    struct bytes name = bytes_of(source_name(&p->source, im));
    struct event ev = {.id = bytes_of(id), .source = BYTES("darkroom/publish"), .type = BYTES("darkroom.image"),
                       .model = bytes_of(p->o->model), .label = label, .content_type = BYTES("image/png"),
                       .time_ms = clock_now_ms()};
    if (name.len <= 1024 && bytes_is_clean_text(name)) ev.subject = name;
    struct record r = {.topic = topic_name(IMAGES), .key = ev.id, .value = buf_bytes(&p->file), .time_ms = -1};
    arena_reset(&p->arena);
    event_write(&ev, NULL, &p->arena, &r);
    if (publisher_send(p->publisher, &r, i, e)) return e->kind;
    p->sent++;
    p->bytes += (int64_t)p->file.len;
    return ERR_NONE;
}

static void wait_until_due(struct publishing *p) {
    for (int64_t left; !client_stopped() && (left = client_due(p->start_us, p->sent, p->o->rate)) > 0;)
        publisher_poll(p->publisher, left > 50000 ? 50 : (int)(left / 1000) + 1);
}

/* The images from `i` on. ERR_NONE also after Ctrl-C. */
static enum err_kind send_from(struct publishing *p, size_t i, struct err *e) {
    for (; i < p->source.count && !client_stopped(); i++) {
        if (p->o->limit && p->sent >= p->o->limit) return ERR_NONE;
        wait_until_due(p);
        enum err_kind kind = send_image(p, i, e);
        p->looked_at++;
        if (kind == ERR_BAD && e->reason == REASON_NOT_PNG) {
            if (!p->skipped++) snprintf(p->skipped_first, sizeof p->skipped_first, "%s", source_name(&p->source, &p->source.images[i]));
        } else if (kind == ERR_BAD) {
            trouble(p, source_name(&p->source, &p->source.images[i]), e->text);
        } else if (kind) {
            return kind;
        }
        err_clear(e);
        progress_at(p->looked_at, p->bytes);
    }
    return ERR_NONE;
}

/* Until all is acknowledged or refused; ERR_AGAIN when nothing more is for STALLED_S seconds. */
static enum err_kind wait_for_acknowledgements(struct publishing *p, struct err *e) {
    uint64_t last = publisher_acknowledged(p->publisher);
    int64_t since = clock_monotonic_us();
    while (publisher_flush(p->publisher, 500, e)) {
        uint64_t now = publisher_acknowledged(p->publisher);
        if (now != last) since = clock_monotonic_us();
        last = now;
        if (client_stopped() || clock_monotonic_us() - since > STALLED_S * 1000000LL) return e->kind;
    }
    err_clear(e);
    return ERR_NONE;
}

/* ---- --watch ---- */

static void found(void *ctx, const char *top, const char *path) {
    struct publishing *p = ctx;
    source_add_file(&p->source, top, path);
}

static enum err_kind follow(struct publishing *p, char **folders, int n, struct err *e) {
    struct watch *w = watch_open(e);
    for (int i = 0; w && i < n && !e->kind; i++) (void)!watch_add(w, folders[i], e);
    while (!e->kind && !client_stopped() && !(p->o->limit && p->sent >= p->o->limit)) {
        if (watch_poll(w, 200, found, p, e) || !p->source.count) continue;
        source_sort(&p->source, !p->o->in_order);
        if (send_from(p, 0, e) || wait_for_acknowledgements(p, e)) break;
        source_clear(&p->source);
    }
    watch_close(w);
    return e->kind;
}

/* ---- the command ---- */

static void summary(const struct publishing *p, bool all) {
    char count[32], size[32], rate[32];
    double seconds = (double)(clock_monotonic_us() - p->start_us) / 1e6;
    printf("published %s images, %s, in %.1f s (%s/s)", show_count(p->sent, count), show_size(p->bytes, size), seconds,
           show_count((int64_t)((double)p->sent / (seconds > 0.001 ? seconds : 0.001)), rate));
    if (p->failed) printf("; %s failed", show_count(p->failed, count));
    if (p->skipped) {
        struct buf b = {0};
        show_text(&b, bytes_of(p->skipped_first));
        printf("; %s left out that do not begin as a PNG file does, the first %s", show_count(p->skipped, count), b.data);
        buf_free(&b);
    }
    if (!all) printf("; interrupted: the same command goes on, nothing is doubled");
    puts("");
}

static int run(struct client *c, const void *options, char **operands, int n) {
    struct publishing p = {.c = c, .o = options};
    struct err e = {0};
    if (!event_model_is_valid(bytes_of(p.o->model)))
        return client_usage(c, "--model is \"%s\": a name has 1 to %d of a-z, 0-9, '.', '_' and '-'", p.o->model, EVENT_MODEL_MAX);
    if (p.o->label && !is_label(bytes_of(p.o->label)))
        return client_usage(c, "--label must be 1 to %d bytes of clean UTF-8", EVENT_LABEL_MAX);
    for (int i = 0; i < n && !e.kind && !p.o->watch; i++) (void)!source_add(&p.source, operands[i], &e);
    if (!e.kind && !client_reach(c, IMAGES, &e))
        p.publisher = publisher_open(c->properties, c->property_count, not_accepted, &p, &e);
    p.start_us = clock_monotonic_us();
    if (p.publisher && p.o->watch) {
        (void)!follow(&p, operands, n, &e);
    } else if (p.publisher) {
        source_sort(&p.source, !p.o->in_order);
        int64_t total = (int64_t)p.source.count;
        progress_begin("publish", p.o->limit && p.o->limit < total ? p.o->limit : total);
        if (!send_from(&p, 0, &e)) (void)!wait_for_acknowledgements(&p, &e);
        progress_end();
    }
    bool stopped = client_stopped() && !p.o->watch, timed_out = p.publisher && e.kind == ERR_AGAIN;
    if (p.publisher) {
        int64_t missing = p.sent - (int64_t)publisher_acknowledged(p.publisher);
        if (missing > 0) client_say(c, "%lld images are not acknowledged", (long long)missing), p.sent -= missing;
        summary(&p, !stopped);
    }
    if (e.kind) client_fail(c, &e);
    else if (p.publisher && !p.sent && !p.o->watch && !stopped) client_say(c, "there is nothing to publish");
    p.failed += p.publisher && !p.o->watch && !p.sent;
    publisher_close(p.publisher);
    source_free(&p.source);
    arena_free(&p.arena);
    buf_free(&p.file);
    return timed_out ? CLIENT_TIMED_OUT : e.kind || p.failed || stopped ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_publish = {
    .name = "publish", .operands = "PATH…", .what = "sends images to be learned from", .needs = NEEDS_KAFKA,
    .help = "PATH is a folder, a PNG file, or an IDX file (train-images-idx3-ubyte, its labels beside it). An image's\n"
            "label is the name of the folder that it is in, below PATH; images directly in PATH have none, and are\n"
            "stored but not learned from, unless --label says one:\n\n"
            "  digits/7/0001.png, digits/7/0002.png, …      darkroom publish digits\n"
            "  cats/1.png, cats/2.png, …                    darkroom publish --label cat --model pets cats\n"
            "  MNIST as it is downloaded                    darkroom publish train-images-idx3-ubyte\n"
            "  whatever comes into inbox/<label>/           darkroom publish --watch inbox\n\n"
            "Images go in an order that is shuffled and the same each time. An image's id is the SHA-256 of its\n"
            "bytes: publishing again doubles nothing, and the same image in another folder corrects its label.\n"
            "--watch takes files when they are closed, or moved into the folder, and folders as they come.\n"
            "Ends with 1 when a file could not be read or sent; the others are sent all the same.",
    .least = 1, .most = -1, .settings = settings, .options_size = sizeof(struct options), .run = run};
