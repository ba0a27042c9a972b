/*
 * judge: counts what came of a plan, from the plan, the committed records and Redis alone. It knows nothing of faults: whatever
 * happened, every revision is stored once and in one batch, every batch is in one version, every request has one answer.
 */
#define _GNU_SOURCE
#include "tests/flow/sim/sim.h"

#include "lib/base/hash.h"
#include "lib/learn/lineage.h"
#include "lib/learn/orders.h"
#include "lib/learn/report.h"
#include "proto/event.h"
#include "proto/messages.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4000 };

static struct arena arena;

struct list {
    struct record *of;
    size_t n;
};

static struct list committed(const struct world_view *v, const char *topic) {
    struct list l = {arena_alloc(&arena, MOST * sizeof *l.of), 0};
    l.n = memory_committed(v->log, topic, l.of, MOST);
    return l;
}

static const char *text(struct bytes b) {
    return arena_text(&arena, b);
}

/* ---- images ---- */

struct revision {
    int sending, number;
    bool first; /* in this cluster */
    bool stored, batched;
};

static struct revision revisions[SENDINGS];
static int revision_count;

static bool is_image(const struct sending *s) {
    return !s->request && !s->order && (s->flaw == GOOD || s->flaw == POISON_BATCH);
}

/* What the plan asks for: the same image with other pixels or another label is the next revision. */
static void expect_revisions(const struct plan *p) {
    revision_count = 0;
    for (int i = 0; i < p->sending_count; i++) {
        const struct sending *s = &p->sendings[i];
        const struct revision *last = NULL;
        if (!is_image(s)) continue;
        for (int k = 0; k < revision_count; k++)
            if (sending_same_image(&p->sendings[revisions[k].sending], s)) last = &revisions[k];
        if (last && p->sendings[last->sending].label == s->label &&
            p->sendings[last->sending].pixels == s->pixels)
            continue;
        int before = last ? last->number : sending_is_former(s);
        revisions[revision_count++] =
            (struct revision){.sending = i, .number = before + 1, .first = !last};
    }
}

static const struct sending *sending_of(const struct world_view *v, const struct revision *x) {
    return &v->plan->sendings[x->sending];
}

/* The last one of the same image. */
static const struct revision *newest_of(const struct world_view *v, const struct revision *x) {
    for (int k = revision_count; k-- > 0;)
        if (sending_same_image(sending_of(v, &revisions[k]), sending_of(v, x)))
            return &revisions[k];
    return x;
}

/* A picture's class is drawn into it, so another label is other pixels too. */
static void pixels_hash(const struct sending *s, char hex[HASH_HEX + 1]) {
    uint8_t pixels[PIXELS];
    sending_pixels(s, pixels);
    struct hash h = hash_of((struct bytes){pixels, sizeof pixels});
    hash_hex(&h, HASH_LEN, hex);
}

static struct revision *revision_of(const struct world_view *v, const struct stored *m) {
    for (int k = 0; k < revision_count; k++) {
        const struct sending *s = sending_of(v, &revisions[k]);
        if (bytes_is(m->model, model_names[s->model]) && m->revision == revisions[k].number &&
            bytes_is(m->source, sending_source(s)) &&
            bytes_equal(m->id, sending_record(s, &arena).key))
            return &revisions[k];
    }
    return NULL;
}

struct row {
    struct bytes name;
    int64_t revision, time_ms;
    int model;
    struct revision *of;
};

static struct row rows[MOST];
static size_t row_count;

static void judge_stored(const struct world_view *v, struct report *r) {
    struct list l = committed(v, topic_name(IMAGES_STORED));
    row_count = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct stored m;
        struct err e = {0};
        char hex[HASH_HEX + 1];
        if (stored_decode(l.of[i].value, &arena, &m, &e)) {
            report_wrong(r, "images.stored holds what cannot be read: %s", e.text);
            return;
        }
        struct revision *of = revision_of(v, &m);
        if (!of) {
            report_wrong(r, "image %s of %s is stored as revision %lld, which nobody sent",
                         text(m.id), text(m.model), (long long)m.revision);
            return;
        }
        const struct sending *s = sending_of(v, of);
        pixels_hash(s, hex);
        if (of->stored)
            report_wrong(r, "image %s, revision %d is stored twice", text(m.id), of->number);
        if (!bytes_is(m.pixels, hex))
            report_wrong(r, "image %s, revision %d has other pixels", text(m.id), of->number);
        if (!bytes_equal(m.label, bytes_of(sending_label(s->label))))
            report_wrong(r, "image %s, revision %d has another label", text(m.id), of->number);
        for (size_t k = 0; k < row_count; k++)
            if (bytes_equal(rows[k].name, m.row) && rows[k].model == s->model &&
                rows[k].revision > m.revision)
                report_wrong(r, "image %s: revision %lld comes behind %lld", text(m.id),
                             (long long)m.revision, (long long)rows[k].revision);
        of->stored = true;
        rows[row_count++] = (struct row){m.row, m.revision, l.of[i].time_ms, s->model, of};
    }
    for (int k = 0; k < revision_count; k++) {
        const struct sending *s = sending_of(v, &revisions[k]);
        if (!revisions[k].stored)
            report_wrong(r, "image %d of %s, revision %d is lost before images.stored", s->id,
                         model_names[s->model], revisions[k].number);
    }
}

