/*
 * The loop on the memory log, with a tiny stage that does what its records tell it: "ok", "twice",
 * "again" (as long as the world is down), "bad", "refuse", "huge", "stray", "reply".
 */
#include "lib/base/clock.h"
#include "lib/base/version.h"
#include "lib/bus/memory.h"
#include "lib/stage/metrics.h"
#include "lib/stage/poison.h"
#include "lib/stage/stage.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST = 256, HUGE_LEN = 1100000 };

struct tiny {
    bool down, updates_down;
    int opened, handled, records, rewinds, updates, closed;
    size_t largest, smallest_enough;
    int64_t linger_ms;
    int updates_at_handle;
    char reply_to[64];
    char seen[MOST]; /* first letters of values, in order */
};

static enum err_kind open_(void *state, struct err *e) {
    struct tiny *t = state;
    if (t->down) return err_again(e, "the world is down");
    t->opened++;
    return ERR_NONE;
}

static bool enough(void *state, const struct record *in, size_t n, int64_t waited_ms) {
    struct tiny *t = state;
    return n >= t->smallest_enough || waited_ms >= t->linger_ms;
}

static enum err_kind one(struct tiny *t, const struct record *r, struct out *out, struct err *e) {
    struct record copy = {.key = r->key, .value = r->value, .time_ms = -1};
    if (t->records < MOST) t->seen[t->records] = *(const char *)r->value.data;
    t->records++;
    if (bytes_is(r->value, "again") && t->down) return err_again(e, "the world is down");
    if (bytes_is(r->value, "bad")) return err_bad(e, REASON_BAD_MESSAGE, "bad it is");
    if (bytes_is(r->value, "refuse")) {
        err_bad(e, REASON_NOT_PNG, "no image");
        out_dead_letter(out, r, e);
        return e->kind;
    }
    if (bytes_is(r->value, "huge")) {
        char *huge = mem_zeroed(1, HUGE_LEN);
        copy.value = (struct bytes){huge, HUGE_LEN};
        enum err_kind kind = out_send(out, IMAGES_PREPARED, &copy, e);
        free(huge);
        return kind;
    }
    if (bytes_is(r->value, "stray")) return out_send(out, BATCHES, &copy, e);
    if (bytes_is(r->value, "reply")) {
        struct event ev = {.id = BYTES("i"), .source = BYTES("s"), .model = BYTES("m")};
        if (out_reply(out, bytes_of(t->reply_to), IMAGES_PREPARED, r->key, r->value, &ev, r, e) !=
            ERR_BAD)
            return e->kind;
        out_dead_letter(out, r, e);
        return e->kind;
    }
    if (bytes_is(r->value, "twice") && out_send(out, IMAGES_PREPARED, &copy, e)) return e->kind;
    stage_count(out, "passed", 1);
    stage_count_model(out, r->key, 3, 1);
    return out_send(out, IMAGES_PREPARED, &copy, e);
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct tiny *t = state;
    t->handled++;
    t->updates_at_handle = t->updates;
    if (n > t->largest) t->largest = n;
    for (size_t i = 0; i < n; i++)
        if (one(t, &in[i], out, e)) return e->kind;
    return ERR_NONE;
}

static enum err_kind on_update(void *state, const struct record *r, struct err *e) {
    struct tiny *t = state;
    if (t->updates_down) return err_again(e, "the update's world is down");
    t->updates++;
    return ERR_NONE;
}

static void show(const void *state, struct shown *to) {
    const struct tiny *t = state;
    stage_show(to, BYTES("digits"), (const double[STAGE_GAUGES]){t->updates, NAN});
    stage_show(to, BYTES("no\nmodel"), (const double[STAGE_GAUGES]){1, 1});
}

static void rewind_(void *state) {
    ((struct tiny *)state)->rewinds++;
}

static void close_(void *state) {
    ((struct tiny *)state)->closed++;
}

