/*
 * pass: the bare cost of a stage on Kafka, the ceiling P: read committed records, send one of so
 * many bytes with the same key and so many headers for each, commit outputs and positions in a
 * transaction every 100 ms. Does no work of its own. Partitions are shared out by INDEX of
 * PROCESSES, so none of them waits for a group. Runs until it is ended.
 *
 *   pass BROKERS GROUP IN OUT VALUE_BYTES HEADERS HEADER_BYTES [INDEX PROCESSES]
 */
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 2000, PARTITIONS = 256, WAIT_MS = 30000 };
static const double commit_every = 0.1; /* s */

struct pass {
    rd_kafka_t *consumer, *producer;
    const char *in, *out;
    char *body;
    size_t body_len;
    int headers, header_bytes;
    int64_t next[PARTITIONS]; /* positions of this transaction; 0: none */
};

static void pass_on(struct pass *p, const rd_kafka_message_t *m) {
    rd_kafka_headers_t *h = p->headers ? bench_headers(p->headers, p->header_bytes) : NULL;
    rd_kafka_resp_err_t code;
    while ((code = rd_kafka_producev(p->producer, RD_KAFKA_V_TOPIC(p->out),
                                     RD_KAFKA_V_KEY(m->key, m->key_len),
                                     RD_KAFKA_V_VALUE(p->body, p->body_len), RD_KAFKA_V_HEADERS(h),
                                     RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END))) {
        if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL) die("%s: %s", p->out, rd_kafka_err2str(code));
        rd_kafka_poll(p->producer, 1);
    }
    p->next[m->partition] = m->offset + 1;
}

static void commit(struct pass *p) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    for (int i = 0; i < PARTITIONS; i++)
        if (p->next[i]) {
            rd_kafka_topic_partition_list_add(list, p->in, i)->offset = p->next[i];
            p->next[i] = 0;
        }
    if (list->cnt) {
        rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata(p->consumer);
        must(rd_kafka_send_offsets_to_transaction(p->producer, list, group, WAIT_MS));
        must(rd_kafka_commit_transaction(p->producer, WAIT_MS));
        must(rd_kafka_begin_transaction(p->producer));
        rd_kafka_consumer_group_metadata_destroy(group);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

int main(int argc, char **argv) {
    if (argc != 8 && argc != 10)
        die("BROKERS GROUP IN OUT VALUE_BYTES HEADERS HEADER_BYTES [INDEX PROCESSES]");
    int index = argc == 10 ? atoi(argv[8]) : 0, processes = argc == 10 ? atoi(argv[9]) : 1;
    char id[256];
    snprintf(id, sizeof id, "%s.%d", argv[2], index);
    struct pass p = {.in = argv[3],
                     .out = argv[4],
                     .body_len = (size_t)atoi(argv[5]),
                     .headers = atoi(argv[6]),
                     .header_bytes = atoi(argv[7])};
    p.body = mem_zeroed(p.body_len + 1, 1);
    p.consumer = bench_consumer(argv[1], argv[2], NULL);
    p.producer = bench_producer(argv[1], "transactional.id", id, "linger.ms", "5", NULL);
    must(rd_kafka_init_transactions(p.producer, WAIT_MS));
    must(rd_kafka_begin_transaction(p.producer));
    if (bench_assign(p.consumer, p.in, index, processes, RD_KAFKA_OFFSET_BEGINNING) > PARTITIONS)
        die("%s has more than %d partitions", p.in, PARTITIONS);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(p.consumer);
    static rd_kafka_message_t *m[BATCH];
    for (double last = seconds_now();;) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 2, m, BATCH);
        for (ssize_t i = 0; i < n; i++) {
            if (!m[i]->err) pass_on(&p, m[i]);
            rd_kafka_message_destroy(m[i]);
        }
        rd_kafka_poll(p.producer, 0);
        if (seconds_now() - last < commit_every) continue;
        commit(&p);
        last = seconds_now();
    }
}
