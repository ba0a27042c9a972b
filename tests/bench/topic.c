/*
 * topic: makes topics, fills them as a publisher would, and counts what comes out, as an independent client.
 *
 *   topic BROKERS create PREFIX NAME...            as proto/topics.c has them; others get 8 partitions
 *   topic BROKERS forget GROUP                     its positions are gone: it begins again
 *   topic BROKERS fill PREFIX WHAT FOLDER N        N images, images.prepared or predictions.requests from the
 *                                                  files, each with an id of its own; {"began", "ended"}
 *   topic BROKERS watch GROUP TOPIC N SECONDS      the group's committed positions over time, until they have
 *                                                  passed N records: {"samples": [[when, records], ...]}
 *   topic BROKERS count TOPIC N SECONDS            reads committed records until there are N (0: to the end):
 *                                                  {"records", "at", "errors", and of a record the mean of
 *                                                  "value_bytes", "headers", "header_bytes"}
 *
 * Times are of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE
#include "tests/bench/bench.h"

#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/bus/publisher.h"
#include "lib/image/png.h"
#include "proto/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_MS = 60000, FILES = 20000, SAMPLE_MS = 20, PARTITIONS = 8, BATCH = 2000 };

static void check(rd_kafka_resp_err_t code, const char *what) {
    if (code) die("%s: %s", what, rd_kafka_err2str(code));
}

/* ---- create, forget ---- */

static const struct topic_info *info_of(const char *name) {
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++)
        if (!strcmp(topic_info(t)->name, name)) return topic_info(t);
    return NULL;
}

