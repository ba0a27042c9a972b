/*
 * pupil: one model as of a version, with everything that the next version grows from: net,
 * momentum, average of the weights, the rows of every batch it learned from and of the images that
 * are held out. Comes from the registry and goes back to it as artifacts.
 */
#ifndef DARKROOM_LEARN_PUPIL_H
#define DARKROOM_LEARN_PUPIL_H

#include "lib/learn/judge.h"
#include "lib/learn/lineage.h"
#include "lib/learn/registry.h"
#include "lib/nn/model.h"
#include "lib/nn/trainer.h"

/* {0} with a name is a model that has no version yet. */
struct pupil {
    char name[72];
    int64_t seen; /* the last version that this process knows of */
    int64_t version;
    char lineage[HASH_HEX + 1]; /* artifact of this version; "" at version 0 */
    int64_t steps;              /* since the net was new */
    int64_t moved;              /* of them those of this optimizer */
    int64_t averaged;           /* of them in the average, which begins anew with a new label */
    struct rows rows;           /* for training, in the order of their batches */
    struct rows held;           /* for evaluation */
    int64_t *counts,
        *fresh;         /* (model.label_count): training rows of each label, as they came, up to
                                this version, and since */
    struct model model; /* net NULL: nothing yet */
    float *momentum, *average; /* (param_count); NULL: nothing yet */
    float *second;             /* (param_count), with adamw; NULL with sgd */
};

void pupil_clear(struct pupil *p); /* keeps the name, and what was seen */

/* From the registry. ERR_AGAIN when its artifacts are gone: somebody published the next version
   meanwhile, or they are lost and people must know. */
enum err_kind pupil_load(struct pupil *p, struct registry *g, const struct trained *head,
                         const struct alive *alive, struct err *e) MUST_CHECK;

/*
 * Takes in the labels of a batch that it does not know, then brings the net to them and to the
 * spec. A net of other layers than `wanted`, or none, begins anew: *anew, with momentum and average
 * NULL.
 */
int pupil_meet_label(struct pupil *p, struct bytes label); /* its place among the model's */
enum err_kind pupil_grow(struct pupil *p, const struct net_spec *wanted, bool *anew,
                         struct err *e) MUST_CHECK;

/* The trainer of the net, going on where the last version stopped. Before it is freed,
   pupil_learned takes over what it has learned; where that is not finite (a rate too high), the
   state of before stays. */
struct trainer *pupil_trainer(struct pupil *p, const struct train_conf *conf, struct err *e);
void pupil_learned(struct pupil *p, struct trainer *t, const float *start);
float *pupil_params(const struct pupil *p); /* a copy of the net's: (param_count), to be freed */

/* Writes version p->version + 1 as artifacts, named in out->artifact and out->lineage (in the
   arena) and in *l, which has the new batches, the recipe and the places that are gone. Nobody sees
   it before out is published. pupil_published moves on to it. */
enum err_kind pupil_save(struct pupil *p, struct registry *g, struct lineage *l, struct arena *a,
                         struct trained *out, struct err *e) MUST_CHECK;
void pupil_published(struct pupil *p, const struct trained *out);

#endif