static const struct stage plain = {
    .name = "tiny",
    .in = IMAGES,
    .out = {IMAGES_PREPARED},
    .max_records = 100,
    .max_bytes = 1 << 20,
    .replies = true,
    .state_size = sizeof(struct tiny),
    .counters = {"passed"},
    .by_model = "answered",
    .gauges = (const struct figure[]){{"seen", "Updates."}, {"unseen", "None."}, {0}},
    .open = open_,
    .handle = handle,
    .on_update = on_update,
    .show = show,
    .rewind = rewind_,
    .close = close_,
};

struct world {
    struct bus_memory *log;
    struct bus *bus;
    struct stage_run *run;
    struct stage stage;
    struct stage_conf conf;
    struct stage_metrics metrics;
    struct stage_hands hands;
    struct tiny tiny;
    struct err e;
    int retry_ms;
    bool idle;
};

static void start(struct world *w) {
    struct bus_conf conf = {.group = "darkroom.tiny",
                            .instance = "a",
                            .in = topic_name(w->stage.in),
                            .watch = w->stage.watch ? topic_name(w->stage.watch) : NULL,
                            .lanes = w->stage.overlap ? 2 : 1};
    w->bus = bus_open_memory(&conf, w->log, &w->e);
    assert_non_null(w->bus);
    w->conf.metrics = &w->metrics;
    w->conf.hands = &w->hands;
    w->run = stage_run_make(&w->stage, &w->tiny, w->bus, &w->conf);
}

static void stop(struct world *w) {
    stage_run_free(w->run);
    bus_close(w->bus);
}

/* The process is gone between two calls. */
static void crash(struct world *w, bool fault) {
    assert_false(
        bus_busy(w->bus)); /* so that freeing the run commits nothing that a crash would not */
    stage_run_free(w->run);
    memory_crash(w->bus);
    poison_died(&w->hands, fault);
    memory_expire(w->log);
}

static int setup(void **state) {
    struct world *w = mem_zeroed(1, sizeof *w);
    clock_simulate(1700000000000);
    w->log = memory_make();
    w->stage = plain;
    metrics_init(&w->metrics);
    w->tiny.smallest_enough = 1;
    for (int t = TOPIC_NONE + 1; t < TOPIC_COUNT; t++)
        memory_topic(w->log, topic_name((enum topic)t), 1);
    memory_topic(w->log, "answers.me", 1);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    memory_free(w->log);
    clock_simulate(-1);
    free(w);
    return 0;
}

static void say_to(struct world *w, enum topic t, const char *value) {
    struct header h[] = {{BYTES("label"), BYTES("7")}, {BYTES("trace"), {0}}};
    memory_append(w->log, &(struct record){.topic = topic_name(t),
                                           .key = BYTES("k"),
                                           .value = bytes_of(value),
                                           .headers = h,
                                           .header_count = 2,
                                           .time_ms = clock_now_ms()});
}

static void say(struct world *w, const char *value) {
    say_to(w, w->stage.in, value);
}

static enum err_kind step(struct world *w) {
    return stage_step(w->run, 10, &w->idle, &w->retry_ms, &w->e);
}

/* Until nothing waits; failures are waited for. */
static void run_dry(struct world *w) {
    for (int i = 0; i < 1000; i++) {
        enum err_kind kind = step(w);
        if (kind == ERR_FATAL) fail_msg("%s", w->e.text);
        clock_sleep_ms(w->retry_ms);
        if (kind == ERR_NONE && w->idle && !bus_busy(w->bus) &&
            !memory_lag(w->log, "darkroom.tiny", topic_name(w->stage.in)))
            return;
    }
    fail_msg("it never comes to rest");
}

static size_t sent(struct world *w, const char *topic, struct record *out) {
    return memory_committed(w->log, topic, out, MOST);
}

static size_t prepared(struct world *w) {
    struct record out[MOST];
    return sent(w, topic_name(IMAGES_PREPARED), out);
}

static size_t letters(struct world *w, struct record *out) {
    return sent(w, topic_name(IMAGES_DLQ), out);
}

