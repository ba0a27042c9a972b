/*
 * world: carries a plan out. A scheduler takes up one worker at a time; at a boundary the worker may be struck by the next
 * blow, or stand still while others run. When everything is published and every blow has fallen, all faults end and the
 * fleet runs to its rest.
 */
#define _GNU_SOURCE
#include "tests/flow/sim/sim.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/learn/images.h"
#include "lib/stage/poison.h"
#include "lib/stage/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

const struct stage *preprocess_stage(void), *store_stage(void), *batch_stage(void),
    *train_stage(void), *deploy_stage(void), *predict_stage(void);

enum {
    SLOTS = 4, /* instances of a stage, at most */
    STACK = 1 << 20,
    SIGHTS = 256,
    LAST_TURN = 1500, /* of the time with faults */
    REST_ROUNDS = 4000,
    CALM = 25, /* idle rounds that are a rest: longer than a batch's age */
    ROUND_MS = 100,
};

enum status { ABSENT, RUNNING, STANDING, DEAD };

struct instance {
    struct stage stage; /* a copy, whose handle minds poison */
    const struct stage *real;
    char name[8];
    enum status status;
    int until; /* turn: STANDING goes on, DEAD is started again */
    bool leave, idle;
    int64_t wake_ms, started_ms;
    void *state;
    struct bus *bus;
    struct stage_run *run;
    struct stage_hands *hands; /* the watching parent's page; NULL after the parent died too */
    int fd;                    /* of its connection to Redis; -1: none */
    ucontext_t context;
    char *stack;
};

static struct {
    const struct plan *plan;
    struct bus_memory *log;
    redisContext *redis;
    const char *models_file;
    struct instance slots[STAGES][SLOTS], *current;
    ucontext_t scheduler;
    struct dice dice;
    bool faults, tell;
    int turn, sent, blow, passed; /* passed: boundaries of the blow's kind since the last one */
    int blow_turn;                /* of the last one */
    int patience;                 /* boundaries until a blow that finds no place is let go */
    int heal_turn, expire_turn;   /* 0: nothing to heal, or to expire */
    uint64_t (*met)[FAULTS];
    int offsets[SENDINGS + MODELS][2];
    int64_t since_ms[SENDINGS];
    struct sight sights[SIGHTS];
    size_t sight_count;
    struct arena arena;
    struct report *report;
} world;

static struct instance *nth(int k) {
    return &world.slots[k / SLOTS][k % SLOTS];
}

static int stage_of(const struct instance *w) {
    return (int)((w - &world.slots[0][0]) / SLOTS);
}

static void note(uint64_t what) {
    world.report->trace = (world.report->trace ^ what) * 1099511628211u;
}

void report_wrong(struct report *r, const char *fmt, ...) {
    va_list args;
    if (*r->what) return;
    va_start(args, fmt);
    vsnprintf(r->what, sizeof r->what, fmt, args);
    va_end(args);
}

static void tell(const struct instance *w, const char *what, const char *where) {
    if (world.tell)
        printf("turn %4d  %s %s: %s %s\n", world.turn, w->real->name, w->name, what, where);
}

/* ---- Redis ---- */

static void redis_command(const char *command) {
    redisReply *r = redisCommand(world.redis, command);
    if (!r || r->type == REDIS_REPLY_ERROR) {
        fprintf(stderr, "crash: Redis refuses %s: %s\n", command, r ? r->str : world.redis->errstr);
        _exit(3);
    }
    freeReplyObject(r);
}

void world_barrier(void) {
    redis_command("PING");
    redis_command("PING");
}

static void heal(void) {
    redis_command("CONFIG SET maxmemory 0");
    redis_command("REPLICAOF NO ONE");
    world.heal_turn = 0;
}

/* ---- a worker's life ---- */

static void stand(struct instance *w) {
    swapcontext(&w->context, &world.scheduler);
}

/* For how long this worker has been able to know what serves. */
static void note_requests(const struct instance *w, const struct record *in, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < world.sent; k++)
            if (world.plan->sendings[k].request && world.offsets[k][0] == in[i].partition &&
                world.offsets[k][1] == in[i].offset &&
                (!world.since_ms[k] || w->started_ms < world.since_ms[k]))
                world.since_ms[k] = w->started_ms;
}

