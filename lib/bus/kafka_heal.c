/*
 * kafka_heal.c: transactions that nobody would ever end.
 *
 * A broker that comes up again knows its partitions for a moment without a leader. A transaction
 * that its coordinator ends in that moment (it timed out, or was being ended when the broker died) is
 * closed without its markers: "these partitions are likely deleted already" (KAFKA-20734, in Kafka
 * 4.3.1). For the coordinator the id is free, and initialising the producer finds nothing to abort.
 * But its records and positions stand open for ever: readers of the partitions wait behind them, and
 * stable positions are not to be had. Worse, a marker names the producer and not the transaction: the
 * next commit of the same id would commit the old records and positions too, though they were given up
 * and done again.
 *
 * So the first transaction of every life of a producer touches all that the life before may have
 * left, and is aborted; nothing is committed before. Its marker closes the old transaction as well: a
 * partition of the log has one open transaction a producer id, and the group's coordinator drops
 * all pending positions of the id, whichever partition they are of. In output topics only those
 * partitions are touched in which something is open, or every start of a worker would give the stages
 * behind it something to read.
 *
 * What this cannot mend: a broker that dies between the markers of one transaction, and then loses the
 * rest of them, leaves it committed in one partition and open in another.
 */
#include "lib/bus/kafka_heal.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

static int left_ms(int64_t deadline_us) {
    int64_t left = (deadline_us - clock_monotonic_us()) / 1000;
    return left > 0 ? (int)left : 0;
}

static enum err_kind count_partitions(rd_kafka_t *rk, struct kafka_link *link, const char *topic,
                                      int wait_ms, int *count, struct err *e) {
    const struct rd_kafka_metadata *md;
    *count = 0;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    if (!handle) return ERR_NONE; /* no name of a topic */
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, handle, &md, wait_ms);
    rd_kafka_topic_destroy(handle);
    if (code) return kafka_again(link, e, "asking for a topic", code);
    if (md->topic_cnt == 1) *count = md->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(md);
    return ERR_NONE;
}

/* `all` reads what is not committed too: its end is the true one, ours is where readers have to stop. */
static enum err_kind find_in(rd_kafka_t *rk, rd_kafka_t *all, struct kafka_link *link,
                             const char *topic, int64_t deadline,
                             rd_kafka_topic_partition_list_t *open, struct err *e) {
    int count;
    if (count_partitions(rk, link, topic, left_ms(deadline), &count, e)) return e->kind;
    for (int p = 0; p < count; p++) {
        int64_t low, end, stable;
        rd_kafka_resp_err_t code =
            rd_kafka_query_watermark_offsets(all, topic, p, &low, &end, left_ms(deadline));
        if (!code)
            code = rd_kafka_query_watermark_offsets(rk, topic, p, &low, &stable, left_ms(deadline));
        if (kafka_is_forbidden(code)) return ERR_NONE;
        if (code) return kafka_again(link, e, "asking for the end of a topic", code);
        if (stable < end) rd_kafka_topic_partition_list_add(open, topic, p);
    }
    return ERR_NONE;
}

enum err_kind heal_find(rd_kafka_t *rk, struct kafka_link *link, const struct bus_conf *conf,
                        const char *const *topics, size_t n, int wait_ms,
                        rd_kafka_topic_partition_list_t *open, struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    if (!n) return ERR_NONE;
    rd_kafka_conf_t *follower =
        kafka_follower_conf(link, conf->properties, conf->property_count, false, e);
    rd_kafka_t *all = follower ? kafka_make(RD_KAFKA_CONSUMER, follower, e) : NULL;
    if (!all) return e->kind;
    err_clear(e);
    for (size_t i = 0; i < n && !e->kind; i++)
        (void)!find_in(rk, all, link, topics[i], deadline, open, e);
    rd_kafka_destroy(all);
    return e->kind;
}

/* True while the call is to be made again. */
static bool ask_again(rd_kafka_error_t *error, int64_t deadline) {
    if (!error || !rd_kafka_error_is_retriable(error) || !left_ms(deadline)) return false;
    rd_kafka_error_destroy(error);
    return true;
}

/* A record that nobody will see; compacted topics want a key. It is in the transaction when this
   returns. */
static enum err_kind touch(rd_kafka_t *rk, struct kafka_link *link,
                           const rd_kafka_topic_partition_list_t *open, int64_t deadline,
                           struct err *e) {
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    (void)kafka_undelivered(link);
    for (int i = 0; i < open->cnt && !code; i++)
        code = rd_kafka_producev(
            rk, RD_KAFKA_V_TOPIC(open->elems[i].topic),
            RD_KAFKA_V_PARTITION(open->elems[i].partition), RD_KAFKA_V_KEY("-", 1),
            RD_KAFKA_V_VALUE("", 0), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (!code) code = rd_kafka_flush(rk, left_ms(deadline));
    if (!code) code = kafka_undelivered(link);
    return code ? kafka_again_sending(link, e, code) : ERR_NONE;
}

/* Any position will do, it is never committed. */
static enum err_kind touch_positions(rd_kafka_t *rk, struct kafka_link *link,
                                     const struct bus_conf *conf, int64_t deadline, struct err *e) {
    rd_kafka_error_t *error;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, conf->in, 0)->offset = 0;
    rd_kafka_consumer_group_metadata_t *group = rd_kafka_consumer_group_metadata_new(conf->group);
    do error = rd_kafka_send_offsets_to_transaction(rk, list, group, left_ms(deadline));
    while (ask_again(error, deadline));
    rd_kafka_consumer_group_metadata_destroy(group);
    rd_kafka_topic_partition_list_destroy(list);
    return error ? kafka_again_error(link, e, "touching the group's positions", error) : ERR_NONE;
}

enum err_kind heal_end(rd_kafka_t *rk, struct kafka_link *link, const struct bus_conf *conf,
                       const rd_kafka_topic_partition_list_t *open, int wait_ms, bool *broken,
                       struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    struct err failed;
    err_clear(e);
    if (!open->cnt && !conf->in) return ERR_NONE;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(rk);
    if (error) {
        *broken = true;
        return kafka_again_error(link, e, "beginning a transaction", error);
    }
    if (open->cnt) {
        log_debug("kafka: %d partitions have something open: touching them", open->cnt);
        (void)!touch(rk, link, open, deadline, e);
    }
    if (!e->kind && conf->in) (void)!touch_positions(rk, link, conf, deadline, e);
    do error = rd_kafka_abort_transaction(rk, left_ms(deadline));
    while (ask_again(error, deadline));
    if (!error) return e->kind;
    *broken = true;
    kafka_again_error(link, &failed, "aborting what stood open", error);
    if (!e->kind) *e = failed;
    return e->kind;
}
