/*
 * compare: two versions of a model answer the same images, the ones that the newer of the two holds
 * out: their figures side by side, the test that deploy makes, and the classes that differ most.
 */
#include "lib/base/json.h"
#include "lib/client/client.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"
#include "lib/learn/artifacts.h"
#include "lib/learn/exam.h"
#include "lib/learn/judge.h"
#include "lib/learn/verdict.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    bool json;
    int64_t classes;
};
static const struct setting settings[] = {
    {"json", SETTING_BOOL, offsetof(struct options, json), "false", "One JSON object", NULL, 0, 0,
     0},
    {"classes", SETTING_INT, offsetof(struct options, classes), "10",
     "How many of the classes that differ are shown", NULL, 0, 4096, 0},
    {0}};

struct side {
    struct trained version;
    struct model model;
    struct metrics metrics;
    struct class_score *each; /* (labels of its model + 1) */
};

struct both {
    struct side sides[2];
    struct duel duel; /* sides[0] (a) and sides[1] (b) */
    struct shelf shelf;
};

static void close_both(struct both *b) {
    for (int i = 0; i < 2; i++) {
        model_free(&b->sides[i].model);
        free(b->sides[i].each);
    }
    shelf_close(&b->shelf);
}

static enum err_kind open_both(const struct client *c, struct bytes model, const int64_t version[2],
                               struct both *b, struct err *e) {
    if (shelf_open(c, SHELF_WAIT_MS, &b->shelf, e)) return e->kind;
    for (int i = 0; i < 2; i++) {
        struct side *s = &b->sides[i];
        if (registry_version(b->shelf.registry, model, version[i], &b->shelf.arena, &s->version, e))
            return e->kind;
        if (artifact_model(b->shelf.registry, s->version.artifact, &s->model, e))
            return err_in(e, "version %lld, whose weights may be kept no longer",
                          (long long)version[i]);
        s->each = mem_zeroed((size_t)s->model.label_count + 1, sizeof *s->each);
    }
    const struct net_spec *x = net_spec(b->sides[0].model.net),
                          *y = net_spec(b->sides[1].model.net);
    if (x->height != y->height || x->width != y->width || x->channels != y->channels)
        return err_fatal(e, "the two take images of different sizes, %d x %d x %d and %d x %d x %d",
                         x->height, x->width, x->channels, y->height, y->width, y->channels);
    return ERR_NONE;
}

static enum err_kind go_on(void *ctx, struct err *e) {
    (void)ctx;
    return client_stopped() ? err_fatal(e, "interrupted") : ERR_NONE;
}

static enum err_kind examine(struct both *b, struct bytes model, struct err *e) {
    const struct alive alive = {go_on, NULL};
    struct rows rows = {0};
    struct exam x = {.count = 2};
    int newer = b->sides[1].version.version > b->sides[0].version.version;
    for (int i = 0; i < 2; i++) x.sitters[i].model = &b->sides[i].model;
    if (!artifact_held_out(b->shelf.registry, &b->sides[newer].version, &rows, e) &&
        !exam_hold(&x, b->shelf.images, model, &rows, rows.count, NULL, &alive, e)) {
        for (int i = 0; i < 2; i++) exam_metrics(&x, i, &b->sides[i].metrics, b->sides[i].each);
        b->duel = exam_duel(&x, 0, 1);
        if (!x.n)
            err_fatal(e, "version %lld holds no image out that is still in the store",
                      (long long)b->sides[newer].version.version);
    }
    exam_free(&x);
    rows_free(&rows);
    return e->kind;
}

/* ---- what it found ---- */

struct difference {
    const char *label;
    struct class_score of[2]; /* zero where the version does not know the label */
    size_t images;
};

static int by_difference(const void *a, const void *b) {
    const struct difference *x = a, *y = b;
    size_t dx = x->of[0].right > x->of[1].right ? x->of[0].right - x->of[1].right
                                                : x->of[1].right - x->of[0].right,
           dy = y->of[0].right > y->of[1].right ? y->of[0].right - y->of[1].right
                                                : y->of[1].right - y->of[0].right;
    if (dx != dy) return dx < dy ? 1 : -1;
    return strcmp(x->label, y->label);
}

