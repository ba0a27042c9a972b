/*
 * kafka_kept: the last transactions that were told committed, kept until their markers are certain, and
 * what is made good of those that a broker's death has torn. Internal to lib/bus.
 *
 *     kept_begin      a transaction begins, with copies of its records
 *     kept_told       it is told committed   or   kept_dropped    it is not
 *
 * and when what was told is in doubt:
 *
 *     kept_look       before anything is aborted: which markers are written
 *     kept_mend       behind the abort of what stood open
 *
 * One thread at a time.
 */
#ifndef DARKROOM_BUS_KAFKA_KEPT_H
#define DARKROOM_BUS_KAFKA_KEPT_H

#include "lib/bus/kafka_conf.h"

struct kept;
struct kept *kept_open(void);
void kept_free(struct kept *k);

/* On a lane, which is a producer; the one before on it is over. */
void kept_begin(struct kept *k, int lane, const struct record *out, size_t n);
/* For kafka_produce, of record i of the transaction that began last. */
void *kept_opaque(const struct kept *k, size_t i);
/* Of a report with such an opaque: whether the record was the only one of its transaction. */
bool kept_is_alone(const rd_kafka_message_t *m);
/* Where the record stands. */
void kept_delivered(struct kept *k, const rd_kafka_message_t *m);
/* Whether a record of the transaction that began last has reached the broker, which says that the one
   before on its lane is over for its coordinator. */
bool kept_is_there(const struct kept *k);
/* The one that began last. Copies the positions, which may be none; the one before on its lane is certain. */
void kept_told(struct kept *k, const rd_kafka_topic_partition_list_t *positions);
void kept_dropped(struct kept *k);
/* Takes the group that the positions were sent with, or NULL. */
void kept_group(struct kept *k, rd_kafka_consumer_group_metadata_t *group);

/* Adds the topics of what was told that are not in the list; *list is resized, the names borrowed. */
void kept_topics(const struct kept *k, const char ***list, size_t *n);

/*
 * Of what was told on the lane, once. Its producer rk is initialised again, or has a transaction that
 * kept_is_there; nothing has been aborted by either.
 */
enum err_kind kept_look(struct kept *k, int lane, rd_kafka_t *rk, struct kafka_link *link,
                        const struct bus_conf *conf, int wait_ms, struct err *e) MUST_CHECK;
/*
 * All of it has been looked at, and nothing of it stands open any more. Where a trace is left of what
 * was told, all of it is made good: what is missing is sent again, by rk in a transaction of its own.
 * Where none is left nothing is done, and the input is read again. ERR_AGAIN: ask again; *dead: the
 * producer has to be made anew first.
 */
enum err_kind kept_mend(struct kept *k, rd_kafka_t *rk, struct kafka_link *link, int wait_ms,
                        bool *dead, struct err *e) MUST_CHECK;

#endif
