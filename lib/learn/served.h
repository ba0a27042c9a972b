/*
 * served: the models that predict answers with: the served version of each, loaded, with room for
 * one forward pass. Fed by models.deployed; weights come from the registry.
 */
#ifndef DARKROOM_LEARN_SERVED_H
#define DARKROOM_LEARN_SERVED_H

#include "lib/image/tensor.h"
#include "lib/kv/redis.h"
#include "proto/messages.h"

struct served_models;
struct served; /* one of them: a version of a model */

/* slice: images of one pass, at most. ERR_FATAL for a wrong URL; Redis is contacted when needed. */
struct served_models *served_open(const struct redis_conf *conf, const char *prefix, int slice,
                                  struct err *e);
void served_close(struct served_models *s);

/*
 * A record of models.deployed: key is the model, value the message or absent (the model is gone).
 * The new version is complete before it takes the old one's place. ERR_AGAIN: Redis is away, the
 * old one stays. An update that can never be followed is logged and left: the old one stays.
 */
enum err_kind served_update(struct served_models *s, struct bytes key, struct bytes value,
                            struct err *e) MUST_CHECK;
/* NULL and ERR_BAD (no-model). Borrowed until the next update. */
struct served *served_find(struct served_models *s, struct bytes model, struct err *e);
/* The i-th model and the version that answers for it; false: there are no more. */
bool served_at(const struct served_models *s, size_t i, struct bytes *model, int64_t *version);
/* Reads an image file as the version's input, into row *at of its next pass, of which there are at
   most `slice`. ERR_BAD as tensor_read: the row stays free. */
enum err_kind served_read(struct served *m, struct tensor_reader *reader, struct bytes file,
                          int *at, struct err *e) MUST_CHECK;
/* One forward pass a model over what was read; afterwards nothing waits. */
void served_run(struct served_models *s);
/* The answer that row `at` of the last pass got: everything of the result but the request's id and
   model. */
void served_answer(const struct served *m, int at, struct result *r);

#endif