/* ---- batches and versions ---- */

struct learned {
    struct bytes id, model;
    int times;
    /* for when it was made */
    int64_t time_ms, oldest_ms;
    int of_model, images;
};

static struct learned batches[MOST];
static size_t batch_count;

/* A hand-over of batches is due when one model has enough images in it, or the oldest of one has waited.
   Not to be told where there are images without a label, which count too, or poison, which is taken alone. */
static void judge_patience(const struct world_view *v, struct report *r) {
    for (int i = 0; i < v->plan->sending_count; i++) {
        const struct sending *s = &v->plan->sendings[i];
        if (is_image(s) && (s->label < 0 || s->flaw)) return;
    }
    for (size_t i = 0; i < batch_count; i++) {
        bool due = false;
        int images = 0, most = v->plan->most[2];
        for (size_t k = 0; k < batch_count; k++) {
            const struct learned *b = &batches[k];
            const struct habits *h = &model_habits[b->of_model];
            if (b->time_ms != batches[i].time_ms) continue;
            images += b->images;
            due =
                due || b->images >= h->batch_count || b->time_ms - b->oldest_ms >= h->batch_age_ms;
        }
        if (!due && (!most || images < most))
            report_wrong(r, "a batch of %s has %d images and did not wait for more",
                         text(batches[i].model), batches[i].images);
    }
}

static void judge_batches(const struct world_view *v, struct report *r) {
    struct list l = committed(v, topic_name(BATCHES));
    batch_count = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct manifest m;
        struct err e = {0};
        if (manifest_decode(l.of[i].value, &arena, &m, &e)) {
            report_wrong(r, "batches holds what cannot be read: %s", e.text);
            return;
        }
        for (size_t k = 0; k < batch_count; k++)
            if (bytes_equal(batches[k].id, m.batch))
                report_wrong(r, "two batches have the id %s", text(m.batch));
        struct learned *b = &batches[batch_count++];
        *b = (struct learned){.id = m.batch,
                              .model = m.model,
                              .time_ms = l.of[i].time_ms,
                              .oldest_ms = l.of[i].time_ms,
                              .images = (int)m.image_count};
        for (size_t j = 0; j < m.image_count; j++) {
            struct row *row = NULL;
            for (size_t k = 0; k < row_count && !row; k++)
                if (bytes_equal(rows[k].name, m.images[j].row) &&
                    rows[k].revision == m.images[j].revision &&
                    bytes_is(m.model, model_names[rows[k].model]))
                    row = &rows[k];
            if (!row)
                report_wrong(r, "a batch of %s has row %s, which is not stored", text(m.model),
                             text(m.images[j].row));
            else if (row->of->batched)
                report_wrong(r, "image %d of %s, revision %d is in two batches",
                             sending_of(v, row->of)->id, text(m.model), row->of->number);
            if (!row) continue;
            row->of->batched = true;
            b->of_model = row->model;
            if (row->time_ms < b->oldest_ms) b->oldest_ms = row->time_ms;
        }
    }
    for (int k = 0; k < revision_count; k++) {
        const struct sending *s = sending_of(v, &revisions[k]);
        bool should = s->label >= 0 && s->flaw == GOOD;
        if (should != revisions[k].batched)
            report_wrong(r, "image %d of %s, revision %d is %s a batch", s->id,
                         model_names[s->model], revisions[k].number,
                         should ? "in no" : "wrongly in");
    }
    judge_patience(v, r);
}

static long long redis_count(const struct world_view *v, const char *command, const char *key) {
    redisReply *a = redisCommand(v->redis, "%s %s", command, key);
    long long n = a && a->type == REDIS_REPLY_INTEGER ? a->integer : -1;
    if (a) freeReplyObject(a);
    return n;
}

/* An artifact's bytes, in the arena; absent after a report. */
static struct bytes artifact(const struct world_view *v, struct report *r, struct bytes name,
                             const char *what) {
    redisReply *a = redisCommand(v->redis, "GET darkroom.artifact:%s", text(name));
    struct bytes data = {0};
    struct hash want, have;
    if (a && a->type == REDIS_REPLY_STRING)
        data = arena_copy(&arena, (struct bytes){a->str, (size_t)a->len});
    if (a) freeReplyObject(a);
    have = hash_of(data);
    if (!data.data)
        report_wrong(r, "%s is not in the registry", what);
    else if (!hash_from_hex(name, &want) || !hash_equal(&want, &have))
        report_wrong(r, "%s is damaged in the registry", what);
    return data;
}

