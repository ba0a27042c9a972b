/* net_spec: a table says which type has which fields; reader, writer and comparison go by it. */
#include "lib/nn/net_spec.h"

#include <string.h>

/* ORDER layer_type */
static const char *const types[] = {"dense",      "conv", "maxpool", "relu",
                                    "globalpool", "norm", "add",     "concat"};
enum { TYPES = sizeof types / sizeof *types, NEEDED = -1, MOST = 1 << 20 };

#define OF(type) (1u << LAYER_##type)
static const struct field {
    const char *name;
    size_t at;      /* an int of struct layer_spec */
    unsigned types; /* bits: those that have it */
    int preset;     /* or NEEDED */
} fields[] = {
    {"units", offsetof(struct layer_spec, units), OF(DENSE) | OF(CONV), NEEDED},
    {"kernel", offsetof(struct layer_spec, kernel), OF(CONV) | OF(MAXPOOL), NEEDED},
    {"stride", offsetof(struct layer_spec, stride), OF(CONV), 1},
    {"padding", offsetof(struct layer_spec, padding), OF(CONV), 0},
    {"groups", offsetof(struct layer_spec, groups), OF(NORM), NEEDED},
};
enum { FIELDS = sizeof fields / sizeof *fields };

static bool has(const struct layer_spec *l, const struct field *f) {
    return f->types >> l->type & 1;
}

static int get(const struct layer_spec *l, const struct field *f) {
    return *(const int *)(const void *)((const char *)l + f->at);
}

static void set(struct layer_spec *l, const struct field *f, int value) {
    *(int *)(void *)((char *)l + f->at) = value;
}

bool net_spec_equal(const struct net_spec *a, const struct net_spec *b) {
    if (a->height != b->height || a->width != b->width || a->channels != b->channels ||
        a->layer_count != b->layer_count)
        return false;
    for (int i = 0; i < a->layer_count; i++) {
        const struct layer_spec *x = &a->layers[i], *y = &b->layers[i];
        if (x->type != y->type || x->from != y->from) return false;
        for (int k = 0; k < FIELDS; k++)
            if (has(x, &fields[k]) && get(x, &fields[k]) != get(y, &fields[k])) return false;
    }
    return true;
}

/* ---- writing ---- */

void net_spec_write(const struct net_spec *spec, struct buf *to) {
    struct json_writer w = json_begin(to);
    json_put_int(&w, "height", spec->height);
    json_put_int(&w, "width", spec->width);
    json_put_int(&w, "channels", spec->channels);
    json_open_array(&w, "layers");
    for (int i = 0; i < spec->layer_count; i++) {
        const struct layer_spec *l = &spec->layers[i];
        json_open_object(&w, NULL);
        json_put_text(&w, "type", bytes_of(types[l->type]));
        for (int k = 0; k < FIELDS; k++)
            if (has(l, &fields[k])) json_put_int(&w, fields[k].name, get(l, &fields[k]));
        if (l->from == NET_INPUT) json_put_text(&w, "from", BYTES("input"));
        if (l->from > 0) json_put_int(&w, "from", l->from);
        json_close_object(&w);
    }
    json_close_array(&w);
    json_end(&w);
}

/* ---- reading ---- */

/* A name that came with the layers, where it is fit for a line of text. */
static const char *shown(const char *name) {
    return strlen(name) <= 40 && bytes_is_clean_text(bytes_of(name)) ? name : "...";
}

static enum err_kind wrong(struct err *e, int number, const char *type, const char *field,
                           const char *what) {
    return err_bad(e, REASON_BAD_SHAPE, "layer %d%s%s%s: \"%s\" %s", number, *type ? " (" : "",
                   type, *type ? ")" : "", shown(field), what);
}

static bool get_int(const struct json *o, const char *name, int least, int *out) {
    struct err ignored = {0};
    int64_t n;
    if (json_get_int(o, name, true, &n, &ignored) || n < least || n > MOST) return false;
    *out = (int)n;
    return true;
}

static bool get_from(const struct json *o, int *out) {
    struct err ignored = {0};
    struct bytes text;
    if (!json_get_text(o, "from", true, &text, &ignored) && bytes_is(text, "input")) {
        *out = NET_INPUT;
        return true;
    }
    return get_int(o, "from", 1, out);
}

