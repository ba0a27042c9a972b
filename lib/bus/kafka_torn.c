/*
 * kafka_torn.c: commits that a broker's death has torn.
 *
 * A commit is told before its markers are written, one for each partition of records and one for the
 * positions. A broker that dies between two of them writes the rest when it comes up, or forgets them
 * (kafka_heal.c); what is open then is aborted by the producer's next life. So of one transaction the
 * positions may hold and records be gone, which loses them, or records may stand and the positions be
 * gone, which doubles them.
 *
 * Whatever stands proves that the commit was decided. So: with no trace left of what is kept nothing is
 * done, and its input comes again. With any, it is completed: what is missing is sent again from the
 * copies, and the positions with it, in the order in which the transactions began.
 *
 * Whether a record stands is seen by reading where it was put: what was aborted does not come. Where that
 * cannot be read, for want of the right or because others stand open before it, all is as it was. Whether
 * positions hold is asked before our abort, with no regard to what is pending: what is pending is ours
 * alone, and who owns the partition now waits for it.
 *
 * What this cannot mend: a worker that dies together with the broker takes the copies along.
 */
#include "lib/bus/kafka_torn.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <stdlib.h>
#include <string.h>

enum {
    TRIES = 5,
    POLL_MS = 100,
    WAIT_MS = 60000, /* for others; then it is not looked any more */
};

/* ---- what is left ---- */

static rd_kafka_t *follower(struct kafka_link *link, const struct bus_conf *conf, bool committed,
                            struct err *e) {
    rd_kafka_conf_t *c =
        kafka_follower_conf(link, conf->properties, conf->property_count, committed, e);
    if (!c) return NULL;
    kafka_set(c, "group.id", conf->group); /* a name that we may use; it does not join */
    rd_kafka_t *rk = kafka_make(RD_KAFKA_CONSUMER, c, e);
    if (rk) rd_kafka_poll_set_consumer(rk);
    return rk;
}

static void close_follower(rd_kafka_t *rk) {
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
}

/* A position never goes back: another transaction may have moved it on. */
static void take_what_holds(struct kept_txn *x, rd_kafka_topic_partition_list_t *committed) {
    rd_kafka_topic_partition_list_t *left = rd_kafka_topic_partition_list_new(8);
    for (int i = 0; i < x->positions->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &x->positions->elems[i];
        if (rd_kafka_topic_partition_list_find(committed, p->topic, p->partition)->offset >=
            p->offset)
            continue;
        rd_kafka_topic_partition_t *to =
            rd_kafka_topic_partition_list_add(left, p->topic, p->partition);
        to->offset = p->offset;
        to->metadata = p->metadata_size ? mem_copy(p->metadata, p->metadata_size) : NULL;
        to->metadata_size = p->metadata_size;
    }
    x->held = x->held || (x->positions->cnt && !left->cnt);
    rd_kafka_topic_partition_list_destroy(x->positions);
    x->positions = left;
}

enum err_kind torn_look(struct kept *k, struct kafka_link *link, const struct bus_conf *conf,
                        int wait_ms, struct err *e) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    err_clear(e);
    for (const struct kept_txn *x = NULL; !k->looked && (x = kept_after(k, x));)
        for (int i = 0; i < x->positions->cnt; i++) {
            const rd_kafka_topic_partition_t *p = &x->positions->elems[i];
            if (!rd_kafka_topic_partition_list_find(list, p->topic, p->partition))
                rd_kafka_topic_partition_list_add(list, p->topic, p->partition);
        }
    rd_kafka_t *rk = list->cnt ? follower(link, conf, false, e) : NULL;
    if (rk) {
        rd_kafka_resp_err_t code = rd_kafka_committed(rk, list, wait_ms);
        for (int i = 0; i < list->cnt && !code; i++) code = list->elems[i].err;
        if (code) kafka_again(link, e, "asking for committed positions", code);
        close_follower(rk);
    }
    for (struct kept_txn *x = NULL; list->cnt && !e->kind && (x = kept_after(k, x));)
        take_what_holds(x, list);
    k->looked = !e->kind;
    rd_kafka_topic_partition_list_destroy(list);
    return e->kind;
}

