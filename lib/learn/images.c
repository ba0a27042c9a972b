/* images: many commands at once, answers in their order; a row's bytes are lib/learn/row's. */
#include "lib/learn/images.h"

#include "lib/base/log.h"
#include "lib/learn/row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512, EVICT_MOST = 4096, CAS_TRIES = 16 };

struct images {
    struct redis *redis;
    char *prefix;
    struct buf row, key; /* scratch */
};

struct images *images_open(struct redis *r, const char *prefix) {
    struct images *im = mem_zeroed(1, sizeof *im);
    im->redis = r;
    im->prefix = mem_copy(prefix, strlen(prefix));
    return im;
}

void images_close(struct images *im) {
    if (!im) return;
    buf_free(&im->row);
    buf_free(&im->key);
    free(im->prefix);
    free(im);
}

enum err_kind images_check(struct images *im, struct err *e) {
    bool durable = true;
    if (redis_check(im->redis, &durable, e)) return e->kind;
    if (!durable)
        log_warn("Redis at %s has no append-only file: what it holds is gone when it restarts "
                 "(appendonly yes)",
                 redis_where(im->redis));
    return ERR_NONE;
}

/* ---- names ---- */

void images_row_name(struct bytes source, struct bytes id, char name[ROW_HEX + 1]) {
    const struct bytes parts[] = {source, {"", 1}, id};
    struct hash h = hash_of_parts(parts, 3);
    hash_hex(&h, ROW_HEX / 2, name);
}

/* The first 52 bits of the name as a number in 0..1: ids are spread evenly by their hash. */
enum split images_split(const char name[ROW_HEX + 1], double share) {
    char head[14];
    memcpy(head, name, 13);
    head[13] = 0;
    return (double)strtoull(head, NULL, 16) / 0x1p52 < share ? SPLIT_EVAL : SPLIT_TRAIN;
}

static struct bytes key_of(struct images *im, struct bytes model, const char *name) {
    buf_clear(&im->key);
    buf_printf(&im->key, "%simage:{%.*s}:%s", im->prefix, (int)model.len, (const char *)model.data,
               name);
    return buf_bytes(&im->key);
}

static struct bytes index_of(struct images *im, struct bytes model) {
    buf_clear(&im->key);
    buf_printf(&im->key, "%simages:{%.*s}", im->prefix, (int)model.len, (const char *)model.data);
    return buf_bytes(&im->key);
}

static enum err_kind parse_or_say(struct images *im, struct bytes data, struct row *r,
                                  struct err *e) {
    if (row_parse(data, r)) return ERR_NONE;
    return err_fatal(e, "%s in Redis at %s is not a row of Darkroom's, or of a newer one",
                     im->key.data, redis_where(im->redis));
}

/* ---- storing ---- */

static uint64_t log_of(const struct image_put *p) {
    const struct bytes parts[] = {bytes_of(p->from.cluster), {"", 1}, bytes_of(p->from.topic)};
    struct hash h = hash_of_parts(parts, 3);
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)h.bytes[i] << 8 * i;
    return v;
}

static void queue_set(struct images *im, struct bytes key, struct bytes row) {
    redis_put(im->redis, 5,
              (const struct bytes[]){BYTES("SET"), key, row, BYTES("NX"), BYTES("GET")});
}

static void queue_index(struct images *im, const struct image_put *p) {
    char score[24];
    snprintf(score, sizeof score, "%lld", (long long)p->from.time_ms);
    redis_put(im->redis, 5,
              (const struct bytes[]){BYTES("ZADD"), index_of(im, p->row.model), BYTES("NX"),
                                     bytes_of(score), bytes_of(p->name)});
}

/* Replaces a row only while it begins (revision and origins) as the one that was read. */
static struct redis_script replace_script = {
    "if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end "
    "redis.call('SET', KEYS[1], ARGV[2]) return 1",
    ""};

