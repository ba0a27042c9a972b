/*
 * err: what went wrong, and who acts on it. A function that can fail takes `struct err *e` last
 * (never NULL), fills it and returns its kind; 0 (ERR_NONE) is success. The kind answers who acts,
 * the reason is a code that machines can count, and the text answers what broke, to what, and what
 * to do.
 */
#ifndef DARKROOM_BASE_ERR_H
#define DARKROOM_BASE_ERR_H

enum err_kind {
    ERR_NONE = 0,
    ERR_BAD,   /* this input will never work: it is refused and kept with the reason */
    ERR_AGAIN, /* the world is not ready: abort, back off, repeat */
    ERR_FATAL, /* this process cannot go on: exit, be restarted */
};

/*
 * Every reason for which an input is refused: code, and what it means to the sender. The codes
 * travel in dead letters, error results and metrics; proto/README.md lists them and a test
 * compares. ORDER REASON: append only.
 */
#define REASONS(X)                                                                                 \
    X(REASON_NONE, "none", "nothing is wrong")                                                     \
    X(REASON_EMPTY, "empty", "the record has no value")                                            \
    X(REASON_NOT_PNG, "not-png", "the value does not begin as a PNG file does")                    \
    X(REASON_BROKEN_IMAGE, "broken-image", "the file is truncated or damaged")                     \
    X(REASON_TOO_LARGE, "too-large", "the image, or what it unpacks to, is over the limits")       \
    X(REASON_BAD_LABEL, "bad-label", "the label is empty, too long, or not clean UTF-8")           \
    X(REASON_BAD_ID, "bad-id", "the id is empty, too long, or not clean UTF-8")                    \
    X(REASON_BAD_MODEL, "bad-model", "the model's name is not of the allowed form")                \
    X(REASON_BAD_EVENT, "bad-event", "a CloudEvents attribute is missing or malformed")            \
    X(REASON_BAD_MESSAGE, "bad-message", "the value is not the message that the topic carries")    \
    X(REASON_BAD_SHAPE, "bad-shape", "the tensor's bytes do not match its shape or the spec")      \
    X(REASON_BAD_MODEL_FILE, "bad-model-file", "the model's artifact is damaged or not its hash")  \
    X(REASON_NO_MODEL, "no-model", "no version of this model is deployed yet")                     \
    X(REASON_EXPIRED, "expired", "ce_expirytime had passed when the request was read")             \
    X(REASON_REPLY_TOPIC, "reply-topic", "the settings do not allow the reply-to topic")           \
    X(REASON_KILLS_WORKER, "kills-worker", "handling it ended the worker's process three times")   \
    X(REASON_TOO_LONG, "too-long", "the record is larger than the broker takes")

enum reason {
#define X(name, code, what) name,
    REASONS(X)
#undef X
        REASON_COUNT
};

struct err {
    enum err_kind kind;
    enum reason reason; /* of an ERR_BAD; REASON_NONE otherwise */
    char text[240];     /* one line, for people */
};

enum err_kind err_bad(struct err *e, enum reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
enum err_kind err_again(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
enum err_kind err_fatal(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the text: err_in(e, "model %s", name). Returns the kind unchanged. */
enum err_kind err_in(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_clear(struct err *e);

const char *reason_code(enum reason reason); /* "not-png" */
const char *reason_what(enum reason reason); /* one sentence, for the sender */

/* What can fail must be looked at. */
#define MUST_CHECK __attribute__((warn_unused_result))

#endif
