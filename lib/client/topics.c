/*
 * topics: the table of proto/topics.c, as it should be (list), made (create), and compared with what the
 * broker has (check). Nothing is ever removed or altered.
 */
#include "lib/base/json.h"
#include "lib/bus/admin.h"
#include "lib/client/client.h"
#include "lib/client/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIGS = 3, TOPICS = TOPIC_COUNT - IMAGES };

static const char *kept(const struct topic_info *t, char out[48]) {
    int64_t days = t->retention_ms / (24 * 3600 * 1000);
    if (t->compacted) snprintf(out, 48, "the last of every key");
    else if (t->retention_ms < 0) snprintf(out, 48, "for ever");
    else snprintf(out, 48, "%lld days", (long long)days);
    return out;
}

/* ---- list ---- */

struct list_options {
    bool markdown, json;
};
static const struct setting list_settings[] = {
    {"markdown", SETTING_BOOL, offsetof(struct list_options, markdown), "false", "The rows of a Markdown table, names without prefix", NULL, 0, 0, 0},
    {"json", SETTING_BOOL, offsetof(struct list_options, json), "false", "JSON, one object a line", NULL, 0, 0, 0},
    {0}};

static int list(struct client *c, const void *options, char **operands, int n) {
    const struct list_options *o = options;
    static const char *const heads[] = {"topic", "key", "value", "written by", "read by", ">partitions", "kept"};
    struct table table = table_make(heads, 7);
    struct buf b = {0};
    char text[48];
    if (o->markdown) buf_add_text(&b, "| topic | key | value | written by | read by | partitions | kept |\n|---|---|---|---|---|---|---|\n");
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++) {
        const struct topic_info *i = topic_info(t);
        if (o->markdown) {
            buf_printf(&b, "| `%s` | %s | %s | %s | %s | %d | %s |\n", i->name, i->key, i->value, i->writer, i->reader, i->partitions, kept(i, text));
        } else if (o->json) {
            struct json_writer w = json_begin(&b);
            json_put_text(&w, "topic", bytes_of(topic_name(t)));
            json_put_text(&w, "key", bytes_of(i->key));
            json_put_text(&w, "value", bytes_of(i->value));
            json_put_text(&w, "writer", bytes_of(i->writer));
            json_put_text(&w, "reader", bytes_of(i->reader));
            json_put_text(&w, "content_type", bytes_of(i->content_type));
            json_put_int(&w, "partitions", i->partitions);
            json_put_bool(&w, "compacted", i->compacted);
            json_put_int(&w, "retention_ms", i->retention_ms);
            json_put_int(&w, "max_bytes", i->max_bytes);
            json_end(&w);
            buf_add_text(&b, "\n");
        } else {
            table_text(&table, bytes_of(topic_name(t)));
            table_text(&table, bytes_of(i->key));
            table_text(&table, bytes_of(i->value));
            table_text(&table, bytes_of(i->writer));
            table_text(&table, bytes_of(i->reader));
            table_print(&table, "%d", i->partitions);
            table_text(&table, bytes_of(kept(i, text)));
        }
    }
    if (b.len) fwrite(b.data, 1, b.len, stdout);
    if (table.count) table_end(&table);
    buf_free(&b);
    return CLIENT_DONE;
}

const struct command command_topics_list = {
    .name = "topics list", .what = "the topics, and what travels on them", .needs = NEEDS_PREFIX,
    .help = "Prints the table from which the topics are made; asks no broker.\n\n"
            "  darkroom topics list\n"
            "  darkroom topics list --json | jq -r .topic",
    .settings = list_settings, .options_size = sizeof(struct list_options), .run = list};

/* ---- what a broker should have ---- */

struct plan {
    struct admin_topic topics[TOPICS];
    struct bus_property configs[TOPICS][CONFIGS];
    char numbers[TOPICS][2][24];
};

/* partitions and replicas 0: the table's, the broker's. */
static void make_plan(struct plan *p, int64_t partitions, int64_t replicas) {
    for (int i = 0; i < TOPICS; i++) {
        const struct topic_info *t = topic_info(IMAGES + i);
        snprintf(p->numbers[i][0], 24, "%lld", (long long)t->retention_ms);
        snprintf(p->numbers[i][1], 24, "%lld", (long long)t->max_bytes);
        p->configs[i][0] = (struct bus_property){"cleanup.policy", t->compacted ? "compact" : "delete"};
        p->configs[i][1] = (struct bus_property){"retention.ms", p->numbers[i][0]};
        p->configs[i][2] = (struct bus_property){"max.message.bytes", p->numbers[i][1]};
        p->topics[i] = (struct admin_topic){
            .name = topic_name(IMAGES + i), .configs = p->configs[i], .config_count = CONFIGS,
            .partitions = partitions && t->partitions > 1 ? (int)partitions : t->partitions,
            .replicas = replicas ? (int)replicas : -1};
    }
}

struct topic_options {
    int64_t partitions, replicas;
    bool json;
};
#define PARTITIONS {"partitions", SETTING_INT, offsetof(struct topic_options, partitions), "0", "Of every topic that has more than one; 0: the table's", NULL, 0, 10000, 0}
#define AS_JSON {"json", SETTING_BOOL, offsetof(struct topic_options, json), "false", "JSON, one object a line", NULL, 0, 0, 0}