/* The report is this version's, and counts what it was measured on. */
static void judge_report(const struct world_view *v, struct report *r, const struct trained *m) {
    struct version_report of;
    struct err e = {0};
    size_t labelled = 0, right = 0;
    if (report_decode(artifact(v, r, m->report, "a report"), &arena, &of, &e)) {
        report_wrong(r, "a report cannot be read: %s", e.text);
        return;
    }
    for (size_t i = 0; i < of.class_count; i++) {
        labelled += of.classes[i].score.labelled;
        right += of.classes[i].score.right;
    }
    if (!bytes_equal(of.model, m->model) || of.version != m->version ||
        (int64_t)labelled != m->evaluation.images ||
        fabs((double)right - m->evaluation.accuracy * (double)labelled) > 1e-6)
        report_wrong(r, "version %lld of %s has the report of another: %zu of %zu right",
                     (long long)m->version, text(m->model), right, labelled);
}

/* Each version grows from the lineage of the one before it, and from the batches that it names; the last
   one has all that the next one needs. */
static void judge_lineage(const struct world_view *v, struct report *r, const struct trained *m,
                          bool is_head, struct bytes *before) {
    struct lineage l;
    struct err e = {0};
    if (lineage_decode(artifact(v, r, m->lineage, "a lineage"), &l, &e)) {
        report_wrong(r, "a lineage cannot be read: %s", e.text);
        return;
    }
    bool same = l.batch_count == m->batch_count;
    for (size_t i = 0; same && i < l.batch_count; i++)
        same = bytes_is(m->batches[i], l.batches[i].id);
    if (!same || !bytes_equal(bytes_of(l.before), *before))
        report_wrong(r, "version %lld of %s has the lineage of another", (long long)m->version,
                     text(m->model));
    for (size_t i = 0; i < l.batch_count; i++)
        artifact(v, r, bytes_of(l.batches[i].rows), "a batch's rows");
    artifact(v, r, bytes_of(l.evaluation), "what is held out");
    if (!m->report.data != !m->evaluation.images)
        report_wrong(r, "version %lld of %s was measured on %lld images and has %s report",
                     (long long)m->version, text(m->model), (long long)m->evaluation.images,
                     m->report.data ? "a" : "no");
    if (is_head) {
        if (m->report.data) judge_report(v, r, m);
        artifact(v, r, m->artifact, "the newest version");
        artifact(v, r, bytes_of(l.weights), "the state of the newest version");
        artifact(v, r, bytes_of(l.momentum), "the momentum of the newest version");
        if (*l.second) artifact(v, r, bytes_of(l.second), "its second moment");
    }
    *before = m->lineage;
    lineage_free(&l);
}

/* What train says in models.trained. */
static struct list announced(const struct world_view *v) {
    struct list all = committed(v, topic_name(MODELS_TRAINED)), l = {all.of, 0};
    for (size_t i = 0; i < all.n; i++)
        if (!bytes_is(record_header(&all.of[i], "ce_type"), ORDER_TYPE)) l.of[l.n++] = all.of[i];
    return l;
}

static void judge_versions(const struct world_view *v, struct report *r, int64_t last[MODELS]) {
    struct list l = announced(v);
    struct bytes before[MODELS];
    for (int k = 0; k < MODELS; k++) {
        last[k] = 0;
        before[k] = BYTES("");
    }
    for (size_t i = 0; i < l.n; i++) {
        struct trained m;
        struct err e = {0};
        int model = 0;
        bool is_head = true;
        if (trained_decode(l.of[i].value, &arena, &m, &e)) {
            report_wrong(r, "models.trained holds what cannot be read: %s", e.text);
            return;
        }
        while (model < MODELS && !bytes_is(m.model, model_names[model])) model++;
        if (model == MODELS || m.version != last[model] + 1 || m.parent != last[model]) {
            report_wrong(r, "version %lld of %s grows from %lld, and %lld was there",
                         (long long)m.version, text(m.model), (long long)m.parent,
                         model < MODELS ? (long long)last[model] : -1);
            return;
        }
        last[model] = m.version;
        for (size_t k = i + 1; k < l.n; k++)
            is_head = is_head && !bytes_equal(l.of[k].key, l.of[i].key);
        judge_lineage(v, r, &m, is_head, &before[model]);
        for (size_t j = 0; j < m.batch_count; j++) {
            size_t k = 0;
            while (k < batch_count && !(bytes_equal(batches[k].id, m.batches[j]) &&
                                        bytes_equal(batches[k].model, m.model)))
                k++;
            if (k == batch_count)
                report_wrong(r, "version %lld learned from batch %s, which is none",
                             (long long)m.version, text(m.batches[j]));
            else if (batches[k].times++)
                report_wrong(r, "batch %s is learned twice", text(m.batches[j]));
        }
    }
    for (size_t k = 0; k < batch_count; k++)
        if (!batches[k].times)
            report_wrong(r, "batch %s of %s is never learned", text(batches[k].id),
                         text(batches[k].model));
    for (int k = 0; k < MODELS; k++) {
        char key[80];
        snprintf(key, sizeof key, "darkroom.model:{%s}:versions", model_names[k]);
        long long kept = redis_count(v, "HLEN", key);
        if (kept != last[k])
            report_wrong(r, "%s has %lld versions in the registry and %lld announced",
                         model_names[k], kept, (long long)last[k]);
    }
}

/* ---- what serves, and what it answered ---- */

struct serving {
    int model;
    int64_t version;
    struct bytes artifact;
    int64_t seen_ms; /* since when it could be known */
};

