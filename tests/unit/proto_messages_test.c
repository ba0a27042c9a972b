/*
 * proto: every message survives a round trip, fixtures of every schema that was ever sent still decode,
 * names that a reader does not know are ignored, and what is wrong is refused by name.
 */
#include "proto/messages.h"

#include "lib/base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef FIXTURES
#define FIXTURES "tests/fixtures/messages"
#endif

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEX32 "00112233445566778899aabbccddeeff"

static struct arena arena;
static struct err err;

/* Decodes and encodes again what the message says by its name. */
static enum err_kind again(const char *name, struct bytes json, struct buf *out) {
    union {
        struct stored stored;
        struct manifest manifest;
        struct trained trained;
        struct order order;
        struct deployed deployed;
        struct result result;
    } m;
#define KIND(prefix, field)                                                                        \
    if (strncmp(name, prefix, strlen(prefix)) == 0) {                                              \
        if (field##_decode(json, &arena, &m.field, &err)) return err.kind;                         \
        field##_encode(&m.field, out);                                                             \
        return ERR_NONE;                                                                           \
    }
    KIND("images.stored", stored)
    KIND("batches", manifest)
    KIND("models.trained.order", order)
    KIND("models.trained", trained)
    KIND("models.deployed", deployed)
    KIND("predictions.results", result)
    fail_msg("%s is no message", name);
    return ERR_FATAL;
}

static const char *const names[] = {
    "images.stored",       "images.stored.unlabelled",  "batches",
    "models.trained",      "models.trained.calibrated", "models.trained.order",
    "models.deployed",     "models.deployed.best",      "models.deployed.ordered",
    "predictions.results", "predictions.results.error"};
enum { NAMES = sizeof names / sizeof *names };

static void read_fixture(const char *schema, const char *name, struct buf *out) {
    char path[256], piece[4096];
    snprintf(path, sizeof path, "%s/%s/%s.json", FIXTURES, schema, name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be opened", path);
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) buf_add(out, piece, n);
    fclose(f);
}

static void fixtures_decode_and_come_back(void **state) {
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        struct buf file = {0}, once = {0}, twice = {0};
        read_fixture("v1", names[i], &file);
        if (again(names[i], buf_bytes(&file), &once)) fail_msg("%s: %s", names[i], err.text);
        if (again(names[i], buf_bytes(&once), &twice)) fail_msg("%s: %s", names[i], err.text);
        assert_string_equal(once.data, twice.data);
        buf_free(&file);
        buf_free(&once);
        buf_free(&twice);
    }
}

/* Every member of a message in turn: gone, of another type, and beside one that nobody knows. */
static void broken_messages_are_refused(void **state) {
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        struct buf file = {0}, text = {0}, out = {0};
        read_fixture("v1", names[i], &file);
        struct json *root = json_parse(buf_bytes(&file), &err);
        assert_non_null(root);
        for (const struct json *v = json_first(root); v; v = json_next(v)) {
            if (strcmp(json_name(v), "later") == 0) continue; /* a fixture's own unknown name */
            buf_clear(&text);
            buf_printf(&text, "{\"unknown\":{\"a\":[1]},\"%s\":[[true]]", json_name(v));
            for (const struct json *o = json_first(root); o; o = json_next(o)) {
                struct bytes s;
                double d;
                struct err no = {0};
                if (o == v) continue;
                if (!json_as_text(o, &s, &no))
                    buf_printf(&text, ",\"%s\":\"%.*s\"", json_name(o), (int)s.len,
                               (const char *)s.data);
                else if (!json_as_real(o, &d, &no))
                    buf_printf(&text, ",\"%s\":%.17g", json_name(o), d);
            }
            buf_add_text(&text, "}");
            err_clear(&err);
            if (again(names[i], buf_bytes(&text), &out) != ERR_BAD)
                fail_msg("%s: %s", names[i], text.data);
            assert_true(err.reason == REASON_BAD_MESSAGE || err.reason == REASON_BAD_EVENT);
        }
        json_free(root);
        buf_free(&file);
        buf_free(&text);
        buf_free(&out);
    }
}

static void unknown_names_are_ignored(void **state) {
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        struct buf file = {0}, more = {0}, plain = {0}, out = {0};
        read_fixture("v1", names[i], &file);
        buf_add_text(&more, "{\"of the future\":{\"deep\":[1,2,{}]},");
        buf_add_text(&more, strchr(file.data, '{') + 1);
        assert_int_equal(again(names[i], buf_bytes(&file), &plain), ERR_NONE);
        assert_int_equal(again(names[i], buf_bytes(&more), &out), ERR_NONE);
        assert_string_equal(plain.data, out.data);
        buf_free(&file);
        buf_free(&more);
        buf_free(&plain);
        buf_free(&out);
    }
}

