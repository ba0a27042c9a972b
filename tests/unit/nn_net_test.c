/*
 * The network against a plain reference in double precision, written here with loops and nothing
 * else: forward tensor by tensor, and gradients against central differences of the reference's
 * loss.
 */
#include "lib/base/bytes.h"
#include "lib/nn/answer.h"
#include "lib/nn/net.h"
#include "lib/nn/trainer.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

/* ---- the reference ---- */

struct image { /* or what a layer made of it: v (h, w, c) */
    int h, w, c;
    double *v;
};

static struct image make_image(int h, int w, int c) {
    return (struct image){h, w, c, mem_zeroed((size_t)h * w * c, sizeof(double))};
}

static struct image ref_conv(struct image in, const struct layer_spec *s, const double *weight,
                             const double *bias) {
    int k = s->kernel;
    struct image out = make_image((in.h + 2 * s->padding - k) / s->stride + 1,
                                  (in.w + 2 * s->padding - k) / s->stride + 1, s->units);
    for (int y = 0; y < out.h; y++)
        for (int x = 0; x < out.w; x++)
            for (int f = 0; f < out.c; f++) {
                double sum = bias[f];
                for (int i = 0; i < k; i++)
                    for (int j = 0; j < k; j++) {
                        int iy = y * s->stride + i - s->padding,
                            ix = x * s->stride + j - s->padding;
                        if (iy < 0 || ix < 0 || iy >= in.h || ix >= in.w) continue;
                        for (int c = 0; c < in.c; c++)
                            sum += in.v[(iy * in.w + ix) * in.c + c] *
                                   weight[((i * k + j) * in.c + c) * out.c + f];
                    }
                out.v[(y * out.w + x) * out.c + f] = sum;
            }
    return out;
}

static struct image ref_pool(struct image in, int k) {
    struct image out = make_image(in.h / k, in.w / k, in.c);
    for (int y = 0; y < out.h; y++)
        for (int x = 0; x < out.w; x++)
            for (int c = 0; c < in.c; c++) {
                double top = -INFINITY;
                for (int i = 0; i < k * k; i++)
                    top = fmax(top, in.v[((y * k + i / k) * in.w + x * k + i % k) * in.c + c]);
                out.v[(y * out.w + x) * out.c + c] = top;
            }
    return out;
}

static struct image ref_dense(struct image in, int units, const double *weight,
                              const double *bias) {
    struct image out = make_image(1, 1, units);
    for (int u = 0; u < units; u++) {
        out.v[u] = bias[u];
        for (int i = 0; i < in.h * in.w * in.c; i++) out.v[u] += in.v[i] * weight[i * units + u];
    }
    return out;
}

static struct image ref_mean(struct image in) {
    struct image out = make_image(1, 1, in.c);
    for (int i = 0; i < in.h * in.w * in.c; i++) out.v[i % in.c] += in.v[i] / (in.h * in.w);
    return out;
}

static struct image ref_norm(struct image in, int groups, const double *weight,
                             const double *bias) {
    struct image out = make_image(in.h, in.w, in.c);
    int size = in.h * in.w * in.c, width = in.c / groups, n = size / groups;
    for (int g = 0; g < groups; g++) {
        double mean = 0, variance = 0;
        for (int i = 0; i < size; i++)
            if (i % in.c / width == g) mean += in.v[i] / n;
        for (int i = 0; i < size; i++)
            if (i % in.c / width == g) variance += (in.v[i] - mean) * (in.v[i] - mean) / n;
        for (int i = 0; i < size; i++)
            if (i % in.c / width == g)
                out.v[i] =
                    (in.v[i] - mean) / sqrt(variance + 1e-5) * weight[i % in.c] + bias[i % in.c];
    }
    return out;
}

/* add: the sum; concat: one behind the other; ReLU: other is 0 */
static struct image ref_join(enum layer_type type, struct image in, struct image other) {
    int n = in.h * in.w * in.c, more = type == LAYER_CONCAT ? other.h * other.w * other.c : 0;
    struct image out = more ? make_image(1, 1, n + more) : make_image(in.h, in.w, in.c);
    for (int i = 0; i < n; i++)
        out.v[i] = type == LAYER_ADD    ? in.v[i] + other.v[i]
                   : type == LAYER_RELU ? fmax(in.v[i], 0)
                                        : in.v[i];
    for (int i = 0; i < more; i++) out.v[n + i] = other.v[i];
    return out;
}

