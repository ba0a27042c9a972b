/*
 * champions: the last word of models.deployed on every model: all that deploy remembers, and it can
 * be read again at any time.
 */
#ifndef DARKROOM_LEARN_CHAMPIONS_H
#define DARKROOM_LEARN_CHAMPIONS_H

#include "lib/base/record.h"
#include "proto/messages.h"

struct champions { /* {0} is empty */
    struct champion *list;
    size_t count;
};

/* A record of models.deployed. ERR_BAD: it names no model, or cannot be read; what was said of the
   model before stays. */
enum err_kind champions_update(struct champions *c, const struct record *r,
                               struct err *e) MUST_CHECK;
/* What was said last, texts in the arena; all zero when nothing was. ERR_BAD for a name that no
   model can have. */
enum err_kind champions_find(const struct champions *c, struct bytes model, struct arena *a,
                             struct deployed *last, struct err *e) MUST_CHECK;
void champions_free(struct champions *c);

#endif
