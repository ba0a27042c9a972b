/*
 * publisher: sends records and knows of each whether the broker has it. For the command line; a stage
 * sends through its bus.
 */
#ifndef DARKROOM_BUS_PUBLISHER_H
#define DARKROOM_BUS_PUBLISHER_H

#include "lib/bus/bus.h"

struct publisher;

/* Idempotent, acks=all, murmur2. `failed` is called from publisher_send and publisher_flush for a
   record that was not accepted for good, with the tag it was sent with. */
struct publisher *publisher_open(const struct bus_property *properties, size_t n,
                                 void (*failed)(void *ctx, uint64_t tag, const struct err *why),
                                 void *ctx, struct err *e);
/* Copied. Waits while the queue is full; ERR_BAD (too-long) at once for what the broker would
 * refuse. */
enum err_kind publisher_send(struct publisher *p, const struct record *r, uint64_t tag,
                             struct err *e) MUST_CHECK;
uint64_t publisher_acknowledged(const struct publisher *p);
void publisher_poll(struct publisher *p, int wait_ms); /* lets reports in */
/* ERR_AGAIN when some are not acknowledged after wait_ms. */
enum err_kind publisher_flush(struct publisher *p, int wait_ms, struct err *e) MUST_CHECK;
void publisher_close(struct publisher *p);

#endif
