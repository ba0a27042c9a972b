/*
 * kafka_txn.c: transactions and their outcome.
 *
 * A commit has to end definitely: while the broker does not answer, the same call is made again,
 * until it has succeeded, has been refused (then the transaction is aborted), or has turned fatal.
 * Fatal is what a broker's absence beyond transaction.timeout.ms leaves behind: the producers are
 * dropped, and txn_ready makes them anew. Fenced again and again right after that means that
 * somebody else uses the ids.
 *
 * An end is not believed while a broker died: one that comes up again may say that it is done, and
 * have written no marker (kafka_heal.c), or not all of them (kafka_torn.c). The producers are made anew
 * then as well, and what holds is what the group's positions say afterwards. The same may have become
 * of the last commit, whose markers were still being written when it was told: where a connection fails
 * soon behind it, nothing is begun or committed any more that would stand on it.
 */
#define _POSIX_C_SOURCE 200809L
#include "lib/bus/kafka_txn.h"

#include "lib/bus/kafka_heal.h"
#include "lib/bus/kafka_torn.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LANES = 2,
    CALL_MS = 2000,
    ROOM_MS = 5000, /* in the sending queue; well inside transaction.timeout.ms */
    FENCED_SOON_MS = 30000,
};

enum work { NOTHING, COMMIT, ABORT };

struct lane {
    rd_kafka_t *rk;
    bool ready;
};

struct txns {
    const struct bus_conf *conf;
    struct kafka_link *link;
    struct kafka_limits limits;
    const char **met; /* topics in which nothing of an earlier life is open; in `texts` */
    size_t met_count;
    struct arena texts;
    struct lane lanes[LANES];
    int count, turn;
    bool clean; /* the lanes are ready, and no earlier life holds the group's positions */
    bool begun; /* txn_send was called, and not yet txn_commit or txn_abort */
    int64_t made_ms;
    int64_t committed_us; /* the last success */
    int fenced_soon;

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock: the work, and its outcome */
    enum work work;
    enum txn_outcome outcome; /* TXN_BUSY while there is none */
    bool busy, stop, dead;    /* dead: the producers have to be made anew */
    rd_kafka_resp_err_t died_of;
    rd_kafka_topic_partition_list_t *positions;
    rd_kafka_consumer_group_metadata_t *group;
    struct err why;
    int64_t us;
};

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    struct kafka_link *link = opaque;
    (void)rk;
    if (m->err)
        kafka_not_delivered(link, rd_kafka_topic_name(m->rkt), kafka_message_payload(m),
                            kept_is_alone(m), m->err);
    else
        kept_delivered(link->kept, m);
}

static rd_kafka_t *make_lane(struct txns *t, int i, struct err *e) {
    rd_kafka_conf_t *conf = kafka_producer_conf(
        t->link, t->conf->properties, t->conf->property_count, t->conf->queue_bytes, 2, e);
    struct buf id = {0};
    if (!conf) return NULL;
    buf_printf(&id, "%s.%s.%d", t->conf->group, t->conf->instance, i);
    kafka_set(conf, "transactional.id", id.data);
    buf_free(&id);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    return kafka_make(RD_KAFKA_PRODUCER, conf, e);
}

static void drop_lanes(struct txns *t) {
    for (int i = 0; i < t->count; i++) {
        struct lane *l = &t->lanes[i];
        if (!l->rk) continue;
        rd_kafka_purge(l->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                  RD_KAFKA_PURGE_F_NON_BLOCKING);
        rd_kafka_destroy(l->rk);
        *l = (struct lane){0};
    }
    t->met_count = 0;
    arena_reset(&t->texts);
}

static bool stopping(struct txns *t) {
    pthread_mutex_lock(&t->lock);
    bool stop = t->stop;
    pthread_mutex_unlock(&t->lock);
    return stop;
}

