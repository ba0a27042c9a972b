/* spec: the file is read whole; a wrong field is fatal at the start, never a default in silence. */
#include "lib/learn/spec.h"

#include "lib/base/json.h"
#include "lib/nn/trainer.h"
#include "proto/event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct spec, field)
/* One field a line: README.md has them so, and a test compares. */
/* clang-format off */
const struct setting spec_settings[] = {
    {"input.width", SETTING_INT, AT(width), "28", "pixels; images of another size are resized", NULL, 1, 1024, 0},
    {"input.height", SETTING_INT, AT(height), "28", "pixels", NULL, 1, 1024, 0},
    {"input.channels", SETTING_INT, AT(channels), "1", "1 is grey, 3 is RGB", NULL, 1, 3, 0},
    {"input.alpha", SETTING_CHOICE, AT(alpha), "white", "what transparent pixels stand before", "white|black", 0, 0, 0},
    {"network", SETTING_TEXT, AT(network), "auto", "which network learns: mlp, cnn, wide-and-deep or resnet-small; auto chooses by the input; or a list of layers", NULL, 0, 0, 0},
    {"batch.count", SETTING_INT, AT(batch_count), "1000", "images that close a batch", NULL, 1, 4096, 0},
    {"batch.age", SETTING_TIME, AT(batch_age_ms), "3s", "age of its oldest image that closes a batch", NULL, 1, 8.64e7, 0},
    {"train.passes", SETTING_REAL, AT(passes), "8.5", "presentations for every new image, those of older images included", NULL, 0.01, 1000, 0},
    {"train.corrected", SETTING_REAL, AT(corrected), "4", "new images that a corrected one is worth: what was learned wrong takes longer to unlearn", NULL, 1, 1000, 0},
    {"train.minibatch", SETTING_INT, AT(minibatch), "128", "images in a step", NULL, 1, 4096, 0},
    {"train.optimizer", SETTING_CHOICE, AT(optimizer), "sgd", "what moves the weights; adamw is Adam with decoupled weight decay", "sgd|adamw", 0, 0, 0},
    {"train.rate", SETTING_REAL, AT(rate), "0", "learning rate; 0: 0.05 for sgd, 0.002 for adamw", NULL, 0, 10, 0},
    {"train.momentum", SETTING_REAL, AT(momentum), "0.9", "momentum; of adamw the first moment's decay", NULL, 0, 0.999, 0},
    {"train.decay", SETTING_REAL, AT(decay), "0.0001", "weight decay", NULL, 0, 1, 0},
    {"train.smoothing", SETTING_REAL, AT(smoothing), "0.05", "label smoothing", NULL, 0, 0.5, 0},
    {"train.average", SETTING_REAL, AT(average), "0.9985", "decay of the exponential average of the weights, a step", NULL, 0, 0.99999, 0},
    {"train.fresh", SETTING_REAL, AT(fresh), "0.12", "share of a step's images that are new; the rest are drawn from all before", NULL, 0.01, 1, 0},
    {"train.balance", SETTING_REAL, AT(balance), "0.5", "labels count as often as they come (1), all alike (0), or between", NULL, 0, 1, 0},
    {"augment", SETTING_CHOICE, AT(augments), "auto", "how training images are changed each time they are seen; auto: characters when grey, photos when not", "auto|characters|photos|none", 0, 0, 0},
    {"augment.rotate", SETTING_REAL, AT(augment.rotate), "-1", "turned by up to so many degrees; -1, here and below: as augment says", NULL, -1, 180, 0},
    {"augment.scale", SETTING_REAL, AT(augment.scale), "-1", "each side stretched or shrunk by up to this share", NULL, -1, 0.9, 0},
    {"augment.shear", SETTING_REAL, AT(augment.shear), "-1", "slanted by up to this tangent", NULL, -1, 2, 0},
    {"augment.shift", SETTING_REAL, AT(augment.shift), "-1", "moved by up to this share of the side", NULL, -1, 0.9, 0},
    {"augment.elastic", SETTING_REAL, AT(augment.elastic), "-1", "bent: points of a grid move by up to this share of the side", NULL, -1, 0.5, 0},
    {"augment.flip", SETTING_REAL, AT(augment.flip), "-1", "chance of being mirrored, left for right", NULL, -1, 1, 0},
    {"augment.crop", SETTING_REAL, AT(augment.crop), "-1", "cut by up to this share of the sides", NULL, -1, 0.9, 0},
    {"augment.color", SETTING_REAL, AT(augment.color), "-1", "brightness, contrast and saturation changed by up to this share", NULL, -1, 1, 0},
    {"evaluation.share", SETTING_REAL, AT(eval_share), "0.08", "share of the images that is held out, by hash of the id", NULL, 0, 0.9, 0},
    {"evaluation.most", SETTING_INT, AT(eval_most), "4000", "images to judge a version on, at most", NULL, 0, 1e6, 0},
    {"deploy.rule", SETTING_CHOICE, AT(deploy_rule), "fresh", "fresh: the newest serves unless it is worse beyond chance; better: only what is better beyond chance", "fresh|better", 0, 0, 0},
    {"deploy.error", SETTING_REAL, AT(deploy_error), "0.05", "error rate of the test that says what is beyond chance", NULL, 1e-9, 0.5, 0},
    {"deploy.margin", SETTING_REAL, AT(deploy_margin), "1", "points of accuracy that what fresh promotes may be below the best version so far", NULL, 0, 100, 0},
    {"deploy.floor", SETTING_REAL, AT(deploy_floor), "0", "accuracy on the held-out images below which no version is promoted", NULL, 0, 1, 0},
    {"keep.images", SETTING_INT, AT(keep_images), "1000000", "images kept in the store, oldest out first; 0 is all", NULL, 0, 1e12, 0},
    {"keep.age", SETTING_TIME, AT(keep_age_ms), "0s", "how long an image is kept; 0 is for ever", NULL, 0, 0, 0},
    {"keep.versions", SETTING_INT, AT(keep_versions), "20", "versions whose weights, training state and report are kept", NULL, 2, 1e6, 0},
    {0}};
