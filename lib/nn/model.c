/* model.c: a model to and from safetensors; reading checks everything against the layers that it
   names. */
#include "lib/nn/model.h"

#include "lib/base/json.h"
#include "lib/nn/net_spec.h"
#include "lib/nn/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char FORMAT[] = "darkroom.format", NET[] = "darkroom.net",
                  LABELS[] = "darkroom.labels", NORM[] = "darkroom.norm",
                  TEMPERATURE[] = "darkroom.temperature";

void model_free(struct model *m) {
    net_free(m->net);
    for (int i = 0; i < m->label_count; i++) free(m->labels[i]);
    for (int i = 0; i < m->note_count; i++) {
        free(m->notes[i].key);
        free(m->notes[i].value);
    }
    free(m->labels);
    free(m->notes);
    *m = (struct model){0};
}

void model_add_label(struct model *m, const char *label) {
    m->labels = mem_resize(m->labels, (m->label_count + 1) * sizeof *m->labels);
    m->labels[m->label_count++] = mem_copy(label, strlen(label));
}

int model_label(const struct model *m, struct bytes label) {
    int i = 0;
    while (i < m->label_count && !bytes_is(label, m->labels[i])) i++;
    return i;
}

void model_set_note(struct model *m, const char *key, const char *value) {
    char *copy = mem_copy(value, strlen(value));
    for (int i = 0; i < m->note_count; i++)
        if (strcmp(m->notes[i].key, key) == 0) {
            free(m->notes[i].value);
            m->notes[i].value = copy;
            return;
        }
    m->notes = mem_resize(m->notes, (m->note_count + 1) * sizeof *m->notes);
    m->notes[m->note_count++] = (struct model_note){mem_copy(key, strlen(key)), copy};
}

const char *model_note(const struct model *m, const char *key) {
    for (int i = 0; i < m->note_count; i++)
        if (strcmp(m->notes[i].key, key) == 0) return m->notes[i].value;
    return NULL;
}

/* ---- writing ---- */

static void write_labels(const struct model *m, struct buf *to) {
    buf_add_text(to, "[");
    for (int i = 0; i < m->label_count; i++) {
        if (i) buf_add_text(to, ",");
        json_quote(to, bytes_of(m->labels[i]));
    }
    buf_add_text(to, "]");
}

static void write_norm(const struct net_norm *norm, int channels, struct buf *to) {
    struct json_writer w = json_begin(to);
    json_open_array(&w, "mean");
    for (int c = 0; c < channels; c++) json_put_real(&w, NULL, norm->mean[c]);
    json_close_array(&w);
    json_open_array(&w, "scale");
    for (int c = 0; c < channels; c++) json_put_real(&w, NULL, norm->scale[c]);
    json_close_array(&w);
    json_end(&w);
}

enum err_kind model_save(const struct model *m, const float *params, struct buf *out,
                         struct err *e) {
    struct buf spec = {0}, labels = {0}, norm = {0};
    net_spec_write(net_spec(m->net), &spec);
    write_labels(m, &labels);
    write_norm(net_norm(m->net), net_spec(m->net)->channels, &norm);

    struct safetensors_text *text = mem_alloc((5 + m->note_count) * sizeof *text);
    int texts = 4;
    text[0] = (struct safetensors_text){FORMAT, "1"};
    text[1] = (struct safetensors_text){NET, spec.data};
    text[2] = (struct safetensors_text){LABELS, labels.data};
    text[3] = (struct safetensors_text){NORM, norm.data};
    char temperature[32];
    snprintf(temperature, sizeof temperature, "%.9g", (double)net_temperature(m->net));
    if (net_temperature(m->net) != 1)
        text[texts++] = (struct safetensors_text){TEMPERATURE, temperature};
    for (int i = 0; i < m->note_count; i++)
        text[texts++] = (struct safetensors_text){m->notes[i].key, m->notes[i].value};

    int count;
    const struct net_tensor *named = net_tensors(m->net, &count);
    struct safetensors_tensor *tensor = mem_zeroed(count, sizeof *tensor);
    if (!params) params = net_params(m->net);
    for (int i = 0; i < count; i++) {
        tensor[i].name = named[i].name;
        tensor[i].rank = named[i].rank;
        tensor[i].data = params + named[i].offset;
        for (int d = 0; d < named[i].rank; d++) tensor[i].shape[d] = named[i].shape[d];
    }
    enum err_kind kind = safetensors_write(text, texts, tensor, count, out, e);
    free(text);
    free(tensor);
    buf_free(&spec);
    buf_free(&labels);
    buf_free(&norm);
    return kind;
}

/* ---- reading ---- */

static enum err_kind bad(struct err *e, const char *what) {
    return err_bad(e, REASON_BAD_MODEL_FILE, "not a model of ours: %s", what);
}

