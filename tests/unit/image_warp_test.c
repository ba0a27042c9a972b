/* warp: whatever vectors a processor has, the picture is the same. */
#include "lib/image/warp.h"

#include "lib/base/bytes.h"
#include "lib/base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed;

static float either(double most) {
    return (float)(most * random_either(&seed));
}

/* Also far outside, and far too large. */
static struct warp any_warp(int height, int width) {
    double far = random_uniform(&seed) < 0.2 ? 5 : 0.1;
    struct warp w = {.xx = 1 + either(far),
                     .xy = either(far),
                     .x0 = either(far * width),
                     .yx = either(far),
                     .yy = 1 + either(far),
                     .y0 = either(far * height),
                     .bent = random_uniform(&seed) < 0.7};
    for (int i = 0; i < WARP_NODES; i++)
        for (int k = 0; k < WARP_NODES; k++) {
            w.dx[i][k] = either(far * width);
            w.dy[i][k] = either(far * height);
        }
    return w;
}

static void vectors_change_no_bit(void **state) {
    (void)state;
    static const int sizes[][3] = {{28, 28, 1}, {48, 64, 3}, {1, 1, 1},  {1, 1, 3},  {17, 5, 2},
                                   {2, 33, 1},  {31, 16, 3}, {9, 15, 1}, {12, 20, 4}};
    int compared = 0;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int height = sizes[s][0], width = sizes[s][1], channels = sizes[s][2];
        size_t size = (size_t)height * (size_t)width * (size_t)channels;
        uint8_t *in = mem_alloc(size), *plain = mem_alloc(size), *out = mem_alloc(size);
        struct warper *reference = warper_make(height, width, channels, CPU_PLAIN);
        assert_int_equal(warper_vectors(reference), CPU_PLAIN);
        for (enum cpu_vectors v = CPU_AVX2; v <= CPU_AVX512; v++) {
            struct warper *w = warper_make(height, width, channels, v);
            seed = 7 + s;
            for (int i = 0; i < 300 && warper_vectors(w) == v; i++) {
                struct warp how = any_warp(height, width);
                for (size_t k = 0; k < size; k++) in[k] = (uint8_t)random_next(&seed);
                warper_run(reference, &how, in, plain);
                warper_run(w, &how, in, out);
                assert_memory_equal(plain, out, size);
                compared++;
            }
            warper_free(w);
        }
        warper_free(reference);
        free(in);
        free(plain);
        free(out);
    }
    printf("%d pictures compared\n", compared);
    if (!compared) skip(); /* no vectors here, or not with this sanitizer */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(vectors_change_no_bit)};
    return cmocka_run_group_tests_name("warp", tests, NULL, NULL);
}
