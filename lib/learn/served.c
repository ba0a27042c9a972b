/* served: a version is loaded beside the one in service and takes its place when complete. */
#include "lib/learn/served.h"

#include "lib/base/log.h"
#include "lib/learn/artifacts.h"
#include "lib/nn/model.h"
#include "proto/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct served {
    char name[EVENT_MODEL_MAX + 1];
    int64_t version;
    char artifact[HASH_HEX + 1];
    struct model model;
    enum image_alpha alpha;
    int classes;
    size_t size; /* bytes of an image: H x W x C */
    uint8_t *x;  /* (slice, H, W, C): images of the next pass */
    int waiting; /* rows of x that are filled */
    float *prob; /* (slice, classes): answers of the last pass */
    struct net_run *run;
};

struct served_models {
    struct redis *redis;
    struct registry *registry;
    int slice;
    struct served **list;
    size_t count;
};

struct served_models *served_open(const struct redis_conf *conf, const char *prefix, int slice,
                                  struct err *e) {
    struct redis *redis = redis_open(conf, e);
    if (!redis) return NULL;
    struct served_models *s = mem_zeroed(1, sizeof *s);
    s->redis = redis;
    s->registry = registry_open(redis, prefix);
    s->slice = slice;
    return s;
}

static void served_free(struct served *m) {
    if (!m) return;
    net_run_free(m->run);
    model_free(&m->model);
    free(m->x);
    free(m->prob);
    free(m);
}

void served_close(struct served_models *s) {
    if (!s) return;
    for (size_t i = 0; i < s->count; i++) served_free(s->list[i]);
    free(s->list);
    registry_close(s->registry);
    redis_close(s->redis);
    free(s);
}

static size_t find(const struct served_models *s, struct bytes model) {
    size_t i = 0;
    while (i < s->count && !bytes_is(model, s->list[i]->name)) i++;
    return i;
}

static struct served *load(struct served_models *s, const struct deployed *d, struct err *e) {
    struct served *m = mem_zeroed(1, sizeof *m);
    if (artifact_model(s->registry, d->artifact, &m->model, e)) {
        served_free(m);
        return NULL;
    }
    const char *alpha = model_note(&m->model, "alpha");
    snprintf(m->name, sizeof m->name, "%.*s", (int)d->model.len, (const char *)d->model.data);
    snprintf(m->artifact, sizeof m->artifact, "%.*s", (int)d->artifact.len,
             (const char *)d->artifact.data);
    m->version = d->version;
    m->alpha = alpha && strcmp(alpha, "black") == 0 ? IMAGE_OVER_BLACK : IMAGE_OVER_WHITE;
    m->classes = net_classes(m->model.net);
    m->size = net_image_size(m->model.net);
    m->x = mem_alloc((size_t)s->slice * m->size);
    m->prob = mem_alloc((size_t)s->slice * (size_t)m->classes * sizeof *m->prob);
    m->run = net_run_make(m->model.net, s->slice);
    return m;
}

static void forget(struct served_models *s, size_t i) {
    if (i == s->count) return;
    served_free(s->list[i]);
    s->list[i] = s->list[--s->count];
}

enum err_kind served_update(struct served_models *s, struct bytes key, struct bytes value,
                            struct err *e) {
    struct arena a = {0};
    struct deployed d;
    if (!event_model_is_valid(key)) {
        log_error("models.deployed has a record whose key names no model");
        return ERR_NONE;
    }
    if (!value.data) {
        forget(s, find(s, key));
        return ERR_NONE;
    }
    if (deployed_decode(value, &a, &d, e)) goto done;
    size_t i = find(s, d.model);
    if (d.version == 0 || (i < s->count && bytes_is(d.artifact, s->list[i]->artifact) &&
                           s->list[i]->version == d.version))
        goto done;
    struct served *m = load(s, &d, e);
    if (!m) goto done;
    log_info("model %s: version %lld serves now (%d labels, %.12s)", m->name, (long long)m->version,
             m->classes, m->artifact);
    if (i < s->count) {
        served_free(s->list[i]);
    } else {
        s->list = mem_resize(s->list, (s->count + 1) * sizeof(struct served *));
        s->count++;
    }
    s->list[i] = m;
done:
    arena_free(&a);
    if (e->kind == ERR_BAD) {
        log_error("models.deployed names a version that cannot be served: %s", e->text);
        err_clear(e);
    }
    return e->kind;
}

struct served *served_find(struct served_models *s, struct bytes model, struct err *e) {
    size_t i = find(s, model);
    if (i < s->count) return s->list[i];
    err_bad(e, REASON_NO_MODEL, "no version of model \"%.*s\" is deployed", (int)model.len,
            (const char *)model.data);
    return NULL;
}

bool served_at(const struct served_models *s, size_t i, struct bytes *model, int64_t *version) {
    if (i >= s->count) return false;
    *model = bytes_of(s->list[i]->name);
    *version = s->list[i]->version;
    return true;
}

enum err_kind served_read(struct served *m, struct tensor_reader *reader, struct bytes file,
                          int *at, struct err *e) {
    const struct net_spec *net = net_spec(m->model.net);
    if (tensor_read(reader, file, net->width, net->height, net->channels, m->alpha,
                    m->x + (size_t)m->waiting * m->size, e))
        return e->kind;
    *at = m->waiting++;
    return ERR_NONE;
}

void served_run(struct served_models *s) {
    for (size_t i = 0; i < s->count; i++) {
        struct served *m = s->list[i];
        if (m->waiting) net_forward(m->run, NULL, m->x, m->waiting, m->prob);
        m->waiting = 0;
    }
}

void served_answer(const struct served *m, int at, struct result *r) {
    const float *prob = m->prob + (size_t)at * (size_t)m->classes;
    int best = 0;
    for (int k = 1; k < m->classes; k++)
        if (prob[k] > prob[best]) best = k;
    r->version = m->version;
    r->artifact = bytes_of(m->artifact);
    r->label = bytes_of(m->model.labels[best]);
    r->probability = (double)prob[best];
    r->labels = (const char *const *)m->model.labels;
    r->probabilities = prob;
    r->label_count = (size_t)m->classes;
}
