/*
 * parent: a small process that outlives the worker and watches it. It has no threads and opens
 * nothing, so it is still there when the worker dies of a record, of the memory limit, or of a
 * mistake.
 */
#ifndef DARKROOM_STAGE_PARENT_H
#define DARKROOM_STAGE_PARENT_H

#include "lib/stage/poison.h"

/*
 * Runs work(ctx) in a child until it exits with 0 (done) or 2 (a wrong setting), or until this
 * process is told to stop, which is passed on; every other end is followed by another child, after
 * 100 ms to 5 s. What a dying child had in hand becomes suspect in `hands`. Returns the exit code.
 * The child exits with what `work` returns, and dies with this process.
 */
int parent_watch(struct stage_hands *hands, int (*work)(void *ctx), void *ctx);

#endif
