/*
 * status: what every stage is doing, what the topics hold, and what the models have come to. Each source is
 * asked by itself: without Redis the stages are still shown, and the other way round.
 */
#include "lib/base/json.h"
#include "lib/client/client.h"
#include "lib/client/fleet.h"
#include "lib/client/shelf.h"
#include "lib/client/show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    bool json;
};
static const struct setting settings[] = {
    {"json", SETTING_BOOL, offsetof(struct options, json), "false", "One JSON object", NULL, 0, 0, 0},
    {0}};

struct model_line {
    struct bytes name;
    const struct deployed *deployed; /* NULL: never judged */
    int64_t images, trained;         /* -1: unknown, Redis is away */
};

struct look {
    struct fleet_stage stages[FLEET_STAGES];
    int64_t records[TOPIC_COUNT]; /* -1: unknown */
    struct model_line *models;
    size_t model_count;
    struct arena arena;
    struct err kafka, redis; /* ERR_NONE: it answered */
};

static struct model_line *line_of(struct look *l, struct bytes name) {
    for (size_t i = 0; i < l->model_count; i++)
        if (bytes_equal(l->models[i].name, name)) return &l->models[i];
    l->models = mem_resize(l->models, (l->model_count + 1) * sizeof *l->models);
    l->models[l->model_count] = (struct model_line){.name = name, .images = -1, .trained = -1};
    return &l->models[l->model_count++];
}

static void count_records(struct admin *a, const char *group, struct look *l) {
    for (enum topic t = IMAGES; t < TOPIC_COUNT && !l->kafka.kind; t++) {
        struct admin_partition *list = NULL;
        size_t n = 0;
        l->records[t] = -1;
        if (!admin_positions(a, group, topic_name(t), &list, &n, &l->kafka) && n) {
            l->records[t] = 0;
            for (size_t i = 0; i < n; i++) l->records[t] += list[i].end - list[i].begin;
        }
        free(list);
    }
}

static void ask_kafka(const struct client *c, struct look *l) {
    struct admin *a = admin_open(c->properties, c->property_count, &l->kafka);
    for (int i = 0; i < FLEET_STAGES; i++) l->stages[i] = (struct fleet_stage){.name = fleet_names[i], .lag = -1};
    for (int i = 0; a && i < FLEET_STAGES && !l->kafka.kind; i++) (void)!fleet_look(a, i, &l->stages[i], &l->kafka);
    if (a && !l->kafka.kind) count_records(a, l->stages[0].group, l);
    admin_close(a);
    struct deployed *models = NULL;
    size_t n = 0;
    if (l->kafka.kind || l->records[MODELS_DEPLOYED] < 0) return;
    if (fleet_deployed(c, &l->arena, &models, &n, &l->kafka)) return;
    for (size_t i = 0; i < n; i++) line_of(l, models[i].model)->deployed = &models[i];
}

static void ask_redis(const struct client *c, struct look *l) {
    struct shelf s = {0};
    bool open = !shelf_open(c, SHELF_WAIT_MS / 2, &s, &l->redis);
    struct bytes *names = NULL;
    size_t n = 0;
    if (open && !images_models(s.images, &l->arena, &names, &n, &l->redis))
        for (size_t i = 0; i < n; i++) (void)line_of(l, names[i]);
    for (size_t i = 0; open && i < l->model_count && !l->redis.kind; i++) {
        struct model_line *m = &l->models[i];
        struct trained head = {0};
        if (images_count(s.images, m->name, &m->images, &l->redis)) m->images = -1;
        else if (!registry_head(s.registry, m->name, &l->arena, &head, &l->redis)) m->trained = head.version;
    }
    shelf_close(&s);
}

static int by_name(const void *a, const void *b) {
    const struct model_line *x = a, *y = b;
    size_t n = x->name.len < y->name.len ? x->name.len : y->name.len;
    int c = memcmp(x->name.data, y->name.data, n);
    return c ? c : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

/* ---- for programs ---- */

static void put_count(struct json_writer *w, const char *name, int64_t n) {
    if (n < 0) json_put_null(w, name);
    else json_put_int(w, name, n);
}

static void put_stage(struct json_writer *w, const struct fleet_stage *s) {
    json_open_object(w, NULL);
    json_put_text(w, "stage", bytes_of(s->name));
    json_put_text(w, "group", bytes_of(s->group));
    json_put_int(w, "members", s->members);
    json_put_text(w, "state", bytes_of(s->state));
    put_count(w, "lag", s->lag);
    json_open_array(w, "partitions");
    for (size_t i = 0; i < s->partition_count; i++) {
        const struct admin_partition *p = &s->partitions[i];
        json_open_object(w, NULL);
        json_put_int(w, "partition", p->partition);
        put_count(w, "committed", p->committed);
        json_put_int(w, "begin", p->begin);
        json_put_int(w, "end", p->end);
        json_put_int(w, "lag", fleet_lag(p));
        json_close_object(w);
    }
    json_close_array(w);
    json_close_object(w);
}

static void put_model(struct json_writer *w, const struct model_line *m) {
    const struct deployed *d = m->deployed;
    json_open_object(w, NULL);
    json_put_text(w, "model", m->name);
    put_count(w, "version", d ? d->version : 0);
    if (d && d->version && !isnan(d->evaluation.accuracy)) json_put_fraction(w, "accuracy", d->evaluation.accuracy);
    else json_put_null(w, "accuracy");
    put_count(w, "judged", d ? d->judged : 0);
    json_put_bool(w, "pinned", d && d->pinned);
    if (d && d->why.data) json_put_text(w, "why", d->why);
    else json_put_null(w, "why");
    put_count(w, "images", m->images);
    put_count(w, "trained", m->trained);
    json_close_object(w);
}

static void put_error(struct json_writer *w, const char *name, const struct err *e) {
    if (e->kind) json_put_text(w, name, bytes_of(e->text));
    else json_put_null(w, name);
}

static void print_json(const struct look *l) {
    struct buf b = {0};
    struct json_writer w = json_begin(&b);
    json_open_array(&w, "stages");
    for (int i = 0; i < FLEET_STAGES; i++) put_stage(&w, &l->stages[i]);
    json_close_array(&w);
    json_open_array(&w, "models");
    for (size_t i = 0; i < l->model_count; i++) put_model(&w, &l->models[i]);
    json_close_array(&w);
    json_open_array(&w, "topics");
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++) {
        json_open_object(&w, NULL);
        json_put_text(&w, "topic", bytes_of(topic_name(t)));
        put_count(&w, "records", l->records[t]);
        json_close_object(&w);
    }
    json_close_array(&w);
    put_error(&w, "kafka_error", &l->kafka);
    put_error(&w, "redis_error", &l->redis);
    json_end(&w);
    puts(b.data);
    buf_free(&b);
}

