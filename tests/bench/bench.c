/* bench: clients with properties that suit a measurement, and files from a folder. */
#define _GNU_SOURCE
#include "tests/bench/bench.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ASK_MS = 10000 };

void die(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void must(rd_kafka_error_t *error) {
    if (error) die("%s", rd_kafka_error_string(error));
}

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double seconds_now(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

double seconds_used(void) {
    return seconds_of(CLOCK_PROCESS_CPUTIME_ID);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char text[256];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK)
        die("%s", text);
}

static rd_kafka_t *make(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *brokers,
                        va_list more) {
    char text[256];
    set(conf, "bootstrap.servers", brokers);
    set(conf, "socket.nagle.disable", "true");
    for (const char *name; (name = va_arg(more, const char *));)
        set(conf, name, va_arg(more, const char *));
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof text);
    if (!rk) die("%s", text);
    return rk;
}

rd_kafka_t *bench_consumer(const char *brokers, const char *group, ...) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    va_list more;
    set(conf, "group.id", group);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.auto.offset.store", "false");
    set(conf, "isolation.level", "read_committed");
    set(conf, "queued.min.messages", "1000000");
    set(conf, "queued.max.messages.kbytes", "65536");
    set(conf, "fetch.error.backoff.ms", "5");
    va_start(more, group);
    rd_kafka_t *rk = make(RD_KAFKA_CONSUMER, conf, brokers, more);
    va_end(more);
    rd_kafka_poll_set_consumer(rk);
    return rk;
}

/* There has to be one: without reports a transaction's flush looks only every 10 ms whether all is
 * sent. */
static void delivered(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    (void)rk;
    (void)opaque;
    if (m->err) die("a record was not delivered: %s", rd_kafka_err2str(m->err));
}

rd_kafka_t *bench_producer(const char *brokers, ...) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    va_list more;
    set(conf, "retry.backoff.ms", "5");
    set(conf, "partitioner", "murmur2_random");
    set(conf, "queue.buffering.max.messages", "1000000");
    set(conf, "queue.buffering.max.kbytes", "262144");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    va_start(more, brokers);
    rd_kafka_t *rk = make(RD_KAFKA_PRODUCER, conf, brokers, more);
    va_end(more);
    return rk;
}

static int partitions_of(rd_kafka_t *rk, const char *topic) {
    const struct rd_kafka_metadata *about;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, rkt, &about, ASK_MS);
    if (!code && about->topic_cnt == 1) code = about->topics[0].err;
    if (code) die("%s: %s", topic, rd_kafka_err2str(code));
    int n = about->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(about);
    rd_kafka_topic_destroy(rkt);
    return n;
}

int bench_assign(rd_kafka_t *consumer, const char *topic, int first, int step, int64_t from) {
    int n = partitions_of(consumer, topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(n);
    for (int p = first; p < n; p += step) {
        int64_t begin = from, end = 0;
        if (from == RD_KAFKA_OFFSET_END) {
            rd_kafka_resp_err_t code =
                rd_kafka_query_watermark_offsets(consumer, topic, p, &begin, &end, ASK_MS);
            if (code) die("%s: %s", topic, rd_kafka_err2str(code));
            begin = end;
        }
        rd_kafka_topic_partition_list_add(list, topic, p)->offset = begin;
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(consumer, list);
    if (code) die("%s: %s", topic, rd_kafka_err2str(code));
    rd_kafka_topic_partition_list_destroy(list);
    return n;
}

rd_kafka_headers_t *bench_headers(int headers, int bytes) {
    static const char name[] = "ce_attribute", text[4096];
    enum { NAME = sizeof name - 1 };
    int left = bytes - headers * NAME;
    rd_kafka_headers_t *h = rd_kafka_headers_new((size_t)headers);
    for (int i = 0; i < headers; i++) {
        int len = left > 0 ? left / (headers - i) : 0;
        rd_kafka_header_add(h, name, NAME, text, len);
        left -= len;
    }
    return h;
}

/* ---- files ---- */

static char **paths;
static size_t path_count;

static int found(const char *path, const struct stat *st, int kind, struct FTW *at) {
    size_t n = strlen(path);
    (void)st;
    (void)at;
    if (kind != FTW_F || n < 4 || strcmp(path + n - 4, ".png") != 0) return 0;
    if (!(path_count & (path_count + 1)))
        paths = mem_resize(paths, (2 * path_count + 2) * sizeof *paths);
    paths[path_count++] = mem_copy(path, n);
    return 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The name of the folder that a path's file is in. */
static char *folder_of(const char *path) {
    const char *end = strrchr(path, '/'), *from = end;
    if (!end) return mem_copy("", 0);
    while (from > path && from[-1] != '/') from--;
    return mem_copy(from, (size_t)(end - from));
}

static struct bytes read_file(const char *path) {
    struct buf whole = {0};
    char piece[65536];
    FILE *f = fopen(path, "rb");
    if (!f) die("%s cannot be opened", path);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) buf_add(&whole, piece, n);
    if (ferror(f)) die("%s cannot be read", path);
    fclose(f);
    return buf_bytes(&whole);
}

struct files files_load(const char *folder, size_t most) {
    struct files f = {0};
    if (nftw(folder, found, 16, 0) || !path_count) die("no PNG files below %s", folder);
    qsort(paths, path_count, sizeof *paths, by_text);
    f.count = path_count < most ? path_count : most;
    f.list = mem_zeroed(f.count, sizeof *f.list);
    f.label = mem_zeroed(f.count, sizeof *f.label);
    for (size_t i = 0; i < f.count; i++) {
        const char *path = paths[i * path_count / f.count];
        f.list[i] = read_file(path);
        f.label[i] = folder_of(path);
    }
    for (size_t i = 0; i < path_count; i++) free(paths[i]);
    free(paths);
    paths = NULL;
    path_count = 0;
    return f;
}