/* Logits of one image; params are in the order of the layers. */
static void ref_logits(struct net *net, const double *params, const uint8_t *x, double *z) {
    const struct net_spec *spec = net_spec(net);
    const struct net_norm *norm = net_norm(net);
    int tensors;
    const struct net_tensor *t = net_tensors(net, &tensors);
    struct image of[NET_MAX_LAYERS + 2]; /* what each layer made; 0 is the input */
    of[0] = make_image(spec->height, spec->width, spec->channels);
    for (size_t i = 0; i < net_image_size(net); i++) {
        int c = (int)(i % spec->channels);
        of[0].v[i] = (x[i] / 255.0 - norm->mean[c]) * norm->scale[c];
    }
    for (int i = 0; i <= spec->layer_count; i++) {
        struct layer_spec last = {.type = LAYER_DENSE, .units = net_classes(net)};
        const struct layer_spec *s = i < spec->layer_count ? &spec->layers[i] : &last;
        bool joins = s->type == LAYER_ADD || s->type == LAYER_CONCAT;
        struct image from = of[s->from == NET_INPUT ? 0 : s->from ? s->from : i];
        struct image in = joins ? of[i] : from;
        const double *weight = params + t[0].offset, *bias = params + t[1].offset;
        switch (s->type) {
        case LAYER_DENSE: of[i + 1] = ref_dense(in, s->units, weight, bias); break;
        case LAYER_CONV: of[i + 1] = ref_conv(in, s, weight, bias); break;
        case LAYER_NORM: of[i + 1] = ref_norm(in, s->groups, weight, bias); break;
        case LAYER_MAXPOOL: of[i + 1] = ref_pool(in, s->kernel); break;
        case LAYER_GLOBALPOOL: of[i + 1] = ref_mean(in); break;
        default: of[i + 1] = ref_join(s->type, in, from);
        }
        if (s->type == LAYER_DENSE || s->type == LAYER_CONV || s->type == LAYER_NORM)
            t += i < spec->layer_count ? 2 : 0;
    }
    memcpy(z, of[spec->layer_count + 1].v, net_classes(net) * sizeof *z);
    for (int i = 0; i <= spec->layer_count + 1; i++) free(of[i].v);
}

static double *in_double(struct net *net) {
    double *p = mem_alloc(net_param_count(net) * sizeof *p);
    for (size_t i = 0; i < net_param_count(net); i++) p[i] = net_params(net)[i];
    return p;
}

static double ref_loss(struct net *net, const double *params, const uint8_t *x, const int *label,
                       int n, double smoothing) {
    double loss = 0, z[256];
    int classes = net_classes(net);
    for (int i = 0; i < n; i++) {
        ref_logits(net, params, x + i * net_image_size(net), z);
        double top = z[0], sum = 0;
        for (int c = 0; c < classes; c++) top = fmax(top, z[c]);
        for (int c = 0; c < classes; c++) sum += exp(z[c] - top);
        for (int c = 0; c < classes; c++) {
            double target = smoothing / classes + (c == label[i] ? 1 - smoothing : 0);
            loss -= target * (z[c] - top - log(sum));
        }
    }
    return loss / n;
}

/* ---- the cases ---- */

#define CONV(f, k, s, p)                                                                           \
    { .type = LAYER_CONV, .units = f, .kernel = k, .stride = s, .padding = p }
#define DENSE(u)                                                                                   \
    { .type = LAYER_DENSE, .units = u }
#define POOL(k)                                                                                    \
    { .type = LAYER_MAXPOOL, .kernel = k }
#define RELU                                                                                       \
    { .type = LAYER_RELU }
#define NORM(g)                                                                                    \
    { .type = LAYER_NORM, .groups = g }
#define MEAN                                                                                       \
    { .type = LAYER_GLOBALPOOL }
#define ADD(k)                                                                                     \
    { .type = LAYER_ADD, .from = k }
#define CONCAT(k)                                                                                  \
    { .type = LAYER_CONCAT, .from = k }
#define CONV_OF(k, f, side, s, p)                                                                  \
    { .type = LAYER_CONV, .units = f, .kernel = side, .stride = s, .padding = p, .from = k }
#define LAYERS(n, ...) .layer_count = n, .layers = {__VA_ARGS__}

