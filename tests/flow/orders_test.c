/*
 * Orders to deploy, on the memory log and a real Redis: each is carried out once, in its place among
 * the versions, and what it made serve stays until something is allowed to take its place.
 */
#define _GNU_SOURCE
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/bus/memory.h"
#include "lib/learn/lineage.h"
#include "lib/learn/registry.h"
#include "lib/nn/model.h"
#include "lib/stage/stage.h"
#include "proto/messages.h"
#include "tests/unit/redis_server.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

const struct stage *deploy_stage(void);

enum { MOST = 200 };

static struct redis_server server;
static struct bus_memory *memory;
static struct redis *redis;
static struct registry *registry;
static struct arena arena;
static struct err err;
static char models_path[64];
static void *state;
static struct bus *bus;
static struct stage_run *run;

static void start(void) {
    bool help;
    int operand;
    char *argv[] = {"deploy", NULL};
    const struct stage *stage = deploy_stage();
    state = mem_zeroed(1, stage->state_size);
    struct settings_use uses[] = {{stage->settings, state}, {0}};
    assert_int_equal(settings_read(uses, 1, argv, &operand, &help, &err), ERR_NONE);
    struct bus_conf conf = {.group = "darkroom.deploy",
                            .instance = "a",
                            .in = topic_name(MODELS_TRAINED),
                            .lanes = 1,
                            .watch = topic_name(MODELS_DEPLOYED),
                            .queue_bytes = 1 << 20};
    bus = bus_open_memory(&conf, memory, &err);
    assert_non_null(bus);
    run = stage_run_make(stage, state, bus, &(struct stage_conf){0});
}

static void stop(void) {
    stage_run_free(run);
    bus_close(bus);
    free(state);
}

/* kill -9: what it had in memory lies where it is. */
static struct {
    void *state;
    struct stage_run *run;
} graves[32];
static size_t grave_count;

static void crash(void) {
    graves[grave_count].state = state;
    graves[grave_count++].run = run;
    memory_crash(bus);
    memory_expire(memory);
    start();
}

/* Until nothing is left to do. */
static void settle(void) {
    for (int calm = 0, turns = 0; calm < 5; turns++) {
        bool idle;
        int retry_ms;
        assert_true(turns < 1000);
        if (stage_step(run, 10, &idle, &retry_ms, &err) == ERR_FATAL) fail_msg("%s", err.text);
        calm = idle && !err.kind ? calm + 1 : 0;
        clock_sleep_ms(10 + retry_ms);
    }
}

static void redis_word(const char *word) {
    struct redis_reply reply;
    assert_int_equal(redis_do(redis, &reply, &err, 1, (const struct bytes[]){bytes_of(word)}),
                     ERR_NONE);
}

static int begin(void **unused) {
    (void)unused;
    err_clear(&err);
    clock_simulate(1790000000000);
    memory = memory_make();
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++) memory_topic(memory, topic_name(t), 1);
    redis_word("FLUSHALL");
    start();
    return 0;
}

static int end(void **unused) {
    (void)unused;
    stop();
    memory_free(memory);
    clock_simulate(-1);
    arena_reset(&arena);
    return 0;
}

/* ---- versions ---- */

static void put(struct bytes data, struct bytes *name) {
    char hex[HASH_HEX + 1];
    assert_int_equal(registry_put_artifact(registry, data, hex, &err), ERR_NONE);
    *name = bytes_of(arena_text(&arena, bytes_of(hex)));
}

static struct bytes weights(int64_t version) {
    struct net_spec spec;
    struct model m = {0};
    struct buf file = {0};
    struct bytes name;
    net_spec_mlp(&spec, 4, 4, 1);
    m.net = net_make(&spec, 2, 7, &err);
    assert_non_null(m.net);
    model_add_label(&m, "a");
    model_add_label(&m, "b");
    model_set_note(&m, "version", arena_printf(&arena, "%lld", (long long)version));
    assert_int_equal(model_save(&m, NULL, &file, &err), ERR_NONE);
    put(buf_bytes(&file), &name);
    buf_free(&file);
    model_free(&m);
    return name;
}

static void append(const char *key, struct bytes value, const char *type) {
    struct header h = {BYTES("ce_type"), bytes_of(type)};
    memory_append(memory, &(struct record){.topic = topic_name(MODELS_TRAINED),
                                           .key = bytes_of(key),
                                           .value = value,
                                           .headers = &h,
                                           .header_count = 1,
                                           .time_ms = clock_now_ms()});
}

