/* json.c: a model as JSON. */
#include "lib/export/model.h"

#include "lib/base/json.h"
#include "lib/nn/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The fewest digits, of 6 to 9, that give the float back: nine always do (IEEE 754). */
void export_float(float value, struct buf *out) {
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    buf_add_text(out, text);
}

void export_floats(const float *list, size_t n, struct buf *out) {
    buf_add_text(out, "[");
    for (size_t i = 0; i < n; i++) {
        if (i) buf_add_text(out, ",");
        export_float(list[i], out);
    }
    buf_add_text(out, "]");
}

/* Arrays in arrays, the last axis within; returns what follows the numbers that were written. */
static const float *put_axes(const int *shape, int rank, const float *p, struct buf *out) {
    if (rank == 1) {
        export_floats(p, (size_t)shape[0], out);
        return p + shape[0];
    }
    buf_add_text(out, "[");
    for (int i = 0; i < shape[0]; i++) {
        if (i) buf_add_text(out, ",");
        p = put_axes(shape + 1, rank - 1, p, out);
    }
    buf_add_text(out, "]");
    return p;
}

static void put_floats(struct json_writer *w, const char *name, const float *list, size_t n) {
    struct buf b = {0};
    export_floats(list, n, &b);
    json_put_raw(w, name, buf_bytes(&b));
    buf_free(&b);
}

static void put_tensors(struct json_writer *w, const struct net *net, const float *params) {
    int count;
    const struct net_tensor *t = net_tensors(net, &count);
    struct buf b = {0};
    json_open_object(w, "tensors");
    for (int i = 0; i < count; i++) {
        buf_clear(&b);
        put_axes(t[i].shape, t[i].rank, params + t[i].offset, &b);
        json_put_raw(w, t[i].name, buf_bytes(&b));
    }
    json_close_object(w);
    buf_free(&b);
}

/* The layers stand in the file as JSON already: of whatever kind they are, they are told. */
static enum err_kind put_all(const struct model *m, const struct safetensors *file,
                             const struct export_name *name, struct buf *out, struct err *e) {
    const struct net_norm *norm = net_norm(m->net);
    const char *alpha = model_note(m, "alpha");
    int channels = net_spec(m->net)->channels;
    struct buf number = {0};
    struct json_writer w = json_begin(out);
    json_put_text(&w, "model", name->model);
    json_put_int(&w, "version", name->version);
    json_put_text(&w, "artifact", name->artifact);
    json_put_raw(&w, "net", bytes_of(safetensors_text(file, "darkroom.net")));
    json_put_text(&w, "alpha", bytes_of(alpha ? alpha : "white"));
    json_open_object(&w, "norm");
    put_floats(&w, "mean", norm->mean, (size_t)channels);
    put_floats(&w, "scale", norm->scale, (size_t)channels);
    json_close_object(&w);
    export_float(net_temperature(m->net), &number);
    json_put_raw(&w, "temperature", buf_bytes(&number));
    json_open_array(&w, "labels");
    for (int i = 0; i < m->label_count; i++) json_put_text(&w, NULL, bytes_of(m->labels[i]));
    json_close_array(&w);
    json_open_object(&w, "notes");
    for (int i = 0; i < m->note_count; i++)
        json_put_text(&w, m->notes[i].key, bytes_of(m->notes[i].value));
    json_close_object(&w);
    put_tensors(&w, m->net, net_params(m->net));
    json_end(&w);
    buf_add_text(out, "\n");
    buf_free(&number);
    return ERR_NONE;
}

enum err_kind export_json(struct bytes file, const struct export_name *name, struct buf *out,
                          struct err *e) {
    struct model m;
    struct safetensors *s = NULL;
    if (!model_load(file, &m, e) && (s = safetensors_read(file, e)))
        (void)!put_all(&m, s, name, out, e);
    safetensors_free(s);
    model_free(&m);
    return e->kind;
}
