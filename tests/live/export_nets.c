/*
 * export_nets DIR: nets of every kind of layer, in many shapes, with weights and normalisation by chance, as
 * DIR/<name>.safetensors, .onnx and .json, with images in <name>.images (uint8, N x H x W x C) and what our own
 * forward answers in <name>.answers (float32, N x classes), for tests/live/export_test.py.
 */
#include "lib/export/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { IMAGES = 32 };

#define DENSE(n)                                                                                   \
    { .type = LAYER_DENSE, .units = n }
#define CONV(n, k, s, p)                                                                           \
    { .type = LAYER_CONV, .units = n, .kernel = k, .stride = s, .padding = p }
#define POOL(k)                                                                                    \
    { .type = LAYER_MAXPOOL, .kernel = k }
#define RELU                                                                                       \
    { .type = LAYER_RELU }
#define RELU_OF(layer)                                                                             \
    { .type = LAYER_RELU, .from = layer }
#define CONV_OF(layer, n, k, s, p)                                                                 \
    { .type = LAYER_CONV, .units = n, .kernel = k, .stride = s, .padding = p, .from = layer }
#define DENSE_OF(layer, n)                                                                         \
    { .type = LAYER_DENSE, .units = n, .from = layer }
#define GLOBALPOOL                                                                                 \
    { .type = LAYER_GLOBALPOOL }
#define NORM(n)                                                                                    \
    { .type = LAYER_NORM, .groups = n }
#define ADD(layer)                                                                                 \
    { .type = LAYER_ADD, .from = layer }
#define CONCAT(layer)                                                                              \
    { .type = LAYER_CONCAT, .from = layer }

static const struct {
    const char *name;
    float temperature; /* 0: none is set */
    int classes;
    struct net_spec spec; /* or only the size of the input of */
    void (*ready)(struct net_spec *spec, int height, int width, int channels);
} nets[] = {
    {"classes_alone", 0, 3, {5, 4, 1, 0, {{0}}}},
    {"dense", 0, 10, {28, 28, 1, 2, {DENSE(64), RELU}}},
    {"dense_colour", 0, 4, {6, 9, 3, 4, {DENSE(20), RELU, DENSE(11), RELU}}},
    {"conv",
     0,
     10,
     {28,
      28,
      1,
      8,
      {CONV(8, 5, 1, 0), RELU, POOL(2), CONV(12, 5, 1, 0), RELU, POOL(2), DENSE(32), RELU}}},
    {"conv_to_classes", 0, 5, {9, 7, 3, 1, {CONV(6, 3, 1, 1)}}},
    {"stride", 0, 7, {17, 22, 3, 4, {CONV(5, 4, 3, 2), RELU, CONV(7, 3, 2, 1), RELU}}},
    {"pool_with_rest", 0, 6, {19, 16, 3, 5, {CONV(6, 3, 1, 1), POOL(3), RELU, DENSE(9), RELU}}},
    {"tempered", 1.75f, 10, {14, 12, 1, 4, {CONV(4, 3, 1, 1), RELU, POOL(2), DENSE(16)}}},
    {"resnet_small", 0, 10, {32, 32, 3, 0, {{0}}}, net_spec_resnet_small},
    {"resnet_small_grey", 1.25f, 5, {20, 16, 1, 0, {{0}}}, net_spec_resnet_small},
    {"wide_and_deep", 0, 6, {14, 11, 3, 0, {{0}}}, net_spec_wide_and_deep},
    {"wide_beside_deep", 0, 5, {10, 8, 3, 3, {CONV(6, 3, 1, 0), RELU, CONCAT(NET_INPUT)}}},
    {"add_input", 0, 4, {9, 7, 3, 4, {CONV(3, 3, 1, 1), ADD(NET_INPUT), RELU, DENSE(8)}}},
    {"add_to_input", 0, 4, {9, 7, 3, 3, {CONV(3, 3, 1, 1), RELU_OF(NET_INPUT), ADD(1)}}},
    {"add_pixels", 0, 4, {6, 9, 2, 4, {RELU, ADD(NET_INPUT), ADD(1), CONV(5, 3, 2, 1)}}},
    {"add_dense", 0, 4, {5, 6, 1, 4, {DENSE(9), RELU, DENSE(9), ADD(2)}}},
    {"concat_convs",
     0,
     7,
     {12,
      10,
      2,
      5,
      {CONV(4, 3, 1, 1), CONV_OF(NET_INPUT, 6, 5, 2, 0), CONCAT(1), RELU, DENSE(16)}}},
    {"concat_itself", 0, 3, {6, 5, 1, 3, {CONV(4, 3, 1, 0), CONCAT(1), NORM(8)}}},
    {"norm_dense", 0, 6, {8, 9, 1, 5, {DENSE(24), NORM(4), RELU, DENSE(10), NORM(1)}}},
    {"norm_input", 0, 5, {7, 8, 4, 4, {NORM(2), RELU, CONV(6, 3, 1, 0), NORM(6)}}},
    {"pool_input", 0, 5, {8, 11, 3, 3, {POOL(2), NORM(3), DENSE(9)}}},
    {"global_input", 0, 5, {2, 3, 4, 3, {GLOBALPOOL, DENSE(20), RELU}}},
    {"global_conv", 0, 5, {6, 7, 2, 4, {CONV(9, 3, 1, 1), RELU, GLOBALPOOL, NORM(3)}}},
    /* One place: an image and a flat value are of one shape, and may be added. */
    {"one_place",
     0,
     4,
     {5, 5, 2, 6, {CONV(6, 5, 1, 0), GLOBALPOOL, ADD(1), RELU_OF(1), ADD(3), CONV(7, 1, 1, 0)}}},
    /* One value taken as an image and flattened, with and without its ReLU. */
    {"taken_again",
     0,
     6,
     {7,
      6,
      3,
      8,
      {CONV(4, 3, 1, 1), RELU, CONV(4, 3, 1, 1), ADD(2), DENSE_OF(1, 12), CONCAT(4),
       CONCAT(NET_INPUT), CONCAT(2)}}},
};

