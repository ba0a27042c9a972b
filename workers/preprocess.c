/*
 * preprocess: images -> images.prepared. An image file becomes the tensor that its model's spec
 * asks for: decoded, turned to grey or RGB, brought to the model's size. The output's key is the
 * image's id, so from here to batch the revisions of one image stay in one partition, in order. A
 * model without a spec has the default one; the event's attributes (id, source, model, label, file
 * name, time) and trace headers travel on.
 *
 * How it fails: a file that is no PNG, is damaged or over the limits, and an event with an unusable
 * id, source, label, model name or time, goes to the dead letters with the reason. So does a record
 * that ends the worker three times, or whose output is too long (the runtime's work, in every stage
 * but predict). It keeps nothing, and outputs and positions commit together, so after a crash what
 * was not committed is done again.
 */
#include "lib/image/tensor.h"
#include "lib/learn/spec.h"
#include "lib/stage/stage.h"

enum { MOST_OUT_BYTES = 16 << 20 }; /* of tensors in one call */

struct preprocess {
    const char *models;
    struct specs *specs;
    struct tensor_reader reader;
    struct buf tensor; /* used again for every file */
};

static const struct setting settings[] = {
    SPEC_SETTING(struct preprocess, models), TENSOR_SETTINGS(struct preprocess, reader), {0}};

static enum err_kind open_(void *state, struct err *e) {
    struct preprocess *p = state;
    p->specs = specs_load(p->models, e);
    return p->specs ? ERR_NONE : e->kind;
}

static enum err_kind prepare(struct preprocess *p, const struct record *r, struct out *out,
                             struct err *e) {
    struct arena *a = out_arena(out);
    struct event ev;
    if (event_read(r, a, &ev, e)) return e->kind;
    const struct spec *spec = specs_of(p->specs, ev.model);
    int width = (int)spec->width, height = (int)spec->height, channels = (int)spec->channels;
    buf_clear(&p->tensor);
    buf_reserve(&p->tensor, (size_t)height * width * channels);
    p->tensor.len = (size_t)height * width * channels;
    if (tensor_read(&p->reader, r->value, width, height, channels, (enum image_alpha)spec->alpha,
                    (uint8_t *)p->tensor.data, e))
        return e->kind;
    ev.shape = bytes_of(arena_printf(a, "%d,%d,%d", height, width, channels));
    return out_event(out, IMAGES_PREPARED, ev.id, buf_bytes(&p->tensor), &ev, r, e);
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    for (size_t i = 0; i < n; i++) {
        if (stage_alive(out, e)) return e->kind; /* a large image takes its time */
        if (prepare(state, &in[i], out, e) == ERR_BAD)
            out_dead_letter(out, &in[i], e);
        else if (e->kind)
            return e->kind;
    }
    return ERR_NONE;
}

/* A small file may be a large tensor: what one call gives out stays within some memory. */
static size_t fit(const void *state) {
    size_t count = MOST_OUT_BYTES / specs_largest(((const struct preprocess *)state)->specs);
    return count ? count : 1;
}

static void close_(void *state) {
    struct preprocess *p = state;
    tensor_reader_free(&p->reader);
    buf_free(&p->tensor);
    specs_free(p->specs);
}

static const struct stage preprocess = {
    .name = "preprocess",
    .what = "images -> images.prepared: decode, convert, resize",
    .in = IMAGES,
    .out = {IMAGES_PREPARED},
    .max_records = 4096,
    .most = fit,
    .max_bytes = 16 << 20,
    .overlap = true,
    .settings = settings,
    .state_size = sizeof(struct preprocess),
    .open = open_,
    .handle = handle,
    .close = close_,
};

int main(int argc, char **argv) {
    return stage_main(&preprocess, argc, argv);
}
