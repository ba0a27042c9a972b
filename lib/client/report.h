/*
 * report: a version's report for people: calibration, each class, and what was taken for what.
 */
#ifndef DARKROOM_CLIENT_REPORT_H
#define DARKROOM_CLIENT_REPORT_H

#include "lib/learn/report.h"

/*
 * Appends text. Up to MATRIX_CLASSES classes have a confusion matrix, more the pairs that are
 * confused most; up to SHOWN_CLASSES are in the order of their labels, more with the most wrong
 * answers first, and of the rest there is a count.
 */
enum { MATRIX_CLASSES = 16, SHOWN_CLASSES = 60, SHOWN_PAIRS = 20 };
void report_print(const struct version_report *r, struct buf *out);

#endif