/* One record by itself, against the row as it is now. */
static enum err_kind put_alone(struct images *im, struct image_put *p, const struct origin *o,
                               struct err *e) {
    for (int i = 0; i < CAS_TRIES; i++) {
        struct redis_reply reply;
        struct row was;
        struct bytes key = key_of(im, p->row.model, p->name);
        row_first(p, o, &im->row);
        if (redis_do(im->redis, &reply, e, 5,
                     (const struct bytes[]){BYTES("SET"), key, buf_bytes(&im->row), BYTES("NX"),
                                            BYTES("GET")}))
            return e->kind;
        if (reply.type == REDIS_NIL) { /* evicted meanwhile, and its name with it */
            p->verdict = IMAGE_STORED;
            p->revision = 1;
            queue_index(im, p);
            return redis_next(im->redis, &reply, e);
        }
        if (parse_or_say(im, reply.text, &was, e)) return e->kind;
        row_judge(&was, o, p);
        if (p->verdict != IMAGE_REVISED) return ERR_NONE;
        struct bytes head = row_head(reply.text, &was);
        head.data = mem_copy(head.data, head.len);
        row_next(&was, p, o, &im->row);
        enum err_kind kind = redis_script(im->redis, &replace_script, &reply, e, 1, 3,
                                          (const struct bytes[]){key, head, buf_bytes(&im->row)});
        free((void *)head.data);
        if (kind) return kind;
        if (reply.integer == 1) return ERR_NONE;
    }
    return err_again(
        e, "image %s changes faster than it can be corrected: another worker writes it too",
        p->name);
}

static enum err_kind note_models(struct images *im, const struct image_put *list, size_t n,
                                 struct err *e) {
    struct redis_reply reply;
    char key[256];
    snprintf(key, sizeof key, "%smodels", im->prefix);
    for (size_t i = 0; i < n; i++) {
        if (i && bytes_equal(list[i].row.model, list[i - 1].row.model)) continue;
        redis_put(im->redis, 3,
                  (const struct bytes[]){BYTES("SADD"), bytes_of(key), list[i].row.model});
    }
    while (redis_unread(im->redis))
        if (redis_next(im->redis, &reply, e)) return e->kind;
    return ERR_NONE;
}

/* The index too, also when the row is there: a crash may have come between the two. */
static void queue_puts(struct images *im, struct image_put *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct image_put *p = &list[i];
        bool as_before =
            i && p->from.cluster == p[-1].from.cluster && p->from.topic == p[-1].from.topic;
        p->log = as_before ? p[-1].log : log_of(p);
        struct origin o = row_origin(p);
        images_row_name(p->row.source, p->row.id, p->name);
        p->pixels = hash_of(p->row.pixels);
        p->split = images_split(p->name, p->share);
        row_first(p, &o, &im->row);
        queue_set(im, key_of(im, p->row.model, p->name), buf_bytes(&im->row));
        queue_index(im, p);
    }
}

static enum err_kind read_answers(struct images *im, struct image_put *list, size_t n,
                                  bool *revised, struct err *e) {
    for (size_t i = 0; i < n; i++) {
        struct image_put *p = &list[i];
        struct origin o = row_origin(p);
        struct redis_reply reply;
        struct row was;
        if (redis_next(im->redis, &reply, e)) return e->kind;
        if (reply.type == REDIS_NIL) {
            p->verdict = IMAGE_STORED;
            p->revision = 1;
        } else {
            key_of(im, p->row.model, p->name);
            if (parse_or_say(im, reply.text, &was, e)) return e->kind;
            row_judge(&was, &o, p);
            *revised |= p->verdict == IMAGE_REVISED;
        }
        if (redis_next(im->redis, &reply, e)) return e->kind;
    }
    return ERR_NONE;
}

/* A correction changes the row, so what follows it is judged anew, in order. */
static enum err_kind put_corrections(struct images *im, struct image_put *list, size_t n,
                                     struct err *e) {
    for (size_t i = 0; i < n; i++) {
        struct origin o = row_origin(&list[i]);
        if (list[i].verdict != IMAGE_STORED && put_alone(im, &list[i], &o, e)) return e->kind;
    }
    return ERR_NONE;
}

