/*
 * report: what can be drawn from the answers of a version: the confusion matrix, the worst
 * mistakes, precision against recall.
 */
#ifndef DARKROOM_EXPORT_REPORT_H
#define DARKROOM_EXPORT_REPORT_H

#include "lib/export/answers.h"
#include "lib/format/events.h"

enum { CONFUSION_MOST_CLASSES = 512, CURVE_THRESHOLDS = 101, CURVE_ALL_CLASSES = -1 };

/* A row a label, a column an answer: blue is the share of a label's images that were answered
   rightly, red (the root of it, since it is small) that were taken for another. Empty when there is
   nothing to show or there are more classes than CONFUSION_MOST_CLASSES. */
void report_confusion(const struct answers *a, struct image *out);
/* The worst first, under each its label and, in red, the answer, with their probabilities; words when
   there is none. Empty without an image. */
void report_mistakes(const struct answers *a, struct image *out);
/*
 * Answers of a probability at or above a threshold count as given: table (CURVE_ROWS,
 * CURVE_THRESHOLDS) of one class against the rest or, for CURVE_ALL_CLASSES, of every pair of image
 * and class (the micro-average).
 */
void report_curve(const struct answers *a, int class, float *table);

#endif