/* clang-format on */

enum err_kind spec_net(const struct spec *s, struct net_spec *out, struct err *e) {
    int height = (int)s->height, width = (int)s->width, channels = (int)s->channels;
    if (*s->network != '[') return net_spec_ready(s->network, height, width, channels, out, e);
    struct json *layers = json_parse(bytes_of(s->network), e);
    if (layers) (void)!net_spec_from_json(layers, height, width, channels, out, e);
    json_free(layers);
    return e->kind;
}

double spec_rate(const struct spec *s) {
    return s->rate > 0 ? s->rate : s->optimizer == OPTIMIZER_ADAM ? 0.002 : 0.05;
}

struct augment spec_augment(const struct spec *s) {
    static const struct augment sets[] = {
        [AUGMENT_CHARACTERS] =
            {.rotate = 11, .scale = 0.12, .shear = 0.15, .shift = 0.09, .elastic = 0.015},
        [AUGMENT_PHOTOS] =
            {.rotate = 5, .scale = 0.1, .shift = 0.06, .flip = 0.5, .crop = 0.15, .color = 0.2},
        [AUGMENT_NONE] = {0},
    };
    int set = s->augments == AUGMENT_AUTO ? s->channels == 1 ? AUGMENT_CHARACTERS : AUGMENT_PHOTOS
                                          : s->augments;
    struct augment how = sets[set];
    const double *own = (const double *)&s->augment;
    double *value = (double *)&how;
    for (size_t i = 0; i < sizeof how / sizeof *value; i++)
        if (own[i] >= 0) value[i] = own[i];
    return how;
}

struct named {
    char name[EVENT_MODEL_MAX + 1];
    struct spec spec;
};

struct specs {
    struct spec preset;
    struct arena texts; /* of the specs */
    struct named *list;
    size_t count;
};

static enum err_kind read_whole(const char *path, struct buf *out, struct err *e) {
    FILE *f = fopen(path, "rb");
    if (!f) return err_fatal(e, "the models' file %s cannot be opened: %s", path, strerror(errno));
    char piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) buf_add(out, piece, n);
    bool bad = ferror(f) != 0;
    fclose(f);
    return bad ? err_fatal(e, "the models' file %s cannot be read: %s", path, strerror(errno))
               : ERR_NONE;
}

/* A member's value as it would be typed into a setting; false for an object, array or null. */
static bool as_typed(const struct json *o, const char *name, char *out, size_t size) {
    struct err ignored = {0};
    struct bytes text = {0};
    double number;
    bool yes;
    if (!json_get_text(o, name, true, &text, &ignored))
        return snprintf(out, size, "%.*s", (int)text.len, (const char *)text.data) < (int)size;
    if (!json_get_real(o, name, true, &number, &ignored))
        return snprintf(out, size, "%.15g", number) < (int)size;
    if (!json_get_bool(o, name, true, &yes, &ignored))
        return snprintf(out, size, "%s", yes ? "true" : "false") < (int)size;
    return false;
}

