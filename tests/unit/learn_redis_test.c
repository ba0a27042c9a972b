/*
 * learn: images and models in a real Redis: what is stored, replayed, dropped and corrected; versions
 * that grow, survive a new trainer and are published once.
 */
#define _GNU_SOURCE
#include "lib/base/clock.h"
#include "lib/learn/artifacts.h"
#include "lib/learn/learner.h"
#include "lib/learn/lineage.h"
#include "lib/learn/report.h"
#include "lib/learn/served.h"
#include "lib/learn/verify.h"
#include "lib/nn/trainer.h"
#include "tests/unit/redis_server.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE };

static struct redis_server server;
static struct redis *redis;
static struct images *images;
static struct registry *registry;
static struct arena arena;
static struct specs *specs;
static struct err err;

static int begin(void **state) {
    (void)state;
    struct redis_reply reply;
    err_clear(&err);
    redis = redis_open(&(struct redis_conf){.url = redis_server_url(&server)}, &err);
    images = images_open(redis, "t.");
    registry = registry_open(redis, "t.");
    return redis_do(redis, &reply, &err, 1, (const struct bytes[]){BYTES("FLUSHALL")});
}

static int end(void **state) {
    (void)state;
    images_close(images);
    registry_close(registry);
    redis_close(redis);
    arena_reset(&arena);
    return 0;
}

static struct bytes pixels_of(unsigned seed) {
    unsigned char *p = arena_alloc(&arena, PIXELS);
    for (int i = 0; i < PIXELS; i++) p[i] = (unsigned char)(seed * 37 + (unsigned)i * (seed + 3));
    return (struct bytes){p, PIXELS};
}

static struct image_put put_of(const char *id, const char *label, unsigned seed, int64_t offset) {
    return (struct image_put){.row = {.model = BYTES("m"),
                                      .id = bytes_of(id),
                                      .source = BYTES("s"),
                                      .label = bytes_of(label),
                                      .filename = BYTES("f.png"),
                                      .time_ms = 5,
                                      .height = SIDE,
                                      .width = SIDE,
                                      .channels = 1,
                                      .pixels = pixels_of(seed)},
                              .from = {"c", "t", 3, offset, 1000 + offset}};
}

static void expect(struct image_put *p, size_t n, const enum image_verdict *verdicts,
                   const int64_t *revisions) {
    assert_int_equal(images_put(images, p, n, NULL, NULL, &err), ERR_NONE);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(p[i].verdict, verdicts[i]);
        assert_int_equal(p[i].revision, revisions[i]);
    }
}

static void replay_is_answered_as_the_first_time(void **state) {
    (void)state;
    struct image_put p[] = {put_of("a", "1", 1, 10), put_of("b", "2", 2, 11),
                            put_of("a", "1", 1, 12), put_of("a", "7", 1, 13),
                            put_of("a", "1", 1, 14)};
    const enum image_verdict first[] = {IMAGE_STORED, IMAGE_STORED, IMAGE_DUPLICATE, IMAGE_REVISED,
                                        IMAGE_REVISED};
    const enum image_verdict again[] = {IMAGE_REPLAYED, IMAGE_REPLAYED, IMAGE_DUPLICATE,
                                        IMAGE_REPLAYED, IMAGE_REPLAYED};
    const int64_t revisions[] = {1, 1, 1, 2, 3};
    expect(p, 5, first, revisions);
    int64_t replayed[] = {1, 1, 3, 2, 3}; /* of a dropped duplicate nobody asks the revision */
    expect(p, 5, again, replayed);
    int64_t count;
    assert_int_equal(images_count(images, BYTES("m"), &count, &err), ERR_NONE);
    assert_int_equal(count, 2);
}

