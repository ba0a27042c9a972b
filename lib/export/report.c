/* report.c: counting and drawing. */
#include "lib/export/report.h"

#include "lib/export/pen.h"
#include "lib/nn/score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct colour black = {0, 0, 0}, white = {255, 255, 255}, line = {210, 210, 210};

enum { LABEL_MOST = 12, GAP = 4, PICTURE = 640, CELL_LEAST = 2, CELL_MOST = 44 };

/* From white, for 0, to a full colour, for 1. */
static struct colour shade(double share, struct colour full) {
    return (struct colour){(uint8_t)(255 - share * (255 - full.r)),
                           (uint8_t)(255 - share * (255 - full.g)),
                           (uint8_t)(255 - share * (255 - full.b))};
}

static void draw_cell(struct image *im, int x, int y, int cell, uint32_t count, double share,
                      bool right) {
    char text[16];
    int n = snprintf(text, sizeof text, "%u", count), size = cell / (4 * PEN_STEP);
    double depth = right ? share : sqrt(share);
    pen_box(im, x, y, cell - (cell > 4), cell - (cell > 4),
            shade(depth, right ? (struct colour){8, 70, 150} : (struct colour){200, 20, 20}));
    if (size && count && n <= 4)
        pen_text(im, x + (cell - n * PEN_STEP * size) / 2, y + (cell - PEN_HEIGHT * size) / 2, size,
                 text, n, depth > .5 ? white : black);
}

/* The classes by their names; what is none of the model's stands last. In `order` (classes). */
static void sort_classes(const struct answers *a, int *order) {
    for (int c = 0; c < a->classes; c++) {
        int at = c;
        for (; c < a->model.label_count && at; at--) {
            if (strcmp(answers_label(a, order[at - 1]), answers_label(a, c)) <= 0) break;
            order[at] = order[at - 1];
        }
        order[at] = c;
    }
}

void report_confusion(const struct answers *a, struct image *out) {
    int n = a->classes, longest = 0;
    *out = (struct image){0};
    if (!a->count || n > CONFUSION_MOST_CLASSES) return;
    uint32_t *counts = mem_zeroed((size_t)n * (size_t)n, sizeof *counts);
    int order[CONFUSION_MOST_CLASSES];
    sort_classes(a, order);
    for (size_t i = 0; i < a->count; i++)
        counts[a->label[i] * n + score_guess(a->prob + i * (size_t)n, n)]++;

    int cell = PICTURE / n;
    cell = cell < CELL_LEAST ? CELL_LEAST : cell > CELL_MOST ? CELL_MOST : cell;
    int size =
        cell / (PEN_HEIGHT + 1) > 2 ? 2 : cell / (PEN_HEIGHT + 1); /* 0: too small for words */
    for (int c = 0; c < n; c++) {
        int length = pen_length(answers_label(a, c), LABEL_MOST);
        longest = length > longest ? length : longest;
    }
    int head = 3 * GAP + 2 * PEN_HEIGHT, margin = longest * PEN_STEP * size + 2 * GAP;
    int side = margin + n * cell + GAP;
    pen_canvas(out, side > 240 ? side : 240, head + side);
    pen_text(out, GAP, GAP, 2, "down: label, across: answer", 64, black);
    pen_box(out, margin - 1, head + margin - 1, n * cell + (cell > 4), n * cell + (cell > 4), line);
    for (int row = 0; row < n; row++) {
        double total = 0;
        int y = head + margin + row * cell, middle = (cell - PEN_HEIGHT * size) / 2;
        const char *label = answers_label(a, order[row]);
        int length = pen_length(label, LABEL_MOST) * PEN_STEP * size;
        if (size) {
            pen_text(out, margin - GAP - length, y + middle, size, label, LABEL_MOST, black);
            int x = margin + row * cell;
            if (longest * PEN_STEP * size <= cell)
                pen_text(out, x + (cell - length) / 2, head + margin - GAP - PEN_HEIGHT * size,
                         size, label, LABEL_MOST, black);
            else
                pen_text_upwards(out, x + middle, head + margin - GAP - length, size, label,
                                 LABEL_MOST, black);
        }
        const uint32_t *count = counts + (size_t)order[row] * (size_t)n;
        for (int c = 0; c < n; c++) total += count[c];
        for (int c = 0; c < n; c++)
            draw_cell(out, margin + c * cell, y, cell, count[order[c]],
                      total > 0 ? count[order[c]] / total : 0, row == c);
    }
    free(counts);
}

void report_mistakes(const struct answers *a, struct image *out) {
    enum { ACROSS = 6, TILE = 96, LINES = 2 * (2 * PEN_HEIGHT + GAP) };
    const int width = TILE + 2 * GAP, height = TILE + LINES + 2 * GAP;
    const int room = TILE / (2 * PEN_STEP);
    int n = a->mistake_count;
    *out = (struct image){0};
    if (!n) return;
    pen_canvas(out, (n < ACROSS ? n : ACROSS) * width, (n + ACROSS - 1) / ACROSS * height);
    for (int i = 0; i < n; i++) {
        const struct mistake *m = &a->mistakes[i];
        int x = i % ACROSS * width + GAP, y = i / ACROSS * height + GAP;
        char text[300];
        pen_box(out, x, y, TILE, TILE, line);
        pen_image(out, x, y, TILE, &m->image);
        y += TILE + GAP;
        pen_text(out, x, y, 2, answers_label(a, m->label), room, black);
        y += 2 * PEN_HEIGHT + GAP;
        snprintf(text, sizeof text, ">%s", answers_label(a, m->guess));
        pen_text(out, x, y, 2, text, room - 4, (struct colour){200, 20, 20});
        int end = pen_length(text, room - 4);
        snprintf(text, sizeof text, "%.0f%%", 100 * m->wrong);
        pen_text(out, x + (end + (end + 5 <= room)) * PEN_STEP * 2, y, 2, text, 4, black);
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
