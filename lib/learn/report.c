/* report: to JSON and back. */
#include "lib/learn/report.h"

#include "lib/base/json.h"

#include <math.h>
#include <string.h>

static void put_calibration(struct json_writer *w, const struct calibration *c) {
    json_open_object(w, "calibration");
    json_put_int(w, "images", (int64_t)c->images);
    json_put_real(w, "ece", c->ece);
    json_open_array(w, "bins");
    for (int k = 0; k < CALIBRATION_BINS; k++) {
        json_open_object(w, NULL);
        json_put_int(w, "images", (int64_t)c->bins[k].images);
        json_put_real(w, "probability", c->bins[k].probability);
        json_put_real(w, "accuracy", c->bins[k].accuracy);
        json_close_object(w);
    }
    json_close_array(w);
    json_close_object(w);
}

/* NAN, which is null, of nothing. */
static double share(size_t part, size_t of) {
    return of ? (double)part / (double)of : NAN;
}

static void put_class(struct json_writer *w, const struct report_class *c) {
    json_open_object(w, NULL);
    if (c->label.data) json_put_text(w, "label", c->label);
    json_put_int(w, "labelled", (int64_t)c->score.labelled);
    json_put_int(w, "guessed", (int64_t)c->score.guessed);
    json_put_int(w, "right", (int64_t)c->score.right);
    json_put_real(w, "precision", share(c->score.right, c->score.guessed));
    json_put_real(w, "recall", share(c->score.right, c->score.labelled));
    json_put_real(w, "auc", c->score.auc);
    json_close_object(w);
}

void report_encode(const struct version_report *r, struct buf *out) {
    struct json_writer w = json_begin(out);
    json_put_int(&w, "schema", MESSAGE_SCHEMA);
    json_put_text(&w, "model", r->model);
    json_put_int(&w, "version", r->version);
    json_put_int(&w, "images", r->images);
    json_put_real(&w, "temperature", r->temperature);
    put_calibration(&w, &r->calibration);
    json_open_array(&w, "classes");
    for (size_t i = 0; i < r->class_count; i++) put_class(&w, &r->classes[i]);
    json_close_array(&w);
    json_put_int(&w, "classes_left_out", r->classes_left_out);
    json_open_array(&w, "confusion");
    for (size_t i = 0; i < r->pair_count; i++) {
        json_open_object(&w, NULL);
        if (r->pairs[i].label.data) json_put_text(&w, "label", r->pairs[i].label);
        json_put_text(&w, "guess", r->pairs[i].guess);
        json_put_int(&w, "images", r->pairs[i].images);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_open_object(&w, "confusion_left_out");
    json_put_int(&w, "pairs", r->pairs_left_out);
    json_put_int(&w, "images", r->images_left_out);
    json_close_object(&w);
    json_end(&w);
}

/* Small enough that some thousands of them can be added up. */
static enum err_kind get_count(const struct json *o, const char *name, int64_t *out,
                               struct err *e) {
    if (json_get_int(o, name, true, out, e)) return e->kind;
    if (*out < 0 || *out > (int64_t)1e12)
        return err_bad(e, REASON_BAD_MESSAGE, "\"%s\" is out of range", name);
    return ERR_NONE;
}

static enum err_kind get_size(const struct json *o, const char *name, size_t *out, struct err *e) {
    int64_t n = 0;
    if (get_count(o, name, &n, e)) return e->kind;
    *out = (size_t)n;
    return ERR_NONE;
}

static enum err_kind get_calibration(const struct json *v, struct calibration *c, struct err *e) {
    const struct json *bins = json_member(v, "bins"), *b = json_first(bins);
    *c = (struct calibration){.ece = NAN};
    if (get_size(v, "images", &c->images, e) || json_get_real(v, "ece", false, &c->ece, e))
        return e->kind;
    if (!json_is_array(bins) || json_count(bins) != CALIBRATION_BINS)
        return err_bad(e, REASON_BAD_MESSAGE, "\"bins\" must be %d", CALIBRATION_BINS);
    for (int k = 0; k < CALIBRATION_BINS; k++, b = json_next(b))
        if (get_size(b, "images", &c->bins[k].images, e) ||
            json_get_real(b, "probability", true, &c->bins[k].probability, e) ||
            json_get_real(b, "accuracy", true, &c->bins[k].accuracy, e))
            return e->kind;
    return ERR_NONE;
}

static enum err_kind get_label(const struct json *v, const char *name, bool need, struct arena *a,
                               struct bytes *out, struct err *e) {
    struct bytes text = {0};
    if (json_get_text(v, name, need, &text, e)) return e->kind;
    *out = arena_copy(a, text);
    return ERR_NONE;
}

static enum err_kind get_classes(const struct json *o, struct arena *a, struct version_report *out,
                                 struct err *e) {
    const struct json *list = json_member(o, "classes");
    if (!json_is_array(list)) return err_bad(e, REASON_BAD_MESSAGE, "\"classes\" must be an array");
    out->classes = arena_alloc(a, json_count(list) * sizeof *out->classes);
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        struct report_class *c = &out->classes[out->class_count];
        *c = (struct report_class){.score = {.auc = NAN}};
        if (get_label(v, "label", false, a, &c->label, e) ||
            get_size(v, "labelled", &c->score.labelled, e) ||
            get_size(v, "guessed", &c->score.guessed, e) ||
            get_size(v, "right", &c->score.right, e) ||
            json_get_real(v, "auc", false, &c->score.auc, e))
            return err_in(e, "class %zu", out->class_count);
        out->class_count++;
    }
    return ERR_NONE;
}

