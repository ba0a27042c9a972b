/*
 * topics: every topic in one table. The topics are created from it, README.md's table is printed
 * from it, and a stage names its input and outputs by it.
 */
#ifndef DARKROOM_PROTO_TOPICS_H
#define DARKROOM_PROTO_TOPICS_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

enum topic {
    TOPIC_NONE,
    IMAGES,
    IMAGES_PREPARED,
    IMAGES_STORED,
    BATCHES,
    MODELS_TRAINED,
    MODELS_DEPLOYED,
    PREDICTIONS_REQUESTS,
    PREDICTIONS_RESULTS,
    /* What a training stage refuses. ORDER TOPIC: a dead-letter topic follows in its input's order.
     */
    IMAGES_DLQ,
    IMAGES_PREPARED_DLQ,
    IMAGES_STORED_DLQ,
    BATCHES_DLQ,
    MODELS_TRAINED_DLQ,
    TOPIC_COUNT
};

struct topic_info {
    const char *name;                          /* without the prefix */
    const char *key, *value, *writer, *reader; /* for people */
    const char *content_type;
    const char *type;     /* ce_type of what Darkroom writes there */
    int partitions;       /* to begin with; more may be made */
    int64_t retention_ms; /* -1: for ever */
    bool compacted;
    int64_t max_bytes; /* max.message.bytes of the topic */
};

const struct topic_info *topic_info(enum topic t);

enum { TOPIC_NAME_MAX = 249 }; /* Kafka's own limit */
#define TOPIC_DEFAULT_PREFIX "darkroom."

/* prefix + name; the text is kept for the process's life, so it can be compared by address per
   prefix. One prefix a process: topics_prefix sets it before the first use. ERR_FATAL: a character
   Kafka refuses. */
enum err_kind topics_prefix(const char *prefix, struct err *e) MUST_CHECK;
const char *topic_name(enum topic t);
const char *topics_prefix_now(void);
enum topic topic_dead_letters(enum topic in); /* TOPIC_NONE for a topic that has none */
enum topic topic_of(const char *full_name);   /* TOPIC_NONE for a name that is not ours */

#endif
