/*
 * kafka_sender.c: one transactional producer without a consumer. Its transactional id is what keeps two
 * processes apart: initialising it fences the one before and aborts what that one left open, so whoever
 * reads after sender_ready reads all that will ever have been sent under the name.
 */
#include "lib/bus/sender.h"

#include "lib/bus/kafka_txn.h"

#include <stdlib.h>

enum { COMMIT_MS = 60000, CLOSE_MS = 2000 };

struct sender {
    struct bus_conf conf;
    struct kafka_link link;
    struct arena texts; /* conf's */
    struct txns *txns;
};

struct sender *sender_open(const struct bus_property *properties, size_t n, const char *group,
                           const char *instance, const char *const *out, size_t out_count,
                           struct err *e) {
    struct sender *s = mem_zeroed(1, sizeof *s);
    const char **topics = arena_alloc(&s->texts, (out_count + 1) * sizeof *topics);
    for (size_t i = 0; i < out_count; i++) topics[i] = arena_text(&s->texts, bytes_of(out[i]));
    s->conf = (struct bus_conf){
        .group = arena_text(&s->texts, bytes_of(group)),
        .instance = arena_text(&s->texts, bytes_of(instance)),
        .lanes = 1,
        .out = topics,
        .out_count = out_count,
        .properties = properties,
        .property_count = n,
    };
    kafka_link_open(&s->link, s, properties, n);
    s->txns = txn_open(&s->conf, &s->link, e);
    if (s->txns) return s;
    sender_close(s);
    return NULL;
}

enum err_kind sender_ready(struct sender *s, int wait_ms, struct err *e) {
    return txn_ready(s->txns, wait_ms, e);
}

enum err_kind sender_send(struct sender *s, const struct record *list, size_t n, struct err *e) {
    rd_kafka_topic_partition_list_t *positions = NULL;
    struct err aborted;
    int64_t us;
    enum err_kind kind = txn_send(s->txns, list, n, e);
    if (kind == ERR_BAD) return kind;
    if (kind) {
        txn_abort(s->txns);
        if (txn_busy(s->txns)) (void)txn_wait(s->txns, COMMIT_MS, &positions, &us, &aborted);
        if (positions) rd_kafka_topic_partition_list_destroy(positions);
        return kind;
    }
    txn_commit(s->txns, rd_kafka_topic_partition_list_new(0), NULL);
    enum txn_outcome outcome = txn_wait(s->txns, COMMIT_MS, &positions, &us, e);
    if (positions) rd_kafka_topic_partition_list_destroy(positions);
    if (outcome == TXN_COMMITTED) return ERR_NONE;
    if (outcome == TXN_ABORTED) return e->kind;
    return kafka_again(&s->link, e, "the commit is not confirmed", RD_KAFKA_RESP_ERR__TIMED_OUT);
}

void sender_close(struct sender *s) {
    if (!s) return;
    txn_close(s->txns, CLOSE_MS);
    kafka_link_close(&s->link);
    arena_free(&s->texts);
    free(s);
}
