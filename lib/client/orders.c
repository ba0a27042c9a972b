/*
 * models rollback, promote, pin, unpin, remove: orders to deploy. Deploy alone says what serves, so an
 * order is a record on models.trained, under the model's key, where it has its place among the model's
 * versions; the answer is in models.deployed. The command looks at what serves, sends the order, and waits
 * for the answer.
 *
 * An order has an id, and is carried out once, however often it comes. Killed between sending and the
 * answer, the command has said the id: with --order it asks what became of it, and sends it again if
 * nothing did. Which version a rollback leads to is decided here, so the order names it: what happens to
 * the model until deploy takes it up makes no other version of it.
 */
#include "lib/learn/orders.h"

#include "lib/base/clock.h"
#include "lib/bus/publisher.h"
#include "lib/client/client.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"
#include "proto/event.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct options {
    const char *to, *order;
    int64_t wait_ms;
    bool pin;
};
#define TO                                                                                         \
    {                                                                                              \
        "to", SETTING_TEXT, offsetof(struct options, to), NULL,                                    \
            "The version that is to serve; without it the one that served before", NULL, 0, 0, 0   \
    }
#define PIN                                                                                        \
    {                                                                                              \
        "pin", SETTING_BOOL, offsetof(struct options, pin), "false",                               \
            "And pin it: no new version takes its place until `models unpin`", NULL, 0, 0, 0       \
    }
#define ORDER                                                                                      \
    {                                                                                              \
        "order", SETTING_TEXT, offsetof(struct options, order), NULL,                              \
            "The id of an order that was given before: what became of it, or the same once more",  \
            NULL, 0, 0, 0                                                                          \
    }
#define WAIT                                                                                       \
    {                                                                                              \
        "wait", SETTING_TIME, offsetof(struct options, wait_ms), "30s", "For the answer, at most", \
            NULL, 0, 86400000, 0                                                                   \
    }

static const struct setting rollback_settings[] = {TO, PIN, ORDER, WAIT, {0}};
static const struct setting promote_settings[] = {PIN, ORDER, WAIT, {0}};
static const struct setting plain_settings[] = {ORDER, WAIT, {0}};

enum { ID_HEX = 32, ID_MAX = 64 };

struct asking {
    const struct client *c;
    const struct options *o;
    struct order order;
    struct reader *reader;
    struct publisher *publisher;
    struct arena arena;
    struct deployed last; /* what models.deployed said last of the model; no model: nothing */
    struct err refused;   /* by the broker */
    int64_t deadline_us;
    char id[ID_MAX + 1];
};

static bool out_of_time(const struct asking *k) {
    return client_stopped() || clock_monotonic_us() > k->deadline_us;
}

/* ---- what serves ---- */

/* The next record, waiting at most wait_ms; those of other models are passed over. */
static enum err_kind read_one(struct asking *k, int wait_ms, bool *got, struct err *e) {
    struct record r;
    struct err unreadable = {0};
    if (reader_poll(k->reader, wait_ms, &r, got, e) || !*got) return e->kind;
    if (!bytes_equal(r.key, k->order.model)) return ERR_NONE;
    struct deployed m = {0};
    if (!r.value.data || !deployed_decode(r.value, &k->arena, &m, &unreadable)) k->last = m;
    return ERR_NONE;
}

static enum err_kind read_to_the_end(struct asking *k, struct err *e) {
    k->reader = client_follow(k->c, MODELS_DEPLOYED, READER_BEGINNING, e);
    for (bool end = false, got; k->reader && !end && !e->kind;) {
        if (read_one(k, 20, &got, e) || got) continue;
        if (reader_at_end(k->reader, &end, e) || end) continue;
        if (out_of_time(k))
            err_again(e, "%s was not read to its end in time", topic_name(MODELS_DEPLOYED));
    }
    return e->kind;
}

/* ---- what is ordered ---- */

static bool is_kept(struct bytes artifact, const struct bytes *kept, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (bytes_equal(kept[i], artifact)) return true;
    return false;
}

/* What served before and can serve again. */
static enum err_kind find_target(struct asking *k, struct registry *g, struct err *e) {
    struct bytes *kept = NULL;
    size_t n = 0;
    if (registry_kept(g, k->order.model, &k->arena, &kept, &n, e)) return e->kind;
    for (size_t i = 0; i < k->last.before_count && !k->order.version; i++)
        if (is_kept(k->last.before[i].artifact, kept, n))
            k->order.version = k->last.before[i].version;
    if (k->order.version) return ERR_NONE;
    return err_fatal(
        e,
        "nothing that served before version %lld can serve again: --to names one of those that "
        "`darkroom models list` has",
        (long long)k->last.version);
}

/* Asks Redis for what the order needs to know; deploy looks again when it carries it out. */
static enum err_kind complete(struct asking *k, struct err *e) {
    struct shelf s = {0};
    struct trained head;
    if (!shelf_open(k->c, SHELF_WAIT_MS, &s, e) &&
        !registry_head(s.registry, k->order.model, &k->arena, &head, e)) {
        if (!head.version && !k->last.version)
            err_fatal(
                e, "there is no model \"%.*s\": `darkroom models list` names those that there are",
                (int)k->order.model.len, (const char *)k->order.model.data);
        else if (k->order.action == ORDER_ROLLBACK && !k->order.version)
            (void)!find_target(k, s.registry, e);
    }
    shelf_close(&s);
    return e->kind;
}

