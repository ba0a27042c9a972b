/*
 * sim: the fleet under a simulated clock, on the memory log and a real Redis, with faults at every
 * boundary. A plan is all that a schedule is made of, drawn from its seed; the world carries it out;
 * the judge counts what came of it. One process does one schedule at a time.
 *
 * Every worker is a coroutine. At a boundary it may stand still while others run, so a worker that
 * lost its partition goes on in the middle of what it did: between two commands to Redis, between
 * its outputs and its positions. A crash is a coroutine that is never taken up again.
 */
#ifndef DARKROOM_TESTS_SIM_H
#define DARKROOM_TESTS_SIM_H

#include "lib/bus/memory.h"
#include "proto/topics.h"

#include <hiredis/hiredis.h>

enum {
    STAGES = 6,
    SENDINGS = 64,
    BLOWS = 12,
    MODELS = 3,
    KEEPS_FEW = 2, /* the model that does not keep all its images */
    SIDE = 4,
    PIXELS = SIDE * SIDE
};

enum boundary {
    AT_STEP,      /* between two turns of the loop */
    AT_POLL,      /* before a poll */
    AT_SEND,      /* before the outputs are sent */
    AT_LANE,      /* at a change of lanes */
    AT_POSITIONS, /* outputs are sent, positions are not */
    AT_COMMIT,    /* before the commit */
    AT_COMMITTED, /* behind it, and nobody was told */
    AT_CONNECT,   /* to Redis */
    AT_COMMAND,   /* commands go to Redis; some of their bytes may get there */
    AT_REPLY,     /* Redis has done a command and answered it */
    BOUNDARIES
};

enum fault {
    CRASH,   /* kill -9 */
    ZOMBIE,  /* stands still past its session time-out, then goes on */
    MOVE,    /* partitions move: members in another order, one more, or one less */
    REFUSED, /* the call fails and did nothing */
    UNKNOWN, /* the call works, and a time-out is told */
    FENCED,  /* the producers are fenced */
    CUT,     /* the connection to Redis breaks, in the middle of what is sent */
    FULL,    /* Redis takes no writes: maxmemory, replica, loading */
    READONLY,
    LOADING,
    FAULTS
};

extern const char *const boundary_names[BOUNDARIES], *const fault_names[FAULTS];
extern const char *const stage_names[STAGES], *const model_names[MODELS];
/* What the models' specs say; 0: all. */
extern const struct habits {
    int batch_count, batch_age_ms, keep_versions, keep_images;
    bool better; /* deploy.rule */
    int floor;   /* percent: deploy.floor */
} model_habits[MODELS];
bool fault_applies(enum boundary at, enum fault f);

/* ---- the plan ---- */

enum flaw {
    GOOD,
    BROKEN,
    BAD_LABEL,
    EMPTY,
    NO_MODEL,
    POISON_PREPROCESS,
    POISON_STORE,
    POISON_BATCH,
    POISON_PREDICT
};

struct sending {
    int turn; /* when it is published */
    bool request;
    int model, id, pixels; /* pixels: a number that they are drawn from */
    int label;             /* -1: none */
    bool elsewhere;        /* from another source: another image, whatever its id */
    bool former;           /* the store has it, with other pixels, from a cluster that is no more */
    enum flaw flaw;
    int order;   /* an enum order_action: an order to deploy, no image; `id` is its id */
    int version; /* of the order; 0: none named */
    bool pin;
};

struct blow {
    enum boundary at;
    enum fault what;
    int stage;     /* whose boundaries; -1: of any */
    int after;     /* turns behind the blow before it … */
    int nth;       /* … it is the nth of these boundaries that is struck */
    uint32_t dice; /* how many bytes get through, how long it lasts, … */
};

struct plan {
    uint64_t seed;
    int partitions, instances[STAGES];
    int most[STAGES];       /* records of a hand-over; 0: as many as the stage takes */
    bool all_labelled, hot; /* hot: a few images change again and again */
    int relief[STAGES]; /* the turn at which another instance comes and the others leave; 0: none */
    int sending_count, blow_count;
    struct sending sendings[SENDINGS];
    struct blow blows[BLOWS];
};

void plan_draw(struct plan *p, uint64_t seed);
void plan_print(const struct plan *p);
/* The sending as it is published; in the arena. */
struct record sending_record(const struct sending *s, struct arena *a);
void sending_pixels(const struct sending *s, uint8_t out[PIXELS]);
const char *sending_label(int label);
const char *sending_source(const struct sending *s);
bool sending_is_former(const struct sending *s);
/* An order's id; in the arena. */
struct bytes sending_order(const struct sending *s, struct arena *a);
/* Whether they are revisions of one image. */
bool sending_same_image(const struct sending *a, const struct sending *b);

struct dice {
    uint64_t state;
};
uint32_t roll(struct dice *d, uint32_t n); /* 0 … n-1 */

/* ---- the world ---- */

struct report {
    char what[600]; /* what is wrong; "" when nothing is */
    uint64_t trace; /* hash over everything that happened: equal for equal plans */
    int64_t boundaries;
    int turns, deaths; /* deaths of poison */
};

/* Redis at this socket is emptied, and used. met: adds how often each fault was met where. */
void world_run(const struct plan *p, const char *socket, const char *models_file, bool tell,
               uint64_t met[BOUNDARIES][FAULTS], struct report *r);

/* A record of models.deployed, and since when it can be read. */
struct sight {
    int32_t partition;
    int64_t offset, time_ms;
};

/* For the judge, while the world stands: the log at rest. */
struct world_view {
    const struct plan *plan;
    struct bus_memory *log;
    redisContext *redis;
    const int (*offsets)[2]; /* of each sending that is published: partition, offset */
    /* Of each request: since when the oldest worker that ever had it in hand has been running; 0: nobody had. */
    const int64_t *since_ms;
    const struct sight *sights;
    size_t sight_count;
    int deaths;
    bool tell;
};
/* "" in what: all is well. */
void judge(const struct world_view *v, struct report *r);
void report_wrong(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- between the door and the world ---- */

/* A worker is at a boundary; returns the fault that the caller must carry out, FAULTS for none. */
enum fault world_boundary(enum boundary at, uint32_t *dice);
/* The worker's connection; -1: it is closed. */
void world_connected(int fd);
bool world_inside(void); /* a worker is running */
/* A crash is due: what gets through must be sent before. Does not return. */
_Noreturn void world_die(void);
void world_barrier(void); /* Redis has seen all that was sent before */

#endif
