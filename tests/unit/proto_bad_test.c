/*
 * proto: bad records and bad messages, class by class, each with its answer.
 *
 *     headers, keys, values   absent, empty, null, huge, repeated, no UTF-8
 *     labels                  empty, too long, with control characters
 *     ids                     hostile to keys of Redis, CSV, JSON, logs and terminals: taken as they are, or refused
 *     messages                too deep, too large, wrong types, names twice, no numbers, no text
 */
#include "proto/event.h"
#include "proto/messages.h"

#include "lib/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;
static struct err err;

static int clear(void **state) {
    err_clear(&err);
    arena_reset(&arena);
    return 0;
}

static struct event read_event(const struct record *r, enum reason expect) {
    struct event ev;
    err_clear(&err);
    (void)!event_read(r, &arena, &ev, &err);
    if (err.reason != expect)
        fail_msg("%s instead of %s: %s", reason_code(err.reason), reason_code(expect), err.text);
    assert_int_equal(err.kind, expect ? ERR_BAD : ERR_NONE);
    assert_true(bytes_is_clean_text(bytes_of(err.text)));
    return ev;
}

static struct event with_header(struct bytes name, struct bytes value, enum reason expect) {
    struct header h = {name, value};
    return read_event(&(struct record){.topic = "darkroom.images",
                                       .key = BYTES("k"),
                                       .value = BYTES("v"),
                                       .headers = &h,
                                       .header_count = 1},
                      expect);
}

/* ---- records ---- */

static char *repeated(char c, size_t n) {
    char *text = arena_alloc(&arena, n + 1);
    memset(text, c, n);
    text[n] = 0;
    return text;
}

