/*
 * messages: the JSON that travels: one struct and one encode/decode pair each. `schema` is the
 * message's version. A reader ignores names that it does not know and refuses a schema that is
 * newer than its own only when it says so by a new number. encode(decode(x)) == x.
 *
 * Decoding copies texts and arrays into the arena; encoding appends to the buffer.
 */
#ifndef DARKROOM_PROTO_MESSAGES_H
#define DARKROOM_PROTO_MESSAGES_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

#include <math.h>

enum { MESSAGE_SCHEMA = 1, ROW_HEX = 32 };

enum split { SPLIT_TRAIN, SPLIT_EVAL };

/* images.stored: an image, or a new revision of one, is in the store. */
struct stored {
    struct bytes id, source; /* of the event; together with the model the image's identity */
    struct bytes row;        /* ROW_HEX digits: the row's name in the store */
    int64_t revision;        /* 1, then one more with every correction */
    struct bytes model;
    struct bytes label; /* absent: stored, counted, not batched */
    enum split split;
    struct bytes pixels; /* SHA-256 of the tensor, hex */
};
void stored_encode(const struct stored *m, struct buf *out);
enum err_kind stored_decode(struct bytes json, struct arena *a, struct stored *m,
                            struct err *e) MUST_CHECK;

/* batches: the images of one batch. */
struct manifest_image {
    struct bytes row;
    int64_t revision;
    struct bytes label;
    enum split split;
};
struct manifest {
    struct bytes batch; /* id: SHA-256 over the coordinates of the records that
                           brought its images, hex */
    struct bytes model;
    struct manifest_image *images;
    size_t image_count;
    int64_t partition, offset; /* of its record: the reader's, not in the message */
};
void manifest_encode(const struct manifest *m, struct buf *out);
enum err_kind manifest_decode(struct bytes json, struct arena *a, struct manifest *m,
                              struct err *e) MUST_CHECK;

/* How a model did on a set of images; macro means over the classes that occur. */
struct metrics {
    int64_t images;
    double accuracy, auc, loss, precision, recall; /* NAN where undefined: JSON null */
    double ece; /* expected calibration error, on the half that no temperature is fitted on */
};
#define METRICS_NONE ((struct metrics){0, NAN, NAN, NAN, NAN, NAN, NAN})

/* models.trained: a new version of a model. */
struct trained {
    struct bytes model;
    int64_t version, parent; /* parent 0: from nothing */
    struct bytes artifact;   /* SHA-256, hex: the weights, safetensors */
    struct bytes lineage;    /* SHA-256, hex: what the model has learned from, JSON */
    struct bytes report;   /* SHA-256, hex: figures of each class, confusion and calibration, JSON;
                                absent in a message of before there were any */
    struct bytes *batches; /* ids that this version learned from and no parent did */
    size_t batch_count;
    int64_t images;        /* distinct images learned from, over all ancestors */
    int64_t presentations; /* images seen in training, repeats counted, over all ancestors */
    int64_t labels;        /* how many the model knows */
    int64_t missing;       /* images of these batches that the store had no more */
    double
        temperature; /* that predict divides the logits by; 1 in a message that has none; 0 is not sent */
    struct metrics training, evaluation;
    double seconds;          /* spent on this version */
    double training_seconds; /* of these, in the training loop; 0 when not said */
    int64_t time_ms;
};
void trained_encode(const struct trained *m, struct buf *out);
enum err_kind trained_decode(struct bytes json, struct arena *a, struct trained *m,
                             struct err *e) MUST_CHECK;

/* models.trained, of the type ORDER_TYPE: what somebody wants to serve. It travels in the partition
   of the model's versions, so it has its place among them; deploy carries it out. */
#define ORDER_TYPE "darkroom.model.order"
enum order_action {
    ORDER_NONE,
    ORDER_ROLLBACK,
    ORDER_PROMOTE,
    ORDER_PIN,
    ORDER_UNPIN,
    ORDER_REMOVE
};
const char *order_action_name(enum order_action action); /* "rollback" */
struct order {
    struct bytes id; /* by which it is carried out once, however often it comes */
    struct bytes model;
    enum order_action action;
    int64_t version; /* 0: what served before (rollback), what serves (pin, unpin) */
    bool pin;        /* rollback, promote: and pin it */
};
void order_encode(const struct order *m, struct buf *out);
enum err_kind order_decode(struct bytes json, struct arena *a, struct order *m,
                           struct err *e) MUST_CHECK;

/* What became of an order. */
struct order_answer {
    struct bytes id;
    enum order_action action;
    int64_t version, from; /* that it was about, and that served until then; 0: none */
    bool done;             /* else it was refused, and nothing has changed */
    struct bytes text;     /* one sentence for people */
    int64_t time_ms;       /* when deploy carried it out */
};

/* A version that serves no more. */
struct former {
    int64_t version;
    struct bytes artifact;
};

/* So many of them, the newest, a message has at most. */
enum { ORDERS_KEPT = 8, FORMER_KEPT = 8 };

/* models.deployed: what is served now, and how the latest challenger was judged. */
struct deployed {
    struct bytes model;
    int64_t version; /* served; 0: none yet */
    struct bytes artifact;
    int64_t judged;   /* the latest version that was judged */
    bool promoted;    /* whether it is the one that is served */
    struct bytes why; /* one sentence for people */
    struct metrics
        evaluation; /* of the served version, on the images of the latest judgement; after
                                  an order those that its training ended with */
    struct metrics challenger; /* of the judged one, on the same images */
    int64_t best; /* the version that no served one may fall far behind; 0: none, or not said */
    struct bytes best_artifact;
    struct metrics best_evaluation; /* on the same images; images 0 when it did not answer them */
    int64_t time_ms;                /* of the judgement */
    bool pinned;                    /* no new version takes its place */
    struct former *before; /* what served before, newest first; not what was rolled back from */
    size_t before_count;
    struct order_answer *orders; /* newest first */
    size_t order_count;
};
void deployed_encode(const struct deployed *m, struct buf *out);
enum err_kind deployed_decode(struct bytes json, struct arena *a, struct deployed *m,
                              struct err *e) MUST_CHECK;

/* predictions.results: an answer, or an error when `reason` is present. */
struct result {
    struct bytes id; /* the request's */
    struct bytes model;
    int64_t version;       /* of the model that answered; 0 in an error */
    struct bytes artifact; /* its SHA-256, hex */
    struct bytes label;
    double probability;        /* of the label */
    const char *const *labels; /* all that the model knows, with the probability of each */
    const float *probabilities;
    size_t label_count;
    struct bytes reason, text;
};
void result_encode(const struct result *m, struct buf *out);
enum err_kind result_decode(struct bytes json, struct arena *a, struct result *m,
                            struct err *e) MUST_CHECK;

#endif
