/*
 * stage.c: the loop that every worker lives in. One turn:
 *
 *     open once ▸ rewind if wanted ▸ updates ▸ poll ▸ enough? ▸ handle ▸ hand over ▸ settle
 *
 * A stage that overlaps does not settle: its commit goes on while the next records are handled.
 *
 * Whatever says ERR_AGAIN ends the turn: outputs are dropped, the bus goes back to the last commit,
 * and the caller waits for *retry_ms, longer with each failure in a row. Nothing is refused for it.
 *
 * What can be blamed on records in hand (a hand-over that the broker finds too long, ERR_BAD from
 * handle, a note that a worker died of them) is repeated one record at a time, so that only the
 * culprit is buried. The culprit is noted in `bury`, everything rewound, and when the record comes
 * again, alone, it is refused unhandled; a letter that is itself too long is written again without
 * its contents, and then not at all.
 */
#include "lib/stage/stage.h"
#include "lib/stage/out.h"
#include "lib/stage/poison.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    RETRY_FIRST_MS = 100,
    RETRY_MOST_MS = 5000,
    SAY_EVERY_MS = 5000,        /* what is waited for */
    NOT_READY_AFTER_MS = 10000, /* of failures in a row */
    SETTLE_MS = 10000,          /* for a commit, before it is said that it lasts */
    SETTLE_SLICE_MS = 1000,     /* between signs of life meanwhile */
    WATCH_PAUSE_MS = 5,         /* between looks at the watched topic */
};

enum burial { BURY_NOBODY, BURY_REFUSE, BURY_BARE, BURY_SILENTLY };

/* An update that the stage could not take yet. */
struct update {
    struct update *next;
    struct record record;
    struct arena memory;
};

struct retry {
    int failures;   /* in a row */
    int64_t due_us; /* of updates only: the loop's own is the caller's to wait for */
};

struct stage_run {
    const struct stage *stage;
    void *state;
    struct bus *bus;
    struct stage_conf conf;
    struct stage_hands *hands, own_hands;
    struct stage_metrics *metrics, own_metrics;
    struct out out;

    bool opened, rewind_wanted;
    uint64_t generation; /* of the records that were polled last */
    bool polled;         /* generation is known */
    int64_t first_us;    /* since when the oldest record waits; 0: none does */

    struct tally flight; /* of the hand-over under way */
    bool in_flight;
    uint64_t commits;      /* before it */
    struct ranges in_hand; /* of the records being handled */
    struct ranges careful; /* taken one by one, not as suspects */
    struct {
        enum burial how;
        int32_t partition;
        int64_t offset;
        int attempts;
        struct err why;
    } bury;

    bool caught_up, ever_caught_up; /* with the watched topic */
    bool to_show;                   /* the stage has taken updates */
    struct update *updates;         /* one a key */
    struct retry updates_retry;

    struct retry retry;
    int64_t failing_since_us, failed_us; /* the first and the last failure in a row; 0: none */
    bool had_records;                    /* when it failed */
    long long said_ms;
    bool said;
    uint64_t seed;
};

struct stage_run *stage_run_make(const struct stage *s, void *state, struct bus *bus,
                                 const struct stage_conf *conf) {
    struct stage_run *run = mem_zeroed(1, sizeof *run);
    run->stage = s;
    run->state = state;
    run->bus = bus;
    run->conf = *conf;
    run->hands = conf->hands ? conf->hands : &run->own_hands;
    run->metrics = conf->metrics ? conf->metrics : &run->own_metrics;
    if (!conf->metrics) metrics_init(run->metrics);
    run->metrics->restarts = run->hands->restarts;
    for (uint32_t i = 0; i < run->hands->suspects.count; i++) {
        const struct range *x = &run->hands->suspects.list[i];
        log_warn("partition %d goes on carefully from offset %" PRId64 " to %" PRId64
                 ": this worker died of a record there",
                 x->partition, x->from, x->to);
    }
    run->out = (struct out){.stage = s, .conf = &run->conf, .bus = bus, .metrics = run->metrics};
    run->caught_up = s->watch == TOPIC_NONE;
    run->ever_caught_up = run->caught_up;
    run->seed = (uint64_t)clock_monotonic_us() | 1;
    return run;
}

