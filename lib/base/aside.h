/*
 * aside: one piece of work at a time in a thread beside the caller's.
 */
#ifndef DARKROOM_BASE_ASIDE_H
#define DARKROOM_BASE_ASIDE_H

#include <pthread.h>
#include <stdbool.h>

struct aside { /* {0}: nothing is under way */
    void (*work)(void *ctx);
    void *ctx;
    pthread_t thread;
    bool running;
};

/* Begins work(ctx), whose memory is the work's own until aside_wait. Where no thread can be started, or
   `beside` is false, it is done before this returns. */
void aside_begin(struct aside *a, bool beside, void (*work)(void *ctx), void *ctx);
void aside_wait(struct aside *a); /* until it is done; nothing under way is fine */

#endif
