/*
 * judge: how good a version is on held-out images, and which of two versions should serve.
 */
#ifndef DARKROOM_LEARN_JUDGE_H
#define DARKROOM_LEARN_JUDGE_H

#include "lib/base/alive.h"
#include "lib/learn/images.h"
#include "lib/learn/lineage.h"
#include "lib/learn/registry.h"
#include "lib/learn/spec.h"
#include "lib/nn/model.h"

/*
 * The first n of the rows, answered with `params` (NULL: the model's own weights). A row that is
 * gone, has no label or another shape is left out; a label that the model does not know is a wrong
 * answer. Without any image left everything is NAN. gone (n), when not NULL, gets 1 for a row that
 * the store has no more. threads: of the arithmetic.
 */
enum err_kind judge_score(struct images *im, struct bytes name, const struct model *model,
                          const float *params, int threads, const struct rows *rows, size_t n,
                          unsigned char *gone, const struct alive *alive, struct metrics *out,
                          struct err *e) MUST_CHECK;

/* Whether the version was judged already. A number that is not higher but whose training began after
   that judgement is of a registry that lost versions, which is logged. This compares a trainer's
   clock with a deploy worker's. */
bool judge_knows(const struct deployed *was, const struct trained *m);

/*
 * The challenger against what serves now (served.version 0: nothing does) and against the best so
 * far, all on the images that the challenger's lineage holds out, which are read once for all of
 * them. verdict.h has the rules. Where they cannot be compared (nothing serves, nothing is held out,
 * the input has another size, the weights that served are lost) it is promoted, unless it is below
 * the floor; a version that has seen no image never is, and none takes the place of one that is
 * pinned and can serve. Fills everything of *out but time_ms and what lib/learn/orders keeps; texts
 * live in the arena. ERR_BAD when the challenger's artifacts are gone or damaged.
 */
enum err_kind judge_challenger(struct registry *g, struct images *im, const struct spec *spec,
                               const struct trained *challenger, const struct deployed *served,
                               const struct alive *alive, struct arena *a, struct deployed *out,
                               struct err *e) MUST_CHECK;

#endif
