/*
 * dlq: dead letters, listed and shown. A dead-letter topic is read twice: first for its marks, which stand
 * behind the letters that they are about, then for the letters; so memory grows with what was dealt with (16
 * bytes a mark) and not with what the letters hold. Both readings end where the topic ended when they began.
 */
#include "lib/client/dlq.h"

#include "lib/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { STALLED_S = 60, POLL_MS = 50 };

/* ---- a box ---- */

struct mark {
    struct letter_place of;
    enum letter_state state;
};

struct box {
    const struct client *c;
    enum topic topic;
    struct reader *reader;
    struct mark *marks; /* by place */
    size_t mark_count, mark_cap;
};

static int by_place(const void *a, const void *b) {
    const struct letter_place *x = &((const struct mark *)a)->of,
                              *y = &((const struct mark *)b)->of;
    if (x->partition != y->partition) return x->partition < y->partition ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static enum err_kind open_reader(struct box *b, struct err *e) {
    reader_close(b->reader);
    b->reader = client_follow(b->c, b->topic, READER_BEGINNING, e);
    return b->reader ? reader_bound(b->reader, e) : e->kind;
}

/* The next record before the end; *got false behind it. A broker that goes away is waited for. */
static enum err_kind next_record(struct box *b, struct record *r, bool *got, struct err *e) {
    int64_t deadline = clock_monotonic_us() + STALLED_S * 1000000LL;
    *got = false;
    for (bool end = false; !end;) {
        err_clear(e);
        if (client_stopped()) return err_again(e, "interrupted");
        if (!reader_poll(b->reader, POLL_MS, r, got, e) &&
            (*got || !reader_at_end(b->reader, &end, e))) {
            if (*got) return ERR_NONE;
            if (!end && clock_monotonic_us() > deadline)
                return err_again(e, "%s was not read to its end within %d s", topic_name(b->topic),
                                 STALLED_S);
        } else if (e->kind == ERR_FATAL || clock_monotonic_us() > deadline) {
            return e->kind;
        }
    }
    return ERR_NONE;
}

static enum err_kind read_marks(struct box *b, struct err *e) {
    struct record r;
    struct mark m;
    bool got = true;
    while (!next_record(b, &r, &got, e) && got) {
        if (!mark_read(&r, &m.of, &m.state)) continue;
        if (b->mark_count == b->mark_cap) {
            b->mark_cap = b->mark_cap ? 2 * b->mark_cap : 256;
            b->marks = mem_resize(b->marks, b->mark_cap * sizeof *b->marks);
        }
        b->marks[b->mark_count++] = m;
    }
    if (b->mark_count) qsort(b->marks, b->mark_count, sizeof *b->marks, by_place);
    return e->kind;
}

struct box *box_open(const struct client *c, enum topic topic, struct err *e) {
    struct box *b = mem_zeroed(1, sizeof *b);
    b->c = c;
    b->topic = topic;
    err_clear(e);
    if (!open_reader(b, e) && !read_marks(b, e) && !open_reader(b, e)) return b;
    box_close(b);
    return NULL;
}

enum err_kind box_next(struct box *b, struct letter *l, bool *got, struct err *e) {
    struct record r;
    struct mark m;
    do {
        if (next_record(b, &r, got, e) || !*got) return e->kind;
    } while (mark_read(&r, &m.of, &m.state));
    letter_read(&r, b->topic, l);
    m.of = (struct letter_place){r.partition, r.offset};
    const struct mark *found =
        b->mark_count ? bsearch(&m, b->marks, b->mark_count, sizeof m, by_place) : NULL;
    if (found) l->state = found->state;
    return ERR_NONE;
}

void box_close(struct box *b) {
    if (!b) return;
    reader_close(b->reader);
    free(b->marks);
    free(b);
}

/* ---- list ---- */

struct list_options {
    struct dlq_filter filter;
    int64_t limit;
    bool done, json;
};
static const struct setting list_settings[] = {
    DLQ_FILTER_SETTINGS(struct list_options),
    {"done", SETTING_BOOL, offsetof(struct list_options, done), "false",
     "Also those that were replayed or dropped", NULL, 0, 0, 0},
    {"limit", SETTING_INT, offsetof(struct list_options, limit), "0",
     "Letters, at most, the oldest first; 0: all", NULL, 0, 1e15, 0},
    {"json", SETTING_BOOL, offsetof(struct list_options, json), "false", "JSON, one letter a line",
     NULL, 0, 0, 0},
    {0}};

struct listing {
    const struct list_options *o;
    struct dlq_pick pick;
    struct table table;
    struct buf line;
    int64_t count;
};

static enum err_kind list_topic(struct listing *x, const struct client *c, enum topic t,
                                struct err *e) {
    struct letter l;
    bool got = true;
    struct box *b = box_open(c, t, e);
    while (b && !(x->o->limit && x->count >= x->o->limit) && !box_next(b, &l, &got, e) && got) {
        if (!dlq_picks(&x->pick, &l) || (l.state != LETTER_OPEN && !x->o->done)) continue;
        x->count++;
        if (x->o->json) {
            buf_clear(&x->line);
            letter_json(&l, &x->line);
            fwrite(x->line.data, 1, x->line.len, stdout);
        } else {
            letter_row(&l, &x->table);
        }
    }
    box_close(b);
    return e->kind;
}

static int list(struct client *c, const void *options, char **operands, int n) {
    struct listing x = {.o = options, .table = table_make(dlq_heads, DLQ_COLUMNS)};
    struct err e = {0};
    if (dlq_pick_read(&x.pick, &x.o->filter, operands, n, &e)) {
        dlq_pick_free(&x.pick);
        return client_usage(c, "%s", e.text);
    }
    for (enum topic t = TOPIC_NONE; !e.kind && (t = dlq_pick_next(&x.pick, t));)
        (void)!list_topic(&x, c, t, &e);
    if (x.table.count) table_end(&x.table);
    if (!e.kind && !x.count) client_say(c, "there is none");
    dlq_pick_free(&x.pick);
    buf_free(&x.line);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_dlq_list = {
    .name = "dlq list",
    .operands = "[TOPIC|LETTER…]",
    .what = "the dead letters: what was refused, and why",
    .needs = NEEDS_KAFKA,
    .help = "Prints one line a dead letter that is still open, the oldest first. Without words it "
            "is about all dead-letter\n"
            "topics; a word is a topic (images.dlq, or images, whose refusals they are) or one "
            "letter (images.dlq/0/17,\n"
            "as the first column says). A letter keeps that name. Once replayed or dropped it is "
            "done: it stays in its\n"
            "topic, marked so, for as long as the topic keeps things.\n\n"
            "  darkroom dlq list\n"
            "  darkroom dlq list images --reason bad-label,bad-id --since 2h\n"
            "  darkroom dlq list --json | jq -r .reason | sort | uniq -c",
    .most = -1,
    .settings = list_settings,
    .options_size = sizeof(struct list_options),
    .run = list};

/* ---- show ---- */

struct show_options {
    const char *value;
};
static const struct setting show_settings[] = {
    {"value", SETTING_TEXT, offsetof(struct show_options, value), NULL,
     "Writes the value to this file; - is stdout, and then nothing else is printed", NULL, 0, 0, 0},
    {0}};

static enum err_kind write_value(const char *path, struct bytes value, struct err *e) {
    bool to_stdout = path[0] == '-' && !path[1];
    FILE *f = to_stdout ? stdout : fopen(path, "wb");
    if (!f) return err_fatal(e, "cannot write %s", path);
    bool written = fwrite(value.data ? value.data : "", 1, value.len, f) == value.len;
    if (to_stdout ? fflush(f) : fclose(f)) written = false;
    return written ? ERR_NONE : err_fatal(e, "could not write all of %s", path);
}

static int show(struct client *c, const void *options, char **operands, int n) {
    const struct show_options *o = options;
    struct dlq_pick pick;
    struct letter l;
    struct err e = {0};
    bool got = true, found = false;
    if (dlq_pick_read(&pick, &(struct dlq_filter){0}, operands, n, &e) || pick.single_count != 1) {
        dlq_pick_free(&pick);
        return client_usage(c, "%s", e.kind ? e.text : "say which letter: images.dlq/0/17");
    }
    struct box *b = box_open(c, pick.singles[0].topic, &e);
    while (b && !found && !box_next(b, &l, &got, &e) && got) found = dlq_picks(&pick, &l);
    if (found && o->value) (void)!write_value(o->value, l.record.value, &e);
    if (found && !(o->value && o->value[0] == '-' && !o->value[1])) {
        struct buf text = {0};
        letter_show(&l, &text);
        fwrite(text.data, 1, text.len, stdout);
        buf_free(&text);
    }
    if (!e.kind && !found) err_fatal(&e, "there is no letter %s", operands[0]);
    box_close(b);
    dlq_pick_free(&pick);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_dlq_show = {
    .name = "dlq show",
    .operands = "LETTER",
    .what = "one dead letter with all its headers",
    .needs = NEEDS_KAFKA,
    .help = "Prints the key, the beginning of the value, and every header: as the record was sent, "
            "and what refusals and\n"
            "replays have added since, in their order. Bytes that a terminal should not get are "
            "printed as \\xNN.\n\n"
            "  darkroom dlq show images.dlq/0/17\n"
            "  darkroom dlq show --value broken.png images.dlq/0/17",
    .least = 1,
    .most = 1,
    .settings = show_settings,
    .options_size = sizeof(struct show_options),
    .run = show};