static void make_id(struct asking *k) {
    unsigned char random[ID_HEX / 2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        int64_t us = clock_monotonic_us() ^ clock_now_ms() << 20;
        memset(random, 0, sizeof random);
        memcpy(random, &us, sizeof us);
    }
    for (size_t i = 0; i < sizeof random; i++) snprintf(k->id + 2 * i, 3, "%02x", random[i]);
}

static void say_order(const struct asking *k) {
    char version[32] = "";
    if (k->order.version)
        snprintf(version, sizeof version, " version %lld", (long long)k->order.version);
    client_say(k->c, "%.*s, of which version %lld serves%s: %s%s%s (order %s)",
               (int)k->order.model.len, (const char *)k->order.model.data,
               (long long)k->last.version, k->last.pinned ? ", pinned" : "",
               order_action_name(k->order.action), version, k->order.pin ? " and pin" : "", k->id);
}

/* ---- sending, and the answer ---- */

static void not_accepted(void *ctx, uint64_t tag, const struct err *why) {
    (void)tag;
    ((struct asking *)ctx)->refused = *why;
}

static enum err_kind send_order(struct asking *k, struct err *e) {
    struct buf json = {0};
    struct event ev = {.id = k->order.id,
                       .source = BYTES("darkroom/models"),
                       .type = BYTES(ORDER_TYPE),
                       .model = k->order.model,
                       .content_type = BYTES("application/json"),
                       .time_ms = clock_now_ms()};
    order_encode(&k->order, &json);
    struct record r = {.topic = topic_name(MODELS_TRAINED),
                       .key = k->order.model,
                       .value = buf_bytes(&json),
                       .time_ms = -1};
    event_write(&ev, NULL, &k->arena, &r);
    k->publisher = publisher_open(k->c->properties, k->c->property_count, not_accepted, k, e);
    if (k->publisher && !publisher_send(k->publisher, &r, 0, e)) {
        while (publisher_flush(k->publisher, 100, e) && !out_of_time(k)) {
        }
        if (k->refused.kind) *e = k->refused;
    }
    buf_free(&json);
    return e->kind;
}

static const struct order_answer *wait_for_answer(struct asking *k, struct err *e) {
    const struct order_answer *answer = NULL;
    while (!(answer = orders_find(&k->last, k->order.id)) && !out_of_time(k)) {
        bool got;
        if (read_one(k, 50, &got, e) == ERR_AGAIN)
            err_clear(e); /* the broker is away: the time-out tells */
        if (e->kind) return NULL;
    }
    return answer;
}

static int tell(const struct asking *k, const struct order_answer *answer, int64_t since_us) {
    struct buf b = {0};
    show_text(&b, answer->text);
    if (answer->done && since_us)
        printf("%.*s: %s (%.2f s)\n", (int)k->order.model.len, (const char *)k->order.model.data,
               b.data, (double)(clock_monotonic_us() - since_us) / 1e6);
    else if (answer->done)
        printf("%.*s: %s\n", (int)k->order.model.len, (const char *)k->order.model.data, b.data);
    else
        client_say(k->c, "refused: %s", b.data);
    buf_free(&b);
    return answer->done ? CLIENT_DONE : CLIENT_FAILED;
}

static int give_up(const struct asking *k) {
    char seconds[32];
    snprintf(seconds, sizeof seconds, "after %.0f s", (double)k->o->wait_ms / 1e3);
    client_say(k->c,
               "no answer %s. The order may stand, and be carried out as soon as a deploy worker "
               "takes it up (`darkroom "
               "status` says whether one is there); what became of it: the same command with "
               "--order %s. In %s is why, if "
               "deploy could not read it",
               client_stopped() ? "until it was interrupted" : seconds, k->id,
               topic_name(MODELS_TRAINED_DLQ));
    return client_stopped() ? CLIENT_FAILED : CLIENT_TIMED_OUT;
}

static int ask(struct asking *k) {
    struct err e = {0};
    const struct order_answer *answer;
    k->deadline_us = clock_monotonic_us() + k->o->wait_ms * 1000;
    if (client_reach(k->c, MODELS_TRAINED, &e) || read_to_the_end(k, &e))
        return client_fail(k->c, &e);
    if (k->o->order && (answer = orders_find(&k->last, k->order.id))) return tell(k, answer, 0);
    if (complete(k, &e)) return client_fail(k->c, &e);
    say_order(k);
    int64_t since_us = clock_monotonic_us();
    if (send_order(k, &e) && e.kind != ERR_AGAIN) return client_fail(k->c, &e);
    if (e.kind) client_say(k->c, "%s", e.text); /* it may have come through all the same */
    err_clear(&e);
    answer = wait_for_answer(k, &e);
    if (e.kind) return client_fail(k->c, &e);
    return answer ? tell(k, answer, since_us) : give_up(k);
}

