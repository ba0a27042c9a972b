/*
 * main.c: the program around the loop: settings, help, log, the watching parent, signals, the
 * probe, Kafka.
 *
 * Everything that can be wrong about settings is found before the parent forks. In the child the
 * first SIGTERM or SIGINT ends the loop after the hand-over under way; a second one, or the drain
 * time, ends it at once. What is not there yet (broker, Redis) is waited for; the process stays.
 */
#define _GNU_SOURCE
#include "lib/stage/parent.h"
#include "lib/stage/probe.h"
#include "lib/stage/stage.h"

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Read by jemalloc where the program is linked to it: few arenas, and memory that is not used goes
   back soon. */
extern const char *malloc_conf;
const char *malloc_conf = "narenas:2,dirty_decay_ms:300,muzzy_decay_ms:0";

enum { EXIT_DRAINED = 0, EXIT_FATAL = 1, EXIT_SETTING = 2 };
enum { POLL_MS = 200, NAP_MS = 50, INSTANCE_MAX = 128, MOST_PROPERTIES = 128 };

struct common {
    const char *prefix, *instance, *probe, *reply_topics;
    int log_level, log_format, delivery;
    int64_t max_records, max_bytes, queue_bytes, drain_ms;
    bool parent;
};

#define AT(field) offsetof(struct common, field)
static const struct setting common_settings[] = {
    {"prefix", SETTING_TEXT, AT(prefix), TOPIC_DEFAULT_PREFIX,
     "begins the name of every topic, group and transactional id"},
    {"instance", SETTING_TEXT, AT(instance), NULL,
     "tells this worker from others of its stage, the same after a restart; without it the host's "
     "name"},
    {"probe", SETTING_TEXT, AT(probe), "",
     "where /metrics, /healthz and /readyz are answered: 9401 on the loopback, :9401 everywhere; "
     "empty is nowhere"},
    {"log-level", SETTING_CHOICE, AT(log_level), "info", "the least that is logged",
     "debug|info|warn|error"},
    {"log-format", SETTING_CHOICE, AT(log_format), "human",
     "lines for people, or one JSON object a line", "human|json"},
    {"delivery", SETTING_CHOICE, AT(delivery), "exactly-once",
     "at-least-once is faster and may repeat a result after a crash; only predict takes it",
     "exactly-once|at-least-once"},
    {"max-records", SETTING_INT, AT(max_records), "0",
     "most records of one hand-over; 0 is the stage's own bound", NULL, 0, 1e6},
    {"max-bytes", SETTING_SIZE, AT(max_bytes), "0",
     "most bytes of one hand-over; 0 is the stage's own bound", NULL, 0, 1 << 30},
    {"queue-size", SETTING_SIZE, AT(queue_bytes), "6M",
     "what may wait in the receive queue; the sending queue has as much, at least 32M", NULL,
     1 << 16, 1 << 30},
    {"drain-time", SETTING_TIME, AT(drain_ms), "8s",
     "how long the hand-over under way may take after SIGTERM", NULL, 1000, 3600e3},
    {"parent", SETTING_BOOL, AT(parent), "true",
     "a small parent process restarts the worker and finds the records that kill it"},
    {0},
};
static const struct setting reply_settings[] = {
    {"reply-topics", SETTING_TEXT, AT(reply_topics), NULL,
     "topics that a request's reply-to may name besides the results, in full, with commas; a * at "
     "the end matches any end"},
    {0},
};

struct program {
    const struct stage *stage;
    void *state;
    struct common common;
    char instance[INSTANCE_MAX + 1];
    struct bus_property properties[MOST_PROPERTIES];
    size_t property_count;
    struct stage_hands *hands;
};

/* ---- settings and help ---- */

static enum err_kind add_property(void *ctx, const char *name, const char *value, struct err *e) {
    struct program *p = ctx;
    if (p->property_count == MOST_PROPERTIES)
        return err_fatal(e, "more than %d DARKROOM_KAFKA_ properties", MOST_PROPERTIES);
    p->properties[p->property_count++] = (struct bus_property){mem_copy(name, strlen(name)), value};
    return ERR_NONE;
}

