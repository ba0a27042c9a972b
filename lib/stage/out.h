/*
 * out: what one call of handle gives out: copied records and counts, kept until the hand-over has
 * them.
 */
#ifndef DARKROOM_STAGE_OUT_H
#define DARKROOM_STAGE_OUT_H

#include "lib/stage/metrics.h"
#include "lib/stage/stage.h"

/* What is added to the metrics when the hand-over is committed. {0} is empty. */
struct tally {
    uint64_t records, bytes, outputs[STAGE_OUTPUTS], replies;
    uint64_t refused[REASON_COUNT], counters[STAGE_COUNTERS];
    int64_t oldest_ms; /* time of the oldest record; -1: there is none */

    struct {
        int64_t *times_ms; /* of the records */
        struct model_count *by_model;
        size_t times_cap, by_model_count, by_model_cap;
    } lists; /* their memory is used again */
};

void tally_free(struct tally *t);

struct out {
    const struct stage *stage;
    const struct stage_conf *conf;
    struct bus *bus;
    struct stage_metrics *metrics;
    int attempts; /* of these inputs, counted from 1 */

    struct arena arena;
    struct record *list; /* full topic names; everything in the arena */
    size_t count, cap;
    struct tally tally;
    struct err refused; /* why the last dead letter was written; ERR_NONE: none was */
};

void out_begin(struct out *o, const struct record *in, size_t n, int attempts);
/* The last resort for a dead letter that is too long itself: the reason and where the record
 * stands. */
void out_bare_letter(struct out *o, const struct record *r, const struct err *why);
void out_free(struct out *o);

#endif
