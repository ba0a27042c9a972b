/* report: counts by sorting, so that memory grows with the images and not with the labels' square. */
#include "lib/learn/report.h"

#include "lib/base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- from an exam ---- */

struct ranked_class {
    int class;
    struct class_score score;
};

static size_t wrong_of(const struct class_score *s) {
    return s->labelled - s->right + s->guessed - s->right;
}

static int by_wrong(const void *a, const void *b) {
    const struct ranked_class *x = a, *y = b;
    size_t xw = wrong_of(&x->score), yw = wrong_of(&y->score);
    if (xw != yw) return xw < yw ? 1 : -1;
    if (x->score.labelled != y->score.labelled)
        return x->score.labelled < y->score.labelled ? 1 : -1;
    return (x->class > y->class) - (x->class < y->class);
}

struct run {
    uint64_t pair; /* label * (classes + 1) + guess */
    int64_t images;
};

static int by_pair(const void *a, const void *b) {
    uint64_t x = ((const struct run *)a)->pair, y = ((const struct run *)b)->pair;
    return (x > y) - (x < y);
}

static int by_images(const void *a, const void *b) {
    int64_t x = ((const struct run *)a)->images, y = ((const struct run *)b)->images;
    return x == y ? by_pair(a, b) : x < y ? 1 : -1;
}

static struct bytes label_of(const struct model *m, int class) {
    return class < m->label_count ? bytes_of(m->labels[class]) : (struct bytes) { 0 };
}

static void rank_classes(const struct sitter *of, const struct class_score *each, struct arena *a,
                         struct version_report *out) {
    int count = of->model->label_count + of->unknown;
    struct ranked_class *list = mem_alloc((size_t)count * sizeof *list);
    for (int c = 0; c < count; c++) list[c] = (struct ranked_class){c, each[c]};
    qsort(list, (size_t)count, sizeof *list, by_wrong);
    out->class_count = count < REPORT_CLASSES ? (size_t)count : REPORT_CLASSES;
    out->classes_left_out = count - (int64_t)out->class_count;
    out->classes = arena_alloc(a, out->class_count * sizeof *out->classes);
    for (size_t i = 0; i < out->class_count; i++)
        out->classes[i] = (struct report_class){label_of(of->model, list[i].class), list[i].score};
    free(list);
}

static void rank_pairs(const struct exam *x, const struct sitter *of, struct arena *a,
                       struct version_report *out) {
    int classes = of->model->label_count;
    size_t wrong = 0, count = 0;
    struct run *list = mem_alloc(x->n * sizeof *list);
    for (size_t i = 0; i < x->n; i++) {
        int guess = score_guess(of->prob + i * (size_t)classes, classes);
        if (guess != of->label[i])
            list[wrong++].pair = (uint64_t)of->label[i] * (uint64_t)(classes + 1) + (uint64_t)guess;
    }
    qsort(list, wrong, sizeof *list, by_pair);
    for (size_t i = 0; i < wrong; i++) {
        if (!count || list[count - 1].pair != list[i].pair)
            list[count++] = (struct run){list[i].pair, 0};
        list[count - 1].images++;
    }
    qsort(list, count, sizeof *list, by_images);
    out->pair_count = count < REPORT_PAIRS ? count : REPORT_PAIRS;
    out->pairs_left_out = (int64_t)(count - out->pair_count);
    out->pairs = arena_alloc(a, out->pair_count * sizeof *out->pairs);
    for (size_t i = 0; i < count; i++) {
        int label = (int)(list[i].pair / (uint64_t)(classes + 1)),
            guess = (int)(list[i].pair % (uint64_t)(classes + 1));
        if (i < out->pair_count)
            out->pairs[i] = (struct report_pair){label_of(of->model, label),
                                                 label_of(of->model, guess), list[i].images};
        else
            out->images_left_out += list[i].images;
    }
    free(list);
}

void report_of(const struct exam *x, int sitter, struct arena *a, struct version_report *out) {
    const struct sitter *of = &x->sitters[sitter];
    struct class_score *each = mem_alloc((size_t)(of->model->label_count + 1) * sizeof *each);
    struct metrics ignored;
    exam_metrics(x, sitter, &ignored, each);
    *out = (struct version_report){.images = (int64_t)x->n,
                                   .temperature = (double)net_temperature(of->model->net)};
    exam_calibration(x, sitter, &out->calibration);
    rank_classes(of, each, a, out);
    rank_pairs(x, of, a, out);
    free(each);
}

/* ---- JSON ---- */

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

/* ---- a new version ---- */

static enum err_kind save(struct registry *g, const struct exam *x, struct arena *a,
                          struct trained *out, struct err *e) {
    struct version_report r;
    struct buf json = {0};
    char name[HASH_HEX + 1];
    report_of(x, 0, a, &r);
    r.model = out->model;
    r.version = out->version;
    report_encode(&r, &json);
    if (!registry_put_artifact(g, buf_bytes(&json), name, e))
        out->report = bytes_of(arena_text(a, bytes_of(name)));
    buf_free(&json);
    return e->kind;
}

enum err_kind report_measure(struct registry *g, struct images *im, struct model *m,
                             const float *params, const struct rows *held, unsigned char *gone,
                             const struct alive *alive, struct arena *a, struct trained *out,
                             struct err *e) {
    struct exam x = {.sitters = {{.model = m, .params = params}}, .count = 1};
    net_set_temperature(m->net, 1);
    if (exam_hold(&x, im, out->model, held, held->count, gone, alive, e)) goto done;
    float temperature = (float)exam_temperature(&x, 0);
    net_set_temperature(m->net, temperature);
    exam_scale(&x, 0, (double)temperature);
    exam_metrics(&x, 0, &out->evaluation, NULL);
    out->temperature = (double)temperature;
    if (x.n) (void)!save(g, &x, a, out, e);
done:
    exam_free(&x);
    return e->kind;
}