/* Two chunks at a time: the server works on one while the answers to the other are used here. */
enum err_kind images_put(struct images *im, struct image_put *list, size_t n,
                         enum err_kind (*done)(void *ctx, const struct image_put *p, struct err *e),
                         void *ctx, struct err *e) {
    if (!n) return ERR_NONE;
    size_t queued = n < CHUNK ? n : CHUNK;
    redis_reset(im->redis);
    queue_puts(im, list, queued);
    for (size_t at = 0; at < n;) {
        size_t end = queued, more = n - queued < CHUNK ? n - queued : CHUNK;
        bool revised = false;
        queue_puts(im, list + queued, more);
        queued += more;
        if (redis_flush(im->redis, e) || read_answers(im, list + at, end - at, &revised, e))
            return e->kind;
        if (revised) { /* rare: then both chunks are finished before anything else */
            if (read_answers(im, list + end, queued - end, &revised, e) ||
                put_corrections(im, list + at, queued - at, e))
                return e->kind;
            end = queued;
            more = n - queued < CHUNK ? n - queued : CHUNK;
            queue_puts(im, list + queued, more);
            queued += more;
        }
        for (; at < end; at++)
            if (done && done(ctx, &list[at], e)) return e->kind;
    }
    return note_models(im, list, n, e);
}

/* ---- evicting ---- */

/* One script, so that no revision of a row can come between its removal and that of its name. */
static struct redis_script evict_script = {
    "local function drop(names) for i = 1, #names do redis.call('DEL', ARGV[1] .. names[i]) "
    "redis.call('ZREM', KEYS[1], names[i]) end return #names end "
    "local over, gone = 0, 0 "
    "if tonumber(ARGV[2]) > 0 then over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2]) end "
    "if over > 0 then gone = drop(redis.call('ZRANGE', KEYS[1], 0, math.min(over, "
    "tonumber(ARGV[4])) - 1)) end "
    "if ARGV[3] ~= '' then gone = gone + drop(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', "
    "ARGV[3], 'LIMIT', 0, ARGV[4])) end "
    "return gone",
    ""};

enum err_kind images_evict(struct images *im, struct bytes model, const struct spec *spec,
                           int64_t now_ms, int64_t *removed, struct err *e) {
    struct redis_reply reply;
    char most[24], oldest[24] = "", limit[12];
    *removed = 0;
    if (!spec->keep_images && !spec->keep_age_ms) return ERR_NONE;
    snprintf(most, sizeof most, "%lld", (long long)spec->keep_images);
    snprintf(limit, sizeof limit, "%d", EVICT_MOST);
    if (spec->keep_age_ms)
        snprintf(oldest, sizeof oldest, "%lld", (long long)(now_ms - spec->keep_age_ms));
    struct bytes stem = key_of(im, model, "");
    char *rows = mem_copy(stem.data, stem.len);
    enum err_kind kind =
        redis_script(im->redis, &evict_script, &reply, e, 1, 5,
                     (const struct bytes[]){index_of(im, model), bytes_of(rows), bytes_of(most),
                                            bytes_of(oldest), bytes_of(limit)});
    free(rows);
    if (!kind) *removed = reply.integer;
    return kind;
}

/* ---- removing ---- */

/* Pairs of a name and how its row begins (revision and origins; "": however): a row that was revised
   since it was read stays. A name without a row goes from the index, too. Answers how many rows. */
static struct redis_script remove_script = {
    "local n = 0 for i = 2, #ARGV, 2 do local key, begin = ARGV[1] .. ARGV[i], ARGV[i + 1] "
    "if begin == '' or redis.call('GETRANGE', key, 0, #begin - 1) == begin then "
    "n = n + redis.call('DEL', key) redis.call('ZREM', KEYS[1], ARGV[i]) end end return n",
    ""};

/* names and begins: n <= CHUNK. */
static enum err_kind remove_rows(struct images *im, struct bytes model, const struct bytes *names,
                                 const struct bytes *begins, size_t n, int64_t *removed,
                                 struct err *e) {
    struct redis_reply reply;
    struct bytes words[2 + 2 * CHUNK];
    struct bytes stem = key_of(im, model, "");
    char *rows = mem_copy(stem.data, stem.len);
    words[0] = index_of(im, model);
    words[1] = bytes_of(rows);
    for (size_t i = 0; i < n; i++) {
        words[2 + 2 * i] = names[i];
        words[3 + 2 * i] = begins[i];
    }
    enum err_kind kind =
        redis_script(im->redis, &remove_script, &reply, e, 1, (int)(2 + 2 * n), words);
    free(rows);
    *removed = kind ? 0 : reply.integer;
    return kind;
}