static struct serving served[MOST];
static size_t served_count;

static const struct serving *last_served(int model) {
    for (size_t i = served_count; i-- > 0;)
        if (served[i].model == model) return &served[i];
    return NULL;
}

/* A version was judged against the one that served, and nothing but itself can have taken its place. */
static void judge_judgement(struct report *r, const struct deployed *m,
                            const struct serving *before) {
    const char *why = text(m->why), *at = strstr(why, "rightly, version ");
    long long against, was = before ? before->version : 0;
    if (m->version != (m->promoted ? m->judged : was))
        report_wrong(r, "version %lld of %s serves behind %lld, by the judgement of %lld",
                     (long long)m->version, text(m->model), was, (long long)m->judged);
    if (strstr(why, " is the first"))
        against = 0;
    else if (!at || sscanf(at, "rightly, version %lld", &against) != 1)
        against = was;
    if (against != was || strstr(why, "which served, are gone"))
        report_wrong(r, "version %lld of %s served, and it is said: %s", was, text(m->model), why);
}

/*
 * What the figures of a judgement allow, whatever the test of its images said: who is promoted under
 * `better` has more right, who is refused under `fresh` has fewer; what is promoted is within the
 * margin of the best, and not below the floor. before: the judgement that it came behind, model 0.
 */
static void judge_rule(struct report *r, const struct deployed *m, const struct deployed *before,
                       const struct habits *h) {
    double now = m->challenger.accuracy, floor = h->floor / 100.0;
    bool compared = strstr(text(m->why), "rightly, version ") != NULL;
    bool held = before->pinned && strstr(text(m->why), " is pinned");
    const char *wrong = NULL;
    if (strstr(text(m->why), "has seen no image")) return;
    if (held && m->best == m->judged) wrong = "held back by a pin, and the best";
    if (m->promoted && m->challenger.images && now < floor) wrong = "below the floor";
    if (!compared && !m->promoted && !held && (!m->challenger.images || now >= floor))
        wrong = "not promoted without a comparison";
    if (compared && m->promoted && h->better && m->best != m->judged && m->best_evaluation.images &&
        before->best == before->version)
        wrong = "better than the best, and not the best";
    if (compared && m->promoted && !h->better && m->best != m->judged &&
        m->best_evaluation.images && now < m->best_evaluation.accuracy - 0.01 - 1e-9)
        wrong = "promoted far below the best";
    if (compared && !m->promoted && !held && now >= floor &&
        now >= fmax(m->evaluation.accuracy, m->best_evaluation.accuracy) && !h->better)
        wrong = "not promoted, and no worse";
    if (m->best != m->judged && m->best != before->version &&
        !(m->best == before->best && bytes_equal(m->best_artifact, before->best_artifact)))
        wrong = "another best than was";
    if (!m->best != !m->version) wrong = "a best without one that serves";
    if (wrong)
        report_wrong(r, "version %lld of %s, %.4f: %s (best %lld, %.4f): %s", (long long)m->judged,
                     text(m->model), now, wrong, (long long)m->best, m->best_evaluation.accuracy,
                     text(m->why));
}

/* ---- orders ---- */

/* The letter about the record that stands there, or NULL. */
static const struct record *letter_about(const struct list *letters, const int place[2]) {
    for (size_t k = 0; k < letters->n; k++)
        if (bytes_is(record_header(&letters->of[k], "dlq.partition"),
                     arena_printf(&arena, "%d", place[0])) &&
            bytes_is(record_header(&letters->of[k], "dlq.offset"),
                     arena_printf(&arena, "%d", place[1])))
            return &letters->of[k];
    return NULL;
}

/* The newest version that train announced before the order's place: by then it is judged. */
static int64_t announced_before(const struct world_view *v, const char *model, const int place[2]) {
    struct list l = announced(v);
    int64_t newest = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct trained m;
        struct err e = {0};
        if (bytes_is(l.of[i].key, model) && l.of[i].partition == place[0] &&
            l.of[i].offset < place[1] && !trained_decode(l.of[i].value, &arena, &m, &e) &&
            m.version > newest)
            newest = m.version;
    }
    return newest;
}

static struct bytes artifact_of(const struct world_view *v, const char *model, int64_t version,
                                int64_t *images) {
    struct list l = announced(v);
    *images = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct trained m;
        struct err e = {0};
        if (!bytes_is(l.of[i].key, model) || trained_decode(l.of[i].value, &arena, &m, &e) ||
            m.version != version)
            continue;
        *images = m.images;
        return m.artifact;
    }
    return (struct bytes){0};
}

static bool is_kept(const struct world_view *v, struct bytes artifact) {
    return redis_count(v, "EXISTS", arena_printf(&arena, "darkroom.artifact:%s", text(artifact))) ==
           1;
}