/* ---- for people ---- */

static void put_number(struct table *t, int64_t n) {
    char text[32];
    if (n < 0) table_text(t, (struct bytes){0});
    else table_text(t, bytes_of(show_count(n, text)));
}

static const char *state_of(const struct fleet_stage *s) {
    if (s->lag < 0) return "no topic";
    if (!s->members) return "not running";
    return s->lag ? "working" : "idle";
}

static void print_stages(const struct look *l) {
    static const char *const heads[] = {"stage", ">members", "state", ">lag", "reads", ">records", ">dead letters"};
    struct table t = table_make(heads, 7);
    for (int i = 0; i < FLEET_STAGES; i++) {
        const struct fleet_stage *s = &l->stages[i];
        enum topic letters = topic_dead_letters(s->in);
        table_text(&t, bytes_of(s->name));
        table_print(&t, "%d", s->members);
        table_text(&t, bytes_of(state_of(s)));
        put_number(&t, s->lag);
        table_text(&t, bytes_of(topic_name(s->in)));
        put_number(&t, l->records[s->in]);
        if (letters == TOPIC_NONE) table_text(&t, BYTES(""));
        else put_number(&t, l->records[letters]);
    }
    table_end(&t);
}

static void print_models(const struct look *l) {
    static const char *const heads[] = {"model", ">served", ">accuracy", ">trained", ">images", ">judged", "why"};
    struct table t = table_make(heads, 7);
    for (size_t i = 0; i < l->model_count; i++) {
        const struct model_line *m = &l->models[i];
        const struct deployed *d = m->deployed;
        table_text(&t, m->name);
        if (d && d->version) table_print(&t, "v%lld%s", (long long)d->version, d->pinned ? " pinned" : "");
        else table_text(&t, (struct bytes){0});
        if (d && d->version && !isnan(d->evaluation.accuracy)) table_print(&t, "%.2f %%", 100 * d->evaluation.accuracy);
        else table_text(&t, (struct bytes){0});
        if (m->trained > 0) table_print(&t, "v%lld", (long long)m->trained);
        else table_text(&t, (struct bytes){0});
        put_number(&t, m->images);
        if (d) table_print(&t, "v%lld", (long long)d->judged);
        else table_text(&t, (struct bytes){0});
        table_text(&t, d ? d->why : (struct bytes){0});
    }
    if (l->model_count) table_end(&t);
    else puts(l->redis.kind ? "no model is known" : "no model yet: publish images with labels");
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct look l = {0};
    for (enum topic t = TOPIC_NONE; t < TOPIC_COUNT; t++) l.records[t] = -1;
    ask_kafka(c, &l);
    ask_redis(c, &l);
    if (l.model_count) qsort(l.models, l.model_count, sizeof *l.models, by_name);
    if (o->json) {
        print_json(&l);
    } else {
        if (!l.kafka.kind) print_stages(&l), puts("");
        if (!l.kafka.kind || !l.redis.kind) print_models(&l);
    }
    fflush(stdout);
    if (l.kafka.kind) client_say(c, "%s", l.kafka.text);
    if (l.redis.kind) client_say(c, "%s", l.redis.text);
    bool failed = l.kafka.kind || l.redis.kind;
    for (int i = 0; i < FLEET_STAGES; i++) free(l.stages[i].partitions);
    free(l.models);
    arena_free(&l.arena);
    return failed ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_status = {
    .name = "status", .what = "what every stage is doing, and the models", .needs = NEEDS_KAFKA | NEEDS_REDIS,
    .help = "A line a stage: how many workers are in its group, how many records it has not done yet, how many the\n"
            "topic that it reads holds (a transaction's marker counts as one), and how many it refused. A line a\n"
            "model: the version that is served and its accuracy on the images held out, the newest version that\n"
            "was trained, images in the store, and the version that was judged last and why. When Kafka or Redis\n"
            "does not answer, the rest is shown, and the command ends with 1.\n\n"
            "  darkroom status\n"
            "  watch -n 1 darkroom status\n"
            "  darkroom status --json | jq '[.stages[].lag] | add'\n\n"
            "--json: {\"stages\":[{\"stage\",\"group\",\"members\",\"state\",\"lag\",\"partitions\":[{\"partition\",\"committed\",\n"
            "\"begin\",\"end\",\"lag\"}]}],\"models\":[{\"model\",\"version\",\"accuracy\",\"judged\",\"why\",\"images\",\"trained\"}],\n"
            "\"topics\":[{\"topic\",\"records\"}],\"kafka_error\",\"redis_error\"}; what is not known is null, a version that\n"
            "there is not is 0.",
    .settings = settings, .options_size = sizeof(struct options), .run = run};
