/* report: tables of what the report counts. */
#include "lib/client/report.h"

#include "lib/client/show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct bytes unknown = BYTES("(unknown)");

static struct bytes name_of(struct bytes label) {
    return label.data ? label : unknown;
}

static void put_share(struct table *t, size_t part, size_t of) {
    if (of)
        table_print(t, "%.2f %%", 100 * (double)part / (double)of);
    else
        table_text(t, (struct bytes){0});
}

/* By label, the unknown ones last. */
static int by_label(const void *a, const void *b) {
    struct bytes x = ((const struct report_class *)a)->label,
                 y = ((const struct report_class *)b)->label;
    if (!x.data || !y.data) return !x.data - !y.data;
    size_t n = x.len < y.len ? x.len : y.len;
    int c = memcmp(x.data, y.data, n);
    return c ? c : (x.len > y.len) - (x.len < y.len);
}

static void print_calibration(const struct version_report *r, struct buf *out) {
    static const char *const heads[] = {">probability", ">images", ">on average", ">right"};
    const struct calibration *c = &r->calibration;
    struct table t = table_make(heads, 4);
    char count[32];
    if (!c->images) return;
    buf_printf(
        out, "\ncalibration: expected error %.2f points on %s images, with the temperature %.3f\n",
        100 * c->ece, show_count((int64_t)c->images, count), r->temperature);
    for (int k = 0; k < CALIBRATION_BINS; k++) {
        if (!c->bins[k].images) continue;
        table_print(&t, "to %.0f %%", 100.0 * (k + 1) / CALIBRATION_BINS);
        table_text(&t, bytes_of(show_count((int64_t)c->bins[k].images, count)));
        table_print(&t, "%.2f %%", 100 * c->bins[k].probability);
        table_print(&t, "%.2f %%", 100 * c->bins[k].accuracy);
    }
    table_write(&t, out);
    table_free(&t);
}

static void print_classes(const struct version_report *r, const struct report_class *list, size_t n,
                          struct buf *out) {
    static const char *const heads[] = {"class",   ">images",    ">right", ">answers",
                                        ">recall", ">precision", ">auc"};
    struct table t = table_make(heads, 7);
    char count[32];
    int64_t rest = (int64_t)(r->class_count - n) + r->classes_left_out;
    for (size_t i = 0; i < n; i++) {
        const struct class_score *s = &list[i].score;
        table_text(&t, name_of(list[i].label));
        table_text(&t, bytes_of(show_count((int64_t)s->labelled, count)));
        table_text(&t, bytes_of(show_count((int64_t)s->right, count)));
        table_text(&t, bytes_of(show_count((int64_t)s->guessed, count)));
        put_share(&t, s->right, s->labelled);
        put_share(&t, s->right, s->guessed);
        if (isnan(s->auc))
            table_text(&t, (struct bytes){0});
        else
            table_print(&t, "%.4f", s->auc);
    }
    buf_add_text(out, "\n");
    table_write(&t, out);
    table_free(&t);
    if (rest) buf_printf(out, "and %s classes with fewer wrong answers\n", show_count(rest, count));
}

static int64_t images_of(const struct version_report *r, const struct report_class *label,
                         const struct report_class *guess) {
    if (label == guess) return (int64_t)label->score.right;
    for (size_t i = 0; i < r->pair_count; i++)
        if (r->pairs[i].label.data == NULL
                ? label->label.data == NULL && bytes_equal(r->pairs[i].guess, guess->label)
                : label->label.data && bytes_equal(r->pairs[i].label, label->label) &&
                      bytes_equal(r->pairs[i].guess, guess->label))
            return r->pairs[i].images;
    return 0;
}

/* A row a label, a column an answer; nothing where nothing is. */
static void print_matrix(const struct version_report *r, const struct report_class *list,
                         struct buf *out) {
    char names[MATRIX_CLASSES][160];
    const char *heads[MATRIX_CLASSES + 1] = {"label \\ answer"};
    size_t columns = 1;
    for (size_t i = 0; i < r->class_count && list[i].label.data; i++) {
        struct buf b = {0};
        show_text(&b, list[i].label);
        snprintf(names[i], sizeof names[i], ">%s", b.data);
        heads[columns++] = names[i];
        buf_free(&b);
    }
    struct table t = table_make(heads, columns);
    for (size_t i = 0; i < r->class_count; i++) {
        table_text(&t, name_of(list[i].label));
        for (size_t k = 0; k + 1 < columns; k++) {
            int64_t n = images_of(r, &list[i], &list[k]);
            if (n)
                table_print(&t, "%lld", (long long)n);
            else
                table_text(&t, BYTES("."));
        }
    }
    buf_add_text(out, "\n");
    table_write(&t, out);
    table_free(&t);
}

static void print_pairs(const struct version_report *r, struct buf *out) {
    static const char *const heads[] = {"label", "answer", ">images"};
    struct table t = table_make(heads, 3);
    char count[32], of[32];
    int64_t pairs = r->pairs_left_out, images = r->images_left_out;
    for (size_t i = 0; i < r->pair_count; i++) {
        if (i < SHOWN_PAIRS) {
            table_text(&t, name_of(r->pairs[i].label));
            table_text(&t, r->pairs[i].guess);
            table_text(&t, bytes_of(show_count(r->pairs[i].images, count)));
        } else {
            pairs++;
            images += r->pairs[i].images;
        }
    }
    if (!t.count) return;
    buf_add_text(out, "\n");
    table_write(&t, out);
    table_free(&t);
    if (pairs)
        buf_printf(out, "and %s images in %s more pairs\n", show_count(images, count),
                   show_count(pairs, of));
}

void report_print(const struct version_report *r, struct buf *out) {
    size_t n = r->class_count < SHOWN_CLASSES ? r->class_count : SHOWN_CLASSES;
    bool all = n == r->class_count && !r->classes_left_out;
    struct report_class *list = mem_alloc((r->class_count + 1) * sizeof *list);
    if (r->class_count) memcpy(list, r->classes, r->class_count * sizeof *list);
    if (all) qsort(list, n, sizeof *list, by_label);
    print_calibration(r, out);
    print_classes(r, list, n, out);
    if (all && n <= MATRIX_CLASSES && !r->pairs_left_out)
        print_matrix(r, list, out);
    else
        print_pairs(r, out);
    free(list);
}
