/*
 * Model files: what is written is read, and what is damaged is refused without a crash, with no
 * hash to help.
 */
#include "lib/base/bytes.h"
#include "lib/nn/model.h"
#include "lib/nn/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

static void make_model(struct model *m) {
    struct err e = {0};
    struct net_spec spec;
    net_spec_cnn(&spec, 8, 7, 3);
    spec.layers[0].units = 4;
    spec.layers[3].units = 5;
    spec.layers[6].units = 6;
    *m = (struct model){.net = net_make(&spec, 3, 5, &e)};
    if (!m->net) fail_msg("%s", e.text);
    model_add_label(m, "cat");
    model_add_label(m, "\"d\\og\"");
    model_add_label(m, "\xc3\xa4pfel");
    model_set_note(m, "version", "0");
    model_set_note(m, "parent \"x\"", "line\none");
    model_set_note(m, "version", "7");
    net_set_temperature(m->net, 1.37f);
    *net_norm(m->net) = (struct net_norm){{.1f, .2f, .3f}, {1, 2.5f, 3.25f, 1}};
}

static void save(const struct model *m, struct buf *out) {
    struct err e = {0};
    if (model_save(m, NULL, out, &e)) fail_msg("%s", e.text);
}

static void test_safetensors_round_trip(void **state) {
    struct err e = {0};
    struct buf file = {0};
    const float a[6] = {1, 2, 3, 4, 5, 6}, b[1] = {-1};
    const struct safetensors_text text[] = {{"k", "v"}, {"", "\"\n"}};
    const struct safetensors_tensor tensor[] = {
        {.name = "a", .rank = 2, .shape = {2, 3}, .data = a},
        {.name = "b", .rank = 0, .data = b},
        {.name = "none", .rank = 1, .shape = {0}, .data = b}};
    if (safetensors_write(text, 2, tensor, 3, &file, &e)) fail_msg("%s", e.text);
    assert_int_equal((file.len - sizeof a - sizeof b) % 8, 0);
    struct safetensors *s = safetensors_read(buf_bytes(&file), &e);
    if (!s) fail_msg("%s", e.text);
    assert_int_equal(safetensors_count(s), 3);
    assert_int_equal(safetensors_text_count(s), 2);
    assert_string_equal(safetensors_text(s, "k"), "v");
    assert_string_equal(safetensors_text(s, ""), "\"\n");
    assert_null(safetensors_text(s, "K"));
    assert_null(safetensors_find(s, "c"));
    const struct safetensors_tensor *t = safetensors_find(s, "a");
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[1], 3);
    assert_memory_equal(t->data, a, sizeof a);
    assert_memory_equal(safetensors_at(s, 1)->data, b, sizeof b);
    safetensors_free(s);
    buf_free(&file);
}

/* A file with this header and this much data. */
static struct safetensors *read_header(const char *json, size_t data, struct err *e) {
    static struct buf file;
    unsigned char length[8] = {(unsigned char)strlen(json), (unsigned char)(strlen(json) >> 8)};
    buf_clear(&file);
    buf_add(&file, length, 8);
    buf_add_text(&file, json);
    while (data--) buf_add(&file, "", 1);
    struct safetensors *s = safetensors_read(buf_bytes(&file), e);
    if (s) assert_int_equal(e->kind, 0);
    buf_free(&file);
    return s;
}

static void test_wrong_headers(void **state) {
    static const struct {
        const char *json;
        size_t data;
    } wrong[] = {
        {"", 0},
        {"[]", 0},
        {"{}", 1},
        {"{\"a\":1}", 0},
        {"{\"__metadata__\":{\"a\":1}}", 0},
        {"{\"__metadata__\":[]}", 0},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0.5],\"data_offsets\":[0,2]}}", 2},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = {0};
        struct safetensors *s = read_header(wrong[i].json, wrong[i].data, &e);
        if (s) fail_msg("this was taken: %s", wrong[i].json);
        assert_int_equal(e.kind, ERR_BAD);
        assert_int_equal(e.reason, REASON_BAD_MODEL_FILE);
    }
    struct err e = {0};
    struct safetensors *s = read_header("{} ", 0, &e);
    assert_non_null(s);
    safetensors_free(s);
}

