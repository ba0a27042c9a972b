/*
 * figures: how good what serves is, as numbers to watch.
 */
#ifndef DARKROOM_LEARN_FIGURES_H
#define DARKROOM_LEARN_FIGURES_H

#include "lib/base/figure.h"
#include "proto/messages.h"

enum { FIGURES = 12 };

extern const struct figure figures[FIGURES + 1];

/* In the order of `figures`; NAN: not measured. */
void figures_of(const struct deployed *m, double out[FIGURES]);

#endif
