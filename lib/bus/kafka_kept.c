/*
 * kafka_kept.c: commits that a broker's death has torn.
 *
 * A commit is told before its markers are written, one for each partition of records and one for the
 * positions. A broker that dies between two of them writes the rest when it comes up, or forgets them
 * (kafka_heal.c); what is open then is aborted by the producer's next life. So of one transaction the
 * positions may hold and records be gone, which loses them, or records may stand and the positions be
 * gone, which doubles them.
 *
 * So: with no trace left of what was told nothing is done, and its input comes again. With any, it is
 * completed: what is missing is sent again from the copies, and the positions with it, in the order in
 * which the transactions began. What was told is never aborted by its coordinator: a marker of it says
 * that it is committed.
 *
 * Which markers are there is asked before our abort writes any. A partition is stable up to its first
 * open transaction: beyond our first record there our marker is written, exactly there it is not. Where
 * it is not even stable up to there somebody else's stands open before ours, and is waited for, a while:
 * he may wait for one of ours. Positions have their marker where they are committed with no regard to
 * what is pending: what is pending is ours alone, and nobody can have moved on, for who owns the
 * partition waits for it.
 *
 * What this cannot mend: a worker that dies together with the broker takes the copies along.
 */
#include "lib/bus/kafka_kept.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST = 4, /* of two lanes: what was told last, and one under way */
    WAIT_MS =
        10000, /* for others; then what is not known counts as gone: doubled rather than lost */
};

struct copy {
    struct record record;   /* partition and offset are where it stands, when delivered */
    bool delivered, stands; /* stands: its partition has the marker */
};

struct transaction {
    uint32_t serial; /* 0: none is here */
    int lane;
    bool told, looked, held; /* held: the positions have their marker */
    struct copy *copies;
    size_t count;
    rd_kafka_topic_partition_list_t *positions; /* when told */
    struct arena memory;
};

struct kept {
    struct transaction list[MOST];
    uint32_t serial;  /* of the one that began last */
    int64_t waits_us; /* since when others are waited for; 0: they are not */
    rd_kafka_consumer_group_metadata_t *group;
};

struct kept *kept_open(void) {
    return mem_zeroed(1, sizeof(struct kept));
}

static void clear(struct transaction *x) {
    if (x->positions) rd_kafka_topic_partition_list_destroy(x->positions);
    arena_reset(&x->memory);
    *x = (struct transaction){.memory = x->memory};
}

void kept_free(struct kept *k) {
    if (!k) return;
    for (int i = 0; i < MOST; i++) {
        clear(&k->list[i]);
        arena_free(&k->list[i].memory);
    }
    kept_group(k, NULL);
    free(k);
}

void kept_group(struct kept *k, rd_kafka_consumer_group_metadata_t *group) {
    if (k->group) rd_kafka_consumer_group_metadata_destroy(k->group);
    k->group = group;
}

static struct transaction *find(struct kept *k, uint32_t serial) {
    for (int i = 0; i < MOST && serial; i++)
        if (k->list[i].serial == serial) return &k->list[i];
    return NULL;
}

/* What was told next after x (NULL: first of all), in the order in which it began; NULL behind the last.
   Only the one that it returned may be cleared meanwhile, when the next call is with NULL. */
static struct transaction *after(struct kept *k, const struct transaction *x) {
    struct transaction *oldest = NULL;
    for (int i = 0; i < MOST; i++) {
        struct transaction *each = &k->list[i];
        if (each->told && (!x || each->serial > x->serial) &&
            (!oldest || each->serial < oldest->serial))
            oldest = each;
    }
    return oldest;
}

/* ---- what is kept ---- */

static struct record copy_of(struct arena *a, const struct record *from,
                             const struct record *last) {
    struct record r = *from;
    struct header *headers = arena_alloc(a, (r.header_count + 1) * sizeof *headers);
    for (size_t h = 0; h < r.header_count; h++)
        headers[h] =
            (struct header){arena_copy(a, r.headers[h].name), arena_copy(a, r.headers[h].value)};
    bool same = last && !strcmp(r.topic, last->topic);
    r.topic = same ? last->topic : arena_text(a, bytes_of(r.topic));
    r.key = arena_copy(a, r.key);
    r.value = arena_copy(a, r.value);
    r.headers = headers;
    return r;
}

