/*
 * bus_contract: what every implementation of bus.h keeps, as tests. A world brings an
 * implementation: the memory log, or a real broker. Every test has topics, a group and instances of
 * its own, and takes ERR_AGAIN for an answer where a broker may give it: it rewinds and goes on, as
 * a stage does.
 */
#ifndef DARKROOM_TESTS_FLOW_BUS_CONTRACT_H
#define DARKROOM_TESTS_FLOW_BUS_CONTRACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* wants those above */

#include "lib/base/clock.h"
#include "lib/bus/bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world {
    int wait_ms;    /* of a poll */
    int patience_s; /* until a test gives up */
    struct bus *(*open)(struct world *w, const struct bus_conf *conf);
    void (*topic)(struct world *w, const char *name, int partitions);
    void (*append)(struct world *w, const struct record *r);
    void (*appended)(struct world *w); /* all of them are in the log */
    /* Committed records of a topic, partition after partition, borrowed until the next call. */
    size_t (*committed)(struct world *w, const char *topic, struct record *out, size_t max);
    int64_t (*lag)(struct world *w, const char *group, const char *topic);
    /* A process takes at least n records of in, hands one output for each over to out, and is
       killed at that moment: its transaction may be open, or just committed. */
    void (*die)(struct world *w, const struct bus_conf *conf, const char *out, size_t n);
    /* The bus makes no call for so long that the group gives it up (or: it will, while others
     * poll). */
    void (*stop)(struct world *w, struct bus *b);
};

enum { CONTRACT_MAX = 20000 };

static struct world *contract_world;
static char contract_in[64], contract_out[64], contract_group[64];
static struct record contract_found[CONTRACT_MAX];
static struct err contract_err;

static struct bus_conf contract_begin(void **state, int in_partitions, int out_partitions) {
    static int tests;
    contract_world = *state;
    long long now = (long long)clock_now_ms();
    snprintf(contract_in, sizeof contract_in, "contract.%lld.%d.in", now, ++tests);
    snprintf(contract_out, sizeof contract_out, "contract.%lld.%d.out", now, tests);
    snprintf(contract_group, sizeof contract_group, "contract.%lld.%d", now, tests);
    contract_world->topic(contract_world, contract_in, in_partitions);
    contract_world->topic(contract_world, contract_out, out_partitions);
    return (struct bus_conf){
        .group = contract_group,
        .instance = "one",
        .in = contract_in,
        .delivery = BUS_EXACTLY_ONCE,
        .lanes = 1,
        .queue_bytes = 16 << 20,
    };
}

static struct bus *contract_open(const struct bus_conf *conf) {
    struct bus *b = contract_world->open(contract_world, conf);
    assert_non_null(b);
    return b;
}

/* Records "0", "1", … with the keys k0 … k6 in turn. */
static void contract_append(int from, int to) {
    for (int i = from; i < to; i++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "k%d", i % 7);
        snprintf(value, sizeof value, "%d", i);
        struct record r = {
            .topic = contract_in, .key = bytes_of(key), .value = bytes_of(value), .time_ms = -1};
        contract_world->append(contract_world, &r);
    }
    contract_world->appended(contract_world);
}

static int64_t contract_deadline(void) {
    return clock_monotonic_us() + contract_world->patience_s * 1000000LL;
}

static void contract_in_time(int64_t deadline, const char *what) {
    if (clock_monotonic_us() > deadline)
        fail_msg("no %s in time; last: %s", what, contract_err.text);
}

static void contract_rewind(struct bus *b) {
    for (int64_t end = contract_deadline(); bus_rewind(b, &contract_err);) {
        assert_int_equal(contract_err.kind, ERR_AGAIN);
        contract_in_time(end, "rewind");
        clock_sleep_ms(10);
    }
}

static enum err_kind contract_poll(struct bus *b, size_t max, struct records *r) {
    struct bus_limits l = {
        .max_records = max, .max_bytes = 1 << 20, .wait_ms = contract_world->wait_ms};
    enum err_kind kind = bus_poll(b, &l, r, &contract_err);
    if (kind) {
        assert_int_equal(kind, ERR_AGAIN);
        clock_sleep_ms(10);
        contract_rewind(b);
    }
    return kind;
}

static struct records contract_take(struct bus *b, size_t n) {
    struct records r = {0};
    int64_t end = contract_deadline();
    while (contract_poll(b, n, &r) || r.count < n) contract_in_time(end, "records");
    assert_int_equal(r.count, n);
    return r;
}

