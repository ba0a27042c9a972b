/*
 * The memory log keeps the contract, and every fault at every boundary, and a crash between any two
 * calls, still loses and doubles nothing.
 */
#include "tests/flow/bus_contract.h"

#include "lib/bus/memory.h"

struct memory_world {
    struct world world;
    struct bus_memory *log;
};

static struct bus_memory *log_of(struct world *w) {
    return ((struct memory_world *)w)->log;
}

static struct bus *open_(struct world *w, const struct bus_conf *conf) {
    return bus_open_memory(conf, log_of(w), &contract_err);
}

static void topic(struct world *w, const char *name, int partitions) {
    memory_topic(log_of(w), name, partitions);
}

static void append(struct world *w, const struct record *r) {
    memory_append(log_of(w), r);
}

static void appended(struct world *w) {
    (void)w;
}

static size_t committed(struct world *w, const char *name, struct record *out, size_t max) {
    return memory_committed(log_of(w), name, out, max);
}

static int64_t lag(struct world *w, const char *group, const char *name) {
    return memory_lag(log_of(w), group, name);
}

static void die(struct world *w, const struct bus_conf *conf, const char *out, size_t n) {
    (void)out;
    struct bus *b = open_(w, conf);
    struct records r = contract_take(b, n);
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    memory_crash(b);
}

static void stop(struct world *w, struct bus *b) {
    memory_freeze(b);
    memory_expire(log_of(w));
}

static struct memory_world memory_world = {
    .world = {.patience_s = 5,
              .open = open_,
              .topic = topic,
              .append = append,
              .appended = appended,
              .committed = committed,
              .lag = lag,
              .die = die,
              .stop = stop},
};

static int setup(void **state) {
    memory_world.log = memory_make();
    *state = &memory_world.world;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    memory_free(memory_world.log);
    return 0;
}

static void open_transaction_hides_what_is_behind_it(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1), other = conf;
    contract_append(0, 10);
    contract_world->die(contract_world, &conf, contract_out, 10);
    struct record r = {.topic = contract_out, .value = BYTES("behind"), .time_ms = -1};
    memory_append(memory_world.log, &r);
    assert_int_equal(contract_read(contract_out), 0);
    other.group = "other";
    other.watch = contract_out;
    struct bus *b = contract_open(&other);
    bool at_end = true, got;
    assert_int_equal(bus_watch_end(b, &at_end, &contract_err), ERR_NONE);
    assert_false(at_end);
    memory_expire(memory_world.log);
    assert_int_equal(bus_watch_poll(b, &r, &got, &contract_err), ERR_NONE);
    assert_true(got && bytes_is(r.value, "behind"));
    assert_int_equal(bus_watch_end(b, &at_end, &contract_err), ERR_NONE);
    assert_true(at_end);
    bus_close(b);
}

/* One fault, at the nth boundary of a run. */
struct plan {
    int left;
    enum memory_fault fault;
    enum memory_point at;
};

static enum memory_fault planned(void *ctx, struct bus *b, enum memory_point at) {
    (void)b;
    struct plan *p = ctx;
    return at == p->at && p->left-- == 0 ? p->fault : MEMORY_OK;
}

static void every_fault_is_survived(void **state) {
    for (int fault = MEMORY_REFUSED; fault <= MEMORY_FENCED; fault++) {
        for (int at = 0; at < MEMORY_POINTS; at++) {
            for (int nth = 0; nth < 8; nth++) {
                struct bus_conf conf = contract_begin(state, 2, 2);
                conf.lanes = 1 + nth % 2;
                contract_append(0, 60);
                struct plan plan = {nth, (enum memory_fault)fault, (enum memory_point)at};
                memory_faults(memory_world.log, planned, &plan);
                struct bus *b = contract_open(&conf);
                contract_drain(&b, 1, 11);
                bus_close(b);
                memory_faults(memory_world.log, NULL, NULL);
                contract_all_once(60);
            }
        }
    }
}

/* Two workers; after every step one of them may die and start anew, under its name or another. */
static void crashes_anywhere_are_survived(void **state) {
    for (unsigned seed = 1; seed <= 100; seed++) {
        struct bus_conf conf = contract_begin(state, 3, 2);
        conf.lanes = 1 + (int)(seed % 2);
        contract_append(0, 300);
        char names[2][16] = {"one", "two"};
        struct bus *list[2];
        unsigned dice = seed * 2654435761u;
        for (int i = 0; i < 2; i++) {
            conf.instance = names[i];
            list[i] = contract_open(&conf);
        }
        for (int step = 0; step < 60; step++) {
            dice = dice * 1664525u + 1013904223u;
            int i = dice >> 30 & 1;
            struct records r;
            struct bus_limits l = {.max_records = 1 + (dice >> 8) % 13, .max_bytes = 1 << 20};
            if (bus_poll(list[i], &l, &r, &contract_err) ||
                (r.count && contract_pass(list[i], &r))) {
                assert_int_equal(contract_err.kind, ERR_AGAIN);
                if (bus_rewind(list[i], &contract_err)) memory_expire(memory_world.log);
            }
            if ((dice >> 16) % 5) continue;
            if ((dice >> 20) % 3 == 0) {
                memory_freeze(list[i]);
                memory_expire(memory_world.log);
                continue;
            }
            memory_crash(list[i]);
            if ((dice >> 24) % 4 == 0) snprintf(names[i], sizeof names[i], "new.%d", step);
            conf.instance = names[i];
            list[i] = contract_open(&conf);
        }
        memory_expire(memory_world.log);
        contract_drain(list, 2, 20);
        bus_close(list[0]);
        bus_close(list[1]);
        contract_all_once(300);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        CONTRACT_TESTS,
        cmocka_unit_test(open_transaction_hides_what_is_behind_it),
        cmocka_unit_test(every_fault_is_survived),
        cmocka_unit_test(crashes_anywhere_are_survived),
    };
    return cmocka_run_group_tests_name("bus_memory", tests, setup, teardown);
}
