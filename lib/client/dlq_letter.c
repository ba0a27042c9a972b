/*
 * dlq_letter: what a dead letter says, what marks one as done, and which ones a user means. No I/O.
 *
 * Nothing in a letter is trusted: its headers were, for the most part, written by whoever sent the record.
 * A stage appends its own, so of a repeated name the last one counts here; the first ones keep the
 * coordinates of origin, which store honours when the record comes back.
 */
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/client/dlq.h"
#include "proto/event.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MARK_HEADERS = 3, REPLAY_HEADERS = 4, VALUE_SHOWN = 256 };

static struct bytes last_header(const struct record *r, const char *name) {
    for (size_t i = r->header_count; i-- > 0;)
        if (bytes_is(r->headers[i].name, name)) return r->headers[i].value;
    return (struct bytes){0};
}

/* Digits only, and not too many; -1 when it is anything else. */
static int64_t number(struct bytes text) {
    const char *p = text.data;
    int64_t n = 0;
    if (!text.len || text.len > 18) return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        n = 10 * n + (p[i] - '0');
    }
    return n;
}

/* "0/17" */
static bool place(struct bytes text, struct letter_place *at) {
    const char *p = text.data, *slash = text.len ? memchr(p, '/', text.len) : NULL;
    if (!slash) return false;
    size_t n = (size_t)(slash - p);
    int64_t partition = number((struct bytes){p, n});
    int64_t offset = number((struct bytes){slash + 1, text.len - n - 1});
    if (partition < 0 || partition > INT32_MAX || offset < 0) return false;
    *at = (struct letter_place){(int32_t)partition, offset};
    return true;
}

void letter_read(const struct record *r, enum topic topic, struct letter *l) {
    struct err ignored;
    *l = (struct letter){.record = *r, .topic = topic, .time_ms = r->time_ms};
    l->reason = last_header(r, "dlq.reason");
    l->text = last_header(r, "dlq.text");
    l->stage = last_header(r, "dlq.stage");
    l->bare = !r->key.data && !r->value.data && r->header_count &&
              bytes_is(r->headers[r->header_count - 1].name, "dlq.left-out");
    int64_t replays = number(last_header(r, "dlq.replays"));
    if (replays > 0) l->replays = replays;
    if (clock_parse(last_header(r, "dlq.time"), &l->time_ms, &ignored)) l->time_ms = r->time_ms;
}

const char *letter_name(const struct letter *l, char out[80]) {
    snprintf(out, 80, "%s/%d/%" PRId64, topic_info(l->topic)->name, l->record.partition,
             l->record.offset);
    return out;
}

const char *letter_state_name(enum letter_state state) {
    static const char *const names[] = {"open", "replayed", "dropped"};
    return names[state];
}

/* ---- marks and replays ---- */

bool mark_read(const struct record *r, struct letter_place *of, enum letter_state *state) {
    if (r->key.data || r->value.data || r->header_count != MARK_HEADERS) return false;
    const struct header *h = r->headers;
    if (!bytes_is(h[0].name, "dlq.done") || !bytes_is(h[1].name, "dlq.letter") ||
        !bytes_is(h[2].name, "dlq.time"))
        return false;
    for (enum letter_state s = LETTER_REPLAYED; s <= LETTER_DROPPED; s++)
        if (bytes_is(h[0].value, letter_state_name(s))) {
            *state = s;
            return place(h[1].value, of);
        }
    return false;
}

static struct bytes now(struct arena *a) {
    char text[CLOCK_RFC3339_LEN + 1];
    clock_format(clock_now_ms(), text);
    return arena_copy(a, bytes_of(text));
}

