/* Generated digits: the same each time, all different, within the page. */
#include "lib/client/digits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static void the_same_seed_draws_the_same(void **state) {
    uint8_t a[DIGITS_PIXELS], b[DIGITS_PIXELS];
    for (int d = 0; d < 10; d++)
        for (uint64_t i = 0; i < 50; i++) {
            digits_draw(d, 7, i, a);
            digits_draw(d, 7, i, b);
            assert_memory_equal(a, b, DIGITS_PIXELS);
            digits_draw(d, 8, i, b);
            assert_memory_not_equal(a, b, DIGITS_PIXELS);
            digits_draw(d, 7, i + 1, b);
            assert_memory_not_equal(a, b, DIGITS_PIXELS);
        }
}

/* Enough ink to be a stroke, not so much as to be a blot, and most of it away from the edges. */
static void every_picture_has_a_digit_on_it(void **state) {
    for (uint64_t i = 0; i < 5000; i++) {
        uint8_t p[DIGITS_PIXELS];
        int ink = 0, edge = 0;
        digits_draw((int)(i % 10), 1, i, p);
        for (int k = 0; k < DIGITS_PIXELS; k++) {
            int x = k % DIGITS_SIZE, y = k / DIGITS_SIZE;
            ink += p[k] > 127;
            edge += p[k] > 127 && (x == 0 || y == 0 || x == DIGITS_SIZE - 1 || y == DIGITS_SIZE - 1);
        }
        assert_in_range(ink, 12, 300);
        assert_in_range(edge, 0, ink / 4);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_seed_draws_the_same),
                                       cmocka_unit_test(every_picture_has_a_digit_on_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
