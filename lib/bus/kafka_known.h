/*
 * kafka_known: whether topics that somebody outside named are there, asked of the broker and
 * remembered. One that does not take our records is as good as none, where one of our own has to be
 * put right. Internal to lib/bus.
 */
#ifndef DARKROOM_BUS_KAFKA_KNOWN_H
#define DARKROOM_BUS_KAFKA_KNOWN_H

#include "lib/bus/kafka_conf.h"

enum { KNOWN_TOPICS = 64 };

struct known {
    struct known_topic {
        char *name;
        bool exists;
        int64_t asked_ms;
    } list[KNOWN_TOPICS];
    size_t next; /* the one that makes room */
};

/* *exists: the topic is there and takes our records. What is there is remembered until
   known_forget, what is not for some seconds. ERR_AGAIN: the broker does not answer. */
enum err_kind known_ask(struct known *t, rd_kafka_t *rk, struct kafka_link *link, const char *topic,
                        bool *exists, struct err *e) MUST_CHECK;
void known_forget(struct known *t);

#endif
