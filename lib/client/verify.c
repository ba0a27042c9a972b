/*
 * models verify: a version made again, and compared bit for bit with the one that is kept.
 */
#include "lib/learn/verify.h"

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/client/client.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"

#include <stdio.h>
#include <stdlib.h>

struct options {
    bool json;
};
static const struct setting settings[] = {
    {"json", SETTING_BOOL, offsetof(struct options, json), "false", "JSON, one object", NULL, 0, 0, 0},
    {0}};

/* In the order of enum verdict. */
static const char *const words[] = {"same", "differs", "images-changed", "other-machine", "no-parent", "no-recipe"};

static enum err_kind still(void *ctx, struct err *e) {
    (void)ctx;
    return client_stopped() ? err_again(e, "stopped") : ERR_NONE;
}

static void show_changes(const struct verification *v) {
    static const char *const heads[] = {"row", "id", "source", ">saw revision", ">is now"};
    struct table t = table_make(heads, 5);
    for (size_t i = 0; i < v->name_count; i++) {
        const struct changed_image *c = &v->names[i];
        table_text(&t, bytes_of(c->row));
        table_text(&t, c->id);
        table_text(&t, c->source);
        table_print(&t, "%lld", (long long)c->saw);
        if (c->is) table_print(&t, "%lld", (long long)c->is);
        else table_text(&t, BYTES("gone"));
    }
    table_end(&t);
    size_t more = v->gone + v->corrected - v->name_count;
    if (more) printf("and %zu more\n", more);
}

static void show(const char *model, long long version, const struct verification *v, double seconds) {
    char count[32];
    switch (v->verdict) {
    case VERDICT_SAME:
        printf("version %lld of %s is the same bit for bit: %s numbers (weights, moments, average) after %lld steps, %.1f s\n",
               version, model, show_count((int64_t)v->floats, count), (long long)v->steps, seconds);
        break;
    case VERDICT_DIFFERS:
        printf("version %lld of %s DIFFERS from what its parent and its batches make: %zu of %s numbers, by up to %g;\n"
               "no image that it saw has changed since\n",
               version, model, v->different, show_count((int64_t)v->floats, count), v->largest);
        break;
    case VERDICT_IMAGES:
        printf("version %lld of %s cannot be compared: of the images that it saw %zu are gone and %zu were corrected since\n",
               version, model, v->gone, v->corrected);
        show_changes(v);
        break;
    case VERDICT_MACHINE:
        printf("version %lld of %s cannot be compared here: its bits depend on what computed it\n  it was  %s\n  this is %s\n",
               version, model, v->machine_then, v->machine_now);
        break;
    case VERDICT_NO_PARENT:
        printf("version %lld of %s cannot be made again: what it was trained from, or came to, is not kept any more (keep.versions)\n",
               version, model);
        break;
    case VERDICT_NO_RECIPE:
        printf("version %lld of %s does not say how it was made: an older Darkroom trained it\n", version, model);
        break;
    }
}

static void show_json(const char *model, long long version, const struct verification *v, double seconds) {
    struct buf b = {0};
    struct json_writer w = json_begin(&b);
    json_put_text(&w, "model", bytes_of(model));
    json_put_int(&w, "version", version);
    json_put_text(&w, "verdict", bytes_of(words[v->verdict]));
    json_put_int(&w, "steps", v->steps);
    json_put_int(&w, "numbers", (int64_t)v->floats);
    json_put_int(&w, "different", (int64_t)v->different);
    json_put_int(&w, "gone", (int64_t)v->gone);
    json_put_int(&w, "corrected", (int64_t)v->corrected);
    json_put_real(&w, "seconds", seconds);
    json_open_array(&w, "changed");
    for (size_t i = 0; i < v->name_count; i++) {
        const struct changed_image *c = &v->names[i];
        json_open_object(&w, NULL);
        json_put_text(&w, "row", bytes_of(c->row));
        if (c->id.data) json_put_text(&w, "id", c->id);
        if (c->source.data) json_put_text(&w, "source", c->source);
        json_put_int(&w, "saw", c->saw);
        json_put_int(&w, "is", c->is);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_end(&w);
    puts(b.data);
    buf_free(&b);
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct shelf s = {0};
    struct verification v = {.verdict = VERDICT_DIFFERS};
    struct trained head = {0};
    int64_t version = 0;
    if (n > 1 && client_version(c, operands[1], &version)) return CLIENT_USAGE;
    if (shelf_open(c, SHELF_WAIT_MS, &s, &e)) return client_fail(c, &e);
    int64_t begin = clock_monotonic_us();
    if (!version && !registry_head(s.registry, bytes_of(operands[0]), &s.arena, &head, &e)) {
        version = head.version;
        if (!version) err_fatal(&e, "model %.64s has no version", operands[0]);
    }
    const struct alive alive = {.still = still};
    if (!e.kind && !verify_version(s.registry, s.images, bytes_of(operands[0]), version, &alive, &s.arena, &v, &e))
        (o->json ? show_json : show)(operands[0], version, &v, (double)(clock_monotonic_us() - begin) * 1e-6);
    if (e.kind) client_fail(c, &e);
    shelf_close(&s);
    return e.kind || v.verdict != VERDICT_SAME ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_models_verify = {
    .name = "models verify", .operands = "MODEL [VERSION]", .what = "makes a version again, and compares it bit for bit",
    .needs = NEEDS_REDIS | NEEDS_LEARNING,
    .help = "Trains the version (the newest, when none is named) once more from its parent, on its batches, with its seed,\n"
            "spec and number of threads, and compares weights, the optimizer's moments and average. The exit code is 0 when\n"
            "they are the same. Made by another version of Darkroom, or on another kind of processor, it cannot be compared,\n"
            "and says so; where images are gone or corrected since, it names them. Nothing is changed.\n\n"
            "  darkroom models verify default 12\n"
            "  darkroom models verify default --json | jq .verdict",
    .least = 1, .most = 2, .settings = settings, .options_size = sizeof(struct options), .run = run};