static const struct {
    const char *name;
    int classes;
    struct net_spec spec;
} cases[] = {
    {"no layer", 3, {4, 3, 1, LAYERS(0, RELU)}},
    {"one pixel", 2, {1, 1, 1, LAYERS(2, DENSE(3), RELU)}},
    {"dense", 4, {3, 5, 2, LAYERS(1, DENSE(7))}},
    {"dense, ReLU, twice", 200, {3, 4, 3, LAYERS(4, DENSE(9), RELU, DENSE(8), RELU)}},
    {"conv", 3, {6, 7, 1, LAYERS(1, CONV(3, 3, 1, 0))}},
    {"conv, stride and padding", 3, {9, 7, 2, LAYERS(2, CONV(4, 4, 2, 2), RELU)}},
    {"conv, padding wider than the image", 3, {1, 2, 3, LAYERS(2, CONV(4, 5, 1, 2), RELU)}},
    {"conv, ReLU, pool with a rest", 3, {8, 9, 3, LAYERS(3, CONV(5, 2, 1, 0), RELU, POOL(3))}},
    {"conv, pool, ReLU, conv, dense",
     5,
     {13, 12, 2, LAYERS(6, CONV(4, 5, 1, 2), POOL(2), RELU, CONV(6, 3, 1, 1), RELU, DENSE(5))}},
    {"wide conv 5x5, pool",
     3,
     {14, 17, 1, LAYERS(6, CONV(16, 3, 1, 1), RELU, CONV(32, 5, 1, 0), RELU, POOL(2), DENSE(4))}},
    {"wide conv 5x5, padding, edges",
     3,
     {7, 6, 1, LAYERS(5, CONV(16, 2, 1, 1), RELU, CONV(16, 5, 1, 2), RELU, DENSE(4))}},
    {"wide conv 3x3, pool 3",
     3,
     {15, 11, 1, LAYERS(5, CONV(32, 2, 1, 0), RELU, CONV(16, 3, 1, 1), POOL(3), RELU)}},
    {"wide conv 3x3", 3, {14, 13, 1, LAYERS(3, CONV(16, 1, 1, 0), RELU, CONV(16, 3, 1, 0))}},
    {"wide conv 5x5, pool 3",
     3,
     {12, 12, 1, LAYERS(3, CONV(16, 3, 1, 1), CONV(16, 5, 1, 1), POOL(3))}},
    {"stride wider than the kernel", 3, {9, 7, 2, LAYERS(2, CONV(5, 1, 2, 0), CONV(3, 2, 3, 1))}},
    {"ReLU first, twice", 3, {4, 3, 2, LAYERS(4, RELU, DENSE(5), RELU, RELU)}},
    {"norm of the input", 3, {6, 5, 4, LAYERS(2, NORM(2), DENSE(5))}},
    {"conv, norm, ReLU", 3, {7, 6, 2, LAYERS(3, CONV(20, 3, 1, 1), NORM(5), RELU)}},
    {"norm of vectors", 3, {4, 4, 1, LAYERS(3, DENSE(36), NORM(1), RELU)}},
    {"norm, pool with a rest", 3, {7, 8, 1, LAYERS(4, CONV(16, 3, 1, 1), NORM(2), POOL(3), RELU)}},
    {"global pool", 3, {5, 4, 3, LAYERS(5, CONV(18, 3, 1, 0), RELU, MEAN, RELU, DENSE(4))}},
    {"add",
     3,
     {6, 5, 2, LAYERS(7, CONV(6, 3, 1, 1), RELU, CONV(6, 3, 1, 1), ADD(2), RELU, ADD(5), NORM(3))}},
    {"add the input", 3, {6, 5, 3, LAYERS(3, CONV(3, 3, 1, 1), RELU, ADD(NET_INPUT))}},
    {"named before its ReLU and pool",
     3,
     {6, 6, 1,
      LAYERS(7, CONV(4, 3, 1, 1), RELU, POOL(2), CONV(4, 1, 1, 0), CONV_OF(1, 4, 1, 2, 0), ADD(4),
             CONCAT(1))}},
    {"concat", 3, {4, 3, 2, LAYERS(4, DENSE(9), RELU, CONCAT(NET_INPUT), RELU)}},
    {"wide residual blocks",
     3,
     {13, 9, 3,
      LAYERS(16, CONV(16, 3, 1, 1), NORM(2), RELU, CONV(16, 3, 1, 1), NORM(2), ADD(3), RELU,
             CONV(32, 1, 2, 0), CONV_OF(7, 32, 3, 2, 1), NORM(4), RELU, CONV(32, 3, 1, 2), NORM(2),
             CONV_OF(13, 32, 3, 1, 0), ADD(8), MEAN)}},
};
static const struct {
    const char *name;
    void (*make)(struct net_spec *spec, int height, int width, int channels);
} ready[] = {{"mlp", net_spec_mlp},
             {"cnn", net_spec_cnn},
             {"wide-and-deep", net_spec_wide_and_deep},
             {"resnet-small", net_spec_resnet_small}};
enum { READY = sizeof ready / sizeof *ready };
enum { CASES = sizeof cases / sizeof *cases, MOST = 17 };

static struct net *make_net(const struct net_spec *spec, int classes) {
    struct err e = {0};
    struct net *net = net_make(spec, classes, 11, &e);
    if (!net) fail_msg("%s", e.text);
    *net_norm(net) = (struct net_norm){{.3f, .4f, .5f, 0}, {1.5f, 2, 1, 1}};
    for (size_t i = 0; i < net_param_count(net); i++) /* biases, too */
        net_params(net)[i] += 0.05f * (float)((int)(i * 2654435761u >> 20) % 9 - 4) / 4;
    return net;
}