void mark_write(const struct letter *l, enum letter_state state, struct arena *a,
                struct record *out) {
    struct header *h = arena_alloc(a, MARK_HEADERS * sizeof *h);
    h[0] = (struct header){BYTES("dlq.done"), bytes_of(letter_state_name(state))};
    h[1] = (struct header){
        BYTES("dlq.letter"),
        bytes_of(arena_printf(a, "%d/%" PRId64, l->record.partition, l->record.offset))};
    h[2] = (struct header){BYTES("dlq.time"), now(a)};
    *out = (struct record){
        .topic = topic_name(l->topic), .headers = h, .header_count = MARK_HEADERS, .time_ms = -1};
}

/* The topic whose refusals these are; what a letter's headers say of it is not asked. */
static enum topic source_of(enum topic letters) {
    enum topic t = IMAGES;
    while (topic_dead_letters(t) != letters) t++;
    return t;
}

enum err_kind letter_replay(const struct letter *l, struct bytes label, struct arena *a,
                            struct record *out, struct err *e) {
    const struct record *r = &l->record;
    char name[80];
    if (l->bare)
        return err_bad(e, REASON_TOO_LONG,
                       "its record was too long to be kept: only the refusal is here");
    struct header *h = arena_alloc(a, (r->header_count + REPLAY_HEADERS) * sizeof *h);
    size_t n = 0;
    for (; n < r->header_count; n++) {
        struct bytes was = r->headers[n].name;
        bool replaced = label.data && (bytes_is(was, "label") || bytes_is(was, "ce_label"));
        h[n].name =
            replaced
                ? bytes_of(arena_printf(a, "dlq.was.%.*s", (int)was.len, (const char *)was.data))
                : arena_copy(a, was);
        h[n].value = arena_copy(a, r->headers[n].value);
    }
    if (label.data) h[n++] = (struct header){BYTES("ce_label"), label};
    h[n++] = (struct header){BYTES("dlq.replays"),
                             bytes_of(arena_printf(a, "%" PRId64, l->replays + 1))};
    h[n++] = (struct header){BYTES("dlq.replay-of"),
                             bytes_of(arena_printf(a, "%s", letter_name(l, name)))};
    h[n++] = (struct header){BYTES("dlq.replay-time"), now(a)};
    *out = (struct record){.topic = topic_name(source_of(l->topic)),
                           .key = arena_copy(a, r->key),
                           .value = arena_copy(a, r->value),
                           .headers = h,
                           .header_count = n,
                           .time_ms = -1}; /* the old one could be beyond the topic's retention */
    return ERR_NONE;
}

/* ---- which ones ---- */

static enum err_kind read_reasons(struct dlq_pick *p, const char *text, struct err *e) {
    p->any_reason = !text;
    for (; text; text = strchr(text, ',') ? strchr(text, ',') + 1 : NULL) {
        struct bytes word = {text, strcspn(text, ",")};
        enum reason r = REASON_NONE + 1;
        while (r < REASON_COUNT && !bytes_is(word, reason_code(r))) r++;
        if (r == REASON_COUNT) {
            struct buf codes = {0};
            for (r = REASON_NONE + 1; r < REASON_COUNT; r++)
                buf_printf(&codes, " %s", reason_code(r));
            err_fatal(e, "--reason: \"%.*s\" is none; there are%s",
                      word.len > 40 ? 40 : (int)word.len, text, codes.data);
            buf_free(&codes);
            return e->kind;
        }
        p->reasons[r] = true;
    }
    return ERR_NONE;
}

/* A day, a time, or how long ago. */
static enum err_kind read_time(const char *flag, const char *text, int64_t *ms, struct err *e) {
    static const struct setting ago = {.name = "ago", .type = SETTING_TIME, .offset = 0};
    struct err ignored;
    char day[32];
    int64_t age;
    snprintf(day, sizeof day, "%.10sT00:00:00Z", text);
    if (!clock_parse(bytes_of(text), ms, &ignored)) return ERR_NONE;
    if (strlen(text) == 10 && !clock_parse(bytes_of(day), ms, &ignored)) return ERR_NONE;
    if (settings_put(&ago, &age, text, flag, &ignored))
        return err_fatal(e,
                         "%s is \"%.60s\": it must be a day like 2026-11-23, a time like "
                         "2026-11-23T13:40:00Z, or an age like 2h",
                         flag, text);
    *ms = clock_now_ms() - age;
    return ERR_NONE;
}