/* By topic, partition and offset. */
static int by_place(const void *a, const void *b) {
    const struct record *x = &(*(struct kept_copy *const *)a)->record,
                        *y = &(*(struct kept_copy *const *)b)->record;
    int topic = strcmp(x->topic, y->topic);
    if (topic) return topic;
    if (x->partition != y->partition) return x->partition < y->partition ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* One partition's copies, from..end - 1 of the sorted list; those before `at` are read. */
struct place {
    size_t from, at, end;
    bool over;
};

struct look {
    struct kept_copy **list;
    size_t count;
    struct place *places;
    size_t place_count, left;
    const char *unseen; /* a topic that cannot be read there; NULL */
};

static void gather(struct kept *k, struct look *l) {
    size_t most = 1;
    for (const struct kept_txn *x = NULL; (x = kept_after(k, x));) most += x->count;
    l->list = mem_alloc(most * sizeof *l->list);
    l->places = mem_alloc(most * sizeof *l->places);
    for (struct kept_txn *x = NULL; (x = kept_after(k, x));)
        for (size_t i = 0; i < x->count; i++) {
            x->copies[i].stands = false;
            if (x->copies[i].delivered) l->list[l->count++] = &x->copies[i];
        }
    qsort(l->list, l->count, sizeof *l->list, by_place);
    for (size_t i = 0; i < l->count; i++) {
        const struct record *r = &l->list[i]->record, *last = i ? &l->list[i - 1]->record : NULL;
        if (!last || last->partition != r->partition || strcmp(last->topic, r->topic))
            l->places[l->place_count++] = (struct place){.from = i, .at = i};
        l->places[l->place_count - 1].end = i + 1;
    }
    l->left = l->place_count;
}

static struct place *place_of(const struct look *l, const rd_kafka_message_t *m) {
    for (size_t i = 0; m->rkt && i < l->place_count; i++) {
        const struct record *r = &l->list[l->places[i].from]->record;
        if (r->partition == m->partition && !strcmp(r->topic, rd_kafka_topic_name(m->rkt)))
            return &l->places[i];
    }
    return NULL;
}

static void is_over(struct look *l, struct place *p) {
    l->left -= !p->over;
    p->over = true;
}

/* A log that was cut may hold another record in the place of ours. */
static void meet(struct look *l, struct place *p, const rd_kafka_message_t *m) {
    while (p->at < p->end && l->list[p->at]->record.offset < m->offset) p->at++;
    if (p->at < p->end && l->list[p->at]->record.offset == m->offset) {
        struct kept_copy *c = l->list[p->at++];
        c->stands = bytes_equal(c->record.key, (struct bytes){m->key, m->key_len}) &&
                    bytes_equal(c->record.value, (struct bytes){m->payload, m->len});
    }
    if (p->at == p->end) is_over(l, p);
}

static void take(struct look *l, const rd_kafka_message_t *m) {
    struct place *p = place_of(l, m);
    if (!p || p->over) return;
    switch (m->err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR: meet(l, p, m); break;
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (m->offset > l->list[p->end - 1]->record.offset) is_over(l, p);
        break;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET: /* it was cut, by whomever */
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION: l->unseen = l->list[p->from]->record.topic; break;
    default: break; /* it is tried again */
    }
}

/* Reads each partition from the first of its copies to the last; what does not come was aborted. */
static enum err_kind read_places(struct look *l, struct kafka_link *link,
                                 const struct bus_conf *conf, int wait_ms, struct err *e) {
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    rd_kafka_t *rk = follower(link, conf, true, e);
    if (!rk) return e->kind;
    rd_kafka_topic_partition_list_t *from = rd_kafka_topic_partition_list_new(8);
    for (size_t i = 0; i < l->place_count; i++) {
        const struct record *r = &l->list[l->places[i].from]->record;
        rd_kafka_topic_partition_list_add(from, r->topic, r->partition)->offset = r->offset;
    }
    rd_kafka_resp_err_t code = rd_kafka_assign(rk, from);
    if (code) kafka_again(link, e, "reading what was committed", code);
    while (l->left && !l->unseen && !e->kind && clock_monotonic_us() < deadline) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, POLL_MS);
        if (!m) continue;
        take(l, m);
        rd_kafka_message_destroy(m);
    }
    rd_kafka_topic_partition_list_destroy(from);
    close_follower(rk);
    return e->kind;
}

