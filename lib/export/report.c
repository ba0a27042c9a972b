/*
 * report.c: counting and drawing. TensorBoard shows a picture 350 pixels wide, without smoothing: those
 * of that width, or twice that, keep every stroke.
 */
#define _GNU_SOURCE /* strverscmp */
#include "lib/export/report.h"

#include "lib/export/pen.h"
#include "lib/nn/score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct colour black = {0, 0, 0}, white = {255, 255, 255}, line = {210, 210, 210};

enum { LABEL_MOST = 12, TEXT = 3 * LABEL_MOST * 2, GAP = 4, CELL_LEAST = 2, CELL_MOST = 44 };
enum { NARROW = 350, WIDE = 700, NARROW_CLASSES = 12 };

/* From white, for 0, to a full colour, for 1. */
static struct colour shade(double share, struct colour full) {
    return (struct colour){(uint8_t)(255 - share * (255 - full.r)),
                           (uint8_t)(255 - share * (255 - full.g)),
                           (uint8_t)(255 - share * (255 - full.b))};
}

static void draw_cell(struct image *im, int x, int y, int cell, uint32_t count, double share,
                      bool right) {
    char text[16];
    int n = snprintf(text, sizeof text, "%u", count), size = cell / (n * PEN_STEP + 2);
    int tall = cell / (PEN_HEIGHT + 2);
    size = tall < size ? tall : size;
    size = size > 2 ? 2 : size;
    double depth = right ? share : sqrt(share);
    pen_box(im, x, y, cell - (cell > 4), cell - (cell > 4),
            shade(depth, right ? (struct colour){8, 70, 150} : (struct colour){200, 20, 20}));
    if (size && count)
        pen_text(im, x + (cell - n * PEN_STEP * size) / 2, y + (cell - PEN_HEIGHT * size) / 2, size,
                 text, n, depth > .5 ? white : black);
}

/* The classes by their names, numbers by their size; what is none of the model's stands last.
   In `order` (classes). */
static void sort_classes(const struct answers *a, int *order) {
    for (int c = 0; c < a->classes; c++) {
        int at = c;
        for (; c < a->model.label_count && at; at--) {
            if (strverscmp(answers_label(a, order[at - 1]), answers_label(a, c)) <= 0) break;
            order[at] = order[at - 1];
        }
        order[at] = c;
    }
}

/* Where things are in the confusion matrix. */
struct layout {
    int cell, size; /* of a letter; 0: too small for words */
    int left, top;  /* of the cells */
};

static struct layout lay_out(int n, int longest) {
    int width = n <= NARROW_CLASSES ? NARROW : WIDE;
    struct layout l = {.size = 2};
    for (; l.size >= 0; l.size--) {
        l.left = longest * PEN_STEP * l.size + 2 * GAP;
        l.cell = (width - l.left - GAP) / n;
        if (l.cell >= (PEN_HEIGHT + 1) * l.size) break;
    }
    l.cell = l.cell < CELL_LEAST ? CELL_LEAST : l.cell > CELL_MOST ? CELL_MOST : l.cell;
    l.top = l.left + 3 * GAP + 4 * PEN_HEIGHT;
    return l;
}

static void draw_labels(struct image *im, const struct layout *l, int at, const char *label,
                        int longest) {
    char text[TEXT];
    pen_fit(label, LABEL_MOST, text, sizeof text);
    int length = pen_length(text, LABEL_MOST) * PEN_STEP * l->size;
    int middle = at * l->cell + (l->cell - PEN_HEIGHT * l->size) / 2;
    pen_text(im, l->left - GAP - length, l->top + middle, l->size, text, LABEL_MOST, black);
    if (longest * PEN_STEP * l->size <= l->cell)
        pen_text(im, l->left + at * l->cell + (l->cell - length) / 2,
                 l->top - GAP - PEN_HEIGHT * l->size, l->size, text, LABEL_MOST, black);
    else
        pen_text_upwards(im, l->left + middle, l->top - GAP - length, l->size, text, LABEL_MOST,
                         black);
}

