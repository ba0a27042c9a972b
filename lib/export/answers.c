/* answers.c: an exam of one version, of whose images only the worst mistakes' pixels are kept. */
#include "lib/export/answers.h"

#include "lib/learn/artifacts.h"
#include "lib/learn/exam.h"

#include <stdlib.h>
#include <string.h>

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

static void look_for_mistakes(void *ctx, const struct exam *x, size_t from, const uint8_t *pixels) {
    struct answers *a = ctx;
    const struct sitter *of = &x->sitters[0];
    const struct net_spec *spec = net_spec(of->model->net);
    int classes = of->model->label_count;
    for (size_t i = from; i < x->n; i++, pixels += net_image_size(of->model->net)) {
        const float *prob = of->prob + i * (size_t)classes;
        int label = of->label[i], guess = score_guess(prob, classes);
        if (guess == label) continue;
        const struct mistake m = {.label = label,
                                  .guess = guess,
                                  .right = label < classes ? prob[label] : 0,
                                  .wrong = prob[guess],
                                  .image = {spec->width, spec->height, spec->channels, NULL}};
        note_mistake(a, &m, pixels);
    }
}

enum err_kind answers_get(struct registry *g, struct images *im, const struct trained *version,
                          const struct alive *alive, struct answers *out, struct err *e) {
    struct rows rows = {0};
    *out = (struct answers){0};
    struct exam x = {
        .sitters = {{.model = &out->model}}, .count = 1, .look = look_for_mistakes, .ctx = out};
    if (!artifact_model(g, version->artifact, &out->model, e) &&
        !artifact_held_out(g, version, &rows, e) &&
        !exam_hold(&x, im, version->model, &rows, rows.count, NULL, alive, e)) {
        float *wide = exam_widen(&x, 0);
        out->count = x.n;
        out->classes = out->model.label_count + (wide != NULL);
        out->label = x.sitters[0].label;
        out->prob = wide ? wide : x.sitters[0].prob;
        x.sitters[0].label = NULL;
        if (!wide) x.sitters[0].prob = NULL;
    }
    exam_free(&x);
    rows_free(&rows);
    if (e->kind) answers_free(out);
    return e->kind;
}
