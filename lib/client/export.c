/*
 * models export: a version's weights as a file for other programs.
 */
#include "lib/client/client.h"
#include "lib/client/fleet.h"
#include "lib/client/shelf.h"
#include "lib/client/whole.h"
#include "lib/export/model.h"
#include "proto/event.h"

#include <stdio.h>
#include <string.h>

static const char FORMATS[] = "safetensors|onnx|json";
enum format { SAFETENSORS, ONNX, JSON, FORMAT_COUNT };
static const char *const endings[FORMAT_COUNT] = {".safetensors", ".onnx", ".json"};

struct options {
    const char *format;
};
static const struct setting settings[] = {
    {"format", SETTING_TEXT, offsetof(struct options, format), NULL,
     "safetensors, onnx or json; without it the ending of FILE says", NULL, 0, 0, 0},
    {0}};

/* By --format, else by the file's ending; FORMAT_COUNT when neither says. */
static enum format format_of(const struct options *o, const char *file) {
    size_t n = strlen(file);
    enum format f = 0;
    for (; f < FORMAT_COUNT; f++) {
        size_t end = strlen(endings[f]);
        if (o->format ? strcmp(o->format, endings[f] + 1) == 0
                      : n > end && strcmp(file + n - end, endings[f]) == 0)
            break;
    }
    return f;
}

static enum err_kind find_served(const struct client *c, struct bytes model, struct arena *a,
                                 struct export_name *out, struct err *e) {
    struct deployed *list = NULL;
    size_t n = 0;
    if (fleet_deployed(c, a, &list, &n, e)) return e->kind;
    for (size_t i = 0; i < n; i++)
        if (bytes_equal(list[i].model, model) && list[i].version) {
            *out = (struct export_name){
                .model = model, .artifact = list[i].artifact, .version = list[i].version};
            return ERR_NONE;
        }
    return err_fatal(e,
                     "no version of the model %.*s is in service; name another one behind it, "
                     "`darkroom models list` has them",
                     (int)model.len, (const char *)model.data);
}

static enum err_kind find(const struct client *c, struct registry *g, struct bytes model,
                          int64_t version, struct arena *a, struct export_name *out,
                          struct err *e) {
    struct trained v;
    if (!version) return find_served(c, model, a, out, e);
    if (registry_version(g, model, version, a, &v, e)) return e->kind;
    *out = (struct export_name){.model = model, .artifact = v.artifact, .version = version};
    return ERR_NONE;
}

static enum err_kind convert(enum format format, struct bytes file, const struct export_name *name,
                             struct buf *out, struct err *e) {
    switch (format) {
    case ONNX: return export_onnx(file, name, out, e);
    case JSON: return export_json(file, name, out, e);
    default: buf_add(out, file.data, file.len); return ERR_NONE;
    }
}

static enum err_kind put(const char *file, struct bytes data, struct err *e) {
    if (strcmp(file, "-") != 0) return whole_write(file, data, e);
    return fwrite(data.data, 1, data.len, stdout) == data.len
               ? ERR_NONE
               : err_fatal(e, "cannot write to stdout");
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const char *path = operands[n - 1];
    enum format format = format_of(options, path);
    struct err e = {0};
    struct bytes model = bytes_of(operands[0]);
    int64_t version = 0; /* the one in service */
    struct export_name name;
    struct shelf s = {0};
    struct buf file = {0}, out = {0};
    if (!event_model_is_valid(model))
        return client_usage(c, "\"%s\" cannot be the name of a model", operands[0]);
    if (n > 2 && client_version(c, operands[1], &version)) return CLIENT_USAGE;
    if (format == FORMAT_COUNT)
        return client_usage(c, "say with --format what %s shall be: one of %s", path, FORMATS);
    if (!shelf_open(c, 3 * SHELF_WAIT_MS, &s, &e) &&
        !find(c, s.registry, model, version, &s.arena, &name, &e) &&
        !registry_get_artifact(s.registry, name.artifact, &file, &e) &&
        !convert(format, buf_bytes(&file), &name, &out, &e) &&
        !put(path, buf_bytes(&out), &e) && strcmp(path, "-") != 0)
        client_say(c, "%s: version %lld of %.*s, %zu bytes", path, (long long)name.version,
                   (int)model.len, (const char *)model.data, out.len);
    shelf_close(&s);
    buf_free(&file);
    buf_free(&out);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_models_export = {
    .name = "models export",
    .operands = "MODEL [VERSION] FILE",
    .what = "a version as safetensors, ONNX or JSON",
    .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "Writes the weights of a version, of the one in service when none is named, with "
            "everything that is needed to\n"
            "use them. FILE is replaced at once or not at all; - is standard output.\n\n"
            "  safetensors  the artifact as it is in Redis, with labels, layers and normalisation "
            "as metadata\n"
            "  onnx         a graph from \"images\", uint8 (N, height, width, channels), to "
            "\"probabilities\", float\n"
            "               (N, labels); normalisation and softmax are in it, metadata_props has "
            "labels (JSON), size,\n"
            "               alpha, mean, scale, version and the artifact's SHA-256, each with "
            "darkroom. before its name\n"
            "  json         labels, layers, normalisation, and the tensors as arrays of numbers\n\n"
            "  darkroom models export default model.onnx\n"
            "  darkroom models export default 12 - --format json | jq '.labels'",
    .least = 2,
    .most = 3,
    .settings = settings,
    .options_size = sizeof(struct options),
    .run = run};