static struct trained made[20];

/* A version in the registry, without anything held out: it is promoted when nothing forbids it. */
static void publish(int64_t version) {
    struct lineage l = {0};
    struct buf text = {0};
    struct bytes batch = bytes_of(arena_printf(&arena, "%064lld", (long long)version)), none;
    put(BYTES(""), &none);
    memcpy(l.evaluation, none.data, HASH_HEX + 1);
    memcpy(l.weights, none.data, HASH_HEX + 1);
    memcpy(l.momentum, none.data, HASH_HEX + 1);
    lineage_encode(&l, BYTES("m"), version, version - 1, &text);
    struct trained t = {.model = BYTES("m"),
                        .version = version,
                        .parent = version - 1,
                        .artifact = weights(version),
                        .batches = arena_alloc(&arena, sizeof *t.batches),
                        .batch_count = 1,
                        .images = 10,
                        .labels = 2,
                        .training = METRICS_NONE,
                        .evaluation = METRICS_NONE,
                        .time_ms = clock_now_ms()};
    put(buf_bytes(&text), &t.lineage);
    t.batches[0] = batch;
    assert_int_equal(registry_publish(registry, &t, NULL, 0, &err), ERR_NONE);
    made[version] = t;
    buf_free(&text);
}

static void announce(int64_t version) {
    struct buf json = {0};
    trained_encode(&made[version], &json);
    append("m", arena_copy(&arena, buf_bytes(&json)), "darkroom.model.trained");
    buf_free(&json);
}

static void new_version(int64_t version) {
    publish(version);
    announce(version);
}

static bool is_kept(int64_t version) {
    struct buf file = {0};
    struct err e = {0};
    bool kept = !registry_get_artifact(registry, made[version].artifact, &file, &e);
    buf_free(&file);
    return kept;
}

/* ---- orders ---- */

static void order_of(const char *key, const struct order *o) {
    struct buf json = {0};
    order_encode(o, &json);
    append(key, arena_copy(&arena, buf_bytes(&json)), ORDER_TYPE);
    buf_free(&json);
}

static void order(const char *id, enum order_action action, int64_t version) {
    order_of("m", &(struct order){bytes_of(id), BYTES("m"), action, version, false});
}

static size_t said(struct deployed **out) {
    struct record list[MOST];
    size_t n = memory_committed(memory, topic_name(MODELS_DEPLOYED), list, MOST);
    assert_true(n <= MOST);
    *out = arena_alloc(&arena, (n + 1) * sizeof **out);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(deployed_decode(list[i].value, &arena, &(*out)[i], &err), ERR_NONE);
    return n;
}

static struct deployed last(void) {
    struct deployed *list;
    size_t n = said(&list);
    assert_true(n > 0);
    return list[n - 1];
}

static void serves(int64_t version, bool pinned) {
    struct deployed d = last();
    assert_int_equal(d.version, version);
    assert_true(bytes_equal(d.artifact, made[version].artifact));
    assert_int_equal(d.pinned, pinned);
}

static void was_refused(const char *id, const char *why) {
    struct deployed d = last();
    assert_true(d.order_count > 0);
    assert_true(bytes_is(d.orders[0].id, id));
    assert_false(d.orders[0].done);
    if (!strstr(arena_text(&arena, d.orders[0].text), why))
        fail_msg("%s", (const char *)d.orders[0].text.data);
}

static size_t letters(struct record list[MOST]) {
    return memory_committed(memory, topic_name(MODELS_TRAINED_DLQ), list, MOST);
}

/* ---- tests ---- */

static void a_rollback_leads_back_version_by_version(void **unused) {
    (void)unused;
    for (int v = 1; v <= 3; v++) {
        new_version(v);
        settle();
    }
    serves(3, false);
    order("1", ORDER_ROLLBACK, 0);
    settle();
    serves(2, false);
    assert_int_equal(last().judged, 3);
    assert_false(last().promoted);
    assert_int_equal(last().orders[0].from, 3);
    order("2", ORDER_ROLLBACK, 0);
    settle();
    serves(1, false);
    order("3", ORDER_ROLLBACK, 0);
    settle();
    serves(1, false);
    was_refused("3", "name a version");
    announce(3); /* judged long ago: it does not come back */
    settle();
    serves(1, false);
    new_version(4);
    settle();
    serves(4, false);
    order("4", ORDER_ROLLBACK, 0);
    settle();
    serves(1, false);
    order("5", ORDER_PROMOTE, 3);
    settle();
    serves(3, false);
    order("6", ORDER_ROLLBACK, 0);
    settle();
    serves(1, false);
}

