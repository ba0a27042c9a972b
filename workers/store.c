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
#include "lib/base/clock.h"
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

/* Where the record stood first: one that comes back from the dead letters has it in its headers, and is a replay
   if its row was written before it was refused. */
static void origin_of(const struct record *r, struct out *out, struct image_put *put) {
    struct bytes cluster = record_header(r, "dlq.cluster"), topic = record_header(r, "dlq.topic"),
                 partition = record_header(r, "dlq.partition"),
                 offset = record_header(r, "dlq.offset"),
                 time = record_header(r, "dlq.record-time");
    struct err ignored = {0};
    put->cluster = stage_cluster(out);
    put->topic = r->topic;
    put->partition = r->partition;
    put->offset = r->offset;
    put->record_ms = r->time_ms;
    if (!bytes_is(topic, r->topic) || !cluster.data || !partition.data || !offset.data ||
        clock_parse(time, &put->record_ms, &ignored))
        return;
    put->cluster = arena_text(out_arena(out), cluster);
    put->partition = (int32_t)strtol(arena_text(out_arena(out), partition), NULL, 10);
    put->offset = strtoll(arena_text(out_arena(out), offset), NULL, 10);
}

/* The record as the row that it asks for. */
static enum err_kind row_of(const struct record *r, struct out *out, struct image_put *put,
                            struct err *e) {
    struct event ev;
    *put = (struct image_put){0};
    origin_of(r, out, put);
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
    struct store *store;
    const struct record *const *from; /* the record of each put */
    const struct image_put *puts;
    struct out *out;
    struct buf json;
};

/* Counts an image that is in the table now, and tells of it unless it was there already. */
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
            .split = images_split(put->name, specs_of(c->store->specs, row->model)->eval_share)},
        &c->json);
    struct event ev = {.id = row->id,
                       .source = row->source,
                       .subject = row->filename,
                       .model = row->model,
                       .label = row->label,
                       .time_ms = row->time_ms};
    return out_event(c->out, IMAGES_STORED, row->id, buf_bytes(&c->json), &ev,
                     c->from[put - c->puts], e);
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
    struct call c = {.store = s, .from = from, .puts = puts, .out = out};
    if (!images_put(s->images, puts, count, tell, &c, e)) (void)!keep(s, puts, count, out, e);
    buf_free(&c.json);
    return e->kind;
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
