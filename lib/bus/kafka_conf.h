/*
 * kafka_conf: what every handle of librdkafka here has in common: properties, the broker's troubles
 * in one place, and records to and from messages. Internal to lib/bus/kafka*.
 */
#ifndef DARKROOM_BUS_KAFKA_CONF_H
#define DARKROOM_BUS_KAFKA_CONF_H

#include "lib/bus/bus.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>

/* A topic that refused a record, and would refuse it again. */
struct kafka_refusal {
    char *topic; /* NULL: none */
    rd_kafka_resp_err_t code;
    size_t bytes;     /* of the record */
    bool alone;       /* nothing else was sent with it: it is not the batch that is too large */
    int64_t until_us; /* then it is tried again */
};

enum { KAFKA_REFUSALS = 16 };

/* What the handles of one bus know of the brokers; it outlives them, and is the opaque of their
 * callbacks. */
struct kafka_link {
    void *owner;
    char *brokers;        /* bootstrap.servers */
    char *user;           /* sasl.username, or NULL */
    bool scram;           /* sasl.mechanism */
    pthread_mutex_t lock; /* of what follows: librdkafka's threads write it */
    char cause[160];      /* why the last connection failed, "" when none did */
    bool down;            /* no broker can be reached, as far as is known */
    int64_t failed_us;    /* kafka_failed_us */
    struct kept *kept;    /* of its transactional producers; NULL: it has none */
    rd_kafka_resp_err_t
        undelivered; /* the first record since kafka_undelivered that was not accepted */
    struct kafka_refusal refusals[KAFKA_REFUSALS];
    size_t next_refusal;
};

void kafka_link_open(struct kafka_link *link, void *owner, const struct bus_property *properties,
                     size_t n);
void kafka_link_close(struct kafka_link *link);
bool kafka_is_down(struct kafka_link *link);
void kafka_is_up(struct kafka_link *link); /* an answer came */
/* When (of clock_monotonic_us) a producer first lost a connection since kafka_forget_failure; 0: none
   did. */
int64_t kafka_failed_us(struct kafka_link *link);
void kafka_forget_failure(struct kafka_link *link);
/* A record was not accepted. alone: nothing else was sent with it. */
void kafka_not_delivered(struct kafka_link *link, const char *topic, size_t bytes, bool alone,
                         rd_kafka_resp_err_t code);
/* The error of the first record that was not delivered, once. */
rd_kafka_resp_err_t kafka_undelivered(struct kafka_link *link);
/* ERR_AGAIN: records could not be sent for this; names the topic that did not take them, if one is
   known. */
enum err_kind kafka_again_sending(struct kafka_link *link, struct err *e, rd_kafka_resp_err_t code);
/* The topic has lately refused a record for anything but its size: what we may, or what the record
 * is. */
bool kafka_refuses(struct kafka_link *link, const char *topic);

/* ERR_AGAIN: the topic is not there or not ours to see, and what to do. */
enum err_kind kafka_no_topic(struct kafka_link *link, const char *topic, rd_kafka_resp_err_t why,
                             struct err *e);
/* Of a record: it will be refused again. */
bool kafka_is_refusal(rd_kafka_resp_err_t code);
/* What an administrator has to permit: waiting alone does not help. */
bool kafka_is_forbidden(rd_kafka_resp_err_t code);
/* ERR_AGAIN: what was done, and why it failed; the broker and the cause when it cannot be reached.
 */
enum err_kind kafka_again(struct kafka_link *link, struct err *e, const char *what,
                          rd_kafka_resp_err_t code);
enum err_kind kafka_again_error(struct kafka_link *link, struct err *e, const char *what,
                                rd_kafka_error_t *error);

/* A property that has to keep its value, or (value NULL) is not the user's to set. */
struct kafka_rule {
    const char *name, *value;
};

/*
 * `defaults`, then the user's properties: those that are for the other kind of client are left out.
 * Both lists end with a NULL name. NULL with ERR_FATAL, which names the property.
 */
rd_kafka_conf_t *kafka_conf_make(struct kafka_link *link, rd_kafka_type_t type,
                                 const struct bus_property *defaults,
                                 const struct bus_property *properties, size_t n,
                                 const struct kafka_rule *rules, struct err *e);
/* An idempotent producer that waits linger_ms for a batch to fill. */
rd_kafka_conf_t *kafka_producer_conf(struct kafka_link *link, const struct bus_property *properties,
                                     size_t n, int64_t queue_bytes, int linger_ms, struct err *e);
/* A consumer that follows a topic without a group. */
rd_kafka_conf_t *kafka_follower_conf(struct kafka_link *link, const struct bus_property *properties,
                                     size_t n, bool committed_only, struct err *e);
/* Takes conf. NULL with ERR_FATAL. */
rd_kafka_t *kafka_make(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *e);
void kafka_set(rd_kafka_conf_t *conf, const char *name,
               const char *value); /* one of ours: it is right */

/* Bytes of keys, values and headers. */
size_t kafka_payload(const struct record *r);
size_t kafka_message_payload(const rd_kafka_message_t *m);

/* Copies; _QUEUE_FULL when there is no room now. RD_KAFKA_PARTITION_UA: the one of its key. */
rd_kafka_resp_err_t kafka_produce(rd_kafka_t *rk, const struct record *r, int32_t partition,
                                  void *opaque);

/* Borrows from the message; headers are malloc'd, for the caller to free (NULL when there are
 * none). */
struct record kafka_record(const rd_kafka_message_t *m, const char *topic, struct header **headers);

/* Topics that were produced to, and the largest record that each takes. */
struct kafka_limits {
    struct kafka_limit {
        char *topic;
        size_t bytes;
        bool met; /* for kafka_txn */
    } * list;
    size_t count;
};
/* ERR_BAD (too-long) when the broker would refuse r, or has just done so; asks it once a topic.
   ERR_AGAIN when it does not answer, or has no such topic. alone: nothing else will be sent with r.
 */
enum err_kind kafka_check_size(struct kafka_limits *limits, rd_kafka_t *rk, struct kafka_link *link,
                               const struct record *r, bool alone, struct err *e) MUST_CHECK;
/* How many partitions the topic has; 0, and *why, when it is not there or not ours to see. *why is
   LEADER_NOT_AVAILABLE where one of them has no leader. */
enum err_kind kafka_partitions(rd_kafka_t *rk, struct kafka_link *link, const char *topic,
                               int wait_ms, int *count, rd_kafka_resp_err_t *why,
                               struct err *e) MUST_CHECK;
/* Asks for the topic's leaders now: a producer that is surprised by a topic takes a second to find
 * them. */
void kafka_learn_topic(rd_kafka_t *rk, const char *topic);
void kafka_limits_free(struct kafka_limits *limits);

#endif