static enum err_kind get_pairs(const struct json *o, struct arena *a, struct version_report *out,
                               struct err *e) {
    const struct json *list = json_member(o, "confusion"),
                      *rest = json_member(o, "confusion_left_out");
    if (!json_is_array(list))
        return err_bad(e, REASON_BAD_MESSAGE, "\"confusion\" must be an array");
    out->pairs = arena_alloc(a, json_count(list) * sizeof *out->pairs);
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        struct report_pair *p = &out->pairs[out->pair_count];
        *p = (struct report_pair){0};
        if (get_label(v, "label", false, a, &p->label, e) ||
            get_label(v, "guess", true, a, &p->guess, e) || get_count(v, "images", &p->images, e))
            return err_in(e, "pair %zu", out->pair_count);
        out->pair_count++;
    }
    if (get_count(rest, "pairs", &out->pairs_left_out, e) ||
        get_count(rest, "images", &out->images_left_out, e))
        return e->kind;
    return ERR_NONE;
}

enum err_kind report_decode(struct bytes json, struct arena *a, struct version_report *out,
                            struct err *e) {
    struct json *o = json_parse(json, e);
    int64_t schema = 0;
    *out = (struct version_report){.temperature = 1};
    if (!o) return e->kind;
    if (json_get_int(o, "schema", true, &schema, e)) goto done;
    if (schema < 1 || schema > MESSAGE_SCHEMA) {
        err_bad(e, REASON_BAD_MESSAGE, "schema %lld: this reader knows 1 to %d; update it first",
                (long long)schema, MESSAGE_SCHEMA);
    } else if (get_label(o, "model", true, a, &out->model, e) ||
               get_count(o, "version", &out->version, e) ||
               get_count(o, "images", &out->images, e) ||
               json_get_real(o, "temperature", true, &out->temperature, e) ||
               get_calibration(json_member(o, "calibration"), &out->calibration, e) ||
               get_classes(o, a, out, e) ||
               get_count(o, "classes_left_out", &out->classes_left_out, e) ||
               get_pairs(o, a, out, e)) {
        goto done;
    }
done:
    if (e->kind) err_in(e, "report");
    json_free(o);
    return e->kind;
}
