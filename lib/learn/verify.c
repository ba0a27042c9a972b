/* verify: the learner's own way once more, with everything that it wrote down, and without
   publishing. */
#include "lib/learn/verify.h"

#include "lib/learn/artifacts.h"
#include "lib/learn/pupil.h"
#include "lib/learn/recipe.h"
#include "lib/learn/study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* All that is kept of the version. */
struct kept {
    struct trained message;
    struct lineage lineage;
    struct recipe recipe;
    struct model average, weights, momentum, second;
    struct rows fresh; /* its new rows */
    size_t corrected;  /* of those */
};

/* Counts a batch's rows that were corrected. */
static enum err_kind count_corrected(struct registry *g, const struct lineage_batch *b,
                                     size_t *count, struct err *e) {
    struct buf contents = {0};
    struct content one;
    if (*b->contents && !registry_get_artifact(g, bytes_of(b->contents), &contents, e))
        for (size_t at = 0; at + sizeof one <= contents.len; at += sizeof one) {
            memcpy(&one, contents.data + at, sizeof one);
            *count += content_revision(&one) > 1;
        }
    buf_free(&contents);
    return e->kind;
}

static enum err_kind load_kept(struct registry *g, struct kept *k, struct err *e) {
    struct buf file = {0};
    if (!registry_get_artifact(g, bytes_of(k->lineage.recipe), &file, e))
        (void)!recipe_decode(buf_bytes(&file), &k->recipe, e);
    buf_free(&file);
    for (size_t i = 0; !e->kind && i < k->lineage.batch_count; i++)
        if (!artifact_rows(g, bytes_of(k->lineage.batches[i].rows), &k->fresh, e))
            (void)!count_corrected(g, &k->lineage.batches[i], &k->corrected, e);
    return e->kind;
}

/* Whether a version's weights and training state are there. */
static enum err_kind is_kept(struct registry *g, const struct trained *m, const struct lineage *l,
                             bool *there, struct err *e) {
    const struct bytes names[] = {m->artifact, bytes_of(l->weights), bytes_of(l->momentum),
                                  bytes_of(l->second)};
    return registry_has(g, names, *l->second ? 4 : 3, there, e);
}

/* What the version came to, and the state that its training went on from. *there: both are kept. */
static enum err_kind load_states(struct registry *g, struct kept *k, struct pupil *p,
                                 const struct alive *alive, struct arena *a, bool *there,
                                 struct err *e) {
    struct trained parent;
    struct lineage of_parent = {0};
    if (is_kept(g, &k->message, &k->lineage, there, e)) return e->kind;
    if (*there && k->message.parent &&
        !registry_version(g, k->message.model, k->message.parent, a, &parent, e) &&
        !artifact_lineage(g, parent.lineage, &of_parent, e) &&
        !is_kept(g, &parent, &of_parent, there, e) && *there)
        (void)!pupil_load(p, g, &parent, alive, e);
    lineage_free(&of_parent);
    if (e->kind || !*there) return e->kind;
    if (!artifact_model(g, k->message.artifact, &k->average, e) &&
        !artifact_model(g, bytes_of(k->lineage.weights), &k->weights, e) &&
        !artifact_model(g, bytes_of(k->lineage.momentum), &k->momentum, e) && *k->lineage.second)
        (void)!artifact_model(g, bytes_of(k->lineage.second), &k->second, e);
    return e->kind;
}

static void compare(const struct net *made, const float *a, struct model *m,
                    struct verification *out) {
    size_t n = net_param_count(made);
    const float *b = net_params(m->net);
    out->floats += n;
    if (net_param_count(m->net) != n) {
        out->different += n;
        out->largest = INFINITY;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!memcmp(&a[i], &b[i], sizeof *a)) continue;
        double d = fabs((double)a[i] - (double)b[i]);
        out->different++;
        if (d > out->largest) out->largest = d;
    }
}

/* ---- what changed since ---- */

struct seen {
    unsigned char row[ROW_HEX / 2];
    struct content content;
};

static int by_row(const void *a, const void *b) {
    return memcmp(a, b, ROW_HEX / 2);
}

