/*
 * metrics: what people ask a running stage. The loop writes, the probe's thread reads; figures are
 * atomics, so neither waits for the other.
 */
#ifndef DARKROOM_STAGE_METRICS_H
#define DARKROOM_STAGE_METRICS_H

#include "lib/stage/stage.h"

#include <pthread.h>
#include <stdatomic.h>

enum { METRICS_BUCKETS = 18, METRICS_MODELS = 256 };

/* Of durations, cumulative only when printed. */
struct histogram {
    _Atomic uint64_t count[METRICS_BUCKETS]; /* the last: beyond every bound */
    _Atomic uint64_t sum_us;
};

/* A count of one version of a model; version 0: of the model. */
struct model_count {
    char model[EVENT_MODEL_MAX + 1];
    int64_t version;
    uint64_t n, turn; /* turn: when it was counted last, for what to drop */
};

/* What the stage shows of its models, one row each. */
struct shown {
    struct {
        char model[EVENT_MODEL_MAX + 1];
        double values[STAGE_GAUGES];
    } rows[METRICS_MODELS];
    size_t count, left_out; /* left_out: models beyond */
};

struct stage_metrics {
    /* Counted when the hand-over that they belong to is committed. */
    _Atomic uint64_t records, bytes;
    _Atomic uint64_t outputs[STAGE_OUTPUTS], replies;
    _Atomic uint64_t refused[REASON_COUNT];
    _Atomic uint64_t counters[STAGE_COUNTERS];
    _Atomic int64_t event_age_ms; /* of the oldest record of the last hand-over; -1: none yet */
    struct histogram commit, handle, latency;

    _Atomic uint64_t rewinds, backoff_ms, gaps, restarts;
    _Atomic int64_t lag, partitions; /* lag -1: not known */

    _Atomic int64_t beat_us; /* monotonic; of the loop's last sign of life */
    /* Why the stage is not ready, one line; "" when it is. */
    pthread_mutex_t lock; /* of all that follows */
    char not_ready[240];
    struct model_count by_model[METRICS_MODELS];
    size_t by_model_count;
    uint64_t turn;
    struct shown shown;

    /* The loop's alone, without the lock. */
    struct shown showing; /* being filled */
    bool said_too_many;

    /* Fixed after start. */
    int64_t began_ms; /* when the process began, by the clock of then */
};

void metrics_init(struct stage_metrics *m); /* zeroed before; not ready yet */
void metrics_observe(struct histogram *h, int64_t us);
void metrics_beat(struct stage_metrics *m);
void metrics_ready(struct stage_metrics *m, const char *why_not); /* NULL: ready */
/* Adds to the model's series; the one that was not counted for longest makes room. */
void metrics_count_model(struct stage_metrics *m, const struct model_count *c);
/* What the stage shows now, in the place of what it has shown. Nobody waits for the stage meanwhile: its
   `show` fills a page of its own. */
void metrics_show(struct stage_metrics *m, const struct stage *s, const void *state);

/* The whole page in Prometheus' text format, every series with the stage's name. */
void metrics_write(struct stage_metrics *m, const struct stage *s, struct buf *out);

#endif
