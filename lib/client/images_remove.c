/*
 * images remove: takes images out of the store, one by its id or all of a label: rows and index. Models
 * that have learned from them keep what they know; what they learn from next, and are judged on, is what
 * is left.
 */
#include "lib/client/client.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"
#include "proto/event.h"

#include <stdio.h>

struct options {
    const char *model, *id, *source, *label;
    bool yes;
};
static const struct setting settings[] = {
    {"model", SETTING_TEXT, offsetof(struct options, model), EVENT_DEFAULT_MODEL, "Whose images",
     NULL, 0, 0, 0},
    {"id", SETTING_TEXT, offsetof(struct options, id), NULL, "The image of this id", NULL, 0, 0, 0},
    {"source", SETTING_TEXT, offsetof(struct options, source), "darkroom/publish",
     "Who gave the id: ce_source; `images` for what was sent without one", NULL, 0, 0, 0},
    {"label", SETTING_TEXT, offsetof(struct options, label), NULL, "Every image of this label",
     NULL, 0, 0, 0},
    {"yes", SETTING_BOOL, offsetof(struct options, yes), "false",
     "Remove them; without it they are only counted", NULL, 0, 0, 0},
    {0}};

static enum err_kind page(void *ctx, int64_t looked_at, int64_t found, struct err *e) {
    (void)ctx;
    (void)found;
    progress_at(looked_at, 0);
    return client_stopped() ? err_fatal(e, "interrupted: the same command goes on") : ERR_NONE;
}

static enum err_kind see(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                         struct err *e) {
    (void)i, (void)revision, (void)e;
    *(int64_t *)ctx = row != NULL;
    return ERR_NONE;
}

static enum err_kind one(const struct options *o, struct images *images, int64_t *found,
                         struct err *e) {
    char name[1][ROW_HEX + 1];
    bool removed = false;
    struct bytes source = bytes_of(o->source), id = bytes_of(o->id);
    images_row_name(source, id, name[0]);
    if (!o->yes)
        return images_get(images, bytes_of(o->model), (const char(*)[ROW_HEX + 1]) name, 1, see,
                          found, e);
    enum err_kind kind = images_remove(images, bytes_of(o->model), source, id, &removed, e);
    *found = removed;
    return kind;
}

static enum err_kind all(const struct options *o, struct images *images, int64_t *found,
                         struct err *e) {
    int64_t count = 0;
    if (images_count(images, bytes_of(o->model), &count, e)) return e->kind;
    progress_begin("look at", count);
    (void)!images_remove_label(images, bytes_of(o->model), bytes_of(o->label), !o->yes, page, NULL,
                               found, e);
    progress_end();
    return e->kind;
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    int64_t found = 0;
    char count[32];
    (void)operands, (void)n;
    if (!o->id == !o->label) return client_usage(c, "say --id, or --label");
    if (!event_model_is_valid(bytes_of(o->model)))
        return client_usage(c, "\"%s\" is no model's name", o->model);
    struct shelf s = {0};
    if (!shelf_open(c, 3 * SHELF_WAIT_MS, &s, &e) &&
        (o->id ? one(o, s.images, &found, &e) : all(o, s.images, &found, &e)) == ERR_NONE && !found)
        client_say(c, "the model \"%s\" has no such image%s", o->model,
                   o->id ? ": an id is its source's, --source names another" : "");
    shelf_close(&s);
    if (found)
        printf("%s%s of the model %s%s\n", show_count(found, count),
               found == 1 ? " image" : " images", o->model,
               o->yes ? " removed" : " would be removed: --yes removes");
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_images_remove = {
    .name = "images remove",
    .what = "takes images out of the store",
    .needs = NEEDS_REDIS,
    .help = "The image of an --id (what `publish` sends has the SHA-256 of the file), or all of a "
            "--label, newest\n"
            "first: row and index. Without --yes it says how many there are, and removes none. "
            "Killed half way, the\n"
            "same command goes on.\n\n"
            "Models that have learned from them keep what they know; from the next version on they "
            "neither learn\n"
            "from them nor are judged on them. Images of a batch that is on its way are counted "
            "there as missing.\n"
            "An image that is published again, or whose record store takes up again after a crash, "
            "is stored again\n"
            "as a new one. The Redis user needs the rights of the stages that write.\n\n"
            "  darkroom images remove --id $(sha256sum <7.png | cut -c -64) --yes\n"
            "  darkroom images remove --model pets --label hamster\n"
            "  darkroom images remove --model pets --label hamster --yes",
    .settings = settings,
    .options_size = sizeof(struct options),
    .run = run};
