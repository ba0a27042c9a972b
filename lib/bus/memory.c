/*
 * memory.c: Kafka's transaction semantics in one process, without threads, so that every run is the
 * same.
 *
 * A partition is an array of entries: a record, or the marker that ended a transaction. An entry of
 * an open transaction stops readers (the last stable offset), one of an aborted transaction is
 * skipped. A group reads one topic; its places hold what is committed. A transaction carries
 * positions until it commits, and whoever asks for a place with such a pending position is told to
 * wait.
 *
 * A hand-over appends its outputs and leaves the commit under way; it is done by the next call that
 * has to know, or by a poll that finds nothing new. A crash in between leaves the transaction open.
 */
#include "lib/bus/memory.h"

#include "lib/base/clock.h"
#include "lib/bus/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_RECORD = 1000000, LANES = 2 };

enum outcome { OPEN, COMMITTED, ABORTED };

struct place {
    int64_t committed; /* -1: never */
    char *note;        /* NULL: none */
    struct txn *pending;
};

struct position {
    int32_t partition;
    int64_t offset;
    char *note;
};

struct txn {
    struct txn *next;
    enum outcome outcome;
    bool plain;      /* at least once: only the positions are in it */
    struct mbus *by; /* who will commit it; NULL: dead */
    struct group *group;
    uint64_t generation; /* of the member that gave the positions */
    struct position *positions;
    size_t position_count;
    struct partition **touched;
    size_t touched_count;
};

struct entry {
    struct txn *txn; /* NULL: not in a transaction */
    bool marker;
    struct record record;
};

struct partition {
    struct entry *list;
    size_t count, cap;
    size_t stable; /* everything below is decided */
};

struct topic {
    struct topic *next;
    char *name;
    struct partition *partitions;
    int partition_count;
    uint32_t turn; /* for records without a key */
};

struct producer {
    struct producer *next;
    char *id;
    int epoch;
    bool frozen; /* whoever uses it is dead or stopped */
    struct txn *open;
};

struct member {
    struct member *next;
    bool in;     /* of the present generation */
    bool frozen; /* crashed or stopped: dropped at the next rebalance */
};

struct group {
    struct group *next;
    char *name;
    struct topic *topic;
    uint64_t generation;
    struct member *members; /* in the order of joining */
    struct place *places;   /* one a partition */
};

struct bus_memory {
    struct topic *topics;
    struct group *groups;
    struct producer *producers;
    struct txn *txns;
    struct arena records;
    char cluster[32];
    enum memory_fault (*ask)(void *ctx, struct bus *b, enum memory_point at);
    void *ctx;
};

struct share {
    bool mine;
    int64_t next; /* to read */
    int64_t done; /* behind the last one polled and not handed over; -1: none */
    int64_t start;
    char *note;
};

struct mbus {
    struct bus base;
    struct bus_memory *m;
    struct group *group;
    struct member *member;
    struct topic *watched;
    int64_t *watch_next;
    enum bus_delivery delivery;

    char *name; /* group.instance */
    struct producer *lanes[LANES];
    int epochs[LANES], lane_count, turn;
    bool ready;           /* the lanes are ours */
    uint64_t known;       /* group generation of the assignment; 0: none */
    struct share *shares; /* one a partition */
    struct txn *under_way;
    int under_way_lane;
    struct record *polled;
    size_t polled_count, polled_cap, polled_bytes;
    uint64_t generation;
    uint64_t commits, aborts;
    struct err failed; /* why a rewind is wanted; ERR_NONE: it is not */
};

/* The log. */

struct bus_memory *memory_make(void) {
    static int made;
    struct bus_memory *m = mem_zeroed(1, sizeof *m);
    snprintf(m->cluster, sizeof m->cluster, "memory-%d", ++made);
    return m;
}

static void free_group(struct group *g) {
    for (int p = 0; p < g->topic->partition_count; p++) free(g->places[p].note);
    for (struct member *x = g->members, *next; x; x = next) {
        next = x->next;
        free(x);
    }
    free(g->places);
    free(g->name);
    free(g);
}

static void free_txn(struct txn *t) {
    for (size_t i = 0; i < t->position_count; i++) free(t->positions[i].note);
    free(t->positions);
    free(t->touched);
    free(t);
}