enum err_kind images_remove(struct images *im, struct bytes model, struct bytes source,
                            struct bytes id, bool *removed, struct err *e) {
    char name[ROW_HEX + 1];
    int64_t n = 0;
    images_row_name(source, id, name);
    const struct bytes names[] = {bytes_of(name)}, any[] = {BYTES("")};
    enum err_kind kind = remove_rows(im, model, names, any, 1, &n, e);
    *removed = n > 0;
    return kind;
}

/* Of a page, those that have the label, and how their rows begin. */
struct labelled {
    struct bytes names[CHUNK], begins[CHUNK];
    size_t count;
};

static enum err_kind find_labelled(struct images *im, struct bytes model, struct bytes label,
                                   const struct bytes *names, size_t n, struct arena *a,
                                   struct labelled *out, struct err *e) {
    struct redis_reply reply;
    struct bytes words[CHUNK + 1] = {BYTES("MGET")};
    out->count = 0;
    for (size_t i = 0; i < n; i++) words[i + 1] = arena_copy(a, key_of(im, model, names[i].data));
    if (redis_do(im->redis, &reply, e, (int)n + 1, words)) return e->kind;
    if (reply.count != n)
        return err_fatal(e, "Redis at %s answered MGET of %zu keys with %zu values",
                         redis_where(im->redis), n, reply.count);
    for (size_t i = 0; i < n; i++) {
        struct row row;
        struct bytes text = reply.items[i].text;
        if (reply.items[i].type == REDIS_NIL) continue;
        if (parse_or_say(im, text, &row, e)) return e->kind;
        if (!row_same_text(row.image.label, label)) continue;
        out->names[out->count] = names[i];
        out->begins[out->count++] = arena_copy(a, row_head(text, &row));
    }
    return ERR_NONE;
}

/* From the newest back, by places counted from the end: new images, and the oldest that are evicted,
   move no image past the place that comes next; at the most some are seen twice. */
enum err_kind images_remove_label(struct images *im, struct bytes model, struct bytes label,
                                  bool count_only,
                                  enum err_kind (*page)(void *ctx, int64_t looked_at, int64_t found,
                                                        struct err *e),
                                  void *ctx, int64_t *found, struct err *e) {
    struct arena a = {0};
    struct labelled *of = mem_alloc(sizeof *of);
    int64_t at = 0, looked_at = 0;
    *found = 0;
    err_clear(e);
    for (;;) {
        struct redis_reply reply;
        struct bytes names[CHUNK];
        char from[24], to[24];
        size_t n = 0;
        int64_t removed = 0;
        arena_reset(&a);
        snprintf(from, sizeof from, "%lld", (long long)(-at - CHUNK));
        snprintf(to, sizeof to, "%lld", (long long)(-at - 1));
        if (redis_do(im->redis, &reply, e, 4,
                     (const struct bytes[]){BYTES("ZRANGE"), index_of(im, model), bytes_of(from),
                                            bytes_of(to)}))
            break;
        size_t listed = reply.count;
        if (!listed) break;
        for (size_t i = 0; i < listed; i++)
            if (reply.items[i].text.len == ROW_HEX)
                names[n++] = bytes_of(arena_text(&a, reply.items[i].text));
        if (n && find_labelled(im, model, label, names, n, &a, of, e)) break;
        if (count_only)
            *found += n ? (int64_t)of->count : 0;
        else if (n && of->count &&
                 remove_rows(im, model, of->names, of->begins, of->count, &removed, e))
            break;
        *found += removed;
        looked_at += (int64_t)listed;
        at += (int64_t)listed - removed;
        if (page(ctx, looked_at, *found, e)) break;
    }
    free(of);
    arena_free(&a);
    return e->kind;
}

/* ---- reading ---- */

struct get_all {
    enum err_kind (*each)(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e);
    void *ctx;
    struct bytes model;
};

static enum err_kind give(struct images *im, const struct get_all *g, size_t i,
                          const struct redis_reply *r, struct err *e) {
    struct row row;
    if (r->type == REDIS_NIL) return g->each(g->ctx, i, NULL, 0, e);
    if (parse_or_say(im, r->text, &row, e)) return e->kind;
    row.image.model = g->model;
    return g->each(g->ctx, i, &row.image, row.revision, e);
}