static enum err_kind minding_poison(void *state, const struct record *in, size_t n, struct out *out,
                                    struct err *e) {
    struct instance *w = world.current;
    char mark[24];
    if (w->real->in == PREDICTIONS_REQUESTS) note_requests(w, in, n);
    size_t len = (size_t)snprintf(mark, sizeof mark, "die-%s-", w->real->name);
    for (size_t i = 0; i < n; i++) {
        if (in[i].key.len < len || memcmp(in[i].key.data, mark, len) != 0) continue;
        tell(w, "dies of poison", "");
        world.report->deaths++;
        poison_died(w->hands, true);
        w->until = world.turn + 1 + (int)roll(&world.dice, 10);
        world_die();
    }
    return w->real->handle(state, in, n, out, e);
}

static void open_all(struct instance *w) {
    struct err e = {0};
    bool help;
    int operand;
    char group[64], *argv[] = {(char *)w->real->name, NULL};
    snprintf(group, sizeof group, "darkroom.%s", w->real->name);
    w->state = mem_zeroed(1, w->real->state_size);
    struct settings_use uses[] = {{w->real->settings, w->state}, {0}};
    struct bus_conf conf = {.group = group,
                            .instance = w->name,
                            .in = topic_name(w->real->in),
                            .lanes = w->real->overlap ? 2 : 1,
                            .watch = w->real->watch ? topic_name(w->real->watch) : NULL,
                            .queue_bytes = 1 << 20};
    if (settings_read(uses, 1, argv, &operand, &help, &e) ||
        !(w->bus = bus_open_memory(&conf, world.log, &e))) {
        report_wrong(world.report, "%s cannot be opened: %s", w->real->name, e.text);
        return;
    }
    if (!w->hands) {
        w->hands = mem_zeroed(1, sizeof *w->hands);
        w->hands->id = roll(&world.dice, 0);
    }
    w->run = stage_run_make(
        &w->stage, w->state, w->bus,
        &(struct stage_conf){.hands = w->hands, .max_records = world.plan->most[stage_of(w)]});
}

static void live(void) {
    struct instance *w = world.current;
    struct err e;
    open_all(w);
    while (w->run && !w->leave) {
        uint32_t dice;
        int retry_ms;
        bool idle;
        if (world_boundary(AT_STEP, &dice) == CRASH) world_die();
        enum err_kind kind = stage_step(w->run, 0, &idle, &retry_ms, &e);
        if (kind == ERR_FATAL) {
            report_wrong(world.report, "%s ended: %s", w->real->name, e.text);
            break;
        }
        w->idle = idle && !kind;
        w->wake_ms = clock_now_ms() + retry_ms;
        if (kind) tell(w, "is told:", e.text);
        stand(w);
    }
    stage_run_free(w->run);
    bus_close(w->bus);
    free(w->state);
    w->status = ABSENT;
    stand(w);
}

static void start(struct instance *w) {
    w->status = RUNNING;
    w->leave = w->idle = false;
    w->wake_ms = 0;
    w->started_ms = clock_now_ms();
    w->run = NULL;
    w->bus = NULL;
    w->fd = -1;
    if (!w->stack)
        w->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    getcontext(&w->context);
    w->context.uc_stack.ss_sp = w->stack;
    w->context.uc_stack.ss_size = STACK;
    makecontext(&w->context, live, 0);
}

/* What came into sight in models.deployed. */
static void look(void) {
    struct record list[SIGHTS];
    size_t n = memory_committed(world.log, topic_name(MODELS_DEPLOYED), list, SIGHTS);
    for (size_t i = 0; i < n && n <= SIGHTS && world.sight_count < n; i++) {
        size_t k = 0;
        while (k < world.sight_count && (world.sights[k].partition != list[i].partition ||
                                         world.sights[k].offset != list[i].offset))
            k++;
        if (k < world.sight_count) continue;
        world.sights[world.sight_count++] =
            (struct sight){list[i].partition, list[i].offset, clock_now_ms()};
    }
}

