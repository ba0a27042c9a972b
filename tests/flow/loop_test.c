/*
 * The whole loop on the memory log and a real Redis: images become a model, the model answers
 * requests, through the six real workers and the real runtime. Everything is counted at the end.
 */
#define _GNU_SOURCE
#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/bus/memory.h"
#include "lib/image/png.h"
#include "lib/learn/images.h"
#include "lib/learn/registry.h"
#include "lib/stage/stage.h"
#include "tests/unit/redis_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

const struct stage *preprocess_stage(void), *store_stage(void), *batch_stage(void),
    *train_stage(void), *deploy_stage(void), *predict_stage(void);

enum { STAGES = 6, PARTITIONS = 3, SIDE = 28 };

struct worker {
    const struct stage *stage;
    void *state;
    struct bus *bus;
    struct stage_run *run;
};

static struct redis_server server;
static struct bus_memory *memory;
static struct worker workers[STAGES];
static struct arena arena;
static struct err err;

static void open_worker(struct worker *w) {
    bool help;
    int operand;
    char *argv[] = {(char *)w->stage->name, NULL};
    const struct settings_use uses[] = {{w->stage->settings, NULL}, {0}};
    char group[64];
    snprintf(group, sizeof group, "darkroom.%s", w->stage->name);
    w->state = mem_zeroed(1, w->stage->state_size);
    struct settings_use mine[] = {{uses[0].table, w->state}, {0}};
    assert_int_equal(settings_read(mine, 1, argv, &operand, &help, &err), ERR_NONE);
    struct bus_conf conf = {.group = group,
                            .instance = "a",
                            .in = topic_name(w->stage->in),
                            .lanes = w->stage->overlap ? 2 : 1,
                            .watch = w->stage->watch ? topic_name(w->stage->watch) : NULL,
                            .queue_bytes = 1 << 20};
    w->bus = bus_open_memory(&conf, memory, &err);
    assert_non_null(w->bus);
    w->run = stage_run_make(w->stage, w->state, w->bus, &(struct stage_conf){0});
}

/* kill -9: nobody closes or frees anything, so the remains lie here. */
static struct worker graveyard[1000];
static size_t graves;

static void crash_worker(struct worker *w) {
    assert_true(graves < sizeof graveyard / sizeof *graveyard);
    memory_crash(w->bus);
    memory_expire(memory);
    graveyard[graves++] = *w;
}

static void close_worker(struct worker *w) {
    stage_run_free(w->run);
    bus_close(w->bus);
    free(w->state);
}

static char models[80];

static int begin(void **state) {
    (void)state;
    const struct stage *const all[STAGES] = {preprocess_stage(), store_stage(),  batch_stage(),
                                             train_stage(),      deploy_stage(), predict_stage()};
    redis_server_start(&server, (char *)NULL);
    setenv("DARKROOM_REDIS_URL", redis_server_url(&server), 1);
    snprintf(models, sizeof models, "%s/models.json", server.dir);
    FILE *f = fopen(models, "w"); /* what learns quickest, and a bar that moved would be another */
    assert_true(f &&
                fputs("{\"models\": {\"default\": {\"network\": \"mlp\", \"augment\": \"none\"}}}",
                      f) >= 0);
    assert_int_equal(fclose(f), 0);
    setenv("DARKROOM_MODELS", models, 1);
    clock_simulate(1790000000000);
    memory = memory_make();
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++)
        memory_topic(memory, topic_name(t), topic_info(t)->partitions > 1 ? PARTITIONS : 1);
    for (int i = 0; i < STAGES; i++) {
        workers[i] = (struct worker){.stage = all[i]};
        open_worker(&workers[i]);
    }
    return 0;
}

static int end(void **state) {
    (void)state;
    for (int i = 0; i < STAGES; i++) close_worker(&workers[i]);
    memory_free(memory);
    clock_simulate(-1);
    redis_server_stop(&server);
    arena_reset(&arena);
    return 0;
}

/* All workers in turn until every input is read and committed, also behind the age of a batch. */
static void run_to_rest(void) {
    int calm = 0;
    for (int turn = 0; turn < 20000 && calm < 50; turn++) {
        bool all_idle = true;
        for (int i = 0; i < STAGES; i++) {
            bool idle = true;
            int retry_ms = 0;
            err_clear(&err);
            enum err_kind kind = stage_step(workers[i].run, 10, &idle, &retry_ms, &err);
            if (kind == ERR_FATAL) fail_msg("%s: %s", workers[i].stage->name, err.text);
            if (retry_ms) clock_sleep_ms(retry_ms);
            all_idle &= idle && !kind;
        }
        clock_sleep_ms(100);
        calm = all_idle ? calm + 1 : 0;
    }
    assert_int_equal(calm, 50);
}

