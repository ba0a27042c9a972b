/*
 * kafka_kept: the last transactions whose commit was asked for, with copies of their records, until their
 * markers are certain. For kafka_torn.c. Internal to lib/bus.
 *
 *     kept_begin      a transaction begins
 *     kept_asked      its commit is asked for   or   kept_dropped    it is given up
 *     kept_told       it was told committed
 *
 * All but kept_begin speak of the one that began last. One thread at a time.
 */
#ifndef DARKROOM_BUS_KAFKA_KEPT_H
#define DARKROOM_BUS_KAFKA_KEPT_H

#include "lib/bus/kafka_conf.h"

enum {
    /* Of two lanes what was asked for last and one under way; and what was completed. */
    KEPT_MOST = 6,
    /* Behind a commit all its markers are written long before; but who was stopped, or behind a network
       that lets nothing through, learns late that a broker died. */
    KEPT_CERTAIN_MS = 60000,
};

struct kept_copy {
    struct record record;   /* partition and offset are where it was put, when delivered */
    bool delivered, stands; /* stands: committed, as kafka_torn.c has seen */
};

struct kept_txn {
    uint32_t serial; /* they rise; 0: none is here */
    int lane;
    bool asked, told;
    int64_t asked_us;
    struct kept_copy *copies;
    size_t count;
    rd_kafka_topic_partition_list_t
        *positions; /* when asked; later those of them that do not hold */
    bool held;      /* there were some, and all hold */
    rd_kafka_consumer_group_metadata_t *group; /* that they were sent with */
    struct arena memory;
};

struct kept {
    struct kept_txn list[KEPT_MOST];
    uint32_t serial; /* of the one that began last */
    /* kafka_torn.c's */
    bool looked;
    int64_t waits_us; /* since when others are waited for; 0: they are not */
    int tries;        /* to complete what is torn */
};

struct kept *kept_open(void);
void kept_free(struct kept *k);

/* On a lane, which is a producer. Copies the records. */
struct kept_txn *kept_begin(struct kept *k, int lane, const struct record *out, size_t n);
/* Copies the positions, which may be none. The one before on its lane is certain. */
void kept_asked(struct kept *k, const rd_kafka_topic_partition_list_t *positions);
void kept_told(struct kept *k);
void kept_dropped(struct kept *k);
/* Takes the group that its positions were sent with. */
void kept_group(struct kept *k, rd_kafka_consumer_group_metadata_t *group);

/* For kafka_produce, of copy i. alone: nothing else is sent with it. */
void *kept_opaque(const struct kept_txn *x, size_t i, bool alone);
/* Of the report of a record with such an opaque. */
bool kept_is_alone(const rd_kafka_message_t *m);
void kept_delivered(struct kept *k, const rd_kafka_message_t *m);

/* What was asked for next after x (NULL: first of all), in the order in which it began; NULL behind the
   last. */
struct kept_txn *kept_after(struct kept *k, const struct kept_txn *x);
/* All is forgotten but what was asked for up to serial `last`, which is lane 0's from now on. */
void kept_only(struct kept *k, uint32_t last);
/* Adds the topics of what was asked for that are not in the list; *list is resized, the names borrowed. */
void kept_topics(struct kept *k, const char ***list, size_t *n);

#endif
