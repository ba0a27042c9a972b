/*
 * stage: what a worker says about itself, and what it may ask of the runtime. The runtime polls,
 * calls `handle`, sends what it gave out, commits outputs and positions together, and on trouble
 * aborts, backs off and repeats; a worker knows nothing of Kafka, signals, threads, the environment
 * or exit.
 *
 *     poll ──▶ enough? ──▶ handle ──▶ hand over ──▶ commit
 *       ▲                    │ AGAIN                  │ failed
 *       └──── rewind, back off ◀──────────────────────┘
 */
#ifndef DARKROOM_STAGE_STAGE_H
#define DARKROOM_STAGE_STAGE_H

#include "lib/base/alive.h"
#include "lib/base/err.h"
#include "lib/base/figure.h"
#include "lib/base/record.h"
#include "lib/base/settings.h"
#include "lib/bus/bus.h"
#include "proto/event.h"
#include "proto/topics.h"

#include <signal.h>

struct out; /* what one call of `handle` gives out */

struct shown; /* figures of the stage's state, for people */

enum { STAGE_OUTPUTS = 2, STAGE_COUNTERS = 8, STAGE_GAUGES = 12 };

struct stage {
    const char *name;                  /* "batch": group, transactional ids, metrics, log */
    const char *what;                  /* one line for --help: "images -> images.prepared: …" */
    enum topic in, out[STAGE_OUTPUTS]; /* out_send to another topic is refused */
    enum topic watch; /* followed without a group: on_update; TOPIC_NONE: nothing */

    size_t max_records, max_bytes; /* of one call of handle */
    /* Fewer records, when their outputs are large: asked after open; NULL: max_records. */
    size_t (*most)(const void *state);
    bool overlap;     /* handle the next records while the last commit is under way (two lanes) */
    bool watch_first; /* read the watched topic to its end before each call of handle */
    bool may_repeat;  /* delivery=at-least-once may be chosen */
    bool replies;     /* out_reply may send to the topics that the settings allow */

    const struct setting *settings;       /* into the state */
    size_t state_size;                    /* zeroed before settings are read */
    const char *counters[STAGE_COUNTERS]; /* names for stage_count, as in darkroom_<name>_total */
    const char *by_model;                 /* one more, for stage_count_model; NULL: none */
    const struct figure *gauges;          /* of stage_show, at most STAGE_GAUGES; NULL: none */

    /* Once, before anything else. ERR_AGAIN is repeated with back-off. */
    enum err_kind (*open)(void *state, struct err *e);
    /* Whether to call handle now; NULL: at once. n > 0 records are waiting, the first of them for
       waited_ms. At max_records or max_bytes handle is called without asking. */
    bool (*enough)(void *state, const struct record *in, size_t n, int64_t waited_ms);
    /*
     * n >= 1 records, in order per partition. A record that will never work goes to out_dead_letter
     * (or is answered) and the rest go on; ERR_AGAIN repeats all of them later. ERR_BAD: the
     * runtime repeats them one by one, and buries the one that is refused alone.
     */
    enum err_kind (*handle)(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e);
    /* A record that the runtime refuses (it kills the worker, its outputs are too long) and that
       handle is not asked about any more: answer it. NULL: it goes to the dead letters. */
    void (*refuse)(void *state, const struct record *r, const struct err *why, struct out *out);
    /* A record of the watched topic. ERR_AGAIN: offered again later while the stage goes on; only
       the first call of handle, and each one with watch_first, waits until it is taken. ERR_BAD:
       passed over. */
    enum err_kind (*on_update)(void *state, const struct record *r, struct err *e);
    /* Says with stage_show what on_update has made of the state; after each round of updates. NULL:
       nothing. */
    void (*show)(const void *state, struct shown *to);
    /* Forget all since the last commit, before the next handle: after a failure, and when
       partitions came or went. NULL: nothing is held. */
    void (*rewind)(void *state);
    void (*close)(void *state);
};

/* The whole program: settings, help, log, watching parent, probe, loop. Returns main's exit code:
   0 drained, 1 fatal, 2 a wrong setting. */
int stage_main(const struct stage *s, int argc, char **argv);

/* ---- what handle may ask ---- */

