/* resize: exact averages, bilinear values by hand, and a slow reference in floating point. */
#include "lib/image/resize.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void fit(int w, int h, int channels, const uint8_t *pixels, int to_w, int to_h,
                uint8_t *out) {
    struct image from = {w, h, channels, mem_alloc((size_t)(w * h * channels))};
    memcpy(from.pixels, pixels, (size_t)(w * h * channels));
    image_fit(&from, to_w, to_h, out);
    image_free(&from);
}

static void the_same_size_is_a_copy(void **state) {
    uint8_t in[12] = {0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255}, out[12];
    fit(2, 2, 3, in, 2, 2, out);
    assert_memory_equal(in, out, 12);
}

static void smaller_is_the_average(void **state) {
    uint8_t in[16] = {0, 4, 10, 10, 8, 12, 10, 11, 255, 255, 0, 1, 255, 255, 1, 0}, out[4];
    fit(4, 4, 1, in, 2, 2, out);
    assert_memory_equal(out, ((uint8_t[]){6, 10, 255, 1}), 4); /* 24/4, 41/4, 255, 2/4 rounded up */
    fit(4, 4, 1, in, 1, 1, out);
    assert_int_equal(out[0], (1087 + 8) / 16);
    uint8_t three[3] = {30, 60, 90}; /* 3 to 2: a whole pixel and half of the middle one */
    fit(3, 1, 1, three, 2, 1, out);
    assert_memory_equal(out, ((uint8_t[]){40, 80}), 2);
    uint8_t rgb[6] = {0, 100, 200, 10, 200, 100};
    fit(2, 1, 3, rgb, 1, 1, out);
    assert_memory_equal(out, ((uint8_t[]){5, 150, 150}), 3);
}

static void larger_is_bilinear(void **state) {
    uint8_t in[2] = {0, 100}, out[16];
    fit(2, 1, 1, in, 4, 1, out); /* centres at -0.25, 0.25, 0.75, 1.25 */
    assert_memory_equal(out, ((uint8_t[]){0, 25, 75, 100}), 4);
    fit(1, 2, 1, in, 1, 4, out);
    assert_memory_equal(out, ((uint8_t[]){0, 25, 75, 100}), 4);
    uint8_t one = 77;
    fit(1, 1, 1, &one, 4, 4, out);
    for (int i = 0; i < 16; i++) assert_int_equal(out[i], 77);
    fit(1, 1, 1, &one, 1, 1, out);
    assert_int_equal(out[0], 77);
}

static void each_axis_by_itself(void **state) {
    uint8_t in[8] = {0, 10, 20, 30, 100, 110, 120, 130}, out[8];
    fit(4, 2, 1, in, 2, 4, out); /* width halved, height doubled */
    assert_memory_equal(out, ((uint8_t[]){5, 25, 30, 50, 80, 100, 105, 125}), 8);
}

/* How much of source pixel j is in output i, by the definition. */
static double weight(int n, int m, int i, int j) {
    if (m < n) {
        double low = fmax((double)i * n / m, j), high = fmin((double)(i + 1) * n / m, j + 1);
        return high > low ? (high - low) * m / n : 0;
    }
    double at = fmin(fmax((i + 0.5) * n / m - 0.5, 0), n - 1);
    return fmax(0, 1 - fabs(at - j));
}

static void any_size_as_the_definition_says(void **state) {
    static const int sizes[] = {1, 2, 3, 5, 7, 12, 28, 33};
    enum { N = sizeof sizes / sizeof *sizes };
    uint8_t in[33 * 33], out[33 * 33];
    for (int i = 0; i < 33 * 33; i++) in[i] = (uint8_t)(i * i * 31 + i * 7);
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            for (int c = 0; c < N; c++) {
                int w = sizes[a], h = sizes[(a + 3) % N], tw = sizes[b], th = sizes[c];
                fit(w, h, 1, in, tw, th, out);
                for (int y = 0; y < th; y++)
                    for (int x = 0; x < tw; x++) {
                        double v = 0;
                        for (int j = 0; j < h; j++)
                            for (int i = 0; i < w; i++)
                                v += weight(w, tw, x, i) * weight(h, th, y, j) * in[j * w + i];
                        if (fabs(v - out[y * tw + x]) > 0.5 + 1e-6)
                            fail_msg("%dx%d to %dx%d at %d,%d: %f, got %d", w, h, tw, th, x, y, v,
                                     out[y * tw + x]);
                    }
            }
}

/* The largest that the limits allow, along one axis: sums stay within 64 bits, white stays white.
 */
static void long_and_thin(void **state) {
    int n = 16 << 20;
    struct image from = {n, 1, 1, mem_alloc((size_t)n)};
    memset(from.pixels, 255, (size_t)n);
    uint8_t out[28 * 28];
    image_fit(&from, 28, 28, out);
    for (int i = 0; i < 28 * 28; i++) assert_int_equal(out[i], 255);
    from.width = 1, from.height = n;
    image_fit(&from, 28, 28, out);
    for (int i = 0; i < 28 * 28; i++) assert_int_equal(out[i], 255);
    image_free(&from);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_size_is_a_copy),
        cmocka_unit_test(smaller_is_the_average),
        cmocka_unit_test(larger_is_bilinear),
        cmocka_unit_test(each_axis_by_itself),
        cmocka_unit_test(any_size_as_the_definition_says),
        cmocka_unit_test(long_and_thin),
    };
    return cmocka_run_group_tests_name("image_resize", tests, NULL, NULL);
}
