/*
 * net_build: from a spec to layers: what goes where, shapes, offsets and names. A ReLU goes along
 * with the layer before it, and a pool with a convolution, unless somebody names that layer's own
 * output.
 */
#include "lib/nn/layers.h"

#include <stdarg.h>
#include <stdio.h>

/* Floats: what the parameters, one image's values, and a layer's scratch may take at most. */
static const int64_t MAX_FLOATS = (int64_t)1 << 26;
enum { MAX_KERNEL = 31, MAX_POOL = 15 };

/* While a net is built; index 0 is the input, k the spec's layer k. */
struct plan {
    struct net *net;
    /* The value that holds the layer's output; 0 where that of the layer behind has taken its place. */
    int value[NET_MAX_LAYERS + 2];
    bool named[NET_MAX_LAYERS + 1]; /* by a `from` */
    struct {
        int h, w, c;
        bool flat; /* no image any more: a convolution over it would be a mistake */
        bool used;
    } of[NET_MAX_LAYERS + 2]; /* each value */
    int64_t params, values;   /* floats so far */
};

__attribute__((format(printf, 3, 4))) static enum err_kind wrong(int layer, struct err *e,
                                                                 const char *fmt, ...) {
    va_list args;
    char text[160];
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_bad(e, REASON_BAD_SHAPE, "layer %d: %s", layer, text);
}

static enum err_kind check(int layer, const char *field, int value, int least, int most,
                           struct err *e) {
    if (value >= least && value <= most) return ERR_NONE;
    return wrong(layer, e, "\"%s\" must be %d to %d, and is %d", field, least, most, value);
}

static int value_of(struct plan *p, int from) {
    int value = p->value[from == NET_INPUT ? 0 : from];
    p->of[value].used = true;
    return value;
}

static void same_shape(struct layer *l) {
    l->out_h = l->in_h;
    l->out_w = l->in_w;
    l->out_c = l->in_c;
}

static void flat_shape(struct layer *l, int units) {
    l->out_h = l->out_w = 1;
    l->out_c = units;
}

static void set_dense(struct layer *l, int units) {
    l->type = LAYER_DENSE;
    l->in_c *= l->in_h * l->in_w;
    l->in_h = l->in_w = 1;
    flat_shape(l, units);
    l->weight_count = (size_t)l->in_c * units;
}

static enum err_kind set_conv(struct layer *l, int k, const struct layer_spec *s, struct err *e) {
    if (check(k, "kernel", s->kernel, 1, MAX_KERNEL, e) ||
        check(k, "stride", s->stride, 1, MAX_KERNEL, e) ||
        check(k, "padding", s->padding, 0, s->kernel - 1, e))
        return e->kind;
    int h = l->in_h + 2 * s->padding - s->kernel, w = l->in_w + 2 * s->padding - s->kernel;
    if (h < 0 || w < 0)
        return wrong(k, e, "\"kernel\" %d is larger than the input of %d x %d with its padding",
                     s->kernel, l->in_h, l->in_w);
    l->kernel = s->kernel;
    l->stride = s->stride;
    l->padding = s->padding;
    l->out_h = h / s->stride + 1;
    l->out_w = w / s->stride + 1;
    l->out_c = s->units;
    l->weight_count = (size_t)s->kernel * s->kernel * l->in_c * s->units;
    return ERR_NONE;
}

static enum err_kind set_pool(struct layer *l, int k, const struct layer_spec *s, int h, int w,
                              struct err *e) {
    if (check(k, "kernel", s->kernel, 2, MAX_POOL, e)) return e->kind;
    if (s->kernel > h || s->kernel > w)
        return wrong(k, e, "\"kernel\" %d is larger than the input of %d x %d", s->kernel, h, w);
    l->pool = s->kernel;
    l->out_h = h / s->kernel;
    l->out_w = w / s->kernel;
    l->keep = (size_t)l->out_h * l->out_w * l->out_c;
    return ERR_NONE;
}

static enum err_kind set_norm(struct layer *l, int k, const struct layer_spec *s, struct err *e) {
    if (check(k, "groups", s->groups, 1, l->in_c, e)) return e->kind;
    if (l->in_c % s->groups)
        return wrong(k, e, "\"groups\" %d must divide the %d channels", s->groups, l->in_c);
    same_shape(l);
    l->groups = s->groups;
    l->weight_count = l->in_c;
    l->keep = 2 * l->groups * sizeof(float);
    return ERR_NONE;
}

