/*
 * kafka_pile: messages that librdkafka has given us, and the records in them, in order. A message is
 * ours until it is given back: one that is held hangs the consumer's close. Internal to lib/bus.
 */
#ifndef DARKROOM_BUS_KAFKA_PILE_H
#define DARKROOM_BUS_KAFKA_PILE_H

#include "lib/base/record.h"

#include <librdkafka/rdkafka.h>

struct pile {
    struct record *records;
    rd_kafka_message_t **messages;
    size_t from, count, cap; /* from: those before it have been moved on */
};

/* Takes m and r's headers. */
void pile_add(struct pile *p, struct record r, rd_kafka_message_t *m);
/* Moves all of `from` behind what is in p. */
void pile_move(struct pile *p, struct pile *from);
bool pile_is_empty(const struct pile *p);
void pile_clear(struct pile *p); /* gives everything back */
void pile_free(struct pile *p);

#endif
