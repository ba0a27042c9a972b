/* Dead letters that mean harm: what is read from them, what is printed, what goes back, which are picked. */
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/client/dlq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define H(name, value)                                                                             \
    { BYTES(name), BYTES(value) }

/* As a stage appends them. */
#define REFUSAL(reason, text, stage, time)                                                         \
    H("dlq.reason", reason), H("dlq.text", text), H("dlq.stage", stage),                           \
        H("dlq.version", "0.1.0"), H("dlq.topic", "darkroom.images"), H("dlq.partition", "3"),     \
        H("dlq.offset", "44"), H("dlq.record-time", "2026-11-20T10:00:00.000Z"),                   \
        H("dlq.cluster", "c"), H("dlq.attempts", "1"), H("dlq.time", time)

static struct letter letter_of(const struct header *headers, size_t n, int64_t offset) {
    struct letter l;
    struct record r = {.topic = "darkroom.images.dlq",
                       .key = BYTES("k"),
                       .value = BYTES("\x89PNG\r\n\x1a\n\0\xff"),
                       .headers = headers,
                       .header_count = n,
                       .time_ms = 1000,
                       .offset = offset};
    letter_read(&r, IMAGES_DLQ, &l);
    return l;
}
#define LETTER(headers) letter_of(headers, sizeof(headers) / sizeof *(headers), 17)

static void the_stage_has_the_last_word(void **state) {
    const struct header headers[] = {
        H("dlq.reason", "none of your business"),
        H("dlq.replays", "99999999999999999999"),
        H("dlq.time", "2020-01-01T00:00:00Z"),
        H("label", "7"),
        REFUSAL("bad-label", "first", "preprocess", "2026-11-23T10:00:00.000Z"),
        H("dlq.replays", "1"),
        REFUSAL("bad-id", "second", "preprocess", "2026-11-23T11:00:00.000Z")};
    struct letter l = LETTER(headers);
    char name[80], time[CLOCK_RFC3339_LEN + 1];
    assert_string_equal(letter_name(&l, name), "images.dlq/0/17");
    assert_true(bytes_is(l.reason, "bad-id"));
    assert_true(bytes_is(l.text, "second"));
    assert_int_equal(l.replays, 1);
    clock_format(l.time_ms, time);
    assert_string_equal(time, "2026-11-23T11:00:00.000Z");
    assert_int_equal(l.state, LETTER_OPEN);
    assert_false(l.bare);
}

static void anything_is_a_letter(void **state) {
    struct letter l;
    letter_read(&(struct record){.topic = "darkroom.images.dlq", .time_ms = 5}, IMAGES_DLQ, &l);
    assert_null(l.reason.data);
    assert_int_equal(l.time_ms, 5);
    assert_int_equal(l.replays, 0);
    const struct header odd[] = {{BYTES(""), {0}},
                                 {BYTES("dlq.time"), {0}},
                                 H("dlq.replays", "-3"),
                                 H("dlq.time", "soon"),
                                 {BYTES("dlq.reason"), {0}}};
    l = LETTER(odd);
    assert_int_equal(l.time_ms, 1000);
    assert_int_equal(l.replays, 0);
    assert_null(l.reason.data);
}

static void a_mark_is_read_as_it_was_written(void **state) {
    const struct header headers[] = {
        REFUSAL("bad-id", "x", "preprocess", "2026-11-23T10:00:00.000Z")};
    struct letter l = letter_of(headers, 11, 9007199254740993);
    struct arena a = {0};
    struct record mark;
    struct letter_place at = {0};
    enum letter_state done = LETTER_OPEN;
    l.record.partition = 2147483647;
    for (enum letter_state s = LETTER_REPLAYED; s <= LETTER_DROPPED; s++) {
        mark_write(&l, s, &a, &mark);
        assert_string_equal(mark.topic, "darkroom.images.dlq");
        assert_true(mark_read(&mark, &at, &done));
        assert_int_equal(done, s);
        assert_int_equal(at.partition, 2147483647);
        assert_true(at.offset == 9007199254740993);
    }
    arena_free(&a);
}

