/*
 * kafka_publisher.c: an idempotent producer that accounts for every record.
 */
#include "lib/bus/publisher.h"

#include "lib/base/clock.h"
#include "lib/bus/kafka_conf.h"

#include <stdlib.h>

enum { QUEUE_BYTES = 64 << 20, LINGER_MS = 20 };

struct publisher {
    struct kafka_link link;
    struct kafka_limits limits;
    rd_kafka_t *rk;
    void (*failed)(void *ctx, uint64_t tag, const struct err *why);
    void *ctx;
    uint64_t outstanding, acknowledged;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    struct publisher *p = ((struct kafka_link *)opaque)->owner;
    struct err why;
    (void)rk;
    p->outstanding--;
    if (!m->err) {
        p->acknowledged++;
        return;
    }
    if (m->err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
        err_bad(&why, REASON_TOO_LONG,
                "a batch for %s is larger than its max.message.bytes: lower batch.size",
                rd_kafka_topic_name(m->rkt));
    else
        kafka_again(&p->link, &why, "sending records", m->err);
    if (p->failed) p->failed(p->ctx, (uint64_t)(uintptr_t)m->_private, &why);
}

struct publisher *publisher_open(const struct bus_property *properties, size_t n,
                                 void (*failed)(void *ctx, uint64_t tag, const struct err *why),
                                 void *ctx, struct err *e) {
    struct publisher *p = mem_zeroed(1, sizeof *p);
    kafka_link_open(&p->link, p, properties, n);
    p->failed = failed;
    p->ctx = ctx;
    rd_kafka_conf_t *conf = kafka_producer_conf(&p->link, properties, n, QUEUE_BYTES, LINGER_MS, e);
    if (conf) {
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
        p->rk = kafka_make(RD_KAFKA_PRODUCER, conf, e);
    }
    if (p->rk) return p;
    publisher_close(p);
    return NULL;
}

enum err_kind publisher_send(struct publisher *p, const struct record *r, uint64_t tag,
                             struct err *e) {
    if (kafka_check_size(&p->limits, p->rk, &p->link, r, true, e)) return e->kind;
    rd_kafka_resp_err_t code;
    while ((code = kafka_produce(p->rk, r, RD_KAFKA_PARTITION_UA, (void *)(uintptr_t)tag)) ==
           RD_KAFKA_RESP_ERR__QUEUE_FULL)
        rd_kafka_poll(p->rk, 10);
    if (code) return kafka_again(&p->link, e, "sending records", code);
    p->outstanding++;
    rd_kafka_poll(p->rk, 0);
    return ERR_NONE;
}

uint64_t publisher_acknowledged(const struct publisher *p) {
    return p->acknowledged;
}

void publisher_poll(struct publisher *p, int wait_ms) {
    rd_kafka_poll(p->rk, wait_ms);
}

enum err_kind publisher_flush(struct publisher *p, int wait_ms, struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    while (p->outstanding && clock_monotonic_us() < deadline) rd_kafka_poll(p->rk, 10);
    if (!p->outstanding) return ERR_NONE;
    return kafka_again(&p->link, e, "waiting for acknowledgements", RD_KAFKA_RESP_ERR__TIMED_OUT);
}

void publisher_close(struct publisher *p) {
    if (!p) return;
    if (p->rk) {
        rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                  RD_KAFKA_PURGE_F_NON_BLOCKING);
        rd_kafka_destroy(p->rk);
    }
    kafka_limits_free(&p->limits);
    kafka_link_close(&p->link);
    free(p);
}