static enum err_kind name_instance(struct program *p, struct err *e) {
    const char *given = p->common.instance;
    if (given && *given)
        snprintf(p->instance, sizeof p->instance, "%s", given);
    else if (gethostname(p->instance, sizeof p->instance - 1))
        return err_fatal(e, "the host has no name: set --instance");
    size_t legal =
        strspn(p->instance, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (!legal || p->instance[legal] || (given && strlen(given) > INSTANCE_MAX))
        return err_fatal(e,
                         "instance is \"%.60s\": it must be 1 to %d letters, digits, dots, dashes "
                         "and underscores",
                         p->instance, INSTANCE_MAX);
    return ERR_NONE;
}

static enum err_kind read_all(struct program *p, int argc, char **argv, bool *help, struct err *e) {
    const struct stage *s = p->stage;
    struct settings_use uses[4] = {{common_settings, &p->common}};
    int n = 1, operand;
    if (s->replies) uses[n++] = (struct settings_use){reply_settings, &p->common};
    if (s->settings) uses[n++] = (struct settings_use){s->settings, p->state};
    if (settings_read(uses, argc, argv, &operand, help, e)) return e->kind;
    if (*help) return ERR_NONE;
    if (operand < argc)
        return err_fatal(e, "there is nothing to do with the word \"%.*s\": settings are flags",
                         (int)strcspn(argv[operand], ":=@"), argv[operand]);
    if (topics_prefix(p->common.prefix, e)) return err_in(e, "prefix");
    if (p->common.delivery != BUS_EXACTLY_ONCE && !s->may_repeat)
        return err_fatal(e, "delivery is at-least-once: for %s it must be exactly-once", s->name);
    if (*p->common.probe && !probe_address_is_valid(p->common.probe))
        return err_fatal(e, "probe is \"%.60s\": it must be a port, :PORT or ADDRESS:PORT",
                         p->common.probe);
    if (name_instance(p, e)) return e->kind;
    return settings_properties("DARKROOM_KAFKA_", add_property, p, e);
}

static void each_table(const struct stage *s,
                       void (*print)(const struct setting *table, struct buf *out),
                       struct buf *out) {
    print(common_settings, out);
    if (s->replies) print(reply_settings, out);
    if (s->settings) print(s->settings, out);
}

static void topic_line(struct buf *out, const char *verb, enum topic t) {
    if (t == TOPIC_NONE) return;
    const struct topic_info *i = topic_info(t);
    buf_printf(out, "  %-8s %s%-22s key: %s; value: %s\n", verb, TOPIC_DEFAULT_PREFIX, i->name,
               i->key, i->value);
}

static void write_help(const struct stage *s, struct buf *out) {
    buf_printf(out, "darkroom-%s %s\n\n  %s\n\n", s->name, DARKROOM_VERSION, s->what);
    topic_line(out, "reads", s->in);
    for (int i = 0; i < STAGE_OUTPUTS; i++) topic_line(out, "writes", s->out[i]);
    topic_line(out, "follows", s->watch);
    enum topic letters = topic_dead_letters(s->in);
    if (letters != TOPIC_NONE)
        buf_printf(out, "  %-8s to %s%s, as it came, with the reason in dlq.* headers\n", "refuses",
                   TOPIC_DEFAULT_PREFIX, topic_info(letters)->name);
    else
        buf_printf(out, "  %-8s with an answer that says why\n", "refuses");
    buf_add_text(
        out,
        "\nSettings (a flag wins over its environment variable, which wins over the preset):\n\n");
    each_table(s, settings_help, out);
    buf_printf(
        out,
        "\nKafka: every property of librdkafka is a variable DARKROOM_KAFKA_<PROPERTY>, with _ for "
        "each dot:\n"
        "  DARKROOM_KAFKA_BOOTSTRAP_SERVERS is bootstrap.servers [127.0.0.1:9092],\n"
        "  DARKROOM_KAFKA_SECURITY_PROTOCOL is security.protocol. With _FILE behind it the value "
        "is a file's.\n"
        "\nEndpoints, where --probe says: /metrics for Prometheus, /healthz (the loop is alive), "
        "/readyz (it works;\n"
        "otherwise 503 and a line that says why not).\n"
        "\nExit codes: 0 stopped by SIGTERM or SIGINT with nothing left undone, 1 cannot go on "
        "(with --parent it is\n"
        "started again instead), 2 a setting is wrong.\n"
        "\nOther flags: --help, --version, --settings-markdown (the settings as rows of a table), "
        "--describe (JSON: topics,\n"
        "group, port).\n"
        "\nExample:\n  DARKROOM_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 darkroom-%s --instance %s-0 "
        "--probe 9401\n",
        s->name, s->name);
}

/* Whether the stage's table holds a setting. */
static bool has_setting(const struct setting *table, const char *name) {
    while (table && table->name && strcmp(table->name, name) != 0) table++;
    return table && table->name;
}

/* For programs that set up others, as deploy/kubernetes/render: the names that --help tells people, with the usual
   prefix. The group commits positions of `reads` alone; `follows` is read without a group. */
static void write_description(const struct stage *s, struct buf *out) {
    struct json_writer w = json_begin(out);
    char group[TOPIC_NAME_MAX + 1];
    enum topic letters = topic_dead_letters(s->in);
    snprintf(group, sizeof group, "%s%s", TOPIC_DEFAULT_PREFIX, s->name);
    json_put_text(&w, "stage", bytes_of(s->name));
    json_put_text(&w, "version", bytes_of(DARKROOM_VERSION));
    json_put_text(&w, "group", bytes_of(group));
    json_put_text(&w, "reads", bytes_of(topic_name(s->in)));
    if (s->watch != TOPIC_NONE) json_put_text(&w, "follows", bytes_of(topic_name(s->watch)));
    json_open_array(&w, "writes");
    for (int i = 0; i < STAGE_OUTPUTS; i++)
        if (s->out[i] != TOPIC_NONE) json_put_text(&w, NULL, bytes_of(topic_name(s->out[i])));
    if (letters != TOPIC_NONE) json_put_text(&w, NULL, bytes_of(topic_name(letters)));
    json_close_array(&w);
    json_put_int(&w, "probe_port", PROBE_PORT);
    json_put_bool(&w, "needs_redis", has_setting(s->settings, "redis-url"));
    json_end(&w);
    buf_add_text(out, "\n");
}

/* What is answered without any setting being right. */
static bool only_asked(const struct stage *s, int argc, char **argv) {
    struct buf text = {0};
    for (int i = 1; i < argc && !text.len && strcmp(argv[i], "--") != 0; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            write_help(s, &text);
        else if (!strcmp(argv[i], "--version"))
            buf_printf(&text, "darkroom-%s %s\n", s->name, DARKROOM_VERSION);
        else if (!strcmp(argv[i], "--settings-markdown"))
            each_table(s, settings_reference, &text);
        else if (!strcmp(argv[i], "--describe"))
            write_description(s, &text);
    }
    bool asked = text.len > 0;
    if (asked) fwrite(text.data, 1, text.len, stdout);
    buf_free(&text);
    return asked;
}

/* ---- the working process ---- */

static volatile sig_atomic_t stop;
static unsigned drain_s;
static const struct stage_hands *in_hand;

static void on_stop(int signal) {
    (void)signal;
    if (stop) _exit(EXIT_FATAL);
    stop = 1;
    alarm(drain_s);
}

static void on_alarm(int signal) {
    static const char text[] = "the drain time is over: what was under way will be repeated\n";
    (void)signal;
    if (!in_hand->held.count) _exit(EXIT_DRAINED); /* a broker that is not there kept us */
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(EXIT_FATAL);
}

static void take_signals(const struct common *c, const struct stage_hands *hands) {
    in_hand = hands;
    drain_s = (unsigned)((c->drain_ms + 999) / 1000);
    struct sigaction a = {.sa_handler = on_stop};
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    a.sa_handler = on_alarm;
    sigaction(SIGALRM, &a, NULL);
    a.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &a, NULL); /* a broken connection is an error of the call that meets it */
}

