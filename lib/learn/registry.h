/*
 * registry: models in Redis. What train writes, deploy and predict read.
 *
 *     <prefix>artifact:<sha256>          STRING  weights, lineage, …; its name is its hash
 *     <prefix>model:{model}:head         STRING  the version that the next one grows from
 *     <prefix>model:{model}:versions     HASH    version -> its models.trained message, complete
 *     <prefix>model:{model}:batches      HASH    batch id -> the version that learned from it
 *     <prefix>model:{model}:weights      ZSET    artifact of a version's weights, training state
 *                                                or report -> the version
 *     <prefix>model:{model}:ordered      STRING  partition/offset of the last order, for a week
 *
 * A version is published by one script that moves the head by compare-and-set on its parent, keeps
 * the message and marks its batches: all of it or nothing. A trainer that lost its partition and
 * wakes up later finds the head moved and changes nothing.
 *
 * Versions serve in rising order until somebody orders an older one. A deploy worker that lost its
 * partition may have judged before such an order and prune after it, and would not spare what the
 * order made serve: so an order leaves its place here first, and what comes from records before it
 * removes nothing any more.
 */
#ifndef DARKROOM_LEARN_REGISTRY_H
#define DARKROOM_LEARN_REGISTRY_H

#include "lib/base/hash.h"
#include "lib/base/record.h"
#include "lib/kv/redis.h"
#include "proto/messages.h"

struct registry;

struct registry *registry_open(struct redis *r, const char *prefix); /* both borrowed */
void registry_close(struct registry *g);

/* name gets the 64 hex digits of the bytes' SHA-256. */
enum err_kind registry_put_artifact(struct registry *g, struct bytes data, char name[HASH_HEX + 1],
                                    struct err *e) MUST_CHECK;
/* ERR_BAD (bad-model-file) when it is gone or its bytes are not its hash's. */
enum err_kind registry_get_artifact(struct registry *g, struct bytes name, struct buf *out,
                                    struct err *e) MUST_CHECK;

/* *there: all n artifacts are. Their bytes are not looked at. */
enum err_kind registry_has(struct registry *g, const struct bytes *names, size_t n, bool *there,
                           struct err *e) MUST_CHECK;

/* Version 0 in *out when the model has none. Texts in the arena. ERR_AGAIN also when what is kept
   cannot be read: that is nobody's input, and people must mend it. */
enum err_kind registry_head(struct registry *g, struct bytes model, struct arena *a,
                            struct trained *out, struct err *e) MUST_CHECK;
/* ERR_BAD when there is no such version. */
enum err_kind registry_version(struct registry *g, struct bytes model, int64_t version,
                               struct arena *a, struct trained *out, struct err *e) MUST_CHECK;
/* All versions of a model, by number. */
enum err_kind registry_versions(struct registry *g, struct bytes model, struct arena *a,
                                struct trained **out, size_t *n, struct err *e) MUST_CHECK;
/* versions[i] is the version that learned from batches[i], 0 when none did. */
enum err_kind registry_batches(struct registry *g, struct bytes model, const struct bytes *batches,
                               size_t n, int64_t *versions, struct err *e) MUST_CHECK;
/*
 * Removes all artifacts of versions up to up_to that registry_publish was given, but those of the n to
 * spare. The caller spares what serves, so what is pinned too (only what serves is), what serves by
 * the records in hand, the best version so far, and what a rollback leads to. r: the record whose
 * judgement this follows; nothing is removed when an order that stands behind it, or in another
 * partition, was begun.
 */
enum err_kind registry_prune(struct registry *g, struct bytes model, int64_t up_to,
                             const int64_t *spare, size_t n, const struct record *r,
                             struct err *e) MUST_CHECK;
/* The order of the record is carried out from now on. */
enum err_kind registry_ordered(struct registry *g, struct bytes model, const struct record *r,
                               struct err *e) MUST_CHECK;
/* Removes one version's artifacts. DROP_NOTHING: there are none. DROP_OVERTAKEN, and nothing done, when an
   order that stands behind r, or in another partition, was begun: it may have made the version serve. */
enum dropped { DROP_DONE, DROP_NOTHING /* was there any more */, DROP_OVERTAKEN };
enum err_kind registry_drop(struct registry *g, struct bytes model, int64_t version,
                            const struct record *r, enum dropped *dropped,
                            struct err *e) MUST_CHECK;
/* The artifacts that are kept, of all versions: weights, training states, reports. */
enum err_kind registry_kept(struct registry *g, struct bytes model, struct arena *a,
                            struct bytes **artifacts, size_t *n, struct err *e) MUST_CHECK;
/* The n artifacts go, beside its weights, when the version is pruned. ERR_AGAIN when the head is no
   longer m->parent, or a version has learned from one of the batches: somebody else went on.
   Repeating the same is fine. */
enum err_kind registry_publish(struct registry *g, const struct trained *m,
                               const struct bytes *artifacts, size_t n, struct err *e) MUST_CHECK;

#endif