static void outputs_and_positions_commit_together(void **state) {
    struct world *w = *state;
    start(w);
    say(w, "ok");
    say(w, "twice");
    run_dry(w);
    assert_int_equal(prepared(w), 3);
    assert_int_equal(w->tiny.handled, 1);
    assert_int_equal(w->metrics.records, 2);
    assert_int_equal(w->metrics.outputs[0], 3);
    assert_int_equal(w->metrics.counters[0], 2);
    stop(w);
    assert_int_equal(w->tiny.closed, 1);
}

static void again_repeats_all_with_growing_pauses(void **state) {
    struct world *w = *state;
    int last = 0;
    start(w);
    assert_int_equal(step(w), ERR_NONE);
    w->tiny.down = true;
    say(w, "ok");
    say(w, "again");
    for (int i = 0; i < 6; i++) {
        assert_int_equal(step(w), ERR_AGAIN);
        assert_true(w->retry_ms >= last / 2 && w->retry_ms >= 50 && w->retry_ms <= 5000);
        last = w->retry_ms;
    }
    assert_true(last >= 1600);
    assert_int_equal(prepared(w), 0);
    assert_int_equal(w->metrics.counters[0], 0);
    w->tiny.down = false;
    run_dry(w);
    assert_int_equal(prepared(w), 2);
    assert_int_equal(w->metrics.counters[0], 2);
    assert_int_equal(w->tiny.rewinds, 6);
    stop(w);
}

static void open_is_repeated(void **state) {
    struct world *w = *state;
    start(w);
    w->tiny.down = true;
    say(w, "ok");
    assert_int_equal(step(w), ERR_AGAIN);
    assert_int_equal(step(w), ERR_AGAIN);
    w->tiny.down = false;
    run_dry(w);
    assert_int_equal(w->tiny.opened, 1);
    assert_int_equal(prepared(w), 1);
    stop(w);
}

static void dead_letters_are_the_record_as_it_came(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    start(w);
    say(w, "ok");
    say(w, "refuse");
    run_dry(w);
    assert_int_equal(prepared(w), 1);
    assert_int_equal(letters(w, out), 1);
    assert_true(bytes_is(out->key, "k"));
    assert_true(bytes_is(out->value, "refuse"));
    assert_true(bytes_is(out->headers[0].name, "label") && bytes_is(out->headers[0].value, "7"));
    assert_true(bytes_is(out->headers[1].name, "trace") && !out->headers[1].value.data);
    const char *said[][2] = {
        {"dlq.reason", "not-png"},
        {"dlq.text", "no image"},
        {"dlq.stage", "tiny"},
        {"dlq.version", DARKROOM_VERSION},
        {"dlq.topic", "darkroom.images"},
        {"dlq.partition", "0"},
        {"dlq.offset", "1"},
        {"dlq.attempts", "1"},
        {"dlq.record-time", "2023-11-14T22:13:20.000Z"},
        {"dlq.cluster", bus_cluster(w->bus)},
    };
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct bytes value = record_header(out, said[i][0]);
        if (!bytes_is(value, said[i][1]))
            fail_msg("%s is %.*s", said[i][0], (int)value.len, (const char *)value.data);
    }
    int64_t when;
    assert_int_equal(clock_parse(record_header(out, "dlq.time"), &when, &w->e), ERR_NONE);
    assert_int_equal(w->metrics.refused[REASON_NOT_PNG], 1);
    stop(w);
}

static void only_the_culprit_is_buried(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    start(w);
    say(w, "ok");
    say(w, "huge");
    say(w, "ok");
    say(w, "bad");
    say(w, "ok");
    run_dry(w);
    assert_int_equal(prepared(w), 3);
    assert_int_equal(letters(w, out), 2);
    assert_true(bytes_is(record_header(&out[0], "dlq.reason"), "too-long"));
    assert_true(bytes_is(record_header(&out[0], "dlq.offset"), "1"));
    assert_true(bytes_is(record_header(&out[1], "dlq.reason"), "bad-message"));
    assert_true(bytes_is(record_header(&out[1], "dlq.offset"), "3"));
    say(w, "ok");
    say(w, "ok");
    w->tiny.largest = 0;
    run_dry(w);
    assert_int_equal(w->tiny.largest, 2); /* together again */
    stop(w);
}