static void a_newer_schema_is_refused(void **state) {
    (void)state;
    struct buf out = {0};
    for (int i = 0; i < NAMES; i++) {
        err_clear(&err);
        assert_int_equal(again(names[i], BYTES("{\"schema\":2}"), &out), ERR_BAD);
        assert_non_null(strstr(err.text, "schema 2"));
    }
    buf_free(&out);
}

static void hostile_texts_survive(void **state) {
    (void)state;
    struct stored m = {.id = BYTES("\",\"row\":\"x\\"),
                       .source = BYTES("\xe2\x82\xac"),
                       .row = BYTES(HEX32),
                       .revision = 9007199254740991,
                       .model = BYTES("m"),
                       .label = BYTES("}"),
                       .split = SPLIT_EVAL,
                       .pixels = BYTES(HEX64)},
                  back;
    struct buf json = {0};
    stored_encode(&m, &json);
    assert_int_equal(stored_decode(buf_bytes(&json), &arena, &back, &err), ERR_NONE);
    assert_true(bytes_equal(back.id, m.id));
    assert_true(bytes_equal(back.source, m.source));
    assert_true(bytes_equal(back.label, m.label));
    assert_int_equal(back.revision, m.revision);
    assert_int_equal(back.split, SPLIT_EVAL);
    buf_free(&json);
}

static void undefined_metrics_are_null(void **state) {
    (void)state;
    struct deployed m = {.model = BYTES("m"),
                         .why = BYTES("w"),
                         .evaluation = METRICS_NONE,
                         .challenger = {5, 0.5, NAN, 1.25, 0, 1, NAN}},
                    back;
    struct buf json = {0};
    deployed_encode(&m, &json);
    assert_non_null(strstr(json.data, "\"accuracy\":null"));
    assert_int_equal(deployed_decode(buf_bytes(&json), &arena, &back, &err), ERR_NONE);
    assert_true(isnan(back.evaluation.accuracy));
    assert_true(back.challenger.loss == 1.25);
    assert_true(isnan(back.challenger.ece));
    assert_int_equal(back.best, 0);
    buf_free(&json);
}

/* What came later is read from new messages, and has its value of before in old ones. */
static void what_came_later_is_optional(void **state) {
    (void)state;
    struct buf json = {0};
    struct trained t;
    struct deployed d;
    read_fixture("v1", "models.trained", &json);
    assert_int_equal(trained_decode(buf_bytes(&json), &arena, &t, &err), ERR_NONE);
    assert_true(!t.report.data && t.temperature == 1 && isnan(t.evaluation.ece));
    buf_clear(&json);
    read_fixture("v1", "models.trained.calibrated", &json);
    assert_int_equal(trained_decode(buf_bytes(&json), &arena, &t, &err), ERR_NONE);
    assert_true(t.report.len == 64 && t.temperature == 1.25 && t.training.ece == 0.013);
    buf_clear(&json);
    read_fixture("v1", "models.deployed", &json);
    assert_int_equal(deployed_decode(buf_bytes(&json), &arena, &d, &err), ERR_NONE);
    assert_true(!d.best && !d.best_artifact.data && isnan(d.best_evaluation.accuracy));
    buf_clear(&json);
    read_fixture("v1", "models.deployed.best", &json);
    assert_int_equal(deployed_decode(buf_bytes(&json), &arena, &d, &err), ERR_NONE);
    assert_true(d.best == 1 && d.best_artifact.len == 64 && d.best_evaluation.accuracy == 0.96);
    assert_true(!d.pinned && !d.before_count && !d.order_count);
    buf_clear(&json);
    read_fixture("v1", "models.deployed.ordered", &json);
    assert_int_equal(deployed_decode(buf_bytes(&json), &arena, &d, &err), ERR_NONE);
    assert_true(d.pinned && d.before_count == 1 && d.before[0].version == 2 && !d.best);
    assert_true(d.order_count == 2 && d.orders[0].action == ORDER_ROLLBACK && !d.orders[1].done);
    buf_free(&json);
}

static int clear(void **state) {
    (void)state;
    err_clear(&err);
    arena_reset(&arena);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(fixtures_decode_and_come_back, clear),
                                       cmocka_unit_test_setup(broken_messages_are_refused, clear),
                                       cmocka_unit_test_setup(unknown_names_are_ignored, clear),
                                       cmocka_unit_test_setup(a_newer_schema_is_refused, clear),
                                       cmocka_unit_test_setup(hostile_texts_survive, clear),
                                       cmocka_unit_test_setup(undefined_metrics_are_null, clear),
                                       cmocka_unit_test_setup(what_came_later_is_optional, clear)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
