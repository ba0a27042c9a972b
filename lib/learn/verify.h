/*
 * verify: makes a version again, from its parent and its batches, and compares every bit of what
 * training leaves: weights, the optimizer's moments, and the average that answers.
 */
#ifndef DARKROOM_LEARN_VERIFY_H
#define DARKROOM_LEARN_VERIFY_H

#include "lib/base/alive.h"
#include "lib/learn/images.h"
#include "lib/learn/registry.h"

enum verdict {
    VERDICT_SAME,    /* bit for bit */
    VERDICT_DIFFERS, /* and nothing explains it: this is not what these batches make of its parent */
    VERDICT_IMAGES,  /* it differs, and images that it saw are gone or corrected since */
    VERDICT_MACHINE,   /* made by another program or on another kind of processor: not tried */
    VERDICT_NO_PARENT, /* the state that it was trained from is not kept any more: not tried */
    VERDICT_NO_RECIPE, /* made by a program that did not write down how: not tried */
};

enum { VERIFY_NAMES = 20 };

/* An image whose present content is not what the version saw. */
struct changed_image {
    struct bytes id, source; /* of one that was corrected; of one that is gone nobody knows them */
    char row[ROW_HEX + 1];
    int64_t saw, is; /* revisions; is == 0: gone */
};

struct verification {
    enum verdict verdict;
    int64_t steps, presentations; /* of the training that was repeated */
    size_t floats, different;     /* compared, and not equal */
    double largest;               /* difference */
    size_t gone, corrected;       /* images, of those that the version saw */
    struct changed_image names[VERIFY_NAMES];
    size_t name_count;
    const char *machine_then, *machine_now;
};

/* Texts live in the arena. ERR_BAD when there is no such version, or what is kept of it is damaged;
   ERR_AGAIN when Redis is away. */
enum err_kind verify_version(struct registry *g, struct images *im, struct bytes model,
                             int64_t version, const struct alive *alive, struct arena *a,
                             struct verification *out, struct err *e) MUST_CHECK;

#endif