static void a_letter_that_is_too_long_is_bare(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    char *huge = mem_zeroed(1, HUGE_LEN);
    memset(huge, 'b', HUGE_LEN - 1);
    start(w);
    say(w, huge); /* its value is no word of ours and too long to be passed on, or to be a letter */
    run_dry(w);
    assert_int_equal(prepared(w), 0);
    assert_int_equal(letters(w, out), 1);
    assert_null(out->value.data);
    assert_true(bytes_is(record_header(out, "dlq.reason"), "too-long"));
    assert_true(record_header(out, "dlq.left-out").data);
    free(huge);
    stop(w);
}

static void linger_by_count_and_age(void **state) {
    struct world *w = *state;
    w->stage.enough = enough;
    w->tiny.smallest_enough = 3;
    w->tiny.linger_ms = 1000;
    start(w);
    say(w, "ok");
    say(w, "ok");
    for (int i = 0; i < 10; i++) assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(w->tiny.handled, 0);
    say(w, "ok");
    assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(w->tiny.handled, 1);
    assert_int_equal(w->tiny.largest, 3);
    say(w, "ok");
    assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(w->tiny.handled, 1);
    clock_sleep_ms(1000);
    assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(w->tiny.handled, 2);
    w->tiny.smallest_enough = 1000; /* never asked at the most that one call takes */
    for (int i = 0; i < 100; i++) say(w, "ok");
    assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(w->tiny.handled, 3);
    stop(w);
}

static void overlap_leaves_the_commit_under_way(void **state) {
    struct world *w = *state;
    w->stage.overlap = true;
    w->conf.max_records = 2;
    start(w);
    for (int i = 0; i < 5; i++) say(w, "ok");
    assert_int_equal(step(w), ERR_NONE);
    assert_true(bus_busy(w->bus));
    assert_int_equal(prepared(w), 0);
    assert_int_equal(w->metrics.records, 0);
    assert_int_equal(w->hands.held.list[0].to, 2);
    assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(prepared(w), 2);
    assert_int_equal(w->metrics.records, 2);
    run_dry(w);
    assert_int_equal(prepared(w), 5);
    assert_int_equal(w->hands.held.count, 0);

    say(w, "ok");
    assert_int_equal(step(w), ERR_NONE);
    w->tiny.down = true;
    say(w, "again");
    assert_int_equal(step(w), ERR_AGAIN); /* the one before is kept, and counted */
    assert_int_equal(prepared(w), 6);
    assert_int_equal(w->metrics.records, 6);
    stop(w);
}

static enum memory_fault refuse_third_commit(void *ctx, struct bus *b, enum memory_point at) {
    (void)b;
    int *left = ctx;
    return at == MEMORY_AT_COMMIT && --*left == 0 ? MEMORY_FENCED : MEMORY_OK;
}

static void a_failed_commit_repeats_both(void **state) {
    struct world *w = *state;
    int left = 3;
    w->stage.overlap = true;
    w->conf.max_records = 1;
    start(w);
    for (int i = 0; i < 5; i++) say(w, "ok");
    memory_faults(w->log, refuse_third_commit, &left);
    run_dry(w);
    assert_int_equal(prepared(w), 5);
    assert_int_equal(w->metrics.records, 5);
    assert_int_equal(w->metrics.by_model[0].n, 5);
    assert_true(w->tiny.records > 5);
    assert_int_equal(w->tiny.rewinds, 1);
    stop(w);
}

static void watch_first_sees_what_was_committed_before(void **state) {
    struct world *w = *state;
    w->stage.watch = MODELS_DEPLOYED;
    w->stage.watch_first = true;
    start(w);
    for (int i = 1; i <= 3; i++) {
        say(w, "ok");
        say_to(w, MODELS_DEPLOYED, "update");
        assert_int_equal(step(w), ERR_NONE);
        assert_int_equal(w->tiny.updates_at_handle, i);
    }
    w->tiny.updates_down = true;
    say(w, "ok");
    say_to(w, MODELS_DEPLOYED, "update");
    assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(w->tiny.handled, 3);
    w->tiny.updates_down = false;
    run_dry(w);
    assert_int_equal(w->tiny.updates_at_handle, 4);
    stop(w);
}