static void create(const char *brokers, const char *prefix, char **names, int n) {
    rd_kafka_t *rk = bench_producer(brokers, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_NewTopic_t **topics = mem_zeroed((size_t)n, sizeof *topics);
    char text[256];
    size_t count;
    for (int i = 0; i < n; i++) {
        char name[256];
        const struct topic_info *info = info_of(names[i]);
        snprintf(name, sizeof name, "%s%s", prefix, names[i]);
        topics[i] =
            rd_kafka_NewTopic_new(name, info ? info->partitions : PARTITIONS, 1, text, sizeof text);
        if (!topics[i]) die("%s: %s", name, text);
        if (info && info->compacted)
            rd_kafka_NewTopic_set_config(topics[i], "cleanup.policy", "compact");
    }
    rd_kafka_AdminOptions_set_operation_timeout(options, ASK_MS, NULL, 0);
    rd_kafka_CreateTopics(rk, topics, (size_t)n, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ASK_MS);
    if (!event) die("no answer of the broker");
    check(rd_kafka_event_error(event), "create");
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    for (size_t i = 0; i < count; i++)
        if (rd_kafka_topic_result_error(results[i]) != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
            check(rd_kafka_topic_result_error(results[i]), rd_kafka_topic_result_name(results[i]));
}

static void forget(const char *brokers, const char *group) {
    rd_kafka_t *rk = bench_producer(brokers, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DELETEGROUPS);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    size_t count;
    char text[256];
    /* A new broker has no coordinator for the group yet, and the first to ask is never told that it
     * came. */
    rd_kafka_AdminOptions_set_request_timeout(options, 3000, text, sizeof text);
    for (int tries = 0; tries < 10 && code && code != RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND;
         tries++) {
        rd_kafka_DeleteGroup_t *which = rd_kafka_DeleteGroup_new(group);
        if (tries) clock_sleep_ms(500);
        rd_kafka_DeleteGroups(rk, &which, 1, options, queue);
        rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ASK_MS);
        if (!event) die("no answer of the broker");
        code = rd_kafka_event_error(event);
        if (!code) {
            const rd_kafka_group_result_t **results = rd_kafka_DeleteGroups_result_groups(
                rd_kafka_event_DeleteGroups_result(event), &count);
            code = rd_kafka_error_code(rd_kafka_group_result_error(results[0]));
        }
        rd_kafka_event_destroy(event);
        rd_kafka_DeleteGroup_destroy(which);
    }
    if (code != RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND) check(code, group);
}

/* ---- fill ---- */

static void lost(void *ctx, uint64_t tag, const struct err *why) {
    (void)ctx;
    (void)tag;
    die("%s", why->text);
}

/* The files as tensors, as preprocess would send them. */
static void decode(struct files *f, struct bytes *shape) {
    struct err e = {0};
    for (size_t i = 0; i < f->count; i++) {
        struct image im = {0};
        char text[64];
        if (image_decode(f->list[i], 1, IMAGE_OVER_WHITE, &image_default_limits, &im, &e))
            die("%s", e.text);
        f->list[i] = (struct bytes){im.pixels, (size_t)im.width * im.height};
        int n = snprintf(text, sizeof text, "%d,%d,1", im.height, im.width);
        shape[i] = (struct bytes){mem_copy(text, (size_t)n), (size_t)n};
    }
}

static void fill(const char *brokers, const char *prefix, const char *what, const char *folder,
                 long n) {
    struct err e = {0};
    struct arena a = {0};
    struct files f = files_load(folder, FILES);
    struct bytes *shape = mem_zeroed(f.count, sizeof *shape);
    const struct bus_property properties[] = {{"bootstrap.servers", brokers}, {"linger.ms", "20"}};
    if (topics_prefix(prefix, &e)) die("%s", e.text);
    const struct topic_info *info = info_of(what);
    if (!info) die("there is no topic %s", what);
    enum topic to = (enum topic)(info - topic_info(0));
    if (to == IMAGES_PREPARED) decode(&f, shape);
    struct publisher *p = publisher_open(properties, 2, lost, NULL, &e);
    if (!p) die("%s", e.text);

    double began = seconds_now();
    for (long i = 0; i < n; i++) {
        size_t k = (size_t)i % f.count;
        char count[32], id[HASH_HEX + 1], name[64];
        int len = snprintf(count, sizeof count, "%ld", i);
        struct hash h = hash_of((struct bytes){count, (size_t)len});
        hash_hex(&h, HASH_LEN, id);
        snprintf(name, sizeof name, "%s/%05ld.png", f.label[k], i);
        struct event ev = {.id = bytes_of(id),
                           .source = BYTES("darkroom/publish"),
                           .type = BYTES("darkroom.image"),
                           .model = BYTES(EVENT_DEFAULT_MODEL),
                           .label = to == PREDICTIONS_REQUESTS ? (struct bytes){0}
                                                               : bytes_of(f.label[k]),
                           .subject = bytes_of(name),
                           .shape = shape[k],
                           .content_type = bytes_of(info->content_type),
                           .time_ms = clock_now_ms()};
        struct record r = {
            .topic = topic_name(to), .key = ev.id, .value = f.list[k], .time_ms = -1};
        arena_reset(&a);
        event_write(&ev, NULL, &a, &r);
        if (publisher_send(p, &r, (uint64_t)i, &e)) die("%s", e.text);
    }
    if (publisher_flush(p, 60000, &e)) die("%s", e.text);
    printf("{\"began\":%.6f,\"ended\":%.6f}\n", began, seconds_now());
    publisher_close(p);
}

/* ---- watch, count ---- */

static int64_t committed(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *list) {
    int64_t sum = 0;
    if (rd_kafka_committed(rk, list, ASK_MS)) return -1;
    for (int i = 0; i < list->cnt; i++) {
        if (list->elems[i].err) return -1;
        if (list->elems[i].offset > 0) sum += list->elems[i].offset;
    }
    return sum;
}

/* Positions on a topic without markers are counts of records. What is not committed for good is not
 * asked for. */
static void watch(const char *brokers, const char *group, const char *topic, int64_t n,
                  double seconds) {
    rd_kafka_t *rk = bench_consumer(brokers, group, "isolation.level", "read_uncommitted", NULL);
    int partitions = bench_assign(rk, topic, 0, 1, RD_KAFKA_OFFSET_INVALID);
    rd_kafka_assign(rk, NULL);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    rd_kafka_topic_partition_list_add_range(list, topic, 0, partitions - 1);
    double end = seconds_now() + seconds;
    int64_t now = 0, before = -1;
    printf("{\"samples\":[");
    while (now < n && seconds_now() < end) {
        now = committed(rk, list);
        if (now > before) {
            printf("%s[%.6f,%lld]", before < 0 ? "" : ",", seconds_now(), (long long)now);
            before = now;
        }
        clock_sleep_ms(SAMPLE_MS);
    }
    printf("]}\n");
}

static void count(const char *brokers, const char *topic, long n, double seconds) {
    rd_kafka_t *rk = bench_consumer(brokers, "bench.count", "enable.partition.eof", "true",
                                    "fetch.wait.max.ms", "20", NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    int left = bench_assign(rk, topic, 0, 1, RD_KAFKA_OFFSET_BEGINNING);
    static rd_kafka_message_t *m[BATCH];
    long records = 0, errors = 0, headers = 0;
    double at = 0, end = seconds_now() + seconds, value_bytes = 0, header_bytes = 0;
    while (n ? records < n : left > 0) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, SAMPLE_MS, m, BATCH);
        for (ssize_t i = 0; i < got; i++) {
            rd_kafka_headers_t *h;
            const char *name;
            const void *value;
            size_t len;
            left -= m[i]->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
            if (!m[i]->err) {
                if (!rd_kafka_message_headers(m[i], &h))
                    for (size_t k = 0; !rd_kafka_header_get_all(h, k, &name, &value, &len); k++) {
                        headers++;
                        header_bytes += (double)(strlen(name) + len);
                    }
                errors += memmem(m[i]->payload, m[i]->len, "\"reason\"", 8) != NULL;
                value_bytes += (double)m[i]->len;
                records++;
            }
            rd_kafka_message_destroy(m[i]);
        }
        at = seconds_now();
        if (at > end) die("%s: %ld of %ld records after %.0f s", topic, records, n, seconds);
    }
    double of = records ? (double)records : 1;
    printf("{\"records\":%ld,\"at\":%.6f,\"errors\":%ld,\"value_bytes\":%.0f,\"headers\":%.0f,"
           "\"header_bytes\":%.0f}\n",
           records, at, errors, value_bytes / of, (double)headers / of, header_bytes / of);
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[2] : "";
    if (!strcmp(what, "create") && argc > 4)
        create(argv[1], argv[3], argv + 4, argc - 4);
    else if (!strcmp(what, "forget") && argc == 4)
        forget(argv[1], argv[3]);
    else if (!strcmp(what, "fill") && argc == 7)
        fill(argv[1], argv[3], argv[4], argv[5], atol(argv[6]));
    else if (!strcmp(what, "watch") && argc == 7)
        watch(argv[1], argv[3], argv[4], atol(argv[5]), atof(argv[6]));
    else if (!strcmp(what, "count") && argc == 6)
        count(argv[1], argv[3], atol(argv[4]), atof(argv[5]));
    else
        die("BROKERS create|forget|fill|watch|count ...");
    fflush(stdout);
    _Exit(0); /* closing clients would take seconds, and there is nothing left to do */
}
