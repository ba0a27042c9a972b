/* judge: gets the figures for a verdict, and for whoever wants to know. */
#include "lib/learn/judge.h"

#include "lib/base/log.h"
#include "lib/learn/artifacts.h"
#include "lib/learn/verdict.h"

#include <math.h>

enum err_kind judge_score(struct images *im, struct bytes name, const struct model *model,
                          const float *params, int threads, const struct rows *rows, size_t n,
                          unsigned char *gone, const struct alive *alive, struct metrics *out,
                          struct err *e) {
    struct exam x = {
        .sitters = {{.model = model, .params = params}}, .count = 1, .threads = threads};
    if (!exam_hold(&x, im, name, rows, n, gone, alive, e)) exam_metrics(&x, 0, out, NULL);
    exam_free(&x);
    return e->kind;
}

bool judge_knows(const struct deployed *was, const struct trained *m) {
    if (m->version > was->judged) return false;
    if (m->time_ms <= was->time_ms) return true;
    log_warn("model %.*s: version %lld comes after version %lld: Redis has lost versions of it",
             (int)m->model.len, (const char *)m->model.data, (long long)m->version,
             (long long)was->judged);
    return false;
}

static bool same_input(const struct model *a, const struct model *b) {
    const struct net_spec *x = net_spec(a->net), *y = net_spec(b->net);
    return x->height == y->height && x->width == y->width && x->channels == y->channels;
}

/* The versions that sit a challenger's exam; net NULL: there is none, or its weights are lost. */
struct versions {
    struct model challenger, champion, best; /* best: only when it is not the champion */
};

/* Lost weights are no error but the challenger's. */
static enum err_kind load_versions(struct registry *g, const struct trained *challenger,
                                   const struct deployed *served, struct versions *v,
                                   struct err *e) {
    if (artifact_model(g, challenger->artifact, &v->challenger, e))
        return err_in(e, "version %lld", (long long)challenger->version);
    if (served->version && artifact_model(g, served->artifact, &v->champion, e) == ERR_BAD)
        err_clear(e);
    if (e->kind || !served->best || bytes_equal(served->best_artifact, served->artifact))
        return e->kind;
    if (artifact_model(g, served->best_artifact, &v->best, e) == ERR_BAD) {
        log_warn("model %.*s: the weights of version %lld, the best so far, are lost: the one that "
                 "serves takes its place as the measure",
                 (int)challenger->model.len, (const char *)challenger->model.data,
                 (long long)served->best);
        err_clear(e);
    }
    return e->kind;
}

/* A place in the exam, when the version is there and takes images of the challenger's size; -1. */
static int seat(struct exam *x, const struct model *m) {
    if (!m->net || (x->count && !same_input(m, x->sitters[0].model))) return -1;
    x->sitters[x->count].model = m;
    return x->count++;
}

static void name_best(const struct deployed *served, const struct trained *challenger,
                      const struct metrics *best, enum best which, struct deployed *out) {
    if (which == BEST_CHALLENGER) {
        out->best = challenger->version;
        out->best_artifact = challenger->artifact;
        out->best_evaluation = out->challenger;
    } else if (which == BEST_STAYS) {
        out->best = served->best;
        out->best_artifact = served->best_artifact;
        out->best_evaluation = *best;
    } else {
        out->best = served->version;
        out->best_artifact = served->artifact;
        out->best_evaluation = out->evaluation;
    }
}

enum err_kind judge_challenger(struct registry *g, struct images *im, const struct spec *spec,
                               const struct trained *challenger, const struct deployed *served,
                               const struct alive *alive, struct arena *a, struct deployed *out,
                               struct err *e) {
    struct rows rows = {0};
    struct versions v = {0};
    struct exam x = {.count = 0};
    struct metrics best = METRICS_NONE;
    struct verdict verdict;
    *out = (struct deployed){.model = challenger->model,
                             .judged = challenger->version,
                             .evaluation = METRICS_NONE,
                             .challenger = METRICS_NONE,
                             .best_evaluation = METRICS_NONE};
    if (artifact_held_out(g, challenger, &rows, e) || load_versions(g, challenger, served, &v, e))
        goto done;
    seat(&x, &v.challenger);
    int champion_at = seat(&x, &v.champion), best_at = seat(&x, &v.best);
    bool champion_sits = champion_at > 0, best_sits = best_at > 0;
    if (exam_hold(&x, im, challenger->model, &rows, rows.count, NULL, alive, e)) goto done;
    exam_metrics(&x, 0, &out->challenger, NULL);
    if (champion_sits) exam_metrics(&x, champion_at, &out->evaluation, NULL);
    if (best_sits) exam_metrics(&x, best_at, &best, NULL);
    struct contest c = {
        .challenger = challenger->version,
        .champion = served->version,
        .best = best_sits ? served->best : served->version,
        .learned = challenger->images,
        .champion_gone = served->version && !v.champion.net,
        .other_input = v.champion.net && !champion_sits,
        .pinned = served->pinned && v.champion.net,
        .images = out->challenger.images,
        .accuracy = out->challenger.accuracy,
        .champion_accuracy = out->evaluation.accuracy,
        .best_accuracy = best_sits ? best.accuracy : out->evaluation.accuracy,
    };
    if (champion_sits) c.duel = c.best_duel = exam_duel(&x, 0, champion_at);
    if (best_sits) c.best_duel = exam_duel(&x, 0, best_at);
    verdict_of(spec, &c, a, &verdict);
    out->why = bytes_of(verdict.why);
    out->promoted = verdict.promoted;
    name_best(served, challenger, &best, verdict.best, out);
    if (out->promoted) out->evaluation = out->challenger;
    out->version = out->promoted ? challenger->version : served->version;
    out->artifact = out->promoted ? challenger->artifact : served->artifact;
done:
    exam_free(&x);
    rows_free(&rows);
    model_free(&v.challenger);
    model_free(&v.champion);
    model_free(&v.best);
    return e->kind;
}