/* ---- failing and going on ---- */

static uint64_t random_of(struct stage_run *run) {
    run->seed ^= run->seed << 13;
    run->seed ^= run->seed >> 7;
    run->seed ^= run->seed << 17;
    return run->seed;
}

/* Doubles up to the most, and spreads over its upper half so that workers do not return all at
 * once. */
static int next_retry_ms(struct stage_run *run, struct retry *r) {
    int ms = RETRY_FIRST_MS;
    for (int i = 0; i < r->failures && ms < RETRY_MOST_MS; i++) ms *= 2;
    if (ms > RETRY_MOST_MS) ms = RETRY_MOST_MS;
    r->failures++;
    return ms / 2 + (int)(random_of(run) % (uint64_t)(ms / 2 + 1));
}

static bool stopping(const struct stage_run *run) {
    return run->conf.stop && *run->conf.stop;
}

static int failed(struct stage_run *run, const struct err *e) {
    int64_t now = clock_monotonic_us();
    int ms = next_retry_ms(run, &run->retry);
    run->metrics->backoff_ms += (uint64_t)ms;
    run->failed_us = now;
    if (!run->failing_since_us) run->failing_since_us = now;
    if (now - run->failing_since_us >= NOT_READY_AFTER_MS * 1000LL)
        metrics_ready(run->metrics, e->text);
    if (!stopping(run) && log_due(&run->said_ms, SAY_EVERY_MS)) {
        log_warn("%s; trying again", e->text);
        run->said = true;
    }
    return ms;
}

static void went_well(struct stage_run *run) {
    run->retry.failures = 0;
    if (run->said)
        log_info("going on after %.1f s",
                 (double)(clock_monotonic_us() - run->failing_since_us) / 1e6);
    run->said = false;
    run->said_ms = 0;
    run->failing_since_us = 0;
    run->had_records = false;
}

/* Nothing to do is a success, unless the failure was about records that have not come again yet. */
static void idle_goes_well(struct stage_run *run) {
    if (!run->had_records || clock_monotonic_us() - run->failed_us > RETRY_MOST_MS * 1000LL)
        went_well(run);
}

/* ---- the watched topic ---- */

static void copy_record(struct arena *a, const struct record *from, struct record *to) {
    struct header *headers = arena_alloc(a, (from->header_count + 1) * sizeof *headers);
    for (size_t i = 0; i < from->header_count; i++)
        headers[i] = (struct header){arena_copy(a, from->headers[i].name),
                                     arena_copy(a, from->headers[i].value)};
    *to = *from;
    to->topic = arena_text(a, bytes_of(from->topic));
    to->key = arena_copy(a, from->key);
    to->value = arena_copy(a, from->value);
    to->headers = headers;
}

static void drop_update(struct update **at) {
    struct update *u = *at;
    *at = u->next;
    arena_free(&u->memory);
    free(u);
}

/* Offers an update. ERR_BAD is passed over; true in *taken unless the stage says ERR_AGAIN. */
static enum err_kind offer(struct stage_run *run, const struct record *r, bool *taken,
                           struct err *e) {
    enum err_kind kind = run->stage->on_update ? run->stage->on_update(run->state, r, e) : ERR_NONE;
    *taken = kind != ERR_AGAIN;
    if (kind == ERR_FATAL) return kind;
    run->to_show = run->to_show || !kind;
    if (kind == ERR_BAD)
        log_warn("passed over %s[%d]@%" PRId64 ": %s", r->topic, r->partition, r->offset, e->text);
    if (kind == ERR_AGAIN && log_due(&run->said_ms, SAY_EVERY_MS))
        log_warn("an update waits: %s", e->text);
    err_clear(e);
    return ERR_NONE;
}

