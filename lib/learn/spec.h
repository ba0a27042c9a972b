/*
 * spec: what a model wants: the size of its input, its network, how it is batched, trained,
 * deployed and kept. One JSON file describes many models; what it leaves out, and every model that
 * it does not name, has the built-in default.
 *
 *     { "models": { "digits": { "input.width": 28, "network": "cnn", "batch.age": "10s" } } }
 *
 * Fields have a table (spec_settings): name, type, default, allowed values and a sentence.
 */
#ifndef DARKROOM_LEARN_SPEC_H
#define DARKROOM_LEARN_SPEC_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"
#include "lib/base/settings.h"
#include "lib/image/augment.h"
#include "lib/nn/net_spec.h"
#include "proto/messages.h"

enum augments { AUGMENT_AUTO, AUGMENT_CHARACTERS, AUGMENT_PHOTOS, AUGMENT_NONE };
enum deploy_rule { DEPLOY_FRESH, DEPLOY_BETTER };

struct spec {
    int64_t width, height, channels; /* of the input; channels 1 (grey) or 3 (RGB) */
    int alpha;                       /* enum image_alpha: what transparent pixels stand before */
    const char *network; /* a name, or a list of layers as JSON: lib/nn/net_spec.h; borrowed */

    int64_t batch_count, batch_age_ms;

    double passes; /* presentations for every new image, on average, those of older ones included */
    double corrected; /* new images that a corrected one is worth */
    int64_t minibatch;
    int optimizer; /* enum optimizer of lib/nn/trainer.h */
    double rate;   /* 0: what suits the optimizer, see spec_rate */
    double momentum, decay, smoothing;
    double average; /* of the weights, per step: what is published */
    double fresh;   /* share of a minibatch that is new; the rest is drawn from all before */
    double balance; /* 1: labels count as often as they come; 0: all alike */
    int augments;   /* enum augments */
    struct augment augment; /* below 0: as `augments` says */

    double eval_share; /* of the ids */
    int64_t eval_most; /* images; the ones with the smallest row names are taken */

    int deploy_rule;      /* enum deploy_rule; lib/learn/verdict.h says what they do */
    double deploy_error;  /* chance that the test may be wrong by */
    double deploy_margin; /* points: hundredths of the accuracy */
    double deploy_floor;  /* accuracy */

    int64_t keep_images, keep_age_ms; /* 0: for ever */
    int64_t keep_versions; /* whose weights, state and report are kept, beside what serves */
};

struct specs;

/* path NULL: the built-in default alone. ERR_FATAL names the file, the model, the field and what is
 * allowed. */
struct specs *specs_load(const char *path, struct err *e);
void specs_free(struct specs *s);
const struct spec *specs_of(const struct specs *s, struct bytes model);
/* The network that it wants. ERR_BAD (bad-shape) says which layer and field is wrong. */
enum err_kind spec_net(const struct spec *s, struct net_spec *out, struct err *e) MUST_CHECK;
struct augment spec_augment(const struct spec *s);
double spec_rate(const struct spec *s);
size_t specs_largest(const struct specs *s); /* bytes of the largest input tensor of any model */
extern const struct setting spec_settings[]; /* of one model; ends with {0} */

/* For a worker's settings table. */
#define SPEC_SETTING(type, field)                                                                  \
    {                                                                                              \
        "models", SETTING_TEXT, offsetof(type, field), NULL, "JSON file with the models' specs",   \
            NULL, 0, 0, 0                                                                          \
    }

#endif