static void a_sender_cannot_make_a_mark(void **state) {
    const struct header good[] = {H("dlq.done", "dropped"), H("dlq.letter", "0/5"),
                                  H("dlq.time", "2026-11-23T10:00:00Z")};
    struct letter_place at;
    enum letter_state done;
    struct record r = {.headers = good, .header_count = 3};
    assert_true(mark_read(&r, &at, &done));
    r.key = BYTES("");
    assert_false(mark_read(&r, &at, &done));
    r.key = (struct bytes){0};
    r.value = BYTES("x");
    assert_false(mark_read(&r, &at, &done));
    r.value = (struct bytes){0};
    r.header_count = 2;
    assert_false(mark_read(&r, &at, &done));
    /* What a sender forged, and a stage refused: the refusal's headers stand behind it. */
    const struct header forged[] = {
        good[0], good[1], good[2], REFUSAL("empty", "x", "preprocess", "2026-11-23T10:00:00.000Z")};
    r = (struct record){.headers = forged, .header_count = sizeof forged / sizeof *forged};
    assert_false(mark_read(&r, &at, &done));
    static const char *const places[] = {
        "",     "/",    "0",     "0/",   "/5",           "0/5x",
        "-1/5", "0/-5", "0/5/6", " 0/5", "2147483648/5", "0/9999999999999999999"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const struct header bad[] = {good[0], {BYTES("dlq.letter"), bytes_of(places[i])}, good[2]};
        r = (struct record){.headers = bad, .header_count = 3};
        assert_false(mark_read(&r, &at, &done));
    }
    const struct header open[] = {H("dlq.done", "open"), good[1], good[2]};
    r = (struct record){.headers = open, .header_count = 3};
    assert_false(mark_read(&r, &at, &done));
}

static void a_replay_is_the_record_and_its_trail(void **state) {
    const struct header headers[] = {
        H("label", "\033[2J"), {BYTES("null"), {0}},
        H("empty", ""),        H("label", "again"),
        H("ce_label", "x"),    REFUSAL("bad-label", "x", "preprocess", "2026-11-23T10:00:00.000Z"),
        H("dlq.replays", "41")};
    const size_t n = sizeof headers / sizeof *headers;
    struct letter l = letter_of(headers, n, 17);
    struct arena a = {0};
    struct err e = {0};
    struct record out;
    assert_int_equal(letter_replay(&l, (struct bytes){0}, &a, &out, &e), ERR_NONE);
    assert_string_equal(out.topic, "darkroom.images");
    assert_true(bytes_equal(out.key, l.record.key) && bytes_equal(out.value, l.record.value));
    assert_true(out.time_ms < 0);
    assert_int_equal(out.header_count, n + 3);
    for (size_t i = 0; i < n; i++) {
        assert_true(bytes_equal(out.headers[i].name, headers[i].name) &&
                    bytes_equal(out.headers[i].value, headers[i].value));
        assert_int_equal(!out.headers[i].value.data, !headers[i].value.data);
    }
    assert_true(bytes_is(out.headers[n].name, "dlq.replays") &&
                bytes_is(out.headers[n].value, "42"));
    assert_true(bytes_is(out.headers[n + 1].value, "images.dlq/0/17"));

    assert_int_equal(letter_replay(&l, BYTES("7"), &a, &out, &e), ERR_NONE);
    assert_int_equal(out.header_count, n + 4);
    assert_true(bytes_is(record_header(&out, "ce_label"), "7"));
    assert_null(record_header(&out, "label").data);
    assert_true(bytes_is(record_header(&out, "dlq.was.label"), "\033[2J"));
    assert_true(bytes_is(record_header(&out, "dlq.was.ce_label"), "x"));

    /* A null value and a null key stay what they are; a letter whose record was left out has nothing to send. */
    l.record.key = l.record.value = (struct bytes){0};
    assert_int_equal(letter_replay(&l, (struct bytes){0}, &a, &out, &e), ERR_NONE);
    assert_null(out.key.data);
    assert_null(out.value.data);
    const struct header left[] = {
        REFUSAL("too-long", "x", "preprocess", "2026-11-23T10:00:00.000Z"),
        H("dlq.left-out", "all")};
    struct record bare = {.headers = left, .header_count = 12};
    letter_read(&bare, IMAGES_DLQ, &l);
    assert_int_equal(letter_replay(&l, (struct bytes){0}, &a, &out, &e), ERR_BAD);
    arena_free(&a);
}

