/*
 * The bus keeps its contract on a real broker, at DARKROOM_KAFKA_BOOTSTRAP_SERVERS. Killed
 * processes are this program again, as a worker:
 *
 *     bus_kafka_test worker IN OUT GROUP INSTANCE LANES at-least-once|exactly-once RECORDS
 *
 * passes IN on to OUT; after RECORDS (0: never) it kills itself with what it has just handed over.
 */
#define _GNU_SOURCE
#include "tests/flow/bus_contract.h"

#include "lib/base/log.h"
#include "lib/bus/admin.h"
#include "lib/bus/publisher.h"
#include "lib/bus/reader.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct bus_property properties[8];
static size_t property_count;
static struct publisher *publisher;
static struct admin *admin;
static struct arena found;

static void must(enum err_kind kind) {
    if (kind) fail_msg("%s", contract_err.text);
}

static struct bus *open_(struct world *w, const struct bus_conf *conf) {
    struct bus_conf c = *conf;
    (void)w;
    c.properties = properties;
    c.property_count = property_count;
    struct bus *b = bus_open_kafka(&c, &contract_err);
    if (!b) fail_msg("%s", contract_err.text);
    return b;
}

static void topic(struct world *w, const char *name, int partitions) {
    struct admin_topic t = {.name = name, .partitions = partitions, .replicas = 1};
    (void)w;
    must(admin_create(admin, &t, 1, &contract_err));
    assert_true(t.created);
}

static void append(struct world *w, const struct record *r) {
    (void)w;
    must(publisher_send(publisher, r, 0, &contract_err));
}

static void appended(struct world *w) {
    (void)w;
    must(publisher_flush(publisher, 20000, &contract_err));
}

static struct record keep(const struct record *r, const char *name) {
    struct record c = *r;
    struct header *headers = arena_alloc(&found, (r->header_count + 1) * sizeof *headers);
    for (size_t i = 0; i < r->header_count; i++)
        headers[i] = (struct header){arena_copy(&found, r->headers[i].name),
                                     arena_copy(&found, r->headers[i].value)};
    c.topic = name;
    c.key = arena_copy(&found, r->key);
    c.value = arena_copy(&found, r->value);
    c.headers = headers;
    return c;
}

static size_t committed(struct world *w, const char *name, struct record *out, size_t max) {
    size_t n = 0;
    bool got, at_end = false;
    (void)w;
    arena_reset(&found);
    struct reader *reader =
        reader_open(properties, property_count, name, READER_BEGINNING, &contract_err);
    assert_non_null(reader);
    for (int64_t end = contract_deadline(); !at_end;) {
        struct record r;
        for (;;) {
            must(reader_poll(reader, 5, &r, &got, &contract_err));
            if (!got) break;
            if (n++ < max) out[n - 1] = keep(&r, name);
        }
        /* What stands behind an open transaction is not there. */
        must(reader_at_end(reader, &at_end, &contract_err));
        contract_in_time(end, "end of a topic");
    }
    reader_close(reader);
    return n;
}

static int64_t lag(struct world *w, const char *group, const char *name) {
    struct admin_partition *list;
    size_t n;
    int64_t sum = 0;
    (void)w;
    must(admin_positions(admin, group, name, &list, &n, &contract_err));
    for (size_t i = 0; i < n; i++)
        sum += list[i].end - (list[i].committed < 0 ? list[i].begin : list[i].committed);
    free(list);
    return sum;
}

static pid_t run_worker(const struct bus_conf *conf, const char *out, size_t records) {
    char lanes[16], count[32];
    snprintf(lanes, sizeof lanes, "%d", conf->lanes);
    snprintf(count, sizeof count, "%zu", records);
    pid_t pid = fork();
    if (pid) return pid;
    execl("/proc/self/exe", "bus_kafka_test", "worker", conf->in, out, conf->group, conf->instance,
          lanes, conf->delivery == BUS_EXACTLY_ONCE ? "exactly-once" : "at-least-once", count,
          (char *)NULL);
    _exit(127);
}

