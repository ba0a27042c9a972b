/*
 * kafka_txn: one or two transactional producers in turn, and the thread that commits. Internal to
 * lib/bus.
 *
 *     txn_ready    the producers are initialised, whatever stood open under their ids is aborted
 *     txn_send     a transaction begins on the producer whose turn it is, and takes the records
 *     txn_commit   positions and commit go to the thread; returns at once
 *     txn_wait     the outcome, once; before it nothing may be sent
 */
#ifndef DARKROOM_BUS_KAFKA_TXN_H
#define DARKROOM_BUS_KAFKA_TXN_H

#include "lib/bus/kafka_conf.h"

struct txns;

/* conf is borrowed for as long as the txns live. NULL with ERR_FATAL for a wrong property. */
struct txns *txn_open(const struct bus_conf *conf, struct kafka_link *link, struct err *e);
/* Makes and initialises what is not, all at once; when it returns ERR_NONE every lane is ready. */
enum err_kind txn_ready(struct txns *t, int wait_ms, struct err *e) MUST_CHECK;
/* ERR_BAD: nothing was sent. ERR_AGAIN: what was sent has to be aborted. */
enum err_kind txn_send(struct txns *t, const struct record *out, size_t n,
                       struct err *e) MUST_CHECK;
/* Takes positions and group. */
void txn_commit(struct txns *t, rd_kafka_topic_partition_list_t *positions,
                rd_kafka_consumer_group_metadata_t *group);
void txn_abort(struct txns *t);      /* what txn_send began: goes to the thread too */
bool txn_busy(const struct txns *t); /* an outcome is to be fetched */
/* What was told of the last commit may not be so: a broker died right behind it. txn_ready makes the
   producers anew then, and ends what stands open. */
bool txn_in_doubt(struct txns *t);
void txn_distrust(struct txns *t); /* the same, whatever is known; nothing is under way */

enum txn_outcome { TXN_BUSY, TXN_COMMITTED, TXN_ABORTED };
/*
 * wait_ms < 0: as long as it takes. TXN_COMMITTED: *positions (to be destroyed) are committed,
 * which took *us. TXN_ABORTED: nothing is, and e says why (ERR_AGAIN).
 */
enum txn_outcome txn_wait(struct txns *t, int wait_ms, rd_kafka_topic_partition_list_t **positions,
                          int64_t *us, struct err *e);
rd_kafka_t *txn_handle(struct txns *t);
/* Gives what is under way wait_ms, aborts the rest. */
void txn_close(struct txns *t, int wait_ms);

#endif
