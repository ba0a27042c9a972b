/*
 * lineage: what a version has learned from, and what it takes to learn on. One JSON artifact a version,
 * named by its hash in models.trained:
 *
 *     { "schema": 1, "model", "version", "parent",
 *       "weights", "momentum":   artifacts: the state that training goes on from (of the head alone)
 *       "steps":                 of the optimizer
 *       "batches": [ { "id", "rows": artifact, "images": count } ],   every one since version 1
 *       "evaluation": [ row, … ] }                                    held out, never trained on
 *
 * A rows artifact is the batch's training rows, 16 bytes each.
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
    char weights[HASH_HEX + 1], momentum[HASH_HEX + 1];
    int64_t steps;
    struct lineage_batch *batches;
    size_t batch_count;
    char (*evaluation)[ROW_HEX + 1]; /* sorted, each once */
    size_t evaluation_count;
};

void lineage_free(struct lineage *l); /* back to {0} */
void lineage_add_batch(struct lineage *l, const struct lineage_batch *b);
/* Keeps the `most` smallest names: as names are hashes, a fair sample that hardly changes. */
void lineage_hold_out(struct lineage *l, const char row[ROW_HEX + 1], size_t most);
void lineage_encode(const struct lineage *l, struct bytes model, int64_t version, int64_t parent, struct buf *out);
/* *l is overwritten; {0} after an error. ERR_BAD (bad-model-file). */
enum err_kind lineage_decode(struct bytes json, struct lineage *l, struct err *e) MUST_CHECK;

#endif
