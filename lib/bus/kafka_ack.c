/*
 * kafka_ack.c: a queue of tickets, one a hand-over, each with the number of records that the broker
 * has not acknowledged. Positions leave from its head only, so they never pass a record that may
 * yet fail.
 */
#include "lib/bus/kafka_ack.h"

#include "lib/base/clock.h"

#include <stdlib.h>

enum { IN_FLIGHT = 64, ROOM_MS = 5000 };

struct ticket {
    struct ticket *next;
    size_t outstanding;
    bool alone;                                 /* it is of one record */
    rd_kafka_topic_partition_list_t *positions; /* NULL: forgotten */
};

struct acks {
    const struct bus_conf *conf;
    struct kafka_link *link;
    struct kafka_limits limits;
    rd_kafka_t *rk;
    struct ticket *first, **last;
    int tickets;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    struct kafka_link *link = opaque;
    struct ticket *t = m->_private;
    (void)rk;
    t->outstanding--;
    if (m->err && t->positions)
        kafka_not_delivered(link, rd_kafka_topic_name(m->rkt), kafka_message_payload(m), t->alone,
                            m->err);
}

static rd_kafka_t *make(struct acks *a, struct err *e) {
    rd_kafka_conf_t *conf = kafka_producer_conf(
        a->link, a->conf->properties, a->conf->property_count, a->conf->queue_bytes, 0, e);
    if (!conf) return NULL;
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    return kafka_make(RD_KAFKA_PRODUCER, conf, e);
}

struct acks *ack_open(const struct bus_conf *conf, struct kafka_link *link, struct err *e) {
    struct acks *a = mem_zeroed(1, sizeof *a);
    a->conf = conf;
    a->link = link;
    a->last = &a->first;
    a->rk = make(a, e);
    if (a->rk) return a;
    free(a);
    return NULL;
}

static void drop_first(struct acks *a) {
    struct ticket *t = a->first;
    a->first = t->next;
    if (!a->first) a->last = &a->first;
    if (t->positions) rd_kafka_topic_partition_list_destroy(t->positions);
    free(t);
    a->tickets--;
}

static void drop_producer(struct acks *a) {
    if (!a->rk) return;
    rd_kafka_purge(a->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                              RD_KAFKA_PURGE_F_NON_BLOCKING);
    rd_kafka_destroy(a->rk);
    a->rk = NULL;
    while (a->first) drop_first(a);
}

void ack_close(struct acks *a) {
    if (!a) return;
    drop_producer(a);
    kafka_limits_free(&a->limits);
    free(a);
}

static enum err_kind produce(struct acks *a, struct ticket *t, const struct record *r,
                             int64_t deadline, struct err *e) {
    rd_kafka_resp_err_t code;
    while ((code = kafka_produce(a->rk, r, RD_KAFKA_PARTITION_UA, t)) ==
               RD_KAFKA_RESP_ERR__QUEUE_FULL &&
           clock_monotonic_us() < deadline)
        ack_serve(a, 10);
    if (code) {
        kafka_not_delivered(a->link, r->topic, kafka_payload(r), t->alone, code);
        return kafka_again_sending(a->link, e, code);
    }
    t->outstanding++;
    return ERR_NONE;
}

enum err_kind ack_send(struct acks *a, const struct record *out, size_t n,
                       rd_kafka_topic_partition_list_t *positions, struct err *e) {
    int64_t deadline = clock_monotonic_us() + ROOM_MS * 1000LL;
    err_clear(e);
    for (size_t i = 0; i < n && !e->kind; i++)
        (void)!kafka_check_size(&a->limits, a->rk, a->link, &out[i], n == 1, e);
    while (!e->kind && a->tickets >= IN_FLIGHT && a->first->outstanding) {
        if (clock_monotonic_us() >= deadline)
            (void)!kafka_again(a->link, e, "waiting for acknowledgements",
                               RD_KAFKA_RESP_ERR__TIMED_OUT);
        ack_serve(a, 10);
    }
    if (e->kind) {
        rd_kafka_topic_partition_list_destroy(positions);
        return e->kind;
    }
    struct ticket *t = mem_zeroed(1, sizeof *t);
    t->positions = positions;
    t->alone = n == 1;
    *a->last = t;
    a->last = &t->next;
    a->tickets++;
    for (size_t i = 0; i < n; i++)
        if (produce(a, t, &out[i], deadline, e)) return e->kind;
    ack_serve(a, 0);
    return ERR_NONE;
}

void ack_serve(struct acks *a, int wait_ms) {
    rd_kafka_poll(a->rk, wait_ms);
}

rd_kafka_topic_partition_list_t *ack_take(struct acks *a, struct err *e) {
    rd_kafka_topic_partition_list_t *all = NULL;
    rd_kafka_resp_err_t code = kafka_undelivered(a->link);
    err_clear(e);
    if (code || (code = rd_kafka_fatal_error(a->rk, NULL, 0))) {
        kafka_again_sending(a->link, e, code);
        return NULL;
    }
    for (; a->first && !a->first->outstanding; drop_first(a)) {
        const rd_kafka_topic_partition_list_t *some = a->first->positions;
        for (int i = 0; some && i < some->cnt; i++) {
            const rd_kafka_topic_partition_t *x = &some->elems[i];
            if (!all) all = rd_kafka_topic_partition_list_new(some->cnt);
            rd_kafka_topic_partition_t *y =
                rd_kafka_topic_partition_list_find(all, x->topic, x->partition);
            if (!y) y = rd_kafka_topic_partition_list_add(all, x->topic, x->partition);
            y->offset = x->offset;
        }
    }
    return all;
}

bool ack_busy(const struct acks *a) {
    return a->first != NULL;
}

enum err_kind ack_forget(struct acks *a, struct err *e) {
    kafka_limits_free(&a->limits); /* they may have changed */
    if (rd_kafka_fatal_error(a->rk, NULL, 0)) {
        drop_producer(a);
        a->rk = make(a, e);
        return a->rk ? ERR_NONE : e->kind;
    }
    for (struct ticket *t = a->first; t; t = t->next) {
        if (t->positions) rd_kafka_topic_partition_list_destroy(t->positions);
        t->positions = NULL;
    }
    ack_serve(a, 0);
    while (a->first && !a->first->outstanding) drop_first(a);
    (void)kafka_undelivered(a->link);
    return ERR_NONE;
}

rd_kafka_t *ack_handle(struct acks *a) {
    return a->rk;
}