/* version: NULL where the command names none. */
static int give(struct client *c, const struct options *o, enum order_action action,
                const char *model, const char *version) {
    struct asking k = {
        .c = c, .o = o, .order = {.model = bytes_of(model), .action = action, .pin = o->pin}};
    if (!event_model_is_valid(k.order.model))
        return client_usage(c, "\"%s\" is no model's name", model);
    if (version && client_version(c, version, &k.order.version)) return CLIENT_USAGE;
    if (o->order &&
        (!*o->order || strlen(o->order) > ID_MAX || !bytes_is_clean_text(bytes_of(o->order))))
        return client_usage(c, "--order must be an id of 1 to %d characters", ID_MAX);
    if (o->order)
        snprintf(k.id, sizeof k.id, "%s", o->order);
    else
        make_id(&k);
    k.order.id = bytes_of(k.id);
    int code = ask(&k);
    publisher_close(k.publisher);
    reader_close(k.reader);
    arena_free(&k.arena);
    return code;
}

/* ---- the commands ---- */

static int rollback(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    (void)n;
    return give(c, o, ORDER_ROLLBACK, operands[0], o->to);
}

static int promote(struct client *c, const void *options, char **operands, int n) {
    (void)n;
    return give(c, options, ORDER_PROMOTE, operands[0], operands[1]);
}

static int pin(struct client *c, const void *options, char **operands, int n) {
    return give(c, options, ORDER_PIN, operands[0], n > 1 ? operands[1] : NULL);
}

static int unpin(struct client *c, const void *options, char **operands, int n) {
    (void)n;
    return give(c, options, ORDER_UNPIN, operands[0], NULL);
}

static int remove_(struct client *c, const void *options, char **operands, int n) {
    (void)n;
    return give(c, options, ORDER_REMOVE, operands[0], operands[1]);
}

#define WAITS                                                                                      \
    "\n\nIt is an order to deploy, which carries it out in its place among the model's new "       \
    "versions,\n"                                                                                  \
    "once, whatever is killed meanwhile, and is waited for; predict follows within the second. "   \
    "Ends\n"                                                                                       \
    "with 1 when deploy refuses it, and with 3 when no answer comes in time: the order stands "    \
    "then,\n"                                                                                      \
    "and the same command with --order ID says what became of it.\n\n"

const struct command command_models_rollback = {
    .name = "models rollback",
    .operands = "MODEL",
    .what = "what served before serves again",
    .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help =
        "Without --to it is the version that served before this one, as long as its weights are "
        "kept; once\n"
        "more, and it is the one before that. The version that was rolled back from does not come "
        "back by\n"
        "itself. New ones go on to be judged against what serves, and take its place unless they "
        "are worse;\n"
        "they have all learned from the newest version, so also from what you may have rolled back "
        "for:\n"
        "with --pin none does until `models unpin`." WAITS "  darkroom models rollback default\n"
        "  darkroom models rollback default --to 12 --pin",
    .least = 1,
    .most = 1,
    .settings = rollback_settings,
    .options_size = sizeof(struct options),
    .run = rollback};

const struct command command_models_promote = {
    .name = "models promote",
    .operands = "MODEL VERSION",
    .what = "a version serves, whatever it was judged",
    .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "Any version whose weights are kept; `models rollback` leads back to what served until "
            "then." WAITS "  darkroom models promote default 14\n"
            "  darkroom models promote default v14 --pin",
    .least = 2,
    .most = 2,
    .settings = promote_settings,
    .options_size = sizeof(struct options),
    .run = promote};

const struct command command_models_pin = {
    .name = "models pin",
    .operands = "MODEL [VERSION]",
    .what = "no new version takes the place of what serves",
    .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "What serves stays, or VERSION serves and stays. New versions are trained, judged and "
            "announced all\n"
            "the same, and none takes its place until `models unpin`; promote and rollback do, and "
            "what they make\n"
            "serve is pinned then. Its weights are kept; should they be lost in Redis, the pin "
            "goes with them." WAITS "  darkroom models pin default\n"
            "  darkroom models pin default 12",
    .least = 1,
    .most = 2,
    .settings = plain_settings,
    .options_size = sizeof(struct options),
    .run = pin};

const struct command command_models_unpin = {
    .name = "models unpin",
    .operands = "MODEL",
    .what = "new versions take the place of what serves again",
    .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "The next new version that is not worse serves. Those that came meanwhile were judged, "
            "and do not\n"
            "come back by themselves: `models promote` makes one of them serve." WAITS
            "  darkroom models unpin default",
    .least = 1,
    .most = 1,
    .settings = plain_settings,
    .options_size = sizeof(struct options),
    .run = unpin};

const struct command command_models_remove = {
    .name = "models remove",
    .operands = "MODEL VERSION",
    .what = "removes the weights of a version",
    .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "It can serve no more. Its figures and its lineage stay: later versions have grown "
            "from it. Refused for\n"
            "the version that serves, for the newest, and for one that is not judged yet." WAITS
            "  darkroom models remove default 9",
    .least = 2,
    .most = 2,
    .settings = plain_settings,
    .options_size = sizeof(struct options),
    .run = remove_};
