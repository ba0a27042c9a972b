/*
 * Calibration on answers whose labels are drawn: what is calibrated by its making has next to no
 * error, what was made too sure has the error and the temperature that were planted, and a net that
 * is given that temperature answers as the formula says.
 */
#include "lib/nn/calibrate.h"
#include "lib/nn/net.h"
#include "lib/nn/score.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

enum { N = 20000, CLASSES = 7 };

static float prob[N * CLASSES];
static int label[N];

static double uniform(void) {
    return (double)rand() / ((double)RAND_MAX + 1);
}

/* Labels drawn from softmax(z); what is told is softmax(sharper * z). */
static void plant(double sharper, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double z[CLASSES], sum = 0, told = 0, at = uniform();
        for (int c = 0; c < CLASSES; c++) {
            z[c] = 6 * uniform();
            sum += exp(z[c]);
            told += exp(sharper * z[c]);
        }
        label[i] = CLASSES - 1;
        for (int c = 0; c < CLASSES - 1; c++) {
            if ((at -= exp(z[c]) / sum) >= 0) continue;
            label[i] = c;
            break;
        }
        for (int c = 0; c < CLASSES; c++)
            prob[i * CLASSES + (size_t)c] = (float)(exp(sharper * z[c]) / told);
    }
}

static void test_ece_by_hand(void **state) {
    /* 0.75 is in bin (11/15, 12/15], 0.95 in the last, 1/2 in (7/15, 8/15] */
    const float p[] = {.75f, .25f, .25f, .75f, .95f, .05f, 0, 1, .5f, .5f};
    const int l[] = {0, 0, 0, 1, 5}; /* right, wrong, right, right, of an unknown label */
    struct calibration c;
    calibration_of(p, l, 5, 2, &c);
    assert_int_equal(c.images, 5);
    assert_int_equal(c.bins[11].images, 2);
    assert_int_equal(c.bins[14].images, 2);
    assert_int_equal(c.bins[7].images, 1);
    assert_true(fabs(c.bins[11].accuracy - .5) < 1e-9 && fabs(c.bins[11].probability - .75) < 1e-6);
    assert_true(fabs(c.ece - (2 * .25 + 2 * .025 + 1 * .5) / 5) < 1e-6);
    calibration_of(p + 2, l + 1, 1, 2, &c);
    assert_int_equal(c.images, 1);
    assert_true(fabs(c.ece - .75) < 1e-6);
    calibration_of(p, l, 0, 2, &c);
    assert_true(isnan(c.ece));
    const float not_a_number[] = {NAN, NAN};
    calibration_of(not_a_number, l, 1, 2, &c);
    assert_int_equal(c.bins[0].images, 1);
}

static void test_ece_of_the_calibrated_is_near_0(void **state) {
    struct calibration c;
    srand(1);
    plant(1, N);
    calibration_of(prob, label, N, CLASSES, &c);
    printf("calibrated: ece %.4f\n", c.ece);
    assert_true(c.ece < 0.012);
}

/* It says 0.9 always, and is right with 0.7 of them: ece is 0.2. */
static void test_ece_of_the_too_sure_is_what_was_planted(void **state) {
    struct calibration c;
    for (size_t i = 0; i < N; i++) {
        for (int k = 0; k < CLASSES; k++)
            prob[i * CLASSES + (size_t)k] = k == 3 ? 0.9f : 0.1f / (CLASSES - 1);
        label[i] = i % 10 < 7 ? 3 : 2;
    }
    calibration_of(prob, label, N, CLASSES, &c);
    assert_true(fabs(c.ece - 0.2) < 1e-5);
}

static void test_temperature_recovers_what_was_planted(void **state) {
    static const double planted[] = {0.4, 0.7, 1, 1.6, 3, 5};
    static int before[N];
    for (size_t k = 0; k < sizeof planted / sizeof *planted; k++) {
        struct calibration was, now;
        struct score loss_was, loss_now;
        srand(2);
        plant(planted[k], N);
        double t = calibration_temperature(prob, label, N / 2, CLASSES);
        const float *rest = prob + (size_t)N / 2 * CLASSES; /* on images that it has not seen */
        calibration_of(rest, label + N / 2, N / 2, CLASSES, &was);
        score_of(rest, label + N / 2, N / 2, CLASSES, &loss_was, NULL);
        for (size_t i = 0; i < N; i++) before[i] = score_guess(prob + i * CLASSES, CLASSES);
        calibration_scale(prob, N, CLASSES, t);
        calibration_of(rest, label + N / 2, N / 2, CLASSES, &now);
        score_of(rest, label + N / 2, N / 2, CLASSES, &loss_now, NULL);
        printf("planted %.2f, found %.3f; ece %.4f, was %.4f; loss %.4f, was %.4f\n", planted[k], t,
               now.ece, was.ece, loss_now.log_loss, loss_was.log_loss);
        assert_true(fabs(t / planted[k] - 1) < 0.03);
        assert_true(now.ece < 0.02);
        if (planted[k] != 1)
            assert_true(now.ece < was.ece && loss_now.log_loss < loss_was.log_loss);
        for (size_t i = 0; i < N; i++)
            assert_int_equal(score_guess(prob + i * CLASSES, CLASSES), before[i]);
    }
}