static void go_on(struct instance *w) {
    world.current = w;
    note((uint64_t)(w->real->in * 16 + w->name[0]));
    swapcontext(&world.scheduler, &w->context);
    world.current = NULL;
    look();
}

_Noreturn void world_die(void) {
    struct instance *w = world.current;
    memory_crash(w->bus);
    if (w->fd >= 0) {
        shutdown(w->fd, SHUT_RDWR);
        world_barrier();
        close(w->fd);
    }
    w->status = DEAD;
    stand(w);
    abort(); /* the dead are not taken up again */
}

bool world_inside(void) {
    return world.current != NULL;
}

void world_connected(int fd) {
    world.current->fd = fd;
}

/* ---- blows ---- */

static int present(int stage) {
    int n = 0;
    for (int i = 0; i < SLOTS; i++) n += world.slots[stage][i].status != ABSENT;
    return n;
}

static void rebalance(const struct instance *w) {
    char group[64];
    snprintf(group, sizeof group, "darkroom.%s", w->real->name);
    memory_rebalance(world.log, group);
}

static void move(struct instance *w, uint32_t dice) {
    int stage = stage_of(w), at = (int)(dice / 3 % SLOTS);
    struct instance *other = &world.slots[stage][at];
    if (dice % 3 == 1 && other->status == ABSENT)
        start(other);
    else if (dice % 3 == 2 && other != w && other->status == RUNNING)
        other->leave = true;
    else
        rebalance(w);
}

static void stand_still(struct instance *w, int turns) {
    w->until = world.turn + turns;
    w->status = STANDING;
    stand(w);
}

static enum fault strike(struct instance *w, const struct blow *b) {
    int lasts = 3 + (int)(b->dice >> 8 & 31);
    world.met[b->at][b->what]++;
    tell(w, fault_names[b->what], boundary_names[b->at]);
    switch (b->what) {
    case CRASH:
        if (b->dice & 128) lasts *= 4;
        w->until = world.turn + (b->dice & 256 ? 2 * lasts : lasts / 2);
        world.expire_turn = world.turn + lasts;
        if (b->dice & 64) {
            uint32_t suspects = w->hands->suspects.count;
            poison_died(w->hands, false);
            if (w->hands->suspects.count > suspects)
                report_wrong(world.report, "a death of %s from outside leaves suspects",
                             w->real->name);
        } else { /* the parent dies with it */
            free(w->hands);
            w->hands = NULL;
        }
        break;
    case ZOMBIE:
        if (b->dice >> 6 & 3) memory_freeze(w->bus); /* else it is slow, and within all time-outs */
        if ((b->dice >> 6 & 3) == 1) /* its session is over, its transaction is not */
            rebalance(w);
        else if (b->dice >> 6 & 2)
            world.expire_turn = world.turn + lasts / 2;
        stand_still(w, b->dice >> 6 & 3 ? 2 * lasts : 8 * lasts);
        break;
    case MOVE:
        move(w, b->dice);
        if (b->dice & 64) stand_still(w, lasts); /* the others are quicker */
        break;
    case FULL:
        redis_command("CONFIG SET maxmemory 1");
        world.heal_turn = world.turn + (b->dice & 64 ? lasts : 8 * lasts);
        break;
    case READONLY:
        redis_command("REPLICAOF 127.0.0.1 1");
        world.heal_turn = world.turn + (b->dice & 64 ? lasts : 8 * lasts);
        break;
    default: break;
    }
    return b->what;
}

enum fault world_boundary(enum boundary at, uint32_t *dice) {
    struct instance *w = world.current;
    world.report->boundaries++;
    note((uint64_t)at + 1);
    if (!world.faults) return FAULTS;
    const struct blow *b = &world.plan->blows[world.blow];
    if (world.blow < world.plan->blow_count && world.turn >= world.blow_turn + b->after) {
        bool meant = b->at == at && (b->stage < 0 || b->stage == stage_of(w)),
             here = meant && world.passed++ >= b->nth;
        if (here || --world.patience < 0) {
            world.blow++;
            world.passed = 0;
            world.blow_turn = world.turn;
            world.patience = 400;
        }
        if (here) {
            *dice = b->dice;
            return strike(w, b);
        }
    }
    if (!roll(&world.dice, 6)) stand(w);
    return FAULTS;
}