static enum err_kind offer_kept(struct stage_run *run, struct err *e) {
    bool taken, all = true;
    if (!run->updates || clock_monotonic_us() < run->updates_retry.due_us) return ERR_NONE;
    for (struct update **at = &run->updates; *at;) {
        if (offer(run, &(*at)->record, &taken, e)) return e->kind;
        if (taken)
            drop_update(at);
        else
            at = &(*at)->next;
        all = all && taken;
    }
    if (all) {
        run->updates_retry = (struct retry){0};
        return ERR_NONE;
    }
    int ms = next_retry_ms(run, &run->updates_retry);
    run->metrics->backoff_ms += (uint64_t)ms;
    run->updates_retry.due_us = clock_monotonic_us() + ms * 1000LL;
    return ERR_NONE;
}

static void keep_update(struct stage_run *run, const struct record *r) {
    struct update *u = mem_zeroed(1, sizeof *u), **end = &run->updates;
    copy_record(&u->memory, r, &u->record);
    while (*end) end = &(*end)->next;
    *end = u;
    run->updates_retry.due_us = 0; /* a new one is offered at once */
}

/* Takes what is there; an older update of the same key is overtaken, so that a long history costs
   no more than its last state. */
static enum err_kind gather_updates(struct stage_run *run, struct err *e) {
    struct record r;
    bool got = run->stage->watch != TOPIC_NONE;
    while (got) {
        if (bus_watch_poll(run->bus, &r, &got, e)) return e->kind;
        if (!got) break;
        metrics_beat(run->metrics);
        for (struct update **at = &run->updates; *at;)
            if (bytes_equal((*at)->record.key, r.key))
                drop_update(at);
            else
                at = &(*at)->next;
        keep_update(run, &r);
    }
    return ERR_NONE;
}

/* Reads the watched topic to the end that it has now, for at most wait_ms: run->caught_up says
 * whether. */
static enum err_kind catch_up(struct stage_run *run, int wait_ms, struct err *e) {
    int64_t until = clock_monotonic_us() + wait_ms * 1000LL;
    for (run->caught_up = false;;) {
        bool at_end = false;
        if (gather_updates(run, e) || bus_watch_end(run->bus, &at_end, e)) return e->kind;
        if (at_end && offer_kept(run, e)) return e->kind;
        bool must_take_all = run->stage->watch_first || !run->ever_caught_up;
        run->caught_up = at_end && !(must_take_all && run->updates);
        run->ever_caught_up = run->ever_caught_up || run->caught_up;
        if (run->caught_up || clock_monotonic_us() >= until) return ERR_NONE;
        metrics_beat(run->metrics);
        clock_sleep_ms(WATCH_PAUSE_MS);
    }
}

/* ---- one turn ---- */

/* The last hand-over is committed: its counts are true now. */
static void landed(struct stage_run *run) {
    struct stage_metrics *m = run->metrics;
    const struct tally *t = &run->flight;
    if (!run->in_flight) return;
    run->in_flight = false;
    m->records += t->records;
    m->bytes += t->bytes;
    m->replies += t->replies;
    for (int i = 0; i < STAGE_OUTPUTS; i++) m->outputs[i] += t->outputs[i];
    for (int i = 0; i < STAGE_COUNTERS; i++) m->counters[i] += t->counters[i];
    for (int i = 0; i < REASON_COUNT; i++) m->refused[i] += t->refused[i];
    for (size_t i = 0; i < t->lists.by_model_count; i++)
        metrics_count_model(m, &t->lists.by_model[i]);
    int64_t now = clock_now_ms();
    for (uint64_t i = 0; i < t->records; i++)
        if (t->lists.times_ms[i] >= 0) /* -1: a record without a time */
            metrics_observe(&m->latency, (now - t->lists.times_ms[i]) * 1000);
    if (t->oldest_ms >= 0) m->event_age_ms = now > t->oldest_ms ? now - t->oldest_ms : 0;
    struct bus_state s;
    bus_state(run->bus, &s);
    metrics_observe(&m->commit, s.commit_us);
    went_well(run);
}

