/* champions: the messages as they came, one a model. */
#include "lib/learn/champions.h"

#include "proto/event.h"

#include <stdlib.h>

struct champion {
    char model[EVENT_MODEL_MAX + 1];
    struct buf message; /* empty: nothing is deployed */
};

static struct champion *find(const struct champions *c, struct bytes model) {
    for (size_t i = 0; i < c->count; i++)
        if (bytes_is(model, c->list[i].model)) return &c->list[i];
    return NULL;
}

enum err_kind champions_update(struct champions *c, const struct record *r, struct err *e) {
    if (!event_model_is_valid(r->key))
        return err_bad(e, REASON_BAD_MODEL, "a record whose key names no model");
    struct arena a = {0};
    struct deployed m;
    bool bad = r->value.data && deployed_decode(r->value, &a, &m, e);
    arena_free(&a);
    if (bad) return e->kind;
    struct champion *of = find(c, r->key);
    if (!of) {
        c->list = mem_resize(c->list, (c->count + 1) * sizeof *c->list);
        of = &c->list[c->count++];
        *of = (struct champion){0};
        memcpy(of->model, r->key.data, r->key.len);
    }
    buf_clear(&of->message);
    if (r->value.data) buf_add(&of->message, r->value.data, r->value.len);
    return ERR_NONE;
}

enum err_kind champions_find(const struct champions *c, struct bytes model, struct arena *a,
                             struct deployed *last, struct err *e) {
    *last = (struct deployed){0};
    if (!event_model_is_valid(model))
        return err_bad(e, REASON_BAD_MODEL, "the message names no model");
    const struct champion *of = find(c, model);
    if (!of || !of->message.len) return ERR_NONE;
    if (deployed_decode(buf_bytes(&of->message), a, last, e)) return err_in(e, "models.deployed");
    return ERR_NONE;
}

void champions_free(struct champions *c) {
    for (size_t i = 0; i < c->count; i++) buf_free(&c->list[i].message);
    free(c->list);
    *c = (struct champions){0};
}