void memory_free(struct bus_memory *m) {
    if (!m) return;
    for (struct group *g = m->groups, *next; g; g = next) {
        next = g->next;
        free_group(g);
    }
    for (struct txn *t = m->txns, *next; t; t = next) {
        next = t->next;
        free_txn(t);
    }
    for (struct producer *p = m->producers, *next; p; p = next) {
        next = p->next;
        free(p->id);
        free(p);
    }
    for (struct topic *t = m->topics, *next; t; t = next) {
        next = t->next;
        for (int p = 0; p < t->partition_count; p++) free(t->partitions[p].list);
        free(t->partitions);
        free(t->name);
        free(t);
    }
    arena_free(&m->records);
    free(m);
}

static struct topic *find_topic(const struct bus_memory *m, const char *name) {
    for (struct topic *t = m->topics; t; t = t->next)
        if (!strcmp(t->name, name)) return t;
    return NULL;
}

void memory_topic(struct bus_memory *m, const char *name, int partitions) {
    if (find_topic(m, name)) return;
    struct topic *t = mem_zeroed(1, sizeof *t);
    t->name = mem_copy(name, strlen(name));
    t->partition_count = partitions;
    t->partitions = mem_zeroed((size_t)partitions, sizeof *t->partitions);
    t->next = m->topics;
    m->topics = t;
}

void memory_faults(struct bus_memory *m,
                   enum memory_fault (*ask)(void *ctx, struct bus *b, enum memory_point at),
                   void *ctx) {
    m->ask = ask;
    m->ctx = ctx;
}

static struct entry *add_entry(struct partition *p) {
    if (p->count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 64;
        p->list = mem_resize(p->list, p->cap * sizeof *p->list);
    }
    struct entry *x = &p->list[p->count++];
    *x = (struct entry){0};
    return x;
}

static int32_t choose_partition(struct topic *t, struct bytes key) {
    if (!key.data) return (int32_t)(t->turn++ % (uint32_t)t->partition_count);
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key.len; i++) h = (h ^ ((const unsigned char *)key.data)[i]) * 16777619u;
    return (int32_t)(h % (uint32_t)t->partition_count);
}

static struct partition *append(struct bus_memory *m, struct topic *t, const struct record *r,
                                struct txn *txn) {
    int32_t at = choose_partition(t, r->key);
    struct partition *p = &t->partitions[at];
    struct header *headers = arena_alloc(&m->records, (r->header_count + 1) * sizeof *headers);
    for (size_t i = 0; i < r->header_count; i++) {
        headers[i].name = arena_copy(&m->records, r->headers[i].name);
        headers[i].value = arena_copy(&m->records, r->headers[i].value);
    }
    struct entry *x = add_entry(p);
    x->txn = txn;
    x->record = (struct record){
        .topic = t->name,
        .key = arena_copy(&m->records, r->key),
        .value = arena_copy(&m->records, r->value),
        .headers = headers,
        .header_count = r->header_count,
        .time_ms = r->time_ms < 0 ? clock_now_ms() : r->time_ms,
        .partition = at,
        .offset = (int64_t)p->count - 1,
    };
    return p;
}

void memory_append(struct bus_memory *m, const struct record *r) {
    append(m, find_topic(m, r->topic), r, NULL);
}

void memory_append_at(struct bus_memory *m, const struct record *r, int at[2]) {
    struct topic *t = find_topic(m, r->topic);
    struct partition *p = append(m, t, r, NULL);
    at[0] = (int)(p - t->partitions);
    at[1] = (int)p->count - 1;
}

static size_t stable_end(struct partition *p) {
    while (p->stable < p->count) {
        const struct txn *t = p->list[p->stable].txn;
        if (t && t->outcome == OPEN) break;
        p->stable++;
    }
    return p->stable;
}

/* The first readable record at or after *at, which then stands on it; NULL: *at is the stable end.
 */
static const struct record *readable(struct partition *p, int64_t *at) {
    size_t end = stable_end(p);
    for (; (size_t)*at < end; ++*at) {
        const struct entry *x = &p->list[*at];
        if (!x->marker && (!x->txn || x->txn->outcome == COMMITTED)) return &x->record;
    }
    return NULL;
}