/* The content of every row that the version may have seen, of its own batches and of those before:
   of a row that came again, corrected, the newest. */
static enum err_kind load_contents(struct registry *g, const struct lineage *head,
                                   const struct alive *alive, struct seen **list, size_t *count,
                                   struct err *e) {
    struct lineage l = {0};
    struct buf rows = {0}, contents = {0};
    const struct lineage *at = head;
    size_t n = 0;
    *list = NULL;
    for (;;) {
        for (size_t i = 0; i < at->batch_count && !e->kind; i++) {
            const struct lineage_batch *b = &at->batches[i];
            if (!*b->contents) continue;
            if (registry_get_artifact(g, bytes_of(b->rows), &rows, e) ||
                registry_get_artifact(g, bytes_of(b->contents), &contents, e))
                break;
            if (rows.len != contents.len || rows.len % 16) {
                err_bad(e, REASON_BAD_MODEL_FILE, "a batch's rows and contents do not agree");
                break;
            }
            *list = mem_resize(*list, (n + rows.len / 16 + 1) * sizeof **list);
            for (size_t k = 0; k < rows.len / 16; k++, n++) {
                memcpy((*list)[n].row, rows.data + 16 * k, 16);
                memcpy(&(*list)[n].content, contents.data + 16 * k, 16);
            }
        }
        char before[HASH_HEX + 1];
        memcpy(before, at->before, sizeof before);
        if (e->kind || !*before || alive->still(alive->ctx, e)) break;
        lineage_free(&l);
        if (artifact_lineage(g, bytes_of(before), &l, e)) break;
        at = &l;
    }
    lineage_free(&l);
    buf_free(&rows);
    buf_free(&contents);
    if (n) qsort(*list, n, sizeof **list, by_row);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept && !by_row(&(*list)[kept - 1], &(*list)[i])) {
            if (content_revision(&(*list)[i].content) >
                content_revision(&(*list)[kept - 1].content))
                (*list)[kept - 1] = (*list)[i];
        } else {
            (*list)[kept++] = (*list)[i];
        }
    }
    *count = kept;
    return e->kind;
}

struct search {
    const struct seen *list;
    size_t count;
    const char (*names)[ROW_HEX + 1];
    const struct rows *rows;
    size_t from; /* of this chunk, among rows */
    struct arena *arena;
    struct verification *out;
};

static enum err_kind look(void *ctx, size_t i, const struct image_row *row, int64_t revision,
                          struct err *e) {
    struct search *s = ctx;
    const struct seen *was =
        bsearch(s->rows->list[s->from + i], s->list, s->count, sizeof *s->list, by_row);
    (void)e;
    if (!was) return ERR_NONE;
    if (row) {
        struct content now = content_of(revision, row->pixels, row->label);
        if (!memcmp(&now, &was->content, sizeof now)) return ERR_NONE;
    }
    s->out->gone += !row;
    s->out->corrected += row != NULL;
    if (s->out->name_count == VERIFY_NAMES) return ERR_NONE;
    struct changed_image *c = &s->out->names[s->out->name_count++];
    *c = (struct changed_image){.saw = content_revision(&was->content), .is = row ? revision : 0};
    memcpy(c->row, s->names[i], sizeof c->row);
    if (row) c->id = arena_copy(s->arena, row->id), c->source = arena_copy(s->arena, row->source);
    return ERR_NONE;
}

enum { CHUNK = 512 };

/* rows: those that the version saw. */
static enum err_kind look_for_changes(struct registry *g, struct images *im, const struct kept *k,
                                      const struct rows *rows, const struct alive *alive,
                                      struct arena *a, struct verification *out, struct err *e) {
    struct seen *list = NULL;
    char names[CHUNK][ROW_HEX + 1];
    struct search s = {
        .names = (const char(*)[ROW_HEX + 1]) names, .rows = rows, .arena = a, .out = out};
    if (!load_contents(g, &k->lineage, alive, &list, &s.count, e)) {
        s.list = list;
        for (; s.from < rows->count && !e->kind; s.from += CHUNK) {
            size_t n = rows->count - s.from < CHUNK ? rows->count - s.from : CHUNK;
            for (size_t i = 0; i < n; i++) rows_name(rows, s.from + i, names[i]);
            if (!alive->still(alive->ctx, e))
                (void)!images_get(im, k->message.model, s.names, n, look, &s, e);
        }
    }
    free(list);
    return e->kind;
}

