/*
 * kafka.c: a bus on Kafka: the consumer, its share of the partitions, and what was polled of them.
 *
 * What may go wrong, and what holds then:
 * - Handling starts only from a position that the group coordinator stated definitely and stably.
 * Until it has, nothing is read: an assignment is taken from the group with no partition fetched
 * (`placed` is false), and bus_poll goes on asking.
 * - Positions travel with the group metadata captured when the partitions were assigned, so a
 * member that lost them cannot commit, whatever has happened since.
 * - Every start of reading is an assignment with explicit offsets, and what comes below the next
 * offset that is ours to read is dropped: what librdkafka still has in its queues cannot come
 * twice.
 * - A rewind and a new assignment wait for the outcome of the commit under way before they ask for
 *   positions.
 *
 * Producers, transactions and their thread are in kafka_txn.c, at-least-once sending in
 * kafka_ack.c, the watched topic in kafka_reader.c.
 */
#include "lib/bus/kafka_ack.h"
#include "lib/bus/kafka_known.h"
#include "lib/bus/kafka_pile.h"
#include "lib/bus/kafka_txn.h"
#include "lib/bus/ops.h"
#include "lib/bus/reader.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CALL_MS = 5000,    /* one question to the broker */
    COMMIT_MS = 10000, /* a commit that is waited for */
    REVOKE_MS = 2000,  /* the same, while the group waits for us */
    CLOSE_MS = 3000,
    UNSTABLE_MS = 30000, /* longer than a transaction can last */
    BEYOND_MS = 10000,   /* a position beyond the end is not believed before */
    ALIVE_EVERY_MS = 50,
    ALIVE_AFTER_MS = 300, /* without a poll: before that bus_alive has nothing to do */
    IDLE_MS = 100, /* since the last hand-over, before end-of-partition positions are committed */
    SERVE_MS = 5,  /* how often reports are let in while records are waited for */
    POSITIONS_EVERY_MS = 20, /* of at-least-once */
    SERVE_MAX = 1000,
    WAKE_EVERY_MS = 20, /* the client's fetcher */
    REFUSED_MS = 2000,  /* for a first sign that we may read again */
    JOIN_MS = 15000,    /* in the group, with a broker that answers all else */
    JOIN_ASK_MS = 2000, /* how often it is asked meanwhile */
};

struct share {
    bool mine;
    int64_t start;     /* committed */
    int64_t next;      /* the first offset that was not taken from the client yet */
    int64_t done;      /* everything below has been polled by the caller, or is nothing to poll */
    int64_t sent;      /* the position last handed over */
    int64_t gaps_to;   /* everything below that retention took has been counted */
    int64_t beyond_ms; /* since when the committed position lies beyond the end; 0: it does not */
    bool at_end;       /* the end of partition has been seen, and nothing since */
    char *note;
};

struct kbus {
    struct bus base;
    struct bus_conf conf;
    struct arena texts; /* conf's */
    struct kafka_link link;
    rd_kafka_t *rk;
    struct txns *txns;    /* exactly once, or */
    struct acks *acks;    /* at least once */
    struct reader *watch; /* NULL: nothing is watched */
    char cluster[64];
    bool started, closing;

    bool joined;
    int64_t answers_ms, asked_ms; /* while it is not: since when the broker answers; last asked */
    rd_kafka_topic_partition_list_t *assigned; /* by the group */
    rd_kafka_consumer_group_metadata_t *group; /* of this assignment */
    bool placed;                               /* positions are known, and being read from */
    bool parked;                               /* placed, and nothing is fetched for now */
    struct share *shares;                      /* by partition number */
    int32_t share_count;

    struct pile polled;  /* the caller's */
    struct pile waiting; /* beyond the caller's limits, or come in while it was busy */
    struct pile old;     /* forgotten, but perhaps still looked at */
    size_t polled_bytes;
    uint64_t generation;

    bool committing; /* at least once: positions are under way */
    int64_t commit_started_us, poll_ms, served_ms, handed_ms;
    int64_t woken_ms;
    int64_t unstable_ms; /* since when positions are asked for in vain; 0: they are not */
    int64_t open_ms;     /* when a poll last had room for more */
    uint64_t commits, aborts, gaps;
    int64_t commit_us;
    struct err failed;  /* why a rewind is wanted */
    struct err refused; /* we may not read; the client says it once, and this stands until it can */
    struct known known;
};

static struct kbus *kbus(struct bus *b) {
    return (struct kbus *)b;
}

static int64_t now_ms(void) {
    return clock_monotonic_us() / 1000;
}

static int left_ms(int64_t deadline_ms) {
    int64_t left = deadline_ms - now_ms();
    return left > 0 ? (int)left : 0;
}

/* What is fatal stays: the client says it once. */
static enum err_kind want_rewind(struct kbus *b, struct err *e) {
    if (b->failed.kind == ERR_FATAL) *e = b->failed;
    b->failed = *e;
    return e->kind;
}

static enum err_kind forgive(struct kbus *b, struct err *e) {
    if (b->failed.kind == ERR_FATAL) return *e = b->failed, e->kind;
    b->failed = (struct err){0};
    return ERR_NONE;
}

static struct share *share_of(const struct kbus *b, int32_t partition) {
    if (partition < 0 || partition >= b->share_count) return NULL;
    return b->shares[partition].mine ? &b->shares[partition] : NULL;
}

static void set_note(struct share *s, const void *text, size_t len) {
    free(s->note);
    s->note = len ? mem_copy(text, len) : NULL;
}

/* What was polled is not to be handed over any more. Its memory stays until the next call but
 * bus_alive. */
static void forget(struct kbus *b) {
    pile_move(&b->old, &b->polled);
    b->polled_bytes = 0;
    pile_clear(&b->waiting);
    for (int32_t p = 0; p < b->share_count; p++) b->shares[p].at_end = false;
    b->generation++;
}

