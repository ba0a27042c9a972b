/*
 * kafka_heal.c: transactions that nobody would ever end.
 *
 * A broker that comes up again knows its partitions for a moment without a leader. A transaction
 * that its coordinator ends in that moment (it timed out, or was being ended when the broker died)
 * is closed without its markers: "these partitions are likely deleted already" (KAFKA-20734, in
 * Kafka 4.3.1). For the coordinator the id is free, and initialising the producer finds nothing to
 * abort. But its records and positions stand open for ever: readers of the partitions wait behind
 * them, and stable positions are not to be had. Worse, a marker names the producer and not the
 * transaction: the next commit of the same id would commit the old records and positions too,
 * though they were given up and done again.
 *
 * So the first transaction of every life of a producer touches all that the life before may have
 * left, and is aborted; nothing is committed before. Its marker closes the old transaction as
 * well: a partition of the log has one open transaction a producer id, and the group's coordinator
 * drops all pending positions of the id, whichever partition they are of. In output topics only
 * those partitions are touched in which something is open, or every start of a worker would give
 * the stages behind it something to read. A topic that cannot be looked at yet is looked at before
 * the first record goes there.
 *
 * A broker that dies between the markers of one transaction, and then loses the rest of them, leaves it
 * committed in one partition and open in another: kafka_torn.c.
 */
#include "lib/bus/kafka_heal.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

enum { ABORT_MS = 5000, ASK_AGAIN_MS = 10 };

static int left_ms(int64_t deadline_us) {
    int64_t left = (deadline_us - clock_monotonic_us()) / 1000;
    return left > 0 ? (int)left : 0;
}

/* Adds the topic's partitions, each with its end for an offset. */
static enum err_kind list_partitions(rd_kafka_t *all, struct kafka_link *link, const char *topic,
                                     int64_t deadline, rd_kafka_topic_partition_list_t *list,
                                     bool *seen, struct err *e) {
    int count;
    rd_kafka_resp_err_t why;
    if (kafka_partitions(all, link, topic, left_ms(deadline), &count, &why, e)) return e->kind;
    *seen = !why;
    for (int p = 0; p < count && !why; p++)
        rd_kafka_topic_partition_list_add(list, topic, p)->offset = RD_KAFKA_OFFSET_END;
    return ERR_NONE;
}

/* Offsets behind the last record that rk may read. */
static enum err_kind ask_ends(rd_kafka_t *rk, struct kafka_link *link,
                              rd_kafka_topic_partition_list_t *list, int64_t deadline,
                              struct err *e) {
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(rk, list, left_ms(deadline));
    if (code) return kafka_again(link, e, "asking for the ends of topics", code);
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].err)
            return kafka_again(link, e, list->elems[i].topic, list->elems[i].err);
    return ERR_NONE;
}

/* A handle that reads what is not committed too tells the true ends; ours tells where readers have to
   stop. That is asked second: what is committed meanwhile is not open. */
enum err_kind heal_find(rd_kafka_t *rk, struct kafka_link *link, const struct bus_conf *conf,
                        const char *const *topics, size_t n, int wait_ms,
                        rd_kafka_topic_partition_list_t *open, bool *seen, struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    if (!n) return ERR_NONE;
    rd_kafka_conf_t *follower =
        kafka_follower_conf(link, conf->properties, conf->property_count, false, e);
    rd_kafka_t *all = follower ? kafka_make(RD_KAFKA_CONSUMER, follower, e) : NULL;
    if (!all) return e->kind;
    rd_kafka_topic_partition_list_t *ends = rd_kafka_topic_partition_list_new(8), *stable = NULL;
    err_clear(e);
    for (size_t i = 0; i < n && !e->kind; i++)
        (void)!list_partitions(all, link, topics[i], deadline, ends, &seen[i], e);
    if (!e->kind && ends->cnt) {
        stable = rd_kafka_topic_partition_list_copy(ends);
        if (!ask_ends(all, link, ends, deadline, e)) (void)!ask_ends(rk, link, stable, deadline, e);
    }
    for (int i = 0; i < ends->cnt && !e->kind; i++) {
        const rd_kafka_topic_partition_t *x = &ends->elems[i];
        if (stable->elems[i].offset < x->offset)
            rd_kafka_topic_partition_list_add(open, x->topic, x->partition);
    }
    rd_kafka_topic_partition_list_destroy(ends);
    if (stable) rd_kafka_topic_partition_list_destroy(stable);
    rd_kafka_destroy(all);
    return e->kind;
}

