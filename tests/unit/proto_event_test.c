/* proto: topics, and CloudEvents over headers: liberal in, exact out. */
#include "proto/event.h"

#include "lib/base/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;
static struct err err;

#define H(name, value)                                                                             \
    { BYTES(name), BYTES(value) }

static struct event read(struct bytes key, const struct header *h, size_t n, enum reason expect) {
    struct record r = {.topic = "darkroom.images",
                       .key = key,
                       .value = BYTES("v"),
                       .headers = h,
                       .header_count = n,
                       .time_ms = 77};
    struct event ev;
    err_clear(&err);
    (void)!event_read(&r, &arena, &ev, &err);
    assert_string_equal(reason_code(err.reason), reason_code(expect));
    assert_int_equal(err.kind, expect == REASON_NONE ? ERR_NONE : ERR_BAD);
    return ev;
}

static void a_bare_record_is_an_event(void **state) {
    (void)state;
    struct event ev = read((struct bytes){0}, NULL, 0, REASON_NONE);
    assert_true(bytes_is(
        ev.id,
        "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080")); /* SHA-256 of "v" */
    assert_true(bytes_is(ev.source, "images"));
    assert_true(bytes_is(ev.model, "default"));
    assert_null(ev.label.data);
    assert_int_equal(ev.time_ms, 77);
    assert_int_equal(ev.expires_ms, -1);
    const struct header label[] = {H("label", "7"), H("filename", "a.png")};
    ev = read(BYTES("k"), label, 2, REASON_NONE);
    assert_true(bytes_is(ev.id, "k"));
    assert_true(bytes_is(ev.label, "7"));
    assert_true(bytes_is(ev.subject, "a.png"));
    ev = read(BYTES("\x00\x01\xff"), NULL, 0, REASON_NONE); /* a key that is no text */
    assert_true(bytes_is(ev.id, "0x0001ff"));
}

static void attributes_win_over_plain_headers(void **state) {
    (void)state;
    const struct header h[] = {H("label", "plain"),
                               H("ce_specversion", "1.0"),
                               H("ce_id", "i"),
                               H("ce_source", "s"),
                               H("ce_label", "l"),
                               H("ce_label", "second"),
                               H("ce_time", "2026-01-31T12:00:00.250+01:00"),
                               H("ce_expirytime", "2026-01-31T11:00:01Z"),
                               H("ce_model", "m-1"),
                               H("ce_subject", "f")};
    struct event ev = read(BYTES("key"), h, sizeof h / sizeof *h, REASON_NONE);
    assert_true(bytes_is(ev.id, "i"));
    assert_true(bytes_is(ev.label, "l")); /* the first of a repeated header */
    assert_true(bytes_is(ev.model, "m-1"));
    assert_int_equal(ev.expires_ms - ev.time_ms, 750);
}