static void replay_mends_a_row_without_its_index(void **state) {
    (void)state;
    struct image_put p = put_of("a", "1", 1, 10);
    struct redis_reply reply;
    int64_t count;
    assert_int_equal(images_put(images, &p, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(redis_do(redis, &reply, &err, 2,
                              (const struct bytes[]){BYTES("DEL"), BYTES("t.images:{m}")}),
                     ERR_NONE);
    assert_int_equal(images_put(images, &p, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(p.verdict, IMAGE_REPLAYED);
    assert_int_equal(images_count(images, BYTES("m"), &count, &err), ERR_NONE);
    assert_int_equal(count, 1);
}

static void a_topic_made_anew_is_no_replay(void **state) {
    (void)state;
    struct image_put old = put_of("a", "1", 1, 500), new = put_of("a", "2", 1, 3);
    assert_int_equal(images_put(images, &old, 1, NULL, NULL, &err), ERR_NONE);
    new.from.time_ms = old.from.time_ms + 120000; /* lower offset, younger record */
    assert_int_equal(images_put(images, &new, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(new.verdict, IMAGE_REVISED);
    struct image_put other = put_of("a", "3", 1, 500);
    other.from.cluster = "another";
    assert_int_equal(images_put(images, &other, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(other.verdict, IMAGE_REVISED);
    assert_int_equal(other.revision, 3);
}

static void hostile_ids_are_told_apart(void **state) {
    (void)state;
    struct image_put p[] = {put_of("a", "1", 1, 1), put_of("a:b", "1", 1, 2),
                            put_of("}{", "1", 1, 3), put_of("*", "1", 1, 4)};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(images_put(images, &p[i], 1, NULL, NULL, &err), ERR_NONE);
        assert_int_equal(p[i].verdict, IMAGE_STORED);
    }
    char one[ROW_HEX + 1], two[ROW_HEX + 1]; /* the border between source and id counts */
    images_row_name(BYTES("ab"), BYTES("c"), one);
    images_row_name(BYTES("a"), BYTES("bc"), two);
    assert_string_not_equal(one, two);
}

static enum err_kind see(void *ctx, const char *name, const struct image_row *row, int64_t revision,
                         struct err *e) {
    struct buf *out = ctx;
    (void)name, (void)e;
    buf_printf(out, "%.*s=%.*s/%lld ", (int)row->id.len, (const char *)row->id.data,
               (int)row->label.len, row->label.data ? (const char *)row->label.data : "",
               (long long)revision);
    return ERR_NONE;
}

static void keeps_as_the_spec_says_oldest_out_first(void **state) {
    (void)state;
    struct spec spec = *specs_of(specs, BYTES("m"));
    struct buf seen = {0};
    int64_t removed;
    for (int i = 0; i < 6; i++) {
        struct image_put p = put_of((const char[]){(char)('a' + i), 0}, "1", 1, i);
        assert_int_equal(images_put(images, &p, 1, NULL, NULL, &err), ERR_NONE);
    }
    spec.keep_images = 4;
    assert_int_equal(images_evict(images, BYTES("m"), &spec, 1006, &removed, &err), ERR_NONE);
    assert_int_equal(removed, 2);
    spec.keep_age_ms = 3;
    assert_int_equal(images_evict(images, BYTES("m"), &spec, 1006, &removed, &err), ERR_NONE);
    assert_int_equal(removed, 2); /* c at 1002 and d at 1003 */
    assert_int_equal(images_each(images, BYTES("m"), see, &seen, &err), ERR_NONE);
    assert_string_equal(seen.data, "e=1/1 f=1/1 ");
    buf_free(&seen);
}

/* ---- removing ---- */

static void many(int from, int to) {
    for (int i = from; i < to; i++) {
        struct image_put p =
            put_of(arena_printf(&arena, "i%d", i), i % 3 ? "keep" : "drop", (unsigned)i, i);
        assert_int_equal(images_put(images, &p, 1, NULL, NULL, &err), ERR_NONE);
    }
}

static int64_t rows_in_index(void) {
    int64_t count;
    assert_int_equal(images_count(images, BYTES("m"), &count, &err), ERR_NONE);
    return count;
}

static void one_image_is_removed(void **state) {
    (void)state;
    bool removed;
    struct image_put p = put_of("a", "1", 1, 10), again = put_of("a", "1", 1, 10);
    expect(&p, 1, (const enum image_verdict[]){IMAGE_STORED}, (const int64_t[]){1});
    assert_int_equal(images_remove(images, BYTES("m"), BYTES("t"), BYTES("a"), &removed, &err),
                     ERR_NONE);
    assert_false(removed); /* another's a */
    assert_int_equal(images_remove(images, BYTES("m"), BYTES("s"), BYTES("a"), &removed, &err),
                     ERR_NONE);
    assert_true(removed);
    assert_int_equal(rows_in_index(), 0);
    assert_int_equal(images_remove(images, BYTES("m"), BYTES("s"), BYTES("a"), &removed, &err),
                     ERR_NONE);
    assert_false(removed);
    expect(&again, 1, (const enum image_verdict[]){IMAGE_STORED}, (const int64_t[]){1});
    assert_int_equal(rows_in_index(), 1);
}

/* What comes while pages are read: after the first new images, one corrected to another label, and
   the oldest evicted; after the second it is interrupted. */
struct meanwhile {
    int pages, interrupted_after;
};

static enum err_kind meanwhile(void *ctx, int64_t looked_at, int64_t found, struct err *e) {
    struct meanwhile *w = ctx;
    (void)looked_at, (void)found;
    if (++w->pages == w->interrupted_after) return err_fatal(e, "interrupted");
    if (w->pages != 1) return ERR_NONE;
    struct spec spec = *specs_of(specs, BYTES("m"));
    struct image_put p = put_of("i0", "keep", 0, 9000);
    int64_t removed;
    many(3000, 3100);
    assert_int_equal(images_put(images, &p, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(p.verdict, IMAGE_REVISED);
    spec.keep_images = 0;
    spec.keep_age_ms = 1; /* i1 … i49 */
    assert_int_equal(images_evict(images, BYTES("m"), &spec, 1051, &removed, &err), ERR_NONE);
    return ERR_NONE;
}

static int64_t labelled(const char *label) {
    struct meanwhile none = {100, 0};
    int64_t n;
    assert_int_equal(
        images_remove_label(images, BYTES("m"), bytes_of(label), true, meanwhile, &none, &n, &err),
        ERR_NONE);
    return n;
}

static void a_label_is_removed_in_pages(void **state) {
    (void)state;
    struct meanwhile stopped = {100, 102}, busy = {0, 0}, quiet = {100, 0};
    int64_t found;
    many(0, 3000);
    assert_int_equal(labelled("drop"), 1000);
    assert_int_equal(labelled("nothing"), 0);
    assert_int_equal(images_remove_label(images, BYTES("m"), BYTES("drop"), false, meanwhile,
                                         &stopped, &found, &err),
                     ERR_FATAL);
    assert_in_range(found, 300, 400);
    assert_int_equal(labelled("drop"), 1000 - found);
    err_clear(&err);
    assert_int_equal(images_remove_label(images, BYTES("m"), BYTES("drop"), false, meanwhile, &busy,
                                         &found, &err),
                     ERR_NONE);
    assert_in_range(labelled("drop"), 33, 34); /* of those that came meanwhile */
    assert_int_equal(images_remove_label(images, BYTES("m"), BYTES("drop"), false, meanwhile,
                                         &quiet, &found, &err),
                     ERR_NONE);
    assert_int_equal(labelled("drop"), 0);
    assert_int_equal(labelled("keep"), rows_in_index());
}

static void splits_are_fair(void **state) {
    (void)state;
    int eval = 0;
    char name[ROW_HEX + 1], id[16];
    for (int i = 0; i < 20000; i++) {
        snprintf(id, sizeof id, "%d", i);
        images_row_name(BYTES("s"), bytes_of(id), name);
        eval += images_split(name, 0.1) == SPLIT_EVAL;
        assert_true(images_split(name, 0.1) == SPLIT_TRAIN ||
                    images_split(name, 0.2) == SPLIT_EVAL);
        assert_int_equal(images_split(name, 0), SPLIT_TRAIN);
    }
    assert_in_range(eval, 1850, 2150);
}

/* ---- models ---- */

static enum err_kind go_on(void *ctx, struct err *e) {
    (void)ctx, (void)e;
    return ERR_NONE;
}
static const struct alive alive = {go_on, NULL};
static const struct record judged = {.offset = 7}; /* behind which is pruned */

/* Of an image that is stored with one share and corrected, or replayed, with another. */
static void a_row_keeps_its_split(void **state) {
    (void)state;
    struct image_put first = put_of("a", "1", 1, 10), corrected = put_of("a", "2", 1, 11),
                     learned = put_of("b", "1", 1, 12), raised = put_of("b", "2", 1, 13);
    first.share = raised.share = 1;
    assert_int_equal(images_put(images, &first, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(images_put(images, &corrected, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(corrected.verdict, IMAGE_REVISED);
    assert_int_equal(corrected.split, SPLIT_EVAL);
    first.share = 0;
    assert_int_equal(images_put(images, &first, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(first.verdict, IMAGE_REPLAYED);
    assert_int_equal(first.split, SPLIT_EVAL);

    assert_int_equal(images_put(images, &learned, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(learned.split, SPLIT_TRAIN);
    assert_int_equal(images_put(images, &raised, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(raised.verdict, IMAGE_REVISED);
    assert_int_equal(raised.split, SPLIT_TRAIN);
}

/* The split's byte is behind one origin, the time and the shape. */
static void a_row_of_long_ago_goes_by_the_share(void **state) {
    (void)state;
    struct image_put first = put_of("a", "1", 1, 10), corrected = put_of("a", "2", 1, 11);
    struct redis_reply reply;
    assert_int_equal(images_put(images, &first, 1, NULL, NULL, &err), ERR_NONE);
    struct bytes key = bytes_of(arena_printf(&arena, "t.image:{m}:%s", first.name));
    assert_int_equal(
        redis_do(redis, &reply, &err, 4,
                 (const struct bytes[]){BYTES("GETRANGE"), key, BYTES("63"), BYTES("63")}),
        ERR_NONE);
    assert_int_equal(*(const char *)reply.text.data, 1 + SPLIT_TRAIN);
    assert_int_equal(redis_do(redis, &reply, &err, 4,
                              (const struct bytes[]){BYTES("SETRANGE"), key, BYTES("63"), {"", 1}}),
                     ERR_NONE);
    corrected.share = 1;
    assert_int_equal(images_put(images, &corrected, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(corrected.verdict, IMAGE_REVISED);
    assert_int_equal(corrected.split, SPLIT_EVAL);
}

static int mislabel; /* added to the class in the labels of the next batches */

/* n images of class i % classes: a bright bar whose place is the class, with noise. */
static struct manifest batch_of(int from, int n, int classes, bool eval) {
    struct manifest m = {.batch = bytes_of(arena_printf(&arena, "%064d", from)),
                         .model = BYTES("m")};
    m.images = arena_alloc(&arena, (size_t)n * sizeof *m.images);
    for (int i = 0; i < n; i++) {
        int class = (from + i) % classes;
        char *name = arena_printf(&arena, "%d", from + i),
             *label = arena_printf(&arena, "c%d", (class + mislabel) % classes);
        unsigned char *p = arena_alloc(&arena, PIXELS);
        for (int k = 0; k < PIXELS; k++)
            p[k] = (unsigned char)(((from + i) * 7919 + k * 104729) % 97 +
                                   (k / SIDE == class ? 150 : 0));
        struct image_put put = put_of(name, label, 0, from + i);
        put.row.pixels = (struct bytes){p, PIXELS};
        assert_int_equal(images_put(images, &put, 1, NULL, NULL, &err), ERR_NONE);
        m.images[m.image_count++] =
            (struct manifest_image){bytes_of(arena_text(&arena, bytes_of(put.name))), 1,
                                    bytes_of(label), eval && i % 5 == 0 ? SPLIT_EVAL : SPLIT_TRAIN};
    }
    return m;
}

static struct spec small_spec(void) {
    struct spec s = *specs_of(specs, BYTES("m"));
    s.width = s.height = SIDE;
    s.network = "mlp";
    s.augments = AUGMENT_NONE; /* a bar that moves is of another class */
    return s;
}

static struct trained learn(struct learner *l, const struct spec *spec, const struct manifest *m,
                            size_t n) {
    struct trained out;
    if (learner_learn(l, BYTES("m"), spec, m, n, &alive, &arena, &out, &err))
        fail_msg("%s", err.text);
    return out;
}

static void learns_grows_and_goes_on(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 2);
    struct manifest first[] = {batch_of(0, 300, 3, true), batch_of(300, 300, 3, true)};
    struct trained one = learn(l, &spec, first, 2), two;
    assert_int_equal(one.version, 1);
    assert_int_equal(one.images, 600);
    assert_int_equal(one.labels, 3);
    assert_int_equal(one.evaluation.images, 120);
    assert_true(one.evaluation.accuracy > 0.95);
    learner_close(l);

    /* another process, a new label */
    l = learner_open(registry, images, 2);
    struct manifest more = batch_of(600, 300, 5, true);
    two = learn(l, &spec, &more, 1);
    assert_int_equal(two.version, 2);
    assert_int_equal(two.parent, 1);
    assert_int_equal(two.labels, 5);
    assert_int_equal(two.images, 900);
    assert_true(two.evaluation.accuracy > 0.95); /* on the old classes as well */
    int64_t versions[3];
    const struct bytes ids[] = {first[0].batch, more.batch, BYTES("unknown")};
    assert_int_equal(registry_batches(registry, BYTES("m"), ids, 3, versions, &err), ERR_NONE);
    assert_int_equal(versions[0], 1);
    assert_int_equal(versions[1], 2);
    assert_int_equal(versions[2], 0);
    learner_close(l);
}

static void the_same_batches_give_the_same_bits(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct manifest m = batch_of(0, 200, 4, true);
    struct learner *l = learner_open(registry, images, 2);
    struct trained one = learn(l, &spec, &m, 1);
    learner_close(l);
    end(NULL);
    char artifact[HASH_HEX + 1];
    snprintf(artifact, sizeof artifact, "%.*s", (int)one.artifact.len,
             (const char *)one.artifact.data);
    begin(NULL);
    m = batch_of(0, 200, 4, true);
    l = learner_open(registry, images, 2);
    one = learn(l, &spec, &m, 1);
    assert_true(bytes_is(one.artifact, artifact));
    learner_close(l);
}

static void tiny_data_is_no_trouble(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1);
    struct manifest one_class = batch_of(0, 10, 1, false), eval_only = batch_of(100, 1, 1, true),
                    ten = batch_of(200, 10, 2, false);
    struct trained m = learn(l, &spec, &one_class, 1);
    assert_int_equal(m.labels, 1);
    assert_int_equal(m.evaluation.images, 0);
    assert_true(isnan(m.evaluation.accuracy));
    m = learn(l, &spec, &eval_only, 1);
    assert_int_equal(m.version, 2);
    assert_int_equal(m.evaluation.images, 1);
    m = learn(l, &spec, &ten, 1);
    assert_int_equal(m.labels, 2);
    spec.network = "cnn"; /* the spec changes on a live fleet */
    struct manifest more = batch_of(300, 100, 2, false);
    m = learn(l, &spec, &more, 1);
    assert_int_equal(m.version, 4);
    learner_close(l);
}

static void gone_and_corrected_rows_are_left_out(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct manifest m = batch_of(0, 50, 2, false);
    struct redis_reply reply;
    char *key =
        arena_printf(&arena, "t.image:{m}:%.*s", ROW_HEX, (const char *)m.images[3].row.data);
    assert_int_equal(
        redis_do(redis, &reply, &err, 2, (const struct bytes[]){BYTES("DEL"), bytes_of(key)}),
        ERR_NONE);
    struct image_put corrected = put_of("4", "other", 9, 1000);
    assert_int_equal(images_put(images, &corrected, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(corrected.verdict, IMAGE_REVISED);
    struct learner *l = learner_open(registry, images, 1);
    struct trained t = learn(l, &spec, &m, 1);
    assert_int_equal(t.missing, 1);
    assert_int_equal(t.images, 48);
    learner_close(l);
}

static struct verification verify(int64_t version) {
    struct verification v;
    if (verify_version(registry, images, BYTES("m"), version, &alive, &arena, &v, &err))
        fail_msg("%s", err.text);
    return v;
}

static void remove_row(const struct manifest *m, size_t i) {
    struct redis_reply reply;
    char *key =
        arena_printf(&arena, "t.image:{m}:%.*s", ROW_HEX, (const char *)m->images[i].row.data);
    assert_int_equal(
        redis_do(redis, &reply, &err, 2, (const struct bytes[]){BYTES("DEL"), bytes_of(key)}),
        ERR_NONE);
}

/* A new net, new labels, another net, old rows that go while it is in memory, and a new process:
   each is made again to the bit, by threads that read beside, with images that are changed. */
static void every_version_can_be_made_again(void **state) {
    (void)state;
    struct spec spec = small_spec();
    spec.augments = AUGMENT_PHOTOS;
    struct learner *l = learner_open(registry, images, 2);
    struct manifest m[] = {batch_of(0, 300, 3, true), batch_of(300, 200, 5, true),
                           batch_of(600, 200, 5, false), batch_of(900, 200, 5, true),
                           batch_of(1200, 200, 5, true)};
    learn(l, &spec, &m[0], 1);
    learn(l, &spec, &m[1], 1);
    for (size_t i = 0; i < 40; i++) remove_row(&m[0], i);
    learn(l, &spec, &m[2], 1); /* finds many of them gone */
    spec.network = "cnn";
    learn(l, &spec, &m[3], 1);
    learner_close(l);
    l = learner_open(registry, images, 2);
    learn(l, &spec, &m[4], 1);
    learner_close(l);
    for (int64_t version = 4; version <= 5; version++) {
        struct verification v = verify(version);
        assert_int_equal(v.verdict, VERDICT_SAME);
        assert_int_equal(v.different, 0);
        assert_true(v.steps > 0 && v.floats > 1000);
    }
    struct verification v = verify(2); /* 40 of those that it saw are gone */
    assert_int_equal(v.verdict, VERDICT_IMAGES);
    assert_int_equal(v.corrected, 0);
    assert_in_range(v.gone, 20, 40);
    assert_int_equal(v.name_count, VERIFY_NAMES);
    assert_int_equal(v.names[0].is, 0);
}

/* From sgd to adamw, a new label with it, a new process, and back: no net begins anew, each version
   keeps the state of its optimizer, and is made again to the bit. */
static void another_optimizer_goes_on(void **state) {
    (void)state;
    static const bool adamw[] = {false, true, true, true, false};
    static const int classes[] = {3, 3, 5, 5, 5};
    struct spec spec = small_spec();
    int64_t steps = 0, moved = 0;
    for (int i = 0; i < 5; i++) {
        struct learner *l = learner_open(registry, images, 2);
        struct manifest m = batch_of(300 * i, 300, classes[i], true);
        struct lineage lineage = {0};
        spec.optimizer = adamw[i] ? OPTIMIZER_ADAM : OPTIMIZER_SGD;
        struct trained t = learn(l, &spec, &m, 1);
        assert_true(t.evaluation.accuracy > 0.95);
        assert_int_equal(artifact_lineage(registry, t.lineage, &lineage, &err), ERR_NONE);
        assert_int_equal(*lineage.second != 0, adamw[i]);
        bool changed = i && adamw[i] != adamw[i - 1];
        assert_int_equal(lineage.moved, lineage.steps - steps + (changed ? 0 : moved));
        assert_true(lineage.steps > steps);
        steps = lineage.steps;
        moved = lineage.moved;
        lineage_free(&lineage);
        learner_close(l);
        assert_int_equal(verify(t.version).verdict, VERDICT_SAME);
    }
}

static void what_was_corrected_since_is_named(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1);
    struct manifest m = batch_of(0, 100, 3, false), next = batch_of(100, 100, 3, false);
    learn(l, &spec, &m, 1);
    learn(l, &spec, &next, 1);
    learner_close(l);
    assert_int_equal(verify(1).verdict, VERDICT_SAME);
    assert_int_equal(verify(2).verdict, VERDICT_SAME);
    struct image_put corrected = put_of("7", "c2", 9, 5000);
    assert_int_equal(images_put(images, &corrected, 1, NULL, NULL, &err), ERR_NONE);
    assert_int_equal(corrected.verdict, IMAGE_REVISED);
    struct verification v = verify(1);
    assert_int_equal(v.verdict, VERDICT_IMAGES);
    assert_int_equal(v.gone, 0);
    assert_int_equal(v.corrected, 1);
    assert_true(bytes_is(v.names[0].id, "7"));
    assert_int_equal(v.names[0].saw, 1);
    assert_int_equal(v.names[0].is, 2);
}

/* It gets the presentations of so many new images, and a version of corrections can be made again. */
static void a_correction_is_worth_more(void **state) {
    (void)state;
    enum { N = 600 };
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 2);
    struct manifest m = batch_of(0, N, 3, false), other = batch_of(N, N, 3, false);
    struct trained first = learn(l, &spec, &m, 1), second = learn(l, &spec, &other, 1);
    for (int i = 0; i < N; i++) {
        char *label = arena_printf(&arena, "c%d", (i + 1) % 3);
        struct image_put put = put_of(arena_printf(&arena, "%d", i), label, 9, 5000 + i);
        assert_int_equal(images_put(images, &put, 1, NULL, NULL, &err), ERR_NONE);
        assert_int_equal(put.verdict, IMAGE_REVISED);
        m.images[i].revision = put.revision;
        m.images[i].label = bytes_of(label);
    }
    m.batch = bytes_of(arena_printf(&arena, "%064d", 5000));
    struct trained third = learn(l, &spec, &m, 1);
    learner_close(l);
    int64_t as_new = second.presentations - first.presentations,
            corrected = third.presentations - second.presentations;
    assert_int_equal(as_new, ceil(spec.passes * N / 128) * 128);
    assert_int_equal(corrected, ceil(spec.passes * N * spec.corrected / 128) * 128);
    assert_int_equal(verify(3).verdict, VERDICT_SAME);
}

/* Nothing is learned of one label, and the first of another, a single flat image, does not say how all
   of them look. */
static void one_label_is_waited_with(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 2);
    struct manifest m = batch_of(0, 200, 1, true);
    struct trained one = learn(l, &spec, &m, 1);
    assert_int_equal(one.labels, 1);
    assert_int_equal(one.presentations, 0);
    struct image_put put = put_of("flat", "c1", 0, 1000);
    unsigned char pixels[PIXELS];
    memset(pixels, 200, sizeof pixels);
    put.row.pixels = (struct bytes){pixels, PIXELS};
    assert_int_equal(images_put(images, &put, 1, NULL, NULL, &err), ERR_NONE);
    struct manifest_image image = {bytes_of(put.name), 1, BYTES("c1"), SPLIT_TRAIN};
    struct manifest next = {.batch = bytes_of(arena_printf(&arena, "%064d", 1000)),
                            .model = BYTES("m"),
                            .images = &image,
                            .image_count = 1};
    struct trained two = learn(l, &spec, &next, 1);
    learner_close(l);
    assert_int_equal(two.labels, 2);
    assert_true(two.presentations > 0);
    struct model made = {0};
    assert_int_equal(artifact_model(registry, two.artifact, &made, &err), ERR_NONE);
    assert_true(net_norm(made.net)->mean[0] < 0.4f); /* 0.78 is the flat one's */
    assert_true(net_norm(made.net)->scale[0] < 20);  /* 100 is the flat one's */
    model_free(&made);
    assert_int_equal(verify(1).verdict, VERDICT_SAME);
    assert_int_equal(verify(2).verdict, VERDICT_SAME);
}

/* The message of version 2 is put in the place of version 1's: the batches of one, the weights of
   the other. */
static void what_was_not_made_so_differs(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct redis_reply reply;
    struct learner *l = learner_open(registry, images, 1);
    struct manifest m = batch_of(0, 100, 3, false), next = batch_of(100, 100, 3, false);
    struct trained one = learn(l, &spec, &m, 1), two = learn(l, &spec, &next, 1);
    learner_close(l);
    struct buf json = {0};
    one.artifact = two.artifact;
    trained_encode(&one, &json);
    assert_int_equal(redis_do(redis, &reply, &err, 4,
                              (const struct bytes[]){BYTES("HSET"), BYTES("t.model:{m}:versions"),
                                                     BYTES("1"), buf_bytes(&json)}),
                     ERR_NONE);
    buf_free(&json);
    struct verification v = verify(1);
    assert_int_equal(v.verdict, VERDICT_DIFFERS);
    assert_true(v.different > 100 && v.different <= v.floats / 3);
    assert_true(v.largest > 0);
    assert_int_equal(registry_prune(registry, BYTES("m"), 1, NULL, 0, &judged, &err), ERR_NONE);
    assert_int_equal(verify(2).verdict, VERDICT_NO_PARENT);
}

static void a_late_trainer_publishes_nothing(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct manifest m[] = {batch_of(0, 60, 2, false), batch_of(100, 60, 2, false)};
    struct learner *l = learner_open(registry, images, 1);
    struct trained one = learn(l, &spec, &m[0], 1), head;
    assert_int_equal(registry_publish(registry, &one, NULL, 0, &err),
                     ERR_NONE); /* the same again is fine */
    struct trained late = one;
    late.batches = &m[1].batch;
    late.lineage = one.artifact; /* another message for the same step */
    assert_int_equal(registry_publish(registry, &late, NULL, 0, &err), ERR_AGAIN);
    err_clear(&err);
    assert_int_equal(registry_head(registry, BYTES("m"), &arena, &head, &err), ERR_NONE);
    assert_true(bytes_equal(head.lineage, one.lineage));
    /* It looked for the batch before the other's version was there, and for the head behind it. */
    struct trained again = one;
    again.version = one.version + 1;
    again.parent = one.version;
    assert_int_equal(registry_publish(registry, &again, NULL, 0, &err), ERR_AGAIN);
    learner_close(l);
}

static void diverged_training_is_not_published(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 2);
    struct manifest m[] = {batch_of(0, 200, 4, true), batch_of(1000, 200, 4, true),
                           batch_of(2000, 200, 4, true)};
    struct trained one = learn(l, &spec, &m[0], 1), two, three;
    spec.rate = 1e6;
    spec.average = 0;
    two = learn(l, &spec, &m[1], 1);
    assert_int_equal(two.version, 2);
    assert_true(two.evaluation.accuracy >=
                one.evaluation.accuracy - 0.1); /* the weights of before */
    spec.rate = 0.05;
    three = learn(l, &spec, &m[2], 1);
    assert_true(three.evaluation.accuracy > 0.95);
    learner_close(l);
}

static void judges_on_the_same_images(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1);
    struct manifest m[] = {batch_of(0, 400, 4, true), {.model = {0}}};
    mislabel = 1;
    m[1] = batch_of(1000, 1600, 4, false);
    mislabel = 0;
    struct trained one = learn(l, &spec, &m[0], 1);
    struct deployed none = {0}, first, second;
    assert_int_equal(
        judge_challenger(registry, images, &spec, &one, &none, &alive, &arena, &first, &err),
        ERR_NONE);
    assert_true(first.promoted);
    assert_int_equal(first.version, 1);
    struct trained two = learn(l, &spec, &m[1], 1);
    assert_int_equal(
        judge_challenger(registry, images, &spec, &two, &first, &alive, &arena, &second, &err),
        ERR_NONE);
    assert_false(second.promoted);
    assert_int_equal(second.version, 1);
    assert_int_equal(second.judged, 2);
    assert_true(second.challenger.accuracy < second.evaluation.accuracy);
    assert_int_equal(second.challenger.images, second.evaluation.images);
    learner_close(l);
}

/* What stood in Redis is gone: a batch whose images went with it makes a version that nobody serves. */
static void what_is_lost_begins_anew(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1);
    struct manifest m[] = {batch_of(0, 300, 3, true), batch_of(300, 300, 3, true)};
    struct trained one = learn(l, &spec, &m[0], 1);
    struct deployed none = {0}, first, second, third;
    struct redis_reply reply;
    assert_int_equal(
        judge_challenger(registry, images, &spec, &one, &none, &alive, &arena, &first, &err),
        ERR_NONE);
    assert_int_equal(redis_do(redis, &reply, &err, 1, (const struct bytes[]){BYTES("FLUSHALL")}),
                     ERR_NONE);

    struct trained gone = learn(l, &spec, &m[1], 1);
    assert_int_equal(gone.version, 1);
    assert_int_equal(gone.images, 0);
    assert_int_equal(gone.missing, 300);
    assert_int_equal(
        judge_challenger(registry, images, &spec, &gone, &first, &alive, &arena, &second, &err),
        ERR_NONE);
    assert_false(second.promoted);
    assert_true(bytes_equal(second.artifact, one.artifact));

    m[1] = batch_of(600, 300, 3, true);
    struct trained back = learn(l, &spec, &m[1], 1);
    assert_int_equal(back.version, 2);
    assert_int_equal(back.images, 300);
    assert_int_equal(
        judge_challenger(registry, images, &spec, &back, &second, &alive, &arena, &third, &err),
        ERR_NONE);
    assert_true(third.promoted);
    assert_true(bytes_equal(third.artifact, back.artifact));
    learner_close(l);
}

/* Two trainers, one number: the one in memory is not grown further when Redis has the other. */
static void another_version_of_the_number_is_taken_from_the_registry(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1), *other;
    struct manifest mine = batch_of(0, 100, 2, false);
    struct redis_reply reply;
    learn(l, &spec, &mine, 1);
    assert_int_equal(redis_do(redis, &reply, &err, 1, (const struct bytes[]){BYTES("FLUSHALL")}),
                     ERR_NONE);
    struct manifest theirs = batch_of(1000, 300, 3, false), next = batch_of(2000, 100, 2, false);
    other = learner_open(registry, images, 1);
    struct trained one = learn(other, &spec, &theirs, 1), two, again;
    learner_close(other);
    assert_int_equal(one.version, 1);
    two = learn(l, &spec, &next, 1);
    assert_int_equal(two.version, 2);
    assert_int_equal(two.images, 400);
    assert_int_equal(two.labels, 3);
    learner_close(l);
    l = learner_open(registry, images, 1); /* and it can be gone on from */
    struct manifest last = batch_of(3000, 50, 2, false);
    again = learn(l, &spec, &last, 1);
    assert_int_equal(again.version, 3);
    assert_int_equal(again.labels, 3);
    learner_close(l);
}

static bool has_artifact(struct bytes name) {
    struct buf file = {0};
    struct err e = {0};
    bool has = !registry_get_artifact(registry, name, &file, &e);
    buf_free(&file);
    return has;
}

static void a_version_that_learned_nothing_can_be_gone_on_from(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct manifest some = batch_of(0, 100, 2, false), held = batch_of(500, 1, 2, true),
                    more = batch_of(600, 100, 2, false);
    struct learner *l = learner_open(registry, images, 1);
    learn(l, &spec, &some, 1);
    struct trained two = learn(l, &spec, &held, 1);
    assert_int_equal(two.images, 101);
    learner_close(l);
    l = learner_open(registry, images, 1); /* from what the registry has */
    struct trained three = learn(l, &spec, &more, 1);
    assert_int_equal(three.version, 3);
    assert_true(has_artifact(two.artifact));
    learner_close(l);
}

static void equal_weights_share_nothing(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct manifest m[] = {batch_of(0, 100, 2, false), batch_of(500, 100, 2, false),
                           batch_of(900, 1, 2, true), batch_of(901, 4, 2, false)};
    struct learner *l = learner_open(registry, images, 1);
    struct trained t[4];
    spec.average = 0; /* what is served is what training goes on from */
    for (int i = 0; i < 4; i++) t[i] = learn(l, &spec, &m[i], 1);
    for (int i = 0; i < 4; i++) assert_true(has_artifact(t[i].artifact));
    assert_int_equal(
        registry_prune(registry, BYTES("m"), 3, (const int64_t[]){2, 4}, 2, &judged, &err),
        ERR_NONE);
    assert_false(has_artifact(t[0].artifact));
    assert_true(has_artifact(t[1].artifact)); /* spared */
    assert_false(has_artifact(t[2].artifact));
    assert_true(has_artifact(t[3].artifact));
    learner_close(l);
}

static void a_report_counts_what_was_measured(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1);
    struct manifest m[] = {batch_of(0, 600, 4, true), {.model = {0}}};
    spec.smoothing = 0.4; /* far too unsure: there is something to calibrate */
    mislabel = 1;         /* there is something to take for something else */
    m[1] = batch_of(5000, 200, 4, true);
    mislabel = 0;
    struct trained t = learn(l, &spec, m, 2);
    struct buf file = {0};
    struct version_report r;
    assert_int_equal(registry_get_artifact(registry, t.report, &file, &err), ERR_NONE);
    assert_int_equal(report_decode(buf_bytes(&file), &arena, &r, &err), ERR_NONE);
    assert_true(bytes_is(r.model, "m"));
    assert_int_equal(r.version, 1);
    assert_int_equal(r.images, 160);
    assert_int_equal(r.class_count, 4);
    size_t labelled = 0, right = 0;
    int64_t wrong = 0, last = INT64_MAX;
    double precision = 0, recall = 0, auc = 0;
    for (size_t i = 0; i < 4; i++) {
        const struct class_score *s = &r.classes[i].score;
        labelled += s->labelled;
        right += s->right;
        precision += (double)s->right / (double)s->guessed / 4;
        recall += (double)s->right / (double)s->labelled / 4;
        auc += s->auc / 4;
    }
    for (size_t i = 0; i < r.pair_count; i++) {
        wrong += r.pairs[i].images;
        assert_true(r.pairs[i].images <= last && !bytes_equal(r.pairs[i].label, r.pairs[i].guess));
        last = r.pairs[i].images;
    }
    assert_int_equal(labelled, 160);
    assert_true(wrong >= 10);
    assert_int_equal((int64_t)(labelled - right), wrong);
    assert_true(fabs((double)right / 160 - t.evaluation.accuracy) < 1e-9);
    assert_true(fabs(precision - t.evaluation.precision) < 1e-9);
    assert_true(fabs(recall - t.evaluation.recall) < 1e-9);
    assert_true(fabs(auc - t.evaluation.auc) < 1e-9);
    assert_int_equal(r.calibration.images, 160);
    assert_true(r.calibration.ece == t.evaluation.ece);
    assert_true(r.temperature == t.temperature && t.temperature != 1);

    /* The weights carry the temperature, and what others measure with them is the same. */
    struct model model = {0};
    struct rows rows = {0};
    struct metrics again;
    assert_int_equal(artifact_model(registry, t.artifact, &model, &err), ERR_NONE);
    assert_true((double)net_temperature(model.net) == t.temperature);
    assert_int_equal(artifact_held_out(registry, &t, &rows, &err), ERR_NONE);
    assert_int_equal(judge_score(images, BYTES("m"), &model, NULL, 2, &rows, rows.count, NULL,
                                 &alive, &again, &err),
                     ERR_NONE);
    assert_true(again.accuracy == t.evaluation.accuracy);
    assert_true(fabs(again.loss - t.evaluation.loss) < 1e-5);
    assert_true(fabs(again.ece - t.evaluation.ece) < 1e-4);
    net_set_temperature(model.net, 1);
    assert_int_equal(judge_score(images, BYTES("m"), &model, NULL, 2, &rows, rows.count, NULL,
                                 &alive, &again, &err),
                     ERR_NONE);
    assert_true(t.temperature < 0.9 && again.loss > t.evaluation.loss + 0.01);

    /* It goes with the weights. */
    const int64_t spare[] = {1};
    assert_int_equal(registry_prune(registry, BYTES("m"), 1, spare, 1, &judged, &err), ERR_NONE);
    assert_true(has_artifact(t.report));
    assert_int_equal(registry_prune(registry, BYTES("m"), 1, NULL, 0, &judged, &err), ERR_NONE);
    assert_false(has_artifact(t.report) || has_artifact(t.artifact));
    model_free(&model);
    rows_free(&rows);
    buf_free(&file);
    learner_close(l);
}

/* More labels and confusions than a report takes. */
static void a_report_is_bounded(void **state) {
    (void)state;
    enum { LABELS = 3000 };
    struct err e = {0};
    struct net_spec net = {.height = 1, .width = 1, .channels = 1};
    struct model m = {.net = net_make(&net, LABELS, 1, &e)};
    struct buf json = {0};
    struct version_report r, back;
    char label[129];
    for (int i = 0; i < LABELS; i++) {
        snprintf(label, sizeof label, "%0128d", i);
        memset(label, '"', 120); /* the longest, and each of it is written as two */
        model_add_label(&m, label);
    }
    struct exam x = {.sitters = {{.model = &m}}, .count = 1, .n = LABELS};
    struct sitter *of = &x.sitters[0];
    of->prob = mem_zeroed((size_t)LABELS * LABELS, sizeof *of->prob);
    of->label = mem_alloc(LABELS * sizeof *of->label);
    for (int i = 0; i < LABELS; i++) {
        of->label[i] = i;
        of->prob[(size_t)i * LABELS + (size_t)(i % 7 ? i * 31 % LABELS : i)] = 1;
    }
    report_of(&x, 0, &arena, &r);
    r.model = BYTES("m");
    report_encode(&r, &json);
    printf("%zu bytes, %zu classes and %lld left out, %zu pairs and %lld left out\n", json.len,
           r.class_count, (long long)r.classes_left_out, r.pair_count, (long long)r.pairs_left_out);
    assert_true(json.len < 1 << 20);
    assert_int_equal(r.class_count, REPORT_CLASSES);
    assert_int_equal(r.pair_count, REPORT_PAIRS);
    assert_int_equal(r.classes_left_out, LABELS - REPORT_CLASSES);
    int64_t wrong = r.images_left_out;
    for (size_t i = 0; i < r.pair_count; i++) wrong += r.pairs[i].images;
    struct metrics metrics;
    exam_metrics(&x, 0, &metrics, NULL);
    assert_int_equal(wrong, llround((1 - metrics.accuracy) * LABELS));
    assert_int_equal(report_decode(buf_bytes(&json), &arena, &back, &err), ERR_NONE);
    assert_int_equal(back.class_count, REPORT_CLASSES);
    assert_true(bytes_equal(back.pairs[999].guess, r.pairs[999].guess));
    for (size_t len = 1; len < json.len; len += 4999) { /* cut off */
        err_clear(&err);
        assert_int_equal(report_decode((struct bytes){json.data, len}, &arena, &back, &err),
                         ERR_BAD);
    }
    err_clear(&err);
    buf_free(&json);
    exam_free(&x);
    model_free(&m);
}

/* The best so far is kept, asked, named, and gives way; and lost, it is replaced. */
static void the_best_so_far_is_the_measure(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1);
    struct manifest m[] = {batch_of(0, 600, 4, true), batch_of(1000, 40, 4, false),
                           batch_of(2000, 40, 4, false)};
    struct deployed none = {0}, one, two, three, four;
    enum dropped lost;
    struct trained t[3];
    for (int i = 0; i < 3; i++) t[i] = learn(l, &spec, &m[i], 1);
    spec.deploy_error = 1e-9; /* none is beyond chance */
    assert_int_equal(
        judge_challenger(registry, images, &spec, &t[0], &none, &alive, &arena, &one, &err),
        ERR_NONE);
    assert_true(one.best == 1 && bytes_equal(one.best_artifact, t[0].artifact));
    assert_true(one.best_evaluation.accuracy == one.challenger.accuracy);
    assert_int_equal(
        judge_challenger(registry, images, &spec, &t[1], &one, &alive, &arena, &two, &err),
        ERR_NONE);
    assert_true(two.promoted && two.best == 1 && bytes_equal(two.best_artifact, t[0].artifact));
    assert_int_equal(two.best_evaluation.images, two.challenger.images);
    /* It is spared while it is the best. */
    const int64_t spare[] = {2, two.best};
    assert_int_equal(registry_prune(registry, BYTES("m"), 2, spare, 2, &judged, &err), ERR_NONE);
    assert_int_equal(
        judge_challenger(registry, images, &spec, &t[2], &two, &alive, &arena, &three, &err),
        ERR_NONE);
    assert_true(three.promoted && three.best == 1 && three.best_evaluation.images);
    assert_int_equal(registry_drop(registry, BYTES("m"), 1, &judged, &lost, &err), ERR_NONE);
    assert_true(lost == DROP_DONE && !has_artifact(t[0].artifact) && !has_artifact(t[0].report));
    assert_int_equal(
        judge_challenger(registry, images, &spec, &t[2], &two, &alive, &arena, &four, &err),
        ERR_NONE);
    assert_true(four.promoted && four.best == 2);
    spec.deploy_error = 0.05;
    mislabel = 2;
    struct manifest wrong = batch_of(7000, 900, 4, false);
    mislabel = 0;
    struct trained worse = learn(l, &spec, &wrong, 1);
    assert_int_equal(
        judge_challenger(registry, images, &spec, &worse, &three, &alive, &arena, &four, &err),
        ERR_NONE);
    assert_true(!four.promoted && four.version == 3);
    assert_non_null(strstr(arena_text(&arena, four.why), ": worse beyond chance (p = "));
    assert_true(four.evaluation.accuracy > four.challenger.accuracy);
    learner_close(l);
}

static void a_new_input_size_is_promoted(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct manifest m[] = {batch_of(0, 400, 4, true), batch_of(1000, 5, 4, false)};
    struct learner *l = learner_open(registry, images, 1);
    struct trained one = learn(l, &spec, &m[0], 1), two;
    struct deployed none = {0}, first, second;
    assert_int_equal(
        judge_challenger(registry, images, &spec, &one, &none, &alive, &arena, &first, &err),
        ERR_NONE);
    spec.width = 4; /* no image of this size is there yet */
    two = learn(l, &spec, &m[1], 1);
    assert_int_equal(
        judge_challenger(registry, images, &spec, &two, &first, &alive, &arena, &second, &err),
        ERR_NONE);
    assert_true(second.promoted);
    learner_close(l);
}

static void evicted_images_leave_the_sample(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct manifest m[] = {batch_of(0, 300, 2, true), batch_of(1000, 100, 2, true),
                           batch_of(2000, 100, 2, true)};
    struct learner *l = learner_open(registry, images, 1);
    int64_t removed;
    assert_int_equal(learn(l, &spec, &m[0], 1).evaluation.images, 60);
    spec.keep_images = 200; /* of 500: the first batch goes */
    assert_int_equal(images_evict(images, BYTES("m"), &spec, 0, &removed, &err), ERR_NONE);
    assert_int_equal(removed, 300);
    assert_int_equal(learn(l, &spec, &m[1], 1).evaluation.images, 20);
    assert_int_equal(learn(l, &spec, &m[2], 1).evaluation.images, 40);
    learner_close(l);
    l = learner_open(registry, images, 1);
    struct manifest more = batch_of(3000, 50, 2, false);
    assert_int_equal(learn(l, &spec, &more, 1).evaluation.images, 40);
    learner_close(l);
}

static void serves_what_is_deployed(void **state) {
    (void)state;
    struct spec spec = small_spec();
    struct learner *l = learner_open(registry, images, 1);
    struct manifest m = batch_of(0, 400, 4, true);
    struct trained one = learn(l, &spec, &m, 1);
    struct served_models *s =
        served_open(&(struct redis_conf){.url = redis_server_url(&server)}, "t.", 16, &err);
    struct deployed d = {.model = BYTES("m"),
                         .version = 1,
                         .artifact = one.artifact,
                         .judged = 1,
                         .promoted = true,
                         .why = BYTES("x")};
    struct buf json = {0};
    assert_null(served_find(s, BYTES("m"), &err));
    assert_int_equal(err.reason, REASON_NO_MODEL);
    err_clear(&err);
    deployed_encode(&d, &json);
    assert_int_equal(served_update(s, BYTES("m"), buf_bytes(&json), &err), ERR_NONE);
    struct served *by = served_find(s, BYTES("m"), &err);
    assert_non_null(by);
    uint8_t pixels[PIXELS];
    struct image bar = {SIDE, SIDE, 1, pixels};
    struct tensor_reader reader = {.max_pixels = PIXELS};
    struct buf png = {0};
    struct result answer = {0};
    int at = -1;
    for (int k = 0; k < PIXELS; k++) pixels[k] = k / SIDE == 2 ? 200 : 20;
    assert_int_equal(image_encode(&bar, &png, &err), ERR_NONE);
    assert_int_equal(served_read(by, &reader, BYTES("no image"), &at, &err), ERR_BAD);
    err_clear(&err);
    assert_int_equal(served_read(by, &reader, buf_bytes(&png), &at, &err), ERR_NONE);
    assert_int_equal(at, 0); /* what was refused took no row */
    served_run(s);
    served_answer(by, at, &answer);
    assert_true(bytes_is(answer.label, "c2"));
    assert_true(answer.probability > 0.5);
    assert_int_equal(answer.version, 1);
    tensor_reader_free(&reader);
    buf_free(&png);
    /* an update that cannot be followed leaves the old one in service */
    struct deployed broken = d;
    broken.version = 2;
    broken.artifact = one.lineage;
    buf_clear(&json);
    deployed_encode(&broken, &json);
    assert_int_equal(served_update(s, BYTES("m"), buf_bytes(&json), &err), ERR_NONE);
    assert_ptr_equal(served_find(s, BYTES("m"), &err), by);
    assert_int_equal(served_update(s, BYTES("m"), (struct bytes){0}, &err), ERR_NONE);
    assert_null(served_find(s, BYTES("m"), &err));
    served_close(s);
    buf_free(&json);
    learner_close(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
        T(replay_is_answered_as_the_first_time),
        T(replay_mends_a_row_without_its_index),
        T(a_topic_made_anew_is_no_replay),
        T(hostile_ids_are_told_apart),
        T(keeps_as_the_spec_says_oldest_out_first),
        T(one_image_is_removed),
        T(a_label_is_removed_in_pages),
        T(splits_are_fair),
        T(a_row_keeps_its_split),
        T(a_row_of_long_ago_goes_by_the_share),
        T(learns_grows_and_goes_on),
        T(the_same_batches_give_the_same_bits),
        T(tiny_data_is_no_trouble),
        T(gone_and_corrected_rows_are_left_out),
        T(every_version_can_be_made_again),
        T(one_label_is_waited_with),
        T(another_optimizer_goes_on),
        T(what_was_corrected_since_is_named),
        T(a_correction_is_worth_more),
        T(what_was_not_made_so_differs),
        T(a_late_trainer_publishes_nothing),
        T(diverged_training_is_not_published),
        T(judges_on_the_same_images),
        T(what_is_lost_begins_anew),
        T(another_version_of_the_number_is_taken_from_the_registry),
        T(a_version_that_learned_nothing_can_be_gone_on_from),
        T(equal_weights_share_nothing),
        T(a_new_input_size_is_promoted),
        T(a_report_counts_what_was_measured),
        T(a_report_is_bounded),
        T(the_best_so_far_is_the_measure),
        T(evicted_images_leave_the_sample),
        T(serves_what_is_deployed)};
    redis_server_start(&server, (char *)NULL);
    specs = specs_load(NULL, &err);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    redis_server_stop(&server);
    specs_free(specs);
    arena_free(&arena);
    return failed;
}