static void every_topic_gets_its_own_back(void **state) {
    struct arena a = {0};
    struct err e = {0};
    struct letter l;
    struct record out;
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++) {
        if (topic_dead_letters(t) == TOPIC_NONE) continue;
        const struct header lies[] = {H("dlq.topic", "darkroom.models.deployed")};
        letter_read(&(struct record){.headers = lies, .header_count = 1}, topic_dead_letters(t),
                    &l);
        assert_int_equal(letter_replay(&l, (struct bytes){0}, &a, &out, &e), ERR_NONE);
        assert_string_equal(out.topic, topic_name(t));
        /* A letter fits, whatever its record was, with what many refusals add. */
        assert_true(topic_info(topic_dead_letters(t))->max_bytes - topic_info(t)->max_bytes >=
                    1 << 20);
    }
    arena_free(&a);
}

static void nothing_printed_moves_the_cursor(void **state) {
    const struct header headers[] = {
        {BYTES("\033]0;x\a"), BYTES("\xff\xfe\n")},
        {BYTES("n"), {0}},
        REFUSAL("\033[31m", "line\nline\r\x9b", "a\tb", "2026-11-23T10:00:00.000Z")};
    struct letter l = LETTER(headers);
    struct buf b = {0};
    l.record.key = BYTES("\x1b[2J\xe2\x82");
    letter_show(&l, &b);
    for (size_t i = 0; i < b.len; i++)
        assert_true(b.data[i] == '\n' || (unsigned char)b.data[i] >= 0x20);
    assert_non_null(strstr(b.data, "images.dlq/0/17"));
    assert_non_null(strstr(b.data, "\\x89PNG\\x0d\\x0a"));
    buf_clear(&b);

    struct table t = table_make(dlq_heads, DLQ_COLUMNS);
    letter_row(&l, &t);
    table_write(&t, &b);
    size_t lines = 0;
    for (size_t i = 0; i < b.len; i++) {
        lines += b.data[i] == '\n';
        assert_true(b.data[i] == '\n' || (unsigned char)b.data[i] >= 0x20);
    }
    assert_int_equal(lines, 2);
    free(t.cells);
    arena_free(&t.texts);
    buf_clear(&b);

    struct err e = {0};
    struct bytes key;
    int64_t partition;
    letter_json(&l, &b);
    assert_int_equal(strcspn(b.data, "\n"), b.len - 1);
    struct json *root = json_parse(buf_bytes(&b), &e);
    assert_non_null(root);
    assert_int_equal(json_get_text(root, "key", true, &key, &e), ERR_NONE);
    assert_int_equal(json_get_int(root, "partition", true, &partition, &e), ERR_NONE);
    assert_int_equal(partition, 3);
    json_free(root);
    buf_free(&b);
}

static bool picked(const struct dlq_filter *f, const char *word, const struct letter *l) {
    struct dlq_pick p;
    struct err e = {0};
    char *words[] = {(char *)word};
    assert_int_equal(dlq_pick_read(&p, f, words, word ? 1 : 0, &e), ERR_NONE);
    bool yes = dlq_picks(&p, l);
    dlq_pick_free(&p);
    return yes;
}

