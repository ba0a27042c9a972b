/*
 * Layers as JSON: what is written is read back, what a user leaves out has its default, and what is
 * wrong is refused in one line that names the layer and the field.
 */
#include "lib/base/bytes.h"
#include "lib/nn/net_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

static enum err_kind read_for(const char *json, int side, int channels, struct net_spec *out,
                              struct err *e) {
    *e = (struct err){0};
    struct json *v = json_parse(bytes_of(json), e);
    if (!v) fail_msg("%s: %s", json, e->text);
    (void)!net_spec_from_json(v, side, side, channels, out, e);
    json_free(v);
    return e->kind;
}

static void test_ready(void **state) {
    static const char *const names[] = {"mlp", "cnn", "wide-and-deep", "resnet-small"};
    static const int sizes[][3] = {{1, 1, 1},   {28, 28, 1},   {32, 32, 3},    {64, 48, 3},
                                   {2, 700, 3}, {224, 224, 3}, {1024, 1024, 4}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            struct err e = {0};
            struct net_spec spec, back;
            struct buf json = {0};
            const int *s = sizes[k];
            if (net_spec_ready(names[i], s[0], s[1], s[2], &spec, &e)) fail_msg("%s", e.text);
            size_t params = net_spec_param_count(&spec, 10, &e);
            printf("%-14s %4d x %4d x %d: %2d layers, %zu parameters\n", names[i], s[0], s[1], s[2],
                   spec.layer_count, params);
            assert_true(params || strstr(e.text, "too large"));
            net_spec_write(&spec, &json);
            struct json *v = json_parse(buf_bytes(&json), &e);
            if (net_spec_read(v, &back, &e)) fail_msg("%s", e.text);
            assert_true(net_spec_equal(&spec, &back));
            back.layers[0].units++;
            assert_false(net_spec_equal(&spec, &back));
            json_free(v);
            buf_free(&json);
        }
}

/* What suits the input; the same by name, as an object, and by hand. */
static void test_auto(void **state) {
    struct err e;
    struct net_spec a, b;
    assert_string_equal(net_spec_auto(28, 28, 1), "cnn");
    assert_string_equal(net_spec_auto(32, 32, 3), "resnet-small");
    assert_string_equal(net_spec_auto(128, 96, 1), "resnet-small");
    assert_int_equal(read_for("\"auto\"", 28, 1, &a, &e), ERR_NONE);
    net_spec_cnn(&b, 28, 28, 1);
    assert_true(net_spec_equal(&a, &b));
    assert_int_equal(read_for("{\"network\":\"cnn\"}", 28, 1, &a, &e), ERR_NONE);
    assert_true(net_spec_equal(&a, &b));
    assert_int_equal(read_for("{\"network\":\"auto\"}", 32, 3, &a, &e), ERR_NONE);
    net_spec_resnet_small(&b, 32, 32, 3);
    assert_true(net_spec_equal(&a, &b));
    assert_int_equal(
        read_for("{\"network\":[{\"units\":256,\"type\":\"dense\"},{\"type\":\"relu\"}]}", 28, 1,
                 &a, &e),
        ERR_NONE);
    net_spec_mlp(&b, 28, 28, 1);
    assert_true(net_spec_equal(&a, &b));
    assert_int_equal(read_for("[]", 28, 1, &a, &e), ERR_NONE);
    assert_int_equal(a.layer_count, 0);
}

static void test_defaults(void **state) {
    struct err e;
    struct net_spec spec;
    const char *json = "[{\"type\":\"conv\",\"units\":8,\"kernel\":3},{\"type\":\"norm\","
                       "\"groups\":2},{\"type\":\"concat\",\"from\":\"input\"}]";
    if (read_for(json, 8, 3, &spec, &e)) fail_msg("%s", e.text);
    assert_int_equal(spec.layer_count, 3);
    assert_int_equal(spec.layers[0].stride, 1);
    assert_int_equal(spec.layers[0].padding, 0);
    assert_int_equal(spec.layers[2].from, NET_INPUT);
}

