/*
 * sender: sends records a group at a time, all of a group or none, under a name that one process has at
 * a time. For the command line, where it moves records; a stage sends through its bus.
 */
#ifndef DARKROOM_BUS_SENDER_H
#define DARKROOM_BUS_SENDER_H

#include "lib/bus/bus.h"

struct sender;

/* The name is <group>.<instance>; out (out_count) are the topics that it sends to as a rule: what an
   earlier life left open in them is ended by sender_ready. All are copied. Nothing is contacted yet.
   NULL with ERR_FATAL. */
struct sender *sender_open(const struct bus_property *properties, size_t n, const char *group,
                           const char *instance, const char *const *out, size_t out_count,
                           struct err *e);
/* Takes the name: whoever had it can send no more, and what it left half-sent is gone. ERR_AGAIN
   when the broker does not answer within wait_ms. */
enum err_kind sender_ready(struct sender *s, int wait_ms, struct err *e) MUST_CHECK;
/*
 * Returns when readers see all of them. ERR_BAD (too-long): one is larger than its topic takes;
 * nothing was sent and nothing has changed. ERR_AGAIN: whether they were sent is not known here,
 * as when another process took the name; look, and begin anew.
 */
enum err_kind sender_send(struct sender *s, const struct record *list, size_t n,
                          struct err *e) MUST_CHECK;
void sender_close(struct sender *s); /* NULL is fine */

#endif
