/*
 * kafka_reader.c: a topic followed without a group. All its partitions are assigned with explicit
 * positions; nothing is ever committed. On a read-committed handle the end of a partition is only
 * the last stable one, so the true end is asked of a second handle that reads everything and
 * consumes nothing. An offset that is out of range means a topic that was made anew, or records that
 * retention took: its partition is read again from where it begins now.
 */
#include "lib/bus/reader.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/bus/kafka_conf.h"

#include <stdlib.h>
#include <string.h>

enum { CALL_MS = 2000 };

struct reader {
    struct kafka_link link;
    rd_kafka_t *rk, *ends; /* read committed, and for the true ends */
    char *topic;
    enum reader_from from;
    bool ready, bound;
    struct err refused; /* we may not read; the client says it once, and this stands until it can */
    int partitions;     /* 0: was never ready */
    int64_t *next;      /* everything below was given out, or is not to be read; -1: begin anew */
    int64_t *end;       /* as last asked; when bound, as it was then */
    rd_kafka_message_t *held;
    struct header *headers;
};

struct reader *reader_open(const struct bus_property *properties, size_t n, const char *topic,
                           enum reader_from from, struct err *e) {
    struct reader *r = mem_zeroed(1, sizeof *r);
    kafka_link_open(&r->link, r, properties, n);
    r->topic = mem_copy(topic, strlen(topic));
    r->from = from;
    rd_kafka_conf_t *conf = kafka_follower_conf(&r->link, properties, n, true, e);
    r->rk = conf ? kafka_make(RD_KAFKA_CONSUMER, conf, e) : NULL;
    conf = r->rk ? kafka_follower_conf(&r->link, properties, n, false, e) : NULL;
    r->ends = conf ? kafka_make(RD_KAFKA_CONSUMER, conf, e) : NULL;
    if (r->ends) {
        rd_kafka_poll_set_consumer(r->rk);
        return r;
    }
    reader_close(r);
    return NULL;
}

static int left_ms(int64_t deadline) {
    int64_t left = (deadline - clock_monotonic_us()) / 1000;
    return left > 0 ? (int)left : 0;
}

static enum err_kind count_partitions(struct reader *r, int wait_ms, int *count, struct err *e) {
    rd_kafka_resp_err_t why;
    if (kafka_partitions(r->rk, &r->link, r->topic, wait_ms, count, &why, e)) return e->kind;
    if (*count) return ERR_NONE;
    kafka_no_topic(&r->link, r->topic, why, e);
    if (why == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) e->kind = ERR_FATAL; /* a stage waits */
    return e->kind;
}

static enum err_kind ask_end(struct reader *r, int p, int wait_ms, int64_t *begin, int64_t *end,
                             struct err *e) {
    rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(r->ends, r->topic, p, begin, end, wait_ms);
    return code ? kafka_again(&r->link, e, "asking for the end of a topic", code) : ERR_NONE;
}

enum err_kind reader_ready(struct reader *r, int wait_ms, struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    int count;
    if (r->ready) return ERR_NONE;
    if (count_partitions(r, left_ms(deadline), &count, e)) return e->kind;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
    int64_t *next = mem_zeroed((size_t)count, sizeof *next);
    err_clear(e);
    for (int p = 0; p < count && !e->kind; p++) {
        int64_t begin = 0, end = 0;
        (void)!ask_end(r, p, left_ms(deadline), &begin, &end, e);
        bool known = p < r->partitions && r->next[p] >= 0;
        next[p] = known ? r->next[p] : !r->partitions && r->from == READER_END ? end : begin;
        rd_kafka_topic_partition_list_add(list, r->topic, p)->offset = next[p];
    }
    rd_kafka_resp_err_t code = e->kind ? RD_KAFKA_RESP_ERR_NO_ERROR : rd_kafka_assign(r->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code) kafka_again(&r->link, e, "reading a topic", code);
    if (e->kind) {
        free(next);
        return e->kind;
    }
    free(r->next);
    free(r->end);
    r->next = next;
    r->end = mem_zeroed((size_t)count, sizeof *r->end);
    r->partitions = count;
    r->ready = true;
    return ERR_NONE;
}

static void release(struct reader *r) {
    if (r->held) rd_kafka_message_destroy(r->held);
    free(r->headers);
    r->held = NULL;
    r->headers = NULL;
}

/* True when m is a record to give out. */
static bool take(struct reader *r, const rd_kafka_message_t *m, struct err *e) {
    int64_t *next =
        m->partition >= 0 && m->partition < r->partitions ? &r->next[m->partition] : NULL;
    if (!m->err || m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) err_clear(&r->refused);
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (next && m->offset > *next) *next = m->offset;
    } else if (next && (m->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
                        m->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE)) {
        log_warn("%s[%d]: offset %lld is out of range; reading from where it begins", r->topic,
                 m->partition, (long long)*next);
        *next = -1;
        r->ready = false;
    } else if (m->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED) {
        /* the group is a name only: nothing is asked of it */
    } else if (m->err) {
        kafka_again(&r->link, e, r->topic, m->err);
        if (m->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) r->refused = *e;
    } else if (next && m->offset >= *next) {
        *next = m->offset + 1;
        return !r->bound || m->offset < r->end[m->partition];
    }
    return false;
}

enum err_kind reader_poll(struct reader *r, int wait_ms, struct record *out, bool *got,
                          struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    release(r);
    *got = false;
    if (reader_ready(r, wait_ms > CALL_MS ? wait_ms : CALL_MS, e)) return e->kind;
    err_clear(e);
    rd_kafka_message_t *m;
    while (!e->kind && r->ready && (m = rd_kafka_consumer_poll(r->rk, left_ms(deadline)))) {
        if (take(r, m, e)) {
            r->held = m;
            *out = kafka_record(m, r->topic, &r->headers);
            *got = true;
            return ERR_NONE;
        }
        rd_kafka_message_destroy(m);
    }
    if (!e->kind) *e = r->refused;
    return e->kind;
}

enum err_kind reader_at_end(struct reader *r, bool *at_end, struct err *e) {
    *at_end = false;
    if (reader_ready(r, CALL_MS, e)) return e->kind;
    for (int p = 0; p < r->partitions; p++)
        if (r->next[p] < r->end[p]) return ERR_NONE; /* not even where it was: no need to ask */
    bool all = true;
    for (int p = 0; p < r->partitions && !r->bound; p++) {
        int64_t begin;
        if (ask_end(r, p, CALL_MS, &begin, &r->end[p], e)) return e->kind;
        if (r->next[p] < r->end[p]) all = false;
    }
    *at_end = all;
    return ERR_NONE;
}

enum err_kind reader_bound(struct reader *r, struct err *e) {
    int64_t begin;
    if (reader_ready(r, CALL_MS, e)) return e->kind;
    for (int p = 0; p < r->partitions; p++)
        if (ask_end(r, p, CALL_MS, &begin, &r->end[p], e)) return e->kind;
    r->bound = true;
    return ERR_NONE;
}

void reader_close(struct reader *r) {
    if (!r) return;
    release(r);
    if (r->rk) rd_kafka_consumer_close(r->rk);
    if (r->rk) rd_kafka_destroy(r->rk);
    if (r->ends) rd_kafka_destroy(r->ends);
    kafka_link_close(&r->link);
    free(r->next);
    free(r->end);
    free(r->topic);
    free(r);
}
