/*
 * models lineage, find: from a version back to the batches that it learned from, and from a hash to the
 * version. Both ask the registry alone.
 */
#include "lib/learn/artifacts.h"

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/client/client.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"
#include "proto/event.h"

#include <stdio.h>
#include <string.h>

struct options {
    bool json;
};
static const struct setting settings[] = {{"json", SETTING_BOOL, offsetof(struct options, json),
                                           "false", "JSON, one object a version", NULL, 0, 0, 0},
                                          {0}};

enum { SHORT = 12, LEAST_HEX = 6 };

/* ---- lineage ---- */

/* *l is {0} when it cannot be read: what the version's message says is shown all the same. */
static enum err_kind read_lineage(struct shelf *k, const struct trained *v, struct lineage *l,
                                  struct err *e) {
    if (artifact_lineage(k->registry, v->lineage, l, e) == ERR_BAD) err_clear(e);
    return e->kind;
}

static void print_json(const struct trained *v, const struct lineage *l) {
    struct buf b = {0};
    char time[CLOCK_RFC3339_LEN + 1];
    clock_format(v->time_ms, time);
    struct json_writer w = json_begin(&b);
    json_put_text(&w, "model", v->model);
    json_put_int(&w, "version", v->version);
    json_put_int(&w, "parent", v->parent);
    json_put_text(&w, "time", bytes_of(time));
    json_put_text(&w, "artifact", v->artifact);
    json_put_text(&w, "lineage", v->lineage);
    json_open_array(&w, "batches");
    for (size_t i = 0; i < v->batch_count; i++) {
        json_open_object(&w, NULL);
        json_put_text(&w, "id", v->batches[i]);
        if (i < l->batch_count) {
            json_put_int(&w, "partition", l->batches[i].partition);
            json_put_int(&w, "offset", l->batches[i].offset);
            json_put_int(&w, "images", l->batches[i].images);
            json_put_text(&w, "rows", bytes_of(l->batches[i].rows));
        }
        json_close_object(&w);
    }
    json_close_array(&w);
    json_end(&w);
    puts(b.data);
    buf_free(&b);
}

/* A line a batch; the version stands before its first. */
static void put_rows(struct table *t, const struct trained *v, const struct lineage *l) {
    char time[CLOCK_RFC3339_LEN + 1], count[32];
    clock_format(v->time_ms, time);
    for (size_t i = 0; i < v->batch_count; i++) {
        if (i) {
            for (int k = 0; k < 4; k++) table_text(t, BYTES(""));
        } else {
            table_print(t, "v%lld", (long long)v->version);
            if (v->parent)
                table_print(t, "v%lld", (long long)v->parent);
            else
                table_text(t, (struct bytes){0});
            table_print(t, "%.10s %.8s", time, time + 11);
            table_print(t, "%.*s", SHORT, (const char *)v->artifact.data);
        }
        table_print(t, "%.*s", SHORT, (const char *)v->batches[i].data);
        if (i < l->batch_count) {
            table_print(t, "%lld/%lld", (long long)l->batches[i].partition,
                        (long long)l->batches[i].offset);
            table_text(t, bytes_of(show_count(l->batches[i].images, count)));
        } else {
            table_text(t, (struct bytes){0});
            table_text(t, (struct bytes){0});
        }
    }
}

static enum err_kind walk(struct shelf *k, const struct trained *versions, size_t n, int64_t from,
                          bool json, struct table *t, struct err *e) {
    for (size_t i = n; i-- > 0 && from && !client_stopped();) {
        struct lineage l;
        if (versions[i].version != from) continue;
        if (read_lineage(k, &versions[i], &l, e)) return e->kind;
        if (json)
            print_json(&versions[i], &l);
        else
            put_rows(t, &versions[i], &l);
        lineage_free(&l);
        from = versions[i].parent;
    }
    return ERR_NONE;
}