/* Every label that one of them knows; most different first. In the arena. */
static size_t differences(struct both *b, struct difference **out) {
    const struct model *m[] = {&b->sides[0].model, &b->sides[1].model};
    size_t n = 0;
    *out = arena_alloc(&b->shelf.arena,
                       (size_t)(m[0]->label_count + m[1]->label_count) * sizeof **out);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < m[i]->label_count; k++) {
            size_t at = 0;
            while (at < n && strcmp((*out)[at].label, m[i]->labels[k]) != 0) at++;
            if (at == n) (*out)[n++] = (struct difference){.label = m[i]->labels[k]};
            (*out)[at].of[i] = b->sides[i].each[k];
            (*out)[at].images = b->sides[i].each[k].labelled;
        }
    }
    qsort(*out, n, sizeof **out, by_difference);
    return n;
}

static const struct figure {
    const char *name;
    size_t at;
    bool percent;
} figures[] = {{"accuracy", offsetof(struct metrics, accuracy), true},
               {"auc", offsetof(struct metrics, auc), false},
               {"loss", offsetof(struct metrics, loss), false},
               {"precision", offsetof(struct metrics, precision), true},
               {"recall", offsetof(struct metrics, recall), true},
               {"ece", offsetof(struct metrics, ece), true}};
enum { FIGURES = sizeof figures / sizeof *figures };

static double figure_of(const struct side *s, const struct figure *f) {
    return *(const double *)((const char *)&s->metrics + f->at);
}

static void put_figure(struct table *t, const char *fmt, double value) {
    if (isnan(value))
        table_text(t, (struct bytes){0});
    else
        table_print(t, fmt, value);
}

static void print_figures(const struct both *b, const char *const names[2]) {
    char heads[2][32];
    for (int i = 0; i < 2; i++) snprintf(heads[i], sizeof heads[i], ">%s", names[i]);
    struct table t = table_make((const char *[]){"", heads[0], heads[1], ">difference"}, 4);
    for (int k = 0; k < FIGURES; k++) {
        const struct figure *f = &figures[k];
        double x = figure_of(&b->sides[0], f), y = figure_of(&b->sides[1], f);
        table_text(&t, bytes_of(f->name));
        put_figure(&t, f->percent ? "%.2f %%" : "%.4f", f->percent ? 100 * x : x);
        put_figure(&t, f->percent ? "%.2f %%" : "%.4f", f->percent ? 100 * y : y);
        put_figure(&t, f->percent ? "%+.2f" : "%+.4f", f->percent ? 100 * (y - x) : y - x);
    }
    table_text(&t, BYTES("temperature"));
    for (int i = 0; i < 2; i++)
        table_print(&t, "%.3f", (double)net_temperature(b->sides[i].model.net));
    table_text(&t, BYTES(""));
    table_end(&t);
}

static void print_test(const struct both *b, const char *const names[2]) {
    bool second = b->duel.b >= b->duel.a;
    size_t more = second ? b->duel.b : b->duel.a, less = second ? b->duel.a : b->duel.b;
    if (!more)
        printf("\nBoth get the same images right.\n");
    else
        printf(
            "\nOf %zu images that only one of them gets right, %s gets %zu. Were they equals, one "
            "of them in\nparticular would get so many with the probability %.3g (McNemar's test, "
            "exact, one-sided).\n",
            more + less, names[second], more, sign_test(more, less));
}

static void put_share(struct table *t, size_t part, size_t of) {
    if (of)
        table_print(t, "%.2f %%", 100 * (double)part / (double)of);
    else
        table_text(t, (struct bytes){0});
}

