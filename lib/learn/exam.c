/* exam: images are read and answered in chunks; what stays is the answers. */
#include "lib/learn/exam.h"

#include "lib/nn/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512 }; /* images of one read, at most */

/* Images of a chunk as they come from Redis. */
struct chunk {
    struct exam *exam;
    int height, width, channels;
    uint8_t *x; /* (images of one read, H, W, C) */
    int waiting;
    unsigned char *gone;
    size_t at; /* of the chunk's first row */
};

static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct chunk *k = ctx;
    struct exam *x = k->exam;
    (void)revision, (void)e;
    if (k->gone) k->gone[k->at + i] = !row;
    if (!row || !row->label.data || row->height != k->height || row->width != k->width ||
        row->channels != k->channels)
        return ERR_NONE;
    size_t at = x->n + (size_t)k->waiting;
    memcpy(k->x + (size_t)k->waiting++ * row->pixels.len, row->pixels.data, row->pixels.len);
    for (int s = 0; s < x->count; s++) {
        struct sitter *of = &x->sitters[s];
        of->label[at] = model_label(of->model, row->label);
        of->unknown |= of->label[at] == of->model->label_count;
    }
    return ERR_NONE;
}

enum err_kind exam_hold(struct exam *x, struct images *im, struct bytes name,
                        const struct rows *rows, size_t n, unsigned char *gone,
                        const struct alive *alive, struct err *e) {
    char names[CHUNK][ROW_HEX + 1];
    const struct net_spec *spec = net_spec(x->sitters[0].model->net);
    struct chunk k = {.exam = x,
                      .height = spec->height,
                      .width = spec->width,
                      .channels = spec->channels,
                      .gone = gone};
    struct answerer *answerers[EXAM_MOST];
    struct crew *crew = crew_make(x->threads ? x->threads : 1, e);
    if (!crew) return e->kind;
    const size_t image = net_image_size(x->sitters[0].model->net),
                 chunk = images_at_once(image, CHUNK);
    k.x = mem_alloc(chunk * image);
    for (int s = 0; s < x->count; s++) {
        struct sitter *of = &x->sitters[s];
        answerers[s] = answerer_make(of->model->net, crew);
        of->prob = mem_alloc(n * (size_t)of->model->label_count * sizeof *of->prob);
        of->label = mem_alloc(n * sizeof *of->label);
    }
    for (; k.at < n; k.at += chunk) {
        size_t count = n - k.at < chunk ? n - k.at : chunk;
        for (size_t i = 0; i < count; i++) rows_name(rows, k.at + i, names[i]);
        if (alive->still(alive->ctx, e) ||
            images_get(im, name, (const char(*)[ROW_HEX + 1]) names, count, take, &k, e))
            break;
        for (int s = 0; s < x->count && k.waiting; s++) {
            struct sitter *of = &x->sitters[s];
            answerer_forward(answerers[s], of->params, k.x, (size_t)k.waiting,
                             of->prob + x->n * (size_t)of->model->label_count);
        }
        x->n += (size_t)k.waiting;
        if (x->look) x->look(x->ctx, x, x->n - (size_t)k.waiting, k.x);
        k.waiting = 0;
    }
    for (int s = 0; s < x->count; s++) answerer_free(answerers[s]);
    crew_free(crew);
    free(k.x);
    return e->kind;
}

void exam_free(struct exam *x) {
    for (int s = 0; s < x->count; s++) {
        free(x->sitters[s].prob);
        free(x->sitters[s].label);
    }
    *x = (struct exam){0};
}

float *exam_widen(const struct exam *x, int sitter) {
    const struct sitter *of = &x->sitters[sitter];
    size_t classes = (size_t)of->model->label_count;
    if (!of->unknown) return NULL;
    float *wide = mem_alloc(x->n * (classes + 1) * sizeof *wide);
    for (size_t i = 0; i < x->n; i++) {
        memcpy(wide + i * (classes + 1), of->prob + i * classes, classes * sizeof *wide);
        wide[i * (classes + 1) + classes] = 0;
    }
    return wide;
}

void exam_metrics(const struct exam *x, int sitter, struct metrics *out, struct class_score *each) {
    const struct sitter *of = &x->sitters[sitter];
    int classes = of->model->label_count;
    float *wide = exam_widen(x, sitter);
    struct score s;
    struct calibration c;
    *out = METRICS_NONE;
    if (each) each[classes] = (struct class_score){.auc = NAN};
    score_of(wide ? wide : of->prob, of->label, x->n, classes + (wide != NULL), &s, each);
    free(wide);
    if (!x->n) return;
    exam_calibration(x, sitter, &c);
    *out = (struct metrics){.images = (int64_t)s.n,
                            .accuracy = s.accuracy,
                            .auc = s.auc,
                            .loss = s.log_loss,
                            .precision = s.precision,
                            .recall = s.recall,
                            .ece = c.ece};
}

void exam_calibration(const struct exam *x, int sitter, struct calibration *out) {
    const struct sitter *of = &x->sitters[sitter];
    calibration_of(of->prob, of->label, x->n, of->model->label_count, out);
}

double exam_temperature(const struct exam *x, int sitter) {
    const struct sitter *of = &x->sitters[sitter];
    return calibration_temperature(of->prob, of->label, x->n, of->model->label_count);
}

void exam_scale(struct exam *x, int sitter, double temperature) {
    calibration_scale(x->sitters[sitter].prob, x->n, x->sitters[sitter].model->label_count,
                      temperature);
}

static bool is_right(const struct sitter *of, size_t i) {
    int classes = of->model->label_count;
    return score_guess(of->prob + i * (size_t)classes, classes) == of->label[i];
}

struct duel exam_duel(const struct exam *x, int a, int b) {
    struct duel d = {0, 0};
    for (size_t i = 0; i < x->n; i++) {
        bool right = is_right(&x->sitters[a], i), other = is_right(&x->sitters[b], i);
        d.a += right && !other;
        d.b += other && !right;
    }
    return d;
}