static void test_refused(void **state) {
    static const struct {
        const char *json, *text;
    } wrong[] = {
        {"\"lenet\"", "\"network\" must be"},
        {"7", "\"network\" must be"},
        {"{}", "\"network\" must be"},
        {"{\"network\":{}}", "\"network\" must be"},
        {"{\"net\":\"cnn\"}", "\"net\" is no field"},
        {"[7]", "layer 1: it must be an object"},
        {"[{}]", "layer 1: \"type\""},
        {"[{\"type\":\"relu\"},{\"type\":\"Dense\",\"units\":1}]", "layer 2: \"type\""},
        {"[{\"type\":\"dense\"}]", "layer 1 (dense): \"units\" is missing"},
        {"[{\"type\":\"dense\",\"units\":\"many\"}]", "layer 1 (dense): \"units\" must"},
        {"[{\"type\":\"dense\",\"units\":1.5}]", "layer 1 (dense): \"units\" must"},
        {"[{\"type\":\"dense\",\"units\":null}]", "layer 1 (dense): \"units\" must"},
        {"[{\"type\":\"dense\",\"units\":5000}]", "layer 1: \"units\" must be 1 to 4096"},
        {"[{\"type\":\"dense\",\"units\":5,\"kernel\":3}]", "layer 1 (dense): \"kernel\" is no"},
        {"[{\"type\":\"conv\",\"units\":5}]", "layer 1 (conv): \"kernel\" is missing"},
        {"[{\"type\":\"conv\",\"units\":5,\"kernel\":3,\"stride\":0}]", "layer 1: \"stride\""},
        {"[{\"type\":\"conv\",\"units\":5,\"kernel\":3,\"padding\":3}]", "layer 1: \"padding\""},
        {"[{\"type\":\"conv\",\"units\":5,\"kernel\":9}]", "layer 1: \"kernel\" 9 is larger"},
        {"[{\"type\":\"maxpool\",\"kernel\":9}]", "layer 1: \"kernel\" 9 is larger"},
        {"[{\"type\":\"norm\",\"groups\":2}]", "layer 1: \"groups\" 2 must divide the 3"},
        {"[{\"type\":\"relu\"},{\"type\":\"add\"}]", "layer 2: \"from\""},
        {"[{\"type\":\"relu\"},{\"type\":\"add\",\"from\":0}]", "layer 2 (add): \"from\""},
        {"[{\"type\":\"relu\"},{\"type\":\"add\",\"from\":2}]", "layer 2: \"from\""},
        {"[{\"type\":\"relu\"},{\"type\":\"add\",\"from\":\"output\"}]", "layer 2 (add): \"from\""},
        {"[{\"type\":\"globalpool\"},{\"type\":\"add\",\"from\":\"input\"}]",
         "layer 2: \"from\" is of 8 x 8 x 3"},
        {"[{\"type\":\"dense\",\"units\":5},{\"type\":\"relu\",\"from\":\"input\"}]",
         "layer 1: nothing takes"},
        {"[{\"type\":\"dense\",\"units\":5},{\"type\":\"maxpool\",\"kernel\":2}]",
         "layer 2: what comes to it is no image"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e;
        struct net_spec spec;
        if (!read_for(wrong[i].json, 8, 3, &spec, &e)) fail_msg("taken: %s", wrong[i].json);
        assert_int_equal(e.kind, ERR_BAD);
        if (!strstr(e.text, wrong[i].text))
            fail_msg("%s: \"%s\" does not say \"%s\"", wrong[i].json, e.text, wrong[i].text);
        assert_true(bytes_is_clean_text(bytes_of(e.text)));
    }
    struct buf many = {0};
    struct err e;
    struct net_spec spec;
    for (int i = 0; i <= NET_MAX_LAYERS; i++)
        buf_add_text(&many, i ? ",{\"type\":\"relu\"}" : "[{\"type\":\"relu\"}");
    buf_add_text(&many, "]");
    assert_int_equal(read_for(many.data, 8, 3, &spec, &e), ERR_BAD);
    buf_free(&many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("nn_spec", tests, NULL, NULL);
}