/* "images", "images.dlq", or either with the prefix. */
static enum topic dead_letters_named(struct bytes word) {
    const char *prefix = topics_prefix_now();
    size_t n = strlen(prefix);
    struct bytes rest = word;
    if (word.len > n && !memcmp(word.data, prefix, n))
        rest = (struct bytes){(const char *)word.data + n, word.len - n};
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++) {
        enum topic letters = topic_dead_letters(t);
        if (letters == TOPIC_NONE) continue;
        for (int i = 0; i < 2; i++) {
            struct bytes as = i ? word : rest;
            if (bytes_is(as, topic_info(t)->name) || bytes_is(as, topic_info(letters)->name))
                return letters;
        }
    }
    return TOPIC_NONE;
}

static enum err_kind read_operand(struct dlq_pick *p, const char *text, struct err *e) {
    const char *slash = strchr(text, '/');
    struct dlq_single one = {.topic = dead_letters_named((struct bytes){text, strcspn(text, "/")})};
    if (one.topic == TOPIC_NONE)
        return err_fatal(e,
                         "\"%.80s\" has no dead letters: images, images.prepared, images.stored, "
                         "batches and models.trained have",
                         text);
    if (!slash) {
        p->topics[one.topic] = true;
        return ERR_NONE;
    }
    if (!place(bytes_of(slash + 1), &one.at))
        return err_fatal(e, "\"%.80s\" is no letter: one is called like images.dlq/0/17", text);
    p->singles = mem_resize(p->singles, (p->single_count + 1) * sizeof *p->singles);
    p->singles[p->single_count++] = one;
    return ERR_NONE;
}

enum err_kind dlq_pick_read(struct dlq_pick *p, const struct dlq_filter *f, char **operands, int n,
                            struct err *e) {
    *p = (struct dlq_pick){
        .stage = f->stage, .since_ms = INT64_MIN, .until_ms = INT64_MAX, .all_topics = !n};
    if (read_reasons(p, f->reason, e)) return e->kind;
    if (f->since && read_time("--since", f->since, &p->since_ms, e)) return e->kind;
    if (f->until && read_time("--until", f->until, &p->until_ms, e)) return e->kind;
    for (int i = 0; i < n; i++)
        if (read_operand(p, operands[i], e)) return e->kind;
    return ERR_NONE;
}

void dlq_pick_free(struct dlq_pick *p) {
    free(p->singles);
    *p = (struct dlq_pick){0};
}

static bool looks_at(const struct dlq_pick *p, enum topic t) {
    bool named = p->all_topics || p->topics[t];
    for (size_t i = 0; i < p->single_count && !named; i++) named = p->singles[i].topic == t;
    return named;
}

enum topic dlq_pick_next(const struct dlq_pick *p, enum topic after) {
    for (enum topic t = after < IMAGES_DLQ ? IMAGES_DLQ : after + 1; t < TOPIC_COUNT; t++)
        if (looks_at(p, t)) return t;
    return TOPIC_NONE;
}

static bool picks_place(const struct dlq_pick *p, const struct letter *l) {
    bool named = p->all_topics || p->topics[l->topic];
    for (size_t i = 0; i < p->single_count && !named; i++) {
        const struct dlq_single *one = &p->singles[i];
        named = one->topic == l->topic && one->at.partition == l->record.partition &&
                one->at.offset == l->record.offset;
    }
    return named;
}

bool dlq_picks(const struct dlq_pick *p, const struct letter *l) {
    bool reason = p->any_reason;
    for (enum reason r = REASON_NONE + 1; r < REASON_COUNT && !reason; r++)
        reason = p->reasons[r] && bytes_is(l->reason, reason_code(r));
    return reason && picks_place(p, l) && (!p->stage || bytes_is(l->stage, p->stage)) &&
           l->time_ms >= p->since_ms && l->time_ms < p->until_ms;
}