size_t memory_committed(struct bus_memory *m, const char *topic, struct record *out, size_t max) {
    struct topic *t = find_topic(m, topic);
    size_t n = 0;
    for (int p = 0; t && p < t->partition_count; p++) {
        const struct record *r;
        for (int64_t at = 0; (r = readable(&t->partitions[p], &at)); at++)
            if (n++ < max) out[n - 1] = *r;
    }
    return n;
}

static struct group *find_group(const struct bus_memory *m, const char *name,
                                const struct topic *t) {
    for (struct group *g = m->groups; g; g = g->next)
        if (g->topic == t && !strcmp(g->name, name)) return g;
    return NULL;
}

int64_t memory_lag(struct bus_memory *m, const char *group, const char *topic) {
    struct topic *t = find_topic(m, topic);
    struct group *g = t ? find_group(m, group, t) : NULL;
    int64_t lag = 0;
    for (int p = 0; t && p < t->partition_count; p++) {
        int64_t at = g ? g->places[p].committed : -1;
        lag += (int64_t)t->partitions[p].count - (at < 0 ? 0 : at);
    }
    return lag;
}

/* Transactions. */

static struct txn *begin(struct bus_memory *m, struct producer *p, struct group *g,
                         uint64_t generation) {
    struct txn *t = mem_zeroed(1, sizeof *t);
    t->plain = !p;
    t->group = g;
    t->generation = generation;
    t->next = m->txns;
    m->txns = t;
    if (p) p->open = t;
    return t;
}

static void touch(struct txn *t, struct partition *p) {
    for (size_t i = 0; i < t->touched_count; i++)
        if (t->touched[i] == p) return;
    t->touched = mem_resize(t->touched, (t->touched_count + 1) * sizeof(struct partition *));
    t->touched[t->touched_count++] = p;
}

static void add_position(struct txn *t, int32_t partition, int64_t offset, const char *note) {
    t->positions = mem_resize(t->positions, (t->position_count + 1) * sizeof *t->positions);
    t->positions[t->position_count++] =
        (struct position){partition, offset, note ? mem_copy(note, strlen(note)) : NULL};
    if (!t->plain) t->group->places[partition].pending = t;
}

static void decide(struct producer *p, struct txn *t, enum outcome outcome) {
    t->outcome = outcome;
    for (size_t i = 0; i < t->touched_count; i++)
        *add_entry(t->touched[i]) = (struct entry){t, true, {0}};
    for (size_t i = 0; i < t->position_count; i++) {
        struct position *x = &t->positions[i];
        struct place *place = &t->group->places[x->partition];
        if (place->pending == t) place->pending = NULL;
        if (outcome != COMMITTED) continue;
        place->committed = x->offset;
        free(place->note);
        place->note = x->note;
        x->note = NULL;
    }
    if (p) p->open = NULL;
}

/* A new epoch: whatever the one before left open is aborted, and it can do nothing any more. */
static int take_over(struct producer *p) {
    if (p->open) decide(p, p->open, ABORTED);
    return ++p->epoch;
}

static struct producer *find_producer(struct bus_memory *m, const char *id) {
    for (struct producer *p = m->producers; p; p = p->next)
        if (!strcmp(p->id, id)) return p;
    struct producer *p = mem_zeroed(1, sizeof *p);
    p->id = mem_copy(id, strlen(id));
    p->next = m->producers;
    return m->producers = p;
}

/* Groups. */

static void rebalance(struct group *g) {
    g->generation++;
    for (struct member *x = g->members; x; x = x->next)
        if (x->frozen) x->in = false;
}

void memory_expire(struct bus_memory *m) {
    for (struct producer *p = m->producers; p; p = p->next)
        if (p->frozen && p->open) take_over(p);
    for (struct group *g = m->groups; g; g = g->next) {
        bool dead = false;
        for (struct member *x = g->members; x; x = x->next) dead = dead || (x->in && x->frozen);
        if (dead) rebalance(g);
    }
}

static void freeze(struct mbus *b, bool frozen) {
    b->member->frozen = frozen;
    for (int i = 0; i < b->lane_count; i++)
        if (b->ready && b->lanes[i]->epoch == b->epochs[i]) b->lanes[i]->frozen = frozen;
}

