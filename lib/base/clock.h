/*
 * clock: the only source of time. Simulation sets it; everything else reads the system's.
 */
#ifndef DARKROOM_BASE_CLOCK_H
#define DARKROOM_BASE_CLOCK_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

#include <stdint.h>

int64_t clock_now_ms(void);       /* wall clock, ms since 1970 UTC */
int64_t clock_monotonic_us(void); /* never goes back; for intervals */
void clock_sleep_ms(int64_t ms);  /* in simulation it only moves the time on */
/* From now on time stands still at wall_ms until clock_sleep_ms or another call moves it; wall_ms <
   0 gives the system's clocks back. */
void clock_simulate(int64_t wall_ms);

enum { CLOCK_RFC3339_LEN = 24 };                                /* "2026-11-23T13:40:00.123Z" */
void clock_format(int64_t ms, char out[CLOCK_RFC3339_LEN + 1]); /* UTC, milliseconds */
/* RFC 3339 with any offset and fraction into ms since 1970; ERR_BAD (bad-event) when it is not one.
 */
enum err_kind clock_parse(struct bytes text, int64_t *ms, struct err *e) MUST_CHECK;

#endif