/* ---- for people and programs ---- */

const char *const dlq_heads[DLQ_COLUMNS] = {"letter", "state",  "refused",  "reason", "stage",
                                            "key",    ">bytes", ">replays", "why"};

void letter_row(const struct letter *l, struct table *t) {
    char name[80], time[CLOCK_RFC3339_LEN + 1];
    clock_format(l->time_ms, time);
    table_text(t, bytes_of(letter_name(l, name)));
    table_text(t, bytes_of(letter_state_name(l->state)));
    table_text(t, bytes_of(time));
    table_text(t, l->reason);
    table_text(t, l->stage);
    table_text(t, l->record.key);
    table_print(t, "%zu", l->record.value.len);
    table_print(t, "%" PRId64, l->replays);
    table_text(t, l->text);
}

static void put_text(struct json_writer *w, const char *name, struct bytes text) {
    if (text.data)
        json_put_text(w, name, text);
    else
        json_put_null(w, name);
}

static void put_number(struct json_writer *w, const char *name, struct bytes text) {
    int64_t n = number(text);
    if (n >= 0)
        json_put_int(w, name, n);
    else
        json_put_null(w, name);
}

void letter_json(const struct letter *l, struct buf *out) {
    const struct record *r = &l->record;
    char name[80], time[CLOCK_RFC3339_LEN + 1];
    clock_format(l->time_ms, time);
    struct json_writer w = json_begin(out);
    json_put_text(&w, "letter", bytes_of(letter_name(l, name)));
    json_put_text(&w, "state", bytes_of(letter_state_name(l->state)));
    json_put_text(&w, "time", bytes_of(time));
    put_text(&w, "reason", l->reason);
    put_text(&w, "text", l->text);
    put_text(&w, "stage", l->stage);
    put_text(&w, "version", last_header(r, "dlq.version"));
    put_text(&w, "topic", last_header(r, "dlq.topic"));
    put_number(&w, "partition", last_header(r, "dlq.partition"));
    put_number(&w, "offset", last_header(r, "dlq.offset"));
    put_number(&w, "attempts", last_header(r, "dlq.attempts"));
    json_put_int(&w, "replays", l->replays);
    put_text(&w, "key", r->key);
    json_put_int(&w, "bytes", (int64_t)r->value.len);
    json_end(&w);
    buf_add_text(out, "\n");
}

/* How many of its headers, from the first on, are those that it was refused with the first time. */
static size_t original_headers(const struct letter *l) {
    size_t n = 0;
    while (n < l->record.header_count && !bytes_is(l->record.headers[n].name, "dlq.reason")) n++;
    return n;
}

void letter_show(const struct letter *l, struct buf *out) {
    const struct record *r = &l->record;
    size_t original = original_headers(l);
    char name[80], time[CLOCK_RFC3339_LEN + 1], size[32];
    clock_format(r->time_ms, time);
    buf_printf(out, "letter   %s, %s, written %s\nkey      ", letter_name(l, name),
               letter_state_name(l->state), time);
    show_text(out, r->key);
    buf_printf(out, "\nvalue    %s%s", r->value.data ? "" : "none, ",
               show_size((int64_t)r->value.len, size));
    if (r->value.len) {
        struct bytes begin = {r->value.data,
                              r->value.len < VALUE_SHOWN ? r->value.len : VALUE_SHOWN};
        buf_add_text(out, ": ");
        show_text(out, begin);
        if (begin.len < r->value.len) buf_add_text(out, " …");
    }
    buf_add_text(out, "\nheaders  as it was sent:\n");
    for (size_t i = 0; i < r->header_count; i++) {
        if (i == original) buf_add_text(out, "         since it was refused:\n");
        buf_add_text(out, "  ");
        show_text(out, r->headers[i].name);
        buf_add_text(out, ": ");
        show_text(out, r->headers[i].value);
        buf_add_text(out, "\n");
    }
}