static void nap(struct stage_metrics *m, int ms) {
    for (; ms > 0 && !stop; ms -= NAP_MS) {
        metrics_beat(m);
        clock_sleep_ms(ms < NAP_MS ? ms : NAP_MS);
    }
}

static int loop(struct stage_run *run, struct stage_metrics *m) {
    struct err e;
    bool idle;
    int retry_ms;
    while (!stop) {
        if (stage_step(run, POLL_MS, &idle, &retry_ms, &e) == ERR_FATAL) {
            log_error("%s", e.text);
            return stage_run_opened(run) ? EXIT_FATAL : EXIT_SETTING;
        }
        nap(m, retry_ms);
    }
    metrics_ready(m, "stopping");
    return EXIT_DRAINED;
}

static struct bus *open_bus(struct program *p, struct err *e) {
    const struct stage *s = p->stage;
    struct buf group = {0};
    const char *outputs[STAGE_OUTPUTS + 1];
    size_t count = 0;
    for (int i = 0; i < STAGE_OUTPUTS; i++)
        if (s->out[i] != TOPIC_NONE) outputs[count++] = topic_name(s->out[i]);
    if (topic_dead_letters(s->in) != TOPIC_NONE)
        outputs[count++] = topic_name(topic_dead_letters(s->in));
    buf_printf(&group, "%s%s", p->common.prefix, s->name);
    struct bus_conf conf = {
        .group = group.data,
        .instance = p->instance,
        .in = topic_name(s->in),
        .watch = s->watch == TOPIC_NONE ? NULL : topic_name(s->watch),
        .out = outputs,
        .out_count = count,
        .delivery = (enum bus_delivery)p->common.delivery,
        .lanes = s->overlap ? 2 : 1,
        .queue_bytes = p->common.queue_bytes,
        .properties = p->properties,
        .property_count = p->property_count,
    };
    struct bus *b = bus_open_kafka(&conf, e);
    buf_free(&group);
    return b;
}

