/*
 * kafka_torn: makes good what a broker's death has torn of the last commits. Internal to lib/bus.
 */
#ifndef DARKROOM_BUS_KAFKA_TORN_H
#define DARKROOM_BUS_KAFKA_TORN_H

#include "lib/bus/kafka_kept.h"

/* Which positions of what is kept hold. The producers are initialised again, and have aborted nothing yet.
   Looks once. */
enum err_kind torn_look(struct kept *k, struct kafka_link *link, const struct bus_conf *conf,
                        int wait_ms, struct err *e) MUST_CHECK;
/*
 * Nothing of ours stands open any more. Where a trace is left of what is kept, all of it is made good:
 * what is missing is sent again, by rk, the producer of lane 0, in a transaction of its own (*completed).
 * Where none is left nothing is done, and the input is read again. ERR_AGAIN: ask again; *dead: the
 * producer has to be made anew first.
 */
enum err_kind torn_mend(struct kept *k, rd_kafka_t *rk, struct kafka_link *link,
                        const struct bus_conf *conf, int wait_ms, bool *completed, bool *dead,
                        struct err *e) MUST_CHECK;

#endif
