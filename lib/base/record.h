/*
 * record: what travels on a topic, in our own terms. Everything in it is borrowed.
 */
#ifndef DARKROOM_BASE_RECORD_H
#define DARKROOM_BASE_RECORD_H

#include "lib/base/bytes.h"

struct header {
    struct bytes name, value; /* value absent: a Kafka header with a null value */
};

struct record {
    const char *topic; /* full name, with the prefix */
    struct bytes key, value;
    const struct header *headers;
    size_t header_count;
    int64_t time_ms; /* of the record, by its producer or the broker; on sending: < 0 is "now" */
    /* where it was read; unused on sending */
    int32_t partition;
    int64_t offset;
};

/* Where a record stands, for ever: a topic made anew under its name repeats all but the time. */
struct coordinates {
    const char *cluster, *topic;
    int32_t partition;
    int64_t offset, time_ms;
};

/* Headers may be repeated and have any bytes in them: the first of the name counts, absent when
 * none. */
static inline struct bytes record_header(const struct record *r, const char *name) {
    for (size_t i = 0; i < r->header_count; i++)
        if (bytes_is(r->headers[i].name, name)) return r->headers[i].value;
    return (struct bytes){0};
}

#endif
