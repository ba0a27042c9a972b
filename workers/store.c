/*
 * store: images.prepared -> images.stored. Each image becomes a row in Redis (label, time, file
 * name, pixels) and a message that says which row, which revision, and whether it is for training
 * or evaluation. The table is kept to the size and age that the model's spec says: rows that are
 * too old go.
 *
 * How it fails: Redis cannot be undone, so every write carries the coordinates of the record that
 * caused it. After a crash the same record is a replay: it is written and answered as the first
 * time. The same pixels and label under a known id once more are a duplicate: dropped and counted.
 * Other pixels or another label are a revision: it replaces the row and is passed on. An unusable
 * event, or a tensor whose size is not its shape's, goes to the dead letters. With Redis away the
 * runtime takes the records again, so nothing is lost.
 */
#include "lib/learn/images.h"
#include "lib/stage/stage.h"

#include <stdlib.h>

struct store {
    const char *models, *redis_url;
    struct specs *specs;
    struct redis *redis;
    struct images *images;
};

static const struct setting settings[] = {
    SPEC_SETTING(struct store, models), REDIS_SETTING(struct store, redis_url), {0}};

static enum err_kind open_(void *state, struct err *e) {
    struct store *s = state;
    if (!s->specs && !(s->specs = specs_load(s->models, e))) return e->kind;
    if (!s->redis && !(s->redis = redis_open(&(struct redis_conf){.url = s->redis_url}, e)))
        return e->kind;
    if (!s->images) s->images = images_open(s->redis, topics_prefix_now());
    return images_check(s->images, e);
}

/* The record as the row that it asks for. */
static enum err_kind row_of(const struct record *r, struct out *out, struct image_put *put,
                            struct err *e) {
    struct event ev;
    *put = (struct image_put){.cluster = stage_cluster(out),
                              .topic = r->topic,
                              .partition = r->partition,
                              .offset = r->offset,
                              .record_ms = r->time_ms};
    struct image_row *row = &put->row;
    if (event_read(r, out_arena(out), &ev, e)) return e->kind;
    if (event_shape(ev.shape, &row->height, &row->width, &row->channels, e)) return e->kind;
    if (r->value.len != (size_t)row->height * row->width * row->channels)
        return err_bad(e, REASON_BAD_SHAPE, "a tensor of %zu bytes cannot be %d x %d x %d",
                       r->value.len, row->height, row->width, row->channels);
    row->model = ev.model;
    row->id = ev.id;
    row->source = ev.source;
    row->label = ev.label;
    row->filename = ev.subject;
    row->time_ms = ev.time_ms;
    row->pixels = r->value;
    return ERR_NONE;
}

static enum err_kind tell(const struct record *r, const struct image_put *put, struct out *out,
                          struct err *e) {
    struct buf json = {0};
    char pixels[HASH_HEX + 1];
    hash_hex(&put->pixels, HASH_LEN, pixels);
    stored_encode(&(struct stored){.id = put->row.id,
                                   .source = put->row.source,
                                   .row = bytes_of(put->name),
                                   .revision = put->revision,
                                   .model = put->row.model,
                                   .label = put->row.label,
                                   .split = put->split,
                                   .pixels = bytes_of(pixels)},
                  &json);
    struct event ev = {.id = put->row.id,
                       .source = put->row.source,
                       .subject = put->row.filename,
                       .model = put->row.model,
                       .label = put->row.label,
                       .time_ms = put->row.time_ms};
    enum err_kind kind = out_event(out, IMAGES_STORED, put->row.id, buf_bytes(&json), &ev, r, e);
    buf_free(&json);
    return kind;
}

/* What the spec of each model among the puts does not keep goes, oldest first. Usually they are of
   one model, or a few in turn: looking back some puts spares most calls, and one too many does no
   harm. */
static enum err_kind keep(struct store *s, const struct image_put *puts, size_t n, struct out *out,
                          struct err *e) {
    for (size_t i = 0; i < n; i++) {
        bool seen = false;
        for (size_t k = i > 8 ? i - 8 : 0; k < i && !seen; k++)
            seen = bytes_equal(puts[k].row.model, puts[i].row.model);
        int64_t removed = 0;
        if (seen) continue;
        struct bytes model = puts[i].row.model;
        if (images_keep(s->images, model, specs_of(s->specs, model), puts[i].record_ms, &removed,
                        e))
            return e->kind;
        stage_count(out, "evicted", (uint64_t)removed);
    }
    return ERR_NONE;
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    static const char *const counter[] = {[IMAGE_STORED] = "stored",
                                          [IMAGE_REPLAYED] = "replays",
                                          [IMAGE_DUPLICATE] = "duplicates",
                                          [IMAGE_REVISED] = "revisions"};
    struct store *s = state;
    struct arena *a = out_arena(out);
    struct image_put *puts = arena_alloc(a, n * sizeof *puts);
    const struct record **from = arena_alloc(a, n * sizeof *from);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        err_clear(e);
        from[count] = &in[i];
        if (row_of(&in[i], out, &puts[count], e))
            out_dead_letter(out, &in[i], e);
        else
            count++;
    }
    err_clear(e);
    if (images_put(s->images, puts, count, e)) return e->kind;
    for (size_t i = 0; i < count; i++) {
        struct image_put *put = &puts[i];
        stage_count(out, counter[put->verdict], 1);
        if (put->verdict == IMAGE_DUPLICATE) continue;
        put->split = images_split(put->name, specs_of(s->specs, put->row.model)->eval_share);
        if (tell(from[i], put, out, e)) return e->kind;
    }
    return keep(s, puts, count, out, e);
}

static void close_(void *state) {
    struct store *s = state;
    images_close(s->images);
    redis_close(s->redis);
    specs_free(s->specs);
}

static const struct stage store = {
    .name = "store",
    .what = "images.prepared -> images.stored: a row in Redis for every image",
    .in = IMAGES_PREPARED,
    .out = {IMAGES_STORED},
    .max_records = 4096,
    .max_bytes = 16 << 20,
    .overlap = true,
    .settings = settings,
    .state_size = sizeof(struct store),
    .counters = {"stored", "replays", "duplicates", "revisions", "evicted"},
    .open = open_,
    .handle = handle,
    .close = close_,
};

int main(int argc, char **argv) {
    return stage_main(&store, argc, argv);
}
