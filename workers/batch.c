/*
 * batch: images.stored -> batches. The runtime collects stored images until one model has enough of
 * them here or its oldest has waited long enough (the model's spec says). Then all that is
 * collected becomes manifests: one per model, several where its count or the size of a message is
 * passed. A small one does no harm, train joins those that wait.
 *
 * How it fails: between calls it holds only a tally of what is collected, which each call and each
 * rewind clears. The manifests and the positions of the images in them commit together, so every
 * stored revision of an image is in exactly one batch however often the worker dies. An image
 * without a label is counted and not batched; a message that cannot be read goes to the dead
 * letters.
 */
#include "lib/base/clock.h"
#include "lib/learn/spec.h"
#include "lib/stage/stage.h"
#include "proto/messages.h"

#include <stdlib.h>
#include <string.h>

/* What a manifest may weigh, where the topic takes 1 MiB; and what an image in it weighs at most
   without its label, whose bytes may double when they are escaped. */
enum { MANIFEST_BYTES = 700 << 10, MANIFEST_IMAGE_BYTES = 128 };

struct tally {
    char model[EVENT_MODEL_MAX + 1];
    int64_t count;    /* records, by their ce_model header; those without a label are among them */
    int64_t since_ms; /* how long the collection had lasted when the model's first one came */
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
    return b->specs ? ERR_NONE : e->kind;
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
        if (t->count >= spec->batch_count || waited_ms - t->since_ms >= spec->batch_age_ms)
            return true;
    }
    return false;
}

/* The id is a hash of the records' coordinates: the same when the batch is made again, and never
   another batch's, since each record is in one committed batch only. */
static enum err_kind send_manifest(struct bytes model, const struct stored *const *images,
                                   const struct record *const *from, size_t n, struct out *out,
                                   struct err *e) {
    struct manifest m = {.model = model, .batch = out_name(out, from, n), .image_count = n};
    struct buf json = {0};
    m.images = arena_alloc(out_arena(out), n * sizeof *m.images);
    for (size_t i = 0; i < n; i++) {
        const struct stored *im = images[i];
        m.images[i] = (struct manifest_image){im->row, im->revision, im->label, im->split};
    }
    manifest_encode(&m, &json);
    struct event ev = {.id = m.batch,
                       .source = BYTES("darkroom/batch"),
                       .model = model,
                       .time_ms = clock_now_ms()};
    enum err_kind kind = out_event(out, BATCHES, model, buf_bytes(&json), &ev, NULL, e);
    if (!kind) stage_count_model(out, model, 0, n);
    buf_free(&json);
    return kind;
}

/* The images of one model, in manifests of at most its count and of a size that the topic takes.
   list and records (n): what is collected, and what brought it. */
static enum err_kind batch_model(struct batch *b, struct bytes model, const struct stored *list,
                                 const struct record *const *records, size_t n, struct out *out,
                                 struct err *e) {
    size_t most = (size_t)specs_of(b->specs, model)->batch_count, count = 0, bytes = 0;
    const struct stored **images = arena_alloc(out_arena(out), n * sizeof *images);
    const struct record **from = arena_alloc(out_arena(out), n * sizeof *from);
    for (size_t i = 0; i < n; i++) {
        if (!bytes_equal(list[i].model, model)) continue;
        images[count] = &list[i];
        from[count++] = records[i];
        bytes += MANIFEST_IMAGE_BYTES + 2 * list[i].label.len;
        if (count < most && bytes < MANIFEST_BYTES) continue;
        if (send_manifest(model, images, from, count, out, e)) return e->kind;
        count = bytes = 0;
    }
    return count ? send_manifest(model, images, from, count, out, e) : ERR_NONE;
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct arena *a = out_arena(out);
    struct stored *list = arena_alloc(a, n * sizeof *list);
    const struct record **records = arena_alloc(a, n * sizeof *records);
    struct bytes *models = arena_alloc(a, n * sizeof *models);
    size_t count = 0, model_count = 0;
    rewind_(state); /* what is collected ends here */
    for (size_t i = 0; i < n; i++) {
        if (stored_decode(in[i].value, a, &list[count], e)) {
            out_dead_letter(out, &in[i], e);
        } else if (!list[count].label.data) {
            stage_count(out, "unlabelled", 1);
        } else {
            records[count] = &in[i];
            bytes_enter(models, &model_count, list[count++].model);
        }
    }
    for (size_t k = 0; k < model_count; k++)
        if (batch_model(state, models[k], list, records, count, out, e)) return e->kind;
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
    .counters = {"unlabelled"},
    .by_model = "batched",
    .open = open_,
    .enough = enough,
    .handle = handle,
    .rewind = rewind_,
    .close = close_,
};

int main(int argc, char **argv) {
    return stage_main(&batch, argc, argv);
}