void memory_freeze(struct bus *base) {
    freeze((struct mbus *)base, true);
}

static struct group *make_group(struct bus_memory *m, const char *name, struct topic *t) {
    struct group *g = mem_zeroed(1, sizeof *g);
    g->name = mem_copy(name, strlen(name));
    g->topic = t;
    g->places = mem_zeroed((size_t)t->partition_count, sizeof *g->places);
    for (int p = 0; p < t->partition_count; p++) g->places[p].committed = -1;
    g->next = m->groups;
    return m->groups = g;
}

/* A bus. */

static void forget(struct mbus *b) {
    b->polled_count = b->polled_bytes = 0;
    b->generation++;
    for (int p = 0; p < b->group->topic->partition_count; p++) b->shares[p].done = -1;
}

static enum err_kind want_rewind(struct mbus *b, struct err *e) {
    b->failed = *e;
    return e->kind;
}

static enum err_kind fenced(struct mbus *b, struct err *e) {
    b->ready = false;
    return err_again(
        e, "%s is fenced: another process uses its instance name, or it was away too long",
        b->name);
}

static enum memory_fault ask(struct mbus *b, enum memory_point at) {
    if (!b->m->ask) return MEMORY_OK;
    enum memory_fault f = b->m->ask(b->m->ctx, &b->base, at);
    freeze(b, false); /* it may have slept over the question */
    return f;
}

/* The fault of this moment as an error, or nothing. *told: the call works, and fails afterwards. */
static enum err_kind strike(struct mbus *b, enum memory_point at, const char *what, bool *told,
                            struct err *e) {
    enum memory_fault f = ask(b, at);
    *told = f == MEMORY_UNKNOWN;
    if (f == MEMORY_REFUSED) return err_again(e, "%s was refused", what);
    if (f == MEMORY_FENCED) {
        for (int i = 0; i < b->lane_count; i++) take_over(b->lanes[i]);
        return fenced(b, e);
    }
    return ERR_NONE;
}

static bool lane_is_ours(const struct mbus *b, int lane) {
    return b->ready && b->lanes[lane]->epoch == b->epochs[lane];
}

/* Positions are taken only from a member of the present generation. */
static bool member_is_current(const struct mbus *b) {
    return b->member->in && b->known == b->group->generation;
}

/* Asked once a transaction is open: the group or another process may have gone on meanwhile. */
static enum err_kind may_give_positions(struct mbus *b, struct err *e) {
    if (!member_is_current(b)) return err_again(e, "the group went on without this member");
    if (!b->under_way->plain && !lane_is_ours(b, b->under_way_lane)) return fenced(b, e);
    return ERR_NONE;
}

static enum err_kind commit_under_way(struct mbus *b, struct err *e) {
    struct txn *t = b->under_way;
    bool told = true;
    while (told) { /* a time-out is no answer: ask again */
        if (strike(b, MEMORY_AT_COMMIT, "the commit", &told, e)) return e->kind;
        if (t->outcome == COMMITTED) break;
        if (!t->plain && !lane_is_ours(b, b->under_way_lane)) return fenced(b, e);
        if (t->plain && t->generation != b->group->generation)
            return err_again(e, "the group went on without this member");
        decide(t->plain ? NULL : b->lanes[b->under_way_lane], t, COMMITTED);
        (void)ask(b, MEMORY_AT_COMMITTED);
    }
    for (size_t i = 0; i < t->position_count; i++) {
        struct share *s = &b->shares[t->positions[i].partition];
        const char *note = t->group->places[t->positions[i].partition].note;
        s->start = t->positions[i].offset;
        free(s->note);
        s->note = note ? mem_copy(note, strlen(note)) : NULL;
    }
    b->commits++;
    b->under_way = NULL;
    return ERR_NONE;
}

static enum err_kind finish(struct mbus *b, struct err *e) {
    if (b->failed.kind) {
        *e = b->failed;
        return e->kind;
    }
    return b->under_way && commit_under_way(b, e) ? want_rewind(b, e) : ERR_NONE;
}