/* A white bar whose place is the class, on noise that the number makes. */
static struct bytes bar(int number, int class) {
    uint8_t pixels[SIDE * SIDE];
    struct image im = {SIDE, SIDE, 1, pixels};
    struct buf file = {0};
    uint32_t s = (uint32_t)number * 2654435761u + 1;
    for (int i = 0; i < SIDE * SIDE; i++) {
        s = s * 1664525u + 1013904223u;
        pixels[i] = (uint8_t)((s >> 24) / 4 + (i / SIDE / 5 == class ? 180 : 0));
    }
    assert_int_equal(image_encode(&im, &file, &err), ERR_NONE);
    struct bytes copy = arena_copy(&arena, buf_bytes(&file));
    buf_free(&file);
    return copy;
}

static void publish(enum topic t, const char *key, struct bytes value, const char *label) {
    struct header h = {BYTES("label"), bytes_of(label)};
    struct record r = {.topic = topic_name(t),
                       .key = bytes_of(key),
                       .value = value,
                       .headers = &h,
                       .header_count = label ? 1 : 0,
                       .time_ms = clock_now_ms()};
    memory_append(memory, &r);
}

static size_t read_all(enum topic t, struct record **out) {
    *out = arena_alloc(&arena, 20000 * sizeof **out);
    size_t n = memory_committed(memory, topic_name(t), *out, 20000);
    assert_true(n <= 20000);
    return n;
}

static void expect_rest(void) {
    for (int i = 0; i < STAGES; i++) {
        char group[64];
        snprintf(group, sizeof group, "darkroom.%s", workers[i].stage->name);
        assert_int_equal(memory_lag(memory, group, topic_name(workers[i].stage->in)), 0);
    }
}

static void images_become_a_model_that_answers(void **state) {
    (void)state;
    static const char *const labels[] = {"zero", "one", "two", "three", "four"};
    enum { IMAGES_N = 2500, REQUESTS = 300 };
    struct record *list;
    for (int i = 0; i < IMAGES_N; i++)
        publish(IMAGES, arena_printf(&arena, "i%d", i), bar(i, i % 5), labels[i % 5]);
    for (int i = 0; i < 100; i++)
        publish(IMAGES, arena_printf(&arena, "i%d", i), bar(i, i % 5), labels[i % 5]); /* again */
    publish(IMAGES, "unlabelled", bar(9000, 1), NULL);
    publish(IMAGES, "broken", BYTES("this is no picture"), "one");
    publish(IMAGES, "i7", bar(7, 3), "three"); /* a correction */
    publish(PREDICTIONS_REQUESTS, "early", bar(0, 0), NULL);
    run_to_rest();

    assert_int_equal(read_all(IMAGES_PREPARED, &list), IMAGES_N + 102);
    assert_int_equal(read_all(IMAGES_STORED, &list), IMAGES_N + 2);
    assert_int_equal(read_all(IMAGES_DLQ, &list), 1);
    assert_true(bytes_is(list[0].key, "broken"));
    assert_true(bytes_is(record_header(&list[0], "dlq.reason"), "not-png"));
    assert_true(bytes_is(list[0].value, "this is no picture"));

    size_t n = read_all(BATCHES, &list), batched = 0;
    for (size_t i = 0; i < n; i++) {
        struct manifest m;
        assert_int_equal(manifest_decode(list[i].value, &arena, &m, &err), ERR_NONE);
        batched += m.image_count;
    }
    assert_int_equal(batched, IMAGES_N + 1);
    n = read_all(MODELS_TRAINED, &list);
    assert_true(n >= 1);
    struct trained last = {0};
    for (size_t i = 0; i < n; i++)
        assert_int_equal(trained_decode(list[i].value, &arena, &last, &err), ERR_NONE);
    assert_int_equal(last.version, n);
    assert_int_equal(last.labels, 5);
    assert_true(last.evaluation.accuracy > 0.97);

    n = read_all(PREDICTIONS_RESULTS, &list);
    assert_int_equal(n, 1); /* asked before there was a model */
    struct result r;
    assert_int_equal(result_decode(list[0].value, &arena, &r, &err), ERR_NONE);
    assert_true(bytes_is(r.reason, "no-model"));

    for (int i = 0; i < REQUESTS; i++)
        publish(PREDICTIONS_REQUESTS, arena_printf(&arena, "q%d", i), bar(5000 + i, i % 5), NULL);
    publish(PREDICTIONS_REQUESTS, "q-bad", BYTES("\x89PNG\r\n\x1a\n"), NULL);
    run_to_rest();
    n = read_all(PREDICTIONS_RESULTS, &list);
    assert_int_equal(n, REQUESTS + 2);
    int right = 0, errors = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(result_decode(list[i].value, &arena, &r, &err), ERR_NONE);
        if (r.reason.data)
            errors++;
        else
            right += bytes_is(r.label, labels[atoi((const char *)list[i].key.data + 1) % 5]);
    }
    assert_int_equal(errors, 2);
    assert_true(right > REQUESTS * 95 / 100);
    expect_rest();
}