static void an_order_is_carried_out_once(void **unused) {
    (void)unused;
    struct deployed *list;
    for (int v = 1; v <= 3; v++) {
        new_version(v);
        settle();
    }
    order("twice", ORDER_ROLLBACK, 0);
    order("twice", ORDER_ROLLBACK, 0); /* in one hand-over */
    settle();
    serves(2, false);
    order("twice", ORDER_ROLLBACK, 0); /* later */
    settle();
    crash();
    order("twice", ORDER_ROLLBACK, 0); /* and to another who knows it from the topic alone */
    settle();
    serves(2, false);
    assert_int_equal(said(&list), 4);
}

/* What stands before an order is judged before it, what stands behind it is judged after it. */
static void an_order_has_its_place(void **unused) {
    (void)unused;
    struct deployed *list;
    new_version(1);
    new_version(2);
    order("pin", ORDER_PIN, 0);
    new_version(3);
    new_version(4);
    order("unpin", ORDER_UNPIN, 0);
    new_version(5);
    order("back", ORDER_ROLLBACK, 0);
    settle(); /* all in one hand-over */
    size_t n = said(&list);
    static const struct {
        int version, judged;
        bool pinned, promoted;
        const char *order;
    } want[] = {{2, 2, false, true, NULL},    {2, 2, true, true, "pin"},
                {2, 4, true, false, "pin"},   {2, 4, false, false, "unpin"},
                {5, 5, false, true, "unpin"}, {2, 5, false, false, "back"}};
    assert_int_equal(n, sizeof want / sizeof *want);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(list[i].version, want[i].version);
        assert_int_equal(list[i].judged, want[i].judged);
        assert_int_equal(list[i].pinned, want[i].pinned);
        assert_int_equal(list[i].promoted, want[i].promoted);
        if (want[i].order) assert_true(bytes_is(list[i].orders[0].id, want[i].order));
    }
    assert_non_null(strstr(arena_text(&arena, list[2].why), "version 2 is pinned"));
}

static void a_crash_before_the_commit_repeats_the_order(void **unused) {
    (void)unused;
    for (int v = 1; v <= 2; v++) {
        new_version(v);
        settle();
    }
    crash();
    order("1", ORDER_ROLLBACK, 0);
    crash();
    settle();
    serves(1, false);
    assert_int_equal(last().order_count, 1);
}

static void what_cannot_serve_is_refused(void **unused) {
    (void)unused;
    for (int v = 1; v <= 4; v++) {
        new_version(v);
        settle();
    }
    order("1", ORDER_PROMOTE, 9);
    settle();
    was_refused("1", "no version 9");
    order("2", ORDER_REMOVE, 4);
    settle();
    was_refused("2", "version 4 serves");
    order("3", ORDER_ROLLBACK, 2);
    order("4", ORDER_REMOVE, 4);
    settle();
    was_refused("4", "until this moment");
    order("5", ORDER_REMOVE, 4);
    settle();
    was_refused("5", "the newest");
    order("6", ORDER_REMOVE, 3);
    settle();
    assert_true(last().orders[0].done);
    assert_false(is_kept(3));
    order("7", ORDER_REMOVE, 3); /* as often as one likes */
    settle();
    assert_true(last().orders[0].done);
    order("8", ORDER_PROMOTE, 3);
    settle();
    was_refused("8", "are gone");
    serves(2, false);
    publish(5);
    order("9", ORDER_REMOVE, 5);
    settle();
    was_refused("9", "the newest");
    order_of("m", &(struct order){BYTES("10"), BYTES("m"), ORDER_PROMOTE, 5, true});
    announce(5); /* nothing is left to judge */
    settle();
    serves(5, true);
    assert_int_equal(last().judged, 5);
}

