/*
 * predict: predictions.requests -> predictions.results. Follows models.deployed, keeps the served
 * version of every model in memory (its weights come from Redis), and answers each request with
 * label, probabilities, version and the weights' hash. What waits is answered in slices of 128
 * requests, one forward pass per model in each. Answers leave in the order of the requests and
 * under their keys, to the topic that a request names or, when it names none, to the results; a
 * topic that does not exist or is not allowed makes it an error result in the results.
 *
 * How it fails: a request that cannot be answered (bad image, no such model, expired, …) gets an
 * error result at once, and so does one that ended the worker three times, or whose answer is too
 * long; there are no dead letters here. At its start the runtime waits until models.deployed has
 * been read to its end and what it names is loaded. A new version is loaded beside the old one and
 * takes its place between two calls. While Redis is unreachable the old one goes on answering and
 * the load is tried again; a version that is damaged or gone is said in the log, and the old one
 * stays (at the start there is none: no-model). A crash repeats requests whose answers were not
 * committed: each has one answer (with delivery=at-least-once one or more, of the same ce_id).
 */
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/image/tensor.h"
#include "lib/learn/images.h"
#include "lib/learn/served.h"
#include "lib/nn/matmul.h"
#include "lib/stage/stage.h"
#include "proto/messages.h"

enum { SLICE = 128 }; /* requests of one forward pass: what a model needs in memory is bounded */

struct predict {
    struct redis_conf redis;
    struct tensor_reader reader;
    struct served_models *models;
};

static const struct setting settings[] = {
    REDIS_SETTINGS(struct predict, redis), TENSOR_SETTINGS(struct predict, reader), {0}};

static enum err_kind open_(void *state, struct err *e) {
    struct predict *p = state;
    p->models = served_open(&p->redis, topics_prefix_now(), SLICE, e);
    return p->models ? ERR_NONE : e->kind;
}

static enum err_kind on_update(void *state, const struct record *r, struct err *e) {
    struct predict *p = state;
    return served_update(p->models, r->key, r->value, e);
}

static const struct figure figures[] = {
    {"serving_version", "Version of the model that this process answers with."}, {0}};

static void show(const void *state, struct shown *to) {
    const struct predict *p = state;
    struct bytes model;
    int64_t version;
    for (size_t i = 0; served_at(p->models, i, &model, &version); i++)
        stage_show(to, model, (const double[STAGE_GAUGES]){(double)version});
}

struct request {
    struct event ev;
    struct served *by; /* NULL: refused, for `why` */
    int at;            /* row of its model's pass */
    struct err why;
};

/* Reads a request and puts its image into the next row of its model's pass. */
static enum err_kind accept(struct predict *p, const struct record *r, struct out *out,
                            struct request *q, struct err *e) {
    if (event_read(r, out_arena(out), &q->ev, e)) return e->kind;
    if (q->ev.expires_ms >= 0 && clock_now_ms() > q->ev.expires_ms)
        return err_bad(e, REASON_EXPIRED, "ce_expirytime passed %lld ms ago",
                       (long long)(clock_now_ms() - q->ev.expires_ms));
    struct served *by = served_find(p->models, q->ev.model, e);
    if (!by) return e->kind;
    if (served_read(by, &p->reader, r->value, &q->at, e)) return e->kind;
    q->by = by;
    return ERR_NONE;
}

static struct result result_of(const struct request *q) {
    struct result m = {.id = q->ev.id, .model = q->ev.model};
    if (q->by) {
        served_answer(q->by, q->at, &m);
    } else {
        m.reason = bytes_of(reason_code(q->why.reason));
        m.text = bytes_of(q->why.text);
    }
    return m;
}

/* To the topic `reply` (absent: the results); where that is not allowed, an error result to the
   results. The event's id is the request's place in its topic: the same however often it is
   repeated. */
