/* messages: encoding writes a flat text; decoding checks every member before it is used. */
#include "proto/messages.h"

#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/base/json.h"
#include "proto/event.h"

#include <math.h>
#include <string.h>

/* ---- pieces that several messages share ---- */

static struct json_writer begin(struct buf *out) {
    struct json_writer w = json_begin(out);
    json_put_int(&w, "schema", MESSAGE_SCHEMA);
    return w;
}

static struct json *parse(struct bytes json, struct err *e) {
    err_clear(e); /* the decoders below return e->kind */
    struct json *root = json_parse(json, e);
    int64_t schema = 0;
    if (!root) return NULL;
    if (json_get_int(root, "schema", true, &schema, e)) {
        json_free(root);
        return NULL;
    }
    if (schema < 1 || schema > MESSAGE_SCHEMA) {
        err_bad(e, REASON_BAD_MESSAGE, "schema %lld: this reader knows 1 to %d; update it first",
                (long long)schema, MESSAGE_SCHEMA);
        json_free(root);
        return NULL;
    }
    return root;
}

static void put_text(struct json_writer *w, const char *name, struct bytes text) {
    if (text.data) json_put_text(w, name, text);
}

static enum err_kind get_text(const struct json *o, const char *name, bool need, struct arena *a,
                              struct bytes *out, struct err *e) {
    struct bytes text = {0};
    if (json_get_text(o, name, need, &text, e)) return e->kind;
    *out = arena_copy(a, text);
    return ERR_NONE;
}

/* Text as an event may carry it: what a message brings in ends as a key in Redis, a line of a log,
   a label of a model. */
static enum err_kind get_clean(const struct json *o, const char *name, bool need, size_t most,
                               enum reason reason, struct arena *a, struct bytes *out,
                               struct err *e) {
    if (get_text(o, name, need, a, out, e) || !out->data) return e->kind;
    if (!out->len || out->len > most || !bytes_is_clean_text(*out))
        return err_bad(e, reason, "\"%s\" has %zu bytes: 1 to %zu of clean UTF-8 are allowed", name,
                       out->len, most);
    return ERR_NONE;
}

static enum err_kind get_label(const struct json *o, bool need, struct arena *a, struct bytes *out,
                               struct err *e) {
    return get_clean(o, "label", need, EVENT_LABEL_MAX, REASON_BAD_LABEL, a, out, e);
}

static enum err_kind get_model(const struct json *o, struct arena *a, struct bytes *out,
                               struct err *e) {
    if (get_text(o, "model", true, a, out, e)) return e->kind;
    if (!event_model_is_valid(*out))
        return err_bad(e, REASON_BAD_MODEL,
                       "\"model\" must be 1 to %d of a-z, 0-9, '.', '_' and '-'", EVENT_MODEL_MAX);
    return ERR_NONE;
}