/* A name or a list of layers. */
static const char *as_text(const struct json *v, struct arena *a) {
    struct err ignored = {0};
    struct bytes text = {0};
    struct buf json = {0};
    if (!json_as_text(v, &text, &ignored)) return arena_text(a, text);
    json_print(v, &json);
    const char *copy = arena_text(a, buf_bytes(&json));
    buf_free(&json);
    return copy;
}

static enum err_kind read_spec(const struct json *o, const char *path, struct specs *specs,
                               struct named *m, struct err *e) {
    struct net_spec net;
    for (const struct json *v = json_first(o); v; v = json_next(v)) {
        const struct setting *s = spec_settings;
        char text[128], from[320];
        while (s->name && strcmp(s->name, json_name(v)) != 0) s++;
        snprintf(from, sizeof from, "%.120s: model %s: \"%.40s\"", path, m->name, json_name(v));
        if (!s->name)
            return err_fatal(e, "%.180s is no field of a spec; README.md lists them", from);
        const char *typed = text;
        if (s->type == SETTING_TEXT)
            typed = as_text(v, &specs->texts);
        else if (!as_typed(o, json_name(v), text, sizeof text))
            return err_fatal(e, "%.180s must be a text or a number", from);
        if (settings_put(s, &m->spec, typed, from, e)) return e->kind;
    }
    if (m->spec.channels == 2)
        return err_fatal(e, "%.120s: model %s: \"input.channels\" must be 1 or 3", path, m->name);
    if (spec_net(&m->spec, &net, e)) {
        char was[sizeof e->text];
        memcpy(was, e->text, sizeof was);
        return err_fatal(e, "%.80s: model %s: %.150s", path, m->name, was);
    }
    return ERR_NONE;
}

static enum err_kind read_models(const struct json *models, const char *path, struct specs *s,
                                 struct err *e) {
    if (!json_is_object(models))
        return err_fatal(e, "%s: \"models\" must be an object of name: spec", path);
    s->list = mem_zeroed(json_count(models), sizeof *s->list);
    for (const struct json *v = json_first(models); v; v = json_next(v)) {
        struct named *m = &s->list[s->count];
        if (!event_model_is_valid(bytes_of(json_name(v))))
            return err_fatal(e,
                             "%s: a model's name must be 1 to %d of a-z, 0-9, '.', '_' and '-': "
                             "\"%.64s\" is not",
                             path, EVENT_MODEL_MAX, json_name(v));
        if (!json_is_object(v))
            return err_fatal(e, "%s: model %s: a spec must be an object", path, json_name(v));
        snprintf(m->name, sizeof m->name, "%s", json_name(v));
        m->spec = s->preset;
        s->count++;
        if (read_spec(v, path, s, m, e)) return e->kind;
    }
    return ERR_NONE;
}

struct specs *specs_load(const char *path, struct err *e) {
    struct specs *s = mem_zeroed(1, sizeof *s);
    struct buf text = {0};
    struct json *root = NULL;
    for (const struct setting *p = spec_settings; p->name; p++)
        if (settings_put(p, &s->preset, p->preset, p->name, e)) goto fail;
    if (!path || !*path) return s;
    if (read_whole(path, &text, e)) goto fail;
    root = json_parse(buf_bytes(&text), e);
    if (!root) {
        char was[sizeof e->text];
        memcpy(was, e->text, sizeof was);
        err_fatal(e, "%.100s: %.120s", path, was);
        goto fail;
    }
    if (read_models(json_member(root, "models"), path, s, e)) goto fail;
    json_free(root);
    buf_free(&text);
    return s;
fail:
    json_free(root);
    buf_free(&text);
    specs_free(s);
    return NULL;
}

void specs_free(struct specs *s) {
    if (!s) return;
    arena_free(&s->texts);
    free(s->list);
    free(s);
}

size_t specs_largest(const struct specs *s) {
    size_t most = (size_t)(s->preset.width * s->preset.height * s->preset.channels);
    for (size_t i = 0; i < s->count; i++) {
        const struct spec *m = &s->list[i].spec;
        size_t size = (size_t)(m->width * m->height * m->channels);
        if (size > most) most = size;
    }
    return most;
}

const struct spec *specs_of(const struct specs *s, struct bytes model) {
    for (size_t i = 0; i < s->count; i++)
        if (bytes_is(model, s->list[i].name)) return &s->list[i].spec;
    return &s->preset;
}
