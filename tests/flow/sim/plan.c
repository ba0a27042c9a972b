/* plan: what a schedule is drawn from. Blows are drawn by boundary first, so that rare ones are met as often as others. */
#define _GNU_SOURCE
#include "tests/flow/sim/sim.h"

#include "lib/base/random.h"
#include "lib/image/png.h"
#include "proto/messages.h"

#include <stdio.h>
#include <stdlib.h>

const char *const boundary_names[BOUNDARIES] = {"step",      "poll",   "outputs",   "lane",
                                                "positions", "commit", "committed", "connect",
                                                "command",   "reply"};
const char *const fault_names[FAULTS] = {"crash",  "zombie", "move", "refused",  "unknown",
                                         "fenced", "cut",    "full", "readonly", "loading"};
const char *const stage_names[STAGES] = {"preprocess", "store",  "batch",
                                         "train",      "deploy", "predict"};
const char *const model_names[MODELS] = {"alpha", "beta", "gamma"};
const struct habits model_habits[MODELS] = {
    {6, 500, 0, 0, true, 0}, {2, 800, 2, 0, false, 0}, {3, 300, 0, 5, false, 20}};

bool fault_applies(enum boundary at, enum fault f) {
    switch (f) {
    case CRASH:
    case ZOMBIE:
    case MOVE: return true;
    case REFUSED:
    case FENCED: return at == AT_POLL || at == AT_SEND || at == AT_POSITIONS || at == AT_COMMIT;
    case UNKNOWN: return at == AT_SEND || at == AT_POSITIONS || at == AT_COMMIT;
    case CUT: return at == AT_CONNECT || at == AT_COMMAND || at == AT_REPLY;
    case FULL:
    case READONLY:
    case LOADING: return at == AT_COMMAND || at == AT_REPLY;
    default: return false;
    }
}

uint32_t roll(struct dice *d, uint32_t n) {
    uint64_t x = random_next(&d->state);
    return n ? (uint32_t)(x % n) : (uint32_t)x;
}

static struct blow draw_blow(struct dice *d) {
    /* How far it may be to the next boundary of the kind that counts. */
    static const uint32_t reach[BOUNDARIES] = {60, 60, 12, 12, 12, 12, 12, 3, 30, 60};
    /* Train and deploy have less to do than the others. */
    static const int all[] = {0, 1, 2, 3, 3, 4, 4, 4, 5, 5}, with_redis[] = {1, 1, 3, 4, 4, 5};
    struct blow b = {.at = (enum boundary)roll(d, BOUNDARIES)};
    do b.what = (enum fault)roll(d, FAULTS);
    while (!fault_applies(b.at, b.what));
    if (roll(d, 2))
        b.stage = -1;
    else
        b.stage = b.at < AT_CONNECT ? all[roll(d, 10)] : with_redis[roll(d, 6)];
    b.after = roll(d, 2) ? 0 : (int)roll(d, 120);
    b.nth = (int)roll(d, b.stage < 0 ? reach[b.at] : reach[b.at] / 3);
    b.dice = roll(d, 0);
    return b;
}

const char *sending_source(const struct sending *s) {
    return s->elsewhere ? "elsewhere" : "images";
}

bool sending_is_former(const struct sending *s) {
    return s->former && s->model != KEEPS_FEW;
}

bool sending_same_image(const struct sending *a, const struct sending *b) {
    return !a->order && !b->order && a->request == b->request && a->model == b->model &&
           a->id == b->id && a->elsewhere == b->elsewhere;
}

static bool known(const struct plan *p, const struct sending *s) {
    for (int i = 0; i < p->sending_count; i++)
        if (sending_same_image(&p->sendings[i], s)) return true;
    return false;
}

/* One that was there: a duplicate, a correction, or its id under another model or from another source. */
static bool draw_again(struct dice *d, const struct plan *p, struct sending *s) {
    int of = p->hot && p->sending_count > 4 ? 4 : p->sending_count,
        same = (int)roll(d, (uint32_t)of + 1) - 1;
    if (same < 0 || p->sendings[same].request || p->sendings[same].order || p->sendings[same].flaw)
        return false;
    struct sending again = p->sendings[same];
    again.turn = s->turn;
    if (!roll(d, 4)) again.model = s->model;
    if (!roll(d, 6)) again.elsewhere = !again.elsewhere;
    if (roll(d, 2)) again.pixels = (int)roll(d, 3) * 100 + again.id;
    if (!roll(d, 3)) again.label = (int)roll(d, 3);
    /* Where few images are kept, one that comes again may be a new one by then: there it does not. */
    if (again.model == KEEPS_FEW && known(p, &again)) return false;
    *s = again;
    return true;
}