/* What an order may do: that, or it is refused for a reason that holds. */
static void judge_effect(const struct world_view *v, struct report *r, const struct sending *s,
                         const struct deployed *was, const struct deployed *now) {
    const struct order_answer *a = &now->orders[0];
    const char *model = model_names[s->model], *why = text(a->text);
    int64_t target = s->version, images;
    if (!target && s->order == ORDER_ROLLBACK && was->before_count) target = was->before[0].version;
    if (!target && s->order == ORDER_PIN) target = was->version;
    bool moves = s->order == ORDER_ROLLBACK || s->order == ORDER_PROMOTE || s->order == ORDER_PIN;
    struct bytes artifact = artifact_of(v, model, target, &images);
    if (a->action != (enum order_action)s->order || a->from != was->version)
        report_wrong(r, "%s is answered as another: %s", text(a->id), why);
    if (moves && a->done) {
        bool pinned = was->pinned || s->pin || s->order == ORDER_PIN;
        if (now->version != target || !bytes_equal(now->artifact, artifact) ||
            now->pinned != pinned || !images)
            report_wrong(r, "%s wants version %lld of %s, and %lld serves: %s", text(a->id),
                         (long long)target, model, (long long)now->version, why);
        return;
    }
    if (now->version != was->version || !bytes_equal(now->artifact, was->artifact) ||
        now->pinned != (was->pinned && !(s->order == ORDER_UNPIN && a->done)))
        report_wrong(r, "%s changes what serves of %s: %s", text(a->id), model, why);
    if (s->order == ORDER_REMOVE && a->done && artifact.data && is_kept(v, artifact))
        report_wrong(r, "%s removes version %lld of %s, and it is there", text(a->id),
                     (long long)target, model);
    if (a->done || !artifact.data) return;
    if (strstr(why, "are gone") ? is_kept(v, artifact)
        : strstr(why, "seen no image")
            ? images > 0
            : moves && !strstr(why, "has no version") && !strstr(why, "nothing serve"))
        report_wrong(r, "%s is refused for no reason: %s", text(a->id), why);
}

/* The answer to an order: it came once, and stands where the order does among the versions. */
static void judge_order(const struct world_view *v, struct report *r, int model,
                        const struct deployed *was, const struct deployed *now, int answered[],
                        int64_t *up) {
    struct list letters = committed(v, topic_name(MODELS_TRAINED_DLQ));
    struct bytes id = now->orders[0].id;
    int of = -1;
    for (int i = 0; i < v->plan->sending_count && of < 0; i++) {
        const struct sending *s = &v->plan->sendings[i];
        if (s->order && s->model == model && bytes_equal(sending_order(s, &arena), id) &&
            !letter_about(&letters, v->offsets[i]))
            of = i;
    }
    if (of < 0) {
        report_wrong(r, "order %s of %s is answered, and nobody gave it", text(id),
                     model_names[model]);
        return;
    }
    const struct sending *s = &v->plan->sendings[of];
    int64_t due = announced_before(v, model_names[model], v->offsets[of]);
    if (answered[of]++) report_wrong(r, "order %s is carried out twice", text(id));
    if (due < *up) due = *up;
    if (was->judged != due)
        report_wrong(r, "order %s stands behind version %lld of %s, and %lld is judged then",
                     text(id), (long long)due, model_names[model], (long long)was->judged);
    if (now->judged != was->judged) {
        if (now->judged != now->version)
            report_wrong(r, "order %s judges version %lld", text(id), (long long)now->judged);
        *up = now->judged;
    }
    judge_effect(v, r, s, was, now);
    bool moved = now->version != was->version;
    if (now->best != now->version && (moved || now->best != was->best))
        report_wrong(r, "order %s makes version %lld of %s the best, and %lld serves", text(id),
                     (long long)now->best, model_names[model], (long long)now->version);
}

/* Every order is answered once, or is a letter because its model was not there yet. */
static void judge_orders_given(const struct world_view *v, struct report *r, const int answered[],
                               size_t *letters_due) {
    struct list letters = committed(v, topic_name(MODELS_TRAINED_DLQ));
    for (int i = 0; i < v->plan->sending_count; i++) {
        const struct sending *s = &v->plan->sendings[i];
        if (!s->order) continue;
        const struct record *letter = letter_about(&letters, v->offsets[i]);
        int times = 0;
        for (int k = 0; k < v->plan->sending_count; k++)
            if (v->plan->sendings[k].order && v->plan->sendings[k].id == s->id)
                times += answered[k];
        *letters_due += letter != NULL;
        if (letter && (!bytes_is(record_header(letter, "dlq.reason"), "no-model") ||
                       announced_before(v, model_names[s->model], v->offsets[i])))
            report_wrong(r, "order-%d is refused: %s", s->id,
                         text(record_header(letter, "dlq.text")));
        if (!letter && times != 1) report_wrong(r, "order-%d has %d answers", s->id, times);
    }
}

/* A judgement leaves the pin, and what is pinned, and the answers. */
static void judge_kept(struct report *r, const struct deployed *was, const struct deployed *now) {
    bool same = was->order_count == now->order_count;
    for (size_t i = 0; same && i < now->order_count; i++)
        same = bytes_equal(was->orders[i].id, now->orders[i].id);
    if (!same || was->pinned != now->pinned || (was->pinned && was->version != now->version))
        report_wrong(r, "the judgement of version %lld of %s changes what was ordered",
                     (long long)now->judged, text(now->model));
    if (was->version && was->version != now->version &&
        (!now->before_count || now->before[0].version != was->version))
        report_wrong(r, "version %lld of %s is not what served before", (long long)was->version,
                     text(now->model));
}