static void an_update_waits_while_the_stage_goes_on(void **state) {
    struct world *w = *state;
    w->stage.watch = MODELS_DEPLOYED;
    say_to(w, MODELS_DEPLOYED, "first");
    say(w, "ok");
    start(w);
    w->tiny.updates_down = true;
    for (int i = 0; i < 5; i++) assert_int_equal(step(w), ERR_NONE);
    assert_int_equal(w->tiny.handled, 0); /* never without the first */
    w->tiny.updates_down = false;
    run_dry(w);
    assert_int_equal(w->tiny.handled, 1);
    assert_int_equal(w->tiny.updates, 1);

    w->tiny.updates_down = true;
    say_to(w, MODELS_DEPLOYED, "second");
    say_to(w, MODELS_DEPLOYED, "third"); /* of the same key: the second is overtaken */
    say(w, "ok");
    run_dry(w);
    assert_int_equal(w->tiny.handled, 2);
    assert_int_equal(w->tiny.updates, 1);
    assert_true(w->metrics.backoff_ms > 0);
    w->tiny.updates_down = false;
    for (int i = 0; i < 20; i++) {
        clock_sleep_ms(500);
        assert_int_equal(step(w), ERR_NONE);
    }
    assert_int_equal(w->tiny.updates, 2);
    stop(w);
}

static void an_undeclared_topic_is_refused(void **state) {
    struct world *w = *state;
    start(w);
    say(w, "stray");
    assert_int_equal(step(w), ERR_FATAL);
    assert_non_null(strstr(w->e.text, "batches"));
    stop(w);
}

static void replies_go_where_the_settings_allow(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    w->conf.reply_topics = "other,answers.*,darkroom.*";
    start(w);
    const char *tries[][2] = {{"answers.me", "yes"},
                              {"darkroom.images.prepared", "yes"},
                              {"darkroom.models.deployed", "no"},
                              {"answers.nowhere", "no"},
                              {"elsewhere", "no"},
                              {"answers/../x", "no"},
                              {"othe", "no"},
                              {"", "no"}};
    size_t refused = 0;
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        snprintf(w->tiny.reply_to, sizeof w->tiny.reply_to, "%s", tries[i][0]);
        say(w, "reply");
        run_dry(w);
        refused += tries[i][1][0] == 'n';
        if (letters(w, out) != refused) fail_msg("%s", tries[i][0]);
    }
    assert_int_equal(sent(w, "answers.me", out), 1);
    assert_int_equal(prepared(w), 1);
    assert_int_equal(w->metrics.replies, 1);
    stop(w);
}

static uint32_t luck;

static enum memory_fault bad_luck(void *ctx, struct bus *b, enum memory_point at) {
    (void)b;
    luck = luck * 1664525u + 1013904223u;
    if (luck >> 28) return MEMORY_OK;
    return (enum memory_fault)((luck >> 20) % 4);
}

/* Every fault at every boundary, with and without overlap: all once, in order, counted once. */
static void faults_lose_and_double_nothing(void **state) {
    struct world *w = *state;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        struct record out[MOST];
        char value[MOST][8];
        luck = seed * 2654435761u;
        w->stage.overlap = seed % 2;
        w->conf.max_records = 1 + seed % 7;
        start(w);
        memory_faults(w->log, bad_luck, NULL);
        size_t before = prepared(w);
        for (int i = 0; i < 5; i++) {
            snprintf(value[i], sizeof value[i], "%u.%d", seed, i);
            say(w, value[i]);
            if (step(w) == ERR_AGAIN) clock_sleep_ms(w->retry_ms);
        }
        run_dry(w);
        memory_faults(w->log, NULL, NULL);
        assert_int_equal(sent(w, topic_name(IMAGES_PREPARED), out), before + 5);
        for (size_t i = 0; i < 5; i++) assert_true(bytes_is(out[before + i].value, value[i]));
        assert_int_equal(w->metrics.records, before + 5);
        stop(w);
    }
}