static void filters_pick(void **state) {
    const struct header headers[] = {
        REFUSAL("bad-label", "x", "preprocess", "2026-11-23T10:00:00.000Z")};
    const struct letter l = LETTER(headers);
    const struct {
        struct dlq_filter f;
        const char *word;
        bool yes;
    } cases[] = {{{0}, NULL, true},
                 {{.reason = "bad-label"}, NULL, true},
                 {{.reason = "empty,bad-label"}, NULL, true},
                 {{.reason = "empty"}, NULL, false},
                 {{.stage = "preprocess"}, NULL, true},
                 {{.stage = "store"}, NULL, false},
                 {{.since = "2026-11-23T10:00:00Z"}, NULL, true},
                 {{.since = "2026-11-23T10:00:01Z"}, NULL, false},
                 {{.until = "2026-11-23T10:00:00Z"}, NULL, false},
                 {{.until = "2026-11-24"}, NULL, true},
                 {{.since = "2026-11-24"}, NULL, false},
                 {{.since = "2026-11-23",
                   .until = "2026-11-24",
                   .reason = "bad-label",
                   .stage = "preprocess"},
                  "images",
                  true},
                 {{0}, "images.dlq", true},
                 {{0}, "darkroom.images.dlq", true},
                 {{0}, "darkroom.images", true},
                 {{0}, "images.prepared", false},
                 {{0}, "images.dlq/0/17", true},
                 {{0}, "images/0/17", true},
                 {{0}, "images.dlq/0/18", false},
                 {{0}, "images.dlq/1/17", false},
                 {{0}, "images.stored.dlq/0/17", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (picked(&cases[i].f, cases[i].word, &l) != cases[i].yes) fail_msg("case %zu", i);

    clock_simulate(l.time_ms + 7200000);
    assert_true(picked(&(struct dlq_filter){.since = "2h"}, NULL, &l));
    assert_false(picked(&(struct dlq_filter){.since = "119m"}, NULL, &l));
    assert_true(picked(&(struct dlq_filter){.until = "119m"}, NULL, &l));
    clock_simulate(-1);
}

static void wrong_words_are_named(void **state) {
    const struct {
        struct dlq_filter f;
        const char *word, *says;
    } cases[] = {{{.reason = "bad-lable"}, NULL, "bad-lable"},
                 {{.reason = "bad-label,"}, NULL, "--reason"},
                 {{.reason = "none"}, NULL, "none"},
                 {{.since = "yesterday"}, NULL, "--since"},
                 {{.until = "2026-13-01"}, NULL, "--until"},
                 {{.since = "-2h"}, NULL, "--since"},
                 {{.since = ""}, NULL, "--since"},
                 {{0}, "models.deployed", "models.deployed"},
                 {{0}, "predictions.requests", "no dead letters"},
                 {{0}, "", "no dead letters"},
                 {{0}, "images.dlq/", "no letter"},
                 {{0}, "images.dlq/17", "no letter"},
                 {{0}, "images.dlq/0/1e3", "no letter"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dlq_pick p;
        struct err e = {0};
        char *words[] = {(char *)cases[i].word};
        if (!dlq_pick_read(&p, &cases[i].f, words, words[0] ? 1 : 0, &e) ||
            !strstr(e.text, cases[i].says))
            fail_msg("case %zu: %s", i, e.text);
        dlq_pick_free(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stage_has_the_last_word),
        cmocka_unit_test(anything_is_a_letter),
        cmocka_unit_test(a_mark_is_read_as_it_was_written),
        cmocka_unit_test(a_sender_cannot_make_a_mark),
        cmocka_unit_test(a_replay_is_the_record_and_its_trail),
        cmocka_unit_test(every_topic_gets_its_own_back),
        cmocka_unit_test(nothing_printed_moves_the_cursor),
        cmocka_unit_test(filters_pick),
        cmocka_unit_test(wrong_words_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