static enum memory_fault at_log(void *ctx, struct bus *b, enum memory_point point) {
    static const enum boundary at[MEMORY_POINTS] = {
        [MEMORY_AT_POLL] = AT_POLL,     [MEMORY_AT_SEND] = AT_SEND,
        [MEMORY_AT_LANE] = AT_LANE,     [MEMORY_AT_POSITIONS] = AT_POSITIONS,
        [MEMORY_AT_COMMIT] = AT_COMMIT, [MEMORY_AT_COMMITTED] = AT_COMMITTED};
    uint32_t dice;
    (void)ctx;
    if (!world.current || world.current->bus != b)
        return MEMORY_OK; /* the log finishes another's commit */
    switch (world_boundary(at[point], &dice)) {
    case CRASH: world_die();
    case REFUSED: return MEMORY_REFUSED;
    case UNKNOWN: return MEMORY_UNKNOWN;
    case FENCED: return MEMORY_FENCED;
    default: return MEMORY_OK;
    }
}

/* ---- time ---- */

static void publish(int i, const struct sending *s) {
    struct record r = sending_record(s, &world.arena);
    memory_append_at(world.log, &r, world.offsets[i]);
}

static void relieve(int stage) {
    struct instance *last = &world.slots[stage][SLOTS - 1];
    if (last->status != ABSENT) return;
    for (int i = 0; i < SLOTS; i++) world.slots[stage][i].leave = true;
    start(last);
}

static void pass_time(void) {
    for (; world.sent < world.plan->sending_count &&
           world.plan->sendings[world.sent].turn <= world.turn;
         world.sent++)
        publish(world.sent, &world.plan->sendings[world.sent]);
    if (world.heal_turn && world.turn >= world.heal_turn) heal();
    if (world.expire_turn && world.turn >= world.expire_turn) {
        memory_expire(world.log);
        world.expire_turn = 0;
    }
    for (int s = 0; s < STAGES; s++) {
        for (int i = 0; i < SLOTS; i++) {
            struct instance *w = &world.slots[s][i];
            if (w->status == DEAD && world.turn >= w->until) start(w);
            if (w->status == STANDING && world.turn >= w->until) w->status = RUNNING;
        }
        if (!present(s)) start(&world.slots[s][0]);
        if (world.plan->relief[s] && world.turn == world.plan->relief[s]) relieve(s);
    }
}

static bool under_blows(void) {
    if (world.turn >= LAST_TURN || *world.report->what) return false;
    return world.sent < world.plan->sending_count || world.blow < world.plan->blow_count;
}

static void stormy(void) {
    struct instance *ready[STAGES * SLOTS];
    for (world.turn = 0; under_blows(); world.turn++) {
        int n = 0;
        pass_time();
        for (int k = 0; k < STAGES * SLOTS; k++) {
            struct instance *w = nth(k);
            if (w->status == RUNNING && w->wake_ms <= clock_now_ms()) ready[n++] = w;
        }
        if (n) go_on(ready[roll(&world.dice, (uint32_t)n)]);
        clock_sleep_ms(n ? 1 + roll(&world.dice, 20) : 50);
    }
}

static bool all_read(void) {
    for (int s = 0; s < STAGES; s++) {
        char group[64];
        snprintf(group, sizeof group, "darkroom.%s", stage_names[s]);
        if (memory_lag(world.log, group, topic_name(world.slots[s][0].real->in))) return false;
    }
    return true;
}

static void rest(void) {
    world.faults = false;
    heal();
    for (int k = 0; k < STAGES * SLOTS; k++) {
        struct instance *w = nth(k);
        if (w->status == STANDING) w->until = 0;
    }
    for (int round = 0, calm = 0; calm < CALM; round++, world.turn++) {
        bool idle = true;
        if (*world.report->what) return;
        if (round == REST_ROUNDS) {
            report_wrong(world.report, "the fleet does not come to rest");
            return;
        }
        pass_time();
        memory_expire(world.log);
        for (int k = 0; k < STAGES * SLOTS; k++) {
            struct instance *w = nth(k);
            if (w->status == DEAD) idle = false;
            if (w->status != RUNNING) continue;
            if (w->wake_ms <= clock_now_ms()) go_on(w);
            idle = idle && w->idle;
        }
        clock_sleep_ms(ROUND_MS);
        calm = idle && all_read() ? calm + 1 : 0;
    }
}