static void test_model_round_trip(void **state) {
    struct err e = {0};
    struct model m, back;
    struct buf file = {0}, again = {0};
    make_model(&m);
    save(&m, &file);
    save(&m, &again);
    assert_true(bytes_equal(buf_bytes(&file), buf_bytes(&again)));
    if (model_load(buf_bytes(&file), &back, &e)) fail_msg("%s", e.text);
    assert_int_equal(back.label_count, 3);
    assert_string_equal(back.labels[1], "\"d\\og\"");
    assert_string_equal(back.labels[2], "\xc3\xa4pfel");
    assert_string_equal(model_note(&back, "version"), "7");
    assert_string_equal(model_note(&back, "parent \"x\""), "line\none");
    assert_int_equal(back.note_count, 2);
    assert_true(net_temperature(back.net) == 1.37f);

    uint8_t x[5 * 8 * 7 * 3];
    float p[15], q[15];
    for (size_t i = 0; i < sizeof x; i++) x[i] = (uint8_t)(i * 37);
    struct net_run *run = net_run_make(m.net, 5), *run_back = net_run_make(back.net, 5);
    net_forward(run, NULL, x, 5, p);
    net_forward(run_back, NULL, x, 5, q);
    assert_memory_equal(p, q, sizeof p);
    net_run_free(run);
    net_run_free(run_back);

    buf_clear(&again);
    save(&back, &again);
    assert_true(bytes_equal(buf_bytes(&file), buf_bytes(&again)));
    buf_free(&file);
    buf_free(&again);
    model_free(&m);
    model_free(&back);
}

/* Loads a copy of exactly its size, so that the sanitizer sees a byte too far. */
static enum err_kind try_load(const void *data, size_t len) {
    struct err e = {0};
    struct model m;
    void *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    enum err_kind kind = model_load((struct bytes){copy, len}, &m, &e);
    if (kind) {
        assert_int_equal(kind, ERR_BAD);
        assert_int_equal(e.reason, REASON_BAD_MODEL_FILE);
        assert_null(m.net);
    }
    model_free(&m);
    free(copy);
    return kind;
}

static void test_damage(void **state) {
    struct model m;
    struct buf file = {0};
    make_model(&m);
    save(&m, &file);
    unsigned char *p = (unsigned char *)file.data;
    size_t header = 8 + p[0] + 256u * p[1];
    int refused = 0;
    for (size_t i = 0; i < header; i++) {
        unsigned char was = p[i];
        static const unsigned char with[] = {0, 0xff, '0', '9', '"', '{', ' ', ','};
        for (size_t k = 0; k < sizeof with; k++) {
            p[i] = with[k];
            refused += try_load(p, file.len) != ERR_NONE;
        }
        p[i] = was ^ 1;
        refused += try_load(p, file.len) != ERR_NONE;
        p[i] = was;
    }
    printf("%d of %zu damaged headers refused\n", refused, header * 9);
    for (size_t len = 0; len < file.len; len += len < header ? 1 : 61)
        assert_int_equal(try_load(p, len), ERR_BAD);
    srand(3);
    for (int i = 0; i < 1000; i++) {
        unsigned char *copy = (unsigned char *)mem_copy(p, file.len);
        for (int k = 1 + rand() % 8; k > 0; k--)
            copy[header + rand() % (file.len - header)] = (unsigned char)rand();
        try_load(copy, file.len);
        free(copy);
    }
    float bad = NAN;
    memcpy(p + header + 40, &bad, sizeof bad);
    assert_int_equal(try_load(p, file.len), ERR_BAD);
    buf_add(&file, "\0\0\0\0", 4);
    assert_int_equal(try_load(file.data, file.len), ERR_BAD);
    buf_free(&file);
    model_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_round_trip),
        cmocka_unit_test(test_wrong_headers),
        cmocka_unit_test(test_model_round_trip),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