static void test_few_images_hold_it_near_1(void **state) {
    struct score s;
    srand(3);
    assert_true(calibration_temperature(NULL, NULL, 0, CLASSES) == 1);
    double widest = 0;
    for (int round = 0; round < 200; round++) { /* ten images: what they say is chance */
        plant(1, 10);
        double t = calibration_temperature(prob, label, 10, CLASSES);
        if (fabs(log(t)) > widest) widest = fabs(log(t));
    }
    printf("ten images, nothing to mend: between %.2f and %.2f\n", exp(-widest), exp(widest));
    assert_true(widest < log(1.6));
    /* All are right: alone, the loss would ask for T = 0. */
    for (int i = 0; i < 10; i++) label[i] = score_guess(prob + i * CLASSES, CLASSES);
    double t = calibration_temperature(prob, label, 10, CLASSES);
    assert_true(t > 0.5 && t < 1);
    /* All are wrong, or of a label that it does not know, or no numbers. */
    for (int i = 0; i < N; i++) {
        prob[i * 2] = 1;
        prob[i * 2 + 1] = 0;
        label[i] = 1;
    }
    t = calibration_temperature(prob, label, N, 2);
    assert_true(t > 9.9 && t <= CALIBRATION_MOST);
    calibration_scale(prob, N, 2, t);
    score_of(prob, label, N, 2, &s, NULL);
    assert_true(isfinite(s.log_loss) && s.accuracy == 0);
    for (int i = 0; i < N; i++) label[i] = 2;
    assert_true(calibration_temperature(prob, label, N, 2) == 1);
    for (int i = 0; i < N; i++) label[i] = 0;
    t = calibration_temperature(prob, label, N, 2); /* right, each time: as sure as it may */
    assert_true(t >= CALIBRATION_LEAST && t < 1);
    const float not_a_number[] = {NAN, NAN};
    t = calibration_temperature(not_a_number, label, 1, 2);
    assert_true(t >= CALIBRATION_LEAST && t <= CALIBRATION_MOST);
}

/* A net with a temperature, against its own answers without one, scaled. */
static void test_a_net_divides_by_it(void **state) {
    enum { IMAGES = 9, SIDE = 6, SIZE = SIDE * SIDE, KINDS = 5 };
    struct err e = {0};
    struct net_spec spec;
    uint8_t x[IMAGES * SIZE];
    float plain[IMAGES * KINDS], with[IMAGES * KINDS];
    net_spec_mlp(&spec, SIDE, SIDE, 1);
    struct net *net = net_make(&spec, KINDS, 4, &e);
    assert_non_null(net);
    assert_true(net_temperature(net) == 1);
    for (size_t i = 0; i < net_param_count(net); i++) net_params(net)[i] *= 3;
    for (size_t i = 0; i < sizeof x; i++) x[i] = (uint8_t)(i * 41);
    struct net_run *run = net_run_make(net, IMAGES);
    net_forward(run, NULL, x, IMAGES, plain);
    net_set_temperature(net, 2.5f);
    net_forward(run, NULL, x, IMAGES, with);
    double moved = 0;
    for (int i = 0; i < IMAGES * KINDS; i++) moved = fmax(moved, fabs(plain[i] - with[i]));
    assert_true(moved > 0.05);
    calibration_scale(plain, IMAGES, KINDS, 2.5);
    for (int i = 0; i < IMAGES * KINDS; i++) assert_true(fabs(plain[i] - with[i]) < 1e-5);
    net_run_free(run);
    if (net_grow(net, KINDS + 1, 1, &e)) fail_msg("%s", e.text);
    assert_true(net_temperature(net) == 2.5f);
    net_free(net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ece_by_hand),
        cmocka_unit_test(test_ece_of_the_calibrated_is_near_0),
        cmocka_unit_test(test_ece_of_the_too_sure_is_what_was_planted),
        cmocka_unit_test(test_temperature_recovers_what_was_planted),
        cmocka_unit_test(test_few_images_hold_it_near_1),
        cmocka_unit_test(test_a_net_divides_by_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