/* The group. */

static void read_nothing(struct kbus *b) {
    rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
    rd_kafka_assign(b->rk, none);
    rd_kafka_topic_partition_list_destroy(none);
}

static enum err_kind read_from_next(struct kbus *b, struct err *e) {
    for (int i = 0; i < b->assigned->cnt; i++)
        b->assigned->elems[i].offset = b->shares[b->assigned->elems[i].partition].next;
    rd_kafka_resp_err_t code = rd_kafka_assign(b->rk, b->assigned);
    return code ? kafka_again(&b->link, e, "reading from the positions", code) : ERR_NONE;
}

/* Nothing is to be taken, perhaps for long, and the client's queue would stand before a rebalance:
   it is emptied, nothing more is fetched, and reading goes on from our own next offset later. */
static void park(struct kbus *b) {
    if (!b->placed || b->parked) return;
    read_nothing(b);
    b->parked = true;
}

static void drop_assignment(struct kbus *b) {
    for (int32_t p = 0; p < b->share_count; p++) {
        free(b->shares[p].note);
        b->shares[p] = (struct share){.gaps_to = b->shares[p].gaps_to};
    }
    if (b->assigned) rd_kafka_topic_partition_list_destroy(b->assigned);
    if (b->group) rd_kafka_consumer_group_metadata_destroy(b->group);
    b->assigned = NULL;
    b->group = NULL;
    b->joined = b->placed = b->parked = false;
}

static void take_assignment(struct kbus *b, const rd_kafka_topic_partition_list_t *list) {
    drop_assignment(b);
    for (int i = 0; i < list->cnt; i++) {
        int32_t p = list->elems[i].partition;
        if (p >= b->share_count) {
            b->shares = mem_resize(b->shares, (size_t)(p + 1) * sizeof *b->shares);
            memset(b->shares + b->share_count, 0,
                   (size_t)(p + 1 - b->share_count) * sizeof *b->shares);
            b->share_count = p + 1;
        }
        b->shares[p].mine = true;
    }
    b->assigned = rd_kafka_topic_partition_list_copy(list);
    b->group =
        rd_kafka_consumer_group_metadata(b->rk); /* now: later it may be another generation's */
    b->joined = true;
    b->placed = !list->cnt;
}

static enum txn_outcome take_outcome(struct kbus *b, int wait_ms, struct err *e);
static void flush_acks(struct kbus *b, int wait_ms);

static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *list, void *opaque) {
    struct kbus *b = ((struct kafka_link *)opaque)->owner;
    struct err ignored;
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        forget(b);
        take_assignment(b, list);
        read_nothing(b); /* until the positions are known: place */
        log_debug("kafka: %d partitions of %s are ours", list->cnt, b->conf.in);
        return;
    }
    /* A commit that is not over in this time harms nobody: who owns the partition next has to wait
     * for it. */
    if (!b->closing && b->txns) (void)take_outcome(b, REVOKE_MS, &ignored);
    if (!b->closing && b->acks) flush_acks(b, rd_kafka_assignment_lost(rk) ? 0 : REVOKE_MS);
    forget(b);
    drop_assignment(b);
    rd_kafka_assign(rk, NULL);
}

static rd_kafka_consumer_group_metadata_t *copy_group(struct kbus *b) {
    void *bytes;
    size_t len;
    rd_kafka_consumer_group_metadata_t *copy = NULL;
    rd_kafka_error_t *error = rd_kafka_consumer_group_metadata_write(b->group, &bytes, &len);
    if (!error) {
        error = rd_kafka_consumer_group_metadata_read(&copy, bytes, len);
        rd_kafka_mem_free(NULL, bytes);
    }
    if (error) {
        log_error("kafka: group metadata: %s", rd_kafka_error_string(error));
        abort(); /* they are our own bytes */
    }
    return copy;
}

/* Commits. */

static void committed(struct kbus *b, const rd_kafka_topic_partition_list_t *positions) {
    for (int i = 0; i < positions->cnt; i++) {
        const rd_kafka_topic_partition_t *x = &positions->elems[i];
        struct share *s = share_of(b, x->partition);
        if (!s || x->offset < s->start) continue; /* a report that was given up and comes late */
        s->start = x->offset;
        set_note(s, x->metadata, x->metadata_size);
    }
    b->commits++;
    kafka_is_up(&b->link);
}

/* Of the transaction under way. TXN_COMMITTED also when there is none. */
static enum txn_outcome take_outcome(struct kbus *b, int wait_ms, struct err *e) {
    rd_kafka_topic_partition_list_t *positions;
    if (!txn_busy(b->txns)) return TXN_COMMITTED;
    enum txn_outcome outcome = txn_wait(b->txns, wait_ms, &positions, &b->commit_us, e);
    if (outcome == TXN_COMMITTED) {
        if (positions) committed(b, positions);
        if (positions) rd_kafka_topic_partition_list_destroy(positions);
    } else if (outcome == TXN_ABORTED) {
        b->aborts++;
        want_rewind(b, e);
    }
    return outcome;
}

static enum err_kind not_confirmed(struct kbus *b, struct err *e) {
    return kafka_again(&b->link, e, "the last commit is not confirmed",
                       RD_KAFKA_RESP_ERR__TIMED_OUT);
}

static enum err_kind finish_txn(struct kbus *b, int wait_ms, struct err *e) {
    enum txn_outcome outcome = take_outcome(b, wait_ms, e);
    if (outcome == TXN_COMMITTED) return ERR_NONE;
    return outcome == TXN_ABORTED ? e->kind : not_confirmed(b, e);
}

