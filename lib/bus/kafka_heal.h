/*
 * kafka_heal: ends what an earlier life of a producer left open and its coordinator no longer knows
 * of. Internal to lib/bus.
 */
#ifndef DARKROOM_BUS_KAFKA_HEAL_H
#define DARKROOM_BUS_KAFKA_HEAL_H

#include "lib/bus/kafka_conf.h"

/*
 * Adds to `open` the partitions of these topics in which some transaction stands open now, whoever's
 * it is. rk is a producer of ours. Topics that do not exist, or are not ours to see, have none.
 */
enum err_kind heal_find(rd_kafka_t *rk, struct kafka_link *link, const struct bus_conf *conf,
                        const char *const *topics, size_t n, int wait_ms,
                        rd_kafka_topic_partition_list_t *open, struct err *e) MUST_CHECK;

/*
 * A transaction that touches the partitions and, when conf names an input, the group's positions, and
 * is aborted: whatever the producer's id had open there ends with it. ERR_AGAIN: it may still stand;
 * *broken: the producer is of no use any more.
 */
enum err_kind heal_end(rd_kafka_t *rk, struct kafka_link *link, const struct bus_conf *conf,
                       const rd_kafka_topic_partition_list_t *open, int wait_ms, bool *broken,
                       struct err *e) MUST_CHECK;

#endif