/* Which records stand. *unseen: that cannot be seen. */
static enum err_kind look_at_records(struct kept *k, struct kafka_link *link,
                                     const struct bus_conf *conf, int wait_ms, bool *unseen,
                                     struct err *e) {
    struct look l = {0};
    err_clear(e);
    gather(k, &l);
    if (l.left) (void)!read_places(&l, link, conf, wait_ms, e);
    int64_t now = clock_monotonic_us();
    if (!k->waits_us) k->waits_us = now;
    bool late = l.left && now - k->waits_us >= WAIT_MS * 1000LL;
    *unseen = l.unseen || late;
    if (!e->kind && l.left && !*unseen)
        err_again(e, "a commit is looked up, and a transaction stands open before it");
    if (!e->kind && *unseen)
        log_warn(
            "kafka: a connection was lost behind a commit; it cannot be seen whether all of it "
            "stands: %s%s",
            l.unseen ? "not ours to read, or cut: " : "a transaction stands open before it",
            l.unseen ? l.unseen : "");
    free(l.list);
    free(l.places);
    return e->kind;
}

/* ---- what is made good ---- */

/* Up to the last transaction of which there is a trace; what comes behind it is read again. Positions that
   hold are one only where the commit was told: somebody else may have done its work and gone on. */
struct missing {
    uint32_t last;       /* its serial; 0: there is none */
    size_t records, of;  /* that are gone, of how many */
    bool positions;      /* some are gone */
    bool no_group;       /* of a transaction of theirs; with them: */
    size_t gone, stands; /* records of their transactions */
};

static bool lacks_positions(const struct kept_txn *x) {
    return x->positions->cnt;
}

static size_t count_standing(const struct kept_txn *x) {
    size_t n = 0;
    for (size_t i = 0; i < x->count; i++) n += x->copies[i].stands;
    return n;
}

static struct missing count_missing(struct kept *k) {
    struct missing m = {0};
    for (const struct kept_txn *x = NULL; (x = kept_after(k, x));)
        if (x->count && (count_standing(x) || (x->held && x->told))) m.last = x->serial;
    for (const struct kept_txn *x = NULL; (x = kept_after(k, x)) && x->serial <= m.last;) {
        size_t standing = count_standing(x);
        m.of += x->count;
        m.records += x->count - standing;
        if (!lacks_positions(x)) continue;
        m.positions = true;
        m.no_group |= !x->group;
        m.gone += x->count - standing;
        m.stands += standing;
    }
    return m;
}

/* *refused: and always will be. */
static enum err_kind send_missing(struct kept *k, const struct missing *m, rd_kafka_t *rk,
                                  struct kafka_link *link, bool *refused, struct err *e) {
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    (void)kafka_undelivered(link);
    for (struct kept_txn *x = NULL; (x = kept_after(k, x)) && x->serial <= m->last;)
        for (size_t i = 0; i < x->count && !code; i++) {
            struct kept_copy *c = &x->copies[i];
            if (c->stands || (lacks_positions(x) && !m->positions)) continue;
            while ((code = kafka_produce(rk, &c->record, c->record.partition,
                                         kept_opaque(x, i, false))) ==
                   RD_KAFKA_RESP_ERR__QUEUE_FULL)
                rd_kafka_poll(rk, POLL_MS); /* message.timeout.ms ends it */
        }
    while (!code && rd_kafka_flush(rk, POLL_MS)) continue;
    if (!code) code = kafka_undelivered(link);
    *refused = kafka_is_refusal(code) || code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
               code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
               code == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
    return code ? kafka_again_sending(link, e, code) : ERR_NONE;
}

static rd_kafka_error_t *send_positions(struct kept *k, const struct missing *m, rd_kafka_t *rk,
                                        int wait_ms) {
    rd_kafka_error_t *error = NULL;
    for (const struct kept_txn *x = NULL; !error && (x = kept_after(k, x)) && x->serial <= m->last;)
        if (lacks_positions(x))
            error = rd_kafka_send_offsets_to_transaction(rk, x->positions, x->group, wait_ms);
    return error;
}

