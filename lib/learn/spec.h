/*
 * spec: what a model wants: the size of its input, its network, how it is batched, trained, deployed and
 * kept. One JSON file describes many models; what it leaves out, and every model that it does not name,
 * has the built-in default.
 *
 *     { "models": { "default": { "input":  { "width": 28, "height": 28, "channels": 1, "alpha": "white" },
 *                                "network": "mlp",
 *                                "batch":  { "count": 1000, "age": "5s" },
 *                                "train":  { "passes": 4, "minibatch": 128, "rate": 0.05, … },
 *                                "evaluation": { "share": 0.05, "most": 2000 },
 *                                "keep":   { "images": 1000000, "age": "365d" } } } }
 */
#ifndef DARKROOM_LEARN_SPEC_H
#define DARKROOM_LEARN_SPEC_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"
#include "proto/messages.h"

enum network { NETWORK_MLP, NETWORK_CNN };

struct spec {
    int width, height, channels; /* of the input; channels 1 (grey) or 3 (RGB) */
    bool over_black;             /* transparent pixels stand before black, not white */
    enum network network;

    int64_t batch_count, batch_age_ms;

    double passes;      /* presentations for every new image, on average, those of older ones included */
    int minibatch;
    double rate, momentum, decay, smoothing;
    double average;     /* of the weights, per step: what is published */
    double fresh;       /* share of a minibatch that is new; the rest is drawn from all before */

    double eval_share;  /* of the ids */
    int64_t eval_most;  /* images; the ones with the smallest row names are taken */

    int64_t keep_images, keep_age_ms; /* 0: for ever */
};

struct specs;

/* path NULL: the built-in default alone. ERR_FATAL names the file, the model, the field and what is allowed. */
struct specs *specs_load(const char *path, struct err *e);
void specs_free(struct specs *s);
const struct spec *specs_of(const struct specs *s, struct bytes model);
const struct spec *spec_default(void);

/* For a worker's settings table. */
#define SPEC_SETTING(type, field)                                                                  \
    {"models", SETTING_TEXT, offsetof(type, field), NULL, "JSON file with the models' specs", NULL, 0, 0, 0}

#endif
