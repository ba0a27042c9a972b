/*
 * bus: a log with transactions, as a stage needs it; nothing about Kafka shows. Two implementations keep
 * one contract (tests/flow/bus_contract.h): Kafka, and a memory log for tests and simulation.
 *
 * The life of a hand-over:
 *
 *     bus_poll … bus_poll        records collect, in order per partition
 *     (the stage handles them)
 *     bus_hand_over(outputs)     outputs and the positions behind everything polled commit together;
 *                                returns while the commit is under way
 *     bus_poll …                 the next ones collect meanwhile; nothing of theirs is sent before the
 *     bus_hand_over(…)           last commit has succeeded: this call waits for it first
 *
 * Whatever returns ERR_AGAIN leaves the bus in want of bus_rewind: outputs that are not committed are
 * aborted, what was polled is forgotten, and the next poll repeats from the committed positions.
 * bus_rewind itself may say ERR_AGAIN (the broker is still away): back off and call it again.
 * ERR_FATAL: close the bus; the process cannot go on with it.
 *
 * One thread uses a bus.
 */
#ifndef DARKROOM_BUS_BUS_H
#define DARKROOM_BUS_BUS_H

#include "lib/base/err.h"
#include "lib/base/record.h"

enum bus_delivery {
    BUS_EXACTLY_ONCE,  /* transactions */
    BUS_AT_LEAST_ONCE, /* idempotent sends at once; positions once all that stands before them is
                          acknowledged */
};

struct bus_property {
    const char *name, *value;
};

struct bus_conf {
    const char *group; /* consumer group, and the beginning of every transactional id */
    const char
        *instance;     /* tells this process from others of its group, the same after a restart */
    const char *in;    /* topic to consume */
    const char *watch; /* topic to follow without a group, or NULL */
    /* The topics that records are handed over to as a rule: with BUS_EXACTLY_ONCE, what an earlier
       life left open in them is ended before anything is read. */
    const char *const *out;
    size_t out_count;
    enum bus_delivery delivery;
    int lanes;           /* producers in turn, 1 or 2 */
    int64_t queue_bytes; /* what may wait in the client's receive queue; the sending queue takes as
                            much, and 32 MiB at least */
    const struct bus_property *properties; /* passed to the client library as they are, last word */
    size_t property_count;
};

struct bus_limits {
    size_t max_records; /* of everything polled and not handed over yet */
    size_t max_bytes;   /* keys, values and headers; one record above it still comes, alone */
    int wait_ms;        /* for the first new record; what is there is then taken without waiting */
};

/* Everything polled and not handed over, oldest first; the new ones at the end. Borrowed until the
   next call on the bus but bus_alive. */
struct records {
    const struct record *list;
    size_t count, bytes;
    bool full;           /* no more comes before a hand-over: what is next is beyond the limits */
    uint64_t generation; /* changes when what was collected has been forgotten: rebalance, rewind */
};

struct bus;
struct bus_memory;

/* NULL with ERR_FATAL when a property or name is wrong. Nothing is contacted yet: the first polls
   do that, and say ERR_AGAIN while they cannot. conf and its texts are copied. */
struct bus *bus_open_kafka(const struct bus_conf *conf, struct err *e);
struct bus *bus_open_memory(const struct bus_conf *conf, struct bus_memory *log, struct err *e);

/*
 * Collects. With nothing to do it also commits, on the same path as ever, the end-of-partition
 * positions (idle lag is 0), and the start positions of a partition that never had one.
 */
enum err_kind bus_poll(struct bus *b, const struct bus_limits *l, struct records *r,
                       struct err *e) MUST_CHECK;

/* Everything polled is done; `out` are its outputs (copied before this returns; topics are full
   names). ERR_BAD (too-long): one of them is larger than its topic takes. Nothing was sent then and
   nothing has changed: call again with what fits. */
enum err_kind bus_hand_over(struct bus *b, const struct record *out, size_t n,
                            struct err *e) MUST_CHECK;

/* Waits until nothing is under way. wait_ms < 0: as long as it takes, else ERR_AGAIN when it is
   over (the only one without a need to rewind: bus_busy still says true). */
enum err_kind bus_settle(struct bus *b, int wait_ms, struct err *e) MUST_CHECK;
bool bus_busy(const struct bus *b); /* a hand-over is under way */

enum err_kind bus_rewind(struct bus *b, struct err *e) MUST_CHECK;

/* In the middle of long work: keeps the membership alive without collecting. ERR_AGAIN when what
   was polled is no longer ours: stop working, rewind. */
enum err_kind bus_alive(struct bus *b, struct err *e) MUST_CHECK;

/*
 * A short note that travels in the committed position of a partition (poisoned records). bus_mark
 * commits the present start position again with the note, and waits for it; nothing is handed over.
 * The note is gone with the next hand-over. bus_note: the note found when the partition was
 * assigned or marked, or NULL. bus_start: the committed position, -1 when the partition is not
 * ours.
 */
enum err_kind bus_mark(struct bus *b, int32_t partition, const char *note,
                       struct err *e) MUST_CHECK;
const char *bus_note(const struct bus *b, int32_t partition);
int64_t bus_start(const struct bus *b, int32_t partition);

/*
 * The watched topic, committed records only, from its beginning, in order per partition.
 * bus_watch_poll: the next one that is there, without waiting; *got false when there is none.
 * bus_watch_end: *at_end is true when everything that was committed or open when the call was made
 * has been given out; wait for open transactions by asking again.
 */
enum err_kind bus_watch_poll(struct bus *b, struct record *r, bool *got, struct err *e) MUST_CHECK;
enum err_kind bus_watch_end(struct bus *b, bool *at_end, struct err *e) MUST_CHECK;

/* Whether the log has the topic, which somebody outside named, and takes our records for it; an
   answer may be some seconds old, or as old as the last rewind. */
enum err_kind bus_topic_exists(struct bus *b, const char *topic, bool *exists,
                               struct err *e) MUST_CHECK;

/* What people ask a running worker. */
struct bus_state {
    bool joined;    /* has its share of the partitions, which may be none of them */
    int partitions; /* assigned */
    int64_t lag;    /* records behind the end over assigned partitions; -1 unknown yet */
    uint64_t commits, aborts, gaps /* records that retention took before they were read */;
    int64_t commit_us; /* of the last commit */
};
void bus_state(const struct bus *b, struct bus_state *s);

/* Which log this is: coordinates of a record mean nothing in another. "" until known. */
const char *bus_cluster(const struct bus *b);

/* Commits what was handed over, forgets the rest, leaves the group. NULL is fine. */
void bus_close(struct bus *b);

#endif
