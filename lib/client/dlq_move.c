/*
 * dlq_move: dead letters, sent back to the topic whose stage refused them, or dropped. Each is done exactly
 * once, whatever ends the command and however often it is repeated:
 *
 * - What is sent back and the marks that say so commit in one transaction, a few hundred letters each.
 * - The marks are read only after the name under which they are written has been taken (sender_ready): no
 *   command that went before, dead or merely asleep, can write another one from then on. A command that lost
 *   its name this way ends, and says so.
 * - What comes into the topic after that is left alone: a letter that is refused again does not go round.
 *
 * A position of a consumer group would need less reading, but could only say "everything up to here": letters
 * that a filter leaves would have to be written again, under new offsets, and a killed command would hold the
 * group until its session times out. With marks a letter keeps its name, and its topic tells what became of it.
 *
 * A letter that cannot be sent (too long with the headers it has gathered, or its record was never kept) stays
 * open and is said; the rest go on.
 */
#include "lib/base/clock.h"
#include "lib/bus/sender.h"
#include "lib/client/dlq.h"
#include "proto/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP_LETTERS = 500, GROUP_BYTES = 4 << 20, READY_S = 30, TROUBLES_TOLD = 20 };

struct options {
    struct dlq_filter filter;
    const char *label;
    int64_t rate, limit;
    bool all;
};

struct move {
    const struct client *c;
    const struct options *o;
    enum letter_state as;
    struct dlq_pick pick;
    struct sender *sender;
    /* Letters whose turn has come: their records, `each` of them a letter. */
    struct arena arena;
    struct record list[2 * GROUP_LETTERS];
    struct letter letters[GROUP_LETTERS]; /* for their names */
    size_t count, each;
    int64_t start_us, moved, failed;
};

static void trouble(struct move *m, const struct letter *l, const struct err *why) {
    char name[80];
    if (m->failed++ < TROUBLES_TOLD) client_say(m->c, "%s: %s", letter_name(l, name), why->text);
    if (m->failed == TROUBLES_TOLD) client_say(m->c, "further letters like this are only counted");
}

/* Letters from..from+n-1 of the group. One that is too long alone is left; among others it is looked for. */
static enum err_kind send_letters(struct move *m, size_t from, size_t n, struct err *e) {
    enum err_kind kind = sender_send(m->sender, m->list + from * m->each, n * m->each, e);
    if (kind == ERR_BAD && n == 1) {
        trouble(m, &m->letters[from], e);
    } else if (kind == ERR_BAD) {
        if (send_letters(m, from, n / 2, e) || send_letters(m, from + n / 2, n - n / 2, e))
            return e->kind;
    } else if (kind) {
        return kind;
    } else {
        m->moved += (int64_t)n;
    }
    err_clear(e);
    return ERR_NONE;
}

static enum err_kind send_group(struct move *m, struct err *e) {
    for (int64_t left;
         (left = client_due(m->start_us, m->moved, m->o->rate)) > 0 && !client_stopped();)
        clock_sleep_ms(left > 50000 ? 50 : left / 1000 + 1);
    if (client_stopped()) m->count = 0;
    if (m->count && send_letters(m, 0, m->count, e)) return e->kind;
    m->count = 0;
    arena_reset(&m->arena);
    progress_at(m->moved, 0);
    return ERR_NONE;
}

/* With a rate, a group is what is due in a quarter of a second. */
static bool group_is_full(const struct move *m) {
    size_t most = GROUP_LETTERS;
    if (m->o->rate && m->o->rate / 4 < GROUP_LETTERS) most = (size_t)(m->o->rate / 4) + 1;
    return m->count >= most || m->arena.used >= GROUP_BYTES;
}

