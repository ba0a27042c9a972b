/* tables: opened one after the other, each once, however often Redis has to be waited for. */
#include "lib/learn/tables.h"

#include "proto/topics.h"

enum err_kind tables_open(struct tables *t, struct err *e) {
    if (!t->specs && !(t->specs = specs_load(t->models, e))) return e->kind;
    if (!t->redis && !(t->redis = redis_open(&t->redis_conf, e))) return e->kind;
    if (!t->images) t->images = images_open(t->redis, topics_prefix_now());
    if (!t->registry) t->registry = registry_open(t->redis, topics_prefix_now());
    return images_check(t->images, e);
}

void tables_close(struct tables *t) {
    registry_close(t->registry);
    images_close(t->images);
    redis_close(t->redis);
    specs_free(t->specs);
}