static enum err_kind answer(const struct record *r, struct request *q, struct bytes reply,
                            struct buf *json, struct out *out, struct err *e) {
    struct result m = result_of(q);
    buf_clear(json);
    result_encode(&m, json);
    struct event ev = {.id = bytes_of(arena_printf(out_arena(out), "%s/%d/%lld", r->topic,
                                                   r->partition, (long long)r->offset)),
                       .source = BYTES("darkroom/predict"),
                       .subject = q->ev.subject,
                       .model = q->ev.model,
                       .type = q->by ? BYTES("darkroom.prediction")
                                     : BYTES("darkroom.prediction.error"),
                       .time_ms = clock_now_ms()};
    err_clear(e);
    if (out_reply(out, reply, PREDICTIONS_RESULTS, r->key, buf_bytes(json), &ev, r, e) == ERR_BAD &&
        reply.data) {
        q->by = NULL;
        q->why = *e;
        return answer(r, q, (struct bytes){0}, json, out, e);
    }
    if (e->kind) return e->kind;
    if (q->by)
        stage_count_model(out, m.model, m.version, 1);
    else
        stage_count_refused(out, &q->why);
    return ERR_NONE;
}

static enum err_kind answer_slice(struct predict *p, const struct record *in, size_t n,
                                  struct out *out, struct err *e) {
    struct request *list = arena_alloc(out_arena(out), n * sizeof *list);
    struct buf json = {0};
    for (size_t i = 0; i < n; i++) {
        list[i] = (struct request){0};
        err_clear(e);
        if (stage_alive(out, e)) break; /* a large image takes its time */
        if (!accept(p, &in[i], out, &list[i], e)) continue;
        if (e->kind != ERR_BAD) break;
        list[i].why = *e;
        err_clear(e);
    }
    served_run(p->models); /* after a failure too: it empties the passes */
    for (size_t i = 0; i < n && !e->kind; i++)
        (void)!answer(&in[i], &list[i], event_reply_to(&in[i]), &json, out, e);
    buf_free(&json);
    return e->kind;
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    for (size_t i = 0; i < n; i += SLICE)
        if (answer_slice(state, in + i, n - i < SLICE ? n - i : SLICE, out, e)) return e->kind;
    return ERR_NONE;
}

/* The runtime gives a request up: it ended the worker three times, or its answer is too long to
   send. The result says whose it is; the key and the trail, which may be why, do not make it so
   again. */
static void refuse(void *state, const struct record *r, const struct err *why, struct out *out) {
    struct request q = {.why = *why};
    struct record slim = *r;
    struct buf json = {0};
    struct err ignored = {0};
    (void)state;
    if (slim.key.len > EVENT_ID_MAX) slim.key = (struct bytes){0};
    if (why->reason == REASON_TOO_LONG) slim.header_count = 0;
    (void)!event_read(r, out_arena(out), &q.ev, &ignored);
    err_clear(&ignored);
    if (answer(&slim, &q, event_reply_to(r), &json, out, &ignored))
        log_error("no error result for a refused request: %s", ignored.text);
    buf_free(&json);
}

static void close_(void *state) {
    struct predict *p = state;
    tensor_reader_free(&p->reader);
    served_close(p->models);
}

static const struct stage predict = {
    .name = "predict",
    .what = "predictions.requests -> predictions.results: answers by the served models",
    .in = PREDICTIONS_REQUESTS,
    .out = {PREDICTIONS_RESULTS},
    .watch = MODELS_DEPLOYED,
    .max_records = 4096,
    .max_bytes = 16 << 20,
    .overlap = true,
    .may_repeat = true,
    .replies = true,
    .settings = settings,
    .state_size = sizeof(struct predict),
    .by_model = "answered",
    .gauges = figures,
    .open = open_,
    .handle = handle,
    .refuse = refuse,
    .on_update = on_update,
    .show = show,
    .close = close_,
};

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    return stage_main(&predict, argc, argv);
}