/* An error result too takes the request's key and trail with it: both may be too long for it. */
static void a_request_too_long_for_its_answer_gets_one(void **state) {
    (void)state;
    enum { KEY_LEN = 1100000, NEARLY = 950000, BAGGAGE = 8192, BAGS = 16 };
    char *key = memset(arena_alloc(&arena, KEY_LEN), 'k', KEY_LEN),
         *baggage = memset(arena_alloc(&arena, BAGGAGE), 'b', BAGGAGE);
    struct header headers[1 + BAGS] = {{BYTES("ce_id"), BYTES("mine")}};
    for (int i = 1; i <= BAGS; i++)
        headers[i] = (struct header){BYTES("baggage"), {baggage, BAGGAGE}};
    const struct {
        size_t key, headers;
        struct bytes key_back;
        const char *reason;
        struct bytes id;
    } requests[] = {{KEY_LEN, 1, {0}, "too-long", BYTES("mine")},
                    {KEY_LEN, 0, {0}, "too-long", {key, EVENT_ID_MAX}}, /* no id; cut */
                    {NEARLY, 1 + BAGS, {0}, "too-long", BYTES("mine")},
                    {1, 1, {key, 1}, "no-model", BYTES("mine")}};
    enum { REQUESTS = sizeof requests / sizeof *requests };
    for (int i = 0; i < REQUESTS; i++)
        memory_append(memory, &(struct record){.topic = topic_name(PREDICTIONS_REQUESTS),
                                               .key = {key, requests[i].key},
                                               .value = bar(i, 0),
                                               .headers = headers,
                                               .header_count = requests[i].headers,
                                               .time_ms = clock_now_ms()});
    run_to_rest();

    struct record *list;
    bool answered[REQUESTS] = {false};
    size_t n = read_all(PREDICTIONS_RESULTS, &list);
    assert_int_equal(n, REQUESTS);
    for (size_t i = 0; i < n; i++) {
        struct result r;
        int k = 0;
        assert_int_equal(result_decode(list[i].value, &arena, &r, &err), ERR_NONE);
        while (k < REQUESTS && (answered[k] || !bytes_is(r.reason, requests[k].reason) ||
                                !bytes_equal(r.id, requests[k].id) ||
                                !bytes_equal(list[i].key, requests[k].key_back)))
            k++;
        assert_true(k < REQUESTS);
        answered[k] = true;
        assert_null(record_header(&list[i], "baggage").data);
    }
    expect_rest();
}

static void a_crash_anywhere_loses_and_doubles_nothing(void **state) {
    (void)state;
    enum { IMAGES_N = 1500 };
    struct record *list;
    uint32_t s = 7;
    for (int i = 0; i < IMAGES_N; i++)
        publish(IMAGES, arena_printf(&arena, "i%d", i), bar(i, i % 2), i % 2 ? "a" : "b");
    for (int turn = 0; turn < 400; turn++) {
        s = s * 1664525u + 1013904223u;
        struct worker *w = &workers[(s >> 16) % STAGES];
        bool idle;
        int retry_ms = 0;
        err_clear(&err);
        if (stage_step(w->run, 10, &idle, &retry_ms, &err) == ERR_FATAL)
            fail_msg("%s: %s", w->stage->name, err.text);
        clock_sleep_ms(100 + retry_ms);
        if (s >> 24 < 60) {
            crash_worker(w);
            open_worker(w);
        }
    }
    run_to_rest();
    assert_int_equal(read_all(IMAGES_STORED, &list), IMAGES_N);
    size_t n = read_all(BATCHES, &list), batched = 0;
    struct manifest m;
    struct trained t;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(manifest_decode(list[i].value, &arena, &m, &err), ERR_NONE);
        batched += m.image_count;
    }
    assert_int_equal(batched, IMAGES_N);
    size_t batches = n, learned = 0;
    n = read_all(MODELS_TRAINED, &list);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(trained_decode(list[i].value, &arena, &t, &err), ERR_NONE);
        assert_int_equal(t.version, i + 1);
        learned += t.batch_count;
    }
    assert_int_equal(learned, batches);
    expect_rest();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(images_become_a_model_that_answers, begin, end),
        cmocka_unit_test_setup_teardown(a_request_too_long_for_its_answer_gets_one, begin, end),
        cmocka_unit_test_setup_teardown(a_crash_anywhere_loses_and_doubles_nothing, begin, end)};
    log_setup("flow", LOG_ERROR, LOG_HUMAN);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