static int work(void *ctx) {
    static struct stage_metrics metrics;
    struct program *p = ctx;
    struct probe *probe = NULL;
    struct bus *bus = NULL;
    struct stage_run *run = NULL;
    struct err e;
    int code = EXIT_FATAL;
    take_signals(&p->common, p->hands);
    metrics_init(&metrics);
    if (*p->common.probe && !(probe = probe_start(p->common.probe, p->stage, &metrics, &e))) {
        log_error("%s", e.text);
        goto out;
    }
    if (!(bus = open_bus(p, &e))) {
        log_error("%s", e.text);
        code = EXIT_SETTING;
        goto out;
    }
    run = stage_run_make(p->stage, p->state, bus,
                         &(struct stage_conf){.delivery = (enum bus_delivery)p->common.delivery,
                                              .max_records = p->common.max_records,
                                              .max_bytes = p->common.max_bytes,
                                              .reply_topics = p->common.reply_topics,
                                              .hands = p->hands,
                                              .metrics = &metrics,
                                              .stop = &stop});
    log_info("darkroom %s, instance %s, reads %s", DARKROOM_VERSION, p->instance,
             topic_name(p->stage->in));
    code = loop(run, &metrics);
out:
    stage_run_free(run);
    bus_close(bus);
    probe_stop(probe);
    if (code == EXIT_DRAINED) log_info("stopped");
    return code;
}

int stage_main(const struct stage *s, int argc, char **argv) {
    struct program p = {.stage = s};
    struct err e;
    bool help = false;
    if (only_asked(s, argc, argv)) return EXIT_DRAINED;
    p.state = mem_zeroed(1, s->state_size ? s->state_size : 1);
    int code = EXIT_SETTING;
    if (read_all(&p, argc, argv, &help, &e)) {
        fprintf(stderr, "darkroom-%s: %s\n", s->name, e.text);
    } else if (help) { /* a flag cut short, as --he */
        only_asked(s, 2, (char *[]){argv[0], "--help"});
        code = EXIT_DRAINED;
    } else {
        log_setup(s->name, (enum log_level)p.common.log_level,
                  (enum log_format)p.common.log_format);
        if (!(p.hands = hands_make())) log_error("no memory to share with a child");
        code = !p.hands ? EXIT_FATAL : p.common.parent ? parent_watch(p.hands, work, &p) : work(&p);
    }
    hands_unmake(p.hands);
    for (size_t i = 0; i < p.property_count; i++) free((char *)p.properties[i].name);
    free(p.state);
    return code;
}
