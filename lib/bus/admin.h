/*
 * admin: what the command line asks and tells a cluster. Never destructive.
 */
#ifndef DARKROOM_BUS_ADMIN_H
#define DARKROOM_BUS_ADMIN_H

#include "lib/bus/bus.h"

struct admin;

struct admin *admin_open(const struct bus_property *properties, size_t n, struct err *e);
void admin_close(struct admin *a);

struct admin_topic {
    const char *name;
    int partitions, replicas;           /* replicas -1: the broker's default */
    const struct bus_property *configs; /* "cleanup.policy", "retention.ms", … */
    size_t config_count;
    /* filled in by admin_create and admin_inspect */
    bool exists, created;
    int actual_partitions, actual_replicas;
    struct err why; /* of this topic; ERR_NONE when fine */
};
/* Creates those that do not exist; leaves those that do as they are. */
enum err_kind admin_create(struct admin *a, struct admin_topic *topics, size_t n,
                           struct err *e) MUST_CHECK;
/* Looks only; *different is called for every config whose value on the broker is another. */
enum err_kind admin_inspect(struct admin *a, struct admin_topic *topics, size_t n,
                            void (*different)(void *ctx, const struct admin_topic *t,
                                              const char *config, const char *wanted,
                                              const char *actual),
                            void *ctx, struct err *e) MUST_CHECK;

struct admin_partition {
    int32_t partition;
    int64_t committed;  /* -1: the group has none */
    int64_t begin, end; /* end is the true one (high watermark) */
};
/* Stable positions of a group on a topic. *out is malloc'd; a missing topic gives *n 0. */
enum err_kind admin_positions(struct admin *a, const char *group, const char *topic,
                              struct admin_partition **out, size_t *n, struct err *e) MUST_CHECK;
/* Members of a group; 0 for one that does not exist. state gets "Stable", "Empty", … */
enum err_kind admin_members(struct admin *a, const char *group, int *members, char state[32],
                            struct err *e) MUST_CHECK;
enum err_kind admin_cluster(struct admin *a, char id[64], int *brokers, struct err *e) MUST_CHECK;

#endif
