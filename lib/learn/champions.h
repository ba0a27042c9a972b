/*
 * champions: the last word of models.deployed on every model: all that deploy remembers, and it can
 * be read again at any time. Over it stands what the hand-over under way says, which nobody else can
 * see yet, and which is forgotten with the hand-over.
 */
#ifndef DARKROOM_LEARN_CHAMPIONS_H
#define DARKROOM_LEARN_CHAMPIONS_H

#include "lib/base/record.h"
#include "proto/messages.h"

struct champions { /* {0} is empty */
    struct champion *list;
    size_t count;
    struct deployed *said; /* in the hand-over under way; their texts are the caller's */
    size_t said_count;
};

/* A record of models.deployed. ERR_BAD: it names no model, or cannot be read; what was said of the
   model before stays. */
enum err_kind champions_update(struct champions *c, const struct record *r,
                               struct err *e) MUST_CHECK;
/* What was said last, texts in the arena; all zero when nothing was. committed: as others can see
   it. ERR_BAD for a name that no model can have. */
enum err_kind champions_find(const struct champions *c, struct bytes model, struct arena *a,
                             struct deployed *last, struct deployed *committed,
                             struct err *e) MUST_CHECK;
/* The same of the i-th model, as others can see it, all zero when nothing is deployed of it. */
enum err_kind champions_at(const struct champions *c, size_t i, struct arena *a,
                           struct deployed *committed, struct err *e) MUST_CHECK;
void champions_say(struct champions *c, const struct deployed *m);
void champions_forget(struct champions *c); /* before a hand-over, also one that comes again */
void champions_free(struct champions *c);

#endif