/* Handles until the killer is in hand, then dies of it: what the log has seen by then is all that
 * stays. */
static enum err_kind (*handle_before)(void *, const struct record *, size_t, struct out *,
                                      struct err *);
static jmp_buf death;
static bool kill_outside; /* the death that comes has another cause */

static enum err_kind deadly(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    for (size_t i = 0; i < n; i++)
        if (bytes_is(in[i].value, "killer")) longjmp(death, 1);
    return handle_before(state, in, n, out, e);
}

/* How often the process dies until all is done. */
static int live_and_die(struct world *w, int outside_after) {
    volatile int deaths = 0;
    handle_before = handle;
    w->stage.handle = deadly;
    for (;;) {
        start(w);
        if (!setjmp(death)) {
            run_dry(w);
            stop(w);
            return deaths;
        }
        deaths++;
        kill_outside = outside_after && deaths == outside_after;
        crash(w, !kill_outside);
        if (deaths > 8) fail_msg("it dies for ever");
    }
}

static void the_killer_is_buried_on_its_third_death(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    for (int i = 0; i < 4; i++) say(w, "ok");
    say(w, "killer");
    for (int i = 0; i < 4; i++) say(w, "ok");
    assert_int_equal(live_and_die(w, 0), 3);
    assert_int_equal(prepared(w), 8);
    assert_int_equal(letters(w, out), 1);
    assert_true(bytes_is(record_header(out, "dlq.reason"), "kills-worker"));
    assert_true(bytes_is(record_header(out, "dlq.attempts"), "3"));
    assert_true(bytes_is(record_header(out, "dlq.offset"), "4"));
}

/* Of 100 in its crowd the others wait for crowds of ten and fewer, not for a hundred hand-overs. */
static void a_killer_holds_its_crowd_up_for_little(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    for (int i = 0; i < 100; i++) say(w, i == 50 ? "killer" : "ok");
    assert_int_equal(live_and_die(w, 0), 3);
    assert_int_equal(prepared(w), 99);
    assert_int_equal(letters(w, out), 1);
    assert_in_range(w->tiny.handled, 15, 40);
    assert_int_equal(w->tiny.largest, 10);
}

static void refuse_(void *state, const struct record *r, const struct err *why, struct out *out) {
    struct err e;
    struct record answer = {.key = r->key, .value = bytes_of(why->text), .time_ms = -1};
    if (out_send(out, IMAGES_PREPARED, &answer, &e)) fail_msg("%s", e.text);
}

static void a_stage_may_answer_for_what_is_refused(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    w->stage.refuse = refuse_;
    say(w, "killer");
    assert_int_equal(live_and_die(w, 0), 3);
    assert_int_equal(letters(w, out), 0);
    assert_int_equal(sent(w, topic_name(IMAGES_PREPARED), out), 1);
    assert_true(bytes_is(out->value, "handling it ended the process 3 times"));
}

static void a_death_from_outside_is_no_try(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    say(w, "ok");
    say(w, "killer");
    assert_int_equal(live_and_die(w, 2), 4); /* while it was alone in hand */
    assert_int_equal(letters(w, out), 1);
    assert_true(bytes_is(record_header(out, "dlq.attempts"), "3"));
    assert_int_equal(prepared(w), 1);
}

static void a_death_from_outside_suspects_nobody(void **state) {
    struct world *w = *state;
    say(w, "ok");
    say(w, "ok");
    start(w);
    handle_before = handle;
    w->stage.handle = deadly;
    say(w, "killer");
    if (!setjmp(death))
        assert_int_equal(step(w), ERR_NONE);
    else
        crash(w, false);
    assert_int_equal(w->hands.suspects.count, 0);
    w->stage.handle = handle;
    start(w);
    run_dry(w);
    assert_int_equal(w->tiny.largest, 3);
    assert_int_equal(prepared(w), 3);
    stop(w);
}

