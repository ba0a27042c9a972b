/*
 * fleet: what the command line can see of the stages: members, lag, and what is deployed.
 */
#ifndef DARKROOM_CLIENT_FLEET_H
#define DARKROOM_CLIENT_FLEET_H

#include "lib/bus/admin.h"
#include "lib/client/client.h"
#include "proto/messages.h"

struct fleet_stage {
    const char *name;
    enum topic in;
    char group[TOPIC_NAME_MAX + 1];
    int members;
    char state[32];                     /* of the group: "Stable", "Empty", … */
    int64_t lag;                        /* over all partitions; -1: unknown */
    struct admin_partition *partitions; /* owned */
    size_t partition_count;
};

enum { FLEET_STAGES = 6 };
extern const char *const fleet_names[FLEET_STAGES]; /* in the order of the flow */

/* Asks the broker about the i-th stage. The caller frees out->partitions, also after an error. */
enum err_kind fleet_look(struct admin *a, int i, struct fleet_stage *out, struct err *e) MUST_CHECK;
enum { FLEET_PREDICT = FLEET_STAGES - 1 };
int64_t fleet_lag(const struct admin_partition *p);

/* What models.deployed says, the last word for each model, by name; in the arena. ERR_AGAIN when the broker
   does not answer within ten seconds. */
enum err_kind fleet_deployed(const struct client *c, struct arena *a, struct deployed **out, size_t *n,
                             struct err *e) MUST_CHECK;

#endif