/* One line or row a topic. */
static void tell(struct table *table, bool json, const struct admin_topic *t, const char *state, const char *why) {
    if (!json) {
        table_text(table, bytes_of(t->name));
        table_text(table, bytes_of(state));
        table_print(table, "%d", t->actual_partitions);
        table_text(table, bytes_of(why));
        return;
    }
    struct buf b = {0};
    struct json_writer w = json_begin(&b);
    json_put_text(&w, "topic", bytes_of(t->name));
    json_put_text(&w, "state", bytes_of(state));
    json_put_int(&w, "partitions", t->actual_partitions);
    json_put_text(&w, "why", bytes_of(why));
    json_end(&w);
    puts(b.data);
    buf_free(&b);
}
static const char *const topic_heads[] = {"topic", "state", ">partitions", "why"};

/* ---- create ---- */

static const struct setting create_settings[] = {
    PARTITIONS,
    {"replicas", SETTING_INT, offsetof(struct topic_options, replicas), "0", "Of every partition; 0: the broker's default", NULL, 0, 100, 0},
    AS_JSON,
    {0}};

static int create(struct client *c, const void *options, char **operands, int n) {
    const struct topic_options *o = options;
    struct err e = {0};
    struct plan p;
    make_plan(&p, o->partitions, o->replicas);
    struct admin *a = admin_open(c->properties, c->property_count, &e);
    if (!a) return client_fail(c, &e);
    enum err_kind kind = admin_create(a, p.topics, TOPICS, &e);
    admin_close(a);
    if (kind) return client_fail(c, &e);
    struct table table = table_make(topic_heads, 4);
    int failed = 0;
    for (int i = 0; i < TOPICS; i++) {
        const struct admin_topic *t = &p.topics[i];
        failed += t->why.kind != ERR_NONE;
        tell(&table, o->json, t, t->why.kind ? "failed" : t->created ? "created" : "was there", t->why.kind ? t->why.text : "");
    }
    if (table.count) table_end(&table);
    if (failed) client_say(c, "%d of %d topics could not be made", failed, TOPICS);
    return failed ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_topics_create = {
    .name = "topics create", .what = "makes the topics that are missing", .needs = NEEDS_KAFKA,
    .help = "Makes every topic of `darkroom topics list` that the broker does not have, with its partitions,\n"
            "cleanup.policy, retention.ms and max.message.bytes. Those that are there stay as they are, so it may\n"
            "be run again at any time.\n\n"
            "  darkroom topics create\n"
            "  darkroom topics create --partitions 24 --replicas 3",
    .settings = create_settings, .options_size = sizeof(struct topic_options), .run = create};

/* ---- check ---- */

static const struct setting check_settings[] = {PARTITIONS, AS_JSON, {0}};

struct differences {
    const struct plan *plan;
    struct buf of[TOPICS];
};

static void different(void *ctx, const struct admin_topic *t, const char *config, const char *wanted, const char *actual) {
    struct differences *d = ctx;
    struct buf *b = &d->of[t - d->plan->topics];
    buf_printf(b, "%s%s is %s, not %s", b->len ? "; " : "", config, actual, wanted);
}

static int check(struct client *c, const void *options, char **operands, int n) {
    const struct topic_options *o = options;
    struct err e = {0};
    struct plan p;
    make_plan(&p, o->partitions, 0);
    struct differences d = {.plan = &p};
    struct admin *a = admin_open(c->properties, c->property_count, &e);
    if (!a) return client_fail(c, &e);
    enum err_kind kind = admin_inspect(a, p.topics, TOPICS, different, &d, &e);
    admin_close(a);
    struct table table = table_make(topic_heads, 4);
    int missing = 0;
    for (int i = 0; i < TOPICS && !kind; i++) {
        const struct admin_topic *t = &p.topics[i];
        if (t->exists && t->actual_partitions < t->partitions)
            buf_printf(&d.of[i], "%sfewer partitions than %d", d.of[i].len ? "; " : "", t->partitions);
        bool bad = t->why.kind || !t->exists;
        missing += bad;
        tell(&table, o->json, t, !t->exists ? "missing" : t->why.kind ? "failed" : d.of[i].len ? "differs" : "as it should be",
             t->why.kind ? t->why.text : d.of[i].len ? d.of[i].data : "");
    }
    if (table.count) table_end(&table);
    for (int i = 0; i < TOPICS; i++) buf_free(&d.of[i]);
    if (kind) return client_fail(c, &e);
    if (missing) client_say(c, "%d of %d topics are missing; `darkroom topics create` makes them", missing, TOPICS);
    return missing ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_topics_check = {
    .name = "topics check", .what = "compares the topics with what the broker has", .needs = NEEDS_KAFKA,
    .help = "Says of every topic whether it is missing, has fewer partitions, or another cleanup.policy,\n"
            "retention.ms or max.message.bytes than `darkroom topics list` says. Ends with 1 when one is missing;\n"
            "what only differs may be meant so. Changes nothing.\n\n"
            "  darkroom topics check\n"
            "  darkroom topics check --json | jq -r 'select(.state != \"as it should be\")'",
    .settings = check_settings, .options_size = sizeof(struct topic_options), .run = check};
