/*
 * echo: the bare best case of answering requests: each record that comes is answered at once with
 * one of so many bytes and headers under its key. "plain": positions are committed behind the
 * answers, now and then. "transaction": what is there goes out in one transaction with its
 * positions; two producers in turn, because one that has just committed has to wait; nothing of the
 * next is sent before the last commit succeeded. Says "ready" when it follows the topic, and runs
 * until it is ended.
 *
 *   echo plain|transaction BROKERS GROUP IN OUT VALUE_BYTES HEADERS HEADER_BYTES
 */
#define _POSIX_C_SOURCE 200809L
#include "tests/bench/bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1000, WAIT_MS = 30000, PLAIN_COMMIT_MS = 1000 };

struct echo {
    rd_kafka_t *consumer, *producer[2];
    const char *out;
    char *body;
    size_t body_len;
    int headers, header_bytes;
    /* the commit under way, by a thread of its own */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    rd_kafka_t *committing; /* NULL: none */
    rd_kafka_topic_partition_list_t *positions;
    rd_kafka_consumer_group_metadata_t *group;
};

static void *committer(void *arg) {
    for (struct echo *s = arg;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->committing) pthread_cond_wait(&s->changed, &s->lock);
        pthread_mutex_unlock(&s->lock);
        must(rd_kafka_send_offsets_to_transaction(s->committing, s->positions, s->group, WAIT_MS));
        must(rd_kafka_commit_transaction(s->committing, WAIT_MS));
        pthread_mutex_lock(&s->lock);
        s->committing = NULL;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

/* What is there, waiting for the first. */
static size_t take(struct echo *s, rd_kafka_message_t **list) {
    size_t n = 0;
    for (int wait = 100; n < MOST; wait = 0) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(s->consumer, wait);
        if (!m) break;
        if (m->err)
            rd_kafka_message_destroy(m);
        else
            list[n++] = m;
    }
    return n;
}

static void answer(struct echo *s, rd_kafka_t *producer, const rd_kafka_message_t *m) {
    rd_kafka_headers_t *h = s->headers ? bench_headers(s->headers, s->header_bytes) : NULL;
    rd_kafka_resp_err_t code =
        rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(s->out), RD_KAFKA_V_KEY(m->key, m->key_len),
                          RD_KAFKA_V_VALUE(s->body, s->body_len), RD_KAFKA_V_HEADERS(h),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (code) die("%s: %s", s->out, rd_kafka_err2str(code));
}

static void position(rd_kafka_topic_partition_list_t *list, const char *topic,
                     const rd_kafka_message_t *m) {
    rd_kafka_topic_partition_t *at = rd_kafka_topic_partition_list_find(list, topic, m->partition);
    if (!at) at = rd_kafka_topic_partition_list_add(list, topic, m->partition);
    at->offset = m->offset + 1;
}

int main(int argc, char **argv) {
    if (argc != 9) die("plain|transaction BROKERS GROUP IN OUT VALUE_BYTES HEADERS HEADER_BYTES");
    bool plain = !strcmp(argv[1], "plain");
    const char *brokers = argv[2], *group = argv[3], *in = argv[4];
    struct echo s = {.out = argv[5],
                     .body_len = (size_t)atoi(argv[6]),
                     .headers = atoi(argv[7]),
                     .header_bytes = atoi(argv[8]),
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .changed = PTHREAD_COND_INITIALIZER};
    s.body = mem_zeroed(s.body_len + 1, 1);
    s.consumer = bench_consumer(brokers, group, NULL);
    for (int i = 0; i < (plain ? 1 : 2); i++) {
        char id[256];
        snprintf(id, sizeof id, "%s.%d", group, i);
        s.producer[i] = bench_producer(brokers, "linger.ms", "0",
                                       plain ? "enable.idempotence" : "transactional.id",
                                       plain ? "true" : id, NULL);
        if (!plain) must(rd_kafka_init_transactions(s.producer[i], WAIT_MS));
    }
    bench_assign(s.consumer, in, 0, 1, RD_KAFKA_OFFSET_END);
    pthread_t thread;
    if (!plain) {
        s.group = rd_kafka_consumer_group_metadata(s.consumer);
        pthread_create(&thread, NULL, committer, &s);
    }
    puts("ready");
    fflush(stdout);

    static rd_kafka_message_t *list[MOST];
    rd_kafka_topic_partition_list_t *positions = rd_kafka_topic_partition_list_new(16);
    double last = seconds_now();
    for (int lane = 0;;) {
        size_t n = take(&s, list);
        if (!n) continue;
        if (!plain) {
            pthread_mutex_lock(&s.lock);
            while (s.committing) pthread_cond_wait(&s.changed, &s.lock);
            pthread_mutex_unlock(&s.lock);
            if (s.positions) rd_kafka_topic_partition_list_destroy(s.positions);
            lane = !lane;
            must(rd_kafka_begin_transaction(s.producer[lane]));
        }
        for (size_t i = 0; i < n; i++) {
            answer(&s, s.producer[lane], list[i]);
            position(positions, in, list[i]);
            rd_kafka_message_destroy(list[i]);
        }
        rd_kafka_poll(s.producer[lane], 0);
        if (!plain) {
            pthread_mutex_lock(&s.lock);
            s.positions = positions;
            s.committing = s.producer[lane];
            pthread_cond_broadcast(&s.changed);
            pthread_mutex_unlock(&s.lock);
            positions = rd_kafka_topic_partition_list_new(16);
        } else if (seconds_now() - last > PLAIN_COMMIT_MS / 1e3) {
            rd_kafka_commit(s.consumer, positions, 1);
            last = seconds_now();
        }
    }
}