/* A live bus commits by itself, also when it is not called. */
static void commit_of_another(struct txn *t) {
    struct err ignored;
    if (t->by && !t->by->member->frozen) (void)!finish(t->by, &ignored);
}

/* Becomes what is under way. */
static enum err_kind open_txn(struct mbus *b, struct err *e) {
    struct producer *lane = NULL;
    if (b->delivery == BUS_EXACTLY_ONCE) {
        (void)ask(b, MEMORY_AT_LANE);
        if (!lane_is_ours(b, b->turn)) return fenced(b, e);
        lane = b->lanes[b->under_way_lane = b->turn];
        b->turn = (b->turn + 1) % b->lane_count;
    }
    b->under_way = begin(b->m, lane, b->group, b->known);
    b->under_way->by = b;
    return ERR_NONE;
}

/* A hand-over of positions alone, done before it returns. */
static enum err_kind commit_positions(struct mbus *b, int64_t (*of)(const struct mbus *b, int p),
                                      const char *note, struct err *e) {
    bool told, any = false;
    for (int p = 0; p < b->group->topic->partition_count; p++)
        any = any || (b->shares[p].mine && of(b, p) >= 0);
    if (!any) return ERR_NONE;
    if (strike(b, MEMORY_AT_POSITIONS, "sending positions", &told, e)) return e->kind;
    if (open_txn(b, e) || may_give_positions(b, e)) return e->kind;
    struct txn *t = b->under_way;
    for (int p = 0; p < b->group->topic->partition_count; p++)
        if (b->shares[p].mine && of(b, p) >= 0) add_position(t, p, of(b, p), note);
    if (told) return err_again(e, "sending positions timed out");
    return commit_under_way(b, e);
}

static int64_t never_committed(const struct mbus *b, int p) {
    return b->group->places[p].committed < 0 ? b->shares[p].next : -1;
}

static int64_t end_not_committed(const struct mbus *b, int p) {
    return b->shares[p].next > b->shares[p].start ? b->shares[p].next : -1;
}

static void start_lanes(struct mbus *b) {
    for (int i = 0; i < b->lane_count; i++) {
        b->epochs[i] = take_over(b->lanes[i]);
        b->lanes[i]->frozen = false;
    }
    b->ready = true;
}

static void join(struct mbus *b) {
    if (b->member->in) return;
    b->member->in = true;
    rebalance(b->group);
}

void memory_rebalance(struct bus_memory *m, const char *group) {
    for (struct group *g = m->groups; g; g = g->next) {
        struct member *first = g->members, **end = &g->members;
        if (strcmp(g->name, group) != 0 || !first) continue;
        while (*end) end = &(*end)->next;
        *end = first;
        g->members = first->next;
        first->next = NULL;
        rebalance(g);
    }
}

/* Range: the first members get one more when it does not come out even. */
static void take_share(struct mbus *b) {
    int members = 0, before = 0, partitions = b->group->topic->partition_count;
    for (struct member *x = b->group->members; x; x = x->next) {
        if (x == b->member) before = members;
        members += x->in;
    }
    int each = partitions / members, more = partitions % members;
    int from = before * each + (before < more ? before : more), to = from + each + (before < more);
    for (int p = 0; p < partitions; p++) b->shares[p].mine = p >= from && p < to;
}

static enum err_kind take_positions(struct mbus *b, struct err *e) {
    for (int p = 0; p < b->group->topic->partition_count; p++) {
        struct share *s = &b->shares[p];
        const struct place *place = &b->group->places[p];
        if (!s->mine) continue;
        if (place->pending) commit_of_another(place->pending);
        if (place->pending)
            return err_again(e, "the position of %s[%d] waits for an open transaction",
                             b->group->topic->name, p);
        s->next = place->committed < 0 ? 0 : place->committed;
        s->start = place->committed;
        free(s->note);
        s->note = place->note ? mem_copy(place->note, strlen(place->note)) : NULL;
    }
    return commit_positions(b, never_committed, NULL, e);
}

/* The lanes are ours, and the share of the present generation is read from its committed positions.
 */