static void keys(void **state) {
    const struct {
        struct bytes key;
        enum reason reason;
        const char *id; /* NULL: the hash of the value */
    } table[] = {
        {{NULL, 0}, REASON_NONE, NULL},
        {{"", 0}, REASON_NONE, NULL},
        {{"k", 1}, REASON_NONE, "k"},
        {{"\0", 1}, REASON_NONE, "0x00"},
        {{"\xff\xfe", 2}, REASON_NONE, "0xfffe"},
        {{"a\nb", 3}, REASON_NONE, "0x610a62"},
        {{repeated('k', EVENT_ID_MAX), EVENT_ID_MAX}, REASON_NONE, repeated('k', EVENT_ID_MAX)},
        {{repeated('k', EVENT_ID_MAX + 1), EVENT_ID_MAX + 1}, REASON_BAD_ID, NULL},
        {{repeated('\x80', 127), 127}, REASON_NONE, ""},
        {{repeated('\x80', 128), 128}, REASON_BAD_ID, NULL}, /* twice as long in hex, and "0x" */
        {{repeated('\x80', 129), 129}, REASON_BAD_ID, NULL},
        {{repeated('k', 1 << 20), 1 << 20}, REASON_BAD_ID, NULL},
        {{repeated('\0', 1 << 20), 1 << 20}, REASON_BAD_ID, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct record r = {.topic = "darkroom.images", .key = table[i].key, .value = BYTES("v")};
        struct event ev = read_event(&r, table[i].reason);
        assert_true(ev.id.len <=
                    EVENT_ID_MAX); /* also of one that is refused: it goes into the answer */
        if (table[i].reason) continue;
        if (!table[i].id)
            assert_true(bytes_is(
                ev.id, "4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080"));
        else if (table[i].id[0])
            assert_true(bytes_is(ev.id, table[i].id));
    }
}

static void values(void **state) {
    const struct bytes list[] = {{NULL, 0}, {"", 0}, {"\0", 1}, {repeated('v', 1 << 20), 1 << 20}};
    struct bytes ids[4];
    for (size_t i = 0; i < 4; i++) { /* the image's own bytes are not the event's concern */
        struct record r = {.topic = "darkroom.images", .value = list[i]};
        ids[i] = read_event(&r, REASON_NONE).id;
        assert_int_equal(ids[i].len, 64);
    }
    assert_true(bytes_equal(ids[0], ids[1]) && !bytes_equal(ids[1], ids[2]));
}

static void headers(void **state) {
    static const char *const known[] = {
        "ce_specversion", "ce_id",    "ce_source", "ce_subject",    "ce_model", "ce_label",
        "label",          "filename", "ce_time",   "ce_expirytime", "ce_shape"};
    const struct bytes values[] = {{NULL, 0},
                                   {"", 0},
                                   {"\xff", 1},
                                   {"\0", 1},
                                   {"a\x7f", 2},
                                   {"\xc2\x85", 2},
                                   {repeated('h', 1 << 20), 1 << 20}};
    const enum reason N = REASON_NONE, E = REASON_BAD_EVENT, I = REASON_BAD_ID;
    const enum reason M = REASON_BAD_MODEL, L = REASON_BAD_LABEL;
    /* Null is absent. A file's name that is no text is forgotten, and a shape is judged by who needs it. */
    const enum reason table[][7] = {
        {N, E, E, E, E, E, E}, {N, I, I, I, I, I, I}, {N, E, E, E, E, E, E}, {N, N, N, N, N, N, N},
        {N, M, M, M, M, M, M}, {N, L, L, L, L, L, L}, {N, L, L, L, L, L, L}, {N, N, N, N, N, N, N},
        {N, E, E, E, E, E, E}, {N, E, E, E, E, E, E}, {N, N, N, N, N, N, N}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        for (size_t k = 0; k < sizeof values / sizeof *values; k++)
            with_header(bytes_of(known[i]), values[k], table[i][k]);
    /* Names that nobody knows, whatever they are. */
    const struct bytes names[] = {{NULL, 0},    {"", 0},        {"\xff\0\n", 3},
                                  {"CE_ID", 5}, {"ce_id\0", 6}, {repeated('n', 1 << 20), 1 << 20}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_true(bytes_is(with_header(names[i], BYTES("\xff\0"), REASON_NONE).id, "k"));
}

static void repeated_headers(void **state) {
    enum { MANY = 20000 };
    struct header *h = arena_alloc(&arena, MANY * sizeof *h);
    struct record r = {
        .topic = "darkroom.images", .key = BYTES("k"), .headers = h, .header_count = MANY};
    /* The first of a name counts, also when it is the bad one. */
    for (size_t i = 0; i < MANY; i++) h[i] = (struct header){BYTES("label"), BYTES("later")};
    h[0].value = BYTES("first");
    assert_true(bytes_is(read_event(&r, REASON_NONE).label, "first"));
    h[0].value = BYTES("");
    read_event(&r, REASON_BAD_LABEL);
    h[0].value = (struct bytes){0};
    assert_null(read_event(&r, REASON_NONE).label.data);
    /* What is carried on is bounded in number. */
    for (size_t i = 0; i < MANY; i++) h[i] = (struct header){BYTES("traceparent"), BYTES("t")};
    struct event ev = read_event(&r, REASON_NONE);
    struct record out = {0};
    event_write(&ev, &r, &arena, &out);
    assert_true(out.header_count < 32);
    h[0].value = bytes_of(repeated('t', 1 << 20));
    r.header_count = 2;
    event_write(&ev, &r, &arena, &out);
    assert_true(bytes_is(out.headers[out.header_count - 1].value, "t")); /* the one that is small */
    assert_true(!bytes_is(out.headers[out.header_count - 2].name, "traceparent"));
}

static void labels(void **state) {
    char one[3] = "a";
    for (int c = 0; c < 0x20; c++) {
        one[1] = (char)c;
        with_header(BYTES("label"), (struct bytes){one, 2}, REASON_BAD_LABEL);
    }
    for (int c = 0x80; c < 0xa0; c++) { /* C1, as UTF-8 */
        const char c1[] = {(char)0xc2, (char)c};
        with_header(BYTES("label"), (struct bytes){c1, 2}, REASON_BAD_LABEL);
    }
    static const char *const broken[] = {"\x7f",
                                         "\x80",
                                         "\xc0\x80",
                                         "\xe0\x80\x80",
                                         "\xed\xa0\x80",
                                         "\xf5\x80\x80\x80",
                                         "\xf4\x90\x80\x80",
                                         "\xe2\x82",
                                         "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        with_header(BYTES("label"), bytes_of(broken[i]), REASON_BAD_LABEL);
    /* 128 bytes are 64 characters of two. */
    struct buf b = {0};
    for (int i = 0; i < EVENT_LABEL_MAX / 2; i++) buf_add_text(&b, "\xc3\xa9");
    with_header(BYTES("label"), buf_bytes(&b), REASON_NONE);
    buf_add_text(&b, "x");
    with_header(BYTES("label"), buf_bytes(&b), REASON_BAD_LABEL);
    buf_free(&b);
}

/* Clean text is taken whatever it looks like, and comes out of every message as it went in. */
static void hostile_ids(void **state) {
    static const char *const ids[] = {"a b",
                                      "*",
                                      "?[a-z]",
                                      "{default}:x",
                                      "darkroom.image:{default}:0",
                                      "\\",
                                      "\"",
                                      "\",\"row\":\"",
                                      "'",
                                      "`id`",
                                      "$(id)",
                                      "%s%n%p",
                                      "../../etc/passwd",
                                      "=1+1",
                                      "@SUM(A1)",
                                      "+1",
                                      "-1",
                                      "a,b;c",
                                      "</script>",
                                      "\xe2\x80\xae"
                                      "gnp",
                                      "\xef\xbb\xbf"
                                      "bom",
                                      "\xf0\x9f\x93\xb7",
                                      "\xc3\xa9",
                                      "null",
                                      "NaN",
                                      "0",
                                      " ",
                                      "\\u0000",
                                      "\\x00",
                                      "FLUSHALL",
                                      "$5",
                                      "*1"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct event ev = with_header(BYTES("ce_id"), bytes_of(ids[i]), REASON_NONE);
        assert_true(bytes_is(ev.id, ids[i]));
        struct stored m = {.id = ev.id,
                           .source = ev.id,
                           .row = BYTES("00112233445566778899aabbccddeeff"),
                           .revision = 1,
                           .model = BYTES("m"),
                           .label = ev.id,
                           .pixels = BYTES(
                               "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")},
                      back;
        struct buf json = {0};
        stored_encode(&m, &json);
        assert_true(bytes_is_clean_text(buf_bytes(&json)));
        assert_int_equal(stored_decode(buf_bytes(&json), &arena, &back, &err), ERR_NONE);
        assert_true(bytes_equal(back.id, m.id) && bytes_equal(back.source, m.source) &&
                    bytes_equal(back.label, m.label));
        buf_free(&json);
    }
    static const char *const not_clean[] = {"\x1b[2J",
                                            "\x1b]0;title\x07",
                                            "\x9b"
                                            "2J",
                                            "\xc2\x9b"
                                            "2J",
                                            "\x08",
                                            "a\r\nb",
                                            "\xff",
                                            "\x00"};
    for (size_t i = 0; i < sizeof not_clean / sizeof *not_clean; i++) {
        struct bytes id = bytes_of(not_clean[i]);
        if (!id.len) id.len = 1;
        struct event ev = with_header(BYTES("ce_id"), id, REASON_BAD_ID);
        /* An error result says whose it is, in text that we read ourselves. */
        struct result m = {.id = ev.id,
                           .model = ev.model,
                           .reason = BYTES("bad-id"),
                           .text = bytes_of(err.text)},
                      back;
        struct buf json = {0};
        result_encode(&m, &json);
        assert_true(bytes_is_clean_text(buf_bytes(&json)));
        err_clear(&err);
        assert_int_equal(result_decode(buf_bytes(&json), &arena, &back, &err), ERR_NONE);
        assert_true(bytes_is(back.reason, "bad-id"));
        buf_free(&json);
    }
}

static void models(void **state) {
    static const char *const bad[] = {"",    "A",    "-a",  ".a", "_a",       "a b",
                                      "a/b", "a{b}", "a:b", "a*", "\xc3\xa9", "a\nb"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        with_header(BYTES("ce_model"), bytes_of(bad[i]), REASON_BAD_MODEL);
    with_header(BYTES("ce_model"), (struct bytes){"a\0b", 3}, REASON_BAD_MODEL);
    with_header(BYTES("ce_model"), bytes_of(repeated('a', EVENT_MODEL_MAX)), REASON_NONE);
    with_header(BYTES("ce_model"), bytes_of(repeated('a', EVENT_MODEL_MAX + 1)), REASON_BAD_MODEL);
}

static void shapes_with_something_behind(void **state) {
    int h, w, c;
    const struct bytes bad[] = {BYTES("28,28,1\0"),
                                BYTES("28,28,1 "),
                                BYTES("28,28,1,"),
                                BYTES("1e3,1,1"),
                                BYTES("99999999999999999999,1,1"),
                                BYTES("0x10,1,1"),
                                BYTES("\0"),
                                BYTES(",,")};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err_clear(&err);
        assert_int_equal(event_shape(bad[i], &h, &w, &c, &err), ERR_BAD);
        assert_int_equal(err.reason, REASON_BAD_SHAPE);
    }
}

/* ---- messages ---- */

#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEX32 "00112233445566778899aabbccddeeff"
#define METRICS "{\"images\":1,\"accuracy\":1,\"auc\":null,\"loss\":0,\"precision\":1,\"recall\":1}"

static const struct kind {
    const char *name;
    const char *members[20]; /* name, value, …: each a good one */
} kinds[] = {
    {"stored",
     {"schema", "1", "id", "\"i\"", "source", "\"s\"", "row", "\"" HEX32 "\"", "revision", "1",
      "model", "\"m\"", "label", "\"l\"", "split", "\"train\"", "pixels", "\"" HEX64 "\""}},
    {"manifest",
     {"schema", "1", "batch", "\"" HEX64 "\"", "model", "\"m\"", "images",
      "[{\"row\":\"" HEX32 "\",\"revision\":1,\"label\":\"l\",\"split\":\"eval\"}]"}},
    {"trained",
     {"schema", "1", "model", "\"m\"", "version", "2", "artifact", "\"" HEX64 "\"", "lineage",
      "\"" HEX64 "\"", "batches", "[\"" HEX64 "\"]", "training", METRICS, "time",
      "\"2026-01-01T00:00:00Z\"", "parent",
      "1,\"images\":1,\"presentations\":1,\"labels\":1,\"evaluation\":" METRICS}},
    {"deployed", {"schema",   "1",          "model",         "\"m\"",  "version",
                  "2",        "artifact",   "\"" HEX64 "\"", "judged", "2",
                  "promoted", "true",       "why",           "\"w\"",  "evaluation",
                  METRICS,    "challenger", METRICS,         "time",   "\"2026-01-01T00:00:00Z\""}},
    {"result",
     {"schema", "1", "id", "\"i\"", "version", "2", "artifact", "\"" HEX64 "\"", "label", "\"l\"",
      "probability", "0.5", "probabilities", "{\"l\":0.5,\"k\":0.5}"}},
    {"order",
     {"schema", "1", "order", "\"o\"", "model", "\"m\"", "action", "\"promote\"", "version", "2"}},
};
enum { KINDS = sizeof kinds / sizeof *kinds, MEMBERS = 10 };

static enum err_kind decode(size_t kind, struct bytes json) {
    struct stored stored;
    struct manifest manifest;
    struct trained trained;
    struct deployed deployed;
    struct order order;
    struct result result;
    err_clear(&err);
    switch (kind) {
    case 0: return stored_decode(json, &arena, &stored, &err);
    case 1: return manifest_decode(json, &arena, &manifest, &err);
    case 2: return trained_decode(json, &arena, &trained, &err);
    case 3: return deployed_decode(json, &arena, &deployed, &err);
    case 5: return order_decode(json, &arena, &order, &err);
    default: return result_decode(json, &arena, &result, &err);
    }
}

static void expect(size_t kind, const struct buf *json, enum reason least, enum reason most,
                   const char *what) {
    decode(kind, buf_bytes(json));
    if (err.reason < least || err.reason > most)
        fail_msg("%s with %s: %s: %.200s", kinds[kind].name, what, reason_code(err.reason),
                 json->data);
    if (least) assert_true(err.kind == ERR_BAD && bytes_is_clean_text(bytes_of(err.text)));
}

/* The message, with `value` for the member of number `at`, and `more` at its end. */
static void compose(size_t kind, size_t at, const char *value, const char *more, struct buf *out) {
    const struct kind *k = &kinds[kind];
    buf_clear(out);
    for (size_t i = 0; i < MEMBERS && k->members[2 * i]; i++)
        buf_printf(out, "%s\"%s\":%s", i ? "," : "{", k->members[2 * i],
                   i == at ? value : k->members[2 * i + 1]);
    buf_printf(out, "%s}", more);
}

static bool is_text(const char *member) {
    static const char *const texts[] = {"id",    "source", "row",    "model",    "label",
                                        "split", "batch",  "pixels", "artifact", "lineage",
                                        "why",   "time",   "order",  "action"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(member, texts[i]) == 0) return true;
    return false;
}

static void wrong_types_and_no_numbers(void **state) {
    static const struct {
        const char *value, *taken_by; /* the one member that takes it */
    } table[] = {{"[]", ""},
                 {"[[]]", ""},
                 {"[1]", ""},
                 {"{}", "probabilities"},
                 {"true", "promoted"},
                 {"-1", ""},
                 {"1.5", ""},
                 {"1e999", ""},
                 {"-1e999", ""},
                 {"1e400", ""},
                 {"NaN", ""},
                 {"nan", ""},
                 {"Infinity", ""},
                 {"-Infinity", ""},
                 {"0x10", ""},
                 {"+1", ""},
                 {"1 1", ""},
                 {"", ""},
                 {"9007199254740994", ""},
                 {"99999999999999999999999999", ""},
                 {"\"\\u0000\"", ""},
                 {"\"\xff\"", ""},
                 {"\"a\nb\"", ""},
                 {"\"\\ud800\"", ""},
                 {"\"", ""},
                 {"'x'", ""}};
    static const char *const texts[] = {"\"\"",     "\"x\"",         "\"NaN\"",
                                        "\"1.5\"",  "\" 1\"",        "\"9223372036854775808\"",
                                        "\"true\"", "\"\\u001b[2J\""};
    enum { TABLE = sizeof table / sizeof *table, TEXTS = sizeof texts / sizeof *texts };
    struct buf b = {0};
    int tried = 0;
    for (size_t kind = 0; kind < KINDS; kind++) {
        compose(kind, MEMBERS, "", "", &b);
        expect(kind, &b, REASON_NONE, REASON_NONE, "nothing wrong");
        for (size_t at = 0; at < MEMBERS && kinds[kind].members[2 * at]; at++) {
            const char *name = kinds[kind].members[2 * at];
            for (size_t v = 0; v < TABLE + (is_text(name) ? 0 : TEXTS); v++, tried++) {
                compose(kind, at, v < TABLE ? table[v].value : texts[v - TABLE], "", &b);
                bool good = v < TABLE && strcmp(name, table[v].taken_by) == 0;
                expect(kind, &b, good ? REASON_NONE : REASON_NONE + 1,
                       good ? REASON_NONE : REASON_COUNT - 1,
                       v < TABLE ? table[v].value : texts[v - TABLE]);
            }
        }
    }
    print_message("%d messages\n", tried);
    buf_free(&b);
}

static void names_that_come_twice(void **state) {
    struct buf b = {0}, more = {0};
    for (size_t kind = 0; kind < KINDS; kind++) {
        for (size_t at = 0; at < MEMBERS && kinds[kind].members[2 * at]; at++) {
            buf_clear(&more); /* the same value once more, and as an escape */
            buf_printf(&more, ",\"%s\":%s", kinds[kind].members[2 * at],
                       kinds[kind].members[2 * at + 1]);
            compose(kind, MEMBERS, "", more.data, &b);
            expect(kind, &b, REASON_BAD_MESSAGE, REASON_BAD_MESSAGE, "a name twice");
        }
        compose(kind, MEMBERS, "", ",\"sch\\u0065ma\":1", &b);
        expect(kind, &b, REASON_BAD_MESSAGE, REASON_BAD_MESSAGE, "a name twice, once escaped");
        compose(kind, MEMBERS, "", ",\"later\":{\"a\":1,\"b\":2,\"a\":3}", &b);
        expect(kind, &b, REASON_BAD_MESSAGE, REASON_BAD_MESSAGE, "a name twice where nobody looks");
        compose(kind, MEMBERS, "", ",\"Schema\":2,\"SCHEMA\":3", &b);
        expect(kind, &b, REASON_NONE, REASON_NONE, "the same in another case");
    }
    buf_free(&b);
    buf_free(&more);
}

static void too_deep_and_too_large(void **state) {
    struct buf b = {0}, more = {0};
    for (size_t kind = 0; kind < KINDS; kind++) {
        for (int depth = JSON_DEPTH - 1; depth <= 1000000;
             depth = depth < JSON_DEPTH ? JSON_DEPTH : depth * 100) {
            buf_clear(&more);
            buf_add_text(&more, ",\"later\":");
            for (int i = 0; i < depth; i++) buf_add(&more, "[", 1);
            for (int i = 0; i < depth; i++) buf_add(&more, "]", 1);
            compose(kind, MEMBERS, "", more.data, &b);
            enum reason want = depth < JSON_DEPTH ? REASON_NONE : REASON_BAD_MESSAGE;
            expect(kind, &b, want, want, "levels");
        }
        buf_clear(
            &more); /* a million names nobody knows, each once; then a text of many megabytes */
        for (int i = 0; i < 100000; i++) buf_printf(&more, ",\"n%d\":%d", i, i);
        compose(kind, MEMBERS, "", more.data, &b);
        expect(kind, &b, REASON_NONE, REASON_NONE, "many names");
        buf_clear(&more);
        buf_add_text(&more, ",\"later\":\"");
        size_t from = more.len;
        buf_reserve(&more, 16 << 20);
        memset(more.data + from, 'x', 16 << 20);
        more.len += 16 << 20;
        buf_add_text(&more, "\"");
        compose(kind, MEMBERS, "", more.data, &b);
        expect(kind, &b, REASON_NONE, REASON_NONE, "a large text");
    }
    buf_free(&b);
    buf_free(&more);
    arena_reset(&arena);
}

static void bytes_that_are_no_text(void **state) {
    struct buf b = {0};
    for (size_t kind = 0; kind < KINDS; kind++) {
        compose(kind, MEMBERS, "", "", &b);
        size_t len = b.len;
        for (size_t at = 0; at < len;
             at++) { /* a NUL, a control character, half a character: anywhere */
            static const char with[] = {0, 1, 0x1f, (char)0x80, (char)0xc3, (char)0xff};
            for (size_t k = 0; k < sizeof with; k++) {
                char was = b.data[at];
                b.data[at] = with[k];
                if (!decode(kind, buf_bytes(&b)))
                    fail_msg("%s with byte %02x at %zu", kinds[kind].name, with[k] & 0xff, at);
                b.data[at] = was;
            }
        }
        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(decode(kind, (struct bytes){b.data, cut}), ERR_BAD);
        assert_int_equal(decode(kind, (struct bytes){0}), ERR_BAD);
        assert_int_equal(err.reason, REASON_EMPTY);
    }
    buf_free(&b);
}

/* What a message names ends in Redis keys and models: it must be as an event could have said it. */
static void names_unfit_for_use(void **state) {
    static const struct {
        size_t kind;
        const char *member, *value;
        enum reason reason;
    } table[] = {
        {0, "model", "\"../x\"", REASON_BAD_MODEL},
        {0, "model", "\"a}:{b\"", REASON_BAD_MODEL},
        {0, "label", "\"\"", REASON_BAD_LABEL},
        {0, "label", "\"\\u001b[2J\"", REASON_BAD_LABEL},
        {0, "id", "\"\"", REASON_BAD_ID},
        {0, "id", "\"a\\nb\"", REASON_BAD_ID},
        {0, "source", "\"\\u009b\"", REASON_BAD_EVENT},
        {0, "row", "\"00112233445566778899aabbccddee\\u0066f\"", REASON_NONE},
        {0, "row", "\"00112233445566778899AABBCCDDEEFF\"", REASON_BAD_MESSAGE},
        {0, "revision", "-1", REASON_BAD_MESSAGE},
        {1, "model", "\"\"", REASON_BAD_MODEL},
        {1, "images", "[]", REASON_BAD_MESSAGE},
        {1, "images",
         "[{\"row\":\"" HEX32 "\",\"revision\":1,\"label\":\"\\n\",\"split\":\"eval\"}]",
         REASON_BAD_LABEL},
        {1, "images", "[{\"row\":\"*\",\"revision\":1,\"label\":\"l\",\"split\":\"eval\"}]",
         REASON_BAD_MESSAGE},
        {2, "batches", "[]", REASON_BAD_MESSAGE},
        {2, "batches", "[\"x\"]", REASON_BAD_MESSAGE},
        {2, "version", "0", REASON_BAD_MESSAGE},
        {3, "model", "\"A\"", REASON_BAD_MODEL},
        {3, "artifact", "\"x\"", REASON_BAD_MESSAGE},
        {4, "probability", "1.5", REASON_BAD_MESSAGE},
        {4, "probabilities", "{\"l\":-0.5}", REASON_BAD_MESSAGE},
        {4, "probabilities", "{\"l\":1e999}", REASON_BAD_MESSAGE},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        size_t at = 0;
        while (strcmp(kinds[table[i].kind].members[2 * at], table[i].member) != 0) at++;
        compose(table[i].kind, at, table[i].value, "", &b);
        expect(table[i].kind, &b, table[i].reason, table[i].reason, table[i].value);
    }
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(keys, clear),
        cmocka_unit_test_setup(values, clear),
        cmocka_unit_test_setup(headers, clear),
        cmocka_unit_test_setup(repeated_headers, clear),
        cmocka_unit_test_setup(labels, clear),
        cmocka_unit_test_setup(hostile_ids, clear),
        cmocka_unit_test_setup(models, clear),
        cmocka_unit_test_setup(shapes_with_something_behind, clear),
        cmocka_unit_test_setup(wrong_types_and_no_numbers, clear),
        cmocka_unit_test_setup(names_that_come_twice, clear),
        cmocka_unit_test_setup(too_deep_and_too_large, clear),
        cmocka_unit_test_setup(bytes_that_are_no_text, clear),
        cmocka_unit_test_setup(names_unfit_for_use, clear),
    };
    int failed = cmocka_run_group_tests_name("proto_bad", tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
