/*
 * nn against PyTorch, tensor by tensor: probabilities, loss, gradients, and tensors after some steps
 * of each optimizer, as tests/fixtures/nn/make has stored them. Weights and images are drawn here as
 * they are there.
 */
#include "lib/base/bytes.h"
#include "lib/nn/net_spec.h"
#include "lib/nn/safetensors.h"
#include "lib/nn/trainer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

#define FILE_NAME "tests/fixtures/nn/torch.safetensors"
enum { SAMPLES = 24, STEPS = 5, MOST = 16 };
static const double NEAR = 2e-5; /* of a tensor's largest number */

static struct buf file;
static struct safetensors *torch;

static int open_file(void **state) {
    struct err e = {0};
    char piece[4096];
    FILE *f = fopen(FILE_NAME, "rb");
    if (!f) return -1;
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) buf_add(&file, piece, n);
    fclose(f);
    torch = safetensors_read(buf_bytes(&file), &e);
    return torch ? 0 : -1;
}

static int close_file(void **state) {
    safetensors_free(torch);
    buf_free(&file);
    return 0;
}

/* ---- what both sides draw ---- */

static uint32_t hashed(uint32_t salt, uint32_t i) {
    uint32_t x = i * 2654435761u + salt * 40503u;
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

static void draw_tensor(const struct net_tensor *t, uint32_t number, float *params) {
    bool bias = strstr(t->name, ".bias"), norm = t->name[0] == 'n';
    double inputs = (double)t->count / t->shape[t->rank - 1];
    for (size_t i = 0; i < t->count; i++) {
        double v = hashed(number, (uint32_t)i) / 2147483648.0 - 1;
        v = bias ? 0.1 * v : norm ? 1 + 0.3 * v : sqrt(6 / inputs) * v;
        params[t->offset + i] = (float)v;
    }
}

struct drawn {
    const char *name;
    struct net *net;
    int count; /* of the images */
    uint8_t *x;
    int label[MOST];
};

static void draw(struct safetensors_text text, struct drawn *d) {
    struct err e = {0};
    struct net_spec spec, ready;
    int64_t classes = 0, count = 0;
    bool is_ready = false;
    struct json *v = json_parse(bytes_of(text.value), &e);
    if (!v || net_spec_read(v, &spec, &e) || json_get_int(v, "classes", true, &classes, &e) ||
        json_get_int(v, "count", true, &count, &e) ||
        json_get_bool(v, "ready", true, &is_ready, &e))
        fail_msg("%s: %s", text.key, e.text);
    json_free(v);
    *d = (struct drawn){.name = text.key, .count = (int)count};
    assert_true(count <= MOST);
    if (is_ready) {
        assert_int_equal(
            net_spec_ready(text.key, spec.height, spec.width, spec.channels, &ready, &e), ERR_NONE);
        assert_true(net_spec_equal(&spec, &ready));
    }
    d->net = net_make(&spec, (int)classes, 1, &e);
    if (!d->net) fail_msg("%s: %s", text.key, e.text);
    *net_norm(d->net) = (struct net_norm){{.3f, .4f, .5f, 0}, {1.5f, 2, 1, 1}};
    int tensors;
    const struct net_tensor *t = net_tensors(d->net, &tensors);
    for (int i = 0; i < tensors; i++) draw_tensor(&t[i], (uint32_t)i + 1, net_params(d->net));
    size_t size = d->count * net_image_size(d->net);
    d->x = mem_alloc(size);
    for (size_t i = 0; i < size; i++) d->x[i] = (uint8_t)(hashed(99, (uint32_t)i) >> 24);
    for (int i = 0; i < d->count; i++)
        d->label[i] = (int)(hashed(98, (uint32_t)i) % (uint32_t)classes);
}

static void drop(struct drawn *d) {
    net_free(d->net);
    free(d->x);
}

/* ---- comparing ---- */

static const float *stored(const char *name, size_t *count) {
    static float values[4096];
    const struct safetensors_tensor *t = safetensors_find(torch, name);
    if (!t) fail_msg("%s is not in " FILE_NAME, name);
    assert_true(t->count <= 4096);
    memcpy(values, t->data, t->count * sizeof *values);
    *count = t->count;
    return values;
}

/* |difference| over the largest number, at the places that were stored. */
static double apart(const char *name, const float *ours, size_t count, size_t samples) {
    size_t n, step = count > samples ? count / samples : 1;
    const float *theirs = stored(name, &n);
    double largest = 1e-7, worst = 0;
    assert_int_equal(n, count < samples ? count : samples);
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabsf(theirs[i]));
        worst = fmax(worst, fabsf(ours[i * step] - theirs[i]));
    }
    if (!(worst / largest < NEAR)) fail_msg("%s: %.2e apart", name, worst / largest);
    return worst / largest;
}

