/*
 * Reports: curves from answers that can be counted by hand, and pictures of every size, for the sanitizers.
 */
#include "lib/export/pen.h"
#include "lib/export/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

enum { N = CURVE_THRESHOLDS };

static float at(const float *table, enum curve_row row, int threshold) {
    return table[row * N + threshold];
}

/* Two classes, four images: the first is answered wrongly. */
static void test_curve(void **state) {
    float prob[] = {.2f, .8f, .6f, .4f, 1, 0, .3f, .7f};
    int label[] = {0, 0, 0, 1};
    const struct answers a = {.classes = 2, .count = 4, .prob = prob, .label = label};
    float table[CURVE_ROWS * N];
    report_curve(&a, 0, table);
    assert_float_equal(at(table, CURVE_TRUE_POSITIVES, 0), 3, 0);
    assert_float_equal(at(table, CURVE_FALSE_POSITIVES, 0), 1, 0);
    assert_float_equal(at(table, CURVE_PRECISION, 0), .75, 0);
    assert_float_equal(at(table, CURVE_TRUE_POSITIVES, 25), 2, 0);  /* .6 and 1 */
    assert_float_equal(at(table, CURVE_FALSE_POSITIVES, 25), 1, 0); /* .3 */
    assert_float_equal(at(table, CURVE_FALSE_NEGATIVES, 25), 1, 0);
    assert_float_equal(at(table, CURVE_TRUE_NEGATIVES, 25), 0, 0);
    assert_float_equal(at(table, CURVE_RECALL, 50), 2 / 3.f, 1e-6);
    assert_float_equal(at(table, CURVE_PRECISION, 50), 1, 0);
    assert_float_equal(at(table, CURVE_TRUE_POSITIVES, 100), 1, 0); /* the one that is sure */
    report_curve(&a, CURVE_ALL_CLASSES, table);
    assert_float_equal(at(table, CURVE_TRUE_POSITIVES, 0), 4, 0);
    assert_float_equal(at(table, CURVE_FALSE_POSITIVES, 0), 4, 0);
    assert_float_equal(at(table, CURVE_TRUE_POSITIVES, 50), 3, 0);
    assert_float_equal(at(table, CURVE_FALSE_POSITIVES, 50), 1, 0);
}

static void test_curve_of_nothing(void **state) {
    const struct answers a = {.classes = 3};
    float table[CURVE_ROWS * N];
    report_curve(&a, 1, table);
    for (int i = 0; i < CURVE_ROWS * N; i++) assert_float_equal(table[i], 0, 0);
}

/* `classes` classes, the last of them none of the model's; image i shows i and is taken for i + 1. */
static void make_answers(struct answers *a, int classes) {
    static uint8_t pixels[5 * 70 * 3];
    *a = (struct answers){.classes = classes, .count = (size_t)classes};
    a->prob = mem_zeroed((size_t)classes * (size_t)classes, sizeof *a->prob);
    a->label = mem_alloc((size_t)classes * sizeof *a->label);
    for (int i = 0; i < classes; i++) {
        char label[64];
        snprintf(label, sizeof label, "\xc3\xa4pfel %d, of a very long name", i);
        if (i < classes - 1) model_add_label(&a->model, label);
        a->label[i] = i;
        a->prob[(size_t)i * (size_t)classes + (size_t)((i + 1) % classes)] = 1;
        if (a->mistake_count < MISTAKES_MOST)
            a->mistakes[a->mistake_count++] = (struct mistake){
                i,
                (i + 1) % classes,
                0,
                1,
                {70, 5, 3, memcpy(mem_alloc(sizeof pixels), pixels, sizeof pixels)}};
    }
}

static void test_pictures(void **state) {
    static const int sizes[] = {2, 10, 33, 100, 300, CONFUSION_MOST_CLASSES};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        struct answers a;
        struct image im;
        make_answers(&a, sizes[k]);
        report_confusion(&a, &im);
        assert_non_null(im.pixels);
        assert_in_range(im.width, 2 * sizes[k], 2000);
        image_free(&im);
        report_mistakes(&a, &im);
        assert_non_null(im.pixels);
        image_free(&im);
        answers_free(&a);
    }
}

static void test_no_pictures(void **state) {
    struct answers a;
    struct image im;
    make_answers(&a, CONFUSION_MOST_CLASSES + 1);
    report_confusion(&a, &im);
    assert_null(im.pixels);
    answers_free(&a);
    report_mistakes(&a, &im);
    assert_null(im.pixels);
}

/* What falls off the canvas is left out; upwards is to the left of the same letter. */
static void test_pen(void **state) {
    const struct colour black = {0, 0, 0};
    struct image im;
    int drawn = 0;
    pen_canvas(&im, 20, 20);
    pen_text(&im, -1, 18, 2, "WWW", 3, black);
    pen_text(&im, 19, -3, 7, "\xc3\xa4", 3, black);
    pen_text_upwards(&im, 2, 2, 1, "L", 1, black);
    for (int y = 0; y < 10; y++) drawn += im.pixels[(y * 20 + 6) * 3] == 0;
    assert_int_equal(drawn, 3); /* the foot of the L, three pixels, stands upright at its right */
    assert_int_equal(pen_length("\xc3\xa4"
                                "b",
                                9),
                     2);
    image_free(&im);
}

static void test_fit(void **state) {
    char text[60];
    pen_fit("class_7_hue4", 12, text, sizeof text);
    assert_string_equal(text, "class_7_hue4");
    pen_fit("class_7_hue4", 9, text, sizeof text);
    assert_string_equal(text, "class..e4");
    pen_fit("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xb6", 5, text, sizeof text);
    assert_string_equal(text, "\xc3\xa4\xc3\xa4..\xc3\xb6");
}

static void test_no_mistake(void **state) {
    float prob[] = {1, 0};
    int label[] = {0};
    const struct answers a = {.classes = 2, .count = 1, .prob = prob, .label = label};
    struct image im;
    report_mistakes(&a, &im);
    assert_non_null(im.pixels);
    image_free(&im);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_curve),      cmocka_unit_test(test_curve_of_nothing),
        cmocka_unit_test(test_pictures),   cmocka_unit_test(test_no_pictures),
        cmocka_unit_test(test_pen),        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_no_mistake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
