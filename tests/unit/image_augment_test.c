/* augment: nothing changes nothing, a seed is a picture, and each change does what it says. */
#include "lib/image/augment.h"

#include "lib/base/bytes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { H = 20, W = 30, MOST = H * W * 3 };

static uint8_t in[MOST], out[MOST], again[MOST];

/* A smooth picture: between its pixels is what one expects. */
static void draw(int channels) {
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < channels; c++)
                in[(y * W + x) * channels + c] = (uint8_t)(40 + 4 * x + 3 * y + 10 * c);
}

static void run(struct augment how, int channels, uint64_t seed, uint8_t *to) {
    struct augmenter *a = augmenter_make(&how, H, W, channels);
    augmenter_run(a, seed, in, to);
    augmenter_free(a);
}

static size_t differ(const uint8_t *a, const uint8_t *b, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += a[i] != b[i];
    return count;
}

static void nothing_changes_nothing(void **state) {
    (void)state;
    for (int channels = 1; channels <= 3; channels += 2) {
        draw(channels);
        for (uint64_t seed = 0; seed < 20; seed++) {
            run((struct augment){0}, channels, seed, out);
            assert_memory_equal(in, out, (size_t)(H * W * channels));
        }
    }
}

static void a_seed_is_a_picture(void **state) {
    (void)state;
    const struct augment all = {.rotate = 10,
                                .scale = 0.1,
                                .shear = 0.1,
                                .shift = 0.1,
                                .elastic = 0.05,
                                .flip = 0.5,
                                .crop = 0.2,
                                .color = 0.2};
    draw(3);
    for (uint64_t seed = 1; seed < 50; seed++) {
        run(all, 3, seed, out);
        run(all, 3, seed, again);
        assert_memory_equal(out, again, MOST);
        run(all, 3, seed + 1000, again);
        assert_true(differ(out, again, MOST) > MOST / 4);
    }
}

static void a_mirror_image_is_exact(void **state) {
    (void)state;
    draw(3);
    run((struct augment){.flip = 1}, 3, 7, out);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            assert_memory_equal(out + (y * W + x) * 3, in + (y * W + W - 1 - x) * 3, 3);
    int mirrored = 0;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        run((struct augment){.flip = 0.3}, 3, seed, out);
        mirrored += out[0] != in[0];
    }
    assert_in_range(mirrored, 250, 350);
}

/* The picture is a plane, so how far it went can be read from any pixel inside. */
static void moves_no_further_than_it_may(void **state) {
    (void)state;
    double furthest = 0;
    draw(1);
    for (uint64_t seed = 0; seed < 500; seed++) {
        run((struct augment){.shift = 0.1}, 1, seed, out);
        int middle = (H / 2) * W + W / 2;
        int right = out[middle + 1] - out[middle], below = out[middle + W] - out[middle];
        assert_in_range(right, 3, 5); /* the slope stays */
        assert_in_range(below, 2, 4);
        double moved = fabs((double)out[middle] - in[middle]);
        assert_true(moved <= 4 * 0.1 * W + 3 * 0.1 * H + 1);
        furthest = moved > furthest ? moved : furthest;
    }
    assert_true(furthest > 0.7 * (4 * 0.1 * W + 3 * 0.1 * H));
}

/* A dot in the corner goes round the middle. */
static void turns_around_the_middle(void **state) {
    (void)state;
    enum { SIDE = 21 };
    static uint8_t square[SIDE * SIDE], turned[SIDE * SIDE];
    memset(square, 0, sizeof square);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) square[(9 + i) * SIDE + 17 + k] = 250; /* at three o'clock */
    struct augmenter *a = augmenter_make(&(struct augment){.rotate = 90}, SIDE, SIDE, 1);
    for (uint64_t seed = 0; seed < 100; seed++) {
        double x = 0, y = 0, sum = 0;
        augmenter_run(a, seed, square, turned);
        for (int i = 0; i < SIDE * SIDE; i++) {
            x += turned[i] * (i % SIDE - 10);
            y += turned[i] * (i / SIDE - 10);
            sum += turned[i];
        }
        assert_true(sum > 1000);
        double far = hypot(x / sum, y / sum);
        assert_true(far > 7.3 && far < 8.7);
        assert_true(x / sum > -1); /* no further than a right angle */
    }
    augmenter_free(a);
}

static void crops_only_zoom_in(void **state) {
    (void)state;
    draw(1);
    for (uint64_t seed = 0; seed < 200; seed++) {
        run((struct augment){.crop = 0.3}, 1, seed, out);
        int middle = (H / 2) * W + W / 2;
        assert_true(out[middle + 10] - out[middle] <= 41);
        assert_true(out[middle + 10] - out[middle] >= 27);
        for (int i = 0; i < H * W; i++) assert_in_range(out[i], in[0], in[H * W - 1]);
    }
}

static void colours_stay_in_range(void **state) {
    (void)state;
    draw(3);
    for (int i = 0; i < MOST; i += 7) in[i] = i % 2 ? 255 : 0;
    size_t changed = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        run((struct augment){.color = 0.3}, 3, seed, out);
        changed += differ(in, out, MOST);
        run((struct augment){.color = 0}, 3, seed, out);
        assert_memory_equal(in, out, MOST);
    }
    assert_true(changed > 50 * (size_t)MOST);
    memset(in, 128, MOST); /* middle grey: contrast and saturation leave it, brightness does not */
    run((struct augment){.color = 0.3}, 3, 3, out);
    for (int i = 1; i < MOST; i++) assert_int_equal(out[i], out[0]);
    assert_in_range(out[0], 128 - 39, 128 + 39);
}

static void a_single_pixel_survives(void **state) {
    (void)state;
    const uint8_t one[] = {77, 78, 79};
    uint8_t got[3] = {0};
    struct augmenter *a = augmenter_make(
        &(struct augment){.rotate = 180, .shift = 0.9, .elastic = 0.5, .crop = 0.9}, 1, 1, 3);
    for (uint64_t seed = 0; seed < 20; seed++) {
        augmenter_run(a, seed, one, got);
        assert_memory_equal(one, got, 3);
    }
    augmenter_free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_nothing), cmocka_unit_test(a_seed_is_a_picture),
        cmocka_unit_test(a_mirror_image_is_exact), cmocka_unit_test(moves_no_further_than_it_may),
        cmocka_unit_test(turns_around_the_middle), cmocka_unit_test(crops_only_zoom_in),
        cmocka_unit_test(colours_stay_in_range),   cmocka_unit_test(a_single_pixel_survives),
    };
    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
