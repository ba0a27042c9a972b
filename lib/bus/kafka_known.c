/* kafka_known: a list of the last ones that were asked about. */
#include "lib/bus/kafka_known.h"

#include "lib/base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { CALL_MS = 5000, MISSING_MS = 5000 };

static int64_t now_ms(void) {
    return clock_monotonic_us() / 1000;
}

void known_forget(struct known *t) {
    for (int i = 0; i < KNOWN_TOPICS; i++) free(t->list[i].name);
    *t = (struct known){0};
}

enum err_kind known_ask(struct known *t, rd_kafka_t *rk, struct kafka_link *link, const char *topic,
                        bool *exists, struct err *e) {
    struct known_topic *k = t->list;
    size_t i = 0;
    int partitions;
    rd_kafka_resp_err_t why;
    if (kafka_refuses(link, topic)) return *exists = false, ERR_NONE;
    while (i < KNOWN_TOPICS && !(k[i].name && !strcmp(k[i].name, topic))) i++;
    if (i < KNOWN_TOPICS && (k[i].exists || now_ms() - k[i].asked_ms < MISSING_MS)) {
        *exists = k[i].exists;
        return ERR_NONE;
    }
    if (kafka_partitions(rk, link, topic, CALL_MS, &partitions, &why, e)) return e->kind;
    /* With a partition that is away, an answer could wait for ever. */
    *exists = partitions > 0 && !why;
    if (i == KNOWN_TOPICS) {
        i = t->next++ % KNOWN_TOPICS;
        free(k[i].name);
        k[i].name = mem_copy(topic, strlen(topic));
    }
    k[i].exists = *exists;
    k[i].asked_ms = now_ms();
    return ERR_NONE;
}