/* *asked (NULL: nobody wants to know): it is asked more than once. */
static bool ask_again(struct txns *t, rd_kafka_error_t *error, bool *asked) {
    if (!error || !rd_kafka_error_is_retriable(error) || stopping(t)) return false;
    log_debug("kafka: %s; asking again", rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    if (asked) *asked = true;
    return true;
}

static rd_kafka_error_t *send_positions(struct txns *t, rd_kafka_t *rk) {
    rd_kafka_error_t *error;
    do error = rd_kafka_send_offsets_to_transaction(rk, t->positions, t->group, CALL_MS);
    while (ask_again(t, error, NULL));
    return error;
}

static rd_kafka_error_t *commit(struct txns *t, rd_kafka_t *rk, bool *asked) {
    rd_kafka_error_t *error;
    do error = rd_kafka_commit_transaction(rk, CALL_MS);
    while (ask_again(t, error, asked));
    return error;
}

static rd_kafka_error_t *abort_(struct txns *t, rd_kafka_t *rk, bool *asked) {
    rd_kafka_error_t *error;
    do error = rd_kafka_abort_transaction(rk, CALL_MS);
    while (ask_again(t, error, asked));
    return error;
}

/* Sends what is queued, until it is all acknowledged or given up. */
static void flush(struct txns *t, rd_kafka_t *rk) {
    while (rd_kafka_flush(rk, CALL_MS) && !stopping(t)) continue;
}

/* A broker may have died since the last commit, and with it markers of that or of what comes now. */
static bool in_doubt(struct txns *t) {
    for (int i = 0; i < t->count; i++) rd_kafka_poll(t->lanes[i].rk, 0); /* it says so there */
    return kafka_failed_us(t->link) != 0;
}

/* A connection that failed when nothing was under way tells of no lost marker. */
static void forgive_failure(struct txns *t) {
    int64_t at = in_doubt(t) ? kafka_failed_us(t->link) : 0;
    if (at && at - t->committed_us > KEPT_CERTAIN_MS * 1000LL) kafka_forget_failure(t->link);
}

bool txn_in_doubt(struct txns *t) {
    if (t->busy || !t->clean) return false; /* it is asked then anyway */
    forgive_failure(t);
    return kafka_failed_us(t->link) != 0;
}

void txn_distrust(struct txns *t) {
    t->dead = true;
}

static void *run(void *arg) {
    struct txns *t = arg;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->work == NOTHING && !t->stop) pthread_cond_wait(&t->changed, &t->lock);
        if (t->work == NOTHING) break;
        enum work work = t->work;
        rd_kafka_t *rk = t->lanes[t->turn].rk;
        pthread_mutex_unlock(&t->lock);

        int64_t start = clock_monotonic_us();
        bool dead = false, asked = false, doubtful = false, decided = false;
        rd_kafka_resp_err_t died_of = RD_KAFKA_RESP_ERR_NO_ERROR;
        rd_kafka_error_t *error = NULL;
        struct err why = {0};
        forgive_failure(t);
        if (work == COMMIT) {
            error = t->positions->cnt ? send_positions(t, rk) : NULL;
            if (!error) flush(t, rk);
            doubtful = !error && in_doubt(t);
            decided = !error && !doubtful;
            if (decided) kept_asked(t->link->kept, t->positions);
            if (decided) error = commit(t, rk, &asked);
            if (decided && !error) kept_told(t->link->kept);
        }
        if (error) {
            rd_kafka_resp_err_t lost = kafka_undelivered(t->link);
            dead = rd_kafka_error_is_fatal(error);
            if (dead) died_of = rd_kafka_error_code(error);
            kafka_again_error(t->link, &why, "the commit", error);
            if (lost) kafka_again_sending(t->link, &why, lost);
        }
        if (work == ABORT || (error && !dead)) {
            rd_kafka_error_t *failed = abort_(t, rk, &asked);
            if (failed) {
                dead = true; /* whatever it is, a new producer aborts what stands open */
                rd_kafka_error_destroy(failed);
            }
        }
        if (!decided || (error && !dead)) kept_dropped(t->link->kept);
        doubtful = !dead && (doubtful || asked || in_doubt(t));
        if (doubtful && !why.kind)
            err_again(&why, "the broker was away during a commit: what came of it is looked up");

        pthread_mutex_lock(&t->lock);
        t->outcome = work == COMMIT && !error && !doubtful ? TXN_COMMITTED : TXN_ABORTED;
        if (work == COMMIT) t->why = why; /* an abort was asked for, and t->why says why */
        t->us = clock_monotonic_us() - start;
        if (t->outcome == TXN_COMMITTED) t->committed_us = clock_monotonic_us();
        t->dead = t->dead || dead || doubtful;
        t->died_of = died_of;
        t->work = NOTHING;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

struct txns *txn_open(const struct bus_conf *conf, struct kafka_link *link, struct err *e) {
    struct txns *t = mem_zeroed(1, sizeof *t);
    pthread_condattr_t monotonic;
    t->conf = conf;
    t->link = link;
    t->count = conf->lanes;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&t->thread, NULL, run, t)) {
        err_fatal(e, "no thread for the commits");
        free(t);
        return NULL;
    }
    link->kept = kept_open();
    for (int i = 0; i < t->count; i++) {
        t->lanes[i].rk = make_lane(t, i, e);
        if (t->lanes[i].rk) continue;
        txn_close(t, 0);
        return NULL;
    }
    return t;
}