/* ERR_AGAIN when the commit under way has failed, or lasts longer than this. */
static enum err_kind settle(struct stage_run *run, int patience_ms, struct err *e) {
    for (int waited = 0;; waited += SETTLE_SLICE_MS) {
        metrics_beat(run->metrics);
        if (!bus_settle(run->bus, SETTLE_SLICE_MS, e)) break;
        if (!bus_busy(run->bus) || waited + SETTLE_SLICE_MS >= patience_ms) return e->kind;
    }
    landed(run);
    return ERR_NONE;
}

/* Back to the last commit, now or at the beginning of the next turns until it succeeds. A hand-over
   under way that can still be committed is worth keeping. */
static enum err_kind rewind_bus(struct stage_run *run, struct err *e) {
    struct err lost;
    if (run->in_flight && settle(run, SETTLE_SLICE_MS, &lost)) {
        struct bus_state s;
        bus_state(run->bus, &s);
        if (s.commits > run->commits) landed(run); /* what failed came after it */
        run->in_flight = false;
    }
    run->rewind_wanted = true;
    run->first_us = 0;
    if (bus_rewind(run->bus, e)) return e->kind;
    run->rewind_wanted = false;
    run->metrics->rewinds++;
    return ERR_NONE;
}

/* How many records to take at once, when something ahead is not to be trusted; 0: any number. */
static size_t careful_crowd(struct stage_run *run) {
    size_t suspects = poison_crowd(run->hands, run->bus);
    return ranges_ahead(&run->careful, run->bus) ? 1 : suspects;
}

static void note_state(struct stage_run *run) {
    struct bus_state s;
    bus_state(run->bus, &s);
    run->metrics->lag = s.lag;
    run->metrics->partitions = s.partitions;
    run->metrics->gaps = s.gaps;
    if (run->failing_since_us) return;
    metrics_ready(run->metrics, !s.joined ? "the consumer group is not joined yet"
                                : !run->ever_caught_up
                                    ? "the watched topic is not read to its end yet"
                                    : NULL);
}

static enum err_kind poll(struct stage_run *run, const struct bus_limits *l, struct records *in,
                          struct err *e) {
    if (bus_poll(run->bus, l, in, e)) return e->kind;
    note_state(run);
    if (!bus_busy(run->bus)) {
        landed(run);
        run->hands->held.count = 0;
        if (!in->count) idle_goes_well(run);
    }
    if (run->polled && in->generation == run->generation) return ERR_NONE;
    if (run->polled && run->stage->rewind) run->stage->rewind(run->state);
    run->polled = true;
    run->generation = in->generation;
    run->first_us = 0;
    if (run->stage->watch != TOPIC_NONE) run->caught_up = false;
    return ERR_NONE;
}

static bool is_enough(struct stage_run *run, const struct records *in) {
    if (!run->first_us) run->first_us = clock_monotonic_us();
    if (!run->stage->enough || in->full) return true;
    return run->stage->enough(run->state, in->list, in->count,
                              (clock_monotonic_us() - run->first_us) / 1000);
}

static bool is_to_bury(const struct stage_run *run, const struct records *in) {
    return run->bury.how && in->count == 1 && in->list->partition == run->bury.partition &&
           in->list->offset == run->bury.offset;
}

static void decide_to_bury(struct stage_run *run, const struct range *of, enum burial how,
                           int attempts, const struct err *why) {
    run->bury.how = how;
    run->bury.partition = of->partition;
    run->bury.offset = of->from;
    run->bury.attempts = attempts;
    run->bury.why = *why;
}