size_t images_at_once(size_t image, size_t most) {
    size_t n = ((size_t)16 << 20) / image;
    return n > most ? most : n ? n : 1;
}

enum err_kind images_get(struct images *im, struct bytes model, const char (*names)[ROW_HEX + 1],
                         size_t n,
                         enum err_kind (*each)(void *ctx, size_t i, const struct image_row *row,
                                               int64_t revision, struct err *e),
                         void *ctx, struct err *e) {
    const struct get_all g = {each, ctx, model};
    struct bytes words[CHUNK + 1] = {BYTES("MGET")};
    struct arena a = {0};
    for (size_t at = 0; at < n && !e->kind; at += CHUNK) {
        size_t count = n - at < CHUNK ? n - at : CHUNK;
        struct redis_reply reply;
        arena_reset(&a);
        for (size_t i = 0; i < count; i++)
            words[i + 1] = arena_copy(&a, key_of(im, model, names[at + i]));
        if (redis_do(im->redis, &reply, e, (int)count + 1, words)) break;
        if (reply.type != REDIS_ARRAY || reply.count != count) {
            err_fatal(e, "Redis at %s answered MGET of %zu keys with %zu values",
                      redis_where(im->redis), count, reply.count);
            break;
        }
        for (size_t i = 0; i < count; i++)
            if (give(im, &g, at + i, &reply.items[i], e)) break;
    }
    arena_free(&a);
    return e->kind;
}

struct with_names {
    enum err_kind (*each)(void *ctx, const char *name, const struct image_row *row,
                          int64_t revision, struct err *e);
    void *ctx;
    const char (*names)[ROW_HEX + 1];
};

static enum err_kind give_named(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                                struct err *e) {
    const struct with_names *w = ctx;
    return row ? w->each(w->ctx, w->names[i], row, revision, e) : ERR_NONE;
}

enum err_kind images_each(struct images *im, struct bytes model,
                          enum err_kind (*each)(void *ctx, const char *name,
                                                const struct image_row *row, int64_t revision,
                                                struct err *e),
                          void *ctx, struct err *e) {
    char names[CHUNK][ROW_HEX + 1];
    for (size_t at = 0;; at += CHUNK) {
        struct redis_reply reply;
        char from[24], to[24];
        size_t n = 0;
        snprintf(from, sizeof from, "%zu", at);
        snprintf(to, sizeof to, "%zu", at + CHUNK - 1);
        if (redis_do(im->redis, &reply, e, 4,
                     (const struct bytes[]){BYTES("ZRANGE"), index_of(im, model), bytes_of(from),
                                            bytes_of(to)}))
            return e->kind;
        if (!reply.count) return ERR_NONE;
        for (size_t i = 0; i < reply.count; i++)
            if (reply.items[i].text.len == ROW_HEX)
                snprintf(names[n++], ROW_HEX + 1, "%s", (const char *)reply.items[i].text.data);
        struct with_names w = {each, ctx, (const char(*)[ROW_HEX + 1]) names};
        if (images_get(im, model, w.names, n, give_named, &w, e)) return e->kind;
    }
}

enum err_kind images_count(struct images *im, struct bytes model, int64_t *count, struct err *e) {
    struct redis_reply reply;
    if (redis_do(im->redis, &reply, e, 2,
                 (const struct bytes[]){BYTES("ZCARD"), index_of(im, model)}))
        return e->kind;
    *count = reply.integer;
    return ERR_NONE;
}

static int by_text(const void *a, const void *b) {
    return strcmp(((const struct bytes *)a)->data, ((const struct bytes *)b)->data);
}

enum err_kind images_models(struct images *im, struct arena *a, struct bytes **models, size_t *n,
                            struct err *e) {
    struct redis_reply reply;
    char key[256];
    snprintf(key, sizeof key, "%smodels", im->prefix);
    if (redis_do(im->redis, &reply, e, 2, (const struct bytes[]){BYTES("SMEMBERS"), bytes_of(key)}))
        return e->kind;
    *models = arena_alloc(a, reply.count * sizeof **models);
    *n = reply.count;
    for (size_t i = 0; i < *n; i++) (*models)[i] = arena_copy(a, reply.items[i].text);
    qsort(*models, *n, sizeof **models, by_text);
    return ERR_NONE;
}