static void judge_deployed(const struct world_view *v, struct report *r, const int64_t last[MODELS],
                           size_t *letters_due) {
    struct list l = committed(v, topic_name(MODELS_DEPLOYED));
    int64_t judged[MODELS] = {0}, up[MODELS] = {0};
    struct deployed before[MODELS];
    int answered[SENDINGS] = {0};
    memset(before, 0, sizeof before);
    served_count = 0;
    for (size_t i = 0; i < l.n; i++) {
        struct deployed m;
        struct err e = {0};
        int model = 0;
        if (deployed_decode(l.of[i].value, &arena, &m, &e)) {
            report_wrong(r, "models.deployed holds what cannot be read: %s", e.text);
            return;
        }
        while (model < MODELS && !bytes_is(m.model, model_names[model])) model++;
        bool ordered =
            model < MODELS && m.order_count && !orders_find(&before[model], m.orders[0].id);
        if (model == MODELS || m.judged < judged[model] + !ordered || m.judged > last[model] ||
            m.version > m.judged) {
            report_wrong(r, "version %lld of %s is judged when %lld was", (long long)m.judged,
                         text(m.model), model < MODELS ? (long long)judged[model] : -1);
            return;
        }
        judged[model] = m.judged;
        if (ordered) {
            judge_order(v, r, model, &before[model], &m, answered, &up[model]);
        } else {
            if (!m.version && !strstr(text(m.why), "has seen no image") &&
                !strstr(text(m.why), "below the floor"))
                report_wrong(r, "nothing serves of %s, and it is said: %s", text(m.model),
                             text(m.why));
            judge_judgement(r, &m, last_served(model));
            judge_kept(r, &before[model], &m);
            judge_rule(r, &m, &before[model], &model_habits[model]);
        }
        before[model] = m;
        struct serving *now = &served[served_count++];
        *now = (struct serving){model, m.version, m.artifact, INT64_MAX};
        for (size_t k = 0; k < v->sight_count; k++)
            if (v->sights[k].partition == l.of[i].partition &&
                v->sights[k].offset == l.of[i].offset)
                now->seen_ms = v->sights[k].time_ms;
    }
    *letters_due = 0;
    judge_orders_given(v, r, answered, letters_due);
    for (int k = 0; k < MODELS; k++)
        if (judged[k] != last[k])
            report_wrong(r, "%s: version %lld is the last, and %lld was judged", model_names[k],
                         (long long)last[k], (long long)judged[k]);
    /* 0: what was judged has seen no image, since they lost their labels meanwhile, or is below the floor. */
    for (int k = 0; k < MODELS; k++)
        if (last_served(k) && last_served(k)->version)
            artifact(v, r, last_served(k)->artifact, "the version that serves");
    for (int k = 0; k < MODELS; k++)
        if (before[k].best) artifact(v, r, before[k].best_artifact, "the best version so far");
}

/* The first that may have answered: whoever began to run when one served can answer with it. */
static size_t first_served(const struct world_view *v, int i, int model) {
    size_t first = 0;
    for (size_t k = 0; i < SENDINGS && k < served_count; k++)
        if (served[k].model == model && served[k].seen_ms < v->since_ms[i]) first = k + 1;
    return first;
}

static void judge_answer(const struct world_view *v, struct report *r, int i,
                         const struct sending *s, const struct list *l) {
    const struct record *answer = NULL;
    struct result m;
    struct err e = {0};
    char id[80];
    snprintf(id, sizeof id, "%s/%d/%d", topic_name(PREDICTIONS_REQUESTS), v->offsets[i][0],
             v->offsets[i][1]);
    for (size_t k = 0; k < l->n; k++) {
        if (!bytes_is(record_header(&l->of[k], "ce_id"), id)) continue;
        if (answer) report_wrong(r, "request %s is answered twice", id);
        answer = &l->of[k];
    }
    if (!answer) {
        report_wrong(r, "request %s has no answer", id);
        return;
    }
    if (result_decode(answer->value, &arena, &m, &e)) {
        report_wrong(r, "an answer cannot be read: %s", e.text);
        return;
    }
    const char *why = m.reason.data ? text(m.reason) : "";
    const struct serving *end = last_served(s->model);
    if (s->flaw == POISON_PREDICT && strcmp(why, "kills-worker") != 0)
        report_wrong(r, "a request that kills the worker is answered with \"%s\"", why);
    if (s->flaw == GOOD && *why && strcmp(why, "no-model") != 0)
        report_wrong(r, "request %s is refused: %s", id, why);
    if (s->flaw != GOOD && !*why) report_wrong(r, "request %s should be refused", id);
    if (i >= SENDINGS && (end ? m.version != end->version : !*why))
        report_wrong(r, "in the end %s answers with version %lld, and %lld serves",
                     model_names[s->model], (long long)m.version,
                     end ? (long long)end->version : 0);
    size_t first = first_served(v, i, s->model);
    if (s->flaw == GOOD && *why && first && served[first - 1].version)
        report_wrong(
            r,
            "request %s has no answer of version %lld of %s, which served before its worker began",
            id, (long long)served[first - 1].version, model_names[s->model]);
    if (*why) return;
    bool known = false;
    for (size_t k = first ? first - 1 : 0; k < served_count; k++)
        known = known || (served[k].model == s->model && served[k].version == m.version &&
                          bytes_equal(served[k].artifact, m.artifact) &&
                          served[k].seen_ms <= answer->time_ms);
    if (!known)
        report_wrong(r, "request %s is answered by version %lld of %s, which did not serve then",
                     id, (long long)m.version, model_names[s->model]);
}

