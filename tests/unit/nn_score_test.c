/*
 * The scores against values worked out by hand, and the AUC against the count of all pairs.
 */
#include "lib/nn/score.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

static void is_near(double a, double b) {
    if (fabs(a - b) > 1e-6) fail_msg("%.9f is not %.9f", a, b);
}

/* Three classes; the answers 0 1 1 2 0 for the labels 0 1 2 2 1. */
static void test_by_hand(void **state) {
    const float prob[] = {.7f, .2f, .1f, .1f, .8f, .1f, .2f, .5f,
                          .3f, .1f, .3f, .6f, .6f, .3f, .1f};
    const int label[] = {0, 1, 2, 2, 1};
    struct class_score each[3];
    struct score s;
    score_of(prob, label, 5, 3, &s, each);
    const struct class_score want[] = {{1, 2, 1, 1}, {2, 2, 1, 4.5 / 6}, {2, 1, 1, 1}};
    for (int c = 0; c < 3; c++) {
        assert_int_equal(each[c].labelled, want[c].labelled);
        assert_int_equal(each[c].guessed, want[c].guessed);
        assert_int_equal(each[c].right, want[c].right);
        is_near(each[c].auc, want[c].auc);
    }
    is_near(s.accuracy, 3.0 / 5);
    is_near(s.log_loss, -(log(.7) + log(.8) + log(.3) + log(.6) + log(.3)) / 5);
    is_near(s.precision, (1.0 / 2 + 1.0 / 2 + 1) / 3);
    is_near(s.recall, (1 + 1.0 / 2 + 1.0 / 2) / 3);
    /* class 0: .7 above .1 .2 .1 .6: 4 of 4; class 1: .8 and .3 against .2 .5 .3: 3 + 1.5 of 6;
       class 2: .3 and .6 against .1 .1 .1: 6 of 6 */
    is_near(s.auc, (1 + 4.5 / 6 + 1) / 3);
}

static void test_tiny(void **state) {
    struct score s;
    struct class_score each[2] = {{9, 9, 9, 9}, {9, 9, 9, 9}};
    score_of(NULL, NULL, 0, 2, &s, each);
    assert_int_equal(s.n, 0);
    is_near(s.accuracy + s.log_loss + s.precision + s.recall, 0);
    is_near(s.auc, 0.5);
    assert_int_equal(each[1].labelled + each[1].guessed + each[1].right, 0);
    assert_true(isnan(each[1].auc));

    const float prob[] = {1, 0};
    const int wrong[] = {1}, right[] = {0};
    score_of(prob, right, 1, 2, &s, NULL);
    is_near(s.accuracy, 1);
    is_near(s.precision, 1);
    is_near(s.recall, 1);
    is_near(s.log_loss, 0);
    is_near(s.auc, 0.5);
    score_of(prob, wrong, 1, 2, &s, NULL);
    is_near(s.accuracy + s.precision + s.recall, 0);
    is_near(s.log_loss, -log(1e-15));
}

/* Every pair of a positive and a negative, counted. */
static double auc_by_pairs(const float *prob, const int *label, int n, int classes) {
    double sum = 0;
    int counted = 0;
    for (int c = 0; c < classes; c++) {
        double won = 0, pairs = 0;
        for (int i = 0; i < n; i++)
            for (int k = 0; k < n; k++) {
                if (label[i] != c || label[k] == c) continue;
                float a = prob[i * classes + c], b = prob[k * classes + c];
                won += a > b ? 1 : a == b ? 0.5 : 0;
                pairs++;
            }
        if (pairs == 0) continue;
        sum += won / pairs;
        counted++;
    }
    return counted ? sum / counted : 0.5;
}

static void test_auc_against_pairs(void **state) {
    enum { MOST = 120, CLASSES = 5 };
    srand(7);
    for (int round = 0; round < 200; round++) {
        float prob[MOST * CLASSES];
        int label[MOST], n = 1 + rand() % MOST, levels = 2 + rand() % 20;
        for (int i = 0; i < n * CLASSES; i++) prob[i] = (float)(rand() % levels) / (float)levels;
        for (int i = 0; i < n; i++) label[i] = rand() % (1 + rand() % CLASSES);
        struct score s;
        score_of(prob, label, n, CLASSES, &s, NULL);
        is_near(s.auc, auc_by_pairs(prob, label, n, CLASSES));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_auc_against_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