/* True while the call is to be made again. */
static bool ask_again(rd_kafka_error_t *error, int64_t deadline) {
    if (!error || !rd_kafka_error_is_retriable(error) || !left_ms(deadline)) return false;
    rd_kafka_error_destroy(error);
    clock_sleep_ms(ASK_AGAIN_MS);
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
        code = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(open->elems[i].topic),
                                 RD_KAFKA_V_PARTITION(open->elems[i].partition),
                                 RD_KAFKA_V_KEY("-", 1), RD_KAFKA_V_VALUE("", 0),
                                 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (!code) code = rd_kafka_flush(rk, left_ms(deadline));
    if (!code) code = kafka_undelivered(link);
    return code ? kafka_again_sending(link, e, code) : ERR_NONE;
}

/* Any position will do, it is never committed. */
static rd_kafka_error_t *touch_positions(rd_kafka_t *rk, const char *group, const char *in,
                                         int64_t deadline) {
    rd_kafka_error_t *error;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, in, 0)->offset = 0;
    rd_kafka_consumer_group_metadata_t *member = rd_kafka_consumer_group_metadata_new(group);
    do error = rd_kafka_send_offsets_to_transaction(rk, list, member, left_ms(deadline));
    while (ask_again(error, deadline));
    rd_kafka_consumer_group_metadata_destroy(member);
    rd_kafka_topic_partition_list_destroy(list);
    return error;
}

/* Takes the error, which e tells unless it has something to tell already. */
static void failed(struct kafka_link *link, rd_kafka_error_t *error, const char *what, bool *dead,
                   rd_kafka_resp_err_t *died_of, struct err *e) {
    struct err now;
    if (rd_kafka_error_is_fatal(error)) {
        *dead = true;
        *died_of = rd_kafka_error_code(error);
    }
    kafka_again_error(link, &now, what, error);
    if (!e->kind) *e = now;
}

enum err_kind heal_end(rd_kafka_t *rk, struct kafka_link *link, const char *group, const char *in,
                       const rd_kafka_topic_partition_list_t *open, int wait_ms, bool *dead,
                       rd_kafka_resp_err_t *died_of, struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    err_clear(e);
    if (!open->cnt && !in) return ERR_NONE;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(rk);
    if (error) {
        *dead = true;
        failed(link, error, "beginning a transaction", dead, died_of, e);
        return e->kind;
    }
    if (open->cnt) {
        log_info(
            "kafka: transactions stand open in %d partitions; if an earlier life of %s left one, "
            "it ends now",
            open->cnt, group);
        (void)!touch(rk, link, open, deadline, e);
    }
    if (!e->kind && in && (error = touch_positions(rk, group, in, deadline)))
        failed(link, error, group, dead, died_of, e);
    deadline = clock_monotonic_us() + ABORT_MS * 1000LL;
    do error = rd_kafka_abort_transaction(rk, left_ms(deadline));
    while (ask_again(error, deadline));
    rd_kafka_poll(rk, 0); /* what it has to say of its connections */
    if (error) {
        *dead = true;
        failed(link, error, "aborting what stood open", dead, died_of, e);
    } else if (!e->kind && kafka_failed_us(link)) {
        *dead = true; /* not believed: kafka_txn.c */
        err_again(e, "the broker was away while what stood open was ended");
    }
    return e->kind;
}
