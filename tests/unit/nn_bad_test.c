/*
 * nn: damaged model files, with no hash to help. Every byte of the header becomes every other byte, a
 * thousand places of the body become what is no number; the file is cut at every byte and has bytes too
 * many. What is refused is refused with its reason; what is taken all the same, because a letter of a note
 * or the last bit of a weight is as good as another, is whole: finite weights in the shapes of the layers,
 * labels that differ, an answer, and it can be saved and loaded.
 */
#define _GNU_SOURCE
#include "lib/base/bytes.h"
#include "lib/nn/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct buf file;
static size_t header; /* bytes before the body */

static int make_file(void **state) {
    struct err e = {0};
    struct net_spec spec;
    net_spec_cnn(&spec, 4, 4, 1);
    for (int i = 0; i < spec.layer_count; i++)
        if (spec.layers[i].units) spec.layers[i].units = 3;
    struct model m = {.net = net_make(&spec, 3, 5, &e)};
    if (!m.net) return -1;
    model_add_label(&m, "1");
    model_add_label(&m, "2");
    model_add_label(&m, "\xc3\xa9");
    model_set_note(&m, "alpha", "black");
    if (model_save(&m, NULL, &file, &e)) return -1;
    model_free(&m);
    const unsigned char *p = (const unsigned char *)file.data;
    header = 8 + p[0] + 256u * p[1];
    return 0;
}

static int free_file(void **state) {
    buf_free(&file);
    return 0;
}

static void check_whole(const struct model *m) {
    int count;
    size_t sum = 0;
    const struct net_tensor *t = net_tensors(m->net, &count);
    for (int i = 0; i < count; i++) sum += t[i].count;
    assert_int_equal(sum, net_param_count(m->net));
    for (size_t i = 0; i < sum; i++) assert_true(isfinite(net_params(m->net)[i]));
    assert_int_equal(m->label_count, net_classes(m->net));
    for (int i = 0; i < m->label_count; i++) {
        assert_true(m->labels[i][0] && bytes_is_clean_text(bytes_of(m->labels[i])));
        for (int k = 0; k < i; k++) assert_string_not_equal(m->labels[i], m->labels[k]);
    }
}

static void check_use(const struct model *m) {
    struct err e = {0};
    struct model back;
    struct buf again = {0};
    uint8_t *x = mem_zeroed(net_image_size(m->net), 1);
    float *prob = mem_zeroed((size_t)m->label_count, sizeof *prob);
    struct net_run *run = net_run_make(m->net, 1);
    net_forward(run, NULL, x, 1, prob);
    net_run_free(run);
    free(x);
    free(prob);
    assert_int_equal(model_save(m, NULL, &again, &e), ERR_NONE);
    assert_int_equal(model_load(buf_bytes(&again), &back, &e), ERR_NONE);
    model_free(&back);
    buf_free(&again);
}

/* At an address of its own and of exactly its size, so that a sanitizer sees a byte too far. */
static bool taken(const void *data, size_t len, bool use) {
    struct err e = {0};
    struct model m;
    void *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    bool good = !model_load((struct bytes){copy, len}, &m, &e);
    free(copy);
    if (good) {
        check_whole(&m);
        if (use) check_use(&m);
    } else {
        assert_int_equal(e.kind, ERR_BAD);
        assert_int_equal(e.reason, REASON_BAD_MODEL_FILE);
        assert_true(bytes_is_clean_text(bytes_of(e.text)));
        assert_true(!m.net && !m.labels && !m.notes);
    }
    model_free(&m);
    return good;
}

static void every_byte_of_the_header(void **state) {
    int good = 0, tried = 0;
    for (size_t at = 0; at < header; at++) {
        char was = file.data[at];
        for (int with = 0; with < 256; with++) {
            if ((char)with == was) continue;
            file.data[at] = (char)with;
            good += taken(file.data, file.len, with % 16 == 0);
            tried++;
        }
        file.data[at] = was;
    }
    print_message("%d damaged headers, %d as good as before\n", tried, good);
    assert_true(taken(file.data, file.len, true));
}

static void a_thousand_places_of_the_body(void **state) {
    static const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff};
    size_t weights = (file.len - header) / 4, refused = 0;
    srand(5);
    for (int i = 0; i < 1000; i++) {
        char was[4], *at = file.data + header + 4 * ((size_t)rand() % weights);
        memcpy(was, at, 4);
        memcpy(at, &bits[i % 5], 4);
        refused += !taken(file.data, file.len, false);
        memcpy(at, was, 4);
    }
    assert_int_equal(refused, 1000); /* no number: every one is seen */
    for (int i = 0; i < 1000; i++) { /* any other byte */
        char *at = file.data + header + (size_t)rand() % (file.len - header), was = *at;
        *at = (char)rand();
        taken(file.data, file.len, true);
        *at = was;
    }
}

static void cut_and_too_long(void **state) {
    for (size_t len = 0; len < file.len; len++) assert_false(taken(file.data, len, false));
    struct buf longer = {0};
    buf_add(&longer, file.data, file.len);
    for (int i = 0; i < 9; i++) {
        buf_add(&longer, "", 1);
        assert_false(taken(longer.data, longer.len, false));
    }
    buf_free(&longer);
}

/* Tensors of each other's names, in another order, missing: their shapes tell. */
static void exchanged_parts(void **state) {
    static const char *const words[] = {"conv1.weight",    "conv1.bias",    "dense1.weight",
                                        "classes.weight",  "classes.bias",  "darkroom.net",
                                        "darkroom.labels", "darkroom.norm", "darkroom.format"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char *at = memmem(file.data, header, words[i], strlen(words[i]));
        assert_non_null(at);
        at[1] = (char)(at[1] + 1); /* nobody's name */
        assert_false(taken(file.data, file.len, false));
        at[1] = (char)(at[1] - 1);
    }
    assert_true(taken(file.data, file.len, true));
}

static void labels_that_are_none(void **state) {
    static const char *const with[] = {"\\\"1\\\",\\\"1\\\",\\\"\xc3\xa9\\\"",
                                       "\\\"1\\\",\\\"\\\",\\\"\xc3\xa9\xc3\xa9\\\"",
                                       "\\\"1\\\",\\\"2\\\",\\\"\\u0001\\\""};
    const char *const was = "\\\"1\\\",\\\"2\\\",\\\"\xc3\xa9\\\"";
    char *at = memmem(file.data, header, was, strlen(was));
    assert_non_null(at);
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        struct buf b = {0};
        size_t before = (size_t)(at - file.data);
        buf_add(&b, file.data, before);
        buf_add_text(&b, with[i]);
        buf_add(&b, at + strlen(was), file.len - before - strlen(was));
        uint64_t length = header - 8 + strlen(with[i]) - strlen(was);
        for (int k = 0; k < 8; k++) b.data[k] = (char)(length >> 8 * k);
        assert_false(taken(b.data, b.len, false));
        buf_free(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_of_the_header), cmocka_unit_test(a_thousand_places_of_the_body),
        cmocka_unit_test(cut_and_too_long),         cmocka_unit_test(exchanged_parts),
        cmocka_unit_test(labels_that_are_none),
    };
    return cmocka_run_group_tests_name("nn_bad", tests, make_file, free_file);
}