/* ---- again ---- */

static enum err_kind repeat(struct registry *g, struct images *im, struct kept *k, struct pupil *p,
                            const struct alive *alive, struct arena *a, struct verification *out,
                            struct err *e) {
    bool anew;
    for (int i = 0; i < k->average.label_count; i++)
        pupil_meet_label(p, bytes_of(k->average.labels[i]));
    if (pupil_grow(p, net_spec(k->average.net), &anew, e)) return e->kind;
    for (size_t i = 0; i < k->lineage.count_count && i < (size_t)p->model.label_count; i++)
        p->fresh[i] = k->lineage.counts[i] - p->counts[i];
    struct course c = {.images = im,
                       .spec = &k->recipe.spec,
                       .fresh = &k->fresh,
                       .corrected = k->corrected,
                       .threads = k->recipe.threads,
                       .gone = mem_zeroed(p->rows.count, 1),
                       .used = mem_zeroed(p->rows.count, 1)};
    if (!study(&c, p, alive, e)) {
        out->steps = c.steps;
        out->presentations = c.presentations;
        compare(p->model.net, net_params(p->model.net), &k->weights, out);
        compare(p->model.net, p->momentum, &k->momentum, out);
        if (p->second && k->second.net) compare(p->model.net, p->second, &k->second, out);
        compare(p->model.net, p->average, &k->average, out);
        out->verdict = out->different ? VERDICT_DIFFERS : VERDICT_SAME;
    }
    if (!e->kind && out->different) {
        struct rows saw = {0};
        char name[ROW_HEX + 1];
        for (size_t i = 0; i < p->rows.count; i++) {
            if (!c.used[i]) continue;
            rows_name(&p->rows, i, name);
            rows_add(&saw, name);
        }
        if (!rows_unpack(&saw, rows_pack(&k->fresh, 0, k->fresh.count), e))
            (void)!look_for_changes(g, im, k, &saw, alive, a, out, e);
        if (out->gone || out->corrected) out->verdict = VERDICT_IMAGES;
        rows_free(&saw);
    }
    free(c.gone);
    free(c.used);
    return e->kind;
}

enum err_kind verify_version(struct registry *g, struct images *im, struct bytes model,
                             int64_t version, const struct alive *alive, struct arena *a,
                             struct verification *out, struct err *e) {
    struct kept k = {.lineage = {.batches = NULL}};
    struct pupil *p = mem_zeroed(1, sizeof *p);
    char machine[200];
    bool there;
    *out = (struct verification){.verdict = VERDICT_NO_RECIPE};
    memcpy(p->name, model.data, model.len < sizeof p->name ? model.len : sizeof p->name - 1);
    if (registry_version(g, model, version, a, &k.message, e) ||
        artifact_lineage(g, k.message.lineage, &k.lineage, e))
        goto done;
    if (!*k.lineage.recipe) goto done;
    if (load_kept(g, &k, e)) goto done;
    recipe_machine(machine);
    out->machine_then = arena_text(a, bytes_of(k.recipe.machine));
    out->machine_now = arena_text(a, bytes_of(machine));
    out->verdict = VERDICT_MACHINE;
    if (strcmp(machine, k.recipe.machine) != 0) goto done;
    out->verdict = VERDICT_NO_PARENT;
    if (load_states(g, &k, p, alive, a, &there, e) || !there) goto done;
    (void)!repeat(g, im, &k, p, alive, a, out, e);
done:
    pupil_clear(p);
    free(p);
    rows_free(&k.fresh);
    lineage_free(&k.lineage);
    model_free(&k.average);
    model_free(&k.weights);
    model_free(&k.momentum);
    model_free(&k.second);
    return e->kind;
}