static void draw_image(struct dice *d, struct plan *p, struct sending *s) {
    if ((p->hot ? roll(d, 4) : !roll(d, 3)) && draw_again(d, p, s)) return;
    s->id = p->sending_count;
    s->pixels = s->id;
    s->label = p->all_labelled || roll(d, 10) ? (int)roll(d, 3) : -1;
    if (!roll(d, 12)) s->flaw = (enum flaw[]){BROKEN, BAD_LABEL, EMPTY}[roll(d, 3)];
    if (!roll(d, 120))
        s->flaw = (enum flaw[]){POISON_PREPROCESS, POISON_STORE, POISON_BATCH}[roll(d, 3)];
    if (s->flaw == POISON_BATCH) s->label = 0;
    s->former = !s->flaw && !roll(d, 8);
}

/* Some come twice. */
static void draw_order(struct dice *d, const struct plan *p, struct sending *s) {
    const struct sending *again = &p->sendings[roll(d, (uint32_t)p->sending_count)];
    if (again->order) {
        int turn = s->turn;
        *s = *again;
        s->turn = turn;
        return;
    }
    s->id = p->sending_count;
    s->label = -1;
    s->order = ORDER_ROLLBACK + (int)roll(d, ORDER_REMOVE - ORDER_ROLLBACK + 1);
    s->version = (int)roll(d, 7);
    if (!s->version && (s->order == ORDER_PROMOTE || s->order == ORDER_REMOVE)) s->version = 1;
    s->pin = !roll(d, 4);
}

/* Too rare by chance: one of several workers stands still at a bad moment, while the others go on. */
enum ambush { NO_AMBUSH, AMBUSH_STORE, AMBUSH_TRAIN, AMBUSH_DEPLOY };

static void lay_ambush(struct dice *d, struct plan *p, enum ambush kind) {
    const int stage = kind == AMBUSH_STORE ? 1 : kind == AMBUSH_TRAIN ? 3 : 4;
    struct blow b = {
        .what = ZOMBIE, .stage = stage, .after = 100 + (int)roll(d, 250), .dice = 31 << 8};
    if (kind == AMBUSH_DEPLOY) { /* in a hand-over, within all time-outs */
        b.at = roll(d, 2) ? AT_POSITIONS : AT_COMMIT;
        p->most[3] = 1;
    } else { /* between two commands, and its partitions move */
        b.at = roll(d, 2) ? AT_COMMAND : AT_REPLY;
        b.nth = (int)roll(d, 10);
        b.dice |= 1 << 6;
    }
    if (kind == AMBUSH_STORE) b.after = (int)roll(d, 100);
    p->relief[stage] = 0;
    p->instances[stage] = 3;
    p->most[stage] = 1;
    if (!p->blow_count) p->blow_count = 1;
    p->blows[0] = b;
}

void plan_draw(struct plan *p, uint64_t seed) {
    struct dice d = {seed};
    *p = (struct plan){.seed = seed, .partitions = 1 + (int)roll(&d, 3)};
    enum ambush ambush = roll(&d, 4) ? NO_AMBUSH : (enum ambush)(1 + roll(&d, 3));
    if (ambush == AMBUSH_DEPLOY) p->partitions = 3;
    int count = 12 + (int)roll(&d, 30),
        models = ambush == AMBUSH_DEPLOY ? MODELS : 1 + (int)roll(&d, MODELS),
        span = 40 + (int)roll(&d, 160), late = (int)roll(&d, 600); /* when versions serve already */
    for (int i = 0; i < STAGES; i++) {
        p->instances[i] = 1 + (int)roll(&d, 3);
        p->relief[i] = roll(&d, 2) ? 0 : late / 2 + (int)roll(&d, (uint32_t)(span + late / 2));
        p->most[i] = roll(&d, 2) ? 0 : 1 + (int)roll(&d, 5);
    }
    p->all_labelled = roll(&d, 2);
    p->hot = ambush == AMBUSH_STORE || !roll(&d, 4);
    for (; p->sending_count < count; p->sending_count++) {
        struct sending s = {.turn = p->sending_count * span / count,
                            .model = (int)roll(&d, (uint32_t)models)};
        if (p->sending_count > count / 2) s.turn += late;
        s.request = !roll(&d, p->sending_count > count / 2 ? 2 : 6);
        if (p->sending_count > count / 3 && !roll(&d, 7)) {
            s.request = false;
            draw_order(&d, p, &s);
        } else if (s.request) {
            s.id = s.pixels = p->sending_count;
            s.label = -1;
            if (!roll(&d, 10)) s.flaw = (enum flaw[]){BROKEN, EMPTY, NO_MODEL}[roll(&d, 3)];
            if (!roll(&d, 120)) s.flaw = POISON_PREDICT;
        } else {
            draw_image(&d, p, &s);
        }
        p->sendings[p->sending_count] = s;
    }
    int blows = (int)roll(&d, BLOWS + 1);
    while (p->blow_count < blows) p->blows[p->blow_count++] = draw_blow(&d);
    if (ambush) lay_ambush(&d, p, ambush);
}

void sending_pixels(const struct sending *s, uint8_t out[PIXELS]) {
    struct dice d = {(uint64_t)s->pixels * 7919u + 13u};
    for (int i = 0; i < PIXELS; i++)
        out[i] = (uint8_t)(roll(&d, 80) + (i / SIDE == s->label % SIDE ? 150 : 0));
}

