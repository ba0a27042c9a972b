/*
 * event: CloudEvents 1.0 in Kafka's binary content mode: attributes are `ce_*` headers,
 * `content-type` is the value's media type. Liberal in: a record without any of them is a valid
 * event (a bare PNG with a `label` header, or with none). Exact out: event_write gives every
 * required attribute.
 */
#ifndef DARKROOM_PROTO_EVENT_H
#define DARKROOM_PROTO_EVENT_H

#include "lib/base/record.h"
#include "proto/topics.h"

enum {
    EVENT_ID_MAX = 256,    /* bytes */
    EVENT_LABEL_MAX = 128, /* bytes */
    EVENT_MODEL_MAX = 64,
};
#define EVENT_DEFAULT_MODEL "default"

struct event {
    struct bytes id;     /* ce_id, else the key, else the SHA-256 of the value */
    struct bytes source; /* ce_source, else the topic's name without prefix */
    struct bytes type;   /* on writing */
    struct bytes
        subject; /* ce_subject, else the `filename` header: the file's name; absent when none */
    struct bytes model;        /* ce_model, else "default" */
    struct bytes label;        /* ce_label, else the `label` header; absent when none */
    struct bytes shape;        /* ce_shape of a tensor: "28,28,1"; absent when none */
    struct bytes content_type; /* on writing */
    int64_t time_ms;           /* ce_time, else the record's */
    int64_t expires_ms;        /* ce_expirytime; -1: never */
};

/*
 * Reads and checks the attributes; texts are borrowed from the record or live in `a`. On ERR_BAD
 * (bad-id, bad-label, bad-model, bad-event) what could be read is filled in, cut to its largest
 * size, so that a refusal can be addressed.
 */
enum err_kind event_read(const struct record *r, struct arena *a, struct event *ev,
                         struct err *e) MUST_CHECK;

/*
 * Fills out->headers from the event (in `a`), and carries the trace and correlation headers of
 * `from` (NULL: none) untouched, but not those of more than 8 KiB: an answer stays small. The rest
 * of `out` is the caller's.
 */
void event_write(const struct event *ev, const struct record *from, struct arena *a,
                 struct record *out);

/* [a-z0-9][a-z0-9._-]*, at most EVENT_MODEL_MAX. */
bool event_model_is_valid(struct bytes model);
/* Where a request wants its answer: `reply-to`, else Spring's `kafka_replyTopic`; absent when none.
 */
struct bytes event_reply_to(const struct record *r);

/* "28,28,1" to numbers; ERR_BAD (bad-shape). */
enum err_kind event_shape(struct bytes shape, int *height, int *width, int *channels,
                          struct err *e) MUST_CHECK;

#endif
