/*
 * lineage: what a version has learned from, and what it takes to learn on. One small JSON artifact
 * a version, named by its hash in models.trained; a chain back to the first one:
 *
 *     { "schema": 1, "model", "version", "parent",
 *       "before":              artifact: the parent's lineage; "" for the first version
 *       "weights", "momentum": artifacts: the state that training goes on from
 *       "second":              artifact: of adamw's state its second moment; "" with sgd
 *       "steps", "moved":      since the net was new; of them those of this optimizer (absent: all)
 *       "averaged":            of the steps in the average
 *       "evaluation":          artifact: the rows that are held out, never trained on
 *       "all":                 artifact: every training row up to here, in some versions; else ""
 *       "recipe":              artifact: lib/learn/recipe; "" in versions of long ago, as "gone" is
 *       "counts":              training rows of each of the model's labels up to here, as they came
 *       "gone":                artifact: the places, among the rows of before, of those that the store
 *                              was found to have no more; "" when there were none
 *       "batches": [ { "id", "partition", "offset": of its record in `batches`, "images": count,
 *                      "rows": artifact, "contents": artifact } ] }   first learned in this version
 *
 * A rows artifact is rows of 16 bytes each: a batch's training rows, or what is held out. Its
 * contents artifact says in as many bytes a row what was there: the revision (u32, little-endian)
 * and the first 12 bytes of the SHA-256 of the pixels' SHA-256 and the label. Places are u32.
 */
#ifndef DARKROOM_LEARN_LINEAGE_H
#define DARKROOM_LEARN_LINEAGE_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"
#include "lib/base/hash.h"
#include "proto/messages.h"

struct lineage_batch {
    char id[HASH_HEX + 1], rows[HASH_HEX + 1], contents[HASH_HEX + 1];
    int64_t images, partition, offset;
};

/* {0} is empty; owned. */
struct lineage {
    char before[HASH_HEX + 1], weights[HASH_HEX + 1], momentum[HASH_HEX + 1], second[HASH_HEX + 1],
        evaluation[HASH_HEX + 1], all[HASH_HEX + 1], recipe[HASH_HEX + 1], gone[HASH_HEX + 1];
    int64_t steps, moved, averaged;
    struct lineage_batch *batches;
    size_t batch_count;
    int64_t *counts; /* in the order of the model's labels */
    size_t count_count;
};

void lineage_free(struct lineage *l); /* back to {0} */
void lineage_add_batch(struct lineage *l, const struct lineage_batch *b);
void lineage_add_count(struct lineage *l, int64_t count);
void lineage_encode(const struct lineage *l, struct bytes model, int64_t version, int64_t parent,
                    struct buf *out);
/* *l is overwritten; {0} after an error. ERR_BAD (bad-model-file). */
enum err_kind lineage_decode(struct bytes json, struct lineage *l, struct err *e) MUST_CHECK;

/* Rows in memory: {0} is empty; owned. */
struct rows {
    unsigned char (*list)[ROW_HEX / 2];
    size_t count;
};

void rows_free(struct rows *r); /* back to {0} */
void rows_add(struct rows *r, const char name[ROW_HEX + 1]);
void rows_name(const struct rows *r, size_t i, char name[ROW_HEX + 1]);
/* What a contents artifact says of a row of this revision, pixels and label. */
struct content {
    unsigned char bytes[16];
};
struct content content_of(int64_t revision, struct bytes pixels, struct bytes label);
int64_t content_revision(const struct content *c);

/* The places of `gone` (n bytes) that are not 0 to an artifact, and from one: gone (n) gets 1 there.
   ERR_BAD (bad-model-file). */
void places_pack(const unsigned char *gone, size_t n, struct buf *out);
enum err_kind places_unpack(struct bytes packed, unsigned char *gone, size_t n,
                            struct err *e) MUST_CHECK;

/* Takes out those whose gone[i] is not 0; the others stay in their order. */
void rows_drop(struct rows *r, const unsigned char *gone);
/* Keeps the `most` smallest rows, sorted, each once: rows are hashes, so this is a fair sample that
   hardly changes. */
void rows_hold_out(struct rows *r, const char name[ROW_HEX + 1], size_t most);
struct bytes rows_pack(const struct rows *r, size_t from,
                       size_t to); /* borrowed: an artifact of them */
/* Appends an artifact's rows. ERR_BAD (bad-model-file). */
enum err_kind rows_unpack(struct rows *r, struct bytes packed, struct err *e) MUST_CHECK;

#endif
