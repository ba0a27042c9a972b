/*
 * metrics: what people ask a running stage. The loop writes, the probe's thread reads; figures are
 * atomics, so neither waits for the other.
 */
#ifndef DARKROOM_STAGE_METRICS_H
#define DARKROOM_STAGE_METRICS_H

#include "lib/stage/stage.h"

#include <pthread.h>
#include <stdatomic.h>

enum { METRICS_BUCKETS = 18 };

/* Of durations, cumulative only when printed. */
struct histogram {
    _Atomic uint64_t count[METRICS_BUCKETS]; /* the last: beyond every bound */
    _Atomic uint64_t sum_us;
};

struct stage_metrics {
    /* Counted when the hand-over that they belong to is committed. */
    _Atomic uint64_t records, bytes;
    _Atomic uint64_t outputs[STAGE_OUTPUTS], replies;
    _Atomic uint64_t dead_letters[REASON_COUNT];
    _Atomic uint64_t counters[STAGE_COUNTERS];
    _Atomic int64_t event_age_ms; /* of the oldest record of the last hand-over; -1: none yet */
    struct histogram commit, handle;

    _Atomic uint64_t rewinds, backoff_ms, gaps, restarts;
    _Atomic int64_t lag, partitions; /* lag -1: not known */

    _Atomic int64_t beat_us; /* monotonic; of the loop's last sign of life */
    /* Why the stage is not ready, one line; "" when it is. */
    pthread_mutex_t lock;
    char not_ready[240];
};

void metrics_init(struct stage_metrics *m); /* zeroed before; not ready yet */
void metrics_observe(struct histogram *h, int64_t us);
void metrics_beat(struct stage_metrics *m);
void metrics_ready(struct stage_metrics *m, const char *why_not); /* NULL: ready */

/* The whole page in Prometheus' text format, every series with the stage's name. */
void metrics_write(struct stage_metrics *m, const struct stage *s, struct buf *out);

#endif
