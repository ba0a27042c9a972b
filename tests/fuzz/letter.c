/*
 * A dead letter, whose headers were written by whoever sent the record: what is shown of it is clean text,
 * a mark for it is its mark, and what is replayed is the record with its trail.
 */
#include "lib/base/json.h"
#include "lib/client/dlq.h"
#include "proto/topics.h"

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/record.h"

/* Clean but for line ends. */
static void holds_of_text(const struct buf *b) {
    for (const char *p = b->data, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        HOLDS(end);
        HOLDS(bytes_is_clean_text((struct bytes){p, (size_t)(end - p)}));
    }
}

static void is_shown(const struct letter *l) {
    struct buf text = {0}, json = {0}, rows = {0};
    struct err e = {0};
    struct table t = table_make(dlq_heads, DLQ_COLUMNS);
    letter_show(l, &text);
    holds_of_text(&text);
    letter_json(l, &json);
    holds_of_text(&json);
    struct json *v = json_parse(buf_bytes(&json), &e);
    HOLDS(v);
    json_free(v);
    letter_row(l, &t);
    table_write(&t, &rows);
    holds_of_text(&rows);
    free(t.cells);
    arena_free(&t.texts);
    buf_free(&text);
    buf_free(&json);
    buf_free(&rows);
}

static void is_replayed(const struct letter *l, struct arena *a) {
    struct record back;
    struct err e = {0};
    const struct record *r = &l->record;
    enum err_kind kind =
        letter_replay(l, r->time_ms & 1 ? BYTES("new") : (struct bytes){0}, a, &back, &e);
    HOLDS(kind == (l->bare ? ERR_BAD : ERR_NONE));
    if (kind) return;
    HOLDS(bytes_equal(back.key, r->key) && bytes_equal(back.value, r->value));
    HOLDS(back.header_count >= r->header_count + 3);
    for (size_t i = 0; i < r->header_count; i++)
        HOLDS(bytes_equal(back.headers[i].value, r->headers[i].value));
}

/* The record's texts as what a user types. */
static void is_picked(const struct letter *l, struct arena *a) {
    const struct record *r = &l->record;
    char *operands[4];
    int n = 0;
    for (; n < 4 && (size_t)n < r->header_count; n++)
        operands[n] = arena_text(a, r->headers[n].name);
    struct dlq_filter f = {.reason = r->key.data ? arena_text(a, r->key) : NULL,
                           .since = r->value.data ? arena_text(a, r->value) : NULL};
    if (n > 0 && r->headers[0].value.data) f.until = arena_text(a, r->headers[0].value);
    if (n > 1 && r->headers[1].value.data) f.stage = arena_text(a, r->headers[1].value);
    struct dlq_pick p;
    struct err e = {0};
    enum err_kind kind = dlq_pick_read(&p, &f, operands, n, &e);
    HOLDS(kind == e.kind && (kind == ERR_NONE || (kind == ERR_FATAL && e.text[0])));
    if (!kind && dlq_picks(&p, l)) HOLDS(dlq_pick_next(&p, l->topic - 1) == l->topic);
    dlq_pick_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct arena a;
    struct record r = record_of_bytes(data, size, &a), mark;
    struct letter l;
    struct letter_place at;
    enum letter_state state;
    r.partition = size % 7;
    r.offset = (int64_t)size << 32;
    if (mark_read(&r, &at, &state)) {
        HOLDS(at.partition >= 0 && at.offset >= 0 && state != LETTER_OPEN);
        HOLDS(!r.key.data && !r.value.data);
    }
    letter_read(&r, IMAGES_DLQ, &l);
    HOLDS(l.replays >= 0 && l.state == LETTER_OPEN);
    is_shown(&l);
    mark_write(&l, LETTER_REPLAYED, &a, &mark);
    HOLDS(mark_read(&mark, &at, &state) && state == LETTER_REPLAYED);
    HOLDS(at.partition == r.partition && at.offset == r.offset);
    is_replayed(&l, &a);
    is_picked(&l, &a);
    arena_reset(&a);
    return 0;
}
