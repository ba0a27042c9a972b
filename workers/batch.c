/*
 * batch: images.stored -> batches. The runtime collects stored images until one model has enough of
 * them or its oldest has waited long enough (the model's spec says). Then all that is collected
 * becomes manifests, one a model, more for a model with more than its count; a small one does no
 * harm, train joins those that wait. So nothing is held from call to call.
 *
 * How it fails: it holds nothing but a tally of what is collected, which a rewind clears. The
 * manifests and the positions of the images in them commit together, so an image is in exactly one
 * batch however often the worker dies. An image without a label is counted and not batched; a
 * message that cannot be read goes to the dead letters.
 */
#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/learn/spec.h"
#include "lib/stage/stage.h"

#include <stdlib.h>
#include <string.h>

/* What a manifest may weigh, where a broker takes 1 MB; and what an image in it weighs without its
 * label. */
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
        if (t->count >= spec->batch_count || waited_ms - t->since_ms >= spec->batch_age_ms)
            return true;
    }
    return false;
}

/* An image to batch, and the record that brought it. */
struct pick {
    struct stored image;
    const struct record *from;
};

/* The records that bring the images name the batch: each is in one committed batch only, so no two
   batches have one id, and a repetition of the same batch has the same. */
static struct bytes name_batch(struct bytes model, const struct pick *const *picks, size_t n,
                               struct out *out) {
    struct buf text = {0};
    char *id = arena_alloc(out_arena(out), HASH_HEX + 1);
    buf_printf(&text, "%s %.*s", stage_cluster(out), (int)model.len, (const char *)model.data);
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, " %s/%d/%lld@%lld", picks[i]->from->topic, picks[i]->from->partition,
                   (long long)picks[i]->from->offset, (long long)picks[i]->from->time_ms);
    struct hash h = hash_of(buf_bytes(&text));
    hash_hex(&h, HASH_LEN, id);
    buf_free(&text);
    return bytes_of(id);
}

static enum err_kind send_manifest(struct bytes model, const struct pick *const *picks, size_t n,
                                   struct out *out, struct err *e) {
    struct manifest m = {
        .model = model, .batch = name_batch(model, picks, n, out), .image_count = n};
    struct buf json = {0};
    m.images = arena_alloc(out_arena(out), n * sizeof *m.images);
    for (size_t i = 0; i < n; i++) {
        const struct stored *im = &picks[i]->image;
        m.images[i] = (struct manifest_image){im->row, im->revision, im->label, im->split};
    }
    manifest_encode(&m, &json);
    struct event ev = {.id = m.batch,
                       .source = BYTES("darkroom/batch"),
                       .model = model,
                       .time_ms = clock_now_ms()};
    enum err_kind kind = out_event(out, BATCHES, model, buf_bytes(&json), &ev, NULL, e);
    stage_count(out, "batched", n);
    buf_free(&json);
    return kind;
}

/* The images of one model, in manifests of at most its count and of a weight that a broker takes.
 */
static enum err_kind batch_model(struct batch *b, struct bytes model, const struct pick *list,
                                 size_t n, struct out *out, struct err *e) {
    size_t most = (size_t)specs_of(b->specs, model)->batch_count, count = 0, bytes = 0;
    const struct pick **picks = arena_alloc(out_arena(out), n * sizeof *picks);
    for (size_t i = 0; i < n; i++) {
        if (!bytes_equal(list[i].image.model, model)) continue;
        picks[count++] = &list[i];
        bytes += MANIFEST_IMAGE_BYTES + 2 * list[i].image.label.len;
        if (count < most && bytes < MANIFEST_BYTES) continue;
        if (send_manifest(model, picks, count, out, e)) return e->kind;
        count = bytes = 0;
    }
    return count ? send_manifest(model, picks, count, out, e) : ERR_NONE;
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct batch *b = state;
    struct arena *a = out_arena(out);
    struct pick *list = arena_alloc(a, n * sizeof *list);
    struct bytes *models = arena_alloc(a, n * sizeof *models);
    size_t count = 0, model_count = 0;
    rewind_(b); /* what is collected ends here */
    for (size_t i = 0; i < n; i++) {
        struct stored *image = &list[count].image;
        err_clear(e);
        list[count].from = &in[i];
        if (stored_decode(in[i].value, a, image, e)) {
            out_dead_letter(out, &in[i], e);
        } else if (!image->label.data) {
            stage_count(out, "unlabelled", 1);
        } else {
            size_t k = 0;
            while (k < model_count && !bytes_equal(models[k], image->model)) k++;
            if (k == model_count) models[model_count++] = image->model;
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
