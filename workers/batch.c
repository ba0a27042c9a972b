/*
 * batch: images.stored -> batches. Collects stored images until one model has enough of them or its oldest
 * has waited long enough (the model's spec says), and then writes one manifest a model; a model with more
 * than its count gets several.
 *
 * How it fails: it holds nothing but a tally of what is collected. The manifests and the positions of the
 * images in them commit together, so an image is in exactly one batch however often the worker dies. An
 * image without a label is counted and not batched; a message that cannot be read goes to the dead letters.
 */
#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/learn/spec.h"
#include "lib/stage/stage.h"

#include <stdlib.h>
#include <string.h>

enum { MANIFEST_BYTES = 700 << 10 }; /* what a manifest may weigh: a broker takes 1 MB */

struct tally {
    char model[EVENT_MODEL_MAX + 1];
    int64_t count;
    int64_t since_ms; /* waited_ms of the whole collection when its first image came */
};

struct batch {
    const char *models;
    struct specs *specs;
    size_t seen; /* records of the collection that are in the tallies */
    struct tally *tallies;
    size_t tally_count;
};

static const struct setting settings[] = {SPEC_SETTING(struct batch, models), {0}};

static enum err_kind open_(void *state, struct err *e) {
    struct batch *b = state;
    b->specs = specs_load(b->models, e);
    return e->kind;
}

static void rewind_(void *state) {
    struct batch *b = state;
    b->seen = b->tally_count = 0;
}

static struct tally *tally_of(struct batch *b, const struct record *r, int64_t waited_ms) {
    struct bytes model = record_header(r, "ce_model");
    if (!model.len || model.len > EVENT_MODEL_MAX) model = BYTES(EVENT_DEFAULT_MODEL);
    for (size_t i = 0; i < b->tally_count; i++)
        if (bytes_is(model, b->tallies[i].model)) return &b->tallies[i];
    b->tallies = mem_resize(b->tallies, (b->tally_count + 1) * sizeof *b->tallies);
    struct tally *t = &b->tallies[b->tally_count++];
    *t = (struct tally){.since_ms = waited_ms};
    memcpy(t->model, model.data, model.len);
    return t;
}

static bool enough(void *state, const struct record *in, size_t n, int64_t waited_ms) {
    struct batch *b = state;
    for (; b->seen < n; b->seen++) tally_of(b, &in[b->seen], waited_ms)->count++;
    for (size_t i = 0; i < b->tally_count; i++) {
        const struct tally *t = &b->tallies[i];
        const struct spec *spec = specs_of(b->specs, bytes_of(t->model));
        if (t->count >= spec->batch_count || waited_ms - t->since_ms >= spec->batch_age_ms) return true;
    }
    return false;
}

/* Sends what m holds and empties it. The id names the images and their revisions: each is in one batch
   only, so no two batches have one id. */
static enum err_kind close_manifest(struct manifest *m, struct out *out, struct err *e) {
    struct arena *a = out_arena(out);
    struct buf text = {0};
    char id[HASH_HEX + 1];
    if (!m->image_count) return ERR_NONE;
    buf_add(&text, m->model.data, m->model.len);
    for (size_t i = 0; i < m->image_count; i++)
        buf_printf(&text, " %.*s %lld", (int)m->images[i].row.len, (const char *)m->images[i].row.data, (long long)m->images[i].revision);
    struct hash h = hash_of(buf_bytes(&text));
    hash_hex(&h, HASH_LEN, id);
    m->batch = bytes_of(id);
    buf_clear(&text);
    manifest_encode(m, &text);
    struct event ev = {.id = m->batch, .source = BYTES("darkroom/batch"), .type = BYTES("darkroom.batch"), .model = m->model,
                       .content_type = bytes_of(topic_info(BATCHES)->content_type), .time_ms = clock_now_ms()};
    struct record batch = {.key = m->model, .value = buf_bytes(&text), .time_ms = -1};
    event_write(&ev, NULL, a, &batch);
    enum err_kind kind = out_send(out, BATCHES, &batch, e);
    stage_count(out, "batched", m->image_count);
    m->image_count = 0;
    buf_free(&text);
    return kind;
}

/* All images of one model, in manifests of at most its count. */
static enum err_kind batch_model(struct batch *b, struct bytes model, const struct stored *list, size_t n, struct out *out, struct err *e) {
    size_t most = (size_t)specs_of(b->specs, model)->batch_count, bytes = 0;
    struct manifest m = {.model = model, .images = arena_alloc(out_arena(out), most * sizeof *m.images)};
    for (size_t i = 0; i < n; i++) {
        if (!bytes_equal(list[i].model, model)) continue;
        m.images[m.image_count++] = (struct manifest_image){.row = list[i].row, .revision = list[i].revision, .label = list[i].label, .split = list[i].split};
        bytes += 128 + 2 * list[i].label.len;
        if (m.image_count < most && bytes < MANIFEST_BYTES) continue;
        if (close_manifest(&m, out, e)) return e->kind;
        bytes = 0;
    }
    return close_manifest(&m, out, e);
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out, struct err *e) {
    struct batch *b = state;
    struct arena *a = out_arena(out);
    struct stored *list = arena_alloc(a, n * sizeof *list);
    struct bytes *models = arena_alloc(a, n * sizeof *models);
    size_t count = 0, model_count = 0;
    rewind_(b); /* what is collected ends here */
    for (size_t i = 0; i < n; i++) {
        err_clear(e);
        if (stored_decode(in[i].value, a, &list[count], e)) {
            out_dead_letter(out, &in[i], e);
        } else if (!list[count].label.data) {
            stage_count(out, "unlabelled", 1);
        } else {
            size_t k = 0;
            while (k < model_count && !bytes_equal(models[k], list[count].model)) k++;
            if (k == model_count) models[model_count++] = list[count].model;
            count++;
        }
    }
    err_clear(e);
    for (size_t k = 0; k < model_count; k++)
        if (batch_model(b, models[k], list, count, out, e)) return e->kind;
    return ERR_NONE;
}

static void close_(void *state) {
    struct batch *b = state;
    free(b->tallies);
    specs_free(b->specs);
}

static const struct stage batch = {
    .name = "batch",
    .what = "images.stored -> batches: manifests of images to learn from",
    .in = IMAGES_STORED,
    .out = {BATCHES},
    .max_records = 16384,
    .max_bytes = 16 << 20,
    .settings = settings,
    .state_size = sizeof(struct batch),
    .counters = {"batched", "unlabelled"},
    .open = open_,
    .enough = enough,
    .handle = handle,
    .rewind = rewind_,
    .close = close_,
};

int main(int argc, char **argv) {
    return stage_main(&batch, argc, argv);
}
