/* judge: images are read and answered in chunks, so memory does not grow with the images. */
#include "lib/learn/judge.h"

#include "lib/nn/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 }; /* images of one read and one forward pass */

/* Images of a chunk as they come from Redis, and the answers of all chunks. */
struct exam {
    const struct model *model;
    int height, width, channels, classes;
    uint8_t *x; /* (CHUNK, H, W, C) */
    int waiting;
    float *prob;  /* (n, classes + 1): the last column is "none of these", always 0 */
    int *label;   /* (n) */
    size_t done;  /* rows of label that are filled */
    bool unknown; /* some label is none of the model's */
    unsigned char *gone;
    size_t at; /* of the chunk's first row */
};

static int label_index(const struct model *m, struct bytes label) {
    int i = 0;
    while (i < m->label_count && !bytes_is(label, m->labels[i])) i++;
    return i;
}

static enum err_kind take(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct exam *x = ctx;
    (void)revision, (void)e;
    if (x->gone) x->gone[x->at + i] = !row;
    if (!row || !row->label.data || row->height != x->height || row->width != x->width ||
        row->channels != x->channels)
        return ERR_NONE;
    memcpy(x->x + (size_t)x->waiting++ * row->pixels.len, row->pixels.data, row->pixels.len);
    int label = label_index(x->model, row->label);
    x->unknown |= label == x->classes;
    x->label[x->done + (size_t)x->waiting - 1] = label;
    return ERR_NONE;
}

/* With unknown labels the answers get a column that nobody chose. */
static void widen(const float *prob, float *wide, size_t n, int classes) {
    for (size_t i = 0; i < n; i++) {
        memcpy(wide + i * (size_t)(classes + 1), prob + i * (size_t)classes,
               (size_t)classes * sizeof *prob);
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

enum err_kind judge_score(struct images *im, struct bytes name, const struct model *model,
                          const float *params, const struct rows *rows, size_t n,
                          unsigned char *gone, const struct alive *alive, struct metrics *out,
                          struct err *e) {
    char names[CHUNK][ROW_HEX + 1];
    const struct net_spec *spec = net_spec(model->net);
    struct exam x = {.model = model,
                     .height = spec->height,
                     .width = spec->width,
                     .channels = spec->channels,
                     .classes = net_classes(model->net),
                     .gone = gone};
    struct net_run *run = net_run_make(model->net, CHUNK);
    x.x = mem_alloc(CHUNK * net_image_size(model->net));
    x.prob = mem_alloc(n * (size_t)x.classes * sizeof *x.prob);
    x.label = mem_alloc(n * sizeof *x.label);
    for (; x.at < n && !e->kind; x.at += CHUNK) {
        size_t count = n - x.at < CHUNK ? n - x.at : CHUNK;
        for (size_t i = 0; i < count; i++) rows_name(rows, x.at + i, names[i]);
        if (alive->still(alive->ctx, e) ||
            images_get(im, name, (const char(*)[ROW_HEX + 1]) names, count, take, &x, e))
            break;
        if (x.waiting)
            net_forward(run, params, x.x, x.waiting, x.prob + x.done * (size_t)x.classes);
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

static enum err_kind load(struct registry *g, struct bytes artifact, struct model *m,
                          struct err *e) {
    struct buf file = {0};
    if (!registry_get_artifact(g, artifact, &file, e)) (void)!model_load(buf_bytes(&file), m, e);
    buf_free(&file);
    return e->kind;
}

static bool same_input(const struct model *a, const struct model *b) {
    const struct net_spec *x = net_spec(a->net), *y = net_spec(b->net);
    return x->height == y->height && x->width == y->width && x->channels == y->channels;
}

/* old.net NULL: there is none that could go on serving. */
static void decide(const struct deployed *served, const struct trained *challenger,
                   const struct model *old, const struct model *new, struct arena *a,
                   struct deployed *out) {
    const struct metrics *before = &out->evaluation, *now = &out->challenger;
    long long n = (long long)out->judged, was = (long long)served->version;
    out->promoted = true;
    if (!challenger->images) {
        out->promoted = false;
        out->why = bytes_of(arena_printf(
            a, "version %lld has seen no image: those of its batches are gone, or corrected since",
            n));
    } else if (!was) {
        out->why = bytes_of(arena_printf(a, "version %lld is the first", n));
    } else if (!old->net) {
        out->why =
            bytes_of(arena_printf(a, "the weights of version %lld, which served, are gone", was));
    } else if (!same_input(old, new)) {
        out->why = bytes_of(arena_printf(
            a, "version %lld takes images of another size than version %lld: the spec has changed",
            n, was));
    } else if (now->images == 0 || before->images == 0) {
        out->why = bytes_of(arena_printf(
            a, "version %lld is the newest; no image is held out to judge it on yet", n));
    } else {
        out->promoted = now->accuracy >= before->accuracy;
        out->why = bytes_of(arena_printf(
            a, "version %lld answers %.2f %% of %lld held-out images rightly, version %lld %.2f %%",
            n, 100 * now->accuracy, (long long)now->images, was, 100 * before->accuracy));
    }
}

/* What is pinned stays, whatever came out, as long as it can serve. */
static void hold(const struct deployed *served, const struct model *old, struct arena *a,
                 struct deployed *out) {
    if (!served->pinned || !old->net || !out->promoted) return;
    out->promoted = false;
    out->why = bytes_of(arena_printf(a, "%.*s; but version %lld is pinned", (int)out->why.len,
                                     (const char *)out->why.data, (long long)served->version));
}

enum err_kind judge_challenger(struct registry *g, struct images *im,
                               const struct trained *challenger, const struct deployed *served,
                               const struct alive *alive, struct arena *a, struct deployed *out,
                               struct err *e) {
    struct lineage lineage = {0};
    struct rows rows = {0};
    struct model old = {0}, new = {0};
    struct buf text = {0};
    *out = (struct deployed){.model = challenger->model,
                             .judged = challenger->version,
                             .evaluation = {0, NAN, NAN, NAN, NAN, NAN},
                             .challenger = {0, NAN, NAN, NAN, NAN, NAN}};
    if (registry_get_artifact(g, challenger->lineage, &text, e) ||
        lineage_decode(buf_bytes(&text), &lineage, e) ||
        registry_get_artifact(g, bytes_of(lineage.evaluation), &text, e) ||
        rows_unpack(&rows, buf_bytes(&text), e) || load(g, challenger->artifact, &new, e)) {
        err_in(e, "version %lld", (long long)challenger->version);
        goto done;
    }
    if (judge_score(im, challenger->model, &new, NULL, &rows, rows.count, NULL, alive,
                    &out->challenger, e))
        goto done;
    if (served->version && load(g, served->artifact, &old, e) == ERR_BAD) err_clear(e);
    if (e->kind) goto done;
    if (old.net && judge_score(im, challenger->model, &old, NULL, &rows, rows.count, NULL, alive,
                               &out->evaluation, e))
        goto done;
    decide(served, challenger, &old, &new, a, out);
    hold(served, &old, a, out);
    if (out->promoted) out->evaluation = out->challenger;
    out->version = out->promoted ? challenger->version : served->version;
    out->artifact = out->promoted ? challenger->artifact : served->artifact;
done:
    lineage_free(&lineage);
    rows_free(&rows);
    model_free(&old);
    model_free(&new);
    buf_free(&text);
    return e->kind;
}
