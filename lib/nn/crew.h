/*
 * crew: threads that do one piece of work together, again and again.
 */
#ifndef DARKROOM_NN_CREW_H
#define DARKROOM_NN_CREW_H

#include "lib/base/err.h"

enum { CREW_MOST = 256 };

struct crew;

/* threads 1..CREW_MOST, the caller's among them. NULL and ERR_FATAL when one cannot be started. */
struct crew *crew_make(int threads, struct err *e) MUST_CHECK;
void crew_free(struct crew *c); /* NULL is fine */
int crew_threads(const struct crew *c);

/* work(ctx, number) on every thread at once; number 0 is the caller's. Returns when all are done. */
void crew_do(struct crew *c, void (*work)(void *ctx, int number), void *ctx);
/* Within work: waits until all threads have come to it. */
void crew_meet(struct crew *c);

#endif