static void die(struct world *w, const struct bus_conf *conf, const char *out, size_t n) {
    int status;
    (void)w;
    pid_t pid = run_worker(conf, out, n);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* It has max.poll.interval.ms for being given up. */
static void stop(struct world *w, struct bus *b) {
    (void)w;
    (void)b;
}

static struct world world = {
    .wait_ms = 20,
    .patience_s = 60,
    .open = open_,
    .topic = topic,
    .append = append,
    .appended = appended,
    .committed = committed,
    .lag = lag,
    .die = die,
    .stop = stop,
};

static int setup(void **state) {
    *state = contract_world = &world;
    publisher = publisher_open(properties, property_count, NULL, NULL, &contract_err);
    admin = admin_open(properties, property_count, &contract_err);
    return !publisher || !admin;
}

static int teardown(void **state) {
    (void)state;
    publisher_close(publisher);
    admin_close(admin);
    arena_free(&found);
    return 0;
}

/* A worker that lives until it is killed. */
static _Noreturn void worker(char **argv) {
    struct bus_conf conf = {
        .in = argv[0],
        .group = argv[2],
        .instance = argv[3],
        .lanes = atoi(argv[4]),
        .queue_bytes = 16 << 20,
        .delivery = strcmp(argv[5], "at-least-once") ? BUS_EXACTLY_ONCE : BUS_AT_LEAST_ONCE,
    };
    size_t most = strtoul(argv[6], NULL, 10);
    snprintf(contract_out, sizeof contract_out, "%s", argv[1]);
    contract_world = &world;
    struct bus *b = open_(&world, &conf);
    for (;;) {
        struct records r;
        if (contract_poll(b, most ? most : 100, &r) || r.count < (most ? most : 1)) continue;
        if (contract_pass(b, &r))
            contract_rewind(b);
        else if (most)
            raise(SIGKILL);
    }
}

/* Two workers, killed over and over in the middle of 20,000 records. */
static void many_kills_lose_and_double_nothing(void **state) {
    struct bus_conf conf = contract_begin(state, 4, 2);
    conf.lanes = 2;
    const char *names[] = {"one", "two"};
    pid_t pids[2];
    unsigned dice = (unsigned)getpid();
    for (int i = 0; i < 2; i++) {
        conf.instance = names[i];
        pids[i] = run_worker(&conf, contract_out, 0);
    }
    for (int i = 0; i < 20; i++) {
        contract_append(i * 1000, (i + 1) * 1000);
        dice = dice * 1664525u + 1013904223u;
        clock_sleep_ms(300 + (dice >> 16) % 700);
        int k = (int)(dice >> 31);
        conf.instance = names[k];
        kill(pids[k], SIGKILL);
        waitpid(pids[k], NULL, 0);
        pids[k] = run_worker(&conf, contract_out, 0);
    }
    for (int64_t end = contract_deadline() + 60000000; lag(&world, contract_group, contract_in);
         clock_sleep_ms(200))
        contract_in_time(end, "end of the input");
    for (int i = 0; i < 2; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    contract_all_once(20000);
}

/* A topic of somebody else's that refuses a record: compacted, it takes none without a key. */
static void topic_that_refuses_is_none(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    struct bus_property compact = {"cleanup.policy", "compact"};
    char name[100];
    bool exists;
    snprintf(name, sizeof name, "%s.compacted", contract_out);
    struct admin_topic t = {
        .name = name, .partitions = 1, .replicas = 1, .configs = &compact, .config_count = 1};
    must(admin_create(admin, &t, 1, &contract_err));
    contract_append(0, 5);
    for (int i = 0; i < 2; i++) {
        conf.delivery = i ? BUS_AT_LEAST_ONCE : BUS_EXACTLY_ONCE;
        conf.instance = i ? "two" : "one";
        struct bus *b = contract_open(&conf);
        struct records r = contract_take(b, 5);
        struct record out = {.topic = name, .value = BYTES("without a key"), .time_ms = -1};
        assert_int_equal(bus_topic_exists(b, name, &exists, &contract_err), ERR_NONE);
        assert_true(exists);
        enum err_kind kind = bus_hand_over(b, &out, 1, &contract_err);
        if (!kind) kind = bus_settle(b, -1, &contract_err);
        assert_int_equal(kind, ERR_AGAIN);
        contract_rewind(b);
        assert_int_equal(bus_topic_exists(b, name, &exists, &contract_err), ERR_NONE);
        assert_false(exists);
        assert_int_equal(bus_topic_exists(b, contract_out, &exists, &contract_err), ERR_NONE);
        assert_true(exists);
        r = contract_take(b, 5);
        if (i) assert_int_equal(contract_pass(b, &r), ERR_NONE);
        bus_close(b);
    }
    contract_all_once(5);
}

/* Whoever polls on with full hands stays in the group, and then gets the rest. */
static void full_hands_are_served(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    contract_append(0, 50);
    struct bus *b = contract_open(&conf);
    struct records r = contract_take(b, 10);
    uint64_t generation = r.generation;
    for (int64_t end = clock_monotonic_us() + 9000000; clock_monotonic_us() < end;) {
        assert_int_equal(contract_poll(b, 10, &r), ERR_NONE);
        assert_true(r.full && r.count == 10 && r.generation == generation);
        clock_sleep_ms(50);
    }
    assert_int_equal(contract_pass(b, &r), ERR_NONE);
    contract_drain(&b, 1, 100);
    bus_close(b);
    contract_all_once(50);
}

static void missing_topic_is_said(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    struct bus_limits l = {.max_records = 1, .max_bytes = 1, .wait_ms = 10};
    struct records r;
    char name[100];
    snprintf(name, sizeof name, "%s.later", contract_in);
    conf.in = name;
    struct bus *b = contract_open(&conf);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bus_poll(b, &l, &r, &contract_err), ERR_AGAIN);
        assert_non_null(strstr(contract_err.text, "darkroom topics create"));
        assert_int_equal(bus_rewind(b, &contract_err), ERR_AGAIN);
    }
    topic(&world, name, 1);
    contract_join(b);
    bus_close(b);
}

