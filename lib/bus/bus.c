/*
 * bus.c: every call goes to the implementation that opened the bus. Nothing is decided here.
 */
#include "lib/bus/ops.h"

enum err_kind bus_poll(struct bus *b, const struct bus_limits *l, struct records *r,
                       struct err *e) {
    return b->ops->poll(b, l, r, e);
}

enum err_kind bus_hand_over(struct bus *b, const struct record *out, size_t n, struct err *e) {
    return b->ops->hand_over(b, out, n, e);
}

enum err_kind bus_settle(struct bus *b, int wait_ms, struct err *e) {
    return b->ops->settle(b, wait_ms, e);
}

bool bus_busy(const struct bus *b) {
    return b->ops->busy(b);
}

enum err_kind bus_rewind(struct bus *b, struct err *e) {
    return b->ops->rewind(b, e);
}

enum err_kind bus_alive(struct bus *b, struct err *e) {
    return b->ops->alive(b, e);
}

enum err_kind bus_mark(struct bus *b, int32_t partition, const char *note, struct err *e) {
    return b->ops->mark(b, partition, note, e);
}

const char *bus_note(const struct bus *b, int32_t partition) {
    return b->ops->note(b, partition);
}

int64_t bus_start(const struct bus *b, int32_t partition) {
    return b->ops->start(b, partition);
}

enum err_kind bus_watch_poll(struct bus *b, struct record *r, bool *got, struct err *e) {
    return b->ops->watch_poll(b, r, got, e);
}

enum err_kind bus_watch_end(struct bus *b, bool *at_end, struct err *e) {
    return b->ops->watch_end(b, at_end, e);
}

void bus_state(const struct bus *b, struct bus_state *s) {
    b->ops->state(b, s);
}

enum err_kind bus_topic_exists(struct bus *b, const char *topic, bool *exists, struct err *e) {
    return b->ops->topic_exists(b, topic, exists, e);
}

const char *bus_cluster(const struct bus *b) {
    return b->ops->cluster(b);
}

void bus_close(struct bus *b) {
    if (b) b->ops->close(b);
}