/* Each model is asked once more at the end. */
static void ask_at_last(void) {
    for (int m = 0; m < MODELS; m++) {
        struct sending s = {.request = true, .model = m, .id = 9000 + m, .label = -1};
        publish(SENDINGS + m, &s);
    }
}

/* What the store has from another cluster, whose records stood at the same places a moment ago. */
static void live_before(const struct plan *p, const char *url) {
    struct err e;
    struct redis *redis = redis_open(&(struct redis_conf){.url = url}, &e);
    struct images *images = redis ? images_open(redis, topics_prefix_now()) : NULL;
    for (int i = 0; i < p->sending_count && images; i++) {
        struct sending was = p->sendings[i];
        bool first = sending_is_former(&was);
        for (int k = 0; k < i; k++) first = first && !sending_same_image(&p->sendings[k], &was);
        if (!first) continue;
        uint8_t pixels[PIXELS];
        was.pixels += 1000;
        sending_pixels(&was, pixels);
        struct image_put put = {
            .row = {.model = bytes_of(model_names[was.model]),
                    .id = sending_record(&was, &world.arena).key,
                    .source = bytes_of(sending_source(&was)),
                    .label = bytes_of(sending_label(was.label)),
                    .height = SIDE,
                    .width = SIDE,
                    .channels = 1,
                    .pixels = {pixels, PIXELS}},
            .from = {"before", topic_name(IMAGES_PREPARED), 0, 1000 + i, clock_now_ms() - 1000}};
        if (images_put(images, &put, 1, NULL, NULL, &e))
            report_wrong(world.report, "the store takes nothing: %s", e.text);
    }
    images_close(images);
    redis_close(redis);
}

void world_run(const struct plan *p, const char *socket, const char *models_file, bool talk,
               uint64_t met[BOUNDARIES][FAULTS], struct report *r) {
    const struct stage *const all[STAGES] = {preprocess_stage(), store_stage(),  batch_stage(),
                                             train_stage(),      deploy_stage(), predict_stage()};
    static char url[200];
    memset(&world, 0, sizeof world);
    *r = (struct report){.trace = 1469598103934665603u};
    world.plan = p;
    world.report = r;
    world.met = met;
    world.tell = talk;
    world.faults = true;
    world.patience = 400;
    world.dice.state = p->seed ^ 0x5bd1e995;
    world.models_file = models_file;
    if (!*url) {
        snprintf(url, sizeof url, "unix:%s", socket);
        setenv("DARKROOM_REDIS_URL", url, 1);
        setenv("DARKROOM_MODELS", models_file, 1);
        setenv("DARKROOM_THREADS", "1", 1);
    }
    world.redis = redisConnectUnix(socket);
    redis_command("FLUSHALL");
    heal();
    clock_simulate(1790000000000);
    world.log = memory_make();
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++)
        memory_topic(world.log, topic_name(t), topic_info(t)->partitions > 1 ? p->partitions : 1);
    memory_faults(world.log, at_log, NULL);
    live_before(p, url);
    for (int s = 0; s < STAGES; s++) {
        for (int i = 0; i < SLOTS; i++) {
            struct instance *w = &world.slots[s][i];
            w->real = all[s];
            w->stage = *all[s];
            w->stage.handle = minding_poison;
            w->name[0] = (char)('a' + i);
            if (i < p->instances[s]) start(w);
        }
    }
    stormy();
    rest();
    if (!*r->what) {
        ask_at_last();
        rest();
    }
    r->turns = world.turn;
    struct world_view view = {.plan = p,
                              .log = world.log,
                              .redis = world.redis,
                              .offsets = (const int(*)[2])world.offsets,
                              .since_ms = world.since_ms,
                              .sights = world.sights,
                              .sight_count = world.sight_count,
                              .deaths = r->deaths,
                              .tell = talk};
    if (!*r->what) judge(&view, r);
    redisFree(world.redis);
}