/* A JSON text of the metadata; NULL after an error. */
static struct json *part(const struct safetensors *s, const char *key, struct err *e) {
    const char *text = safetensors_text(s, key);
    struct json *root = text ? json_parse(bytes_of(text), e) : NULL;
    if (!root) bad(e, key);
    return root;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* An answer names every label once. */
static bool labels_differ(const struct model *m) {
    size_t n = (size_t)m->label_count;
    const char **sorted = mem_alloc(n * sizeof *sorted);
    bool differ = true;
    for (size_t i = 0; i < n; i++) sorted[i] = m->labels[i];
    qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 1; i < n; i++) differ &= strcmp(sorted[i - 1], sorted[i]) != 0;
    free(sorted);
    return differ;
}

static enum err_kind read_labels(const struct json *v, struct model *m, struct err *e) {
    if (!json_is_array(v) || json_count(v) > NET_MAX_CLASSES) return bad(e, LABELS);
    for (v = json_first(v); v; v = json_next(v)) {
        struct bytes label;
        if (json_as_text(v, &label, e) || !label.len || !bytes_is_clean_text(label))
            return bad(e, LABELS);
        model_add_label(m, label.data);
    }
    return labels_differ(m) ? ERR_NONE : bad(e, "a label comes twice");
}

static enum err_kind read_floats(const struct json *v, int count, float *out, struct err *e) {
    if (!json_is_array(v) || json_count(v) != (size_t)count) return bad(e, NORM);
    for (v = json_first(v); v; v = json_next(v)) {
        double d;
        if (json_as_real(v, &d, e) || !isfinite((float)d)) return bad(e, NORM);
        *out++ = (float)d;
    }
    return ERR_NONE;
}

static enum err_kind read_temperature(const struct safetensors *s, struct net *net, struct err *e) {
    const char *text = safetensors_text(s, TEMPERATURE);
    char *end;
    if (!text) return ERR_NONE;
    float t = strtof(text, &end);
    if (end == text || *end || !(t >= 1e-3f && t <= 1e3f)) return bad(e, TEMPERATURE);
    net_set_temperature(net, t);
    return ERR_NONE;
}

static enum err_kind read_tensors(const struct safetensors *s, struct net *net, struct err *e) {
    int count;
    const struct net_tensor *named = net_tensors(net, &count);
    float *params = net_params(net);
    if (safetensors_count(s) != count) return bad(e, "not as many tensors as its layers have");
    for (int i = 0; i < count; i++) {
        const struct safetensors_tensor *t = safetensors_find(s, named[i].name);
        bool same = t && t->rank == named[i].rank;
        for (int d = 0; same && d < t->rank; d++) same = t->shape[d] == named[i].shape[d];
        if (!same) return bad(e, "a tensor is missing or of another shape than its layer");
        memcpy(params + named[i].offset, t->data, t->count * sizeof *params);
    }
    for (size_t i = 0; i < net_param_count(net); i++)
        if (!isfinite(params[i])) return bad(e, "a weight is not a finite number");
    return ERR_NONE;
}

static void read_notes(const struct safetensors *s, struct model *m) {
    for (int i = 0; i < safetensors_text_count(s); i++) {
        struct safetensors_text t = safetensors_text_at(s, i);
        if (strcmp(t.key, FORMAT) && strcmp(t.key, NET) && strcmp(t.key, LABELS) &&
            strcmp(t.key, NORM) && strcmp(t.key, TEMPERATURE))
            model_set_note(m, t.key, t.value);
    }
}

/* What the layers ask for must be in the file before it is allocated: a few bytes of a damaged file
   must not cost hundreds of megabytes. */
static enum err_kind read_model(const struct safetensors *s, struct bytes file, struct model *m,
                                struct err *e) {
    const char *format = safetensors_text(s, FORMAT);
    if (!format || strcmp(format, "1"))
        return bad(e, "the format is missing or of a later program");
    struct net_spec spec = {0};
    struct json *v = part(s, NET, e);
    if (v) (void)!net_spec_read(v, &spec, e);
    json_free(v);
    if (e->kind) return e->kind;
    v = part(s, LABELS, e);
    if (v) read_labels(v, m, e);
    json_free(v);
    if (e->kind) return e->kind;
    if (net_spec_param_count(&spec, m->label_count, e) * sizeof(float) > file.len)
        return bad(e, "it is shorter than its layers ask for");
    if (e->kind) return e->kind;
    m->net = net_make(&spec, m->label_count, 0, e);
    if (!m->net) return e->kind;
    v = part(s, NORM, e);
    struct net_norm *norm = net_norm(m->net);
    if (v && !read_floats(json_member(v, "mean"), spec.channels, norm->mean, e))
        (void)!read_floats(json_member(v, "scale"), spec.channels, norm->scale, e);
    json_free(v);
    if (e->kind || read_temperature(s, m->net, e) || read_tensors(s, m->net, e)) return e->kind;
    read_notes(s, m);
    return ERR_NONE;
}

enum err_kind model_load(struct bytes file, struct model *m, struct err *e) {
    *m = (struct model){0};
    struct safetensors *s = safetensors_read(file, e);
    if (!s) return e->kind;
    err_clear(e);
    if (read_model(s, file, m, e)) {
        e->reason = REASON_BAD_MODEL_FILE; /* whatever piece of it was refused */
        model_free(m);
    }
    safetensors_free(s);
    return e->kind;
}
