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
                             struct deployed *last, struct deployed *committed, struct err *e) {
    *last = *committed = (struct deployed){0};
    if (!event_model_is_valid(model))
        return err_bad(e, REASON_BAD_MODEL, "the message names no model");
    const struct champion *of = find(c, model);
    if (of && of->message.len && deployed_decode(buf_bytes(&of->message), a, committed, e))
        return err_in(e, "models.deployed");
    *last = *committed;
    for (size_t i = 0; i < c->said_count; i++)
        if (bytes_equal(c->said[i].model, model)) *last = c->said[i];
    return ERR_NONE;
}

enum err_kind champions_at(const struct champions *c, size_t i, struct arena *a,
                           struct deployed *committed, struct err *e) {
    *committed = (struct deployed){0};
    return c->list[i].message.len ? deployed_decode(buf_bytes(&c->list[i].message), a, committed, e)
                                  : ERR_NONE;
}

void champions_say(struct champions *c, const struct deployed *m) {
    c->said = mem_resize(c->said, (c->said_count + 1) * sizeof *c->said);
    c->said[c->said_count++] = *m;
}

void champions_forget(struct champions *c) {
    c->said_count = 0;
}

void champions_free(struct champions *c) {
    for (size_t i = 0; i < c->count; i++) buf_free(&c->list[i].message);
    free(c->list);
    free(c->said);
    *c = (struct champions){0};
}