static int lineage(struct client *c, const void *options, char **operands, int n) {
    static const char *const heads[] = {">version", ">parent", "time (UTC)", "artifact",
                                        "batch",    ">offset", ">images"};
    const struct options *o = options;
    struct err e = {0};
    struct shelf k = {0};
    struct trained *versions = NULL;
    size_t count = 0;
    int64_t from = 0;
    struct bytes model = bytes_of(operands[0]);
    if (!event_model_is_valid(model))
        return client_usage(c, "\"%s\" is no model's name", operands[0]);
    if (n > 1 && client_version(c, operands[1], &from)) return CLIENT_USAGE;
    struct table t = table_make(heads, 7);
    if (!shelf_open(c, SHELF_WAIT_MS, &k, &e) &&
        !registry_versions(k.registry, model, &k.arena, &versions, &count, &e)) {
        if (!from && count) from = versions[count - 1].version;
        bool found = false;
        for (size_t i = 0; i < count; i++) found = found || versions[i].version == from;
        if (!found && n > 1)
            err_fatal(&e, "model %s has no version %s", operands[0], operands[1]);
        else if (!found)
            err_fatal(&e,
                      "there is no model \"%s\": `darkroom models list` names those that there are",
                      operands[0]);
        else
            (void)!walk(&k, versions, count, from, o->json, &t, &e);
    }
    if (t.count) table_end(&t);
    shelf_close(&k);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_models_lineage = {
    .name = "models lineage",
    .operands = "MODEL [VERSION]",
    .what = "the way back from a version to its batches",
    .needs = NEEDS_REDIS,
    .help = "From VERSION, or the newest, to the first one: what each grew from, when, its "
            "artifact, and the batches\n"
            "that it learned from and none before it did, with their partition/offset in the topic "
            "of batches and their\n"
            "images. --json has the hashes in full, and of each batch the artifact that lists its "
            "rows.\n\n"
            "  darkroom models lineage default\n"
            "  darkroom models lineage default 12 --json | jq -r '.batches[].id'",
    .least = 1,
    .most = 2,
    .settings = settings,
    .options_size = sizeof(struct options),
    .run = lineage};

/* ---- find ---- */

struct search {
    struct bytes hash; /* the first digits, or all */
    bool json;
    size_t found;
};

static bool begins_so(struct bytes name, struct bytes hash) {
    return name.len >= hash.len && memcmp(name.data, hash.data, hash.len) == 0;
}

static void print_found(struct search *s, const struct trained *v, const char *what,
                        struct bytes name) {
    s->found++;
    if (s->json) {
        struct buf b = {0};
        struct json_writer w = json_begin(&b);
        json_put_text(&w, "model", v->model);
        json_put_int(&w, "version", v->version);
        json_put_text(&w, "what", bytes_of(what));
        json_put_text(&w, "hash", name);
        json_end(&w);
        puts(b.data);
        buf_free(&b);
    } else {
        printf("%.*s v%lld  %s %.*s\n", (int)v->model.len, (const char *)v->model.data,
               (long long)v->version, what, (int)name.len, (const char *)name.data);
    }
}

static void look_at(struct search *s, const struct trained *v) {
    if (begins_so(v->artifact, s->hash)) print_found(s, v, "artifact", v->artifact);
    if (begins_so(v->lineage, s->hash)) print_found(s, v, "lineage", v->lineage);
    if (v->report.data && begins_so(v->report, s->hash)) print_found(s, v, "report", v->report);
    for (size_t i = 0; i < v->batch_count; i++)
        if (begins_so(v->batches[i], s->hash)) print_found(s, v, "batch", v->batches[i]);
}

static int find(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct shelf k = {0};
    struct search s = {.hash = bytes_of(operands[0]), .json = o->json};
    struct bytes *models = NULL;
    size_t count = 0;
    (void)n;
    if (s.hash.len < LEAST_HEX || s.hash.len > HASH_HEX ||
        strspn(operands[0], "0123456789abcdef") != s.hash.len)
        return client_usage(c, "\"%s\" must be %d to %d hex digits in lower case", operands[0],
                            LEAST_HEX, HASH_HEX);
    if (!shelf_open(c, SHELF_WAIT_MS, &k, &e))
        (void)!images_models(k.images, &k.arena, &models, &count, &e);
    for (size_t i = 0; i < count && !e.kind && !client_stopped(); i++) {
        struct arena a = {0};
        struct trained *versions = NULL;
        size_t m = 0;
        if (!registry_versions(k.registry, models[i], &a, &versions, &m, &e))
            for (size_t j = 0; j < m; j++) look_at(&s, &versions[j]);
        arena_free(&a);
    }
    shelf_close(&k);
    if (e.kind) return client_fail(c, &e);
    if (!s.found)
        client_say(
            c, "no version has an artifact, a lineage, a report or a batch whose hash begins so");
    return s.found ? CLIENT_DONE : CLIENT_FAILED;
}

const struct command command_models_find = {
    .name = "models find",
    .operands = "HASH",
    .what = "which version a hash is of",
    .needs = NEEDS_REDIS,
    .help = "A prediction names the artifact that gave it; this says which model and version that "
            "is, also when\n"
            "its weights are gone. HASH, or its first digits (6 at least), may be an artifact's, a "
            "lineage's, a\n"
            "report's or a batch's. Ends with 1 when no version has it.\n\n"
            "  darkroom models find a11d04\n"
            "  darkroom results --json --limit 1 | jq -r .artifact | xargs darkroom models find",
    .least = 1,
    .most = 1,
    .settings = settings,
    .options_size = sizeof(struct options),
    .run = find};
