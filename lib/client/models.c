/*
 * models: every version that was trained, from the registry, and what became of it, from models.deployed.
 */
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/client/client.h"
#include "lib/client/fleet.h"
#include "lib/client/report.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    bool json;
};
static const struct setting settings[] = {
    {"json", SETTING_BOOL, offsetof(struct options, json), "false", "JSON, one object a version", NULL, 0, 0, 0},
    {0}};

struct stock {
    struct shelf shelf;
    struct deployed *deployed;
    size_t deployed_count;
};

static enum err_kind open_stock(const struct client *c, struct stock *s, struct err *e) {
    if (shelf_open(c, SHELF_WAIT_MS, &s->shelf, e)) return e->kind;
    return fleet_deployed(c, &s->shelf.arena, &s->deployed, &s->deployed_count, e);
}

static const struct deployed *deployed_of(const struct stock *s, struct bytes model) {
    for (size_t i = 0; i < s->deployed_count; i++)
        if (bytes_equal(s->deployed[i].model, model)) return &s->deployed[i];
    return NULL;
}

/* Whether an order took it out of service, as far as models.deployed remembers. */
static bool rolled_back_from(const struct deployed *d, int64_t version) {
    for (size_t i = 0; i < d->order_count; i++)
        if (d->orders[i].done && d->orders[i].action == ORDER_ROLLBACK && d->orders[i].from == version &&
            d->orders[i].version != version)
            return true;
    return false;
}

/* What became of a version, as far as the latest judgement tells. */
static const char *state_of(const struct deployed *d, int64_t version) {
    if (d && d->version == version) return d->pinned ? "served, pinned" : "served";
    if (d && rolled_back_from(d, version)) return "rolled back";
    if (d && d->judged == version && d->pinned) return "not served: pinned";
    if (d && d->judged == version) return "not promoted";
    if (d && version < d->judged) return "earlier";
    return "not judged yet";
}

static void put_metric(struct json_writer *w, const char *name, double value) {
    if (isnan(value)) json_put_null(w, name);
    else json_put_real(w, name, value);
}

static void put_metrics(struct json_writer *w, const char *name, const struct metrics *m) {
    json_open_object(w, name);
    json_put_int(w, "images", m->images);
    put_metric(w, "accuracy", m->accuracy);
    put_metric(w, "auc", m->auc);
    put_metric(w, "loss", m->loss);
    put_metric(w, "precision", m->precision);
    put_metric(w, "recall", m->recall);
    put_metric(w, "ece", m->ece);
    json_close_object(w);
}

/* report: JSON, or absent. */
static void print_json(const struct trained *v, const char *state, struct bytes report) {
    struct buf b = {0};
    char time[CLOCK_RFC3339_LEN + 1];
    clock_format(v->time_ms, time);
    struct json_writer w = json_begin(&b);
    json_put_text(&w, "model", v->model);
    json_put_int(&w, "version", v->version);
    json_put_int(&w, "parent", v->parent);
    json_put_text(&w, "time", bytes_of(time));
    json_put_text(&w, "state", bytes_of(state));
    json_put_int(&w, "images", v->images);
    json_put_int(&w, "presentations", v->presentations);
    json_put_int(&w, "labels", v->labels);
    json_put_int(&w, "batches", (int64_t)v->batch_count);
    json_put_int(&w, "missing", v->missing);
    json_put_real(&w, "seconds", v->seconds);
    json_put_real(&w, "training_seconds", v->training_seconds);
    put_metrics(&w, "evaluation", &v->evaluation);
    put_metrics(&w, "training", &v->training);
    json_put_text(&w, "artifact", v->artifact);
    json_put_text(&w, "lineage", v->lineage);
    json_put_real(&w, "temperature", v->temperature);
    if (report.data) json_put_raw(&w, "report", report);
    json_end(&w);
    puts(b.data);
    buf_free(&b);
}

static void put_number(struct table *t, const char *fmt, double value) {
    char text[32];
    snprintf(text, sizeof text, fmt, value);
    table_text(t, isnan(value) ? (struct bytes){0} : bytes_of(text));
}

static void put_version(struct table *t, const struct trained *v, const char *state) {
    char time[CLOCK_RFC3339_LEN + 1], count[32];
    clock_format(v->time_ms, time);
    table_text(t, v->model);
    table_print(t, "v%lld", (long long)v->version);
    if (v->parent) table_print(t, "v%lld", (long long)v->parent);
    else table_text(t, (struct bytes){0});
    table_print(t, "%.10s %.8s", time, time + 11);
    table_text(t, bytes_of(show_count(v->images, count)));
    table_text(t, bytes_of(show_count(v->presentations, count)));
    put_number(t, "%.2f %%", 100 * v->evaluation.accuracy);
    put_number(t, "%.4f", v->evaluation.auc);
    put_number(t, "%.4f", v->evaluation.loss);
    put_number(t, "%.4f", v->evaluation.precision);
    put_number(t, "%.4f", v->evaluation.recall);
    put_number(t, "%.4f", v->evaluation.ece);
    put_number(t, "%.1f", v->seconds);
    table_text(t, bytes_of(state));
}
static const char *const heads[] = {"model", ">version", ">parent", "time (UTC)", ">images", ">seen", ">accuracy", ">auc",
                                    ">loss", ">precision", ">recall", ">ece", ">seconds", "state"};
enum { COLUMNS = sizeof heads / sizeof *heads };