static void absent_broker_is_said(void **state) {
    struct bus_conf conf = contract_begin(state, 1, 1);
    struct bus_property nowhere[] = {{"bootstrap.servers", "127.0.0.1:1"}};
    struct bus_limits l = {.max_records = 1, .max_bytes = 1, .wait_ms = 10};
    struct records r;
    conf.properties = nowhere;
    conf.property_count = 1;
    struct bus *b = bus_open_kafka(&conf, &contract_err);
    assert_non_null(b);
    assert_int_equal(bus_poll(b, &l, &r, &contract_err), ERR_AGAIN);
    assert_string_equal(contract_err.text, "no broker at 127.0.0.1:1: Connection refused; waiting");
    int64_t start = clock_monotonic_us();
    bus_close(b);
    assert_true(clock_monotonic_us() - start < 5000000);
}

static void refuses_properties_that_break_the_contract(void **state) {
    static const struct bus_property wrong[] = {
        {"enable.auto.commit", "true"},
        {"isolation.level", "read_uncommitted"},
        {"transactional.id", "x"},
        {"group.id", "x"},
        {"enable.idempotence", "false"},
        {"auto.offset.reset", "latest"},
        {"enable.auto.offset.store", "true"},
        {"no.such.property", "1"},
        {"linger.ms", "never"},
    };
    struct bus_conf conf = contract_begin(state, 1, 1);
    conf.property_count = 1;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        conf.properties = &wrong[i];
        assert_null(bus_open_kafka(&conf, &contract_err));
        assert_int_equal(contract_err.kind, ERR_FATAL);
        assert_non_null(strstr(contract_err.text, wrong[i].name));
    }
}

int main(int argc, char **argv) {
    const char *brokers = getenv("DARKROOM_KAFKA_BOOTSTRAP_SERVERS");
    log_setup("bus", getenv("VERBOSE") ? LOG_DEBUG : LOG_WARN, LOG_HUMAN);
    if (!brokers) {
        fprintf(stderr, "DARKROOM_KAFKA_BOOTSTRAP_SERVERS is not set\n");
        return 77;
    }
    properties[property_count++] = (struct bus_property){"bootstrap.servers", brokers};
    properties[property_count++] = (struct bus_property){"session.timeout.ms", "6000"};
    properties[property_count++] = (struct bus_property){"max.poll.interval.ms", "7000"};
    if (argc == 9 && !strcmp(argv[1], "worker")) worker(argv + 2);
    const struct CMUnitTest tests[] = {
        CONTRACT_TESTS,
        cmocka_unit_test(refuses_properties_that_break_the_contract),
        cmocka_unit_test(topic_that_refuses_is_none),
        cmocka_unit_test(full_hands_are_served),
        cmocka_unit_test(missing_topic_is_said),
        cmocka_unit_test(absent_broker_is_said),
        cmocka_unit_test(many_kills_lose_and_double_nothing),
    };
    if (argc == 2) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("bus_kafka", tests, setup, teardown);
}
