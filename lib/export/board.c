/* board.c: which tags a version has. */
#include "lib/export/board.h"

#include "lib/export/report.h"

#include <stdio.h>

static struct event_at at_of(const struct trained *v) {
    return (struct event_at){v->time_ms, v->presentations};
}

void board_figures(const struct trained *v, struct buf *file) {
    const struct metrics *t = &v->training, *e = &v->evaluation;
    const struct event_at at = at_of(v);
    const struct event_scalar list[] = {{"accuracy", t->accuracy},
                                        {"auc", t->auc},
                                        {"loss", t->loss},
                                        {"precision", t->precision},
                                        {"recall", t->recall},
                                        {"eval/accuracy", e->accuracy},
                                        {"eval/auc", e->auc},
                                        {"eval/loss", e->loss},
                                        {"eval/precision", e->precision},
                                        {"eval/recall", e->recall},
                                        {"eval/ece", e->ece},
                                        {"global_step", (double)v->presentations}};
    events_begin(file, v->time_ms);
    events_scalars(file, &at, list, sizeof list / sizeof *list);
}

static enum err_kind put_picture(struct buf *file, const struct event_at *at, const char *tag,
                                 struct image *im, struct err *e) {
    struct buf png = {0};
    if (im->pixels && !image_encode(im, &png, e))
        events_picture(file, at, tag, im->width, im->height, im->channels, buf_bytes(&png));
    image_free(im);
    buf_free(&png);
    return e->kind;
}

static void put_curve(struct buf *file, const struct event_at *at, const struct answers *a,
                      int class) {
    float table[CURVE_ROWS * CURVE_THRESHOLDS];
    char tag[320], title[300], what[100];
    bool all = class == CURVE_ALL_CLASSES;
    snprintf(title, sizeof title, all ? "eval" : "eval/%s", answers_label(a, all ? 0 : class));
    snprintf(tag, sizeof tag, "%s/pr_curves", title);
    if (all) snprintf(title, sizeof title, "all labels");
    snprintf(what, sizeof what, "%s, on %zu images held out",
             all ? "all classes together" : "this class against the rest", a->count);
    report_curve(a, class, table);
    events_curve(file, at, tag, title, what, table, CURVE_THRESHOLDS);
}

enum err_kind board_pictures(struct registry *g, struct images *im, const struct trained *version,
                             const struct alive *alive, struct buf *file, struct err *e) {
    const struct event_at at = at_of(version);
    struct answers a;
    struct image picture;
    size_t before = file->len;
    if (answers_get(g, im, version, alive, &a, e)) return e->kind;
    report_confusion(&a, &picture);
    if (!put_picture(file, &at, "eval/confusion", &picture, e)) {
        report_mistakes(&a, &picture);
        (void)!put_picture(file, &at, "eval/mistakes", &picture, e);
    }
    if (!e->kind && a.count) {
        int most = a.classes <= BOARD_CURVES_MOST ? a.classes : 0;
        put_curve(file, &at, &a, CURVE_ALL_CLASSES);
        for (int c = 0; c < a.model.label_count && c < most; c++) put_curve(file, &at, &a, c);
    }
    answers_free(&a);
    if (e->kind) file->len = before;
    return e->kind;
}