static void what_no_order_is_goes_to_the_dead_letters(void **unused) {
    (void)unused;
    struct record list[MOST];
    new_version(1);
    append("m", BYTES("{"), ORDER_TYPE);
    append("m", BYTES("{\"schema\":1,\"order\":\"x\",\"model\":\"m\",\"action\":\"dance\"}"),
           ORDER_TYPE);
    append("m", BYTES("{\"schema\":1,\"order\":\"x\",\"model\":\"m\",\"action\":\"promote\"}"),
           ORDER_TYPE);
    order_of("other", &(struct order){BYTES("y"), BYTES("m"), ORDER_PIN, 0, false});
    order_of("nobody", &(struct order){BYTES("z"), BYTES("nobody"), ORDER_PIN, 0, false});
    order("good", ORDER_PIN, 0);
    settle();
    serves(1, true);
    static const char *const reasons[] = {"bad-message", "bad-message", "bad-message",
                                          "bad-message", "no-model"};
    assert_int_equal(letters(list), 5);
    for (int i = 0; i < 5; i++)
        assert_true(bytes_is(record_header(&list[i], "dlq.reason"), reasons[i]));
}

static void what_is_pinned_is_never_pruned(void **unused) {
    (void)unused;
    new_version(1);
    order("1", ORDER_PIN, 0);
    settle();
    for (int v = 2; v <= 5; v++) {
        new_version(v);
        settle();
    }
    serves(1, true);
    assert_true(is_kept(1));
    for (int v = 2; v <= 3; v++) assert_false(is_kept(v)); /* keep.versions is 2 */
    order("2", ORDER_UNPIN, 0);
    new_version(6);
    settle();
    serves(6, false);
    assert_true(is_kept(1)); /* a rollback leads there */
    order("3", ORDER_ROLLBACK, 0);
    settle();
    serves(1, false);
}

static enum memory_fault refuse_a_commit(void *left, struct bus *b, enum memory_point at) {
    (void)b;
    return at == MEMORY_AT_COMMIT && (*(int *)left)-- > 0 ? MEMORY_REFUSED : MEMORY_OK;
}

/* Orders between them make every one of the versions judged; they are judged again. */
static void what_is_not_committed_is_not_pruned(void **unused) {
    (void)unused;
    struct record letters[MOST];
    int left = 1;
    new_version(1);
    settle();
    for (int v = 2; v <= 5; v++) {
        new_version(v);
        order(v % 2 ? "odd" : "even", ORDER_UNPIN, 0);
    }
    memory_faults(memory, refuse_a_commit, &left);
    settle();
    memory_faults(memory, NULL, NULL);
    assert_true(left < 1);
    serves(5, false);
    assert_int_equal(
        memory_committed(memory, topic_name(topic_dead_letters(MODELS_TRAINED)), letters, MOST), 0);
    new_version(6);
    settle();
    for (int v = 1; v <= 6; v++) assert_int_equal(is_kept(v), v >= 5); /* keep.versions is 2 */
}

/* A removal that was done, and comes again because the commit behind it failed, was done. */
static void what_was_removed_stays_removed(void **unused) {
    (void)unused;
    int left = 1;
    for (int v = 1; v <= 3; v++) {
        new_version(v);
        settle();
    }
    order("1", ORDER_REMOVE, 1);
    order("2", ORDER_PIN, 0);
    memory_faults(memory, refuse_a_commit, &left);
    settle();
    memory_faults(memory, NULL, NULL);
    assert_true(left < 1);
    assert_false(is_kept(1));
    assert_int_equal(last().order_count, 2);
    assert_true(last().orders[0].done && last().orders[1].done);
    for (size_t i = 0; i < last().before_count; i++)
        assert_int_not_equal(last().before[i].version, 1);
}