static enum err_kind set_other(struct plan *p, struct layer *l, int k, const struct layer_spec *s,
                               struct err *e) {
    if (!s->from) return wrong(k, e, "\"from\" must name what is joined");
    l->other = value_of(p, s->from);
    int h = p->of[l->other].h, w = p->of[l->other].w, c = p->of[l->other].c;
    l->other_size = (size_t)h * w * c;
    if (s->type == LAYER_CONCAT) {
        int64_t all = (int64_t)l->in_h * l->in_w * l->in_c + (int64_t)h * w * c;
        if (all > MAX_FLOATS) return wrong(k, e, "what it makes is too large");
        flat_shape(l, (int)all);
        return ERR_NONE;
    }
    same_shape(l);
    if (h != l->in_h || w != l->in_w || c != l->in_c)
        return wrong(k, e, "\"from\" is of %d x %d x %d, what it is added to of %d x %d x %d", h, w,
                     c, l->in_h, l->in_w, l->in_c);
    return ERR_NONE;
}

/* Shapes of the spec's layer k by itself. */
static enum err_kind set_layer(struct plan *p, struct layer *l, int k, struct err *e) {
    const struct layer_spec *s = &p->net->spec.layers[k - 1];
    bool flat = p->of[l->from].flat;
    l->type = s->type;
    if ((s->type == LAYER_CONV || s->type == LAYER_MAXPOOL || s->type == LAYER_GLOBALPOOL) && flat)
        return wrong(k, e, "what comes to it is no image any more");
    if ((s->type == LAYER_CONV || s->type == LAYER_DENSE) &&
        check(k, "units", s->units, 1, NET_MAX_UNITS, e))
        return e->kind;
    switch (s->type) {
    case LAYER_DENSE: set_dense(l, s->units); return ERR_NONE;
    case LAYER_CONV: return set_conv(l, k, s, e);
    case LAYER_MAXPOOL: same_shape(l); return set_pool(l, k, s, l->in_h, l->in_w, e);
    case LAYER_RELU:
        same_shape(l);
        l->relu = true;
        return ERR_NONE;
    case LAYER_GLOBALPOOL: flat_shape(l, l->in_c); return ERR_NONE;
    case LAYER_NORM: return set_norm(l, k, s, e);
    case LAYER_ADD:
    case LAYER_CONCAT: return set_other(p, l, k, s, e);
    }
    return wrong(k, e, "its type is unknown");
}

/* The spec's layers behind k that go along with it; *k is the last of them. */
static enum err_kind take_along(struct plan *p, struct layer *l, int *k, struct err *e) {
    const struct net_spec *spec = &p->net->spec;
    for (; *k < spec->layer_count && !p->named[*k]; ++*k) {
        const struct layer_spec *s = &spec->layers[*k];
        if (s->from) return ERR_NONE;
        if (s->type == LAYER_RELU && !l->relu) {
            l->relu = true;
        } else if (s->type == LAYER_MAXPOOL && l->type == LAYER_CONV && l->pool == 1) {
            if (set_pool(l, *k + 1, s, l->out_h, l->out_w, e)) return e->kind;
        } else {
            return ERR_NONE;
        }
    }
    return ERR_NONE;
}

/* A layer whose x is the value `from`. */
static struct layer *add_layer(struct plan *p, int from) {
    struct layer *l = &p->net->layers[p->net->layer_count++];
    *l = (struct layer){.from = from,
                        .other = -1,
                        .pool = 1,
                        .in_h = p->of[from].h,
                        .in_w = p->of[from].w,
                        .in_c = p->of[from].c};
    p->of[from].used = true;
    return l;
}

/* What the layer, whose own are the spec's up to k, leaves to the next. */
static enum err_kind end_layer(struct plan *p, struct layer *l, int k, struct err *e) {
    int value = p->net->layer_count;
    int64_t window = (int64_t)l->kernel * l->kernel * l->in_c;
    int64_t strip = (int64_t)l->out_w * l->pool * l->pool * (window + l->out_c);
    p->values += (int64_t)l->out_h * l->out_w * l->out_c;
    p->params += l->weight_count ? (int64_t)l->weight_count + l->out_c : 0;
    if (p->params > MAX_FLOATS || p->values > MAX_FLOATS || strip > MAX_FLOATS)
        return wrong(k, e, "the network is too large there");
    l->in_size = (size_t)l->in_h * l->in_w * l->in_c;
    l->out_size = (size_t)l->out_h * l->out_w * l->out_c;
    p->value[k] = value;
    p->of[value].h = l->out_h;
    p->of[value].w = l->out_w;
    p->of[value].c = l->out_c;
    p->of[value].flat = l->type == LAYER_DENSE || l->type == LAYER_GLOBALPOOL ||
                        l->type == LAYER_CONCAT ||
                        (l->type != LAYER_CONV && l->type != LAYER_MAXPOOL && p->of[l->from].flat);
    return ERR_NONE;
}