static void take(struct move *m, const struct letter *l) {
    struct record *at = m->list + m->count * m->each;
    struct err e = {0};
    if (m->as == LETTER_REPLAYED && letter_replay(l, bytes_of(m->o->label), &m->arena, at++, &e)) {
        trouble(m, l, &e);
        return;
    }
    mark_write(l, m->as, &m->arena, at);
    m->letters[m->count++] = *l;
}

static bool enough(const struct move *m) {
    return client_stopped() || (m->o->limit && m->moved + (int64_t)m->count >= m->o->limit);
}

static enum err_kind move_letters(struct move *m, struct box *b, struct err *e) {
    struct letter l;
    bool got = true;
    while (!enough(m) && !box_next(b, &l, &got, e) && got) {
        if (l.state != LETTER_OPEN || !dlq_picks(&m->pick, &l)) continue;
        take(m, &l);
        if (group_is_full(m) && send_group(m, e)) break;
    }
    return e->kind ? e->kind : send_group(m, e);
}

/* Waits, so that a leftover of a killed command does not end this one; the broker may also be electing. */
static enum err_kind take_name(struct move *m, enum topic letters, struct err *e) {
    char group[TOPIC_NAME_MAX + 1];
    enum topic in = IMAGES;
    while (topic_dead_letters(in) != letters) in++;
    const char *const out[] = {topic_name(letters), topic_name(in)};
    snprintf(group, sizeof group, "%sdlq", topics_prefix_now());
    m->sender = sender_open(m->c->properties, m->c->property_count, group,
                            topic_info(letters)->name, out, 2, e);
    if (!m->sender) return e->kind;
    int64_t deadline = clock_monotonic_us() + READY_S * 1000000LL;
    while (sender_ready(m->sender, 5000, e) == ERR_AGAIN && clock_monotonic_us() < deadline &&
           !client_stopped()) {
        err_clear(e);
        clock_sleep_ms(100);
    }
    return e->kind;
}

static enum err_kind move_topic(struct move *m, enum topic letters, struct err *e) {
    struct box *b = take_name(m, letters, e) ? NULL : box_open(m->c, letters, e);
    if (b) (void)!move_letters(m, b, e);
    box_close(b);
    sender_close(m->sender);
    m->sender = NULL;
    m->count = 0;
    return e->kind;
}

static void summary(const struct move *m, bool all) {
    char count[32];
    printf("%s %s letter%s", letter_state_name(m->as), show_count(m->moved, count),
           m->moved == 1 ? "" : "s");
    if (m->failed) printf("; %s could not be", show_count(m->failed, count));
    if (!all) printf("; interrupted: the same command goes on, nothing is doubled");
    puts("");
}

static int move(struct client *c, const struct options *o, enum letter_state as, char **operands,
                int n) {
    struct err e = {0};
    struct move *m = mem_zeroed(1, sizeof *m);
    int code = CLIENT_USAGE;
    m->c = c;
    m->o = o;
    m->as = as;
    m->each = as == LETTER_REPLAYED ? 2 : 1; /* the record, and the mark */
    if (dlq_pick_read(&m->pick, &o->filter, operands, n, &e)) {
        client_usage(c, "%s", e.text);
        goto end;
    }
    if (o->label && dlq_pick_next(&m->pick, IMAGES_PREPARED_DLQ) != TOPIC_NONE) {
        client_usage(
            c, "--label is for images and images.prepared: name one of them, or letters of theirs");
        goto end;
    }
    struct bytes label = bytes_of(o->label);
    if (o->label && (!label.len || label.len > EVENT_LABEL_MAX || !bytes_is_clean_text(label))) {
        client_usage(c, "--label must be 1 to %d bytes of clean UTF-8", EVENT_LABEL_MAX);
        goto end;
    }
    m->start_us = clock_monotonic_us();
    progress_begin(c->command->name, 0);
    for (enum topic t = TOPIC_NONE; !e.kind && !enough(m) && (t = dlq_pick_next(&m->pick, t));)
        (void)!move_topic(m, t, &e);
    progress_end();
    summary(m, !client_stopped());
    if (e.kind && !client_stopped()) {
        client_fail(c, &e);
        client_say(c, "it did not come to its end: the same command goes on, nothing is doubled");
    }
    code = e.kind || m->failed || client_stopped() ? CLIENT_FAILED : CLIENT_DONE;
end:
    dlq_pick_free(&m->pick);
    arena_free(&m->arena);
    free(m);
    return code;
}