static const struct field *find_field(const struct layer_spec *l, const char *name) {
    for (int k = 0; k < FIELDS; k++)
        if (has(l, &fields[k]) && strcmp(name, fields[k].name) == 0) return &fields[k];
    return NULL;
}

static enum err_kind read_type(const struct json *v, int number, struct layer_spec *l,
                               struct err *e) {
    struct err ignored = {0};
    struct bytes type;
    if (!json_is_object(v))
        return err_bad(e, REASON_BAD_SHAPE, "layer %d: it must be an object with a \"type\"",
                       number);
    int k = 0;
    if (json_get_text(v, "type", true, &type, &ignored)) k = TYPES;
    while (k < TYPES && !bytes_is(type, types[k])) k++;
    if (k == TYPES)
        return wrong(e, number, "", "type",
                     "must be dense, conv, maxpool, relu, globalpool, norm, add or concat");
    l->type = (enum layer_type)k;
    return ERR_NONE;
}

static enum err_kind read_layer(const struct json *v, int number, struct layer_spec *l,
                                struct err *e) {
    *l = (struct layer_spec){0};
    if (read_type(v, number, l, e)) return e->kind;
    const char *type = types[l->type];
    for (const struct json *m = json_first(v); m; m = json_next(m)) {
        const char *name = json_name(m);
        if (strcmp(name, "type") == 0) continue;
        if (strcmp(name, "from") == 0) {
            if (!get_from(v, &l->from))
                return wrong(e, number, type, name, "must be a layer's number, or \"input\"");
        } else if (!find_field(l, name)) {
            return wrong(e, number, type, name, "is no field of such a layer");
        }
    }
    for (int k = 0; k < FIELDS; k++) {
        const struct field *f = &fields[k];
        int value = f->preset;
        if (!has(l, f)) continue;
        if (!json_member(v, f->name) && f->preset == NEEDED)
            return wrong(e, number, type, f->name, "is missing");
        if (json_member(v, f->name) && !get_int(v, f->name, 0, &value))
            return wrong(e, number, type, f->name, "must be a whole number from 0 on");
        set(l, f, value);
    }
    return ERR_NONE;
}

static enum err_kind read_layers(const struct json *list, struct net_spec *spec, struct err *e) {
    if (!json_is_array(list) || json_count(list) > NET_MAX_LAYERS)
        return err_bad(e, REASON_BAD_SHAPE, "the layers must be a list of at most %d",
                       NET_MAX_LAYERS);
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        spec->layer_count++;
        if (read_layer(v, spec->layer_count, &spec->layers[spec->layer_count - 1], e))
            return e->kind;
    }
    return ERR_NONE;
}

enum err_kind net_spec_read(const struct json *v, struct net_spec *out, struct err *e) {
    *out = (struct net_spec){0};
    if (!json_is_object(v) || !get_int(v, "height", 1, &out->height) ||
        !get_int(v, "width", 1, &out->width) || !get_int(v, "channels", 1, &out->channels))
        return err_bad(e, REASON_BAD_SHAPE, "height, width or channels are no size");
    return read_layers(json_member(v, "layers"), out, e);
}

enum err_kind net_spec_from_json(const struct json *v, int height, int width, int channels,
                                 struct net_spec *out, struct err *e) {
    struct err ignored = {0};
    struct bytes name;
    char text[32] = "";
    if (json_is_object(v)) {
        for (const struct json *m = json_first(v); m; m = json_next(m))
            if (strcmp(json_name(m), "network") != 0)
                return err_bad(e, REASON_BAD_SHAPE, "\"%s\" is no field beside \"network\"",
                               shown(json_name(m)));
        v = json_member(v, "network");
    }
    *out = (struct net_spec){.height = height, .width = width, .channels = channels};
    if (json_is_array(v)) {
        if (read_layers(v, out, e)) return e->kind;
    } else if (!v || json_as_text(v, &name, &ignored) || name.len >= sizeof text) {
        return err_bad(e, REASON_BAD_SHAPE,
                       "\"network\" must be a list of layers, " NET_READY_NAMES);
    } else {
        memcpy(text, name.data, name.len);
        if (net_spec_ready(text, height, width, channels, out, e)) return e->kind;
    }
    return net_spec_param_count(out, 1, e) ? ERR_NONE : e->kind;
}