static void tries_move_to_other_instances(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    volatile int deaths = 0;
    say(w, "ok");
    say(w, "killer");
    for (int i = 0; i < 3; i++) say(w, "ok");
    handle_before = handle;
    w->stage.handle = deadly;
    for (;;) {
        start(w);
        if (!setjmp(death)) {
            run_dry(w);
            break;
        }
        crash(w, true);
        if (++deaths == 2)
            w->hands = (struct stage_hands){.id = 7}; /* another machine: only the note is left */
        assert_true(deaths < 9);
    }
    assert_int_equal(deaths, 3);
    assert_int_equal(letters(w, out), 1);
    assert_int_equal(prepared(w), 4);
    assert_int_equal(w->tiny.largest, 1);
    stop(w);
}

/* Another's note may count tries that were no deaths: then it is tried once more. */
static void a_note_alone_buries_nobody(void **state) {
    struct world *w = *state;
    struct record out[MOST];
    handle_before = handle;
    w->stage.handle = deadly;
    say(w, "ok");
    say(w, "killer");
    start(w);
    if (!setjmp(death)) run_dry(w);
    crash(w, true); /* now both are suspects */
    for (int i = 0; i < 4; i++) {
        start(w);
        struct err e;
        struct records in;
        struct bus_limits one = {1, 1 << 20, 10};
        assert_int_equal(bus_poll(w->bus, &one, &in, &e), ERR_NONE);
        assert_int_equal(in.count, 1);
        assert_int_equal(poison_try(&w->hands, w->bus, in.list, &e), ERR_NONE);
        crash(w, false); /* from outside, with its page */
        struct ranges suspects = w->hands.suspects;
        w->hands = (struct stage_hands){.id = 100 + (uint64_t)i, .suspects = suspects};
    }
    live_and_die(w, 0);
    assert_int_equal(letters(w, out), 1);
    assert_int_equal(prepared(w), 1);
}

/* Whoever may choose names does not fill the page: the series that was counted last is kept. */
static void series_by_model_are_bounded(void **state) {
    struct world *w = *state;
    struct model_count c = {.n = 2};
    for (int i = 0; i < METRICS_MODELS + 10; i++) {
        snprintf(c.model, sizeof c.model, "m%d", i);
        metrics_count_model(&w->metrics, &c);
        metrics_count_model(&w->metrics, &(struct model_count){.model = "m0", .n = 1});
    }
    assert_int_equal(w->metrics.by_model_count, METRICS_MODELS);
    assert_string_equal(w->metrics.by_model[0].model, "m0");
    assert_int_equal(w->metrics.by_model[0].n, METRICS_MODELS + 12);
    assert_string_equal(w->metrics.by_model[1].model, "m256");
    assert_int_equal(w->metrics.by_model[1].n, 2);
}

static void the_page_for_prometheus(void **state) {
    struct world *w = *state;
    struct buf page = {0};
    w->stage.watch = MODELS_DEPLOYED;
    say_to(w, MODELS_DEPLOYED, "update");
    start(w);
    say(w, "ok");
    say(w, "refuse");
    run_dry(w);
    metrics_write(&w->metrics, &w->stage, &page);
    const char *lines[] = {
        "darkroom_records_total{stage=\"tiny\"} 2\n",
        "darkroom_outputs_total{stage=\"tiny\",topic=\"images.prepared\"} 1\n",
        "darkroom_dead_letters_total{stage=\"tiny\",reason=\"not-png\"} 1\n",
        "darkroom_passed_total{stage=\"tiny\"} 1\n",
        "darkroom_answered_total{stage=\"tiny\",model=\"k\",version=\"3\"} 1\n",
        "# HELP darkroom_seen Updates.\n# TYPE darkroom_seen gauge\n"
        "darkroom_seen{stage=\"tiny\",model=\"digits\"} 1\n"
        "# HELP darkroom_unseen None.\n# TYPE darkroom_unseen gauge\n# HELP darkroom_event_age",
        "darkroom_latency_seconds_count{stage=\"tiny\"} 2\n",
        "darkroom_ready{stage=\"tiny\"} 1\n",
        "darkroom_heartbeat_age_seconds{stage=\"tiny\"} ",
        "darkroom_lag_records{stage=\"tiny\"} 0\n",
        "darkroom_assigned_partitions{stage=\"tiny\"} 1\n",
        "# TYPE darkroom_commit_seconds histogram\n",
        "darkroom_handle_seconds_count{stage=\"tiny\"} 1\n",
        "darkroom_build_info{stage=\"tiny\",version=\"" DARKROOM_VERSION "\"} 1\n",
        "process_resident_memory_bytes{stage=\"tiny\"} ",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(page.data, lines[i])) fail_msg("no line %s in\n%s", lines[i], page.data);
    assert_string_equal(w->metrics.not_ready, "");
    buf_free(&page);
    stop(w);
}