static void on_commit(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                      rd_kafka_topic_partition_list_t *positions, void *opaque) {
    struct kbus *b = ((struct kafka_link *)opaque)->owner;
    struct err e;
    (void)rk;
    if (!b->committing) return; /* given up */
    b->committing = false;
    b->commit_us = clock_monotonic_us() - b->commit_started_us;
    if (!code) {
        committed(b, positions);
    } else if (b->joined) {
        kafka_again(&b->link, &e, "committing positions", code);
        want_rewind(b, &e);
    }
}

/* At least once: reports come in, and positions go out, one commit at a time. */
static enum err_kind serve_acks(struct kbus *b, int wait_ms, bool now, struct err *e) {
    ack_serve(b->acks, wait_ms);
    if (b->committing ||
        (!now && clock_monotonic_us() - b->commit_started_us < POSITIONS_EVERY_MS * 1000))
        return ERR_NONE;
    rd_kafka_topic_partition_list_t *positions = ack_take(b->acks, e);
    if (e->kind) return want_rewind(b, e);
    if (!positions) return ERR_NONE;
    b->commit_started_us = clock_monotonic_us();
    rd_kafka_resp_err_t code = rd_kafka_commit(b->rk, positions, 1);
    rd_kafka_topic_partition_list_destroy(positions);
    if (code) return want_rewind(b, (kafka_again(&b->link, e, "committing positions", code), e));
    b->committing = true;
    return ERR_NONE;
}

static bool acks_are_busy(const struct kbus *b) {
    return b->committing || ack_busy(b->acks);
}

static void take_message(struct kbus *b, rd_kafka_message_t *m, const struct bus_limits *l);

/* Rebalances and commit reports; a record that comes with them waits. */
static void serve_consumer(struct kbus *b, int wait_ms) {
    rd_kafka_message_t *m = rd_kafka_consumer_poll(b->rk, wait_ms);
    for (int i = 0; m && i < SERVE_MAX; i++) {
        take_message(b, m, NULL);
        m = rd_kafka_consumer_poll(b->rk, 0);
    }
    if (m) take_message(b, m, NULL);
}

static enum err_kind finish_acks(struct kbus *b, int wait_ms, struct err *e) {
    int64_t begin = now_ms(), deadline = begin + wait_ms;
    while (acks_are_busy(b) && !b->failed.kind) {
        if (now_ms() - begin >= ALIVE_AFTER_MS) park(b); /* or all that comes would wait here */
        if (wait_ms >= 0 && now_ms() > deadline)
            return kafka_again(&b->link, e, "the last positions are not confirmed",
                               RD_KAFKA_RESP_ERR__TIMED_OUT);
        if (serve_acks(b, SERVE_MS, true, e)) return e->kind;
        if (b->committing) serve_consumer(b, 1);
    }
    if (b->failed.kind) *e = b->failed;
    return b->failed.kind;
}

/* The same from inside a rebalance, where the consumer must not be polled: what is acknowledged in
   time is committed, and the rest comes again to the next owner. wait_ms 0: nothing is ours to
   commit any more. */
static void flush_acks(struct kbus *b, int wait_ms) {
    struct err e;
    for (int64_t end = now_ms() + wait_ms; ack_busy(b->acks) && now_ms() < end;) {
        ack_serve(b->acks, SERVE_MS);
        rd_kafka_topic_partition_list_t *positions = ack_take(b->acks, &e);
        if (positions && !rd_kafka_commit(b->rk, positions, 0)) committed(b, positions);
        if (positions) rd_kafka_topic_partition_list_destroy(positions);
        if (e.kind) break;
    }
    if (ack_forget(b->acks, &e)) want_rewind(b, &e);
    b->committing = false;
}

static enum err_kind finish(struct kbus *b, int wait_ms, struct err *e) {
    return b->txns ? finish_txn(b, wait_ms, e) : finish_acks(b, wait_ms, e);
}

/* Positions alone; *positions is taken. They are under way when this returns. */
static enum err_kind send_positions(struct kbus *b, rd_kafka_topic_partition_list_t *positions,
                                    struct err *e) {
    if (b->acks) return ack_send(b->acks, NULL, 0, positions, e);
    if (txn_send(b->txns, NULL, 0, e)) {
        rd_kafka_topic_partition_list_destroy(positions);
        return e->kind;
    }
    txn_commit(b->txns, positions, copy_group(b));
    return ERR_NONE;
}

/* What was polled, and the ends of partitions behind it. */
static rd_kafka_topic_partition_list_t *present_positions(struct kbus *b) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    for (int32_t p = 0; p < b->share_count; p++) {
        struct share *s = &b->shares[p];
        if (!s->mine || s->done <= s->sent) continue;
        rd_kafka_topic_partition_list_add(list, b->conf.in, p)->offset = s->sent = s->done;
    }
    return list;
}

/* Positions. */

static enum err_kind ask_positions(struct kbus *b, rd_kafka_topic_partition_list_t *list,
                                   struct err *e) {
    /* Stable on a read-committed handle: it waits for positions in open transactions. A time-out,
       or an error of one partition, is no answer; it does not mean that nothing was ever committed.
     */
    rd_kafka_resp_err_t code = rd_kafka_committed(b->rk, list, CALL_MS);
    for (int i = 0; i < list->cnt && !code; i++) code = list->elems[i].err;
    int64_t now = now_ms();
    if (!code || kafka_is_down(&b->link)) b->unstable_ms = 0;
    if (!code) return ERR_NONE;
    if (!b->unstable_ms) b->unstable_ms = now;
    /* No transaction lasts so long: it is one that nobody will end, and it may be our own. */
    if (b->txns && now - b->unstable_ms >= UNSTABLE_MS) {
        txn_distrust(b->txns);
        b->unstable_ms = 0;
    }
    return kafka_again(&b->link, e, "asking for committed positions", code);
}

/* The committed position lies beyond the end: a new leader may not know yet how far the log goes.
   When that lasts, the log was cut, or made anew, and what it holds may never have been read; to
   begin where it begins repeats some perhaps, and loses nothing. */