/* Copies the record (key, value, headers; a negative time is now) to be sent to one of the stage's
   outputs with this hand-over. ERR_FATAL: the stage does not name the topic. */
enum err_kind out_send(struct out *o, enum topic t, const struct record *r,
                       struct err *e) MUST_CHECK;
/* The same of an event: key, value, the attributes of ev, and the trail of `from` (NULL: none). The
   type and the content type are the topic's, unless ev has a type. */
enum err_kind out_event(struct out *o, enum topic t, struct bytes key, struct bytes value,
                        const struct event *ev, const struct record *from,
                        struct err *e) MUST_CHECK;
/* The same, to a topic that a user named (absent: to the usual one). ERR_BAD (reply-topic) when the
   settings do not allow it, or it does not exist. */
enum err_kind out_reply(struct out *o, struct bytes topic, enum topic usual, struct bytes key,
                        struct bytes value, const struct event *ev, const struct record *from,
                        struct err *e) MUST_CHECK;
/* The record, as it came, to the dead letters of the input, with dlq.* headers that say why; then
   that is dealt with, and *why cleared. Where the input has no dead letters it is only logged and
   counted. */
void out_dead_letter(struct out *o, const struct record *r, struct err *why);
/* Memory that lives as long as the call's outputs. */
struct arena *out_arena(struct out *o);
/* Between steps of long work, as often as you like: ERR_AGAIN when it is no longer ours or time to
 * stop. */
enum err_kind stage_alive(struct out *o, struct err *e) MUST_CHECK;
/* The same, for work that knows nothing of stages. */
struct alive out_alive(struct out *o);
/* Adds to a counter that the stage names. */
void stage_count(struct out *o, const char *counter, uint64_t n);
/* Adds to the counter by_model: darkroom_<by_model>_total{model="…",version="…"}; version 0: without.
   Only the METRICS_MODELS series that were counted last are shown, so that names which others choose
   do not fill a memory. */
void stage_count_model(struct out *o, struct bytes model, int64_t version, uint64_t n);
/* Counts a record that was refused with an answer, by its reason. */
void stage_count_refused(struct out *o, const struct err *why);
/* From `show`, once a model (its first METRICS_MODELS): what each of the stage's gauges stands at; NAN:
   nothing is known. */
void stage_show(struct shown *to, struct bytes model, const double values[STAGE_GAUGES]);
/* Where the record stood first: one that comes back from the dead letters is still the one that it
   was. In the call's memory. */
struct coordinates out_origin(struct out *o, const struct record *r);
/* A name (hexadecimal, in the call's memory) for what is made of these records and committed with
   them: the same when it is repeated, and never that of anything else. */
struct bytes out_name(struct out *o, const struct record *const *from, size_t n);

/* ---- for the runtime's own main and for tests: the same loop on any bus ---- */

struct stage_run;

struct stage_conf {
    enum bus_delivery delivery;
    int64_t max_records, max_bytes; /* 0: the stage's */
    const char *reply_topics;  /* full names separated by commas; a trailing * matches any end */
    struct stage_hands *hands; /* shared with the watching parent; NULL: nobody watches */
    struct stage_metrics *metrics;     /* NULL: nobody asks */
    const volatile sig_atomic_t *stop; /* not 0: stage_alive says so; NULL: never */
};

/* The state is the caller's, its settings are read; open has not been called. */
struct stage_run *stage_run_make(const struct stage *s, void *state, struct bus *bus,
                                 const struct stage_conf *conf);
/*
 * One turn of the loop: poll for at most wait_ms, and if there is enough, handle and hand over.
 * ERR_AGAIN: something is not there; the turn after the back-off (*retry_ms, 0 when none) repeats.
 * ERR_FATAL: the end. *idle: nothing was waiting.
 */
enum err_kind stage_step(struct stage_run *run, int wait_ms, bool *idle, int *retry_ms,
                         struct err *e) MUST_CHECK;
/* Whether `open` has been through; a stage that is refused before has a setting that cannot work.
 */
bool stage_run_opened(const struct stage_run *run);
/* Finishes the hand-over under way, calls close (once open was), frees the run; the bus is the
 * caller's. */
void stage_run_free(struct stage_run *run);

#endif
