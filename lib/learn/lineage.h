/*
 * lineage: what a version has learned from, and what it takes to learn on. One small JSON artifact
 * a version, named by its hash in models.trained; a chain back to the first one:
 *
 *     { "schema": 1, "model", "version", "parent",
 *       "before":              artifact: the parent's lineage; "" for the first version
 *       "weights", "momentum": artifacts: the state that training goes on from (of the head alone)
 *       "steps":               of the optimizer
 *       "evaluation":          artifact: the rows that are held out, never trained on
 *       "all":                 artifact: every training row up to here, in some versions; else ""
 *       "batches": [ { "id", "rows": artifact, "images": count } ] }   first learned in this version
 *
 * A rows artifact is rows of 16 bytes each: a batch's training rows, or what is held out.
 */
#ifndef DARKROOM_LEARN_LINEAGE_H
#define DARKROOM_LEARN_LINEAGE_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"
#include "lib/base/hash.h"
#include "proto/messages.h"

struct lineage_batch {
    char id[HASH_HEX + 1], rows[HASH_HEX + 1];
    int64_t images;
};

/* {0} is empty; owned. */
struct lineage {
    char before[HASH_HEX + 1], weights[HASH_HEX + 1], momentum[HASH_HEX + 1],
        evaluation[HASH_HEX + 1], all[HASH_HEX + 1];
    int64_t steps;
    struct lineage_batch *batches;
    size_t batch_count;
};

void lineage_free(struct lineage *l); /* back to {0} */
void lineage_add_batch(struct lineage *l, const struct lineage_batch *b);
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
