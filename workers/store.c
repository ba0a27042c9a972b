/*
 * store: images.prepared -> images.stored. Each image becomes a row in Redis (label, time, file
 * name, pixels) and a message that says which row, which revision, and whether it is for training
 * or evaluation (by the row's name, so always the same). The table is kept to the size and age that
 * the model's spec says: the oldest rows go.
 *
 * How it fails: Redis cannot be undone, so every write carries the coordinates of the record that
 * caused it. After a crash the same record is a replay: it is written and answered as the first
 * time. The same pixels and label under the same model, source and id once more are a duplicate:
 * dropped and counted. Other pixels or another label are a revision: it replaces the row and is
 * passed on. An unusable event, or a tensor whose size is not its shape's, goes to the dead letters.
 * With Redis away the runtime takes the records again, so nothing is lost.
 */
#include "lib/base/clock.h"
#include "lib/learn/tables.h"
#include "lib/stage/stage.h"

struct store {
    struct tables tables;
};

static const struct setting settings[] = {TABLES_SETTINGS(struct store, tables), {0}};

static enum err_kind open_(void *state, struct err *e) {
    return tables_open(&((struct store *)state)->tables, e);
}

/* The record as the row that it asks for. */
static enum err_kind row_of(const struct record *r, struct out *out, struct image_put *put,
                            struct err *e) {
    struct event ev;
    *put = (struct image_put){.from = out_origin(out, r)};
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

/* What happens to one call's images. */
struct call {
    struct tables *tables;
    const struct record *const *records; /* of each put */
    const struct image_put *puts;
    struct out *out;
    struct buf json;
};

/* Counts an image by what it was, and tells of it; of a replay too, since its first telling was not
   committed. A duplicate is only counted. */
static enum err_kind tell(void *ctx, const struct image_put *put, struct err *e) {
    static const char *const counter[] = {[IMAGE_STORED] = "stored",
                                          [IMAGE_REPLAYED] = "replays",
                                          [IMAGE_DUPLICATE] = "duplicates",
                                          [IMAGE_REVISED] = "revisions"};
    struct call *c = ctx;
    const struct image_row *row = &put->row;
    char pixels[HASH_HEX + 1];
    stage_count(c->out, counter[put->verdict], 1);
    if (put->verdict == IMAGE_DUPLICATE) return ERR_NONE;
    hash_hex(&put->pixels, HASH_LEN, pixels);
    buf_clear(&c->json);
    stored_encode(
        &(struct stored){
            .id = row->id,
            .source = row->source,
            .row = bytes_of(put->name),
            .revision = put->revision,
            .model = row->model,
            .label = row->label,
            .pixels = bytes_of(pixels),
            .split = images_split(put->name, specs_of(c->tables->specs, row->model)->eval_share)},
        &c->json);
    struct event ev = {.id = row->id,
                       .source = row->source,
                       .subject = row->filename,
                       .model = row->model,
                       .label = row->label,
                       .time_ms = row->time_ms};
    return out_event(c->out, IMAGES_STORED, row->id, buf_bytes(&c->json), &ev,
                     c->records[put - c->puts], e);
}

/* What the spec of each model among the puts does not keep goes, oldest first. A row's age is that of
   its record, counted up to the model's first record here and not up to now: working off a backlog
   does not empty the table. Nor does a record from ahead of our time: some other machine's clock is
   wrong. */
static enum err_kind keep(struct tables *t, const struct image_put *puts, size_t n, struct out *out,
                          struct err *e) {
    struct bytes *models = arena_alloc(out_arena(out), n * sizeof *models);
    size_t model_count = 0;
    for (size_t i = 0; i < n; i++) {
        size_t known = model_count;
        struct bytes model = puts[i].row.model;
        int64_t removed = 0;
        if (bytes_enter(models, &model_count, model) < known) continue; /* once a model */
        int64_t now = clock_now_ms();
        if (now > puts[i].from.time_ms) now = puts[i].from.time_ms;
        if (images_keep(t->images, model, specs_of(t->specs, model), now, &removed, e))
            return e->kind;
        stage_count(out, "evicted", (uint64_t)removed);
    }
    return ERR_NONE;
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct tables *t = &((struct store *)state)->tables;
    struct arena *a = out_arena(out);
    struct image_put *puts = arena_alloc(a, n * sizeof *puts);
    const struct record **records = arena_alloc(a, n * sizeof *records);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        err_clear(e);
        records[count] = &in[i];
        if (row_of(&in[i], out, &puts[count], e))
            out_dead_letter(out, &in[i], e);
        else
            count++;
    }
    err_clear(e);
    struct call c = {.tables = t, .records = records, .puts = puts, .out = out};
    if (!images_put(t->images, puts, count, tell, &c, e)) (void)!keep(t, puts, count, out, e);
    buf_free(&c.json);
    return e->kind;
}

static void close_(void *state) {
    tables_close(&((struct store *)state)->tables);
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