static void judge_answers(const struct world_view *v, struct report *r) {
    struct list l = committed(v, topic_name(PREDICTIONS_RESULTS));
    size_t requests = MODELS;
    for (int i = 0; i < v->plan->sending_count; i++) {
        if (!v->plan->sendings[i].request) continue;
        requests++;
        judge_answer(v, r, i, &v->plan->sendings[i], &l);
    }
    for (int k = 0; k < MODELS; k++)
        judge_answer(v, r, SENDINGS + k, &(struct sending){.request = true, .model = k}, &l);
    if (l.n != requests) report_wrong(r, "%zu requests have %zu answers", requests, l.n);
}

/* ---- what was refused ---- */

/* Key, value and headers are those of the record that it names. */
static void judge_letter(const struct world_view *v, struct report *r, const struct record *letter,
                         const struct list *sources) {
    struct bytes partition = record_header(letter, "dlq.partition"),
                 offset = record_header(letter, "dlq.offset");
    const struct record *of = NULL;
    (void)v;
    for (size_t k = 0; k < sources->n; k++)
        if (bytes_is(partition, arena_printf(&arena, "%d", sources->of[k].partition)) &&
            bytes_is(offset, arena_printf(&arena, "%lld", (long long)sources->of[k].offset)))
            of = &sources->of[k];
    bool same = of && bytes_equal(of->key, letter->key) && bytes_equal(of->value, letter->value) &&
                of->header_count <= letter->header_count;
    for (size_t k = 0; same && k < of->header_count; k++)
        same = bytes_equal(of->headers[k].name, letter->headers[k].name) &&
               bytes_equal(of->headers[k].value, letter->headers[k].value);
    if (!same)
        report_wrong(r, "a letter in %s is not the record that it is about, %s/%s", letter->topic,
                     text(partition), text(offset));
}

/* due: letters that are judged elsewhere. */
static void judge_letters(const struct world_view *v, struct report *r, enum topic of,
                          enum flaw poison, size_t due) {
    struct list l = committed(v, topic_name(topic_dead_letters(of))),
                sources = committed(v, topic_name(of));
    for (size_t k = 0; k < l.n; k++) judge_letter(v, r, &l.of[k], &sources);
    for (int i = 0; i < v->plan->sending_count; i++) {
        const struct sending *s = &v->plan->sendings[i];
        bool bad = of == IMAGES && (s->flaw == BROKEN || s->flaw == BAD_LABEL || s->flaw == EMPTY);
        int found = 0;
        if (s->request || s->order || !(bad || (poison && s->flaw == poison))) continue;
        struct record sent = sending_record(s, &arena);
        due++;
        for (size_t k = 0; k < l.n; k++) {
            bool same = of == IMAGES ? bytes_equal(l.of[k].value, sent.value) &&
                                           bytes_is(record_header(&l.of[k], "dlq.partition"),
                                                    arena_printf(&arena, "%d", v->offsets[i][0])) &&
                                           bytes_is(record_header(&l.of[k], "dlq.offset"),
                                                    arena_printf(&arena, "%d", v->offsets[i][1]))
                                     : bytes_equal(l.of[k].key, sent.key);
            if (!same) continue;
            found++;
            if (!bad && !bytes_is(record_header(&l.of[k], "dlq.reason"), "kills-worker"))
                report_wrong(r, "poison is refused as %s",
                             text(record_header(&l.of[k], "dlq.reason")));
        }
        if (found != 1)
            report_wrong(r, "%s has %d dead letters in %s", text(sent.key), found,
                         topic_name(topic_dead_letters(of)));
    }
    if (l.n > due)
        report_wrong(r, "%zu letters too many in %s, the last of them for %s: %s", l.n - due,
                     topic_name(topic_dead_letters(of)),
                     text(record_header(&l.of[l.n - 1], "dlq.reason")),
                     text(record_header(&l.of[l.n - 1], "dlq.text")));
}

/* A record may kill each instance in a crowd and alone, and is buried when one has seen it die alone
   and has it again. Once more where the partition moves behind the commit of a neighbour, taken alone,
   whose note is gone with it: who has it now takes a small crowd. Where there is one instance and no
   blow, it is three deaths. */