/* A suspect is counted before it is handled, or buried when it has had its tries. */
static enum err_kind try_suspects(struct stage_run *run, const struct records *in, struct err *e) {
    const struct record *r = in->list;
    if (in->count > 1) return poison_try_crowd(run->hands, run->bus, r, in->count, e);
    int tries = poison_tries(run->hands, run->bus, r);
    if (!tries) return ERR_NONE;
    if (!poison_is_proven(run->hands, run->bus, r, tries)) {
        if (tries > 1)
            log_warn("%s[%d]@%" PRId64 " is taken alone, try %d", r->topic, r->partition, r->offset,
                     tries + 1);
        return poison_try(run->hands, run->bus, r, e);
    }
    err_bad(e, REASON_KILLS_WORKER, "handling it ended the process %d times", tries);
    decide_to_bury(run, &(struct range){r->partition, r->offset, r->offset + 1}, BURY_REFUSE, tries,
                   e);
    err_clear(e);
    return ERR_NONE;
}

static void bury(struct stage_run *run, const struct record *r) {
    struct err why = run->bury.why; /* which is still needed if this must be done again */
    if (run->bury.how == BURY_SILENTLY)
        log_error("dropped %s[%d]@%" PRId64 ", which cannot be refused in writing either: %s",
                  r->topic, r->partition, r->offset, why.text);
    else if (run->bury.how == BURY_BARE)
        out_bare_letter(&run->out, r, &why);
    else if (run->stage->refuse)
        run->stage->refuse(run->state, r, &why, &run->out);
    else
        out_dead_letter(&run->out, r, &why);
}

static enum err_kind handle(struct stage_run *run, const struct records *in, struct err *e) {
    enum err_kind kind = ERR_NONE;
    bool burying = is_to_bury(run, in);
    int64_t begin = clock_monotonic_us();
    out_begin(&run->out, in->list, in->count,
              burying ? run->bury.attempts : run->retry.failures + 1);
    run->in_hand.count = 0;
    ranges_add_records(&run->in_hand, in->list, in->count);
    ranges_add_all(&run->hands->held, &run->in_hand);
    metrics_beat(run->metrics);
    err_clear(e);
    if (burying)
        bury(run, in->list);
    else
        kind = run->stage->handle(run->state, in->list, in->count, &run->out, e);
    metrics_observe(&run->metrics->handle, clock_monotonic_us() - begin);
    metrics_beat(run->metrics);
    return kind;
}

/* The inputs are the bus's and must not be looked at any more. */
static enum err_kind hand_over(struct stage_run *run, struct err *e) {
    if (bus_hand_over(run->bus, run->out.list, run->out.count, e)) return e->kind;
    landed(run); /* the one before: nothing is sent until it is committed */
    struct bus_state s;
    bus_state(run->bus, &s);
    run->commits = s.commits;
    struct tally settled = run->flight; /* its memory is the next one's */
    run->flight = run->out.tally;
    run->out.tally = settled;
    run->in_flight = true;
    run->first_us = 0;
    run->hands->held.count = 0;
    ranges_add_all(&run->hands->held, &run->in_hand);
    return ERR_NONE;
}

/* ERR_BAD for what is in hand: the next time one by one, and one alone is buried. */
static enum err_kind blame(struct stage_run *run, bool alone, bool burying, struct err *e) {
    ranges_add_all(&run->careful, &run->in_hand);
    if (!alone)
        log_warn("the last records are repeated one by one: %s", e->text);
    else if (burying)
        run->bury.how++;
    else if (run->out.refused.kind) /* it was refused already, and the letter is too long */
        decide_to_bury(run, run->in_hand.list, BURY_BARE, run->retry.failures + 1,
                       &run->out.refused);
    else
        decide_to_bury(run, run->in_hand.list, BURY_REFUSE, run->retry.failures + 1, e);
    return rewind_bus(run, e);
}

/* The bus was asked in between, and its records are borrowed: the same ones once more, or none when
   they are no longer ours. */
static enum err_kind poll_again(struct stage_run *run, struct records *in,
                                const struct bus_limits *l, struct err *e) {
    struct bus_limits same = *l;
    uint64_t before = in->generation;
    same.max_records = in->count;
    same.wait_ms = 0;
    if (poll(run, &same, in, e)) return e->kind;
    if (in->generation != before) in->count = 0;
    return ERR_NONE;
}