static void die(const char *what) {
    fprintf(stderr, "export_nets: %s\n", what);
    exit(1);
}

static void put(const char *dir, const char *name, const char *ending, struct bytes data) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", dir, name, ending);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data.data, 1, data.len, f) != data.len || fclose(f) != 0) die(path);
}

static uint64_t seed = 7;
static uint32_t chance(void) { /* Knuth's MMIX generator */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33);
}

int main(int argc, char **argv) {
    if (argc != 2) die("usage: export_nets DIR");
    for (size_t k = 0; k < sizeof nets / sizeof *nets; k++) {
        struct err e = {0};
        int classes = nets[k].classes;
        struct net_spec spec = nets[k].spec;
        if (nets[k].ready) nets[k].ready(&spec, spec.height, spec.width, spec.channels);
        struct model m = {.net = net_make(&spec, classes, k + 1, &e)};
        if (!m.net) die(e.text);
        for (int c = 0; c < classes; c++) {
            char label[32];
            snprintf(label, sizeof label, c ? "class \"%d\"" : "\xc3\xa4pfel", c);
            model_add_label(&m, label);
        }
        model_set_note(&m, "alpha", "black");
        if (nets[k].temperature) net_set_temperature(m.net, nets[k].temperature);
        float *params = net_params(m.net);
        for (size_t i = 0; i < net_param_count(m.net); i++)
            params[i] += (float)chance() / 4e10f - .025f;
        *net_norm(m.net) = (struct net_norm){{.13f, .4f, .25f, .31f}, {3.2f, 1.5f, 2.25f, 1.1f}};

        size_t size = IMAGES * net_image_size(m.net);
        uint8_t *images = mem_alloc(size);
        float *prob = mem_alloc((size_t)(IMAGES * classes) * sizeof *prob);
        for (size_t i = 0; i < size; i++) images[i] = (uint8_t)chance();
        struct net_run *run = net_run_make(m.net, IMAGES);
        net_forward(run, NULL, images, IMAGES, prob);

        struct buf file = {0}, onnx = {0}, json = {0};
        const struct export_name name = {bytes_of(nets[k].name), BYTES("0123456789abcdef"),
                                         (int64_t)k + 1};
        if (model_save(&m, NULL, &file, &e) || export_onnx(buf_bytes(&file), &name, &onnx, &e) ||
            export_json(buf_bytes(&file), &name, &json, &e))
            die(e.text);
        put(argv[1], nets[k].name, "safetensors", buf_bytes(&file));
        put(argv[1], nets[k].name, "onnx", buf_bytes(&onnx));
        put(argv[1], nets[k].name, "json", buf_bytes(&json));
        put(argv[1], nets[k].name, "images", (struct bytes){images, size});
        put(argv[1], nets[k].name, "answers",
            (struct bytes){prob, (size_t)(IMAGES * classes) * sizeof *prob});
        buf_free(&file);
        buf_free(&onnx);
        buf_free(&json);
        net_run_free(run);
        free(images);
        free(prob);
        model_free(&m);
    }
    return 0;
}