static enum err_kind list_model(struct stock *s, struct bytes model, bool json, struct table *t, struct err *e) {
    struct trained *versions = NULL;
    size_t n = 0;
    if (registry_versions(s->shelf.registry, model, &s->shelf.arena, &versions, &n, e)) return e->kind;
    for (size_t i = 0; i < n; i++) {
        const char *state = state_of(deployed_of(s, model), versions[i].version);
        if (json) print_json(&versions[i], state, (struct bytes){0});
        else put_version(t, &versions[i], state);
    }
    return ERR_NONE;
}

static int list(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct stock s = {0};
    struct table t = table_make(heads, COLUMNS);
    struct bytes one = n ? bytes_of(operands[0]) : (struct bytes){0}, *models = &one;
    size_t count = (size_t)n;
    if (!open_stock(c, &s, &e) && !n) (void)!images_models(s.shelf.images, &s.shelf.arena, &models, &count, &e);
    for (size_t i = 0; i < count && !e.kind; i++) (void)!list_model(&s, models[i], o->json, &t, &e);
    bool none = !o->json && !t.count;
    if (t.count) table_end(&t);
    if (e.kind) client_fail(c, &e);
    else if (none) client_say(c, "no version has been trained yet");
    shelf_close(&s.shelf);
    return e.kind ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_models_list = {
    .name = "models list", .operands = "[MODEL]", .what = "every version of the models, and what became of it",
    .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "A line a version: what it grew from, when, how many images it has learned from and seen (repeats\n"
            "counted), its figures on the images held out, the seconds that it took, and whether it is served.\n\n"
            "  darkroom models list\n"
            "  darkroom models list default --json | jq -c '[.version, .evaluation.accuracy]'",
    .least = 0, .most = 1, .settings = settings, .options_size = sizeof(struct options), .run = list};

static void show_metrics(const char *name, const struct metrics *m) {
    char count[32];
    printf("%-14s %s images", name, show_count(m->images, count));
    const struct { const char *name; double value; } figures[] = {
        {"accuracy", m->accuracy}, {"auc", m->auc}, {"loss", m->loss}, {"precision", m->precision}, {"recall", m->recall}, {"ece", m->ece}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        if (!isnan(figures[i].value)) printf(", %s %.4f", figures[i].name, figures[i].value);
    puts("");
}

static void show_version(const struct trained *v, const struct deployed *d) {
    char time[CLOCK_RFC3339_LEN + 1], count[32];
    struct buf b = {0};
    clock_format(v->time_ms, time);
    show_text(&b, v->model);
    printf("model          %s\nversion        v%lld\n", b.data, (long long)v->version);
    if (v->parent) printf("parent         v%lld\n", (long long)v->parent);
    printf("time           %s\nstate          %s\n", time, state_of(d, v->version));
    if (d && d->judged == v->version) {
        buf_clear(&b);
        show_text(&b, d->why);
        printf("why            %s\n", b.data);
    }
    for (size_t i = 0; d && i < d->order_count; i++) {
        const struct order_answer *k = &d->orders[i];
        if (k->version != v->version && k->from != v->version) continue;
        clock_format(k->time_ms, time);
        buf_clear(&b);
        show_text(&b, k->text);
        printf("order          %s %s: %s%s\n", time, order_action_name(k->action), k->done ? "" : "refused: ", b.data);
    }
    printf("images         %s\n", show_count(v->images, count));
    printf("presentations  %s\n", show_count(v->presentations, count));
    printf("labels         %lld\nbatches        %zu\n", (long long)v->labels, v->batch_count);
    if (v->missing) printf("missing        %s images were no longer in the store\n", show_count(v->missing, count));
    printf("seconds        %.1f", v->seconds);
    if (v->training_seconds > 0) printf(", %.1f of them in the training loop", v->training_seconds);
    putchar('\n');
    show_metrics("evaluation", &v->evaluation);
    show_metrics("training", &v->training);
    printf("artifact       %.*s\n", (int)v->artifact.len, (const char *)v->artifact.data);
    printf("lineage        %.*s\n", (int)v->lineage.len, (const char *)v->lineage.data);
    buf_free(&b);
}

static enum err_kind show_report(struct bytes json, struct arena *a, struct err *e) {
    struct version_report r;
    struct buf b = {0};
    if (report_decode(json, a, &r, e)) return e->kind;
    report_print(&r, &b);
    fwrite(b.data, 1, b.len, stdout);
    buf_free(&b);
    return ERR_NONE;
}

static int show(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct stock s = {0};
    struct trained v = {0};
    int64_t version;
    struct buf report = {0};
    if (client_version(c, operands[1], &version)) return CLIENT_USAGE;
    if (!open_stock(c, &s, &e) && !registry_version(s.shelf.registry, bytes_of(operands[0]), version, &s.shelf.arena, &v, &e)) {
        const struct deployed *d = deployed_of(&s, v.model);
        bool pruned = v.report.data && registry_get_artifact(s.shelf.registry, v.report, &report, &e) == ERR_BAD;
        if (pruned) err_clear(&e);
        if (e.kind) goto done;
        if (o->json) print_json(&v, state_of(d, version), report.len ? buf_bytes(&report) : (struct bytes){0});
        else show_version(&v, d);
        if (!o->json && report.len) (void)!show_report(buf_bytes(&report), &s.shelf.arena, &e);
        if (!o->json && pruned) puts("report         is not in Redis any more, as the weights of old versions");
    }
done:
    buf_free(&report);
    shelf_close(&s.shelf);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_models_show = {
    .name = "models show", .operands = "MODEL VERSION", .what = "all that is known of one version", .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "What it grew from and learned, its figures, and from its report: how far its probabilities are right, how it\n"
            "does class by class on the images held out, and what it takes for what.\n\n"
            "  darkroom models show default 12\n"
            "  darkroom models show default v12 --json",
    .least = 2, .most = 2, .settings = settings, .options_size = sizeof(struct options), .run = show};
