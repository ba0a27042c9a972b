/*
 * reader: follows topics without a group, committed records only. For the command line and for watching.
 */
#ifndef DARKROOM_BUS_READER_H
#define DARKROOM_BUS_READER_H

#include "lib/bus/bus.h"

struct reader;

enum reader_from { READER_BEGINNING, READER_END };

struct reader *reader_open(const struct bus_property *properties, size_t n, const char *topic,
                           enum reader_from from, struct err *e);
/* Contacts the broker and takes positions, so that nothing sent after this returns is missed.
   ERR_AGAIN when it cannot within wait_ms; ERR_FATAL when the topic does not exist. */
enum err_kind reader_ready(struct reader *r, int wait_ms, struct err *e) MUST_CHECK;
/* The next record, waiting at most wait_ms; borrowed until the next call. */
enum err_kind reader_poll(struct reader *r, int wait_ms, struct record *out, bool *got,
                          struct err *e) MUST_CHECK;
/* True when everything up to the end, as it is now, has been given out (open transactions
 * included). */
enum err_kind reader_at_end(struct reader *r, bool *at_end, struct err *e) MUST_CHECK;
/* The topic ends for this reader where it ends now, open transactions included: nothing behind it is
 * given out, and reader_at_end asks no more. */
enum err_kind reader_bound(struct reader *r, struct err *e) MUST_CHECK;
void reader_close(struct reader *r);

#endif
