/*
 * served: the models that predict answers with: the served version of each, loaded, with room for one
 * forward pass. Fed by models.deployed; weights come from the registry.
 */
#ifndef DARKROOM_LEARN_SERVED_H
#define DARKROOM_LEARN_SERVED_H

#include "lib/image/png.h"
#include "lib/learn/images.h"
#include "lib/learn/registry.h"
#include "lib/nn/model.h"

struct served_models;

struct served {
    char name[72];
    int64_t version;
    char artifact[HASH_HEX + 1];
    struct model model;
    enum image_alpha alpha;
    int classes;
    size_t size; /* bytes of an image: H x W x C */
    uint8_t *x;  /* (slice, H, W, C): images of the next pass */
    int waiting; /* rows of x that are filled */
    float *prob; /* (slice, classes): answers of the last pass */
    struct net_run *run;
};

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
/* One forward pass a model over what waits; afterwards nothing waits and prob holds the answers. */
void served_run(struct served_models *s);

/* The answer that row `at` of the last pass got: everything of the result but the request's id and model. */
void served_answer(const struct served *m, int at, struct result *r);

#endif