static void contract_join(struct bus *b) {
    struct records r;
    struct bus_state s = {0};
    for (int64_t end = contract_deadline(); !s.joined; bus_state(b, &s)) {
        contract_in_time(end, "join");
        (void)contract_poll(b, 1, &r);
    }
}

/* Every record again, to `out`, under its key. */
static enum err_kind contract_pass(struct bus *b, const struct records *r) {
    struct record *out = mem_zeroed(r->count + 1, sizeof *out);
    for (size_t i = 0; i < r->count; i++)
        out[i] = (struct record){
            .topic = contract_out, .key = r->list[i].key, .value = r->list[i].value, .time_ms = -1};
    enum err_kind kind = bus_hand_over(b, out, r->count, &contract_err);
    free(out);
    return kind;
}

/* What a stage does over and over. */
static bool contract_step(struct bus *b, size_t max) {
    struct records r;
    if (contract_poll(b, max, &r)) return true;
    if (!r.count) return false;
    if (contract_pass(b, &r)) contract_rewind(b);
    return true;
}

static void contract_drain(struct bus **list, size_t n, size_t max) {
    int64_t end = contract_deadline();
    bool more = true;
    while (more || contract_world->lag(contract_world, contract_group, contract_in)) {
        more = false;
        for (size_t i = 0; i < n; i++) more = contract_step(list[i], max) || more;
        contract_in_time(end, "end of the input");
    }
}

static size_t contract_read(const char *topic) {
    size_t n = contract_world->committed(contract_world, topic, contract_found, CONTRACT_MAX);
    assert_true(n <= CONTRACT_MAX);
    return n;
}

static int contract_number(const struct record *r) {
    char text[16] = "";
    memcpy(text, r->value.data, r->value.len < 15 ? r->value.len : 15);
    return atoi(text);
}

/* 0 … n-1 are in the output, each once, in order under each key. */
static void contract_all_once(int n) {
    assert_int_equal(contract_read(contract_out), n);
    char *seen = mem_zeroed((size_t)n, 1);
    int last[7] = {-1, -1, -1, -1, -1, -1, -1};
    for (int i = 0; i < n; i++) {
        int x = contract_number(&contract_found[i]);
        assert_in_range(x, 0, n - 1);
        assert_int_equal(seen[x], 0);
        seen[x] = 1;
        assert_true(x > last[x % 7]);
        last[x % 7] = x;
    }
    free(seen);
}

/* The hand-over is refused, at once or when it commits. */
static void contract_refused(struct bus *b, const struct records *r) {
    if (!contract_pass(b, r))
        assert_int_equal(bus_settle(b, -1, &contract_err), ERR_AGAIN);
    else
        assert_int_equal(contract_err.kind, ERR_AGAIN);
}

static void contract_keeps_order(void **state) {
    struct bus_conf conf = contract_begin(state, 3, 2);
    conf.lanes = 2;
    contract_append(0, 500);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 500);
    int64_t next[3] = {0};
    for (size_t i = 0; i < r.count; i++)
        assert_int_equal(r.list[i].offset, next[r.list[i].partition]++);
    contract_rewind(b);
    contract_drain(&b, 1, 17);
    bus_close(b);
    contract_all_once(500);
}

static void contract_shows_nothing_before_the_commit(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    contract_append(0, 10);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 10);
    assert_int_equal(contract_read(contract_out), 0);
    assert_int_equal(contract_world->lag(contract_world, contract_group, contract_in), 10);
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    assert_false(bus_busy(b));
    assert_int_equal(contract_read(contract_out), 10);
    assert_int_equal(contract_world->lag(contract_world, contract_group, contract_in), 0);
    bus_close(b);
}

static void contract_rewinds_to_the_commit(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    contract_append(0, 30);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 10);
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    r = contract_take(b, 15);
    assert_int_equal(contract_number(&r.list[0]), 10);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    uint64_t before = r.generation;
    contract_rewind(b);
    r = contract_take(b, 20);
    assert_true(r.generation != before);
    for (int i = 0; i < 20; i++) assert_int_equal(contract_number(&r.list[i]), 10 + i);
    assert_int_equal(bus_start(b, 0), 10);
    bus_close(b);
    b = contract_open(&conf);
    r = contract_take(b, 20);
    assert_int_equal(contract_number(&r.list[0]), 10);
    bus_close(b);
}

