/* shelf: opened and closed in one place, with the command's own settings. */
#include "lib/client/shelf.h"

enum err_kind shelf_open(const struct client *c, int wait_ms, struct shelf *s, struct err *e) {
    const struct redis_conf conf = {
        .url = c->redis.url, .ca_file = c->redis.ca_file, .timeout_ms = wait_ms};
    *s = (struct shelf){.redis = redis_open(&conf, e)};
    if (!s->redis) return e->kind;
    s->images = images_open(s->redis, c->prefix);
    s->registry = registry_open(s->redis, c->prefix);
    return ERR_NONE;
}

void shelf_close(struct shelf *s) {
    registry_close(s->registry);
    images_close(s->images);
    redis_close(s->redis);
    arena_free(&s->arena);
    *s = (struct shelf){0};
}
