/* judge: images are read and answered in chunks, so memory does not grow with the images. */
#include "lib/learn/judge.h"

#include "lib/learn/lineage.h"
#include "lib/nn/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 }; /* images of one read and one forward pass */

/* Images of a chunk as they come from Redis, and the answers of all chunks. */
struct exam {
    const struct model *model;
    int height, width, channels, classes;
    uint8_t *x;    /* (CHUNK, H, W, C) */
    int waiting;
    float *prob;   /* (n, classes + 1): the last column is "none of these", always 0 */
    int *label;    /* (n) */
    size_t done;   /* rows of label that are filled */
    bool unknown;  /* some label is none of the model's */
};

static int label_index(const struct model *m, struct bytes label) {
    int i = 0;
    while (i < m->label_count && !bytes_is(label, m->labels[i])) i++;
    return i;
}

static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision, struct err *e) {
    struct exam *x = ctx;
    (void)i, (void)revision, (void)e;
    if (!row || !row->label.data || row->height != x->height || row->width != x->width || row->channels != x->channels) return ERR_NONE;
    memcpy(x->x + (size_t)x->waiting++ * row->pixels.len, row->pixels.data, row->pixels.len);
    int label = label_index(x->model, row->label);
    x->unknown |= label == x->classes;
    x->label[x->done + (size_t)x->waiting - 1] = label;
    return ERR_NONE;
}

/* With unknown labels the answers get a column that nobody chose. */
static void widen(const float *prob, float *wide, size_t n, int classes) {
    for (size_t i = 0; i < n; i++) {
        memcpy(wide + i * (size_t)(classes + 1), prob + i * (size_t)classes, (size_t)classes * sizeof *prob);
        wide[i * (size_t)(classes + 1) + (size_t)classes] = 0;
    }
}

static void finish(const struct exam *x, struct metrics *out) {
    struct score s;
    *out = (struct metrics){0, NAN, NAN, NAN, NAN, NAN};
    if (!x->done) return;
    if (x->unknown) {
        float *wide = mem_alloc(x->done * (size_t)(x->classes + 1) * sizeof *wide);
        widen(x->prob, wide, x->done, x->classes);
        score_of(wide, x->label, x->done, x->classes + 1, &s, NULL);
        free(wide);
    } else {
        score_of(x->prob, x->label, x->done, x->classes, &s, NULL);
    }
    *out = (struct metrics){(int64_t)s.n, s.accuracy, s.auc, s.log_loss, s.precision, s.recall};
}

enum err_kind judge_score(struct images *im, struct bytes name, const struct model *model, const float *params,
                          const char (*rows)[ROW_HEX + 1], size_t n, const struct alive *alive,
                          struct metrics *out, struct err *e) {
    const struct net_spec *spec = net_spec(model->net);
    struct exam x = {.model = model, .height = spec->height, .width = spec->width, .channels = spec->channels, .classes = net_classes(model->net)};
    struct net_run *run = net_run_make(model->net, CHUNK);
    x.x = mem_alloc(CHUNK * net_image_size(model->net));
    x.prob = mem_alloc(n * (size_t)x.classes * sizeof *x.prob);
    x.label = mem_alloc(n * sizeof *x.label);
    for (size_t at = 0; at < n && !e->kind; at += CHUNK) {
        if (alive->still(alive->ctx, e) || images_get(im, name, rows + at, n - at < CHUNK ? n - at : CHUNK, take, &x, e)) break;
        if (x.waiting) net_forward(run, params, x.x, x.waiting, x.prob + x.done * (size_t)x.classes);
        x.done += (size_t)x.waiting;
        x.waiting = 0;
    }
    if (!e->kind) finish(&x, out);
    net_run_free(run);
    free(x.x);
    free(x.prob);
    free(x.label);
    return e->kind;
}

static enum err_kind load(struct registry *g, struct bytes artifact, struct model *m, struct err *e) {
    struct buf file = {0};
    if (!registry_get_artifact(g, artifact, &file, e)) (void)!model_load(buf_bytes(&file), m, e);
    buf_free(&file);
    return e->kind;
}

static void decide(const struct deployed *served, const struct trained *challenger, struct arena *a, struct deployed *out) {
    const struct metrics *old = &out->evaluation, *new = &out->challenger;
    long long n = (long long)challenger->version;
    if (served->version == 0) {
        out->promoted = true;
        out->why = bytes_of(arena_printf(a, "version %lld is the first", n));
    } else if (new->images == 0) {
        out->promoted = true;
        out->why = bytes_of(arena_printf(a, "version %lld is the newest; no image is held out to judge it on yet", n));
    } else {
        out->promoted = new->accuracy >= old->accuracy;
        out->why = bytes_of(arena_printf(a, "version %lld answers %.2f %% of %lld held-out images rightly, version %lld %.2f %%", n, 100 * new->accuracy,
                                         (long long)new->images, (long long)served->version, 100 * old->accuracy));
    }
}

enum err_kind judge_challenger(struct registry *g, struct images *im, const struct trained *challenger,
                               const struct deployed *served, const struct alive *alive, struct arena *a,
                               struct deployed *out, struct err *e) {
    struct lineage lineage = {0};
    struct model old = {0}, new = {0};
    struct buf text = {0};
    *out = (struct deployed){.model = challenger->model, .judged = challenger->version,
                             .evaluation = {0, NAN, NAN, NAN, NAN, NAN}, .challenger = {0, NAN, NAN, NAN, NAN, NAN}};
    if (registry_get_artifact(g, challenger->lineage, &text, e) || lineage_decode(buf_bytes(&text), &lineage, e) || load(g, challenger->artifact, &new, e)) {
        err_in(e, "version %lld", (long long)challenger->version);
        goto done;
    }
    const char (*rows)[ROW_HEX + 1] = (const char (*)[ROW_HEX + 1])lineage.evaluation;
    if (judge_score(im, challenger->model, &new, NULL, rows, lineage.evaluation_count, alive, &out->challenger, e)) goto done;
    struct deployed champion = *served;
    if (champion.version && load(g, champion.artifact, &old, e) == ERR_BAD) {
        err_clear(e); /* what serves cannot be read any more: anything is better */
        champion.version = 0;
    }
    if (e->kind) goto done;
    if (champion.version && judge_score(im, challenger->model, &old, NULL, rows, lineage.evaluation_count, alive, &out->evaluation, e)) goto done;
    decide(&champion, challenger, a, out);
    if (out->promoted) out->evaluation = out->challenger;
    out->version = out->promoted ? challenger->version : champion.version;
    out->artifact = out->promoted ? challenger->artifact : champion.artifact;
done:
    lineage_free(&lineage);
    model_free(&old);
    model_free(&new);
    buf_free(&text);
    return e->kind;
}