static bool is_hex(struct bytes text, size_t digits) {
    const char *p = text.data;
    bool good = text.len == digits;
    for (size_t i = 0; good && i < digits; i++)
        good = (p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f');
    return good;
}

static enum err_kind get_hex(const struct json *o, const char *name, bool need, size_t digits,
                             struct arena *a, struct bytes *out, struct err *e) {
    if (get_text(o, name, need, a, out, e)) return e->kind;
    if (out->data && !is_hex(*out, digits))
        return err_bad(e, REASON_BAD_MESSAGE, "\"%s\" must be %zu hex digits", name, digits);
    return ERR_NONE;
}

static enum err_kind get_count(const struct json *o, const char *name, bool need, int64_t *out,
                               struct err *e) {
    if (json_get_int(o, name, need, out, e)) return e->kind;
    if (*out < 0) return err_bad(e, REASON_BAD_MESSAGE, "\"%s\" is negative", name);
    return ERR_NONE;
}

static void put_time(struct json_writer *w, int64_t ms) {
    char text[CLOCK_RFC3339_LEN + 1];
    clock_format(ms, text);
    json_put_text(w, "time", bytes_of(text));
}

static enum err_kind get_time(const struct json *o, int64_t *ms, struct err *e) {
    struct bytes text = {0};
    if (json_get_text(o, "time", true, &text, e)) return e->kind;
    return clock_parse(text, ms, e);
}

static const char *const split_names[] = {[SPLIT_TRAIN] = "train", [SPLIT_EVAL] = "eval"};

static enum err_kind get_split(const struct json *o, enum split *out, struct err *e) {
    struct bytes text = {0};
    if (json_get_text(o, "split", true, &text, e)) return e->kind;
    for (enum split s = SPLIT_TRAIN; s <= SPLIT_EVAL; s++)
        if (bytes_is(text, split_names[s])) {
            *out = s;
            return ERR_NONE;
        }
    return err_bad(e, REASON_BAD_MESSAGE, "\"split\" must be \"train\" or \"eval\"");
}

static void put_metrics(struct json_writer *w, const char *name, const struct metrics *m) {
    json_open_object(w, name);
    json_put_int(w, "images", m->images);
    json_put_real(w, "accuracy", m->accuracy);
    json_put_real(w, "auc", m->auc);
    json_put_real(w, "loss", m->loss);
    json_put_real(w, "precision", m->precision);
    json_put_real(w, "recall", m->recall);
    json_put_real(w, "ece", m->ece);
    json_close_object(w);
}

static enum err_kind get_metrics(const struct json *o, const char *name, struct metrics *m,
                                 struct err *e) {
    const struct json *v = json_member(o, name);
    *m = METRICS_NONE;
    if (json_is_null(v)) return ERR_NONE;
    if (get_count(v, "images", true, &m->images, e)) return err_in(e, "%s", name);
    const struct {
        const char *name;
        double *to;
    } reals[] = {{"accuracy", &m->accuracy},   {"auc", &m->auc},       {"loss", &m->loss},
                 {"precision", &m->precision}, {"recall", &m->recall}, {"ece", &m->ece}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (json_get_real(v, reals[i].name, false, reals[i].to, e)) return err_in(e, "%s", name);
    return ERR_NONE;
}

/* ---- stored ---- */

void stored_encode(const struct stored *m, struct buf *out) {
    struct json_writer w = begin(out);
    json_put_text(&w, "id", m->id);
    json_put_text(&w, "source", m->source);
    json_put_text(&w, "row", m->row);
    json_put_int(&w, "revision", m->revision);
    json_put_text(&w, "model", m->model);
    put_text(&w, "label", m->label);
    json_put_text(&w, "split", bytes_of(split_names[m->split]));
    json_put_text(&w, "pixels", m->pixels);
    json_end(&w);
}

enum err_kind stored_decode(struct bytes json, struct arena *a, struct stored *m, struct err *e) {
    struct json *o = parse(json, e);
    *m = (struct stored){0};
    if (!o) return e->kind;
    if (get_clean(o, "id", true, EVENT_ID_MAX, REASON_BAD_ID, a, &m->id, e) ||
        get_clean(o, "source", true, EVENT_ID_MAX, REASON_BAD_EVENT, a, &m->source, e) ||
        get_hex(o, "row", true, ROW_HEX, a, &m->row, e) ||
        get_count(o, "revision", true, &m->revision, e) || get_model(o, a, &m->model, e) ||
        get_label(o, false, a, &m->label, e) || get_split(o, &m->split, e) ||
        get_hex(o, "pixels", true, HASH_HEX, a, &m->pixels, e))
        err_in(e, "stored image");
    json_free(o);
    return e->kind;
}

/* ---- manifest ---- */

void manifest_encode(const struct manifest *m, struct buf *out) {
    struct json_writer w = begin(out);
    json_put_text(&w, "batch", m->batch);
    json_put_text(&w, "model", m->model);
    json_open_array(&w, "images");
    for (size_t i = 0; i < m->image_count; i++) {
        const struct manifest_image *im = &m->images[i];
        json_open_object(&w, NULL);
        json_put_text(&w, "row", im->row);
        json_put_int(&w, "revision", im->revision);
        json_put_text(&w, "label", im->label);
        json_put_text(&w, "split", bytes_of(split_names[im->split]));
        json_close_object(&w);
    }
    json_close_array(&w);
    json_end(&w);
}

static enum err_kind get_manifest_image(const struct json *v, struct arena *a,
                                        struct manifest_image *im, struct err *e) {
    *im = (struct manifest_image){0};
    if (get_hex(v, "row", true, ROW_HEX, a, &im->row, e) ||
        get_count(v, "revision", true, &im->revision, e) || get_label(v, true, a, &im->label, e) ||
        get_split(v, &im->split, e))
        return e->kind;
    return ERR_NONE;
}

enum err_kind manifest_decode(struct bytes json, struct arena *a, struct manifest *m,
                              struct err *e) {
    struct json *o = parse(json, e);
    *m = (struct manifest){0};
    if (!o) return e->kind;
    const struct json *images = json_member(o, "images");
    if (get_hex(o, "batch", true, HASH_HEX, a, &m->batch, e) || get_model(o, a, &m->model, e))
        goto done;
    if (!json_is_array(images) || !json_count(images)) {
        err_bad(e, REASON_BAD_MESSAGE, "\"images\" must be an array with images");
        goto done;
    }
    m->images = arena_alloc(a, json_count(images) * sizeof *m->images);
    for (const struct json *v = json_first(images); v; v = json_next(v)) {
        if (get_manifest_image(v, a, &m->images[m->image_count], e)) {
            err_in(e, "image %zu", m->image_count);
            goto done;
        }
        m->image_count++;
    }
done:
    if (e->kind) err_in(e, "batch");
    json_free(o);
    return e->kind;
}

/* ---- trained ---- */

void trained_encode(const struct trained *m, struct buf *out) {
    struct json_writer w = begin(out);
    json_put_text(&w, "model", m->model);
    json_put_int(&w, "version", m->version);
    json_put_int(&w, "parent", m->parent);
    json_put_text(&w, "artifact", m->artifact);
    json_put_text(&w, "lineage", m->lineage);
    put_text(&w, "report", m->report);
    json_open_array(&w, "batches");
    for (size_t i = 0; i < m->batch_count; i++) json_put_text(&w, NULL, m->batches[i]);
    json_close_array(&w);
    json_put_int(&w, "images", m->images);
    json_put_int(&w, "presentations", m->presentations);
    json_put_int(&w, "labels", m->labels);
    json_put_int(&w, "missing", m->missing);
    if (m->temperature > 0) json_put_real(&w, "temperature", m->temperature);
    put_metrics(&w, "training", &m->training);
    put_metrics(&w, "evaluation", &m->evaluation);
    json_put_real(&w, "seconds", m->seconds);
    json_put_real(&w, "training_seconds", m->training_seconds);
    put_time(&w, m->time_ms);
    json_end(&w);
}

static enum err_kind get_batches(const struct json *o, struct arena *a, struct trained *m,
                                 struct err *e) {
    const struct json *list = json_member(o, "batches");
    if (!json_is_array(list)) return err_bad(e, REASON_BAD_MESSAGE, "\"batches\" must be an array");
    m->batches = arena_alloc(a, json_count(list) * sizeof *m->batches);
    for (const struct json *v = json_first(list); v; v = json_next(v)) {
        struct bytes id = {0};
        if (json_as_text(v, &id, e)) return err_in(e, "batches");
        if (!is_hex(id, HASH_HEX))
            return err_bad(e, REASON_BAD_MESSAGE, "\"batches\" must be of %d hex digits each",
                           HASH_HEX);
        m->batches[m->batch_count++] = arena_copy(a, id);
    }
    return ERR_NONE;
}

enum err_kind trained_decode(struct bytes json, struct arena *a, struct trained *m, struct err *e) {
    struct json *o = parse(json, e);
    *m = (struct trained){.temperature = 1};
    if (!o) return e->kind;
    if (get_model(o, a, &m->model, e) || get_count(o, "version", true, &m->version, e) ||
        get_count(o, "parent", true, &m->parent, e) ||
        get_hex(o, "artifact", true, HASH_HEX, a, &m->artifact, e) ||
        get_hex(o, "lineage", true, HASH_HEX, a, &m->lineage, e) ||
        get_hex(o, "report", false, HASH_HEX, a, &m->report, e) || get_batches(o, a, m, e) ||
        get_count(o, "images", true, &m->images, e) ||
        get_count(o, "presentations", true, &m->presentations, e) ||
        get_count(o, "labels", true, &m->labels, e) ||
        get_count(o, "missing", false, &m->missing, e) ||
        json_get_real(o, "temperature", false, &m->temperature, e) ||
        get_metrics(o, "training", &m->training, e) ||
        get_metrics(o, "evaluation", &m->evaluation, e) ||
        json_get_real(o, "seconds", false, &m->seconds, e) ||
        json_get_real(o, "training_seconds", false, &m->training_seconds, e) ||
        get_time(o, &m->time_ms, e))
        err_in(e, "trained model");
    else if (m->version < 1 || m->batch_count < 1)
        err_bad(e, REASON_BAD_MESSAGE, "trained model: a version begins at 1 and has batches");
    else if (!(m->temperature > 0))
        err_bad(e, REASON_BAD_MESSAGE, "trained model: \"temperature\" must be above 0");
    json_free(o);
    return e->kind;
}

/* ---- order ---- */

static const char *const action_names[] = {"none", "rollback", "promote", "pin", "unpin", "remove"};
enum { ORDER_ID_MAX = 64 };

const char *order_action_name(enum order_action action) {
    return action_names[action];
}

static enum err_kind get_action(const struct json *o, enum order_action *out, struct err *e) {
    struct bytes text = {0};
    if (json_get_text(o, "action", true, &text, e)) return e->kind;
    for (enum order_action i = ORDER_ROLLBACK; i <= ORDER_REMOVE; i++)
        if (bytes_is(text, action_names[i])) {
            *out = i;
            return ERR_NONE;
        }
    return err_bad(e, REASON_BAD_MESSAGE,
                   "\"action\" must be rollback, promote, pin, unpin or remove");
}

static enum err_kind get_order_id(const struct json *o, struct arena *a, struct bytes *out,
                                  struct err *e) {
    return get_clean(o, "order", true, ORDER_ID_MAX, REASON_BAD_MESSAGE, a, out, e);
}

void order_encode(const struct order *m, struct buf *out) {
    struct json_writer w = begin(out);
    json_put_text(&w, "order", m->id);
    json_put_text(&w, "model", m->model);
    json_put_text(&w, "action", bytes_of(action_names[m->action]));
    if (m->version) json_put_int(&w, "version", m->version);
    if (m->pin) json_put_bool(&w, "pin", true);
    json_end(&w);
}

enum err_kind order_decode(struct bytes json, struct arena *a, struct order *m, struct err *e) {
    struct json *o = parse(json, e);
    *m = (struct order){0};
    if (!o) return e->kind;
    if (get_order_id(o, a, &m->id, e) || get_model(o, a, &m->model, e) ||
        get_action(o, &m->action, e) || get_count(o, "version", false, &m->version, e) ||
        json_get_bool(o, "pin", false, &m->pin, e))
        err_in(e, "order");
    else if (!m->version && (m->action == ORDER_PROMOTE || m->action == ORDER_REMOVE))
        err_bad(e, REASON_BAD_MESSAGE, "order: \"%s\" names no version", action_names[m->action]);
    json_free(o);
    return e->kind;
}

/* ---- deployed ---- */

static void put_orders(struct json_writer *w, const struct deployed *m) {
    json_open_array(w, "orders");
    for (size_t i = 0; i < m->order_count; i++) {
        const struct order_answer *k = &m->orders[i];
        json_open_object(w, NULL);
        json_put_text(w, "order", k->id);
        json_put_text(w, "action", bytes_of(action_names[k->action]));
        json_put_int(w, "version", k->version);
        json_put_int(w, "from", k->from);
        json_put_bool(w, "done", k->done);
        json_put_text(w, "text", k->text);
        put_time(w, k->time_ms);
        json_close_object(w);
    }
    json_close_array(w);
}

static enum err_kind get_orders(const struct json *o, struct arena *a, struct deployed *m,
                                struct err *e) {
    const struct json *list = json_member(o, "orders");
    if (!list || json_is_null(list)) return ERR_NONE;
    if (!json_is_array(list)) return err_bad(e, REASON_BAD_MESSAGE, "\"orders\" must be an array");
    m->orders = arena_alloc(a, ORDERS_KEPT * sizeof *m->orders);
    for (const struct json *v = json_first(list); v && m->order_count < ORDERS_KEPT;
         v = json_next(v)) {
        struct order_answer *k = &m->orders[m->order_count];
        *k = (struct order_answer){0};
        if (get_order_id(v, a, &k->id, e) || get_action(v, &k->action, e) ||
            get_count(v, "version", true, &k->version, e) ||
            get_count(v, "from", true, &k->from, e) ||
            json_get_bool(v, "done", true, &k->done, e) ||
            get_text(v, "text", true, a, &k->text, e) || get_time(v, &k->time_ms, e))
            return err_in(e, "orders");
        m->order_count++;
    }
    return ERR_NONE;
}

static void put_before(struct json_writer *w, const struct deployed *m) {
    json_open_array(w, "before");
    for (size_t i = 0; i < m->before_count; i++) {
        json_open_object(w, NULL);
        json_put_int(w, "version", m->before[i].version);
        json_put_text(w, "artifact", m->before[i].artifact);
        json_close_object(w);
    }
    json_close_array(w);
}

static enum err_kind get_before(const struct json *o, struct arena *a, struct deployed *m,
                                struct err *e) {
    const struct json *list = json_member(o, "before");
    if (!list || json_is_null(list)) return ERR_NONE;
    if (!json_is_array(list)) return err_bad(e, REASON_BAD_MESSAGE, "\"before\" must be an array");
    m->before = arena_alloc(a, FORMER_KEPT * sizeof *m->before);
    for (const struct json *v = json_first(list); v && m->before_count < FORMER_KEPT;
         v = json_next(v)) {
        struct former *k = &m->before[m->before_count];
        *k = (struct former){0};
        if (get_count(v, "version", true, &k->version, e) ||
            get_hex(v, "artifact", true, HASH_HEX, a, &k->artifact, e))
            return err_in(e, "before");
        m->before_count++;
    }
    return ERR_NONE;
}

/* Members that came later are left out where there is nothing in them. */
static void put_later(struct json_writer *w, const struct deployed *m) {
    if (m->pinned) json_put_bool(w, "pinned", true);
    if (m->before_count) put_before(w, m);
    if (m->order_count) put_orders(w, m);
}

static enum err_kind get_later(const struct json *o, struct arena *a, struct deployed *m,
                               struct err *e) {
    if (json_get_bool(o, "pinned", false, &m->pinned, e) || get_before(o, a, m, e) ||
        get_orders(o, a, m, e))
        return e->kind;
    return ERR_NONE;
}

void deployed_encode(const struct deployed *m, struct buf *out) {
    struct json_writer w = begin(out);
    json_put_text(&w, "model", m->model);
    json_put_int(&w, "version", m->version);
    put_text(&w, "artifact", m->artifact);
    json_put_int(&w, "judged", m->judged);
    json_put_bool(&w, "promoted", m->promoted);
    json_put_text(&w, "why", m->why);
    put_metrics(&w, "evaluation", &m->evaluation);
    put_metrics(&w, "challenger", &m->challenger);
    if (m->best) {
        json_open_object(&w, "best");
        json_put_int(&w, "version", m->best);
        json_put_text(&w, "artifact", m->best_artifact);
        put_metrics(&w, "evaluation", &m->best_evaluation);
        json_close_object(&w);
    }
    put_time(&w, m->time_ms);
    put_later(&w, m);
    json_end(&w);
}

static enum err_kind get_best(const struct json *o, struct arena *a, struct deployed *m,
                              struct err *e) {
    const struct json *v = json_member(o, "best");
    m->best_evaluation = METRICS_NONE;
    if (json_is_null(v)) return ERR_NONE;
    if (get_count(v, "version", true, &m->best, e) ||
        get_hex(v, "artifact", m->best > 0, HASH_HEX, a, &m->best_artifact, e) ||
        get_metrics(v, "evaluation", &m->best_evaluation, e))
        return err_in(e, "best");
    return ERR_NONE;
}

enum err_kind deployed_decode(struct bytes json, struct arena *a, struct deployed *m,
                              struct err *e) {
    struct json *o = parse(json, e);
    *m = (struct deployed){0};
    if (!o) return e->kind;
    if (get_model(o, a, &m->model, e) || get_count(o, "version", true, &m->version, e) ||
        get_hex(o, "artifact", m->version > 0, HASH_HEX, a, &m->artifact, e) ||
        get_count(o, "judged", true, &m->judged, e) ||
        json_get_bool(o, "promoted", true, &m->promoted, e) ||
        get_text(o, "why", true, a, &m->why, e) ||
        get_metrics(o, "evaluation", &m->evaluation, e) ||
        get_metrics(o, "challenger", &m->challenger, e) || get_best(o, a, m, e) ||
        get_time(o, &m->time_ms, e) || get_later(o, a, m, e))
        err_in(e, "deployed model");
    json_free(o);
    return e->kind;
}

/* ---- result ---- */

void result_encode(const struct result *m, struct buf *out) {
    struct json_writer w = begin(out);
    json_put_text(&w, "id", m->id);
    put_text(&w, "model", m->model);
    if (m->reason.data) {
        json_open_object(&w, "error");
        json_put_text(&w, "reason", m->reason);
        json_put_text(&w, "text", m->text);
        json_close_object(&w);
    } else {
        json_put_int(&w, "version", m->version);
        json_put_text(&w, "artifact", m->artifact);
        json_put_text(&w, "label", m->label);
        json_put_fraction(&w, "probability", m->probability);
        json_open_object(&w, "probabilities");
        for (size_t i = 0; i < m->label_count; i++)
            json_put_fraction(&w, m->labels[i], (double)m->probabilities[i]);
        json_close_object(&w);
    }
    json_end(&w);
}

static enum err_kind check_share(double p, struct err *e) {
    return p >= 0 && p <= 1 ? ERR_NONE
                            : err_bad(e, REASON_BAD_MESSAGE, "a probability is not in 0 to 1");
}

static enum err_kind get_probabilities(const struct json *o, struct arena *a, struct result *m,
                                       struct err *e) {
    const struct json *list = json_member(o, "probabilities");
    if (!json_is_object(list))
        return err_bad(e, REASON_BAD_MESSAGE, "\"probabilities\" must be an object");
    size_t n = json_count(list), i = 0;
    const char **labels = arena_alloc(a, n * sizeof *labels);
    float *probabilities = arena_alloc(a, n * sizeof *probabilities);
    for (const struct json *v = json_first(list); v; v = json_next(v), i++) {
        double p;
        if (json_as_real(v, &p, e) || check_share(p, e)) return err_in(e, "probabilities");
        labels[i] = arena_text(a, bytes_of(json_name(v)));
        probabilities[i] = (float)p;
    }
    m->labels = labels;
    m->probabilities = probabilities;
    m->label_count = n;
    return ERR_NONE;
}

enum err_kind result_decode(struct bytes json, struct arena *a, struct result *m, struct err *e) {
    struct json *o = parse(json, e);
    *m = (struct result){0};
    if (!o) return e->kind;
    const struct json *error = json_member(o, "error");
    if (get_text(o, "id", true, a, &m->id, e) || get_text(o, "model", false, a, &m->model, e))
        goto done;
    if (error) {
        if (get_text(error, "reason", true, a, &m->reason, e) ||
            get_text(error, "text", true, a, &m->text, e))
            goto done;
    } else if (get_count(o, "version", true, &m->version, e) ||
               get_hex(o, "artifact", true, HASH_HEX, a, &m->artifact, e) ||
               get_text(o, "label", true, a, &m->label, e) ||
               json_get_real(o, "probability", true, &m->probability, e) ||
               check_share(m->probability, e) || get_probabilities(o, a, m, e)) {
        goto done;
    }
done:
    if (e->kind) err_in(e, "result");
    json_free(o);
    return e->kind;
}
