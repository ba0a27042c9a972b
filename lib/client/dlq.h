/*
 * dlq: dead letters, as the command line sees them: what one says, what a user picks, which of them are
 * still open, and what is written when one is dealt with.
 *
 * A dead-letter topic keeps everything until retention takes it, its records never move. A letter that was
 * replayed or dropped has a *mark* behind it in the same topic: a record without key and value, with
 *
 *     dlq.done    replayed | dropped
 *     dlq.letter  PARTITION/OFFSET of the letter in this topic
 *     dlq.time    when
 *
 * and nothing else. The mark commits in one transaction with the replayed record, so a letter is open exactly
 * as long as it has not been replayed. What a sender writes into his record's headers cannot make a mark: a
 * letter of ours has at least the headers of its refusal. A mark is younger than its letter, and retention
 * takes a partition from its beginning, so no letter outlives its mark; the topics have one partition.
 */
#ifndef DARKROOM_CLIENT_DLQ_H
#define DARKROOM_CLIENT_DLQ_H

#include "lib/base/record.h"
#include "lib/client/client.h"
#include "lib/client/show.h"

enum letter_state { LETTER_OPEN, LETTER_REPLAYED, LETTER_DROPPED };

struct letter {
    struct record record; /* as it lies there; borrowed */
    enum topic topic;     /* the dead-letter topic */
    enum letter_state state;
    /* Of the last refusal; absent when the letter does not say. */
    struct bytes reason, text, stage;
    int64_t time_ms; /* of the refusal, else of the record */
    int64_t replays; /* how often it has been sent back before this refusal */
    bool bare;       /* the record was left out, as too long */
};

struct letter_place {
    int32_t partition;
    int64_t offset;
};

/* The letter in a record of the topic; open until somebody says otherwise. Any record is one. */
void letter_read(const struct record *r, enum topic topic, struct letter *l);
/* "images.dlq/0/17" */
const char *letter_name(const struct letter *l, char out[80]);
const char *letter_state_name(enum letter_state state);

bool mark_read(const struct record *r, struct letter_place *of, enum letter_state *state);
/* The mark for a letter; in the arena. */
void mark_write(const struct letter *l, enum letter_state state, struct arena *a,
                struct record *out);

/*
 * The record as it goes back to the topic that refused it; copied into the arena. All headers stay, and three
 * follow: dlq.replays, dlq.replay-of, dlq.replay-time. With a label, a header `label` or `ce_label` becomes
 * dlq.was.label or dlq.was.ce_label, and a new ce_label says it. ERR_BAD when the letter has no record.
 */
enum err_kind letter_replay(const struct letter *l, struct bytes label, struct arena *a,
                            struct record *out, struct err *e) MUST_CHECK;

/* ---- which ones ---- */

struct dlq_filter {
    const char *reason, *stage, *since, *until; /* as typed; NULL: all */
};
#define DLQ_FILTER_SETTING(type, field, what)                                                      \
    { #field, SETTING_TEXT, offsetof(type, filter.field), NULL, what }
#define DLQ_FILTER_SETTINGS(type)                                                                  \
    DLQ_FILTER_SETTING(type, reason, "Only those with these reasons, with commas between"),        \
        DLQ_FILTER_SETTING(type, stage, "Only what this stage refused"),                           \
        DLQ_FILTER_SETTING(type, since,                                                            \
                           "Refused then or later: 2026-11-23, 2026-11-23T13:40:00Z, or 2h for "   \
                           "two hours ago"),                                                       \
        DLQ_FILTER_SETTING(type, until, "Refused before that")

/* What operands and flags pick: topics, single letters of them, and what these must be like. */
struct dlq_pick {
    bool reasons[REASON_COUNT], any_reason;
    const char *stage;
    int64_t since_ms, until_ms;
    bool all_topics, topics[TOPIC_COUNT];
    struct dlq_single {
        enum topic topic;
        struct letter_place at;
    } * singles; /* a topic that is only named with letters has these only */
    size_t single_count;
};

/* ERR_FATAL says what is wrong with a word. Operands are topics (images, images.dlq, with or without prefix)
   and letters (images.dlq/0/17); none is every dead-letter topic. */
enum err_kind dlq_pick_read(struct dlq_pick *p, const struct dlq_filter *f, char **operands, int n,
                            struct err *e) MUST_CHECK;
void dlq_pick_free(struct dlq_pick *p);
/* The first topic behind `after` that has to be looked at; TOPIC_NONE when there is none, and to begin. */
enum topic dlq_pick_next(const struct dlq_pick *p, enum topic after);
bool dlq_picks(const struct dlq_pick *p, const struct letter *l);

/* ---- for people and programs ---- */

enum { DLQ_COLUMNS = 9 };
extern const char *const dlq_heads[DLQ_COLUMNS];
void letter_row(const struct letter *l, struct table *t);
void letter_json(const struct letter *l, struct buf *out); /* one line */
void letter_show(const struct letter *l, struct buf *out); /* everything, safe for a terminal */

/* ---- a dead-letter topic, read ---- */

struct box;

/* Reads its marks; what comes later is not seen. NULL: ERR_AGAIN, ERR_FATAL, or stopped by Ctrl-C. */
struct box *box_open(const struct client *c, enum topic topic, struct err *e);
/* The next letter, oldest first, borrowed until the next call; *got false at the end. */
enum err_kind box_next(struct box *b, struct letter *l, bool *got, struct err *e) MUST_CHECK;
void box_close(struct box *b); /* NULL is fine */

#endif