/* A worker that judged before the order prunes after it. */
static void who_is_behind_an_order_removes_nothing(void **unused) {
    (void)unused;
    const int64_t nothing[] = {0};
    enum dropped dropped;
    publish(1);
    publish(2);
    const struct record order = {.partition = 3, .offset = 10},
                        before = {.partition = 3, .offset = 9},
                        elsewhere = {.partition = 2, .offset = 99},
                        behind = {.partition = 3, .offset = 11};
    assert_int_equal(registry_ordered(registry, BYTES("m"), &order, &err), ERR_NONE);
    assert_int_equal(registry_ordered(registry, BYTES("m"), &before, &err), ERR_NONE);
    assert_int_equal(registry_prune(registry, BYTES("m"), 2, nothing, 1, &before, &err), ERR_NONE);
    assert_int_equal(registry_prune(registry, BYTES("m"), 2, nothing, 1, &elsewhere, &err),
                     ERR_NONE);
    assert_int_equal(registry_drop(registry, BYTES("m"), 1, &before, &dropped, &err), ERR_NONE);
    assert_int_equal(dropped, DROP_OVERTAKEN);
    assert_true(is_kept(1));
    assert_true(is_kept(2));
    assert_int_equal(registry_prune(registry, BYTES("m"), 1, nothing, 1, &behind, &err), ERR_NONE);
    assert_false(is_kept(1));
    assert_int_equal(registry_drop(registry, BYTES("m"), 2, &order, &dropped, &err), ERR_NONE);
    assert_int_equal(dropped, DROP_DONE);
    assert_false(is_kept(2));
}

static void a_lost_pinned_version_gives_way(void **unused) {
    (void)unused;
    enum dropped lost;
    new_version(1);
    order("1", ORDER_PIN, 0);
    settle();
    assert_int_equal(
        registry_drop(registry, BYTES("m"), 1, &(struct record){.offset = 99}, &lost, &err),
        ERR_NONE);
    assert_int_equal(lost, DROP_DONE);
    new_version(2);
    settle();
    serves(2, false);
}

/* A version that a person makes serve is what the next ones are measured by, and it is kept; one that a
   pin holds back is no measure. */
static void what_is_ordered_is_the_best_so_far(void **unused) {
    (void)unused;
    for (int v = 1; v <= 3; v++) {
        new_version(v);
        settle();
    }
    assert_int_equal(last().best, 3); /* nothing is held out: the newest */
    order("1", ORDER_ROLLBACK, 1);
    settle();
    assert_int_equal(last().best, 1);
    assert_true(bytes_equal(last().best_artifact, made[1].artifact));
    order("2", ORDER_PIN, 0);
    new_version(4);
    settle();
    serves(1, true);
    assert_int_equal(last().best, 1);
    order("3", ORDER_PROMOTE, 4);
    settle();
    assert_int_equal(last().best, 4);
    order("4", ORDER_UNPIN, 0);
    new_version(5);
    settle();
    assert_int_equal(last().best, 5);
    assert_int_equal(last().order_count, 4);
}

static void write_models(void) {
    static const char text[] = "{\"models\":{\"m\":{\"keep.versions\":2}}}";
    strcpy(models_path, "/tmp/darkroom-orders-XXXXXX");
    int fd = mkstemp(models_path);
    if (fd < 0 || write(fd, text, sizeof text - 1) != (ssize_t)sizeof text - 1) abort();
    close(fd);
}

/* All weights are kept, but where the test is about those that are not. */
static int begin_keeping_few(void **unused) {
    setenv("DARKROOM_MODELS", models_path, 1);
    return begin(unused);
}

static int begin_keeping_all(void **unused) {
    unsetenv("DARKROOM_MODELS");
    return begin(unused);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, begin_keeping_all, end)
        T(a_rollback_leads_back_version_by_version),
        T(an_order_is_carried_out_once),
        T(an_order_has_its_place),
        T(a_crash_before_the_commit_repeats_the_order),
        T(what_cannot_serve_is_refused),
        T(what_no_order_is_goes_to_the_dead_letters),
        cmocka_unit_test_setup_teardown(what_is_pinned_is_never_pruned, begin_keeping_few, end),
        cmocka_unit_test_setup_teardown(what_is_not_committed_is_not_pruned, begin_keeping_few,
                                        end),
        T(what_was_removed_stays_removed),
        T(who_is_behind_an_order_removes_nothing),
        T(a_lost_pinned_version_gives_way),
        T(what_is_ordered_is_the_best_so_far)};
    log_setup("orders", LOG_ERROR, LOG_HUMAN);
    redis_server_start(&server, (char *)NULL);
    setenv("DARKROOM_REDIS_URL", redis_server_url(&server), 1);
    write_models();
    redis = redis_open(&(struct redis_conf){.url = redis_server_url(&server)}, &err);
    registry = registry_open(redis, topics_prefix_now());
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    registry_close(registry);
    redis_close(redis);
    unlink(models_path);
    redis_server_stop(&server);
    arena_free(&arena);
    return failed;
}