static void print_classes(struct both *b, const char *const names[2], size_t most) {
    struct difference *list;
    size_t n = differences(b, &list), shown = 0;
    char heads[6][40];
    for (int i = 0; i < 2; i++) {
        snprintf(heads[i], sizeof heads[i], ">right %s", names[i]);
        snprintf(heads[2 + i], sizeof heads[2 + i], ">recall %s", names[i]);
        snprintf(heads[4 + i], sizeof heads[4 + i], ">precision %s", names[i]);
    }
    struct table t =
        table_make((const char *[]){"class", ">images", heads[0], heads[1], ">difference", heads[2],
                                    heads[3], heads[4], heads[5]},
                   9);
    for (size_t i = 0; i < n && shown < most; i++) {
        const struct difference *d = &list[i];
        if (d->of[0].right == d->of[1].right && d->of[0].guessed == d->of[1].guessed) continue;
        shown++;
        table_text(&t, bytes_of(d->label));
        table_print(&t, "%zu", d->images);
        for (int k = 0; k < 2; k++) table_print(&t, "%zu", d->of[k].right);
        table_print(&t, "%+lld", (long long)d->of[1].right - (long long)d->of[0].right);
        for (int k = 0; k < 2; k++) put_share(&t, d->of[k].right, d->images);
        for (int k = 0; k < 2; k++) put_share(&t, d->of[k].right, d->of[k].guessed);
    }
    if (shown) puts("");
    if (shown)
        table_end(&t);
    else
        table_free(&t);
}

static void print_json(struct both *b, size_t most) {
    struct buf text = {0};
    struct json_writer w = json_begin(&text);
    struct difference *list;
    size_t n = differences(b, &list);
    json_put_text(&w, "model", b->sides[0].version.model);
    json_put_int(&w, "images", b->sides[0].metrics.images);
    json_open_array(&w, "versions");
    for (int i = 0; i < 2; i++) {
        json_open_object(&w, NULL);
        json_put_int(&w, "version", b->sides[i].version.version);
        for (int k = 0; k < FIGURES; k++)
            json_put_real(&w, figures[k].name, figure_of(&b->sides[i], &figures[k]));
        json_put_real(&w, "temperature", (double)net_temperature(b->sides[i].model.net));
        json_put_int(&w, "alone_right", (int64_t)(i ? b->duel.b : b->duel.a));
        json_put_real(&w, "p",
                      i ? sign_test(b->duel.b, b->duel.a) : sign_test(b->duel.a, b->duel.b));
        json_close_object(&w);
    }
    json_close_array(&w);
    json_open_array(&w, "classes");
    for (size_t i = 0; i < n && i < most; i++) {
        json_open_object(&w, NULL);
        json_put_text(&w, "label", bytes_of(list[i].label));
        json_put_int(&w, "images", (int64_t)list[i].images);
        json_open_array(&w, "right");
        for (int k = 0; k < 2; k++) json_put_int(&w, NULL, (int64_t)list[i].of[k].right);
        json_close_array(&w);
        json_open_array(&w, "guessed");
        for (int k = 0; k < 2; k++) json_put_int(&w, NULL, (int64_t)list[i].of[k].guessed);
        json_close_array(&w);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_end(&w);
    puts(text.data);
    buf_free(&text);
}

static int compare(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct both b = {.duel = {0, 0}};
    int64_t version[2];
    (void)n;
    if (client_version(c, operands[1], &version[0]) || client_version(c, operands[2], &version[1]))
        return CLIENT_USAGE;
    struct bytes model = bytes_of(operands[0]);
    if (!open_both(c, model, version, &b, &e) && !examine(&b, model, &e)) {
        char names[2][24], count[32];
        for (int i = 0; i < 2; i++)
            snprintf(names[i], sizeof names[i], "v%lld", (long long)version[i]);
        const char *const both[] = {names[0], names[1]};
        if (o->json) {
            print_json(&b, (size_t)o->classes);
        } else {
            printf("%s and %s on the %s images that the newer of them holds out\n\n", names[0],
                   names[1], show_count(b.sides[0].metrics.images, count));
            print_figures(&b, both);
            print_test(&b, both);
            print_classes(&b, both, (size_t)o->classes);
        }
    }
    close_both(&b);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_models_compare = {
    .name = "models compare",
    .operands = "MODEL V1 V2",
    .what = "two versions on the same images",
    .needs = NEEDS_REDIS,
    .help = "Both answer, here and now, the images that the newer of the two holds out, as they "
            "are in the store: their\n"
            "figures, the test that tells a difference from chance, and the classes that differ "
            "most.\n\n"
            "  darkroom models compare default 7 12\n"
            "  darkroom models compare default v7 v12 --json | jq '.versions[].accuracy'",
    .least = 3,
    .most = 3,
    .settings = settings,
    .options_size = sizeof(struct options),
    .run = compare};