static enum err_kind place_beyond(struct kbus *b, const rd_kafka_topic_partition_t *x, int64_t low,
                                  int64_t high, struct err *e) {
    struct share *s = &b->shares[x->partition];
    if (!s->beyond_ms) s->beyond_ms = now_ms();
    if (now_ms() - s->beyond_ms < BEYOND_MS)
        return err_again(e, "the position %lld of %s[%d] lies beyond its end, %lld",
                         (long long)x->offset, x->topic, x->partition, (long long)high);
    log_error("%s[%d]: the log was cut, or made anew: it ends at offset %lld, and the position was "
              "%lld. All that it holds is read again, from offset %lld",
              x->topic, x->partition, (long long)high, (long long)x->offset, (long long)low);
    s->beyond_ms = 0;
    s->gaps_to = 0;
    s->start = s->next = low;
    set_note(s, NULL, 0); /* of a record that is no more */
    return ERR_NONE;
}

/* Where reading begins. What retention took before it was read is counted and said. */
static enum err_kind place_partition(struct kbus *b, const rd_kafka_topic_partition_t *x,
                                     struct err *e) {
    struct share *s = &b->shares[x->partition];
    int64_t low, high;
    rd_kafka_resp_err_t code =
        rd_kafka_query_watermark_offsets(b->rk, x->topic, x->partition, &low, &high, CALL_MS);
    if (code) return kafka_again(&b->link, e, "asking where a partition begins", code);
    s->start = s->next = x->offset < 0 ? low : x->offset;
    set_note(s, x->metadata, x->metadata_size);
    if (s->next > high) {
        if (place_beyond(b, x, low, high, e)) return e->kind;
    } else {
        s->beyond_ms = 0;
    }
    if (s->next < low) {
        int64_t from = s->next > s->gaps_to ? s->next : s->gaps_to;
        if (from < low) {
            log_warn("%s[%d]: retention deleted offsets %lld to %lld before they were read",
                     x->topic, x->partition, (long long)from, (long long)low - 1);
            b->gaps += (uint64_t)(low - from);
            s->gaps_to = low;
        }
        s->next = low;
    }
    s->done = s->next;
    s->sent = s->start;
    s->at_end = false;
    return ERR_NONE;
}

static enum err_kind place_all(struct kbus *b, const rd_kafka_topic_partition_list_t *list,
                               struct err *e) {
    rd_kafka_topic_partition_list_t *never = rd_kafka_topic_partition_list_new(list->cnt);
    err_clear(e);
    for (int i = 0; i < list->cnt && !e->kind; i++) {
        const rd_kafka_topic_partition_t *x = &list->elems[i];
        if (!place_partition(b, x, e) && x->offset < 0)
            rd_kafka_topic_partition_list_add(never, x->topic, x->partition)->offset =
                b->shares[x->partition].start;
    }
    if (e->kind || !never->cnt) {
        rd_kafka_topic_partition_list_destroy(never);
        return e->kind;
    }
    /* A group that never committed has no lag that anybody could see. */
    return send_positions(b, never, e) ? want_rewind(b, e) : finish(b, COMMIT_MS, e);
}

static enum err_kind place(struct kbus *b, struct err *e) {
    if (!b->joined || b->placed) return ERR_NONE;
    if (finish(b, CALL_MS, e)) return e->kind;
    if (!b->joined || b->placed) return ERR_NONE; /* the group went on meanwhile */
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(b->assigned->cnt);
    for (int i = 0; i < b->assigned->cnt; i++)
        rd_kafka_topic_partition_list_add(list, b->assigned->elems[i].topic,
                                          b->assigned->elems[i].partition);
    uint64_t generation = b->generation;
    enum err_kind kind = ask_positions(b, list, e);
    if (!kind) kind = place_all(b, list, e);
    rd_kafka_topic_partition_list_destroy(list);
    if (kind) return kind;
    kafka_is_up(&b->link);
    if (generation != b->generation) return ERR_NONE;
    if (read_from_next(b, e)) return e->kind;
    b->placed = true;
    b->parked = false;
    return ERR_NONE;
}

static enum err_kind find_topic(struct kbus *b, struct err *e) {
    int count;
    rd_kafka_resp_err_t why;
    if (kafka_partitions(b->rk, &b->link, b->conf.in, CALL_MS, &count, &why, e)) return e->kind;
    kafka_is_up(&b->link);
    return count ? ERR_NONE : kafka_no_topic(&b->link, b->conf.in, why, e);
}

/* What an earlier life left open is ended before the group is joined: nobody has to wait for it. */
static enum err_kind start(struct kbus *b, struct err *e) {
    if (b->started) return ERR_NONE;
    if (find_topic(b, e)) return e->kind;
    if (b->txns && txn_ready(b->txns, CALL_MS, e)) return e->kind;
    char *cluster = rd_kafka_clusterid(b->rk, CALL_MS);
    if (!cluster)
        return kafka_again(&b->link, e, "asking for the cluster's id",
                           RD_KAFKA_RESP_ERR__TIMED_OUT);
    snprintf(b->cluster, sizeof b->cluster, "%s", cluster);
    rd_kafka_mem_free(b->rk, cluster);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, b->conf.in, RD_KAFKA_PARTITION_UA);
    rd_kafka_resp_err_t code = rd_kafka_subscribe(b->rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (code) return kafka_again(&b->link, e, "subscribing", code);
    b->started = true;
    b->asked_ms = now_ms(); /* it has just answered */
    return ERR_NONE;
}

/*
 * A coordinator that loads its groups anew, as 4.3 does after a crash when it finds itself out of
 * step with its log, never answers who waits to join; the client waits for that answer as long as
 * max.poll.interval.ms. So where a broker answers everything else but that, the process begins
 * anew: the client has no other way to ask again.
 */