#define RATE                                                                                       \
    {                                                                                              \
        "rate", SETTING_INT, offsetof(struct options, rate), "0",                                  \
            "Letters a second, at most; 0: as fast as it goes", NULL, 0, 1e9, 0                    \
    }
#define LIMIT                                                                                      \
    {                                                                                              \
        "limit", SETTING_INT, offsetof(struct options, limit), "0", "Letters, at most; 0: all",    \
            NULL, 0, 1e15, 0                                                                       \
    }

/* ---- replay ---- */

static const struct setting replay_settings[] = {
    DLQ_FILTER_SETTINGS(struct options),
    {"label", SETTING_TEXT, offsetof(struct options, label), NULL,
     "The label that they have from now on; of images and images.prepared", NULL, 0, 0, 0},
    RATE,
    LIMIT,
    {0}};

static int replay(struct client *c, const void *options, char **operands, int n) {
    return move(c, options, LETTER_REPLAYED, operands, n);
}

const struct command command_dlq_replay = {
    .name = "dlq replay",
    .operands = "[TOPIC|LETTER…]",
    .what = "sends dead letters back to the stage that refused them",
    .needs = NEEDS_KAFKA,
    .help = "Sends the letters that are still open, or those of them that the words and flags "
            "pick, back to the topic\n"
            "that they came from, with key, value and headers as they were. What was added when "
            "they were refused\n"
            "stays, and dlq.replays counts: what is refused again tells its whole story. May be "
            "interrupted, killed\n"
            "and repeated at any time: each letter goes back once. `darkroom dlq list` with the "
            "same words and flags\n"
            "says what it would send.\n\n"
            "  darkroom dlq replay                                      everything\n"
            "  darkroom dlq replay images.prepared --reason bad-shape --since 1d\n"
            "  darkroom dlq replay --label 7 images.dlq/0/17            with the right label\n\n"
            "What store refused does not undo a correction that came since; an image that "
            "preprocess refused counts as\n"
            "published now. Ends with 1 when a letter could not be sent; the others are sent all "
            "the same.",
    .most = -1,
    .settings = replay_settings,
    .options_size = sizeof(struct options),
    .run = replay};

/* ---- drop ---- */

static const struct setting drop_settings[] = {DLQ_FILTER_SETTINGS(struct options),
                                               {"all", SETTING_BOOL, offsetof(struct options, all),
                                                "false", "Everything, in every topic", NULL, 0, 0,
                                                0},
                                               RATE,
                                               LIMIT,
                                               {0}};

static int drop(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    const struct dlq_filter *f = &o->filter;
    if (!n && !o->all && !f->reason && !f->stage && !f->since && !f->until)
        return client_usage(c, "say which: a topic, letters, a filter, or --all");
    return move(c, o, LETTER_DROPPED, operands, n);
}

const struct command command_dlq_drop = {
    .name = "dlq drop",
    .operands = "[TOPIC|LETTER…]",
    .what = "gives dead letters up",
    .needs = NEEDS_KAFKA,
    .help = "Marks the letters that the words and flags pick as dropped: they are not listed and "
            "not replayed any more.\n"
            "What they hold stays in the topic until its retention takes it, and `darkroom dlq "
            "list --done` lists them.\n\n"
            "  darkroom dlq drop images.dlq/0/17\n"
            "  darkroom dlq drop images --reason not-png --until 2026-11-01",
    .most = -1,
    .settings = drop_settings,
    .options_size = sizeof(struct options),
    .run = drop};
