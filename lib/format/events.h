/*
 * events: TensorBoard's event files, in memory (protobuf-c behind it; tensorboard.proto has the
 * messages). A file begins with events_begin; every other call appends one event. Tags are unique
 * within a run, which is a folder of such files; a '/' in a tag makes groups on TensorBoard's page.
 */
#ifndef DARKROOM_FORMAT_EVENTS_H
#define DARKROOM_FORMAT_EVENTS_H

#include "lib/base/bytes.h"

struct event_at {
    int64_t time_ms; /* wall clock, ms since 1970 */
    int64_t step;
};

struct event_scalar {
    const char *tag;
    double value; /* kept as a float; a NAN is left out */
};

void events_begin(struct buf *file, int64_t time_ms);
void events_scalars(struct buf *file, const struct event_at *at, const struct event_scalar *list,
                    size_t n);
/* width and height are pixels; channels 1 (grey) or 3 (RGB). */
void events_picture(struct buf *file, const struct event_at *at, const char *tag, int width,
                    int height, int channels, struct bytes png);

/* The rows of a curve's table, each a value a threshold; ORDER of the pr_curves plugin. */
enum curve_row {
    CURVE_TRUE_POSITIVES,
    CURVE_FALSE_POSITIVES,
    CURVE_TRUE_NEGATIVES,
    CURVE_FALSE_NEGATIVES,
    CURVE_PRECISION,
    CURVE_RECALL,
    CURVE_ROWS
};
/* A precision-recall curve: table is (CURVE_ROWS, thresholds) row-major, the i-th threshold is
   i / (thresholds - 1). */
void events_curve(struct buf *file, const struct event_at *at, const char *tag, const char *title,
                  const char *description, const float *table, int thresholds);

#endif
