/* The header of an IDX file: what fits is read, what does not fit to the byte is refused. */
#include "lib/client/idx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static const unsigned char images[16] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 30};
static const unsigned char labels[8] = {0, 0, 8, 1, 0, 1, 0, 0};
static int64_t sizes[3];
static struct err e;

static enum err_kind header(const unsigned char *head, size_t n, int64_t size, int dims) {
    err_clear(&e);
    return idx_header((struct bytes){head, n}, size, dims, sizes, &e);
}

static void images_and_labels_are_read(void **state) {
    assert_int_equal(header(images, 16, 16 + 2 * 28 * 30, 3), ERR_NONE);
    assert_int_equal(sizes[0], 2);
    assert_int_equal(sizes[1], 28);
    assert_int_equal(sizes[2], 30);
    assert_int_equal(header(labels, 8, 8 + 65536, 1), ERR_NONE);
    assert_int_equal(sizes[0], 65536);
}

static void every_length_but_the_right_one_is_refused(void **state) {
    for (size_t n = 0; n < 16; n++) assert_int_equal(header(images, n, 16 + 2 * 28 * 30, 3), ERR_BAD);
    for (int64_t size = 0; size < 2000; size++)
        assert_int_equal(header(images, 16, size, 3), size == 16 + 2 * 28 * 30 ? ERR_NONE : ERR_BAD);
}

static void foreign_files_are_refused(void **state) {
    unsigned char head[16];
    const struct { int at; unsigned char value; const char *word; } wrong[] = {
        {0, 1, "IDX"}, {1, 1, "IDX"}, {2, 0x0d, "type 0x0d"}, {3, 1, "1 dimensions"}, {11, 0, "dimension 2"}, {12, 0xff, "dimension 3"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(head, images, 16);
        head[wrong[i].at] = wrong[i].value;
        assert_int_equal(header(head, 16, 16 + 2 * 28 * 30, 3), ERR_BAD);
        assert_non_null(strstr(e.text, wrong[i].word));
    }
    assert_int_equal(header((const unsigned char *)"\x1f\x8b\x08\0", 4, 9000, 3), ERR_BAD);
    assert_non_null(strstr(e.text, "gunzip"));
}

static void dimensions_that_overflow_are_refused(void **state) {
    const unsigned char head[16] = {0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff};
    assert_int_equal(header(head, 16, 16, 3), ERR_BAD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_and_labels_are_read), cmocka_unit_test(every_length_but_the_right_one_is_refused),
        cmocka_unit_test(foreign_files_are_refused), cmocka_unit_test(dimensions_that_overflow_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