static enum err_kind watch_join(struct kbus *b, struct err *e) {
    int64_t now = now_ms(), silent = now - b->asked_ms;
    if (b->joined || b->refused.kind) {
        b->answers_ms = 0;
        b->asked_ms = now;
        return ERR_NONE;
    }
    if (silent < JOIN_ASK_MS) return ERR_NONE;
    b->asked_ms = now;
    if (find_topic(b, e)) {
        b->answers_ms = 0;
        return e->kind;
    }
    /* Not asked in between: it was away, or somebody had stopped us. */
    if (!b->answers_ms || silent > 2 * JOIN_ASK_MS) b->answers_ms = now;
    if (now - b->answers_ms < JOIN_MS) return ERR_NONE;
    return err_fatal(e,
                     "Kafka's group %.120s has not let us in for %d s, though the broker answers: "
                     "beginning anew",
                     b->conf.group, JOIN_MS / 1000);
}

/* Records. */

static void on_message_error(struct kbus *b, const rd_kafka_message_t *m) {
    struct err e;
    switch (m->err) {
    case RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED: /* a rebalance follows */
        log_warn("kafka: %s", rd_kafka_message_errstr(m));
        return;
    case RD_KAFKA_RESP_ERR__FATAL:
        err_fatal(&e, "Kafka's consumer: %.200s", rd_kafka_message_errstr(m));
        break;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE: /* placing it anew begins where the partition does
                                                 */
        err_again(&e, "%s[%d]: the position is out of the range of what is kept", b->conf.in,
                  m->partition);
        break;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        kafka_no_topic(&b->link, b->conf.in, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, &e);
        break;
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        kafka_again(&b->link, &e,
                    m->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ? b->conf.group
                                                                           : b->conf.in,
                    m->err);
        b->refused = e;
        break;
    default: kafka_again(&b->link, &e, b->conf.in, m->err);
    }
    want_rewind(b, &e);
}

static bool fits(const struct kbus *b, const struct record *r, const struct bus_limits *l) {
    size_t n = b->polled.count;
    return l && n < l->max_records && (!n || b->polled_bytes + kafka_payload(r) <= l->max_bytes);
}

static void give(struct kbus *b, struct record r, rd_kafka_message_t *m) {
    pile_add(&b->polled, r, m);
    b->polled_bytes += kafka_payload(&r);
    b->shares[r.partition].done = r.offset + 1;
}

/* l NULL: nothing may be given to the caller now. */
static void take_message(struct kbus *b, rd_kafka_message_t *m, const struct bus_limits *l) {
    struct share *s = b->placed ? share_of(b, m->partition) : NULL;
    if (!m->err || m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) err_clear(&b->refused);
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        /* Behind the markers. It is a position only when all that stands before it has been given
         * out. */
        if (s && m->offset >= s->next) {
            s->next = m->offset;
            s->at_end = pile_is_empty(&b->waiting);
            if (s->at_end) s->done = m->offset;
        }
    } else if (m->err) {
        on_message_error(b, m);
    } else if (s && m->offset >= s->next) {
        struct header *headers;
        struct record r = kafka_record(m, b->conf.in, &headers);
        s->next = m->offset + 1;
        s->at_end = false;
        if (pile_is_empty(&b->waiting) && fits(b, &r, l))
            give(b, r, m);
        else
            pile_add(&b->waiting, r, m);
        return;
    }
    rd_kafka_message_destroy(m);
}

static void give_waiting(struct kbus *b, const struct bus_limits *l) {
    struct pile *w = &b->waiting;
    for (; !pile_is_empty(w) && fits(b, &w->records[w->from], l); w->from++)
        give(b, w->records[w->from], w->messages[w->from]);
    if (pile_is_empty(w)) w->from = w->count = 0;
}

static bool is_full(const struct kbus *b, const struct bus_limits *l) {
    return !pile_is_empty(&b->waiting) || b->polled.count >= l->max_records ||
           b->polled_bytes >= l->max_bytes;
}

static enum err_kind collect(struct kbus *b, const struct bus_limits *l, struct err *e) {
    int64_t deadline = now_ms() + (b->refused.kind ? REFUSED_MS : l->wait_ms);
    size_t before = b->polled.count;
    uint64_t generation = b->generation;
    while (!is_full(b, l)) {
        bool got = generation == b->generation && b->polled.count > before;
        int wait = got ? 0 : left_ms(deadline);
        if (b->acks && acks_are_busy(b) && wait > SERVE_MS) wait = SERVE_MS;
        rd_kafka_message_t *m = rd_kafka_consumer_poll(b->rk, wait);
        if (m) take_message(b, m, l);
        if (b->failed.kind) {
            *e = b->failed;
            return e->kind;
        }
        if (generation != b->generation) {
            generation = b->generation;
            before = 0;
        }
        if (place(b, e)) return e->kind;
        if (m) continue;
        if (b->acks && serve_acks(b, 0, false, e)) return e->kind;
        if (got || now_ms() >= deadline) break;
    }
    return ERR_NONE;
}

/* Before 2.2 librdkafka sleeps for up to a second when it finds its queue full, whatever is taken
   from the queue meanwhile. Any request to the partitions' leaders ends that: they are asked for the
   ends, and the answer is not waited for. */
static void wake_fetcher(struct kbus *b) {
    int64_t now = now_ms();
    bool more = false;
    for (int32_t p = 0; p < b->share_count; p++)
        more = more || (b->shares[p].mine && !b->shares[p].at_end);
    if (!more || rd_kafka_version() >= 0x02020000 || now - b->woken_ms < WAKE_EVERY_MS) return;
    b->woken_ms = now;
    rd_kafka_topic_partition_list_t *ends = rd_kafka_topic_partition_list_copy(b->assigned);
    for (int i = 0; i < ends->cnt; i++) ends->elems[i].offset = RD_KAFKA_OFFSET_END;
    (void)rd_kafka_offsets_for_times(b->rk, ends, 0);
    rd_kafka_topic_partition_list_destroy(ends);
}

