/* registry: one Redis command or one script a call, so each is all or nothing. */
#include "lib/learn/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct registry {
    struct redis *redis;
    char *prefix;
    char key[400];
};

struct registry *registry_open(struct redis *r, const char *prefix) {
    struct registry *g = mem_zeroed(1, sizeof *g);
    g->redis = r;
    g->prefix = mem_copy(prefix, strlen(prefix));
    return g;
}

void registry_close(struct registry *g) {
    if (!g) return;
    free(g->prefix);
    free(g);
}

static struct bytes artifact_key(struct registry *g, struct bytes name) {
    snprintf(g->key, sizeof g->key, "%sartifact:%.*s", g->prefix, (int)name.len,
             (const char *)name.data);
    return bytes_of(g->key);
}

static struct bytes model_key(struct registry *g, struct bytes model, const char *what,
                              char out[400]) {
    snprintf(out, 400, "%smodel:{%.*s}:%s", g->prefix, (int)model.len, (const char *)model.data,
             what);
    return bytes_of(out);
}

/* ---- artifacts ---- */

enum err_kind registry_put_artifact(struct registry *g, struct bytes data, char name[HASH_HEX + 1],
                                    struct err *e) {
    struct redis_reply reply;
    struct hash h = hash_of(data);
    hash_hex(&h, HASH_LEN, name);
    return redis_do(
        g->redis, &reply, e, 4,
        (const struct bytes[]){BYTES("SET"), artifact_key(g, bytes_of(name)), data, BYTES("NX")});
}

enum err_kind registry_get_artifact(struct registry *g, struct bytes name, struct buf *out,
                                    struct err *e) {
    struct redis_reply reply;
    struct hash want, have;
    if (!hash_from_hex(name, &want))
        return err_bad(e, REASON_BAD_MODEL_FILE, "an artifact's name must be %d hex digits",
                       HASH_HEX);
    if (redis_do(g->redis, &reply, e, 2,
                 (const struct bytes[]){BYTES("GET"), artifact_key(g, name)}))
        return e->kind;
    if (reply.type == REDIS_NIL)
        return err_bad(e, REASON_BAD_MODEL_FILE, "artifact %.12s is not in Redis at %s",
                       (const char *)name.data, redis_where(g->redis));
    have = hash_of(reply.text);
    if (!hash_equal(&want, &have))
        return err_bad(e, REASON_BAD_MODEL_FILE,
                       "artifact %.12s in Redis at %s is damaged: its bytes have another SHA-256",
                       (const char *)name.data, redis_where(g->redis));
    buf_clear(out);
    buf_add(out, reply.text.data, reply.text.len);
    return ERR_NONE;
}

enum err_kind registry_has(struct registry *g, const struct bytes *names, size_t n, bool *there,
                           struct err *e) {
    struct redis_reply reply;
    *there = true;
    for (size_t i = 0; i < n && *there; i++) {
        if (redis_do(g->redis, &reply, e, 2,
                     (const struct bytes[]){BYTES("EXISTS"), artifact_key(g, names[i])}))
            return e->kind;
        *there = reply.integer == 1;
    }
    return ERR_NONE;
}

/* ---- versions ---- */

enum err_kind registry_version(struct registry *g, struct bytes model, int64_t version,
                               struct arena *a, struct trained *out, struct err *e) {
    struct redis_reply reply;
    char key[400], number[24];
    snprintf(number, sizeof number, "%lld", (long long)version);
    if (redis_do(g->redis, &reply, e, 3,
                 (const struct bytes[]){BYTES("HGET"), model_key(g, model, "versions", key),
                                        bytes_of(number)}))
        return e->kind;
    if (reply.type == REDIS_NIL)
        return err_bad(e, REASON_BAD_MODEL, "model %.*s has no version %s", (int)model.len,
                       (const char *)model.data, number);
    return trained_decode(reply.text, a, out, e);
}

static int64_t number_of(struct bytes text) {
    char digits[24] = "";
    if (text.data && text.len < sizeof digits) memcpy(digits, text.data, text.len);
    return strtoll(digits, NULL, 10);
}

enum err_kind registry_head(struct registry *g, struct bytes model, struct arena *a,
                            struct trained *out, struct err *e) {
    struct redis_reply reply;
    char key[400];
    *out = (struct trained){.model = model};
    if (redis_do(g->redis, &reply, e, 2,
                 (const struct bytes[]){BYTES("GET"), model_key(g, model, "head", key)}))
        return e->kind;
    if (reply.type == REDIS_NIL) return ERR_NONE;
    if (registry_version(g, model, number_of(reply.text), a, out, e) == ERR_BAD) {
        char was[sizeof e->text];
        memcpy(was, e->text, sizeof was);
        err_again(e, "the registry in Redis at %.60s is damaged: %.150s", redis_where(g->redis),
                  was);
    }
    return e->kind;
}

