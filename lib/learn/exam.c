/* exam: images are read and answered in chunks, one of which is read while another is answered; what
   stays is the answers. */
#include "lib/learn/exam.h"

#include "lib/base/aside.h"
#include "lib/nn/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 512 }; /* images of one read, at most */

/* Images as they come from Redis. */
struct chunk {
    size_t row, rows; /* the rows that are asked for: the first, and how many */
    size_t first, n;  /* the images that were there: place of the first among all, and how many */
    uint8_t *x;       /* (n, H, W, C) */
    struct err err;
};

/* What reads them; but for the labels it leaves the exam alone. */
struct reader {
    struct exam *exam;
    struct images *images;
    struct bytes name;
    const struct rows *rows;
    unsigned char *gone;
    const struct net_spec *shape;
    struct aside aside;
    struct chunk *chunk; /* the one to fill */
    size_t n;            /* images that were there so far */
};

static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct reader *r = ctx;
    struct chunk *k = r->chunk;
    (void)revision, (void)e;
    if (r->gone) r->gone[k->row + i] = !row;
    if (!row || !row->label.data || row->height != r->shape->height ||
        row->width != r->shape->width || row->channels != r->shape->channels)
        return ERR_NONE;
    memcpy(k->x + k->n++ * row->pixels.len, row->pixels.data, row->pixels.len);
    for (int s = 0; s < r->exam->count; s++) {
        struct sitter *of = &r->exam->sitters[s];
        of->label[r->n] = model_label(of->model, row->label);
        of->unknown |= of->label[r->n] == of->model->label_count;
    }
    r->n++;
    return ERR_NONE;
}

static void read_chunk(void *ctx) {
    struct reader *r = ctx;
    struct chunk *k = r->chunk;
    char names[CHUNK][ROW_HEX + 1];
    for (size_t i = 0; i < k->rows; i++) rows_name(r->rows, k->row + i, names[i]);
    (void)!images_get(r->images, r->name, (const char(*)[ROW_HEX + 1]) names, k->rows, take, r,
                      &k->err);
}

static void reader_begin(struct reader *r, struct chunk *k, size_t row, size_t rows) {
    *k = (struct chunk){.row = row, .rows = rows, .first = r->n, .x = k->x};
    r->chunk = k;
    aside_begin(&r->aside, r->exam->threads > 1, read_chunk, r);
}

static void answer(struct exam *x, struct answerer *const answerers[], const struct chunk *k) {
    for (int s = 0; s < x->count && k->n; s++) {
        struct sitter *of = &x->sitters[s];
        answerer_forward(answerers[s], of->params, k->x, k->n,
                         of->prob + k->first * (size_t)of->model->label_count);
    }
    x->n = k->first + k->n;
    if (x->look) x->look(x->ctx, x, k->first, k->x);
}

/* Two chunks in turn. */
static enum err_kind go_through(struct exam *x, struct reader *r,
                                struct answerer *const answerers[], struct chunk chunks[2],
                                size_t rows, size_t most, const struct alive *alive,
                                struct err *e) {
    struct chunk *now = &chunks[0], *next = &chunks[1];
    if (rows) reader_begin(r, now, 0, rows < most ? rows : most);
    for (size_t end = 0; end < rows;) {
        aside_wait(&r->aside);
        if (now->err.kind) *e = now->err;
        if (e->kind || alive->still(alive->ctx, e)) return e->kind;
        end = now->row + now->rows;
        if (end < rows) reader_begin(r, next, end, rows - end < most ? rows - end : most);
        answer(x, answerers, now);
        struct chunk *swap = now;
        now = next;
        next = swap;
    }
    return e->kind;
}

enum err_kind exam_hold(struct exam *x, struct images *im, struct bytes name,
                        const struct rows *rows, size_t n, unsigned char *gone,
                        const struct alive *alive, struct err *e) {
    const struct net *net = x->sitters[0].model->net;
    struct reader r = {
        .exam = x, .images = im, .name = name, .rows = rows, .gone = gone, .shape = net_spec(net)};
    struct answerer *answerers[EXAM_MOST];
    struct chunk chunks[2];
    struct crew *crew = crew_make(x->threads ? x->threads : 1, e);
    if (!crew) return e->kind;
    const size_t image = net_image_size(net), most = images_at_once(image, CHUNK);
    for (int i = 0; i < 2; i++) chunks[i] = (struct chunk){.x = mem_alloc(most * image)};
    for (int s = 0; s < x->count; s++) {
        struct sitter *of = &x->sitters[s];
        answerers[s] = answerer_make(of->model->net, crew);
        of->prob = mem_alloc(n * (size_t)of->model->label_count * sizeof *of->prob);
        of->label = mem_alloc(n * sizeof *of->label);
    }
    (void)!go_through(x, &r, answerers, chunks, n, most, alive, e);
    for (int s = 0; s < x->count; s++) answerer_free(answerers[s]);
    crew_free(crew);
    for (int i = 0; i < 2; i++) free(chunks[i].x);
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
