/*
 * learner: a model's next version, from its last one, new batches, and a sample of all that came
 * before.
 *
 * Every new image is worth spec->passes presentations, a corrected one spec->corrected times as many:
 * the average of the weights still has what was learned wrong. A step's images are new ones (in shuffled
 * order, again and again) and old ones (drawn evenly from every image ever batched), in shares that
 * follow their numbers but with at least spec->fresh new: what was learned is not forgotten, and
 * the cost of a batch does not grow with how much came before. What is published is the exponential
 * average of the weights.
 *
 * It keeps each model's newest version (its head) in memory, and takes it from the registry when
 * the registry has another: a version is told from others by the hash of its lineage.
 */
#ifndef DARKROOM_LEARN_LEARNER_H
#define DARKROOM_LEARN_LEARNER_H

#include "lib/learn/images.h"
#include "lib/learn/judge.h"
#include "lib/learn/registry.h"
#include "lib/learn/spec.h"

struct learner;

/* threads: of the arithmetic. Registry and images are borrowed. */
struct learner *learner_open(struct registry *g, struct images *im, int threads);
void learner_close(struct learner *l);
void learner_forget(struct learner *l); /* gives the models' memory back */

/*
 * Learns from the batches (n >= 1, none of them learned before) and publishes the version in the
 * registry. Fills *out; its texts live in the arena. ERR_AGAIN: Redis is away, the partition is no
 * longer ours, or somebody else published meanwhile. If Redis went away in the last step the
 * version may be published all the same: registry_batches tells.
 */
enum err_kind learner_learn(struct learner *l, struct bytes model, const struct spec *spec,
                            const struct manifest *batches, size_t n, const struct alive *alive,
                            struct arena *a, struct trained *out, struct err *e) MUST_CHECK;

#endif