void kept_begin(struct kept *k, int lane, const struct record *out, size_t n) {
    struct transaction *x = NULL;
    for (int i = 0; i < MOST && !x; i++)
        if (!k->list[i].serial) x = &k->list[i];
    if (!x) x = after(k, NULL);
    clear(x);
    x->serial = ++k->serial;
    x->lane = lane;
    x->count = n;
    x->copies = arena_alloc(&x->memory, (n + 1) * sizeof *x->copies);
    for (size_t i = 0; i < n; i++)
        x->copies[i] = (struct copy){
            .record = copy_of(&x->memory, &out[i], i ? &x->copies[i - 1].record : NULL)};
}

/* Serial, place, and whether it is the only one. */
static void *opaque_of(const struct transaction *x, size_t i) {
    return (void *)(uintptr_t)((uint64_t)x->serial << 32 | (uint64_t)i << 1 | (x->count == 1));
}

void *kept_opaque(const struct kept *k, size_t i) {
    return opaque_of(find((struct kept *)k, k->serial), i);
}

bool kept_is_alone(const rd_kafka_message_t *m) {
    return (uintptr_t)m->_private & 1;
}

void kept_delivered(struct kept *k, const rd_kafka_message_t *m) {
    uint64_t opaque = (uintptr_t)m->_private;
    struct transaction *x = find(k, (uint32_t)(opaque >> 32));
    size_t i = (uint32_t)opaque >> 1;
    if (!x || i >= x->count || m->err) return;
    x->copies[i].delivered = true;
    x->copies[i].record.partition = m->partition;
    x->copies[i].record.offset = m->offset;
}

bool kept_is_there(const struct kept *k) {
    const struct transaction *x = find((struct kept *)k, k->serial);
    for (size_t i = 0; x && i < x->count; i++)
        if (x->copies[i].delivered) return true;
    return false;
}

void kept_told(struct kept *k, const rd_kafka_topic_partition_list_t *positions) {
    struct transaction *last = find(k, k->serial);
    last->positions = rd_kafka_topic_partition_list_copy(positions);
    last->told = true;
    for (int i = 0; i < MOST; i++)
        if (&k->list[i] != last && k->list[i].lane == last->lane) clear(&k->list[i]);
}

void kept_dropped(struct kept *k) {
    struct transaction *last = find(k, k->serial);
    if (last && !last->told) clear(last);
}

void kept_topics(const struct kept *k, const char ***list, size_t *n) {
    for (const struct transaction *x = NULL; (x = after((struct kept *)k, x));)
        for (size_t i = 0; i < x->count; i++) {
            const char *topic = x->copies[i].record.topic;
            size_t at = 0;
            while (at < *n && strcmp((*list)[at], topic)) at++;
            if (at < *n) continue;
            *list = mem_resize(*list, (*n + 1) * sizeof **list);
            (*list)[(*n)++] = topic;
        }
}

/* ---- what is left of it ---- */

static rd_kafka_topic_partition_t *add_once(rd_kafka_topic_partition_list_t *list,
                                            const char *topic, int32_t partition) {
    rd_kafka_topic_partition_t *is = rd_kafka_topic_partition_list_find(list, topic, partition);
    return is ? is : rd_kafka_topic_partition_list_add(list, topic, partition);
}

static bool are_held(const rd_kafka_topic_partition_list_t *sent,
                     rd_kafka_topic_partition_list_t *committed) {
    for (int i = 0; i < sent->cnt; i++) {
        const rd_kafka_topic_partition_t *x = &sent->elems[i];
        if (add_once(committed, x->topic, x->partition)->offset < x->offset) return false;
    }
    return true;
}

/* Of the group, but not in it; what is pending it does not wait for. */
static enum err_kind ask_positions(rd_kafka_topic_partition_list_t *list, struct kafka_link *link,
                                   const struct bus_conf *conf, int wait_ms, struct err *e) {
    rd_kafka_conf_t *c =
        kafka_follower_conf(link, conf->properties, conf->property_count, false, e);
    if (!c) return e->kind;
    kafka_set(c, "group.id", conf->group);
    rd_kafka_t *rk = kafka_make(RD_KAFKA_CONSUMER, c, e);
    if (!rk) return e->kind;
    rd_kafka_resp_err_t code = rd_kafka_committed(rk, list, wait_ms);
    for (int i = 0; i < list->cnt && !code; i++) code = list->elems[i].err;
    rd_kafka_destroy(rk);
    return code ? kafka_again(link, e, "asking for committed positions", code) : ERR_NONE;
}