struct start {
    pthread_t thread;
    bool alone; /* there is no thread for it */
    rd_kafka_t *rk;
    int wait_ms;
    rd_kafka_error_t *error;
};

static void *start_lane(void *arg) {
    struct start *s = arg;
    s->error = rd_kafka_init_transactions(s->rk, s->wait_ms);
    return NULL;
}

static bool has_met(const struct txns *t, const char *topic) {
    for (size_t i = 0; i < t->met_count; i++)
        if (!strcmp(t->met[i], topic)) return true;
    return false;
}

/* Ends what earlier lives of the lanes left open in these topics, and of the positions of `in` (NULL:
   none). Topics that could be looked at are met. No transaction is under way. */
static enum err_kind heal(struct txns *t, const char *const *topics, size_t n, const char *in,
                          int wait_ms, struct err *e) {
    rd_kafka_topic_partition_list_t *open = rd_kafka_topic_partition_list_new(1);
    bool *seen = mem_zeroed(n, sizeof *seen);
    enum err_kind kind =
        heal_find(t->lanes[0].rk, t->link, t->conf, topics, n, wait_ms, open, seen, e);
    for (int i = 0; i < t->count && !kind; i++)
        kind = heal_end(t->lanes[i].rk, t->link, t->conf->group, in, open, wait_ms, &t->dead,
                        &t->died_of, e);
    for (size_t i = 0; i < n && !kind; i++) {
        if (!seen[i] || has_met(t, topics[i])) continue;
        t->met = mem_resize(t->met, (t->met_count + 1) * sizeof *t->met);
        t->met[t->met_count++] = arena_text(&t->texts, bytes_of(topics[i]));
    }
    rd_kafka_topic_partition_list_destroy(open);
    free(seen);
    return kind;
}

/* What stands open is ended, and what a broker's death has torn is made good. */
static enum err_kind make_clean(struct txns *t, int wait_ms, struct err *e) {
    struct kept *kept = t->link->kept;
    const char **topics = mem_alloc((t->conf->out_count + 1) * sizeof *topics);
    size_t n = t->conf->out_count;
    for (size_t i = 0; i < n; i++) topics[i] = t->conf->out[i];
    kept_topics(kept, &topics, &n);
    bool completed = false;
    if (!torn_look(kept, t->link, t->conf, wait_ms, e) &&
        !heal(t, topics, n, t->conf->in, wait_ms, e) &&
        !torn_mend(kept, t->lanes[0].rk, t->link, t->conf, wait_ms, &completed, &t->dead, e) &&
        completed)
        t->committed_us = clock_monotonic_us();
    free(topics);
    return e->kind;
}