static void what_is_wrong_is_named(void **state) {
    (void)state;
    static char longest[2000];
    memset(longest, 'x', sizeof longest);
    const struct {
        struct header h;
        enum reason reason;
    } cases[] = {{H("ce_specversion", "0.3"), REASON_BAD_EVENT},
                 {H("ce_specversion", ""), REASON_BAD_EVENT},
                 {H("ce_id", ""), REASON_BAD_ID},
                 {H("ce_id", "a\nb"), REASON_BAD_ID},
                 {H("ce_id", "\xff\xfe"), REASON_BAD_ID},
                 {{BYTES("ce_id"), {longest, EVENT_ID_MAX + 1}}, REASON_BAD_ID},
                 {H("ce_source", ""), REASON_BAD_EVENT},
                 {H("label", ""), REASON_BAD_LABEL},
                 {H("label", "\x1b[2J"), REASON_BAD_LABEL},
                 {{BYTES("label"), {longest, EVENT_LABEL_MAX + 1}}, REASON_BAD_LABEL},
                 {{BYTES("label"), {longest, EVENT_LABEL_MAX}}, REASON_NONE},
                 {{BYTES("label"), {NULL, 0}}, REASON_NONE},
                 {H("ce_model", "A"), REASON_BAD_MODEL},
                 {H("ce_model", "../x"), REASON_BAD_MODEL},
                 {H("ce_model", ""), REASON_BAD_MODEL},
                 {H("ce_time", "yesterday"), REASON_BAD_EVENT},
                 {H("ce_expirytime", "2026-13-01T00:00:00Z"), REASON_BAD_EVENT},
                 {H("ce_subject", "\x01"), REASON_NONE},
                 {H("", ""), REASON_NONE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        read(BYTES("k"), &cases[i].h, 1, cases[i].reason);
    read((struct bytes){longest, 1000}, NULL, 0, REASON_BAD_ID);
}

static void out_is_exact_and_carries_the_trail(void **state) {
    (void)state;
    const struct header in[] = {H("traceparent", "00-1"), H("secret", "x"),
                                H("correlation-id", "c"), H("ce_label", "old"),
                                H("kafka_correlationId", "k")};
    struct record from = {.headers = in, .header_count = 5}, out = {.key = BYTES("k")};
    struct event ev = {.id = BYTES("i"),
                       .source = BYTES("s"),
                       .type = BYTES("t"),
                       .content_type = BYTES("image/png"),
                       .model = BYTES("m"),
                       .time_ms = 0};
    event_write(&ev, &from, &arena, &out);
    const char *const want[][2] = {{"ce_specversion", "1.0"},
                                   {"ce_id", "i"},
                                   {"ce_source", "s"},
                                   {"ce_type", "t"},
                                   {"ce_time", "1970-01-01T00:00:00.000Z"},
                                   {"content-type", "image/png"},
                                   {"ce_model", "m"},
                                   {"traceparent", "00-1"},
                                   {"correlation-id", "c"},
                                   {"kafka_correlationId", "k"}};
    assert_int_equal(out.header_count, sizeof want / sizeof *want);
    for (size_t i = 0; i < out.header_count; i++) {
        assert_true(bytes_is(out.headers[i].name, want[i][0]));
        assert_true(bytes_is(out.headers[i].value, want[i][1]));
    }
    struct event back = read(BYTES("other"), out.headers, out.header_count, REASON_NONE);
    assert_true(bytes_is(back.id, "i"));
    assert_null(back.label.data);
}

static void shapes(void **state) {
    (void)state;
    const struct {
        const char *text;
        int h, w, c;
    } good[] = {{"28,28,1", 28, 28, 1}, {"1,1024,3", 1, 1024, 3}};
    const char *const bad[] = {"",       "28",       "28,28",    "28,28,2",     "0,28,1",
                               "-1,2,1", "28,28,1,", "28,28,1x", "9999999,1,1", "a,b,c"};
    int h, w, c;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(event_shape(bytes_of(good[i].text), &h, &w, &c, &err), ERR_NONE);
        assert_true(h == good[i].h && w == good[i].w && c == good[i].c);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(event_shape(bytes_of(bad[i]), &h, &w, &c, &err), ERR_BAD);
    assert_int_equal(event_shape((struct bytes){0}, &h, &w, &c, &err), ERR_BAD);
}

static void topics_have_names_and_dead_letters(void **state) {
    (void)state;
    assert_string_equal(topic_name(IMAGES), "darkroom.images");
    for (enum topic t = IMAGES; t <= MODELS_TRAINED; t++) { /* ORDER TOPIC */
        char dlq[300];
        snprintf(dlq, sizeof dlq, "%s.dlq", topic_name(t));
        assert_int_equal(topic_dead_letters(t), topic_of(dlq));
        assert_true(topic_info(topic_dead_letters(t))->max_bytes > topic_info(t)->max_bytes);
    }
    assert_int_equal(topic_dead_letters(PREDICTIONS_REQUESTS), TOPIC_NONE);
    assert_int_equal(topic_of("images"), TOPIC_NONE);
    assert_int_equal(topics_prefix("a b", &err), ERR_FATAL);
    assert_int_equal(topics_prefix("x.", &err), ERR_NONE);
    assert_string_equal(topic_name(BATCHES), "x.batches");
    assert_int_equal(topics_prefix(TOPIC_DEFAULT_PREFIX, &err), ERR_NONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_bare_record_is_an_event),
                                       cmocka_unit_test(attributes_win_over_plain_headers),
                                       cmocka_unit_test(what_is_wrong_is_named),
                                       cmocka_unit_test(out_is_exact_and_carries_the_trail),
                                       cmocka_unit_test(shapes),
                                       cmocka_unit_test(topics_have_names_and_dead_letters)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