/* By topic, partition and offset. */
static int by_place(const void *a, const void *b) {
    const struct record *x = &(*(struct copy *const *)a)->record,
                        *y = &(*(struct copy *const *)b)->record;
    int topic = strcmp(x->topic, y->topic);
    if (topic) return topic;
    if (x->partition != y->partition) return x->partition < y->partition ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Which of its records stand, by how far their partitions are stable. False when it is not known of
   all. */
static bool look_at_copies(struct transaction *x, rd_kafka_topic_partition_list_t *stable) {
    struct copy **list = mem_alloc((x->count + 1) * sizeof *list);
    const struct record *first = NULL;
    bool known = true;
    for (size_t i = 0; i < x->count; i++) list[i] = &x->copies[i];
    qsort(list, x->count, sizeof *list, by_place);
    for (size_t i = 0; i < x->count; i++) {
        const struct record *r = &list[i]->record;
        int64_t end = add_once(stable, r->topic, r->partition)->offset;
        if (!first || first->partition != r->partition || strcmp(first->topic, r->topic)) first = r;
        list[i]->stands = end > first->offset;
        known = known && end >= first->offset;
    }
    free(list);
    return known;
}

static enum err_kind ask_stable(rd_kafka_topic_partition_list_t *list, rd_kafka_t *rk,
                                struct kafka_link *link, int wait_ms, struct err *e) {
    for (int i = 0; i < list->cnt; i++) list->elems[i].offset = RD_KAFKA_OFFSET_END;
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(rk, list, wait_ms);
    for (int i = 0; i < list->cnt && !code; i++) code = list->elems[i].err;
    return code ? kafka_again(link, e, "asking for the ends of topics", code) : ERR_NONE;
}

static enum err_kind wait_for_others(struct kept *k, struct err *e) {
    int64_t now = clock_monotonic_us();
    if (!k->waits_us) k->waits_us = now;
    if (now - k->waits_us < WAIT_MS * 1000LL)
        return err_again(e, "a commit is looked up, and others have a transaction open before it");
    log_warn("kafka: a broker died right behind a commit, and it cannot be seen of all its records "
             "whether they stand: the others are sent again if any does");
    return ERR_NONE;
}

enum err_kind kept_look(struct kept *k, int lane, rd_kafka_t *rk, struct kafka_link *link,
                        const struct bus_conf *conf, int wait_ms, struct err *e) {
    rd_kafka_topic_partition_list_t *stable = rd_kafka_topic_partition_list_new(8),
                                    *positions = rd_kafka_topic_partition_list_new(8);
    bool known = true;
    err_clear(e);
    for (struct transaction *x = NULL; (x = after(k, x));) {
        if (x->looked || x->lane != lane) continue;
        for (size_t i = 0; i < x->count; i++)
            add_once(stable, x->copies[i].record.topic, x->copies[i].record.partition);
        for (int i = 0; i < x->positions->cnt; i++)
            add_once(positions, x->positions->elems[i].topic, x->positions->elems[i].partition);
    }
    if (stable->cnt) (void)!ask_stable(stable, rk, link, wait_ms, e);
    if (positions->cnt && !e->kind) (void)!ask_positions(positions, link, conf, wait_ms, e);
    for (struct transaction *x = NULL; !e->kind && (x = after(k, x));) {
        if (x->looked || x->lane != lane) continue;
        known = look_at_copies(x, stable) && known;
        x->held = are_held(x->positions, positions);
    }
    rd_kafka_topic_partition_list_destroy(stable);
    rd_kafka_topic_partition_list_destroy(positions);
    if (e->kind || (!known && wait_for_others(k, e))) return e->kind;
    k->waits_us = 0;
    for (struct transaction *x = NULL; (x = after(k, x));)
        if (x->lane == lane) x->looked = true;
    return ERR_NONE;
}

/* ---- what is made good ---- */

/* Up to the last transaction of which there is a trace; what comes behind it is read again. */
struct missing {
    uint32_t last;       /* its serial; 0: there is none */
    size_t records, of;  /* that are gone, of how many */
    bool positions;      /* some are gone; with them: */
    size_t gone, stands; /* records of their transactions */
};

static bool lacks_positions(const struct transaction *x) {
    return x->positions->cnt && !x->held;
}

static size_t count_standing(const struct transaction *x) {
    size_t n = 0;
    for (size_t i = 0; i < x->count; i++) n += x->copies[i].stands;
    return n;
}

static struct missing count_missing(struct kept *k) {
    struct missing m = {0};
    for (const struct transaction *x = NULL; (x = after(k, x));)
        if (x->count && (count_standing(x) || (x->positions->cnt && x->held))) m.last = x->serial;
    for (const struct transaction *x = NULL; (x = after(k, x)) && x->serial <= m.last;) {
        size_t standing = count_standing(x);
        m.of += x->count;
        m.records += x->count - standing;
        if (!lacks_positions(x)) continue;
        m.positions = true;
        m.gone += x->count - standing;
        m.stands += standing;
    }
    return m;
}

static enum err_kind send_missing(struct kept *k, const struct missing *m, rd_kafka_t *rk,
                                  struct kafka_link *link, int64_t deadline, struct err *e) {
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    (void)kafka_undelivered(link);
    for (struct transaction *x = NULL; (x = after(k, x)) && x->serial <= m->last;)
        for (size_t i = 0; i < x->count && !code; i++) {
            struct copy *c = &x->copies[i];
            if (c->stands || (lacks_positions(x) && !m->positions)) continue;
            while ((code = kafka_produce(rk, &c->record, c->record.partition, opaque_of(x, i))) ==
                       RD_KAFKA_RESP_ERR__QUEUE_FULL &&
                   clock_monotonic_us() < deadline)
                rd_kafka_poll(rk, 10);
        }
    int64_t left = (deadline - clock_monotonic_us()) / 1000;
    if (!code) code = rd_kafka_flush(rk, left > 0 ? (int)left : 0);
    if (!code) code = kafka_undelivered(link);
    return code ? kafka_again_sending(link, e, code) : ERR_NONE;
}

static rd_kafka_error_t *send_positions(struct kept *k, const struct missing *m, rd_kafka_t *rk,
                                        int wait_ms) {
    rd_kafka_error_t *error = NULL;
    for (const struct transaction *x = NULL; !error && (x = after(k, x)) && x->serial <= m->last;)
        if (lacks_positions(x))
            error = rd_kafka_send_offsets_to_transaction(rk, x->positions, k->group, wait_ms);
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
    int64_t deadline = clock_monotonic_us() + wait_ms * 1000LL;
    rd_kafka_error_t *error = rd_kafka_begin_transaction(rk);
    if (error) return failed(link, error, dead, e);
    if (send_missing(k, m, rk, link, deadline, e)) return *dead = true, e->kind;
    if (m->positions && (error = send_positions(k, m, rk, wait_ms))) {
        if (!is_fenced(rd_kafka_error_code(error))) return failed(link, error, dead, e);
        rd_kafka_error_destroy(error);
        if ((error = rd_kafka_abort_transaction(rk, wait_ms))) return failed(link, error, dead, e);
        *fenced = true;
        return ERR_NONE;
    }
    if ((error = rd_kafka_commit_transaction(rk, wait_ms))) return failed(link, error, dead, e);
    log_warn("kafka: a broker died in the midst of a commit: %zu of its %zu records were gone and "
             "are there again%s",
             m->records, m->of, m->positions ? ", and so are the positions" : "");
    rd_kafka_poll(rk, 0); /* what it has to say of its connections */
    if (!kafka_failed_us(link)) return ERR_NONE;
    /* It may be torn as well. What was sent again stands where it was sent to. */
    for (struct transaction *x = NULL; (x = after(k, x));) x->looked = false;
    *dead = true;
    return err_again(e, "the broker was away while a commit was completed");
}

static enum err_kind complete_without_positions(struct kept *k, struct missing *m, rd_kafka_t *rk,
                                                struct kafka_link *link, int wait_ms, bool *dead,
                                                struct err *e) {
    bool fenced;
    log_error(
        "kafka: a broker died in the midst of a commit, and the group gave the partitions away "
        "before its positions were there again: the input of %zu records that stand comes "
        "again, and doubles them",
        m->stands);
    m->positions = false;
    m->records -= m->gone;
    return m->records ? complete(k, m, rk, link, wait_ms, dead, &fenced, e) : ERR_NONE;
}

enum err_kind kept_mend(struct kept *k, rd_kafka_t *rk, struct kafka_link *link, int wait_ms,
                        bool *dead, struct err *e) {
    struct missing m = count_missing(k);
    bool fenced = m.positions && !k->group;
    err_clear(e);
    if ((m.records || m.positions) && !fenced &&
        complete(k, &m, rk, link, wait_ms, dead, &fenced, e))
        return e->kind;
    if (fenced && complete_without_positions(k, &m, rk, link, wait_ms, dead, e)) return e->kind;
    for (struct transaction *x; (x = after(k, NULL));) clear(x);
    return ERR_NONE;
}