/* The producers died. Again and again, soon after they were made: somebody else takes their ids. */
static enum err_kind fenced(struct txns *t, struct err *e) {
    if (!t->died_of || kafka_is_forbidden(t->died_of)) return e->kind;
    int64_t now = clock_monotonic_us() / 1000;
    t->fenced_soon = now - t->made_ms < FENCED_SOON_MS ? t->fenced_soon + 1 : 0;
    if (t->fenced_soon < 2) return e->kind;
    return err_again(e, "another process uses the instance name %s: give each its own --instance",
                     t->conf->instance);
}

enum err_kind txn_ready(struct txns *t, int wait_ms, struct err *e) {
    struct start starts[LANES] = {0};
    bool failed = false;
    char what[160];
    snprintf(what, sizeof what, "initialising the producers of %s.%s", t->conf->group,
             t->conf->instance);
    kafka_limits_free(&t->limits); /* it is a new start: they may have changed */
    if (t->clean && txn_in_doubt(t)) t->dead = true;
    if (t->dead) {
        drop_lanes(t);
        t->clean = false;
    }
    t->dead = false;
    t->died_of = RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = 0; i < t->count; i++)
        if (!t->lanes[i].rk && !(t->lanes[i].rk = make_lane(t, i, e))) return e->kind;
    /* In parallel: after a kill each takes as long as the broker needs to abort what was left open.
     */
    for (int i = 0; i < t->count; i++) {
        starts[i] = (struct start){.rk = t->lanes[i].rk, .wait_ms = wait_ms};
        if (t->lanes[i].ready) continue;
        starts[i].alone = pthread_create(&starts[i].thread, NULL, start_lane, &starts[i]);
        if (starts[i].alone) start_lane(&starts[i]);
    }
    for (int i = 0; i < t->count; i++) {
        if (t->lanes[i].ready) continue;
        if (!starts[i].alone) pthread_join(starts[i].thread, NULL);
        t->lanes[i].ready = !starts[i].error;
        if (!starts[i].error) continue;
        failed = true;
        t->dead = t->dead || rd_kafka_error_is_fatal(starts[i].error);
        t->died_of = rd_kafka_error_code(starts[i].error);
        kafka_again_error(t->link, e, what, starts[i].error);
    }
    if (!failed && !t->clean) {
        kafka_forget_failure(t->link); /* of producers that are no more */
        failed = make_clean(t, wait_ms, e);
    }
    if (failed) return t->dead ? fenced(t, e) : e->kind;
    t->clean = true;
    t->made_ms = clock_monotonic_us() / 1000;
    return ERR_NONE;
}

/* An earlier life may have written to any topic that somebody outside named. */
static enum err_kind meet_topics(struct txns *t, struct err *e) {
    const char **strange = NULL;
    size_t n = 0;
    err_clear(e);
    for (size_t i = 0; i < t->limits.count; i++) {
        struct kafka_limit *l = &t->limits.list[i];
        if (!l->met && !(l->met = has_met(t, l->topic))) {
            strange = mem_resize(strange, (n + 1) * sizeof *strange);
            strange[n++] = l->topic;
        }
    }
    if (n) (void)!heal(t, strange, n, NULL, CALL_MS, e);
    for (size_t i = 0; i < n && !e->kind; i++)
        if (!has_met(t, strange[i]))
            kafka_again(t->link, e, strange[i], RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE);
    free(strange);
    return e->kind;
}

