/*
 * models tensorboard: the registry as a folder that TensorBoard shows:
 *
 *     DIR/<model>/<version>/events.out.tfevents.<number>.<artifact>   all of a version
 *     DIR/<model>/events.out.tfevents.<number>.<artifact>             its figures again, as one point
 *                                                                     of the curve over all versions
 *
 * Files come whole, by rename, the curve's before the version's: a version whose own file is there is done. What
 * an interrupted run left undone is done again under the same names, with the same bytes, so that no point comes
 * twice. Names begin with the version's number and not, as is usual, with a time: TensorBoard reads a run's files
 * in the order of their names, and steps must not go back where a clock did.
 */
#define _DEFAULT_SOURCE
#include "lib/base/clock.h"
#include "lib/client/client.h"
#include "lib/client/shelf.h"
#include "lib/client/whole.h"
#include "lib/export/board.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 1000 };
static const char STEM[] = "events.out.tfevents.";

struct options {
    bool follow;
};
static const struct setting settings[] = {
    {"follow", SETTING_BOOL, offsetof(struct options, follow), "false",
     "Go on with the versions that come, until Ctrl-C", NULL, 0, 0, 0},
    {0}};

struct seen { /* of a model: its newest version that was looked at */
    char *model;
    int64_t version;
};

struct work {
    const struct client *c;
    const char *dir;
    struct shelf shelf; /* its arena is of one look */
    struct seen *seen;
    size_t seen_count;
    int64_t written, there,
        bare; /* versions; bare: of those written, the ones with figures alone */
};

static enum err_kind still(void *ctx, struct err *e) {
    (void)ctx;
    return client_stopped() ? err_again(e, "interrupted") : ERR_NONE;
}

static struct seen *seen_of(struct work *w, struct bytes model) {
    for (size_t i = 0; i < w->seen_count; i++)
        if (bytes_is(model, w->seen[i].model)) return &w->seen[i];
    w->seen = mem_resize(w->seen, (w->seen_count + 1) * sizeof *w->seen);
    w->seen[w->seen_count] = (struct seen){mem_copy(model.data, model.len), 0};
    return &w->seen[w->seen_count++];
}

/* Whether the folder has this event file. One of another artifact is of a model that had the name before. */
static enum err_kind is_there(const char *folder, const char *name, bool *there, struct err *e) {
    DIR *d = opendir(folder);
    *there = false;
    if (!d) return ERR_NONE;
    for (struct dirent *each; !e->kind && (each = readdir(d));) {
        if (strncmp(each->d_name, STEM, sizeof STEM - 1) != 0) continue;
        if (strcmp(each->d_name, name) == 0)
            *there = true;
        else
            err_fatal(
                e,
                "%.150s has a version that is not in the registry (any more): choose another DIR",
                folder);
    }
    closedir(d);
    return e->kind;
}

static enum err_kind write_version(struct work *w, const struct trained *v, struct err *e) {
    const struct alive alive = {still, NULL};
    struct buf file = {0};
    bool there;
    const char *name = arena_printf(&w->shelf.arena, "%s%010lld.%.12s", STEM, (long long)v->version,
                                    (const char *)v->artifact.data);
    const char *model = arena_printf(&w->shelf.arena, "%s/%.*s", w->dir, (int)v->model.len,
                                     (const char *)v->model.data);
    const char *folder = arena_printf(&w->shelf.arena, "%s/%lld", model, (long long)v->version);
    if (is_there(folder, name, &there, e)) return e->kind;
    if (there) {
        w->there++;
        return ERR_NONE;
    }
    board_figures(v, &file);
    struct bytes figures = buf_bytes(&file);
    if (whole_folder(folder, e) ||
        whole_write(arena_printf(&w->shelf.arena, "%s/%s", model, name), figures, e))
        goto done;
    if (board_pictures(w->shelf.registry, w->shelf.images, v, &alive, &file, e) == ERR_BAD) {
        if (!w->bare++)
            client_say(w->c, "%.*s v%lld: figures without pictures: %s", (int)v->model.len,
                       (const char *)v->model.data, (long long)v->version, e->text);
        err_clear(e);
    }
    if (!e->kind &&
        !whole_write(arena_printf(&w->shelf.arena, "%s/%s", folder, name), buf_bytes(&file), e))
        w->written++;
done:
    buf_free(&file);
    return e->kind;
}