static uint8_t *make_images(const struct net *net, int n, int *label) {
    uint8_t *x = mem_alloc(n * net_image_size(net));
    srand(5);
    for (size_t i = 0; i < n * net_image_size(net); i++) x[i] = (uint8_t)(rand() >> 7);
    for (int i = 0; i < n; i++) label[i] = rand() % net_classes(net);
    return x;
}

static double largest_forward_error(const struct net_spec *spec, int classes, int n) {
    int label[64];
    struct net *net = make_net(spec, classes);
    uint8_t *x = make_images(net, n, label);
    double *params = in_double(net), worst = 0;
    float *prob = mem_alloc((size_t)n * classes * sizeof *prob);
    struct net_run *run = net_run_make(net, n);
    net_forward(run, NULL, x, n, prob);
    for (int i = 0; i < n; i++) {
        double z[256], top = -INFINITY, sum = 0;
        ref_logits(net, params, x + i * net_image_size(net), z);
        for (int c = 0; c < classes; c++) top = fmax(top, z[c]);
        for (int c = 0; c < classes; c++) sum += z[c] = exp(z[c] - top);
        for (int c = 0; c < classes; c++)
            worst = fmax(worst, fabs(prob[i * classes + c] - z[c] / sum));
    }
    net_run_free(run);
    free(prob);
    free(params);
    free(x);
    net_free(net);
    return worst;
}