static void contract_commits_positions_without_outputs(void **state) {
    struct bus_conf conf = contract_begin(state, 2, 1);
    contract_append(0, 20);
    struct bus *b = contract_open(&conf);
    (void)contract_take(b, 20);
    assert_int_equal(bus_hand_over(b, NULL, 0, &contract_err), ERR_NONE);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    assert_int_equal(contract_world->lag(contract_world, contract_group, contract_in), 0);
    bus_close(b);
    assert_int_equal(contract_read(contract_out), 0);
}

static void contract_commits_first_positions(void **state) {
    struct bus_conf conf = contract_begin(state, 2, 1);
    struct bus *b = contract_open(&conf);
    struct bus_state s;
    contract_join(b);
    bus_state(b, &s);
    assert_int_equal(s.partitions, 2);
    for (int32_t p = 0; p < 2; p++) assert_int_equal(bus_start(b, p), 0);
    assert_int_equal(bus_start(b, 2), -1);
    assert_true(s.commits > 0);
    assert_true(bus_cluster(b)[0]);
    bus_close(b);
}

static void contract_idles_without_lag(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 2), after = conf;
    contract_append(0, 50);
    struct bus *b = contract_open(&conf);
    contract_drain(&b, 1, 10);
    after.in = contract_out;
    after.group = "contract.after";
    struct bus *c = contract_open(&after);
    int64_t end = contract_deadline();
    while (contract_world->lag(contract_world, after.group,
                               after.in)) { /* markers stand behind the last record */
        struct records r;
        if (!contract_poll(c, 100, &r) && r.count && bus_hand_over(c, NULL, 0, &contract_err))
            contract_rewind(c);
        contract_in_time(end, "lag of 0");
    }
    struct bus_state s, later;
    struct records r;
    assert_int_equal(bus_settle(c, -1, &contract_err), ERR_NONE);
    bus_state(c, &s);
    for (int i = 0; i < 5; i++) assert_int_equal(contract_poll(c, 100, &r), ERR_NONE);
    bus_state(c, &later);
    assert_int_equal(s.commits, later.commits); /* only when something moved */
    assert_int_equal(later.lag, 0);
    bus_close(c);
    bus_close(b);
}

static void contract_shares_partitions(void **state) {
    struct bus_conf conf = contract_begin(state, 4, 2), other = conf;
    conf.lanes = 2;
    other.instance = "two";
    contract_append(0, 400);
    struct bus *list[2] = {contract_open(&conf), contract_open(&other)};
    (void)contract_take(list[0], 100);
    struct bus_state a = {0}, b = {0};
    for (int64_t end = contract_deadline(); a.partitions != 2 || b.partitions != 2;) {
        (void)contract_step(list[0], 13);
        (void)contract_step(list[1], 13);
        bus_state(list[0], &a);
        bus_state(list[1], &b);
        contract_in_time(end, "rebalance");
    }
    contract_append(400, 800);
    contract_drain(list, 2, 13);
    bus_close(list[0]);
    contract_append(800, 1000);
    contract_drain(list + 1, 1, 13);
    bus_close(list[1]);
    contract_all_once(1000);
}

static void contract_survives_kills(void **state) {
    struct bus_conf conf = contract_begin(state, 2, 2);
    conf.lanes = 2;
    contract_append(0, 300);
    for (int i = 0; i < 3; i++) contract_world->die(contract_world, &conf, contract_out, 20);
    struct bus *b = contract_open(&conf);
    contract_drain(&b, 1, 50);
    bus_close(b);
    contract_all_once(300);
}

static void contract_fences_the_same_instance(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    contract_append(0, 20);
    struct bus *zombie = contract_open(&conf), *b = contract_open(&conf);
    struct records r = contract_take(zombie, 20), none;
    (void)contract_poll(b, 20, &none); /* its producers take the ids over */
    contract_refused(zombie, &r);
    bus_close(zombie);
    contract_drain(&b, 1, 20);
    bus_close(b);
    contract_all_once(20);
}

static void contract_refuses_a_zombie(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1), other = conf;
    other.instance = "two";
    contract_append(0, 20);
    struct bus *zombie = contract_open(&conf);
    struct records r = contract_take(zombie, 20), mine;
    contract_world->stop(contract_world, zombie);
    struct bus *b = contract_open(&other);
    mine = contract_take(b, 20);
    contract_refused(zombie, &r);
    assert_int_equal(contract_pass(b, &mine), ERR_NONE);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    contract_all_once(20);
    contract_rewind(zombie);
    contract_append(20, 40);
    struct bus *list[2] = {b, zombie};
    contract_drain(list, 2, 5);
    bus_close(zombie);
    bus_close(b);
    contract_all_once(40);
}