static enum err_kind look_at_model(struct work *w, struct bytes model, struct err *e) {
    struct seen *seen = seen_of(w, model);
    struct trained head, *versions;
    size_t n;
    if (registry_head(w->shelf.registry, model, &w->shelf.arena, &head, e)) return e->kind;
    if (head.version == seen->version) return ERR_NONE;
    if (head.version < seen->version) seen->version = 0; /* it began anew */
    if (registry_versions(w->shelf.registry, model, &w->shelf.arena, &versions, &n, e))
        return e->kind;
    for (size_t i = 0; i < n && !e->kind; i++)
        if (versions[i].version > seen->version && !write_version(w, &versions[i], e))
            seen->version = versions[i].version;
    return e->kind;
}

static enum err_kind look(struct work *w, struct err *e) {
    struct bytes *models = NULL;
    size_t n = 0;
    arena_reset(&w->shelf.arena);
    if (images_models(w->shelf.images, &w->shelf.arena, &models, &n, e)) return e->kind;
    for (size_t i = 0; i < n && !still(NULL, e); i++)
        if (look_at_model(w, models[i], e)) break;
    return e->kind;
}

/* Looks again and again; while Redis is away that is said once, and waited for. */
static enum err_kind follow(struct work *w, struct err *e) {
    bool away = false;
    while (!client_stopped()) {
        if (look(w, e) == ERR_AGAIN && !client_stopped()) {
            if (!away) client_say(w->c, "%s; waiting", e->text);
            away = true;
            err_clear(e);
        } else if (e->kind) {
            break;
        } else {
            away = false;
        }
        for (int ms = 0; ms < LOOK_MS && !client_stopped(); ms += 100) clock_sleep_ms(100);
    }
    if (client_stopped()) err_clear(e); /* which is how it ends */
    return e->kind;
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct work w = {.c = c, .dir = operands[0]};
    struct err e = {0};
    if (whole_folder(w.dir, &e)) return client_fail(c, &e);
    if (shelf_open(c, SHELF_WAIT_MS, &w.shelf, &e)) return client_fail(c, &e);
    if (o->follow)
        (void)!follow(&w, &e);
    else
        (void)!look(&w, &e);
    if (!e.kind)
        client_say(c, "%s: %lld versions written, %lld of them without pictures; %lld were there",
                   w.dir, (long long)w.written, (long long)w.bare, (long long)w.there);
    shelf_close(&w.shelf);
    for (size_t i = 0; i < w.seen_count; i++) free(w.seen[i].model);
    free(w.seen);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_models_tensorboard = {
    .name = "models tensorboard",
    .operands = "DIR",
    .what = "the models' versions for TensorBoard",
    .needs = NEEDS_REDIS,
    .help = "Writes event files: a run MODEL/VERSION for every version, and a run MODEL that has a "
            "point a version, the\n"
            "curve. Steps are images seen (presentations), times the versions' own. May be run "
            "again: versions that\n"
            "DIR has already are left as they are.\n\n"
            "  accuracy auc loss precision recall    on a sample of what was trained on, as it is; eval/… "
            "and eval/ece\n"
            "                                        (calibration) on the images held out\n"
            "  global_step                           images seen\n"
            "  eval/confusion eval/mistakes          pictures: labels by answers; the images "
            "answered worst\n"
            "  eval/pr_curves eval/LABEL/pr_curves   precision against recall: all together, and "
            "each label, up to 32\n\n"
            "Pictures and curves need the weights: a version whose weights were removed "
            "(keep.versions) has figures alone.\n\n"
            "  darkroom models tensorboard board --follow &\n"
            "  python3 -m venv tb && tb/bin/pip install tensorboard && tb/bin/tensorboard --logdir "
            "board",
    .least = 1,
    .most = 1,
    .settings = settings,
    .options_size = sizeof(struct options),
    .run = run};
