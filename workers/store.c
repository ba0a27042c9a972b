/*
 * store: images.prepared -> images.stored. Each image becomes a row in Redis (label, time, file
 * name, pixels) and a message that says which row, which revision, and whether it is for training
 * or evaluation (for ever: a row keeps what it was when it was first stored).
 * The table is kept to the size and age that the model's spec says: the oldest rows go.
 *
 * How it fails: Redis is outside Kafka's transaction, so every row carries the coordinates of the
 * records that wrote it. After a crash the same record is a replay: its row stays as it is, even
 * where a later revision has replaced it (index writes are repeated), and its message is sent as
 * the first time. The same pixels and label under the same model, source and id once more are a
 * duplicate: dropped and counted. Other pixels or another label are a revision: it replaces the row
 * and is passed on. An unusable event, or a tensor whose size is not its shape's, goes to the dead
 * letters. With Redis unreachable the runtime takes the records again, so nothing is lost.
 */
#include "lib/base/clock.h"
#include "lib/learn/tables.h"
#include "lib/stage/stage.h"
#include "proto/messages.h"

struct store {
    struct tables tables;
    struct buf json; /* used again for every message */
};

static const struct setting settings[] = {TABLES_SETTINGS(struct store, tables), {0}};

static enum err_kind open_(void *state, struct err *e) {
    return tables_open(&((struct store *)state)->tables, e);
}

/* The record as the row that it asks for. */
static enum err_kind row_of(const struct record *r, const struct specs *specs, struct out *out,
                            struct image_put *put, struct err *e) {
    struct event ev;
    *put = (struct image_put){.from = out_origin(out, r)};
    struct image_row *row = &put->row;
    if (event_read(r, out_arena(out), &ev, e)) return e->kind;
    if (event_shape(ev.shape, &row->height, &row->width, &row->channels, e)) return e->kind;
    if (r->value.len != (size_t)row->height * row->width * row->channels)
        return err_bad(e, REASON_BAD_SHAPE, "a tensor of %zu bytes cannot be %d x %d x %d",
                       r->value.len, row->height, row->width, row->channels);
    put->share = specs_of(specs, ev.model)->eval_share;
    row->model = ev.model;
    row->id = ev.id;
    row->source = ev.source;
    row->label = ev.label;
    row->filename = ev.subject;
    row->time_ms = ev.time_ms;
    row->pixels = r->value;
    return ERR_NONE;
}

/* What it takes to announce the images of one call. */
struct announcing {
    struct store *store;
    const struct image_put *puts;
    const struct record *const *records; /* that brought each of them */
    struct out *out;
};

/* Counts an image by what it was, and announces it; a replay too, since its first announcement was
   not committed. A duplicate is only counted. */
static enum err_kind announce(void *ctx, const struct image_put *put, struct err *e) {
    static const char *const counter[] = {[IMAGE_STORED] = "stored",
                                          [IMAGE_REPLAYED] = "replays",
                                          [IMAGE_DUPLICATE] = "duplicates",
                                          [IMAGE_REVISED] = "revisions"};
    const struct announcing *c = ctx;
    struct buf *json = &c->store->json;
    const struct image_row *row = &put->row;
    char pixels[HASH_HEX + 1];
    stage_count(c->out, counter[put->verdict], 1);
    if (put->verdict == IMAGE_DUPLICATE) return ERR_NONE;
    hash_hex(&put->pixels, HASH_LEN, pixels);
    buf_clear(json);
    stored_encode(&(struct stored){.id = row->id,
                                   .source = row->source,
                                   .row = bytes_of(put->name),
                                   .revision = put->revision,
                                   .model = row->model,
                                   .label = row->label,
                                   .pixels = bytes_of(pixels),
                                   .split = put->split},
                  json);
    struct event ev = {.id = row->id,
                       .source = row->source,
                       .subject = row->filename,
                       .model = row->model,
                       .label = row->label,
                       .time_ms = row->time_ms};
    return out_event(c->out, IMAGES_STORED, row->id, buf_bytes(json), &ev,
                     c->records[put - c->puts], e);
}

/* Evicts, oldest first, what the specs of these models do not keep. A row is as old as the first
   record that wrote it. "Now" is the time of the model's first record in this call, so that working
   off a backlog does not empty the table, and never ahead of our clock, so that another machine's
   wrong one does not either. */
static enum err_kind evict(struct tables *t, const struct image_put *puts, size_t n,
                           struct out *out, struct err *e) {
    struct bytes *models = arena_alloc(out_arena(out), n * sizeof *models);
    size_t model_count = 0;
    for (size_t i = 0; i < n; i++) {
        size_t known = model_count;
        struct bytes model = puts[i].row.model;
        int64_t removed = 0;
        if (bytes_enter(models, &model_count, model) < known) continue; /* once a model */
        int64_t now = clock_now_ms();
        if (now > puts[i].from.time_ms) now = puts[i].from.time_ms;
        if (images_evict(t->images, model, specs_of(t->specs, model), now, &removed, e))
            return e->kind;
        stage_count(out, "evicted", (uint64_t)removed);
    }
    return ERR_NONE;
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    struct store *s = state;
    struct arena *a = out_arena(out);
    struct image_put *puts = arena_alloc(a, n * sizeof *puts);
    const struct record **records = arena_alloc(a, n * sizeof *records);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        records[count] = &in[i];
        if (row_of(&in[i], s->tables.specs, out, &puts[count], e))
            out_dead_letter(out, &in[i], e);
        else
            count++;
    }
    struct announcing c = {s, puts, records, out};
    if (images_put(s->tables.images, puts, count, announce, &c, e) ||
        evict(&s->tables, puts, count, out, e))
        return e->kind;
    return ERR_NONE;
}

static void close_(void *state) {
    struct store *s = state;
    buf_free(&s->json);
    tables_close(&s->tables);
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