/* The largest of all tensors, whose names begin with the case and `what`. */
static double tensors_apart(const struct drawn *d, const char *what, const float *ours) {
    double worst = 0;
    int tensors;
    const struct net_tensor *t = net_tensors(d->net, &tensors);
    for (int i = 0; i < tensors; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.%s.%s", d->name, what, t[i].name);
        worst = fmax(worst, apart(name, ours + t[i].offset, t[i].count, SAMPLES));
    }
    return worst;
}

static void test_forward_and_backward(void **state) {
    for (int i = 0; i < safetensors_text_count(torch); i++) {
        struct err e = {0};
        struct drawn d;
        draw(safetensors_text_at(torch, i), &d);
        int classes = net_classes(d.net);
        float *prob = mem_alloc((size_t)d.count * classes * sizeof *prob);
        float *gradient = mem_alloc(net_param_count(d.net) * sizeof *gradient);
        struct net_run *run = net_run_make(d.net, d.count);
        struct train_conf conf = {
            .rate = 1, .label_smoothing = 0.1f, .batch = d.count, .threads = 2};
        struct trainer *t = trainer_make(d.net, &conf, &e);
        if (!t) fail_msg("%s", e.text);
        net_forward(run, NULL, d.x, d.count, prob);
        float loss = trainer_gradient(t, d.x, d.label, d.count, gradient);
        char name[128];
        snprintf(name, sizeof name, "%s.prob", d.name);
        double p = apart(name, prob, (size_t)d.count * classes, MOST * 16);
        snprintf(name, sizeof name, "%s.loss", d.name);
        double l = apart(name, &loss, 1, 1), g = tensors_apart(&d, "gradient", gradient);
        printf("%-22s probabilities %.1e, loss %.1e, gradients %.1e apart\n", d.name, p, l, g);
        trainer_free(t);
        net_run_free(run);
        free(prob);
        free(gradient);
        drop(&d);
    }
}

static void test_optimizers(void **state) {
    static const struct train_conf confs[] = {
        {.optimizer = OPTIMIZER_SGD, .rate = 0.05f, .momentum = 0.9f, .weight_decay = 0.01f},
        {.optimizer = OPTIMIZER_ADAM,
         .rate = 0.01f,
         .momentum = 0.9f,
         .second = 0.99f,
         .weight_decay = 0.1f}};
    static const char *const names[] = {"sgd", "adam"};
    int compared = 0;
    for (int i = 0; i < safetensors_text_count(torch); i++)
        for (int k = 0; k < 2; k++) {
            struct err e = {0};
            struct drawn d;
            char name[128];
            draw(safetensors_text_at(torch, i), &d);
            snprintf(name, sizeof name, "%s.%s.classes.bias", d.name, names[k]);
            if (safetensors_find(torch, name)) {
                struct train_conf conf = confs[k];
                conf.label_smoothing = 0.1f;
                conf.batch = d.count;
                conf.threads = 2;
                struct trainer *t = trainer_make(d.net, &conf, &e);
                if (!t) fail_msg("%s", e.text);
                for (int s = 0; s < STEPS; s++) trainer_step(t, d.x, d.label, d.count);
                printf("%-22s %d steps of %s: tensors %.1e apart\n", d.name, STEPS, names[k],
                       tensors_apart(&d, names[k], net_params(d.net)));
                assert_int_equal(trainer_second(t) != NULL, k == 1);
                trainer_free(t);
                compared++;
            }
            drop(&d);
        }
    assert_true(compared >= 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_and_backward),
        cmocka_unit_test(test_optimizers),
    };
    return cmocka_run_group_tests_name("nn_torch", tests, open_file, close_file);
}
