/*
 * A model's file, without its hash to help: what is taken has finite weights in the shapes that its layers
 * have and labels that differ, answers, and is saved as a file that loads and is saved as the same bytes.
 * Three of four inputs get the right length of the header.
 */
#include "lib/nn/model.h"

#include "lib/nn/safetensors.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>

static void holds_of_model(const struct model *m) {
    int count;
    size_t sum = 0;
    const struct net_tensor *t = net_tensors(m->net, &count);
    const float *params = net_params(m->net);
    HOLDS(m->label_count == net_classes(m->net));
    for (int i = 0; i < count; i++) {
        size_t n = 1;
        for (int d = 0; d < t[i].rank; d++) n *= (size_t)t[i].shape[d];
        HOLDS(n == t[i].count && t[i].offset == sum);
        sum += n;
    }
    HOLDS(sum == net_param_count(m->net));
    for (size_t i = 0; i < sum; i++) HOLDS(isfinite(params[i]));
    for (int i = 0; i < m->label_count; i++) {
        HOLDS(m->labels[i][0] && bytes_is_clean_text(bytes_of(m->labels[i])));
        for (int k = 0; k < i; k++) HOLDS(strcmp(m->labels[i], m->labels[k]) != 0);
    }
}

static void answers(const struct model *m) {
    size_t n = net_image_size(m->net);
    uint8_t *x = mem_zeroed(n, 1);
    float *prob = mem_zeroed((size_t)m->label_count, sizeof *prob);
    struct net_run *run = net_run_make(m->net, 1);
    net_forward(run, NULL, x, 1, prob);
    net_run_free(run);
    free(prob);
    free(x);
}

static void there_and_back(const struct model *m) {
    struct err e = {0};
    struct model back;
    struct buf once = {0}, twice = {0};
    if (!model_save(m, NULL, &once, &e)) { /* notes may pass what a header holds */
        HOLDS(!model_load(buf_bytes(&once), &back, &e));
        HOLDS(!model_save(&back, NULL, &twice, &e));
        HOLDS(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
        model_free(&back);
    }
    buf_free(&once);
    buf_free(&twice);
}

/* Any safetensors file, of a model or not, survives being written. */
static void tensors_there_and_back(struct bytes file) {
    struct err e = {0};
    struct safetensors *s = safetensors_read(file, &e);
    holds_of_error(s ? ERR_NONE : ERR_BAD, &e);
    if (!s) return;
    int tensors = safetensors_count(s), texts = safetensors_text_count(s);
    struct safetensors_tensor *list = mem_zeroed((size_t)tensors, sizeof *list);
    struct safetensors_text *text = mem_zeroed((size_t)texts, sizeof *text);
    for (int i = 0; i < tensors; i++) {
        list[i] = *safetensors_at(s, i);
        HOLDS(safetensors_find(s, list[i].name) == safetensors_at(s, i));
    }
    for (int i = 0; i < texts; i++) {
        text[i] = safetensors_text_at(s, i);
        HOLDS(safetensors_text(s, text[i].key) == text[i].value);
    }
    struct buf out = {0};
    if (!safetensors_write(text, texts, list, tensors, &out, &e)) {
        struct safetensors *back = safetensors_read(buf_bytes(&out), &e);
        HOLDS(back && safetensors_count(back) == tensors && safetensors_text_count(back) == texts);
        safetensors_free(back);
    }
    buf_free(&out);
    free(list);
    free(text);
    safetensors_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes file = {data, size};
    struct model m;
    struct err e = {0};
    if (size % 4 == 0) tensors_there_and_back(file);
    enum err_kind kind = model_load(file, &m, &e);
    holds_of_error(kind, &e);
    if (kind) {
        HOLDS(e.reason == REASON_BAD_MODEL_FILE && !m.net && !m.labels && !m.notes);
        return 0;
    }
    holds_of_model(&m);
    if (size % 8 == 0 && net_image_size(m.net) <= 256) answers(&m); /* a run takes megabytes */
    there_and_back(&m);
    (void)model_note(&m, "alpha");
    model_set_note(&m, "alpha", "white");
    model_set_note(&m, "alpha", "black");
    HOLDS(strcmp(model_note(&m, "alpha"), "black") == 0);
    model_free(&m);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    size_t header = 0;
    for (int i = 0; i < 8 && size >= 8; i++) header |= (size_t)data[i] << 8 * i;
    if (seed % 4 == 0 || size < 8 || header > size - 8)
        return LLVMFuzzerMutate(data, size, max_size);
    /* The header alone; the data moves behind it. */
    size_t rest = size - 8 - header, room = max_size - 8 - rest;
    uint8_t *copy = mem_alloc(room + 1), *tail = mem_alloc(rest + 1);
    memcpy(copy, data + 8, header);
    memcpy(tail, data + 8 + header, rest);
    header = LLVMFuzzerMutate(copy, header, room);
    for (int i = 0; i < 8; i++) data[i] = (uint8_t)(header >> 8 * i);
    memcpy(data + 8, copy, header);
    memcpy(data + 8 + header, tail, rest);
    free(copy);
    free(tail);
    return 8 + header + rest;
}
