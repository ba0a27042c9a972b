/*
 * memory: a log in this process with Kafka's transaction semantics, for tests and simulation: read
 * committed, positions inside the transaction, fencing by transactional id and by group generation,
 * markers that take an offset. Crashes and faults on demand. One group reads one topic.
 *
 * A hand-over leaves its commit under way: it is done by the next call that has to know (bus_settle,
 * bus_hand_over, bus_alive, bus_mark, bus_rewind, bus_close), or by a poll that finds nothing new. A poll
 * that finds nothing sleeps wait_ms on lib/base/clock.
 */
#ifndef DARKROOM_BUS_MEMORY_H
#define DARKROOM_BUS_MEMORY_H

#include "lib/bus/bus.h"

struct bus_memory *memory_make(void);
void memory_free(struct bus_memory *m); /* after every bus on it is closed or crashed */

void memory_topic(struct bus_memory *m, const char *name, int partitions);
/* As an independent producer would: r->topic, key (its hash chooses the partition), value, headers.
 */
void memory_append(struct bus_memory *m, const struct record *r);
/* The same; says which partition and offset it got. */
void memory_append_at(struct bus_memory *m, const struct record *r, int at[2]);

/* Committed records of a topic, in order per partition, partition after partition; borrowed until
   the log is freed. Returns how many there are; fills at most max. */
size_t memory_committed(struct bus_memory *m, const char *topic, struct record *out, size_t max);
int64_t memory_lag(struct bus_memory *m, const char *group,
                   const char *topic); /* over all partitions */

/* kill -9: an open transaction stays open until its id is initialised again or memory_expire; the
   partitions wait for memory_expire too, or for the next member that joins or leaves. Frees b. */
void memory_crash(struct bus *b);
/* SIGSTOP: as dead as a crashed one until its next call, with which it comes back as a zombie. */
void memory_freeze(struct bus *b);
void memory_expire(struct bus_memory *m); /* transaction and session time-outs of the dead pass */

enum memory_fault {
    MEMORY_OK,
    MEMORY_REFUSED, /* the call fails and did nothing */
    MEMORY_UNKNOWN, /* the commit is done, but the caller is told of a time-out once */
    MEMORY_FENCED,  /* the producer is fenced, as after a broker's long absence */
};
enum memory_point {
    MEMORY_AT_POLL,
    MEMORY_AT_SEND,
    MEMORY_AT_LANE, /* between the lanes: their turn has changed. Only MEMORY_OK is an answer */
    MEMORY_AT_POSITIONS,
    MEMORY_AT_COMMIT,
    MEMORY_AT_COMMITTED, /* it is done, and nobody was told. Only MEMORY_OK */
    MEMORY_POINTS
};
/* Asked at every boundary of any bus; NULL asks nobody. Other buses may be called before it answers. */
void memory_faults(struct bus_memory *m,
                   enum memory_fault (*ask)(void *ctx, struct bus *b, enum memory_point at),
                   void *ctx);
/* A new generation of the group, whose members divide the partitions anew in another order. */
void memory_rebalance(struct bus_memory *m, const char *group);

#endif
