/*
 * kafka_kept: the last transactions whose commit was asked for, kept until their markers are certain, and
 * what is made good of those that a broker's death has torn. Internal to lib/bus.
 *
 *     kept_begin      a transaction begins, with copies of its records
 *     kept_asked      its commit is asked for   or   kept_dropped    it is given up
 *
 * and when what became of them is in doubt, with the producers made anew:
 *
 *     kept_look       before anything is aborted: which positions hold
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
/* The one that began last. Copies the positions, which may be none; the one before on its lane is
   certain. */
void kept_asked(struct kept *k, const rd_kafka_topic_partition_list_t *positions);
void kept_told(struct kept *k); /* and it was told committed */
void kept_dropped(struct kept *k);
/* Takes the group that its positions were sent with. */
void kept_group(struct kept *k, rd_kafka_consumer_group_metadata_t *group);

/* Adds the topics of what is kept that are not in the list; *list is resized, the names borrowed. */
void kept_topics(const struct kept *k, const char ***list, size_t *n);

/* The producers are initialised again, and have aborted nothing yet. Looks once. */
enum err_kind kept_look(struct kept *k, struct kafka_link *link, const struct bus_conf *conf,
                        int wait_ms, struct err *e) MUST_CHECK;
/*
 * Nothing of ours stands open any more. Where a trace is left of what is kept, all of it is made good:
 * what is missing is sent again, by rk, the producer of lane 0, in a transaction of its own (*completed).
 * Where none is left nothing is done, and the input is read again. ERR_AGAIN: ask again; *dead: the
 * producer has to be made anew first.
 */
enum err_kind kept_mend(struct kept *k, rd_kafka_t *rk, struct kafka_link *link,
                        const struct bus_conf *conf, int wait_ms, bool *completed, bool *dead,
                        struct err *e) MUST_CHECK;

#endif
