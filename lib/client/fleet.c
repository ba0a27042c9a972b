/*
 * fleet: asking the broker about the stages' groups, and reading what is deployed.
 */
#include "lib/client/fleet.h"

#include "lib/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const fleet_names[FLEET_STAGES] = {"preprocess", "store", "batch", "train", "deploy", "predict"};
static const enum topic inputs[FLEET_STAGES] = {IMAGES,  IMAGES_PREPARED, IMAGES_STORED,
                                                BATCHES, MODELS_TRAINED,  PREDICTIONS_REQUESTS};

/* A group that never committed has everything before it; retention may have taken what it had not read. */
int64_t fleet_lag(const struct admin_partition *p) {
    int64_t from = p->committed > p->begin ? p->committed : p->begin;
    return p->end > from ? p->end - from : 0;
}

enum err_kind fleet_look(struct admin *a, int i, struct fleet_stage *out, struct err *e) {
    *out = (struct fleet_stage){.name = fleet_names[i], .in = inputs[i], .lag = -1};
    snprintf(out->group, sizeof out->group, "%s%s", topics_prefix_now(), out->name);
    if (admin_members(a, out->group, &out->members, out->state, e)) return e->kind;
    if (admin_positions(a, out->group, topic_name(out->in), &out->partitions, &out->partition_count, e)) return e->kind;
    out->lag = out->partition_count ? 0 : -1;
    for (size_t k = 0; k < out->partition_count; k++) out->lag += fleet_lag(&out->partitions[k]);
    return ERR_NONE;
}

static int by_model(const void *a, const void *b) {
    const struct deployed *x = a, *y = b;
    size_t n = x->model.len < y->model.len ? x->model.len : y->model.len;
    int c = memcmp(x->model.data, y->model.data, n);
    return c ? c : (x->model.len > y->model.len) - (x->model.len < y->model.len);
}

enum err_kind fleet_deployed(const struct client *c, struct arena *a, struct deployed **out, size_t *n, struct err *e) {
    struct reader *reader = client_follow(c, MODELS_DEPLOYED, READER_BEGINNING, e);
    int64_t deadline = clock_monotonic_us() + 10 * 1000000LL;
    struct deployed *list = NULL;
    bool end = false;
    *n = 0;
    while (reader && !e->kind && !end) {
        struct record r;
        bool got = false;
        if (reader_poll(reader, 20, &r, &got, e)) break;
        if (!got) {
            if (reader_at_end(reader, &end, e)) break;
            if (!end && clock_monotonic_us() > deadline) err_again(e, "%s was not read to its end within 10 s", topic_name(MODELS_DEPLOYED));
            continue;
        }
        struct deployed m = {0};
        struct err unreadable = {0};
        size_t i = 0;
        while (i < *n && !bytes_equal(list[i].model, r.key)) i++;
        if (!r.value.data) { /* the model is gone */
            if (i < *n) list[i] = list[--*n];
        } else if (!deployed_decode(r.value, a, &m, &unreadable)) {
            if (i == *n) list = mem_resize(list, ++*n * sizeof *list);
            list[i] = m;
        }
    }
    reader_close(reader);
    *out = arena_alloc(a, (*n + 1) * sizeof **out);
    if (*n) memcpy(*out, list, *n * sizeof *list);
    if (*n) qsort(*out, *n, sizeof *list, by_model);
    free(list);
    return e->kind;
}