void report_confusion(const struct answers *a, struct image *out) {
    int n = a->classes, longest = 0;
    *out = (struct image){0};
    if (!a->count || n > CONFUSION_MOST_CLASSES) return;
    uint32_t *counts = mem_zeroed((size_t)n * (size_t)n, sizeof *counts);
    int order[CONFUSION_MOST_CLASSES];
    size_t right = 0;
    char text[80];
    sort_classes(a, order);
    for (size_t i = 0; i < a->count; i++) {
        int guess = score_guess(a->prob + i * (size_t)n, n);
        counts[a->label[i] * n + guess]++;
        right += guess == a->label[i];
    }
    for (int c = 0; c < n; c++) {
        int length = pen_length(answers_label(a, c), LABEL_MOST);
        longest = length > longest ? length : longest;
    }
    const struct layout l = lay_out(n, longest);
    int side = n * l.cell, width = l.left + side + GAP, least = n <= NARROW_CLASSES ? NARROW : WIDE;
    pen_canvas(out, width > least ? width : least, l.top + side + GAP);
    pen_text(out, GAP, GAP, 2, "down: label, across: answer", 64, black);
    snprintf(text, sizeof text, "%zu images, %.2f%% right", a->count,
             100 * (double)right / (double)a->count);
    pen_text(out, GAP, 2 * GAP + 2 * PEN_HEIGHT, 2, text, 64, black);
    pen_box(out, l.left - 1, l.top - 1, side + (l.cell > 4), side + (l.cell > 4), line);
    for (int row = 0; row < n; row++) {
        double total = 0;
        if (l.size) draw_labels(out, &l, row, answers_label(a, order[row]), longest);
        const uint32_t *count = counts + (size_t)order[row] * (size_t)n;
        for (int c = 0; c < n; c++) total += count[c];
        for (int c = 0; c < n; c++)
            draw_cell(out, l.left + c * l.cell, l.top + row * l.cell, l.cell, count[order[c]],
                      total > 0 ? count[order[c]] / total : 0, row == c);
    }
    free(counts);
}

/* A class, and its probability at the end of the line. */
static void draw_class(struct image *im, int x, int y, int room, const char *label, float prob,
                       struct colour colour) {
    char text[TEXT], share[8];
    int n = snprintf(share, sizeof share, "%.0f%%", 100 * prob);
    pen_fit(label, room - n - 1, text, sizeof text);
    pen_text(im, x, y, 2, text, room, colour);
    pen_text(im, x + (room - n) * PEN_STEP * 2, y, 2, share, n, colour);
}

void report_mistakes(const struct answers *a, struct image *out) {
    enum { ACROSS = 3, TILE = 108, ROW = 2 * PEN_HEIGHT + GAP };
    const int width = NARROW / ACROSS, height = TILE + 2 * ROW + 3 * GAP;
    const int room = TILE / (2 * PEN_STEP);
    int n = a->mistake_count;
    *out = (struct image){0};
    if (!a->count) return;
    pen_canvas(out, NARROW, n ? (n + ACROSS - 1) / ACROSS * height : 2 * PEN_HEIGHT + 2 * GAP);
    if (!n) {
        char text[80];
        snprintf(text, sizeof text, "no mistake in %zu images", a->count);
        pen_text(out, GAP, GAP, 2, text, 64, black);
    }
    for (int i = 0; i < n; i++) {
        const struct mistake *m = &a->mistakes[i];
        int x = i % ACROSS * width + GAP, y = i / ACROSS * height + GAP;
        pen_box(out, x, y, TILE, TILE, line);
        pen_image(out, x, y, TILE, &m->image);
        y += TILE + GAP;
        draw_class(out, x, y, room, answers_label(a, m->label), m->right, black);
        draw_class(out, x, y + ROW, room, answers_label(a, m->guess), m->wrong,
                   (struct colour){200, 20, 20});
    }
}

void report_curve(const struct answers *a, int class, float *table) {
    enum { N = CURVE_THRESHOLDS };
    double hits[N] = {0}, misses[N] = {0}, hit = 0, miss = 0, positives = 0, negatives = 0;
    for (size_t i = 0; i < a->count; i++)
        for (int c = 0; c < a->classes; c++) {
            if (class != CURVE_ALL_CLASSES && c != class) continue;
            float p = a->prob[i * (size_t)a->classes + (size_t)c];
            int at = p > 0 ? (int)(p * (N - 1)) : 0; /* the last threshold that it reaches */
            at = at < N ? at : N - 1;
            if (a->label[i] == c)
                hits[at]++, positives++;
            else
                misses[at]++, negatives++;
        }
    for (int t = N - 1; t >= 0; t--) {
        hit += hits[t], miss += misses[t];
        table[CURVE_TRUE_POSITIVES * N + t] = (float)hit;
        table[CURVE_FALSE_POSITIVES * N + t] = (float)miss;
        table[CURVE_TRUE_NEGATIVES * N + t] = (float)(negatives - miss);
        table[CURVE_FALSE_NEGATIVES * N + t] = (float)(positives - hit);
        table[CURVE_PRECISION * N + t] = hit + miss > 0 ? (float)(hit / (hit + miss)) : 0;
        table[CURVE_RECALL * N + t] = positives > 0 ? (float)(hit / positives) : 0;
    }
}