static void test_forward(void **state) {
    for (int i = 0; i < CASES; i++) {
        double worst = 0;
        for (int n = 1; n <= MOST; n += 8)
            worst = fmax(worst, largest_forward_error(&cases[i].spec, cases[i].classes, n));
        printf("forward   %-36s largest difference %.1e\n", cases[i].name, worst);
        assert_true(worst < 2e-5);
    }
    static const int sizes[][4] = {{28, 28, 1, 10}, {1, 1, 1, 2},   {2, 2, 1, 2},
                                   {3, 40, 4, 3},   {15, 15, 1, 3}, {16, 16, 3, 200},
                                   {64, 48, 3, 5},  {130, 20, 1, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int *s = sizes[i];
        printf("forward   %3d x %2d x %d, %3d classes:", s[0], s[1], s[2], s[3]);
        for (int k = 0; k < READY; k++) {
            struct net_spec spec;
            ready[k].make(&spec, s[0], s[1], s[2]);
            double worst = largest_forward_error(&spec, s[3], 17);
            printf(" %s %.1e%s", ready[k].name, worst, k + 1 < READY ? "," : "\n");
            assert_true(worst < 5e-5);
        }
    }
}

/*
 * Every `step`th parameter of every tensor: |difference| over the largest gradient of its tensor,
 * since float32 sums keep digits of the large ones only.
 */
static double largest_gradient_error(struct net *net, int n, int threads, size_t samples) {
    int label[64];
    struct err e = {0};
    uint8_t *x = make_images(net, n, label);
    struct train_conf conf = {
        .rate = 1, .label_smoothing = 0.1f, .weight_decay = 0.5f, .batch = n, .threads = threads};
    struct trainer *t = trainer_make(net, &conf, &e);
    if (!t) fail_msg("%s", e.text);
    float *gradient = mem_alloc(net_param_count(net) * sizeof *gradient);
    double *params = in_double(net), worst = 0;
    float loss = trainer_gradient(t, x, label, n, gradient);
    assert_true(fabs(loss - ref_loss(net, params, x, label, n, conf.label_smoothing)) < 1e-4);
    int tensors;
    const struct net_tensor *tensor = net_tensors(net, &tensors);
    for (int i = 0; i < tensors; i++) {
        double largest = 1e-6, off = 0;
        for (size_t k = 0; k < tensor[i].count; k++)
            largest = fmax(largest, fabs(gradient[tensor[i].offset + k]));
        size_t step = tensor[i].count > samples ? tensor[i].count / samples : 1;
        for (size_t k = tensor[i].offset; k < tensor[i].offset + tensor[i].count; k += step) {
            double was = params[k], h = 1e-6;
            params[k] = was + h;
            double up = ref_loss(net, params, x, label, n, conf.label_smoothing);
            params[k] = was - h;
            double down = ref_loss(net, params, x, label, n, conf.label_smoothing);
            params[k] = was;
            off = fmax(off, fabs(gradient[k] - (up - down) / (2 * h)) / largest);
        }
        worst = fmax(worst, off);
    }
    free(gradient);
    free(params);
    free(x);
    trainer_free(t);
    return worst;
}

static void test_gradients(void **state) {
    for (int i = 0; i < CASES; i++)
        for (int threads = 1; threads <= 3; threads += 2) {
            struct net *net = make_net(&cases[i].spec, cases[i].classes);
            double worst = largest_gradient_error(net, 12, threads, 5);
            printf("gradient  %-36s %d threads, largest relative difference %.1e\n", cases[i].name,
                   threads, worst);
            assert_true(worst < 2e-4);
            net_free(net);
        }
    for (int k = 0; k < READY; k++) {
        struct net_spec spec;
        bool deep = ready[k].make == net_spec_resnet_small;
        ready[k].make(&spec, deep ? 12 : 28, deep ? 10 : 28, deep ? 3 : 1);
        struct net *net = make_net(&spec, 10);
        double worst = largest_gradient_error(net, 3, 2, 3);
        printf("gradient  the whole %s: largest relative difference %.1e\n", ready[k].name, worst);
        assert_true(worst < 2e-4);
        net_free(net);
    }
}

static void test_refused(void **state) {
    static const struct net_spec wrong[] = {
        {0, 3, 1, LAYERS(0, RELU)},
        {3, 3, 5, LAYERS(0, RELU)},
        {3, 2000, 1, LAYERS(0, RELU)},
        {3, 3, 1, LAYERS(1, POOL(4))},
        {3, 3, 1, LAYERS(1, POOL(1))},
        {3, 3, 1, LAYERS(1, DENSE(0))},
        {3, 3, 1, LAYERS(2, DENSE(2), POOL(2))},
        {3, 3, 1, LAYERS(1, CONV(2, 4, 1, 0))},
        {3, 3, 1, LAYERS(1, CONV(2, 3, 0, 0))},
        {3, 3, 1, LAYERS(1, CONV(2, 3, 1, 3))},
        {5, 5, 1, LAYERS(2, CONV(2, 3, 1, 0), POOL(4))},
        {5, 5, 1, LAYERS(2, DENSE(4), CONV(2, 1, 1, 0))},
        {1024, 1024, 4, LAYERS(1, DENSE(4096))},
        {1024, 1024, 1, LAYERS(1, CONV(4096, 1, 1, 0))},
        {1024, 1024, 1, LAYERS(4, CONV(40, 1, 1, 0), RELU, ADD(1), MEAN)},
        {5, 5, 1, LAYERS(2, DENSE(4), MEAN)},
        {5, 5, 3, LAYERS(1, NORM(2))},
        {5, 5, 3, LAYERS(1, NORM(0))},
        {5, 5, 3, LAYERS(1, NORM(4))},
        {5, 5, 3, LAYERS(2, CONV(3, 3, 1, 0), ADD(NET_INPUT))},
        {5, 5, 3, LAYERS(2, RELU, ADD(0))},
        {5, 5, 3, LAYERS(2, RELU, ADD(2))},
        {5, 5, 3, LAYERS(2, RELU, ADD(-2))},
        {5, 5, 3, LAYERS(2, RELU, CONCAT(3))},
        {5, 5, 3, LAYERS(3, RELU, DENSE(2), CONV_OF(NET_INPUT, 2, 1, 1, 0))},
        {5, 5, 3, LAYERS(1, {.type = (enum layer_type)99})},
        {3, 3, 1, .layer_count = NET_MAX_LAYERS + 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = {0};
        assert_null(net_make(&wrong[i], 2, 1, &e));
        assert_int_equal(e.reason, REASON_BAD_SHAPE);
    }
    struct err e = {0};
    struct net_spec spec;
    net_spec_mlp(&spec, 3, 3, 1);
    assert_null(net_make(&spec, 0, 1, &e));
    assert_null(net_make(&spec, NET_MAX_CLASSES + 1, 1, &e));
    struct net *net = net_make(&spec, 1, 1, &e);
    struct train_conf conf = {.rate = 0, .batch = 1, .threads = 1};
    assert_null(trainer_make(net, &conf, &e));
    assert_int_equal(e.kind, ERR_FATAL);
    net_free(net);
}

static void test_huge_logits(void **state) {
    struct err e = {0};
    struct net_spec spec = {1, 1, 1, LAYERS(0, RELU)};
    struct net *net = net_make(&spec, 3, 1, &e);
    const float params[6] = {3e30f, -3e30f, 1, 0, 0, 0};
    memcpy(net_params(net), params, sizeof params);
    struct net_run *run = net_run_make(net, 1);
    float prob[3], gradient[6];
    net_forward(run, NULL, (const uint8_t[]){255}, 1, prob);
    assert_true(prob[0] == 1 && prob[1] == 0 && prob[2] == 0);
    struct train_conf conf = {.rate = 1, .batch = 1, .threads = 1};
    struct trainer *t = trainer_make(net, &conf, &e);
    assert_true(
        isfinite(trainer_gradient(t, (const uint8_t[]){255}, (const int[]){1}, 1, gradient)));
    for (int i = 0; i < 6; i++) assert_true(isfinite(gradient[i]));
    trainer_free(t);
    net_run_free(run);
    net_free(net);
}

/* So many steps with this many threads; the parameters, to be freed. */
static float *train_some(const struct net_spec *spec, int steps, int threads, float *average) {
    struct err e = {0};
    int label[50];
    struct net *net = make_net(spec, 10);
    uint8_t *x = make_images(net, 50, label);
    struct train_conf conf = {.rate = 0.02f,
                              .momentum = 0.9f,
                              .weight_decay = 1e-4f,
                              .average = 0.9f,
                              .batch = 50,
                              .threads = threads};
    struct trainer *t = trainer_make(net, &conf, &e);
    for (int i = 0; i < steps; i++) trainer_step(t, x, label, 50 - i);
    assert_int_equal(trainer_steps(t), steps);
    size_t size = net_param_count(net) * sizeof(float);
    memcpy(average, trainer_average(t), size);
    float *params = (float *)(void *)mem_copy(net_params(net), size);
    trainer_free(t);
    net_free(net);
    free(x);
    return params;
}

/* To the bit with the same threads; with other threads sums come in another order, and what that
   changes grows from step to step, the more the deeper a net is. */
/* An offset does what a bias of the classes does, and only in training. */
static void test_offset(void **state) {
    enum { CLASSES = 10 };
    struct net_spec spec;
    struct err e = {0};
    int label[20], count;
    float offset[CLASSES], *gradient[2];
    double loss[2];
    (void)state;
    net_spec_mlp(&spec, 8, 8, 1);
    struct net *net = make_net(&spec, CLASSES);
    uint8_t *x = make_images(net, 20, label);
    struct train_conf conf = {.rate = 0.1f, .label_smoothing = 0.1f, .batch = 20, .threads = 2};
    const struct net_tensor *bias = &net_tensors(net, &count)[0];
    bias += count - 1;
    assert_string_equal(bias->name, "classes.bias");
    for (int c = 0; c < CLASSES; c++) offset[c] = 0.3f * (float)c - 1;
    for (int i = 0; i < 2; i++) {
        struct trainer *t = trainer_make(net, &conf, &e);
        gradient[i] = mem_zeroed(net_param_count(net), sizeof(float));
        if (i)
            for (int c = 0; c < CLASSES; c++) net_params(net)[bias->offset + c] += offset[c];
        else
            trainer_set_offset(t, offset);
        loss[i] = (double)trainer_gradient(t, x, label, 20, gradient[i]);
        trainer_free(t);
    }
    assert_true(fabs(loss[0] - loss[1]) < 1e-5);
    for (size_t i = 0; i < net_param_count(net); i++)
        assert_true(fabsf(gradient[0][i] - gradient[1][i]) < 1e-6f);
    for (int i = 0; i < 2; i++) free(gradient[i]);
    net_free(net);
    free(x);
}

static void test_same_bits(void **state) {
    for (int k = 0; k < READY; k++) {
        enum { steps = 5 };
        struct net_spec spec;
        struct err e = {0};
        ready[k].make(&spec, k < 2 ? 28 : 16, k < 2 ? 28 : 20, 1);
        size_t count = net_spec_param_count(&spec, 10, &e);
        float *average[3], *params[3];
        double apart = 0;
        for (int i = 0; i < 3; i++) {
            average[i] = mem_alloc(count * sizeof(float));
            params[i] = train_some(&spec, steps, i < 2 ? 2 : 1, average[i]);
        }
        assert_memory_equal(params[0], params[1], count * sizeof(float));
        assert_memory_equal(average[0], average[1], count * sizeof(float));
        for (size_t i = 0; i < count; i++) apart = fmax(apart, fabs(params[0][i] - params[2][i]));
        printf("1 and 2 threads, %s: largest difference of a weight %.1e\n", ready[k].name, apart);
        assert_true(apart < 1e-3);
        for (int i = 0; i < 3; i++) {
            free(average[i]);
            free(params[i]);
        }
    }
}

/* With more threads than inputs or images nothing is done twice: a step is what one thread makes of
 * it. */
static void test_more_threads_than_inputs(void **state) {
    float params[2][16];
    for (int k = 0; k < 2; k++) {
        struct err e = {0};
        const struct net_spec spec = {1, 1, 1, LAYERS(2, DENSE(2), RELU)};
        struct net *net = make_net(&spec, 3);
        struct train_conf conf = {.rate = 0.5f, .momentum = 0.9f, .batch = 2, .threads = k ? 5 : 1};
        struct trainer *t = trainer_make(net, &conf, &e);
        for (int i = 0; i < 3; i++)
            trainer_step(t, (const uint8_t[]){200, 10}, (const int[]){2, 0}, 2);
        memcpy(params[k], net_params(net), net_param_count(net) * sizeof(float));
        trainer_free(t);
        net_free(net);
    }
    for (int i = 0; i < 13; i++) assert_true(fabsf(params[0][i] - params[1][i]) < 1e-6f);
}

/* Stopped after 5 steps, state taken along, and gone on with: the bits of 10 steps in one go. */
static void test_resume(void **state) {
    struct err e = {0};
    struct net_spec spec;
    int label[8];
    net_spec_mlp(&spec, 6, 6, 1);
    struct net *net = make_net(&spec, 3), *other = net_copy(net);
    uint8_t *x = make_images(net, 8, label);
    size_t size = net_param_count(net) * sizeof(float);
    struct train_conf conf = {
        .rate = 0.1f, .momentum = 0.9f, .average = 0.99f, .batch = 8, .threads = 2};
    struct trainer *t = trainer_make(net, &conf, &e);
    for (int i = 0; i < 10; i++) trainer_step(t, x, label, 8);
    struct trainer *first = trainer_make(other, &conf, &e);
    for (int i = 0; i < 5; i++) trainer_step(first, x, label, 8);
    struct trainer *then = trainer_make(other, &conf, &e);
    memcpy(trainer_momentum(then), trainer_momentum(first), size);
    memcpy(trainer_average(then), trainer_average(first), size);
    trainer_set_steps(then, trainer_steps(first));
    trainer_set_averaged(then, trainer_steps(first));
    trainer_free(first);
    for (int i = 0; i < 5; i++) trainer_step(then, x, label, 8);
    assert_memory_equal(net_params(net), net_params(other), size);
    assert_memory_equal(trainer_average(t), trainer_average(then), size);
    trainer_free(t);
    trainer_free(then);
    net_free(net);
    net_free(other);
    free(x);
}

/* Without light the first layer's weights have no gradient: what momentum they had decays, and may not
   stay a denormal for ever, which is slow. The caller's own arithmetic keeps its denormals. */
static void test_denormals(void **state) {
    struct err e = {0};
    struct net_spec spec;
    int label[8], zero = 0;
    net_spec_mlp(&spec, 6, 6, 1);
    struct net *net = make_net(&spec, 3);
    uint8_t *x = make_images(net, 8, label);
    size_t count = net_param_count(net);
    memset(x, 0, 8 * net_image_size(net));
    net_norm(net)->mean[0] = 0;
    struct train_conf conf = {.rate = 1e-3f, .momentum = 0.9f, .batch = 8, .threads = 2};
    struct trainer *t = trainer_make(net, &conf, &e);
    for (size_t i = 0; i < count; i++) trainer_momentum(t)[i] = 1;
    for (int i = 0; i < 1000; i++) trainer_step(t, x, label, 8);
    for (size_t i = 0; i < count; i++) {
        assert_int_not_equal(fpclassify(trainer_momentum(t)[i]), FP_SUBNORMAL);
        zero += trainer_momentum(t)[i] == 0;
    }
    assert_true(zero >= 36); /* of one unit at the least */
    volatile float least = FLT_MIN;
    assert_true(least / 4 > 0);
    trainer_free(t);
    net_free(net);
    free(x);
}

/* Which half of the image is bright. A net that ends in the mean over all places has to learn where
   they are first. */
static void test_learns(void **state) {
    for (int k = 0; k < READY; k++) {
        enum { N = 64, SIDE = 16 };
        struct err e = {0};
        struct net_spec spec;
        static uint8_t x[N][SIDE][SIDE];
        int label[N], right = 0;
        float prob[N * 2], first = 0, last = 0;
        for (int i = 0; i < N; i++) {
            label[i] = i % 3 == 0;
            for (int p = 0; p < SIDE * SIDE; p++)
                x[i][p / SIDE][p % SIDE] =
                    (uint8_t)(rand() % 120 + (p % SIDE < 8) * (label[i] ? 130 : 0) +
                              (p % SIDE >= 8) * (label[i] ? 0 : 130));
        }
        ready[k].make(&spec, SIDE, SIDE, 1);
        struct net *net = net_make(&spec, 2, 3, &e);
        struct train_conf conf = {
            .rate = 0.02f, .momentum = 0.9f, .average = 0.9f, .batch = N, .threads = 2};
        struct trainer *t = trainer_make(net, &conf, &e);
        for (int i = 0; i < (ready[k].make == net_spec_resnet_small ? 120 : 40); i++) {
            last = trainer_step(t, x[0][0], label, N);
            if (i == 0) first = last;
        }
        struct net_run *run = net_run_make(net, N);
        net_forward(run, trainer_average(t), x[0][0], N, prob);
        for (int i = 0; i < N; i++) right += (prob[2 * i + 1] > prob[2 * i]) == label[i];
        printf("%s: loss %.3f, then %.4f; %d of %d right\n", ready[k].name, first, last, right, N);
        assert_int_equal(right, N);
        trainer_free(t);
        net_run_free(run);
        net_free(net);
    }
}

static void test_grow(void **state) {
    struct err e = {0};
    struct net_spec spec;
    int label[4];
    net_spec_mlp(&spec, 5, 5, 1);
    struct net *net = make_net(&spec, 3);
    uint8_t *x = make_images(net, 4, label);
    double *before = in_double(net), was[4][3], is[5];
    for (int i = 0; i < 4; i++) ref_logits(net, before, x + i * 25, was[i]);
    size_t count = net_param_count(net);
    float *momentum = mem_alloc(count * sizeof *momentum);
    for (size_t i = 0; i < count; i++) momentum[i] = 1;

    if (net_grow(net, 5, 9, &e)) fail_msg("%s", e.text);
    assert_int_equal(net_classes(net), 5);
    assert_int_equal(net_param_count(net), count + 2 * 257);
    assert_true(net_norm(net)->mean[0] == .3f);
    double *after = in_double(net);
    for (int i = 0; i < 4; i++) {
        ref_logits(net, after, x + i * 25, is);
        for (int c = 0; c < 3; c++) assert_true(fabs(is[c] - was[i][c]) < 1e-12);
        assert_true(is[3] != is[4]);
    }
    struct net_run *run = net_run_make(net, 4);
    float prob[20];
    net_forward(run, NULL, x, 4, prob);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(log(prob[5 * i] / prob[5 * i + 1]) - (was[i][0] - was[i][1])) < 1e-4);
    float *grown = net_grow_array(net, 3, momentum, NULL), sum = 0;
    for (size_t i = 0; i < net_param_count(net); i++) sum += grown[i];
    assert_true(sum == (float)count);
    assert_int_equal(net_grow(net, 4, 9, &e), ERR_BAD);
    net_run_free(run);
    net_free(net);
    free(grown);
    free(momentum);
    free(before);
    free(after);
    free(x);
}

/* However the caller cuts a set of images, and however they come, the answers are the same but for
 * rounding. */
static void test_batches(void **state) {
    enum { N = 300 };
    struct err e = {0};
    struct net_spec spec;
    static int label[N];
    net_spec_cnn(&spec, 20, 18, 3);
    struct net *net = make_net(&spec, 7);
    uint8_t *x = make_images(net, N, label);
    size_t size = net_image_size(net);
    float *a = mem_alloc(N * 7 * sizeof *a), *b = mem_alloc(N * 7 * sizeof *b),
          *f = mem_alloc(N * size * sizeof *f);
    struct net_run *run = net_run_make(net, N), *small = net_run_make(net, 7);
    const struct net_norm *norm = net_norm(net);
    for (size_t i = 0; i < N * size; i++)
        f[i] = ((float)x[i] / 255 - norm->mean[i % 3]) * norm->scale[i % 3];
    net_forward(run, NULL, x, N, a);
    for (int at = 0; at < N; at += 7)
        net_forward(small, NULL, x + at * size, N - at < 7 ? N - at : 7, b + at * 7);
    for (int i = 0; i < N * 7; i++) assert_true(fabsf(a[i] - b[i]) < 1e-5f);
    net_forward_floats(run, NULL, f, N, b);
    for (int i = 0; i < N * 7; i++) assert_true(fabsf(a[i] - b[i]) < 1e-5f);
    struct net *same = net_make(&spec, 7, 1, &e), *also = net_make(&spec, 7, 1, &e);
    assert_memory_equal(net_params(same), net_params(also), net_param_count(net) * sizeof(float));
    net_free(same);
    net_free(also);
    net_run_free(run);
    net_run_free(small);
    net_free(net);
    free(a);
    free(b);
    free(f);
    free(x);
}

/* Bit for bit, however many threads there are, and also behind a set of another size. */
static void test_answers(void **state) {
    enum { N = 4 * ANSWER_PIECE + 9, THREADS = 3 };
    struct err e = {0};
    struct net_spec spec;
    static int label[N];
    static float prob[THREADS][N * 7], alone[N * 7];
    (void)state;
    net_spec_cnn(&spec, 20, 18, 3);
    struct net *net = make_net(&spec, 7);
    uint8_t *x = make_images(net, N, label);
    for (int i = 0; i < THREADS; i++) {
        struct crew *crew = crew_make(i + 1, &e);
        struct answerer *a = answerer_make(net, crew);
        answerer_forward(a, NULL, x, 1, prob[i]);
        answerer_forward(a, NULL, x, N, prob[i]);
        assert_memory_equal(prob[0], prob[i], sizeof prob[0]);
        answerer_free(a);
        crew_free(crew);
    }
    struct net_run *run = net_run_make(net, N);
    net_forward(run, NULL, x, N, alone);
    for (int i = 0; i < N * 7; i++) assert_true(fabsf(alone[i] - prob[0][i]) < 1e-5f);
    net_run_free(run);
    net_free(net);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_huge_logits),
        cmocka_unit_test(test_offset),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_learns),
        cmocka_unit_test(test_denormals),
        cmocka_unit_test(test_grow),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_more_threads_than_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
