/*
 * kafka_ack: at-least-once sending. Records go out at once; the positions behind them come back, in
 * order, when all that was sent before them is acknowledged. Internal to lib/bus.
 */
#ifndef DARKROOM_BUS_KAFKA_ACK_H
#define DARKROOM_BUS_KAFKA_ACK_H

#include "lib/bus/kafka_conf.h"

struct acks;

struct acks *ack_open(const struct bus_conf *conf, struct kafka_link *link,
                      struct err *e); /* conf borrowed */
void ack_close(struct acks *a);
/* Takes positions. ERR_BAD: nothing was sent. ERR_AGAIN: ack_forget is next. */
enum err_kind ack_send(struct acks *a, const struct record *out, size_t n,
                       rd_kafka_topic_partition_list_t *positions, struct err *e) MUST_CHECK;
void ack_serve(struct acks *a, int wait_ms); /* lets reports in */
/* Positions that may be committed now, to be destroyed; NULL when there are none. ERR_AGAIN in e
   (else cleared) when a record was not accepted. */
rd_kafka_topic_partition_list_t *ack_take(struct acks *a, struct err *e);
bool ack_busy(const struct acks *a);
/* What was sent may still arrive; its positions are never given out. A dead producer is made anew.
 */
enum err_kind ack_forget(struct acks *a, struct err *e) MUST_CHECK;
rd_kafka_t *ack_handle(struct acks *a);

#endif
