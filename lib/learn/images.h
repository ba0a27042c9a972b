/*
 * images: the table of images in Redis: label, time, file name and pixels of each, as in the talk.
 *
 *     <prefix>image:{model}:<row>     STRING  one image: its revisions' coordinates, its
 *                                             attributes, its pixels
 *     <prefix>images:{model}          ZSET    row -> time of its first record; oldest out first
 *     <prefix>models                  SET     the models that have images or versions
 *
 * A row's name is the first 32 hex digits of SHA-256(source, id): one image of one model, whatever
 * the id looks like. A row is written by SET NX GET, which answers in one round trip whether it was
 * there; what was there decides:
 *
 *     nothing                      stored      revision 1
 *     these coordinates            replayed    after a crash: the row stays, its name is written to
 *                                              the index again, the answer is the same
 *     same pixels and label        duplicate   dropped
 *     coordinates already passed   duplicate   the replay of one
 *     other pixels or label        revised     one more revision, by compare-and-set
 */
#ifndef DARKROOM_LEARN_IMAGES_H
#define DARKROOM_LEARN_IMAGES_H

#include "lib/base/hash.h"
#include "lib/base/record.h"
#include "lib/kv/redis.h"
#include "lib/learn/spec.h"

struct images;

struct images *images_open(struct redis *r, const char *prefix); /* both borrowed */
void images_close(struct images *im);

/* Whether this Redis may be trusted with images: ERR_AGAIN when it is away or would evict rows by
   itself; a warning in the log when it has no append-only file. */
enum err_kind images_check(struct images *im, struct err *e) MUST_CHECK;

enum image_verdict { IMAGE_STORED, IMAGE_REPLAYED, IMAGE_DUPLICATE, IMAGE_REVISED };

struct image_row {
    struct bytes model, id, source;
    struct bytes label, filename; /* absent when none */
    int64_t time_ms;              /* of the event */
    int height, width, channels;
    struct bytes pixels; /* uint8, H x W x C row-major */
};

struct image_put {
    struct image_row row;
    struct coordinates from; /* the record that brought it */
    double share;            /* 0..1, of new images that are held out */
    /* answers */
    enum image_verdict verdict;
    uint64_t log; /* of cluster and topic */
    char name[ROW_HEX + 1];
    struct hash pixels; /* SHA-256 */
    int64_t revision;
    enum split split; /* for ever: what it was when it was stored, whatever the share is now */
};

/* Split of a new row, by its name. share in 0..1. */
enum split images_split(const char name[ROW_HEX + 1], double share);
void images_row_name(struct bytes source, struct bytes id, char name[ROW_HEX + 1]);

/* Stores all, in their order, in few round trips; may be repeated after any failure. Fills the
   answers, and calls done (NULL: nothing) with each in turn while the server works on those behind.
   */
enum err_kind images_put(struct images *im, struct image_put *list, size_t n,
                         enum err_kind (*done)(void *ctx, const struct image_put *p, struct err *e),
                         void *ctx, struct err *e) MUST_CHECK;

/* Removes the oldest above spec->keep_images and those older than spec->keep_age_ms; at most some
   thousand a call. *removed is how many. */
enum err_kind images_evict(struct images *im, struct bytes model, const struct spec *spec,
                           int64_t now_ms, int64_t *removed, struct err *e) MUST_CHECK;

/* How many images of that size a read asks for at once: `most`, but not many more than 16 MB; at least
   one. */
size_t images_at_once(size_t image, size_t most);
/* Calls each(i, row) for the i-th name, row NULL when it is gone; rows are borrowed during the
 * call. */
enum err_kind images_get(struct images *im, struct bytes model, const char (*names)[ROW_HEX + 1],
                         size_t n,
                         enum err_kind (*each)(void *ctx, size_t i, const struct image_row *row,
                                               int64_t revision, struct err *e),
                         void *ctx, struct err *e) MUST_CHECK;
/* Every image of a model, oldest first. */
enum err_kind images_each(struct images *im, struct bytes model,
                          enum err_kind (*each)(void *ctx, const char *name,
                                                const struct image_row *row, int64_t revision,
                                                struct err *e),
                          void *ctx, struct err *e) MUST_CHECK;
enum err_kind images_count(struct images *im, struct bytes model, int64_t *count,
                           struct err *e) MUST_CHECK;
/* Removes one image, its row and its name in the index; *removed: it was there. May be repeated. A record
   that brings it again, or one that is on its way, stores it again. */
enum err_kind images_remove(struct images *im, struct bytes model, struct bytes source,
                            struct bytes id, bool *removed, struct err *e) MUST_CHECK;
/*
 * Every image of the label, newest first, in pages: counts them, and removes them unless `count_only`.
 * After each page calls page(ctx, looked at, found), which may end it with an error; what was removed
 * is. An image whose label is corrected meanwhile stays, as do those that come meanwhile.
 */
enum err_kind images_remove_label(struct images *im, struct bytes model, struct bytes label,
                                  bool count_only,
                                  enum err_kind (*page)(void *ctx, int64_t looked_at, int64_t found,
                                                        struct err *e),
                                  void *ctx, int64_t *found, struct err *e) MUST_CHECK;
/* Names of all models, in the arena. */
enum err_kind images_models(struct images *im, struct arena *a, struct bytes **models, size_t *n,
                            struct err *e) MUST_CHECK;

/* For a worker's settings table; `member` is its struct redis_conf. */
#define REDIS_SETTINGS(type, member)                                                               \
    {"redis-url",                                                                                  \
     SETTING_SECRET,                                                                               \
     offsetof(type, member.url),                                                                   \
     "redis://127.0.0.1:6379/0",                                                                   \
     "Redis: redis://[user:password@]host:port/db, rediss:// for TLS, or unix:/path",              \
     NULL,                                                                                         \
     0,                                                                                            \
     0,                                                                                            \
     0},                                                                                           \
    {                                                                                              \
        "redis-ca-file", SETTING_TEXT, offsetof(type, member.ca_file), NULL,                       \
            "PEM file of who may sign the certificate of a rediss:// server; without it the "      \
            "system's",                                                                            \
            NULL, 0, 0, 0                                                                          \
    }

#endif
