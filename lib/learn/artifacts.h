/*
 * artifacts: what stands in the registry under a hash, decoded. All are ERR_BAD (bad-model-file) when
 * the artifact is gone or damaged, ERR_AGAIN when Redis is away.
 */
#ifndef DARKROOM_LEARN_ARTIFACTS_H
#define DARKROOM_LEARN_ARTIFACTS_H

#include "lib/learn/lineage.h"
#include "lib/learn/registry.h"
#include "lib/nn/model.h"

/* *m and *l are overwritten; {0} after an error. */
enum err_kind artifact_model(struct registry *g, struct bytes name, struct model *m,
                             struct err *e) MUST_CHECK;
enum err_kind artifact_lineage(struct registry *g, struct bytes name, struct lineage *l,
                               struct err *e) MUST_CHECK;
/* Appended. */
enum err_kind artifact_rows(struct registry *g, struct bytes name, struct rows *r,
                            struct err *e) MUST_CHECK;
/* The rows that the version's lineage holds out, appended; the error names the version. */
enum err_kind artifact_held_out(struct registry *g, const struct trained *m, struct rows *r,
                                struct err *e) MUST_CHECK;

#endif