static int by_version(const void *a, const void *b) {
    int64_t x = ((const struct trained *)a)->version, y = ((const struct trained *)b)->version;
    return x < y ? -1 : x > y;
}

enum err_kind registry_versions(struct registry *g, struct bytes model, struct arena *a,
                                struct trained **out, size_t *n, struct err *e) {
    struct redis_reply reply;
    char key[400];
    *n = 0;
    if (redis_do(g->redis, &reply, e, 2,
                 (const struct bytes[]){BYTES("HVALS"), model_key(g, model, "versions", key)}))
        return e->kind;
    *out = arena_alloc(a, reply.count * sizeof **out);
    for (size_t i = 0; i < reply.count; i++)
        if (trained_decode(reply.items[i].text, a, &(*out)[(*n)++], e)) return e->kind;
    qsort(*out, *n, sizeof **out, by_version);
    return ERR_NONE;
}

enum err_kind registry_batches(struct registry *g, struct bytes model, const struct bytes *batches,
                               size_t n, int64_t *versions, struct err *e) {
    struct redis_reply reply;
    char key[400];
    if (!n) return ERR_NONE;
    struct bytes *words = mem_alloc((n + 2) * sizeof *words);
    words[0] = BYTES("HMGET");
    words[1] = model_key(g, model, "batches", key);
    memcpy(words + 2, batches, n * sizeof *words);
    enum err_kind kind = redis_do(g->redis, &reply, e, (int)n + 2, words);
    free(words);
    if (!kind && reply.count != n)
        return err_fatal(e, "Redis at %s answered HMGET of %zu fields with %zu values",
                         redis_where(g->redis), n, reply.count);
    for (size_t i = 0; !kind && i < n; i++)
        versions[i] = reply.items[i].type == REDIS_NIL ? 0 : number_of(reply.items[i].text);
    return kind;
}

/* Whether an order that stands behind this place, or elsewhere, was begun. ARGV[1], ARGV[2]: partition
   and offset; KEYS[2] is where the last order stands. */
#define OVERTAKEN                                                                                  \
    "local last = redis.call('GET', KEYS[2]) "                                                     \
    "if last then local p, o = string.match(last, '^(%d+)/(%d+)$') "                               \
    "if p ~= ARGV[1] or tonumber(ARGV[2]) < tonumber(o) then return -1 end end "

enum { PLACE = 2 };

static void put_place(const struct record *r, char text[PLACE][24], struct bytes *words) {
    snprintf(text[0], sizeof text[0], "%d", r->partition);
    snprintf(text[1], sizeof text[1], "%lld", (long long)r->offset);
    for (int i = 0; i < PLACE; i++) words[i] = bytes_of(text[i]);
}

static struct redis_script prune_script = {
    OVERTAKEN
    "local spare = {} for i = 5, #ARGV do spare[ARGV[i]] = true end "
    "local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[4], 'WITHSCORES') "
    "for i = 1, #gone, 2 do if not spare[gone[i + 1]] then "
    "redis.call('DEL', ARGV[3] .. gone[i]) redis.call('ZREM', KEYS[1], gone[i]) end end return 0",
    ""};

enum err_kind registry_prune(struct registry *g, struct bytes model, int64_t up_to,
                             const int64_t *spare, size_t n, const struct record *r,
                             struct err *e) {
    struct redis_reply reply;
    char keys[2][400], place[PLACE][24], (*numbers)[24] = mem_alloc((n + 1) * sizeof *numbers);
    struct bytes *words = mem_alloc((n + 6) * sizeof *words);
    words[0] = model_key(g, model, "weights", keys[0]);
    words[1] = model_key(g, model, "ordered", keys[1]);
    put_place(r, place, words + 2);
    words[4] = artifact_key(g, BYTES(""));
    for (size_t i = 0; i <= n; i++) {
        snprintf(numbers[i], sizeof *numbers, "%lld", (long long)(i ? spare[i - 1] : up_to));
        words[5 + i] = bytes_of(numbers[i]);
    }
    enum err_kind kind = redis_script(g->redis, &prune_script, &reply, e, 2, (int)n + 6, words);
    free(words);
    free(numbers);
    return kind;
}

static struct redis_script ordered_script = {
    "local last = redis.call('GET', KEYS[1]) "
    "if last then local p, o = string.match(last, '^(%d+)/(%d+)$') "
    "if p == ARGV[1] and tonumber(ARGV[2]) < tonumber(o) then return 0 end end "
    "redis.call('SET', KEYS[1], ARGV[1] .. '/' .. ARGV[2], 'EX', 604800) return 1",
    ""};

enum err_kind registry_ordered(struct registry *g, struct bytes model, const struct record *r,
                               struct err *e) {
    struct redis_reply reply;
    char key[400], place[PLACE][24];
    struct bytes words[1 + PLACE] = {model_key(g, model, "ordered", key)};
    put_place(r, place, words + 1);
    return redis_script(g->redis, &ordered_script, &reply, e, 1, 1 + PLACE, words);
}

