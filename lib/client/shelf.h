/*
 * shelf: what a command reads in Redis: images and versions, and memory for what it reads.
 */
#ifndef DARKROOM_CLIENT_SHELF_H
#define DARKROOM_CLIENT_SHELF_H

#include "lib/client/client.h"
#include "lib/learn/images.h"
#include "lib/learn/registry.h"

struct shelf { /* {0} is closed */
    struct redis *redis;
    struct images *images;
    struct registry *registry;
    struct arena arena;
};

enum { SHELF_WAIT_MS = 10000 }; /* for an answer of Redis */

/* ERR_FATAL for a wrong URL; Redis is contacted when it is needed. Closing what was not opened is fine. */
enum err_kind shelf_open(const struct client *c, int wait_ms, struct shelf *s,
                         struct err *e) MUST_CHECK;
void shelf_close(struct shelf *s);

#endif