static size_t most_records(const struct stage_run *run) {
    const struct stage *s = run->stage;
    size_t most = run->conf.max_records ? (size_t)run->conf.max_records : s->max_records;
    size_t fit = s->most ? s->most(run->state) : most;
    return fit < most ? fit : most;
}

static enum err_kind turn(struct stage_run *run, int wait_ms, bool *idle, struct err *e) {
    const struct stage *s = run->stage;
    struct records in;
    if (!run->opened) {
        if (s->open && s->open(run->state, e)) return e->kind;
        run->opened = true;
    }
    if (run->rewind_wanted && rewind_bus(run, e)) return e->kind;
    if (run->caught_up ? gather_updates(run, e) || offer_kept(run, e) : catch_up(run, 0, e))
        return e->kind;

    if (run->to_show) metrics_show(run->metrics, s, run->state);
    run->to_show = false;

    size_t crowd = careful_crowd(run);
    struct bus_limits limits = {
        .max_records = crowd && crowd < most_records(run) ? crowd : most_records(run),
        .max_bytes = run->conf.max_bytes ? (size_t)run->conf.max_bytes : s->max_bytes,
        .wait_ms = run->caught_up || wait_ms < WATCH_PAUSE_MS ? wait_ms : WATCH_PAUSE_MS,
    };
    if (poll(run, &limits, &in, e)) return e->kind;
    *idle = in.count == 0;
    if (*idle) return ERR_NONE;
    run->had_records = true;

    poison_learn(run->hands, run->bus, in.list, in.count);
    crowd = careful_crowd(run);
    bool carefully = crowd > 0, asked = carefully;
    if (carefully && in.count > crowd) return rewind_bus(run, e);
    if (!is_enough(run, &in)) return ERR_NONE;

    if (carefully && !is_to_bury(run, &in) && try_suspects(run, &in, e)) return e->kind;
    if (s->watch_first || !run->caught_up) {
        asked = true;
        if (catch_up(run, wait_ms, e)) return e->kind;
        if (!run->caught_up) return ERR_NONE;
    }
    if (asked && poll_again(run, &in, &limits, e)) return e->kind;
    if (!in.count) return ERR_NONE;

    bool alone = in.count == 1, burying = is_to_bury(run, &in);
    enum err_kind kind = handle(run, &in, e);
    if (kind == ERR_NONE) kind = hand_over(run, e);
    if (kind == ERR_NONE && (carefully || !s->overlap)) kind = settle(run, SETTLE_MS, e);
    if (kind == ERR_NONE && burying) run->bury.how = BURY_NOBODY;
    return kind == ERR_BAD ? blame(run, alone, burying, e) : kind;
}

enum err_kind stage_step(struct stage_run *run, int wait_ms, bool *idle, int *retry_ms,
                         struct err *e) {
    struct err inner;
    *idle = true;
    *retry_ms = 0;
    err_clear(e);
    metrics_beat(run->metrics);
    enum err_kind kind = turn(run, wait_ms, idle, e);
    if (kind == ERR_BAD) {
        inner = *e;
        return err_fatal(e, "%s", inner.text);
    }
    if (kind != ERR_AGAIN) return kind;
    if (run->opened)
        (void)rewind_bus(run, &inner); /* failing now, it is repeated by the next turn */
    *retry_ms = failed(run, e);
    return kind;
}

bool stage_run_opened(const struct stage_run *run) {
    return run->opened;
}

void stage_run_free(struct stage_run *run) {
    struct err e;
    if (!run) return;
    if (settle(run, SETTLE_MS, &e)) log_warn("the last hand-over will be repeated: %s", e.text);
    if (run->opened && run->stage->close) run->stage->close(run->state);
    while (run->updates) drop_update(&run->updates);
    out_free(&run->out);
    tally_free(&run->flight);
    free(run);
}