/* The group has gone on without us: who owns the partitions now reads the input again. */
static bool is_fenced(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION ||
           code == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID ||
           code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
}

/* Takes the error. */
static enum err_kind failed(struct kafka_link *link, rd_kafka_error_t *error, bool *dead,
                            struct err *e) {
    *dead = true; /* the next life aborts what stands open */
    return kafka_again_error(link, e, "completing a commit", error);
}

/* *fenced: nothing of it was done, for the positions are not ours to commit any more. */
static enum err_kind complete(struct kept *k, const struct missing *m, rd_kafka_t *rk,
                              struct kafka_link *link, int wait_ms, bool *dead, bool *fenced,
                              struct err *e) {
    bool refused;
    int64_t deadline;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(rk);
    if (error) return failed(link, error, dead, e);
    if (send_missing(k, m, rk, link, &refused, e)) {
        *dead = true;
        if (refused) k->tries = TRIES; /* it always will be */
        return e->kind;
    }
    if (m->positions && (error = send_positions(k, m, rk, wait_ms))) {
        if (!is_fenced(rd_kafka_error_code(error))) return failed(link, error, dead, e);
        rd_kafka_error_destroy(error);
        if ((error = rd_kafka_abort_transaction(rk, wait_ms))) return failed(link, error, dead, e);
        *fenced = true;
        return ERR_NONE;
    }
    k->looked = false; /* what comes of this is seen by looking again */
    deadline = clock_monotonic_us() + wait_ms * 1000LL;
    while ((error = rd_kafka_commit_transaction(rk, wait_ms)) &&
           rd_kafka_error_is_retriable(error) && !kafka_failed_us(link) &&
           clock_monotonic_us() < deadline) {
        rd_kafka_error_destroy(error);
        rd_kafka_poll(rk, 0); /* what it has to say of its connections */
    }
    if (error) return failed(link, error, dead, e);
    rd_kafka_poll(rk, 0);
    if (kafka_failed_us(link)) {
        *dead = true;
        return err_again(e, "the broker was away while a commit was completed");
    }
    log_warn(
        "kafka: a broker's death tore a commit: %zu of its %zu records were gone and are there "
        "again%s",
        m->records, m->of, m->positions ? ", and so are the positions" : "");
    return ERR_NONE;
}

static enum err_kind complete_without_positions(struct kept *k, struct missing *m, rd_kafka_t *rk,
                                                struct kafka_link *link, int wait_ms, bool *dead,
                                                struct err *e) {
    bool fenced;
    if (m->stands)
        log_error(
            "kafka: a broker's death tore a commit, and its partitions are not ours any more: "
            "%zu of its records stand, and will be doubled by who reads the input again",
            m->stands);
    m->positions = false;
    m->records -= m->gone;
    return m->records ? complete(k, m, rk, link, wait_ms, dead, &fenced, e) : ERR_NONE;
}

enum err_kind torn_mend(struct kept *k, rd_kafka_t *rk, struct kafka_link *link,
                        const struct bus_conf *conf, int wait_ms, bool *completed, bool *dead,
                        struct err *e) {
    bool unseen;
    *completed = false;
    if (look_at_records(k, link, conf, wait_ms, &unseen, e)) return e->kind;
    struct missing m = unseen ? (struct missing){0} : count_missing(k);
    *completed = m.records || m.positions;
    bool fenced = m.no_group;
    if (*completed && !fenced) (void)!complete(k, &m, rk, link, wait_ms, dead, &fenced, e);
    if (fenced && !e->kind) (void)!complete_without_positions(k, &m, rk, link, wait_ms, dead, e);
    if (e->kind) {
        if (++k->tries < TRIES) return e->kind;
        log_error(
            "kafka: a broker's death tore a commit: %zu of its %zu records are gone and could "
            "not be sent again: %s",
            m.records, m.of, e->text);
        kept_only(k, 0);
        return e->kind;
    }
    /* The markers of what completes it are not certain either. */
    kept_only(k, *completed && !fenced ? m.last : 0);
    return ERR_NONE;
}