static enum err_kind get_ready(struct mbus *b, struct err *e) {
    if (!b->ready) start_lanes(b);
    if (member_is_current(b)) return ERR_NONE;
    if (finish(b, e)) return e->kind;
    join(b);
    forget(b);
    take_share(b);
    b->known = b->group->generation;
    if (!take_positions(b, e)) return ERR_NONE;
    b->known = 0;
    return want_rewind(b, e);
}

static void collect(struct mbus *b, const struct record *r) {
    if (b->polled_count == b->polled_cap) {
        b->polled_cap = b->polled_cap ? b->polled_cap * 2 : 64;
        b->polled = mem_resize(b->polled, b->polled_cap * sizeof *b->polled);
    }
    b->polled[b->polled_count++] = *r;
}

static size_t size_of(const struct record *r) {
    size_t n = r->key.len + r->value.len;
    for (size_t i = 0; i < r->header_count; i++)
        n += r->headers[i].name.len + r->headers[i].value.len;
    return n;
}

/* True when something new came. *all: every partition is read to its end. *full: one of them has
   more than the limits let in. */
static bool collect_all(struct mbus *b, const struct bus_limits *l, bool *all, bool *full) {
    size_t before = b->polled_count;
    *all = true;
    *full = false;
    for (int p = 0; p < b->group->topic->partition_count; p++) {
        struct share *s = &b->shares[p];
        const struct record *r;
        while (s->mine && (r = readable(&b->group->topic->partitions[p], &s->next))) {
            size_t bytes = b->polled_bytes + size_of(r);
            *all = false;
            *full = b->polled_count >= l->max_records || (b->polled_count && bytes > l->max_bytes);
            if (*full) break;
            collect(b, r);
            b->polled_bytes = bytes;
            s->done = s->next = r->offset + 1;
        }
    }
    *full = *full || b->polled_count >= l->max_records || b->polled_bytes >= l->max_bytes;
    return b->polled_count > before;
}

static enum err_kind memory_poll(struct bus *base, const struct bus_limits *l, struct records *r,
                                 struct err *e) {
    struct mbus *b = (struct mbus *)base;
    bool told, all, full;
    freeze(b, false);
    *r = (struct records){.generation = b->generation};
    if (b->failed.kind) {
        *e = b->failed;
        return e->kind;
    }
    if (strike(b, MEMORY_AT_POLL, "the poll", &told, e)) return want_rewind(b, e);
    if (get_ready(b, e)) return e->kind;
    if (!collect_all(b, l, &all, &full)) {
        if (finish(b, e)) return e->kind;
        if (all && !b->polled_count && commit_positions(b, end_not_committed, NULL, e))
            return want_rewind(b, e);
        if (l->wait_ms > 0) clock_sleep_ms(l->wait_ms);
    }
    *r = (struct records){b->polled, b->polled_count, b->polled_bytes, full, b->generation};
    return ERR_NONE;
}

static enum err_kind memory_hand_over(struct bus *base, const struct record *out, size_t n,
                                      struct err *e) {
    struct mbus *b = (struct mbus *)base;
    bool told;
    freeze(b, false);
    for (size_t i = 0; i < n; i++)
        if (size_of(&out[i]) > LONGEST_RECORD)
            return err_bad(e, REASON_TOO_LONG, "a record of %zu bytes for %s: the log takes %d",
                           size_of(&out[i]), out[i].topic, LONGEST_RECORD);
    if (finish(b, e)) return e->kind;
    if (!member_is_current(b))
        return want_rewind(b, (err_again(e, "the group went on without this member"), e));
    if (strike(b, MEMORY_AT_SEND, "sending", &told, e)) return want_rewind(b, e);
    if (open_txn(b, e)) return want_rewind(b, e);
    struct txn *t = b->under_way;
    for (size_t i = 0; i < n; i++) {
        struct topic *topic = find_topic(b->m, out[i].topic);
        if (!topic) {
            err_again(e, "no topic %s: run `darkroom topics create`", out[i].topic);
            return want_rewind(b, e);
        }
        struct partition *p = append(b->m, topic, &out[i], t->plain ? NULL : t);
        if (!t->plain) touch(t, p);
    }
    if (told) return want_rewind(b, (err_again(e, "sending timed out"), e));
    if (strike(b, MEMORY_AT_POSITIONS, "sending positions", &told, e)) return want_rewind(b, e);
    if (may_give_positions(b, e)) return want_rewind(b, e);
    for (int p = 0; p < b->group->topic->partition_count; p++)
        if (b->shares[p].mine && b->shares[p].done >= 0)
            add_position(t, p, b->shares[p].done, NULL);
    if (told) return want_rewind(b, (err_again(e, "sending positions timed out"), e));
    for (int p = 0; p < b->group->topic->partition_count; p++) b->shares[p].done = -1;
    b->polled_count = b->polled_bytes = 0;
    return ERR_NONE;
}