static void contract_keeps_notes(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    contract_append(0, 10);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 4);
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    assert_null(bus_note(b, 0));
    assert_int_equal(bus_mark(b, 0, "tries=2", &contract_err), ERR_NONE);
    assert_string_equal(bus_note(b, 0), "tries=2");
    bus_close(b);
    conf.instance = "two";
    b = contract_open(&conf);
    r = contract_take(b, 6);
    assert_int_equal(bus_start(b, 0), 4);
    assert_string_equal(bus_note(b, 0), "tries=2");
    assert_int_equal(contract_number(&r.list[0]), 4);
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    assert_null(bus_note(b, 0));
    bus_close(b);
    contract_all_once(10);
}

static void contract_watches(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 2), watching = conf;
    contract_append(0, 40);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 20);
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    bus_close(b);
    contract_world->die(contract_world, &conf, contract_out, 10);

    watching.group = "contract.watching";
    watching.watch = contract_out;
    struct bus *w = contract_open(&watching);
    b = contract_open(&conf); /* ends what the killed one left open */
    contract_drain(&b, 1, 10);
    int seen = 0;
    bool at_end = false, got = true;
    for (int64_t end = contract_deadline(); !at_end || got;) {
        struct record x;
        assert_int_equal(bus_watch_end(w, &at_end, &contract_err), ERR_NONE);
        assert_int_equal(bus_watch_poll(w, &x, &got, &contract_err), ERR_NONE);
        seen += got;
        if (!got) clock_sleep_ms(1);
        contract_in_time(end, "end of the watched topic");
    }
    assert_int_equal(seen, 40);
    contract_append(40, 50);
    contract_drain(&b, 1, 10);
    for (int64_t end = contract_deadline(); seen < 50;) {
        struct record x;
        assert_int_equal(bus_watch_poll(w, &x, &got, &contract_err), ERR_NONE);
        seen += got;
        contract_in_time(end, "news of the watched topic");
    }
    bus_close(b);
    bus_close(w);
    contract_all_once(50);
}

static void contract_tells_null_from_empty(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    struct header headers[] = {
        {BYTES("a"), BYTES("1")},
        {BYTES("a"), BYTES("2")},
        {BYTES("null"), {0}},
        {BYTES("empty"), BYTES("")},
    };
    struct record in[] = {
        {.topic = contract_in,
         .value = BYTES("v"),
         .headers = headers,
         .header_count = 4,
         .time_ms = 1234567890123},
        {.topic = contract_in, .key = BYTES(""), .time_ms = -1},
        {.topic = contract_in, .key = BYTES("\0k"), .value = BYTES(""), .time_ms = -1},
    };
    for (int i = 0; i < 3; i++) contract_world->append(contract_world, &in[i]);
    contract_world->appended(contract_world);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 3);
    struct record out[3];
    for (int i = 0; i < 3; i++) {
        out[i] = r.list[i];
        out[i].topic = contract_out;
    }
    assert_int_equal(bus_hand_over(b, out, 3, &contract_err), ERR_NONE);
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    bus_close(b);
    assert_int_equal(contract_read(contract_out), 3);
    for (int i = 0; i < 3; i++) {
        const struct record *x = &contract_found[i];
        assert_string_equal(x->topic, contract_out);
        assert_int_equal(x->offset, i);
        assert_true(bytes_equal(x->key, in[i].key) && !x->key.data == !in[i].key.data);
        assert_true(bytes_equal(x->value, in[i].value) && !x->value.data == !in[i].value.data);
        assert_int_equal(x->header_count, in[i].header_count);
        for (size_t h = 0; h < x->header_count; h++) {
            assert_true(bytes_equal(x->headers[h].name, headers[h].name));
            assert_true(bytes_equal(x->headers[h].value, headers[h].value));
            assert_int_equal(!x->headers[h].value.data, !headers[h].value.data);
        }
        if (in[i].time_ms >= 0)
            assert_int_equal(x->time_ms, in[i].time_ms);
        else
            assert_true(x->time_ms > 1600000000000);
    }
}