static bool is_idle(const struct kbus *b) {
    if (!b->placed || b->polled.count || !pile_is_empty(&b->waiting)) return false;
    if (b->txns ? txn_busy(b->txns) : acks_are_busy(b)) return false;
    if (now_ms() - b->handed_ms < IDLE_MS) return false;
    for (int32_t p = 0; p < b->share_count; p++)
        if (b->shares[p].mine && !b->shares[p].at_end) return false;
    return true;
}

static enum err_kind commit_ends(struct kbus *b, struct err *e) {
    if (!is_idle(b)) return ERR_NONE;
    rd_kafka_topic_partition_list_t *ends = present_positions(b);
    if (ends->cnt) return send_positions(b, ends, e) ? want_rewind(b, e) : ERR_NONE;
    rd_kafka_topic_partition_list_destroy(ends);
    return ERR_NONE;
}

/* Without partitions there is nothing that could tell, and the topic itself is asked for. */
static enum err_kind is_refused(struct kbus *b, struct err *e) {
    *e = b->refused;
    if (!b->joined || b->assigned->cnt || find_topic(b, e)) return e->kind;
    err_clear(&b->refused);
    err_clear(e);
    return ERR_NONE;
}

static enum err_kind kafka_poll(struct bus *base, const struct bus_limits *l, struct records *r,
                                struct err *e) {
    struct kbus *b = kbus(base);
    *r = (struct records){.generation = b->generation};
    pile_clear(&b->old);
    b->poll_ms = now_ms();
    if (!b->failed.kind && b->txns) (void)take_outcome(b, 0, e);
    if (b->failed.kind) {
        *e = b->failed;
        return e->kind;
    }
    if (start(b, e) || watch_join(b, e) || place(b, e)) return e->kind;
    give_waiting(b, l);
    if (!is_full(b, l)) {
        if (b->parked && read_from_next(b, e)) return want_rewind(b, e);
        b->parked = false;
        if (collect(b, l, e) || commit_ends(b, e)) return e->kind;
        if (b->placed && b->polled.count) wake_fetcher(b);
        b->open_ms = now_ms();
    } else if (now_ms() - b->open_ms >= ALIVE_AFTER_MS) {
        park(b);
        serve_consumer(b, 0);
        if (b->acks && !b->failed.kind) (void)!serve_acks(b, 0, false, e);
        if (b->failed.kind) {
            *e = b->failed;
            return e->kind;
        }
    }
    b->poll_ms = now_ms();
    if (!b->polled.count && kafka_is_down(&b->link))
        return want_rewind(
            b, (kafka_again(&b->link, e, "polling", RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN), e));
    if (!b->polled.count && b->refused.kind && is_refused(b, e)) return want_rewind(b, e);
    if (!b->polled.count && b->txns && txn_in_doubt(b->txns)) {
        err_again(e, "the broker was away behind a commit: what came of it is looked up");
        return want_rewind(b, e);
    }
    *r = (struct records){b->polled.records, b->polled.count, b->polled_bytes, is_full(b, l),
                          b->generation};
    return ERR_NONE;
}

static enum err_kind lost(struct kbus *b, struct err *e) {
    err_again(e, "the group took the partitions of %s away", b->conf.in);
    return want_rewind(b, e);
}

/* Ready for the next work on the lane: the last one is definite, and the partitions are ours. */
static enum err_kind get_turn(struct kbus *b, struct err *e) {
    pile_clear(&b->old);
    if (b->failed.kind) {
        *e = b->failed;
        return e->kind;
    }
    if (!b->placed) return lost(b, e);
    if (b->txns && finish_txn(b, COMMIT_MS, e)) return want_rewind(b, e);
    return ERR_NONE;
}

static enum err_kind kafka_hand_over(struct bus *base, const struct record *out, size_t n,
                                     struct err *e) {
    struct kbus *b = kbus(base);
    if (get_turn(b, e)) return e->kind;
    /* Nothing of this hand-over reaches the broker before the commit of the last one has succeeded,
       or the order of outputs could turn round. */
    if (b->txns) {
        enum err_kind kind = txn_send(b->txns, out, n, e);
        if (kind == ERR_BAD) return kind;
        if (kind) {
            txn_abort(b->txns);
            return want_rewind(b, e);
        }
        txn_commit(b->txns, present_positions(b), copy_group(b));
    } else {
        int64_t *sent = mem_alloc(((size_t)b->share_count + 1) * sizeof *sent);
        for (int32_t p = 0; p < b->share_count; p++) sent[p] = b->shares[p].sent;
        enum err_kind kind = ack_send(b->acks, out, n, present_positions(b), e);
        for (int32_t p = 0; p < b->share_count && kind; p++) b->shares[p].sent = sent[p];
        free(sent);
        if (kind == ERR_BAD) return kind;
        if (kind || serve_acks(b, 0, false, e)) return want_rewind(b, e);
    }
    pile_clear(&b->polled);
    b->polled_bytes = 0;
    b->handed_ms = now_ms();
    return ERR_NONE;
}

static bool kafka_busy(const struct bus *base) {
    const struct kbus *b = (const struct kbus *)base;
    return b->txns ? txn_busy(b->txns) : acks_are_busy(b);
}

static enum err_kind kafka_settle(struct bus *base, int wait_ms, struct err *e) {
    struct kbus *b = kbus(base);
    if (b->failed.kind) {
        *e = b->failed;
        return e->kind;
    }
    return finish(b, wait_ms, e);
}

