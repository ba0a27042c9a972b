/* report_measure: from the answers of an exam to a report; counts by sorting, so that memory grows with
   the images and not with the labels' square. */
#include "lib/learn/report.h"

#include <stdlib.h>

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
                             const float *params, int threads, const struct rows *held,
                             unsigned char *gone, const struct alive *alive, struct arena *a,
                             struct trained *out, struct err *e) {
    struct exam x = {.sitters = {{.model = m, .params = params}}, .count = 1, .threads = threads};
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
