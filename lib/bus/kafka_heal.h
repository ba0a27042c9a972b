/*
 * kafka_heal: ends what an earlier life of a producer left open and its coordinator no longer knows
 * of. Internal to lib/bus.
 */
#ifndef DARKROOM_BUS_KAFKA_HEAL_H
#define DARKROOM_BUS_KAFKA_HEAL_H

#include "lib/bus/kafka_conf.h"

/*
 * Adds to `open` the partitions of the n topics in which some transaction stands open now, whoever's
 * it is. seen[i] says whether all of topics[i] could be looked at: it is there, ours to write, and
 * each partition has a leader. rk is a producer of ours.
 */
enum err_kind heal_find(rd_kafka_t *rk, struct kafka_link *link, const struct bus_conf *conf,
                        const char *const *topics, size_t n, int wait_ms,
                        rd_kafka_topic_partition_list_t *open, bool *seen,
                        struct err *e) MUST_CHECK;

/*
 * A transaction that touches the partitions and the positions of the group that reads `in` (NULL:
 * none), and is aborted: whatever the producer's id had open there ends with it. ERR_AGAIN: it may
 * still stand. *dead: the producer has to be made anew; *died_of is why it is fenced, or 0.
 */
enum err_kind heal_end(rd_kafka_t *rk, struct kafka_link *link, const char *group, const char *in,
                       const rd_kafka_topic_partition_list_t *open, int wait_ms, bool *dead,
                       rd_kafka_resp_err_t *died_of, struct err *e) MUST_CHECK;

#endif