static struct redis_script drop_script = {
    "local gone = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[4], ARGV[4]) "
    "if #gone == 0 then return 0 end " /* also when it comes again behind what it did itself */
    OVERTAKEN "for i = 1, #gone do "
    "redis.call('DEL', ARGV[3] .. gone[i]) redis.call('ZREM', KEYS[1], gone[i]) end return #gone",
    ""};

enum err_kind registry_drop(struct registry *g, struct bytes model, int64_t version,
                            const struct record *r, enum dropped *dropped, struct err *e) {
    struct redis_reply reply;
    char keys[2][400], place[PLACE][24], number[24];
    struct bytes words[6] = {model_key(g, model, "weights", keys[0]),
                             model_key(g, model, "ordered", keys[1])};
    put_place(r, place, words + 2);
    words[4] = artifact_key(g, BYTES(""));
    snprintf(number, sizeof number, "%lld", (long long)version);
    words[5] = bytes_of(number);
    enum err_kind kind = redis_script(g->redis, &drop_script, &reply, e, 2, 6, words);
    *dropped = kind || !reply.integer ? DROP_NOTHING
               : reply.integer < 0    ? DROP_OVERTAKEN
                                      : DROP_DONE;
    return kind;
}

enum err_kind registry_kept(struct registry *g, struct bytes model, struct arena *a,
                            struct bytes **artifacts, size_t *n, struct err *e) {
    struct redis_reply reply;
    char key[400];
    *n = 0;
    if (redis_do(g->redis, &reply, e, 4,
                 (const struct bytes[]){BYTES("ZRANGE"), model_key(g, model, "weights", key),
                                        BYTES("0"), BYTES("-1")}))
        return e->kind;
    *artifacts = arena_alloc(a, (reply.count + 1) * sizeof **artifacts);
    for (size_t i = 0; i < reply.count; i++)
        (*artifacts)[(*n)++] = arena_copy(a, reply.items[i].text);
    return ERR_NONE;
}

/* A batch that a version has learned from by now was looked for before that version was there:
   another trainer, which no longer owns the partition, was quicker. */
static struct redis_script publish_script = {
    "local head = redis.call('GET', KEYS[1]) or '0' "
    "if head == ARGV[2] and redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3] then return 1 end "
    "if head ~= ARGV[1] then return 0 end "
    "local first = 6 + tonumber(ARGV[5]) "
    "for i = first, #ARGV do if redis.call('HEXISTS', KEYS[3], ARGV[i]) == 1 then return 0 end end "
    "redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) "
    "for i = first, #ARGV do redis.call('HSET', KEYS[3], ARGV[i], ARGV[2]) end "
    "redis.call('SADD', KEYS[4], ARGV[4]) "
    "for i = 6, first - 1 do redis.call('ZADD', KEYS[5], ARGV[2], ARGV[i]) end "
    "redis.call('SET', KEYS[1], ARGV[2]) return 1",
    ""};

enum err_kind registry_publish(struct registry *g, const struct trained *m,
                               const struct bytes *artifacts, size_t n, struct err *e) {
    struct redis_reply reply;
    struct buf message = {0};
    char keys[4][400], models[400], parent[24], version[24], count[24];
    struct bytes *words = mem_alloc((11 + n + m->batch_count) * sizeof *words);
    trained_encode(m, &message);
    snprintf(parent, sizeof parent, "%lld", (long long)m->parent);
    snprintf(version, sizeof version, "%lld", (long long)m->version);
    snprintf(models, sizeof models, "%smodels", g->prefix);
    words[0] = model_key(g, m->model, "head", keys[0]);
    words[1] = model_key(g, m->model, "versions", keys[1]);
    words[2] = model_key(g, m->model, "batches", keys[2]);
    words[3] = bytes_of(models);
    words[4] = model_key(g, m->model, "weights", keys[3]);
    words[5] = bytes_of(parent);
    words[6] = bytes_of(version);
    words[7] = buf_bytes(&message);
    words[8] = m->model;
    snprintf(count, sizeof count, "%zu", n + 1);
    words[9] = bytes_of(count);
    words[10] = m->artifact;
    if (n) memcpy(words + 11, artifacts, n * sizeof *words);
    memcpy(words + 11 + n, m->batches, m->batch_count * sizeof *words);
    enum err_kind kind = redis_script(g->redis, &publish_script, &reply, e, 5,
                                      (int)(11 + n + m->batch_count), words);
    free(words);
    buf_free(&message);
    if (kind) return kind;
    if (reply.integer != 1)
        return err_again(
            e, "model %.*s has gone on from version %s meanwhile: another trainer has its batches",
            (int)m->model.len, (const char *)m->model.data, parent);
    return ERR_NONE;
}
