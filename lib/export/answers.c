/* answers.c: images come in chunks; of their pixels only the worst mistakes' are kept. */
#include "lib/export/answers.h"

#include "lib/learn/artifacts.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 };

struct exam {
    struct answers *a;
    const struct net_spec *spec;
    uint8_t *x; /* (CHUNK, H, W, C) */
    int waiting;
};

const char *answers_label(const struct answers *a, int class) {
    return class < a->model.label_count ? a->model.labels[class] : "other";
}

void answers_free(struct answers *a) {
    for (int i = 0; i < a->mistake_count; i++) image_free(&a->mistakes[i].image);
    model_free(&a->model);
    free(a->prob);
    free(a->label);
    *a = (struct answers){0};
}

static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct exam *x = ctx;
    (void)i, (void)revision, (void)e;
    if (!row || !row->label.data || row->height != x->spec->height ||
        row->width != x->spec->width || row->channels != x->spec->channels)
        return ERR_NONE;
    memcpy(x->x + (size_t)x->waiting * row->pixels.len, row->pixels.data, row->pixels.len);
    x->a->label[x->a->count + (size_t)x->waiting++] = model_label(&x->a->model, row->label);
    return ERR_NONE;
}

/* Into its place among the worst, which takes a copy of the pixels. */
static void note_mistake(struct answers *a, const struct mistake *m, const uint8_t *pixels) {
    int at = a->mistake_count;
    size_t size = (size_t)m->image.width * (size_t)m->image.height * (size_t)m->image.channels;
    while (at && a->mistakes[at - 1].right > m->right) at--;
    if (at == MISTAKES_MOST) return;
    if (a->mistake_count == MISTAKES_MOST) image_free(&a->mistakes[--a->mistake_count].image);
    memmove(a->mistakes + at + 1, a->mistakes + at,
            (size_t)(a->mistake_count - at) * sizeof *a->mistakes);
    a->mistakes[at] = *m;
    a->mistakes[at].image.pixels = memcpy(mem_alloc(size), pixels, size);
    a->mistake_count++;
}

static void look_for_mistakes(struct exam *x, const float *prob) {
    int classes = x->a->model.label_count;
    size_t size = net_image_size(x->a->model.net);
    for (int i = 0; i < x->waiting; i++, prob += classes) {
        int guess = 0, label = x->a->label[x->a->count + (size_t)i];
        for (int c = 1; c < classes; c++) guess = prob[c] > prob[guess] ? c : guess;
        if (guess == label) continue;
        const struct mistake m = {
            .label = label,
            .guess = guess,
            .right = label < classes ? prob[label] : 0,
            .wrong = prob[guess],
            .image = {x->spec->width, x->spec->height, x->spec->channels, NULL}};
        note_mistake(x->a, &m, x->x + (size_t)i * size);
    }
}

/* One more column where a label is none of the model's. */
static void widen(struct answers *a) {
    bool unknown = false;
    size_t from = (size_t)a->model.label_count, to = from + 1;
    a->classes = a->model.label_count;
    for (size_t i = 0; i < a->count; i++) unknown |= a->label[i] == a->classes;
    if (!unknown) return;
    float *wide = mem_zeroed(a->count * to, sizeof *wide);
    for (size_t i = 0; i < a->count; i++)
        memcpy(wide + i * to, a->prob + i * from, from * sizeof *wide);
    free(a->prob);
    a->prob = wide;
    a->classes++;
}

static enum err_kind answer(struct images *im, struct bytes name, const struct rows *rows,
                            const struct alive *alive, struct answers *a, struct err *e) {
    char names[CHUNK][ROW_HEX + 1];
    struct exam x = {.a = a, .spec = net_spec(a->model.net)};
    struct net_run *run = net_run_make(a->model.net, CHUNK);
    size_t classes = (size_t)a->model.label_count;
    x.x = mem_alloc(CHUNK * net_image_size(a->model.net));
    a->prob = mem_alloc(rows->count * classes * sizeof *a->prob);
    a->label = mem_alloc(rows->count * sizeof *a->label);
    for (size_t at = 0; at < rows->count && !e->kind; at += CHUNK) {
        size_t n = rows->count - at < CHUNK ? rows->count - at : CHUNK;
        for (size_t i = 0; i < n; i++) rows_name(rows, at + i, names[i]);
        if (alive->still(alive->ctx, e) ||
            images_get(im, name, (const char(*)[ROW_HEX + 1]) names, n, take, &x, e))
            break;
        float *prob = a->prob + a->count * classes;
        if (x.waiting) net_forward(run, NULL, x.x, x.waiting, prob);
        look_for_mistakes(&x, prob);
        a->count += (size_t)x.waiting;
        x.waiting = 0;
    }
    net_run_free(run);
    free(x.x);
    widen(a);
    return e->kind;
}

enum err_kind answers_get(struct registry *g, struct images *im, const struct trained *version,
                          const struct alive *alive, struct answers *out, struct err *e) {
    struct rows rows = {0};
    *out = (struct answers){0};
    if (!artifact_model(g, version->artifact, &out->model, e) &&
        !artifact_held_out(g, version, &rows, e))
        (void)!answer(im, version->model, &rows, alive, out, e);
    rows_free(&rows);
    if (e->kind) answers_free(out);
    return e->kind;
}
