/* Images found in folders, single files and IDX files: names, labels, order, bytes. */
#define _GNU_SOURCE
#include "lib/client/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/darkroom_source_XXXXXX";
static const char png[] = "\x89PNG\r\n\x1a\n and so on";

static void put(const char *name, const void *data, size_t n) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *p = path + strlen(folder) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = 0;
        mkdir(path, 0700);
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static int make(void **state) {
    if (!mkdtemp(folder)) return 1;
    put("tree/7/a.png", png, sizeof png);
    put("tree/7/b.png", png, sizeof png);
    put("tree/deep/8/c.png", png, sizeof png);
    put("tree/loose.png", png, sizeof png);
    put("tree/notes.txt", "hello", 5);
    put("tree/.hidden.png", png, sizeof png);
    put("tree/.git/x.png", png, sizeof png);
    unsigned char images[16 + 3 * 4] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2};
    unsigned char labels[8 + 3] = {0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4};
    put("idx/train-images-idx3-ubyte", images, sizeof images);
    put("idx/train-labels-idx1-ubyte", labels, sizeof labels);
    put("bare/images.idx3-ubyte", images, sizeof images);
    put("short/train-images-idx3-ubyte", images, sizeof images);
    put("short/train-labels-idx1-ubyte", labels, sizeof labels - 1);
    return 0;
}

static int clear(void **state) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static enum err_kind add(struct source *s, const char *name, struct err *e) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    err_clear(e);
    return source_add(s, path, e);
}

static const struct source_image *named(const struct source *s, const char *name) {
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(source_name(s, &s->images[i]), name) == 0) return &s->images[i];
    return NULL;
}

static void a_label_is_the_folder_below_the_operand(void **state) {
    assert_true(bytes_is(source_label_of("7/0001.png"), "7"));
    assert_true(bytes_is(source_label_of("train/cat/1.png"), "cat"));
    assert_true(bytes_is(source_label_of("ä ö/1.png"), "ä ö"));
    assert_null(source_label_of("0001.png").data);
}

static void a_tree_is_walked_without_what_is_hidden(void **state) {
    struct source s = {0};
    struct err e;
    assert_int_equal(add(&s, "tree/", &e), ERR_NONE);
    assert_int_equal(s.count, 5);
    assert_true(bytes_is(source_label(&s, named(&s, "7/a.png")), "7"));
    assert_true(bytes_is(source_label(&s, named(&s, "deep/8/c.png")), "8"));
    assert_null(source_label(&s, named(&s, "loose.png")).data);
    source_free(&s);
}

static void a_single_file_has_no_label(void **state) {
    struct source s = {0};
    struct err e;
    assert_int_equal(add(&s, "tree/7/a.png", &e), ERR_NONE);
    assert_non_null(named(&s, "a.png"));
    assert_null(source_label(&s, &s.images[0]).data);
    source_free(&s);
}

static void the_order_is_shuffled_and_the_same_each_time(void **state) {
    struct source s = {0};
    char path[64];
    for (int i = 0; i < 2000; i++) {
        snprintf(path, sizeof path, "top/%d/%05d.png", i / 200, i);
        source_add_file(&s, "top/", path);
    }
    source_sort(&s, true);
    int changes = 0; /* of the label, from one to the next: 9 of 10 in a good shuffle */
    for (size_t i = 1; i < s.count; i++) changes += s.images[i].path[4] != s.images[i - 1].path[4];
    assert_in_range(changes, 1700, 1900);
    char *first = strdup(s.images[0].path);
    source_sort(&s, false);
    assert_string_equal(s.images[1].path, "top/0/00001.png");
    source_sort(&s, true);
    assert_string_equal(s.images[0].path, first);
    free(first);
    source_free(&s);
}

static void idx_images_become_png_with_labels(void **state) {
    struct source s = {0};
    struct buf b = {0};
    struct err e;
    assert_int_equal(add(&s, "idx", &e), ERR_NONE);
    assert_int_equal(s.count, 3);
    const struct source_image *im = named(&s, "train-images-idx3-ubyte#2");
    assert_non_null(im);
    assert_true(bytes_is(source_label(&s, im), "4"));
    assert_int_equal(source_read(&s, im, 1000, false, &b, &e), ERR_NONE);
    assert_memory_equal(b.data, png, 8);
    assert_int_equal(add(&s, "bare/images.idx3-ubyte", &e), ERR_NONE);
    assert_null(source_label(&s, named(&s, "images.idx3-ubyte#0")).data);
    assert_int_equal(add(&s, "short", &e), ERR_FATAL);
    assert_non_null(strstr(e.text, "header says 3"));
    assert_int_equal(add(&s, "idx/train-labels-idx1-ubyte", &e), ERR_FATAL);
    assert_int_equal(add(&s, "nothing", &e), ERR_FATAL);
    buf_free(&b);
    source_free(&s);
}

static void what_is_no_png_or_too_large_is_told(void **state) {
    struct source s = {0};
    struct buf b = {0};
    struct err e;
    static char large[200000];
    memcpy(large, png, 8);
    put("large/1.png", large, sizeof large);
    assert_int_equal(add(&s, "tree", &e), ERR_NONE);
    assert_int_equal(add(&s, "large", &e), ERR_NONE);
    assert_int_equal(source_read(&s, named(&s, "7/a.png"), 1000, false, &b, &e), ERR_NONE);
    assert_int_equal(b.len, sizeof png);
    assert_int_equal(source_read(&s, named(&s, "notes.txt"), 1000, false, &b, &e), ERR_BAD);
    assert_int_equal(e.reason, REASON_NOT_PNG);
    assert_int_equal(source_read(&s, named(&s, "notes.txt"), 1000, true, &b, &e), ERR_NONE);
    assert_int_equal(b.len, 5);
    assert_int_equal(source_read(&s, named(&s, "1.png"), 199999, false, &b, &e), ERR_BAD);
    assert_int_equal(e.reason, REASON_TOO_LARGE);
    assert_int_equal(source_read(&s, named(&s, "1.png"), 200000, false, &b, &e), ERR_NONE);
    assert_int_equal(b.len, sizeof large);
    assert_memory_equal(b.data, large, sizeof large);
    buf_free(&b);
    source_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_label_is_the_folder_below_the_operand), cmocka_unit_test(a_tree_is_walked_without_what_is_hidden),
        cmocka_unit_test(a_single_file_has_no_label), cmocka_unit_test(the_order_is_shuffled_and_the_same_each_time),
        cmocka_unit_test(idx_images_become_png_with_labels), cmocka_unit_test(what_is_no_png_or_too_large_is_told)};
    return cmocka_run_group_tests(tests, make, clear);
}
