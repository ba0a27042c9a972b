/* topics: the table. Names are put together once, so that they can be handed out as pointers. */
#include "proto/topics.h"

#include <stdio.h>
#include <string.h>

#define DAYS(n) ((int64_t)(n)*24 * 3600 * 1000)
#define MIB (1 << 20)
/* A broker forgets the positions of a group that sleeps for a week (offsets.retention.minutes): an
   input that it kept longer would be read again from its beginning. */
#define INPUT DAYS(6)
/* A dead letter is its record and the headers of the refusal. */
#define DLQ(in, stage)                                                                             \
    {                                                                                              \
        in ".dlq", "as it was", "as it was, the reason in `dlq.*` headers", stage, "people",       \
            "as it was", "as it was", 1, DAYS(90), false, 17 * MIB                                 \
    }

static const struct topic_info topics[TOPIC_COUNT] = {
    [IMAGES] = {"images", "image id", "an image file (PNG); label in a header", "you", "preprocess",
                "image/png", "darkroom.image", 8, INPUT, false, 16 * MIB},
    [IMAGES_PREPARED] = {"images.prepared", "image id",
                         "the tensor: uint8, height x width x channels", "preprocess", "store",
                         "application/octet-stream", "darkroom.image.prepared", 8, INPUT, false,
                         16 * MIB},
    [IMAGES_STORED] = {"images.stored", "image id", "JSON: which row, revision, label and split",
                       "store", "batch", "application/json", "darkroom.image.stored", 8, INPUT,
                       false, MIB},
    [BATCHES] = {"batches", "model", "JSON manifest: the batch's images", "batch", "train",
                 "application/json", "darkroom.batch", 4, INPUT, false, MIB},
    [MODELS_TRAINED] = {"models.trained", "model", "JSON: version, metrics, artifact; or an order",
                        "train, operators", "deploy", "application/json", "darkroom.model.trained",
                        4, INPUT, false, MIB},
    [MODELS_DEPLOYED] = {"models.deployed", "model", "JSON: what predict must serve now", "deploy",
                         "deploy, predict, you, operators", "application/json",
                         "darkroom.model.deployed", 1, -1, true, MIB},
    [PREDICTIONS_REQUESTS] = {"predictions.requests", "yours", "an image file (PNG)", "you",
                              "predict", "image/png", "darkroom.prediction.request", 8, INPUT,
                              false, 16 * MIB},
    [PREDICTIONS_RESULTS] = {"predictions.results", "the request's",
                             "JSON: the answer, or the error", "predict", "you", "application/json",
                             "darkroom.prediction", 8, DAYS(7), false, MIB},
    [IMAGES_DLQ] = DLQ("images", "preprocess"),
    [IMAGES_PREPARED_DLQ] = DLQ("images.prepared", "store"),
    [IMAGES_STORED_DLQ] = DLQ("images.stored", "batch"),
    [BATCHES_DLQ] = DLQ("batches", "train"),
    [MODELS_TRAINED_DLQ] = DLQ("models.trained", "deploy"),
};

static char prefix_now[128] = TOPIC_DEFAULT_PREFIX;
static char names[TOPIC_COUNT][TOPIC_NAME_MAX + 1];

const struct topic_info *topic_info(enum topic t) {
    return &topics[t];
}

enum err_kind topics_prefix(const char *prefix, struct err *e) {
    size_t n = strlen(prefix);
    if (n >= sizeof prefix_now)
        return err_fatal(e, "the topic prefix has %zu characters: at most %zu are possible", n,
                         sizeof prefix_now - 1);
    if (strspn(prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != n)
        return err_fatal(
            e, "the topic prefix \"%.60s\" may hold letters, digits, '.', '_' and '-' only",
            prefix);
    memcpy(prefix_now, prefix, n + 1);
    memset(names, 0, sizeof names);
    return ERR_NONE;
}

const char *topics_prefix_now(void) {
    return prefix_now;
}

const char *topic_name(enum topic t) {
    if (!names[t][0]) snprintf(names[t], sizeof names[t], "%s%s", prefix_now, topics[t].name);
    return names[t];
}

enum topic topic_dead_letters(enum topic in) {
    return in >= IMAGES && in <= MODELS_TRAINED ? IMAGES_DLQ + (in - IMAGES) : TOPIC_NONE;
}

enum topic topic_of(const char *full_name) {
    size_t n = strlen(prefix_now);
    if (strncmp(full_name, prefix_now, n) != 0) return TOPIC_NONE;
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++)
        if (strcmp(full_name + n, topics[t].name) == 0) return t;
    return TOPIC_NONE;
}