static void judge_deaths(const struct world_view *v, struct report *r) {
    static const int stage_of[] = {
        [POISON_PREPROCESS] = 0, [POISON_STORE] = 1, [POISON_BATCH] = 2, [POISON_PREDICT] = 5};
    int most = 0, poisons = 0;
    bool sure = !v->plan->blow_count;
    for (int i = 0; i < v->plan->sending_count; i++) {
        enum flaw flaw = v->plan->sendings[i].flaw;
        if (flaw < POISON_PREPROCESS) continue;
        int stage = stage_of[flaw],
            instances = v->plan->instances[stage] + (v->plan->relief[stage] > 0);
        poisons++;
        most += v->plan->blow_count ? 16 : instances == 1 ? 3 : 2 * instances + 2;
        sure = sure && instances == 1;
    }
    if (v->deaths > most)
        report_wrong(r, "poison killed %d times, and may %d times", v->deaths, most);
    if (sure && poisons < 2 && v->deaths != most) /* two in one crowd share its death */
        report_wrong(r, "poison killed %d times, and must %d times", v->deaths, most);
}

/* ---- the table ---- */

static bool redis_has(const struct world_view *v, const char *index, const char *name) {
    redisReply *a = redisCommand(v->redis, "ZSCORE %s %s", index, name);
    bool has = a && a->type != REDIS_REPLY_NIL;
    if (a) freeReplyObject(a);
    return has;
}

/* A row holds the newest revision. */
static void judge_row(const struct world_view *v, struct report *r, const char *key,
                      const struct revision *newest) {
    uint8_t want[PIXELS];
    redisReply *a = redisCommand(v->redis, "GET %s", key);
    const unsigned char *row = a && a->type == REDIS_REPLY_STRING ? (unsigned char *)a->str : NULL;
    size_t len = row ? (size_t)a->len : 0;
    sending_pixels(sending_of(v, newest), want);
    if (len < 8 + PIXELS || (row[4] | row[5] << 8) != newest->number ||
        memcmp(row + len - PIXELS, want, PIXELS) != 0)
        report_wrong(r, "%s does not hold revision %d", key, newest->number);
    if (a) freeReplyObject(a);
}

static void judge_table(const struct world_view *v, struct report *r) {
    for (int m = 0; m < MODELS; m++) {
        char index[80], key[120];
        snprintf(index, sizeof index, "darkroom.images:{%s}", model_names[m]);
        int images = 0;
        for (int k = 0; k < revision_count; k++)
            images += revisions[k].first && sending_of(v, &revisions[k])->model == m;
        long long listed = redis_count(v, "ZCARD", index), there = 0;
        for (size_t k = 0; k < row_count; k++) {
            if (rows[k].model != m || !rows[k].of->first) continue;
            snprintf(key, sizeof key, "darkroom.image:{%s}:%s", model_names[m], text(rows[k].name));
            if (!redis_count(v, "EXISTS", key)) continue;
            there++;
            judge_row(v, r, key, newest_of(v, rows[k].of));
            if (!redis_has(v, index, text(rows[k].name)))
                report_wrong(r, "row %s of %s is not in the index", text(rows[k].name),
                             model_names[m]);
        }
        /* A name whose row was evicted between SET and ZADD counts until it is evicted too. */
        int keep = model_habits[m].keep_images;
        bool few = keep && images > keep;
        if (few ? listed != keep || there > keep : listed != images || there != images)
            report_wrong(r, "%s has %lld rows and %lld in the index, of %d images", model_names[m],
                         there, listed, images);
    }
}

/* For whoever looks into a failure. */
static void print_topic(const struct world_view *v, const char *topic) {
    struct list l = committed(v, topic);
    for (size_t i = 0; i < l.n; i++)
        printf("%s[%d]@%lld  %.*s  %.*s  %.*s\n", topic, l.of[i].partition,
               (long long)l.of[i].offset, (int)record_header(&l.of[i], "ce_model").len,
               (const char *)record_header(&l.of[i], "ce_model").data, (int)l.of[i].key.len,
               (const char *)l.of[i].key.data,
               l.of[i].value.len > PIXELS ? (int)l.of[i].value.len : 0,
               (const char *)l.of[i].value.data);
}

void judge(const struct world_view *v, struct report *r) {
    int64_t last[MODELS];
    size_t ordered;
    arena_reset(&arena);
    if (v->tell)
        for (enum topic t = IMAGES_PREPARED; t < PREDICTIONS_REQUESTS; t++)
            print_topic(v, topic_name(t));
    expect_revisions(v->plan);
    judge_stored(v, r);
    if (*r->what) return; /* what follows leans on it */
    judge_batches(v, r);
    if (*r->what) return;
    judge_versions(v, r, last);
    judge_deployed(v, r, last, &ordered);
    judge_answers(v, r);
    judge_letters(v, r, IMAGES, POISON_PREPROCESS, 0);
    judge_letters(v, r, IMAGES_PREPARED, POISON_STORE, 0);
    judge_letters(v, r, IMAGES_STORED, POISON_BATCH, 0);
    judge_letters(v, r, BATCHES, GOOD, 0);
    judge_letters(v, r, MODELS_TRAINED, GOOD, ordered);
    judge_deaths(v, r);
    judge_table(v, r);
}