enum err_kind txn_send(struct txns *t, const struct record *out, size_t n, struct err *e) {
    rd_kafka_t *rk = t->lanes[t->turn].rk;
    for (size_t i = 0; i < n; i++) {
        size_t known = t->limits.count;
        if (kafka_check_size(&t->limits, rk, t->link, &out[i], n == 1, e)) return e->kind;
        for (int k = 0; k < t->count && known < t->limits.count; k++)
            if (t->lanes[k].rk != rk) kafka_learn_topic(t->lanes[k].rk, out[i].topic);
    }
    if (txn_in_doubt(t)) {
        t->dead = true;
        return err_again(e, "the broker was away behind a commit: what came of it is looked up");
    }
    if (meet_topics(t, e)) return e->kind;
    (void)kafka_undelivered(t->link);
    const struct kept_txn *kept = kept_begin(t->link->kept, t->turn, out, n);
    rd_kafka_error_t *error = rd_kafka_begin_transaction(rk);
    if (error) {
        t->dead = true;
        kept_dropped(t->link->kept);
        return kafka_again_error(t->link, e, "beginning a transaction", error);
    }
    t->begun = true;
    int64_t deadline = clock_monotonic_us() + ROOM_MS * 1000LL;
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t code;
        void *opaque = kept_opaque(kept, i, n == 1);
        while ((code = kafka_produce(rk, &out[i], RD_KAFKA_PARTITION_UA, opaque)) ==
                   RD_KAFKA_RESP_ERR__QUEUE_FULL &&
               clock_monotonic_us() < deadline)
            rd_kafka_poll(rk, 10);
        if (!code) continue;
        kafka_not_delivered(t->link, out[i].topic, kafka_payload(&out[i]), n == 1, code);
        return kafka_again_sending(t->link, e, code);
    }
    return ERR_NONE;
}

static void give_work(struct txns *t, enum work work) {
    pthread_mutex_lock(&t->lock);
    t->work = work;
    t->outcome = TXN_BUSY;
    t->busy = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    t->begun = false;
}

void txn_commit(struct txns *t, rd_kafka_topic_partition_list_t *positions,
                rd_kafka_consumer_group_metadata_t *group) {
    t->positions = positions;
    t->group = group;
    give_work(t, COMMIT);
}

void txn_abort(struct txns *t) {
    if (!t->begun) return;
    err_again(&t->why, "aborted");
    give_work(t, ABORT);
}

bool txn_busy(const struct txns *t) {
    return t->busy;
}

enum txn_outcome txn_wait(struct txns *t, int wait_ms, rd_kafka_topic_partition_list_t **positions,
                          int64_t *us, struct err *e) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&t->lock);
    int late = 0;
    while (t->outcome == TXN_BUSY && wait_ms && !late)
        late = wait_ms < 0 ? pthread_cond_wait(&t->changed, &t->lock)
                           : pthread_cond_timedwait(&t->changed, &t->lock, &until);
    enum txn_outcome outcome = t->outcome;
    pthread_mutex_unlock(&t->lock);
    if (outcome == TXN_BUSY) return outcome;

    t->busy = false;
    t->turn = (t->turn + 1) % t->count;
    if (t->group) kept_group(t->link->kept, t->group);
    t->group = NULL;
    *positions = NULL;
    if (outcome == TXN_COMMITTED) {
        *positions = t->positions;
        *us = t->us;
    } else {
        if (t->positions) rd_kafka_topic_partition_list_destroy(t->positions);
        *e = t->why;
        if (t->dead) fenced(t, e);
    }
    t->positions = NULL;
    return outcome;
}

rd_kafka_t *txn_handle(struct txns *t) {
    return t->lanes[0].rk;
}

void txn_close(struct txns *t, int wait_ms) {
    rd_kafka_topic_partition_list_t *positions = NULL;
    int64_t us;
    struct err ignored;
    if (!t) return;
    txn_abort(t);
    if (t->busy) (void)txn_wait(t, wait_ms, &positions, &us, &ignored);
    if (positions) rd_kafka_topic_partition_list_destroy(positions);
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    if (t->positions) rd_kafka_topic_partition_list_destroy(t->positions);
    if (t->group) rd_kafka_consumer_group_metadata_destroy(t->group);
    drop_lanes(t);
    kept_free(t->link->kept);
    t->link->kept = NULL;
    free(t->met);
    arena_free(&t->texts);
    kafka_limits_free(&t->limits);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}