static void contract_keeps_limits(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    static char body[4000];
    memset(body, 'x', sizeof body);
    for (int i = 0; i < 40; i++) {
        struct record r = {
            .topic = contract_in, .value = {body, i == 20 ? 4000 : 500}, .time_ms = -1};
        contract_world->append(contract_world, &r);
    }
    contract_world->appended(contract_world);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 20);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(contract_poll(b, 20, &r), ERR_NONE);
        assert_int_equal(r.count, 20);
    }
    assert_int_equal(r.bytes, 20 * 500);
    assert_int_equal(bus_hand_over(b, NULL, 0, &contract_err), ERR_NONE);
    struct bus_limits narrow = {
        .max_records = 100, .max_bytes = 1600, .wait_ms = contract_world->wait_ms};
    int64_t end = contract_deadline();
    static const size_t fit[] = {1, 3}; /* the large one alone, and as many of 500 bytes */
    size_t total = 20;
    for (size_t i = 0; i < 2; total += fit[i++]) {
        do {
            assert_int_equal(bus_poll(b, &narrow, &r, &contract_err), ERR_NONE);
            contract_in_time(end, "more than fits");
        } while (!r.full);
        assert_int_equal(r.count, fit[i]);
        assert_int_equal(bus_poll(b, &narrow, &r, &contract_err), ERR_NONE);
        assert_true(r.full && r.count == fit[i]);
        assert_int_equal(bus_hand_over(b, NULL, 0, &contract_err), ERR_NONE);
    }
    while (total < 40) {
        assert_int_equal(bus_poll(b, &narrow, &r, &contract_err), ERR_NONE);
        contract_in_time(end, "rest");
        assert_true(r.bytes <= 1600 || r.count == 1);
        total += r.count;
        if (r.count) assert_int_equal(bus_hand_over(b, NULL, 0, &contract_err), ERR_NONE);
    }
    assert_int_equal(total, 40);
    bus_close(b);
}

static void contract_refuses_what_is_too_long(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    contract_append(0, 5);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 5);
    char *body = mem_zeroed(12 << 20, 1);
    struct record out = {.topic = contract_out, .value = {body, 12 << 20}, .time_ms = -1};
    assert_int_equal(bus_hand_over(b, &out, 1, &contract_err), ERR_BAD);
    assert_int_equal(contract_err.reason, REASON_TOO_LONG);
    assert_non_null(strstr(contract_err.text, contract_out));
    assert_int_equal(contract_pass(b, &r), ERR_NONE); /* nothing has happened yet */
    assert_int_equal(bus_settle(b, -1, &contract_err), ERR_NONE);
    free(body);
    bus_close(b);
    contract_all_once(5);
}

static void contract_stays_alive(void **state) {
    struct bus_conf conf = contract_begin(state, 2, 1);
    contract_append(0, 60);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 25);
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    r = contract_take(b, 10);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(bus_alive(b, &contract_err), ERR_NONE);
        if (contract_world->wait_ms) clock_sleep_ms(1);
    }
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    contract_drain(&b, 1, 100);
    bus_close(b);
    contract_all_once(60);
}

static void contract_delivers_at_least_once(void **state) {
    struct bus_conf conf = contract_begin(state, 2, 2);
    conf.delivery = BUS_AT_LEAST_ONCE;
    contract_append(0, 500);
    contract_world->die(contract_world, &conf, contract_out, 20);
    struct bus *b = contract_open(&conf);
    contract_drain(&b, 1, 9);
    bus_close(b);
    size_t n = contract_read(contract_out);
    assert_true(n >= 500 && n <= 520);
    char seen[500] = {0};
    for (size_t i = 0; i < n; i++) seen[contract_number(&contract_found[i])] = 1;
    for (int i = 0; i < 500; i++) assert_int_equal(seen[i], 1);
}

#define CONTRACT_TESTS                                                                             \
    cmocka_unit_test(contract_keeps_order),                                                        \
        cmocka_unit_test(contract_shows_nothing_before_the_commit),                                \
        cmocka_unit_test(contract_rewinds_to_the_commit),                                          \
        cmocka_unit_test(contract_commits_positions_without_outputs),                              \
        cmocka_unit_test(contract_commits_first_positions),                                        \
        cmocka_unit_test(contract_idles_without_lag),                                              \
        cmocka_unit_test(contract_shares_partitions), cmocka_unit_test(contract_survives_kills),   \
        cmocka_unit_test(contract_fences_the_same_instance),                                       \
        cmocka_unit_test(contract_refuses_a_zombie), cmocka_unit_test(contract_keeps_notes),       \
        cmocka_unit_test(contract_watches), cmocka_unit_test(contract_tells_null_from_empty),      \
        cmocka_unit_test(contract_keeps_limits),                                                   \
        cmocka_unit_test(contract_refuses_what_is_too_long),                                       \
        cmocka_unit_test(contract_stays_alive), cmocka_unit_test(contract_delivers_at_least_once)

#endif
