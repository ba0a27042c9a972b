/* net_ready: the networks that have a name. */
#include "lib/nn/net_spec.h"

#include <string.h>

static void begin(struct net_spec *spec, int height, int width, int channels) {
    *spec = (struct net_spec){.height = height, .width = width, .channels = channels};
}

/* Returns the layer's number, for the `from` of another. */
static int put(struct net_spec *spec, struct layer_spec l) {
    spec->layers[spec->layer_count++] = l;
    return spec->layer_count;
}

static void dense_relu(struct net_spec *spec, int units) {
    put(spec, (struct layer_spec){.type = LAYER_DENSE, .units = units});
    put(spec, (struct layer_spec){.type = LAYER_RELU});
}

/* dense 256, ReLU */
void net_spec_mlp(struct net_spec *spec, int height, int width, int channels) {
    begin(spec, height, width, channels);
    dense_relu(spec, 256);
}

/* conv 5x5x32, ReLU, pool 2, conv 5x5x64, ReLU, pool 2, dense 256, ReLU. Sides below 16 get padding
   2, and no pool that would leave nothing. */
void net_spec_cnn(struct net_spec *spec, int height, int width, int channels) {
    int padding = height < 16 || width < 16 ? 2 : 0;
    begin(spec, height, width, channels);
    for (int units = 32; units <= 64; units *= 2) {
        put(spec,
            (struct layer_spec){
                .type = LAYER_CONV, .units = units, .kernel = 5, .stride = 1, .padding = padding});
        put(spec, (struct layer_spec){.type = LAYER_RELU});
        height += 2 * padding - 4;
        width += 2 * padding - 4;
        if (height < 2 || width < 2) continue;
        put(spec, (struct layer_spec){.type = LAYER_MAXPOOL, .kernel = 2});
        height /= 2;
        width /= 2;
    }
    dense_relu(spec, 256);
}

/*
 * Wide and deep (Cheng et al. 2016): dense 256, ReLU, dense 128, ReLU beside the input itself. The
 * dense layer to the classes takes both, so a class's logit is a linear function of the pixels plus
 * one of what the deep path made of them: the two paths are added there and are trained together.
 */
void net_spec_wide_and_deep(struct net_spec *spec, int height, int width, int channels) {
    begin(spec, height, width, channels);
    dense_relu(spec, 256);
    dense_relu(spec, 128);
    put(spec, (struct layer_spec){.type = LAYER_CONCAT, .from = NET_INPUT});
}

/* ---- resnet-small ---- */

enum { GROUP = 8, FIRST_UNITS = 16, MOST_UNITS = 128 };

static int conv(struct net_spec *spec, int units, int kernel, int stride, int from) {
    return put(spec, (struct layer_spec){.type = LAYER_CONV,
                                         .units = units,
                                         .kernel = kernel,
                                         .stride = stride,
                                         .padding = kernel / 2,
                                         .from = from});
}

static int norm(struct net_spec *spec, int units) {
    return put(spec, (struct layer_spec){.type = LAYER_NORM, .groups = units / GROUP});
}

/* conv 3x3, norm, ReLU, conv 3x3, norm, plus what came in, ReLU. With a stride of 2 what came in
   takes a conv 1x1 with the same stride to the new shape. */
static void block(struct net_spec *spec, int units, int stride) {
    int in = spec->layer_count, shortcut = in;
    if (stride > 1) shortcut = conv(spec, units, 1, stride, 0);
    conv(spec, units, 3, stride, stride > 1 ? in : 0);
    norm(spec, units);
    put(spec, (struct layer_spec){.type = LAYER_RELU});
    conv(spec, units, 3, 1, 0);
    norm(spec, units);
    put(spec, (struct layer_spec){.type = LAYER_ADD, .from = shortcut});
    put(spec, (struct layer_spec){.type = LAYER_RELU});
}

/*
 * A residual network (He et al. 2016) that two processor cores can train: a first convolution whose
 * stride brings the larger side down to 48 pixels or (with its stride of at most 4) near, a residual
 * block, then blocks with a stride of 2 until the larger side is at most 4, each with twice the
 * filters of the one before, from 16 to at most 128; then the mean over what is left of the image.
 *
 *   input          multiplications an image   parameters
 *   32 x 32 x 3    16 million                  0.3 million
 *   64 x 48 x 3    12 million                  0.3 million
 *   224 x 224 x 3  61 million                  0.6 million
 */
void net_spec_resnet_small(struct net_spec *spec, int height, int width, int channels) {
    int side = height > width ? height : width, units = FIRST_UNITS;
    int stride = side <= 48 ? 1 : side <= 96 ? 2 : 4;
    begin(spec, height, width, channels);
    conv(spec, units, stride == 4 ? 7 : 3, stride, 0);
    norm(spec, units);
    put(spec, (struct layer_spec){.type = LAYER_RELU});
    block(spec, units, 1);
    for (side = (side + stride - 1) / stride; side > 4; side = (side + 1) / 2) {
        units = units < MOST_UNITS ? 2 * units : MOST_UNITS;
        block(spec, units, 2);
    }
    put(spec, (struct layer_spec){.type = LAYER_GLOBALPOOL});
}

/* ---- by name ---- */

static const struct {
    const char *name;
    void (*make)(struct net_spec *spec, int height, int width, int channels);
} ready[] = {
    {"mlp", net_spec_mlp},
    {"cnn", net_spec_cnn},
    {"wide-and-deep", net_spec_wide_and_deep},
    {"resnet-small", net_spec_resnet_small},
};

/* Digits and letters are strokes on one plane: two wide convolutions are enough for them and train
   fastest. Colour and larger pictures take more layers, and the pixels' places mean less. */
const char *net_spec_auto(int height, int width, int channels) {
    return channels == 1 && height <= 48 && width <= 48 ? "cnn" : "resnet-small";
}

enum err_kind net_spec_ready(const char *name, int height, int width, int channels,
                             struct net_spec *out, struct err *e) {
    if (strcmp(name, "auto") == 0) name = net_spec_auto(height, width, channels);
    for (size_t i = 0; i < sizeof ready / sizeof *ready; i++)
        if (strcmp(name, ready[i].name) == 0) {
            ready[i].make(out, height, width, channels);
            return ERR_NONE;
        }
    return err_bad(e, REASON_BAD_SHAPE, "\"network\" must be a list of layers, " NET_READY_NAMES);
}