static enum err_kind take_layers(struct plan *p, struct err *e) {
    struct net *net = p->net;
    const struct net_spec *spec = &net->spec;
    for (int k = 1; k <= spec->layer_count; k++) {
        int from = spec->layers[k - 1].from;
        if (from < NET_INPUT || from >= k)
            return wrong(k, e, "\"from\" must be a layer before it, or \"input\"");
        if (from > 0) p->named[from] = true;
    }
    for (int k = 1; k <= spec->layer_count; k++) {
        const struct layer_spec *s = &spec->layers[k - 1];
        bool joins = s->type == LAYER_ADD || s->type == LAYER_CONCAT;
        struct layer *l = add_layer(p, s->from && !joins ? value_of(p, s->from) : p->value[k - 1]);
        if (set_layer(p, l, k, e) || take_along(p, l, &k, e) || end_layer(p, l, k, e))
            return e->kind;
    }
    struct layer *l = add_layer(p, p->value[spec->layer_count]);
    set_dense(l, net->classes);
    for (int k = 1; k <= spec->layer_count; k++)
        if (p->value[k] && !p->of[p->value[k]].used)
            return wrong(k, e, "nothing takes what it makes");
    return end_layer(p, l, spec->layer_count + 1, e);
}

/* ---- offsets and names ---- */

static void add_tensor(struct net *net, const char *name, int number, const char *what,
                       const struct layer *l, size_t offset) {
    struct net_tensor *t = &net->tensors[net->tensor_count++];
    if (number)
        snprintf(t->name, sizeof t->name, "%s%d.%s", name, number, what);
    else
        snprintf(t->name, sizeof t->name, "%s.%s", name, what);
    t->offset = offset;
    t->rank = 0;
    t->count = offset == l->bias ? (size_t)l->out_c : l->weight_count;
    if (offset != l->bias && l->type == LAYER_CONV)
        t->shape[t->rank++] = l->kernel, t->shape[t->rank++] = l->kernel;
    if (offset != l->bias && l->type != LAYER_NORM) t->shape[t->rank++] = l->in_c;
    t->shape[t->rank++] = l->out_c;
}

static void lay_out(struct net *net) {
    size_t offset = 0;
    int convs = 0, denses = 0, norms = 0;
    for (int i = 0; i < net->layer_count; i++) {
        struct layer *l = &net->layers[i];
        if (!l->weight_count) continue;
        l->weight = offset;
        l->bias = offset + l->weight_count;
        offset = l->bias + l->out_c;
        const char *name = "classes";
        int number = 0;
        if (l->type == LAYER_CONV) name = "conv", number = ++convs;
        if (l->type == LAYER_NORM) name = "norm", number = ++norms;
        if (l->type == LAYER_DENSE && i < net->layer_count - 1) name = "dense", number = ++denses;
        add_tensor(net, name, number, "weight", l, l->weight);
        add_tensor(net, name, number, "bias", l, l->bias);
    }
    net->param_count = offset;
}

/* Backward goes through the layers from the last on: who comes first to a value's gradient writes
   it, the others add. */
static void share_gradients(struct net *net) {
    bool written[NET_MAX_LAYERS + 2] = {0};
    for (int i = net->layer_count - 1; i >= 0; i--) {
        struct layer *l = &net->layers[i];
        l->adds = written[l->from];
        written[l->from] = true;
        if (l->other < 0) continue;
        l->other_adds = written[l->other];
        written[l->other] = true;
    }
}

enum err_kind net_build(struct net *net, struct err *e) {
    const struct net_spec *spec = &net->spec;
    struct plan plan = {.net = net};
    if (spec->height < 1 || spec->height > NET_MAX_SIDE || spec->width < 1 ||
        spec->width > NET_MAX_SIDE || spec->channels < 1 || spec->channels > NET_MAX_CHANNELS)
        return err_bad(e, REASON_BAD_SHAPE, "an input of %d x %d x %d is out of range",
                       spec->height, spec->width, spec->channels);
    if (spec->layer_count < 0 || spec->layer_count > NET_MAX_LAYERS)
        return err_bad(e, REASON_BAD_SHAPE, "%d layers are out of range (at most %d)",
                       spec->layer_count, NET_MAX_LAYERS);
    if (net->classes < 1 || net->classes > NET_MAX_CLASSES)
        return err_bad(e, REASON_BAD_SHAPE, "%d classes are out of range (1 to %d)", net->classes,
                       NET_MAX_CLASSES);
    plan.of[0].h = spec->height;
    plan.of[0].w = spec->width;
    plan.of[0].c = spec->channels;
    if (take_layers(&plan, e)) return e->kind;
    lay_out(net);
    share_gradients(net);
    return ERR_NONE;
}
