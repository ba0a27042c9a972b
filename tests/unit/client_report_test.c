/* A version's report for people: every figure in its place, and texts from outside made safe. */
#include "lib/client/report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct version_report few(void) {
    static struct report_class classes[] = {{BYTES("dog"), {10, 9, 7, 0.875}},
                                            {BYTES("c\033at"), {8, 11, 8, NAN}},
                                            {{0}, {2, 0, 0, 0.5}}};
    static struct report_pair pairs[] = {{BYTES("dog"), BYTES("c\033at"), 3},
                                         {{0}, BYTES("dog"), 2}};
    struct version_report r = {.images = 20,
                               .temperature = 1.25,
                               .classes = classes,
                               .class_count = 3,
                               .pairs = pairs,
                               .pair_count = 2};
    r.calibration.images = 9;
    r.calibration.ece = 0.0123;
    r.calibration.bins[14].images = 9;
    r.calibration.bins[14].probability = 0.97;
    r.calibration.bins[14].accuracy = 0.9823;
    return r;
}

static void few_classes_have_a_matrix(void **state) {
    (void)state;
    struct version_report r = few();
    struct buf b = {0};
    report_print(&r, &b);
    assert_string_equal(
        b.data, "\n"
                "calibration: expected error 1.23 points on 9 images, with the temperature 1.250\n"
                "probability  images  on average    right\n"
                "   to 100 %       9     97.00 %  98.23 %\n"
                "\n"
                "class      images  right  answers    recall  precision     auc\n"
                "c\\x1bat         8      8       11  100.00 %    72.73 %       -\n"
                "dog            10      7        9   70.00 %    77.78 %  0.8750\n"
                "(unknown)       2      0        0    0.00 %          -  0.5000\n"
                "\n"
                "label \\ answer  c\\x1bat  dog\n"
                "c\\x1bat               8    .\n"
                "dog                   3    7\n"
                "(unknown)             .    2\n");
    buf_free(&b);
}

static void many_classes_have_a_list_of_pairs(void **state) {
    (void)state;
    struct version_report r = few();
    struct buf b = {0};
    r.classes_left_out = 70;
    r.pairs_left_out = 4;
    r.images_left_out = 1234;
    report_print(&r, &b);
    assert_non_null(strstr(b.data, "and 70 classes with fewer wrong answers\n"
                                   "\n"
                                   "label      answer   images\n"
                                   "dog        c\\x1bat       3\n"
                                   "(unknown)  dog           2\n"
                                   "and 1,234 images in 4 more pairs\n"));
    assert_non_null(strstr(b.data, "auc\ndog ")); /* most wrong first, as in the report */
    assert_null(strstr(b.data, "label \\"));
    buf_free(&b);
}

static void nothing_is_no_trouble(void **state) {
    (void)state;
    struct version_report r = {.temperature = 1};
    struct buf b = {0};
    report_print(&r, &b);
    assert_null(strstr(b.data, "calibration"));
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_classes_have_a_matrix),
                                       cmocka_unit_test(many_classes_have_a_list_of_pairs),
                                       cmocka_unit_test(nothing_is_no_trouble)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