/* What a rule takes for a restart, however long the pages are apart. */
static void the_page_says_one_beginning(void **state) {
    struct world *w = *state;
    for (int i = 0; i < 2; i++) {
        struct buf page = {0};
        metrics_write(&w->metrics, &w->stage, &page);
        if (!strstr(page.data, "\nprocess_start_time_seconds{stage=\"tiny\"} 1700000000\n"))
            fail_msg("page %d is of another process:\n%s", i, page.data);
        buf_free(&page);
        clock_sleep_ms(3700);
    }
}

/* A model more than there is room for, and a look at the lock that /readyz and /metrics take. */
static void show_many(const void *state, struct shown *to) {
    struct stage_metrics *m = *(struct stage_metrics *const *)state;
    char model[16];
    assert_int_equal(pthread_mutex_trylock(&m->lock), 0);
    pthread_mutex_unlock(&m->lock);
    for (int i = 0; i < METRICS_MODELS + 2; i++) {
        snprintf(model, sizeof model, "m%d", i);
        stage_show(to, bytes_of(model), (const double[STAGE_GAUGES]){i});
    }
}

static void nobody_waits_for_what_is_shown(void **state) {
    struct world *w = *state;
    struct stage_metrics *m = &w->metrics;
    struct buf page = {0};
    char said[2048] = "";
    int log[2], before = dup(STDERR_FILENO);
    assert_int_equal(pipe(log), 0);
    dup2(log[1], STDERR_FILENO);
    close(log[1]);
    w->stage.show = show_many;
    for (int i = 0; i < 3; i++) metrics_show(m, &w->stage, &m);
    dup2(before, STDERR_FILENO);
    close(before);
    assert_true(read(log[0], said, sizeof said - 1) > 0);
    close(log[0]);
    const char *line = strstr(said, "metrics show 256 models; 2 more have no gauges");
    if (!line || strstr(line + 1, "metrics show")) fail_msg("it was to say so once: %s", said);
    metrics_write(m, &w->stage, &page);
    assert_non_null(strstr(page.data, "darkroom_seen{stage=\"tiny\",model=\"m255\"} 255\n"));
    assert_null(strstr(page.data, "m256"));
    buf_free(&page);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(outputs_and_positions_commit_together),
        TEST(again_repeats_all_with_growing_pauses),
        TEST(open_is_repeated),
        TEST(dead_letters_are_the_record_as_it_came),
        TEST(only_the_culprit_is_buried),
        TEST(a_letter_that_is_too_long_is_bare),
        TEST(linger_by_count_and_age),
        TEST(overlap_leaves_the_commit_under_way),
        TEST(a_failed_commit_repeats_both),
        TEST(faults_lose_and_double_nothing),
        TEST(series_by_model_are_bounded),
        TEST(watch_first_sees_what_was_committed_before),
        TEST(an_update_waits_while_the_stage_goes_on),
        TEST(an_undeclared_topic_is_refused),
        TEST(replies_go_where_the_settings_allow),
        TEST(the_killer_is_buried_on_its_third_death),
        TEST(a_killer_holds_its_crowd_up_for_little),
        TEST(a_stage_may_answer_for_what_is_refused),
        TEST(a_death_from_outside_is_no_try),
        TEST(a_death_from_outside_suspects_nobody),
        TEST(tries_move_to_other_instances),
        TEST(a_note_alone_buries_nobody),
        TEST(the_page_for_prometheus),
        TEST(the_page_says_one_beginning),
        TEST(nobody_waits_for_what_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