static enum err_kind kafka_rewind(struct bus *base, struct err *e) {
    struct kbus *b = kbus(base);
    pile_clear(&b->old);
    if (b->failed.kind == ERR_FATAL) {
        *e = b->failed;
        return e->kind;
    }
    /* A hand-over that is done is worth keeping; one that fails is what the rewind is for. */
    if (b->txns && take_outcome(b, CALL_MS, e) == TXN_BUSY) return not_confirmed(b, e);
    if (b->acks && ack_forget(b->acks, e)) return e->kind;
    for (int64_t end = now_ms() + CALL_MS; b->committing && now_ms() < end;)
        serve_consumer(b, SERVE_MS);
    b->committing = false;
    if (forgive(b, e)) return e->kind;
    forget(b);
    known_forget(&b->known);
    b->answers_ms = 0;
    if (!b->started) return start(b, e);
    if (b->txns && txn_ready(b->txns, CALL_MS, e)) return e->kind;
    if (kafka_is_down(&b->link) && find_topic(b, e)) return e->kind;
    if (b->joined && b->assigned->cnt) {
        b->placed = b->parked = false;
        read_nothing(b);
    }
    serve_consumer(b, 0); /* a rebalance that waits: it may be why */
    return forgive(b, e) ? e->kind : place(b, e);
}

static enum err_kind kafka_alive(struct bus *base, struct err *e) {
    struct kbus *b = kbus(base);
    int64_t now = now_ms();
    if (now - b->served_ms < ALIVE_EVERY_MS && !b->failed.kind) return ERR_NONE;
    b->served_ms = now;
    if (b->acks && !b->failed.kind) (void)!serve_acks(b, 0, false, e);
    if (b->txns && !b->failed.kind) (void)take_outcome(b, 0, e);
    if (!b->failed.kind && b->started && now - b->poll_ms >= ALIVE_AFTER_MS) {
        bool had = b->polled.count;
        uint64_t generation = b->generation;
        park(b);
        serve_consumer(b, 0);
        if (had && generation != b->generation) return lost(b, e);
    }
    if (b->failed.kind) *e = b->failed;
    return b->failed.kind;
}

static enum err_kind kafka_mark(struct bus *base, int32_t partition, const char *note,
                                struct err *e) {
    struct kbus *b = kbus(base);
    if (get_turn(b, e)) return e->kind;
    if (b->acks && finish_acks(b, COMMIT_MS, e)) return want_rewind(b, e);
    struct share *s = share_of(b, partition);
    if (!s) return lost(b, e);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *x = rd_kafka_topic_partition_list_add(list, b->conf.in, partition);
    x->offset = s->start;
    x->metadata = mem_copy(note, strlen(note));
    x->metadata_size = strlen(note);
    if (b->txns) {
        if (send_positions(b, list, e)) return want_rewind(b, e);
        return finish_txn(b, COMMIT_MS, e) ? want_rewind(b, e) : ERR_NONE;
    }
    rd_kafka_resp_err_t code = rd_kafka_commit(b->rk, list, 0);
    if (code)
        want_rewind(b, (kafka_again(&b->link, e, "committing a note", code), e));
    else
        committed(b, list);
    rd_kafka_topic_partition_list_destroy(list);
    return b->failed.kind;
}

static const char *kafka_note(const struct bus *base, int32_t partition) {
    const struct kbus *b = (const struct kbus *)base;
    const struct share *s = share_of(b, partition);
    return s && b->placed ? s->note : NULL;
}

static int64_t kafka_start(const struct bus *base, int32_t partition) {
    const struct kbus *b = (const struct kbus *)base;
    const struct share *s = share_of(b, partition);
    return s && b->placed ? s->start : -1;
}

/* A topic that is missing ends a command; a stage waits for it. */
static enum err_kind watch_failed(struct err *e) {
    return e->kind = ERR_AGAIN;
}

static enum err_kind kafka_watch_poll(struct bus *base, struct record *r, bool *got,
                                      struct err *e) {
    struct kbus *b = kbus(base);
    *got = false;
    return b->watch && reader_poll(b->watch, 0, r, got, e) ? watch_failed(e) : ERR_NONE;
}

static enum err_kind kafka_watch_end(struct bus *base, bool *at_end, struct err *e) {
    struct kbus *b = kbus(base);
    *at_end = true;
    return b->watch && reader_at_end(b->watch, at_end, e) ? watch_failed(e) : ERR_NONE;
}

static enum err_kind kafka_topic_exists(struct bus *base, const char *topic, bool *exists,
                                        struct err *e) {
    struct kbus *b = kbus(base);
    return known_ask(&b->known, b->rk, &b->link, topic, exists, e) ? want_rewind(b, e) : ERR_NONE;
}

static void kafka_state(const struct bus *base, struct bus_state *s) {
    const struct kbus *b = (const struct kbus *)base;
    *s = (struct bus_state){
        .joined = b->joined && b->placed,
        .commits = b->commits,
        .aborts = b->aborts,
        .gaps = b->gaps,
        .commit_us = b->commit_us,
    };
    bool known = s->joined;
    for (int32_t p = 0; p < b->share_count && s->joined; p++) {
        int64_t low, high = -1;
        if (!b->shares[p].mine) continue;
        s->partitions++;
        rd_kafka_get_watermark_offsets(b->rk, b->conf.in, p, &low, &high);
        if (high < 0)
            known = false;
        else if (high > b->shares[p].start)
            s->lag += high - b->shares[p].start;
    }
    if (!known) s->lag = -1;
}

static const char *kafka_cluster(const struct bus *base) {
    return ((const struct kbus *)base)->cluster;
}

