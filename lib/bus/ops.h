/*
 * ops: what an implementation of bus.h brings. Its own struct begins with a struct bus. Internal to
 * lib/bus.
 */
#ifndef DARKROOM_BUS_OPS_H
#define DARKROOM_BUS_OPS_H

#include "lib/bus/bus.h"

struct bus_ops {
    enum err_kind (*poll)(struct bus *b, const struct bus_limits *l, struct records *r,
                          struct err *e);
    enum err_kind (*hand_over)(struct bus *b, const struct record *out, size_t n, struct err *e);
    enum err_kind (*settle)(struct bus *b, int wait_ms, struct err *e);
    bool (*busy)(const struct bus *b);
    enum err_kind (*rewind)(struct bus *b, struct err *e);
    enum err_kind (*alive)(struct bus *b, struct err *e);
    enum err_kind (*mark)(struct bus *b, int32_t partition, const char *note, struct err *e);
    const char *(*note)(const struct bus *b, int32_t partition);
    int64_t (*start)(const struct bus *b, int32_t partition);
    enum err_kind (*watch_poll)(struct bus *b, struct record *r, bool *got, struct err *e);
    enum err_kind (*watch_end)(struct bus *b, bool *at_end, struct err *e);
    enum err_kind (*topic_exists)(struct bus *b, const char *topic, bool *exists, struct err *e);
    void (*state)(const struct bus *b, struct bus_state *s);
    const char *(*cluster)(const struct bus *b);
    void (*close)(struct bus *b);
};

struct bus {
    const struct bus_ops *ops;
};

#endif