static enum err_kind memory_settle(struct bus *base, int wait_ms, struct err *e) {
    (void)wait_ms;
    freeze((struct mbus *)base, false);
    return finish((struct mbus *)base, e);
}

static bool memory_busy(const struct bus *base) {
    const struct mbus *b = (const struct mbus *)base;
    return b->under_way &&
           !b->failed.kind; /* what failed is not under way: it waits for a rewind */
}

static void abort_under_way(struct mbus *b) {
    struct txn *t = b->under_way;
    b->under_way = NULL;
    if (!t) return;
    t->by = NULL;
    b->aborts++;
    if (t->outcome == OPEN && !t->plain && lane_is_ours(b, b->under_way_lane))
        decide(b->lanes[b->under_way_lane], t, ABORTED);
}

static enum err_kind memory_rewind(struct bus *base, struct err *e) {
    struct mbus *b = (struct mbus *)base;
    struct err ignored;
    freeze(b, false);
    /* A hand-over that is done is worth keeping; one that fails is what the rewind is for. */
    if (finish(b, &ignored)) abort_under_way(b);
    b->failed = (struct err){0};
    b->known = 0;
    return get_ready(b, e);
}

static enum err_kind memory_alive(struct bus *base, struct err *e) {
    struct mbus *b = (struct mbus *)base;
    freeze(b, false);
    if (finish(b, e)) return e->kind;
    if (!member_is_current(b))
        return want_rewind(b, (err_again(e, "the group went on without this member"), e));
    return ERR_NONE;
}

static enum err_kind memory_mark(struct bus *base, int32_t partition, const char *note,
                                 struct err *e) {
    struct mbus *b = (struct mbus *)base;
    bool told;
    freeze(b, false);
    if (finish(b, e)) return e->kind;
    if (partition < 0 || partition >= b->group->topic->partition_count ||
        !b->shares[partition].mine)
        return want_rewind(b, (err_again(e, "partition %d is not ours any more", partition), e));
    if (strike(b, MEMORY_AT_POSITIONS, "sending positions", &told, e)) return want_rewind(b, e);
    if (open_txn(b, e) || may_give_positions(b, e)) return want_rewind(b, e);
    add_position(b->under_way, partition, b->shares[partition].start, note);
    if (told) return want_rewind(b, (err_again(e, "sending positions timed out"), e));
    return finish(b, e);
}

static const struct share *share_of(const struct mbus *b, int32_t partition) {
    if (!b->known || partition < 0 || partition >= b->group->topic->partition_count) return NULL;
    return b->shares[partition].mine ? &b->shares[partition] : NULL;
}

static const char *memory_note(const struct bus *base, int32_t partition) {
    const struct share *s = share_of((const struct mbus *)base, partition);
    return s ? s->note : NULL;
}

static int64_t memory_start(const struct bus *base, int32_t partition) {
    const struct share *s = share_of((const struct mbus *)base, partition);
    return s ? s->start : -1;
}

static enum err_kind memory_watch_poll(struct bus *base, struct record *r, bool *got,
                                       struct err *e) {
    struct mbus *b = (struct mbus *)base;
    (void)e;
    *got = false;
    for (int p = 0; b->watched && p < b->watched->partition_count && !*got; p++) {
        const struct record *next = readable(&b->watched->partitions[p], &b->watch_next[p]);
        if (!next) continue;
        *r = *next;
        *got = true;
        b->watch_next[p]++;
    }
    return ERR_NONE;
}