static void kafka_close(struct bus *base) {
    struct kbus *b = kbus(base);
    struct err ignored;
    if (b->rk && !b->failed.kind && (b->txns || b->acks)) (void)!finish(b, CLOSE_MS, &ignored);
    b->closing = true;
    txn_close(b->txns, 0);
    ack_close(b->acks);
    b->txns = NULL;
    b->acks = NULL;
    reader_close(b->watch);
    pile_free(&b->polled); /* a message that is held would hang the close */
    pile_free(&b->waiting);
    pile_free(&b->old);
    if (b->rk) rd_kafka_consumer_close(b->rk);
    drop_assignment(b);
    if (b->rk) rd_kafka_destroy(b->rk);
    known_forget(&b->known);
    free(b->shares);
    kafka_link_close(&b->link);
    free((void *)b->conf.properties);
    free((void *)b->conf.out);
    arena_free(&b->texts);
    free(b);
}

static const struct bus_ops ops = {
    .poll = kafka_poll,
    .hand_over = kafka_hand_over,
    .settle = kafka_settle,
    .busy = kafka_busy,
    .rewind = kafka_rewind,
    .alive = kafka_alive,
    .mark = kafka_mark,
    .note = kafka_note,
    .start = kafka_start,
    .watch_poll = kafka_watch_poll,
    .watch_end = kafka_watch_end,
    .topic_exists = kafka_topic_exists,
    .state = kafka_state,
    .cluster = kafka_cluster,
    .close = kafka_close,
};

static const char *copy(struct kbus *b, const char *text) {
    return text ? arena_text(&b->texts, bytes_of(text)) : NULL;
}

static void copy_conf(struct kbus *b, const struct bus_conf *conf) {
    b->conf = *conf;
    b->conf.group = copy(b, conf->group);
    b->conf.instance = copy(b, conf->instance);
    b->conf.in = copy(b, conf->in);
    b->conf.watch = copy(b, conf->watch);
    struct bus_property *list = mem_zeroed(conf->property_count + 1, sizeof *list);
    for (size_t i = 0; i < conf->property_count; i++)
        list[i] = (struct bus_property){copy(b, conf->properties[i].name),
                                        copy(b, conf->properties[i].value)};
    b->conf.properties = list;
    const char **out = mem_zeroed(conf->out_count + 1, sizeof *out);
    for (size_t i = 0; i < conf->out_count; i++) out[i] = copy(b, conf->out[i]);
    b->conf.out = out;
}

static rd_kafka_t *make_consumer(struct kbus *b, struct err *e) {
    /* What waits in the client is bounded in bytes; the count has to be out of the way, or fetching
       stops and starts by the second. */
    char kbytes[32], fetch[32];
    int64_t most = b->conf.queue_bytes / 1024;
    snprintf(kbytes, sizeof kbytes, "%lld",
             (long long)(most < 1024      ? 1024
                         : most > 2097151 ? 2097151
                                          : most));
    snprintf(fetch, sizeof fetch, "%lld",
             (long long)(most < 1024    ? 1024
                         : most > 51200 ? 51200
                                        : most) *
                 1024);
    const struct bus_property defaults[] = {
        {"isolation.level", "read_committed"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"enable.partition.eof", "true"},
        {"partition.assignment.strategy", "range,roundrobin"},
        {"session.timeout.ms", "8000"},
        {"heartbeat.interval.ms", "2000"},
        {"max.poll.interval.ms", "300000"},
        /* What comes is answered at once; only a partition that is new, or goes on after a pause, waits so
           long for the fetch under way. Shorter, and an idle fleet keeps its broker busy. */
        {"fetch.wait.max.ms", "250"},
        {"fetch.error.backoff.ms", "50"},
        {"fetch.queue.backoff.ms", "20"},
        {"queued.min.messages", "1000000"},
        {"queued.max.messages.kbytes", kbytes},
        {"fetch.max.bytes", fetch},
        {"reconnect.backoff.ms", "50"},
        {"reconnect.backoff.max.ms", "1000"},
        {"topic.metadata.refresh.interval.ms", "10000"},
        {"socket.nagle.disable", "true"},
        {NULL, NULL},
    };
    static const struct kafka_rule rules[] = {
        {"isolation.level", "read_committed"},
        {"enable.auto.commit", "false"},
        {"auto.commit.enable", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"enable.partition.eof", "true"},
        {"group.id", NULL},
        {"group.protocol", "classic"},
        /* the producers' too: a wrong one is named once, whichever handle is made first */
        {"transactional.id", NULL},
        {"enable.idempotence", "true"},
        {NULL, NULL},
    };
    rd_kafka_conf_t *conf = kafka_conf_make(&b->link, RD_KAFKA_CONSUMER, defaults,
                                            b->conf.properties, b->conf.property_count, rules, e);
    if (!conf) return NULL;
    kafka_set(conf, "group.id", b->conf.group);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_offset_commit_cb(conf, on_commit);
    rd_kafka_t *rk = kafka_make(RD_KAFKA_CONSUMER, conf, e);
    if (rk) rd_kafka_poll_set_consumer(rk);
    return rk;
}

struct bus *bus_open_kafka(const struct bus_conf *conf, struct err *e) {
    struct kbus *b = mem_zeroed(1, sizeof *b);
    b->base.ops = &ops;
    copy_conf(b, conf);
    kafka_link_open(&b->link, b, b->conf.properties, b->conf.property_count);
    err_clear(e);
    if (conf->lanes < 1 || conf->lanes > 2) err_fatal(e, "lanes is 1 or 2");
    if (!e->kind) b->rk = make_consumer(b, e);
    if (!e->kind && conf->delivery == BUS_EXACTLY_ONCE) b->txns = txn_open(&b->conf, &b->link, e);
    if (!e->kind && conf->delivery == BUS_AT_LEAST_ONCE) b->acks = ack_open(&b->conf, &b->link, e);
    if (!e->kind && conf->watch)
        b->watch = reader_open(b->conf.properties, b->conf.property_count, conf->watch,
                               READER_BEGINNING, e);
    if (!e->kind) return &b->base;
    kafka_close(&b->base);
    return NULL;
}