const char *sending_label(int label) {
    static const char *const names[] = {"a", "b", "c"};
    return label < 0 ? NULL : names[label];
}

struct bytes sending_order(const struct sending *s, struct arena *a) {
    return bytes_of(arena_printf(a, "order-%d", s->id));
}

static struct record order_record(const struct sending *s, struct arena *a) {
    struct header *h = arena_alloc(a, sizeof *h);
    struct buf json = {0};
    struct order o = {.id = sending_order(s, a),
                      .model = bytes_of(model_names[s->model]),
                      .action = (enum order_action)s->order,
                      .version = s->version,
                      .pin = s->pin};
    order_encode(&o, &json);
    *h = (struct header){BYTES("ce_type"), BYTES(ORDER_TYPE)};
    struct record r = {.topic = topic_name(MODELS_TRAINED),
                       .key = o.model,
                       .value = arena_copy(a, buf_bytes(&json)),
                       .headers = h,
                       .header_count = 1,
                       .time_ms = -1};
    buf_free(&json);
    return r;
}

struct record sending_record(const struct sending *s, struct arena *a) {
    static const char *const roles[] = {[POISON_PREPROCESS] = "die-preprocess-",
                                        [POISON_STORE] = "die-store-",
                                        [POISON_BATCH] = "die-batch-",
                                        [POISON_PREDICT] = "die-predict-"};
    struct header *h = arena_alloc(a, 3 * sizeof *h);
    struct buf file = {0};
    struct err e = {0};
    uint8_t pixels[PIXELS];
    struct image im = {SIDE, SIDE, 1, pixels};
    if (s->order) return order_record(s, a);
    sending_pixels(s, pixels);
    if (image_encode(&im, &file, &e)) abort();
    if (s->flaw == BROKEN) file.len -= 9 + (size_t)s->id % 20;
    if (s->flaw == EMPTY) file.len = 0;
    size_t n = 0;
    h[n++] = (struct header){BYTES("ce_model"),
                             bytes_of(s->flaw == NO_MODEL ? "nobody" : model_names[s->model])};
    if (s->label >= 0 || s->flaw == BAD_LABEL)
        h[n++] = (struct header){BYTES("label"), s->flaw == BAD_LABEL
                                                     ? BYTES("a\nb")
                                                     : bytes_of(sending_label(s->label))};
    if (s->elsewhere) h[n++] = (struct header){BYTES("ce_source"), bytes_of(sending_source(s))};
    const char *role = s->flaw >= POISON_PREPROCESS ? roles[s->flaw] : s->request ? "q" : "i";
    struct record r = {.topic = topic_name(s->request ? PREDICTIONS_REQUESTS : IMAGES),
                       .key = bytes_of(arena_printf(a, "%s%d", role, s->id)),
                       .value = arena_copy(a, buf_bytes(&file)),
                       .headers = h,
                       .header_count = n,
                       .time_ms = -1};
    buf_free(&file);
    return r;
}

void plan_print(const struct plan *p) {
    static const char *const flaws[] = {"",          "broken",    "bad label",
                                        "empty",     "no model",  "poisonous",
                                        "poisonous", "poisonous", "poisonous"};
    printf("seed %llu: %d partitions; instances", (unsigned long long)p->seed, p->partitions);
    for (int i = 0; i < STAGES; i++) {
        printf(" %s %d", stage_names[i], p->instances[i]);
        if (p->most[i]) printf(" by %d", p->most[i]);
        if (p->relief[i]) printf(", relieved by one in turn %d", p->relief[i]);
    }
    printf("\n");
    for (int i = 0; i < p->sending_count; i++) {
        const struct sending *s = &p->sendings[i];
        struct arena a = {0};
        struct record r = sending_record(s, &a);
        printf("  turn %3d  %-7s %-5s %-20.*s pixels %3d  label %-4s %s%s%s\n", s->turn,
               s->order     ? "order"
               : s->request ? "request"
                            : "image",
               model_names[s->model], (int)r.key.len, (const char *)r.key.data, s->pixels,
               s->label < 0 ? "none" : sending_label(s->label), flaws[s->flaw],
               s->elsewhere ? "from elsewhere " : "",
               sending_is_former(s) ? "known from before" : "");
        if (s->order)
            printf("             order-%d: %s %d%s\n", s->id,
                   order_action_name((enum order_action)s->order), s->version,
                   s->pin ? " and pin" : "");
        arena_free(&a);
    }
    for (int i = 0; i < p->blow_count; i++)
        printf("  then, %d turns later, at the %dth %-10s of %s: %s (%u)\n", p->blows[i].after,
               p->blows[i].nth + 1, boundary_names[p->blows[i].at],
               p->blows[i].stage < 0 ? "any" : stage_names[p->blows[i].stage],
               fault_names[p->blows[i].what], p->blows[i].dice);
}