static enum err_kind memory_watch_end(struct bus *base, bool *at_end, struct err *e) {
    struct mbus *b = (struct mbus *)base;
    (void)e;
    *at_end = true;
    for (int p = 0; b->watched && p < b->watched->partition_count; p++) {
        struct partition *x = &b->watched->partitions[p];
        if (readable(x, &b->watch_next[p]) || (size_t)b->watch_next[p] < x->count) *at_end = false;
    }
    return ERR_NONE;
}

static enum err_kind memory_topic_exists(struct bus *base, const char *topic, bool *exists,
                                         struct err *e) {
    (void)e;
    *exists = find_topic(((struct mbus *)base)->m, topic) != NULL;
    return ERR_NONE;
}

static void memory_state(const struct bus *base, struct bus_state *s) {
    const struct mbus *b = (const struct mbus *)base;
    *s = (struct bus_state){.joined = b->known != 0, .commits = b->commits, .aborts = b->aborts};
    for (int p = 0; p < b->group->topic->partition_count; p++) {
        if (!share_of(b, p)) continue;
        s->partitions++;
        s->lag += (int64_t)b->group->topic->partitions[p].count - b->shares[p].start;
    }
    if (!s->joined) s->lag = -1;
}

static const char *memory_cluster(const struct bus *base) {
    return ((const struct mbus *)base)->m->cluster;
}

static void free_bus(struct mbus *b) {
    for (int p = 0; p < b->group->topic->partition_count; p++) free(b->shares[p].note);
    free(b->shares);
    free(b->name);
    free(b->watch_next);
    free(b->polled);
    free(b);
}

static void memory_close(struct bus *base) {
    struct mbus *b = (struct mbus *)base;
    struct err ignored;
    if (finish(b, &ignored)) abort_under_way(b);
    if (b->member->in) {
        b->member->in = false;
        rebalance(b->group);
    }
    free_bus(b);
}

void memory_crash(struct bus *base) {
    struct mbus *b = (struct mbus *)base;
    memory_freeze(base);
    if (b->under_way) b->under_way->by = NULL;
    free_bus(b);
}

static const struct bus_ops ops = {
    .poll = memory_poll,
    .hand_over = memory_hand_over,
    .settle = memory_settle,
    .busy = memory_busy,
    .rewind = memory_rewind,
    .alive = memory_alive,
    .mark = memory_mark,
    .note = memory_note,
    .start = memory_start,
    .watch_poll = memory_watch_poll,
    .watch_end = memory_watch_end,
    .topic_exists = memory_topic_exists,
    .state = memory_state,
    .cluster = memory_cluster,
    .close = memory_close,
};

struct bus *bus_open_memory(const struct bus_conf *conf, struct bus_memory *m, struct err *e) {
    struct topic *in = find_topic(m, conf->in),
                 *watched = conf->watch ? find_topic(m, conf->watch) : NULL;
    if (!in || (conf->watch && !watched))
        return err_fatal(e, "no topic %s in the memory log", in ? conf->watch : conf->in), NULL;
    if (conf->lanes < 1 || conf->lanes > LANES)
        return err_fatal(e, "lanes is 1 or %d", LANES), NULL;
    struct mbus *b = mem_zeroed(1, sizeof *b);
    b->base.ops = &ops;
    b->m = m;
    b->group = find_group(m, conf->group, in);
    if (!b->group) b->group = make_group(m, conf->group, in);
    b->member = mem_zeroed(1, sizeof *b->member);
    struct member **last = &b->group->members;
    while (*last) last = &(*last)->next;
    *last = b->member;
    b->delivery = conf->delivery;
    struct buf name = {0};
    buf_printf(&name, "%s.%s", conf->group, conf->instance);
    b->name = name.data;
    b->lane_count = conf->delivery == BUS_EXACTLY_ONCE ? conf->lanes : 0;
    for (int i = 0; i < b->lane_count; i++) {
        struct buf id = {0};
        buf_printf(&id, "%s.%d", b->name, i);
        b->lanes[i] = find_producer(m, id.data);
        buf_free(&id);
    }
    b->shares = mem_zeroed((size_t)in->partition_count, sizeof *b->shares);
    for (int p = 0; p < in->partition_count; p++) b->shares[p].done = -1;
    b->watched = watched;
    if (watched)
        b->watch_next = mem_zeroed((size_t)watched->partition_count, sizeof *b->watch_next);
    return &b->base;
}
