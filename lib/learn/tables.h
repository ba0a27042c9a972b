/*
 * tables: what the stages that keep something work with: the models' specs, and in Redis the table
 * of images and the registry of versions.
 */
#ifndef DARKROOM_LEARN_TABLES_H
#define DARKROOM_LEARN_TABLES_H

#include "lib/learn/images.h"
#include "lib/learn/registry.h"

struct tables {
    const char *models;           /* setting */
    struct redis_conf redis_conf; /* settings */
    struct specs *specs;
    struct redis *redis;
    struct images *images;
    struct registry *registry;
};

/* For a worker's settings table; `member` is its struct tables. */
#define TABLES_SETTINGS(type, member)                                                              \
    SPEC_SETTING(type, member.models), REDIS_SETTINGS(type, member.redis_conf)

/* ERR_AGAIN: Redis is away or not fit for images; calling again goes on from there. ERR_FATAL: a
   setting or the file of the specs is wrong. */
enum err_kind tables_open(struct tables *t, struct err *e) MUST_CHECK;
void tables_close(struct tables *t);

#endif
