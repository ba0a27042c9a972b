/*
 * predict: sends images as requests, and prints the answers as they come.
 *
 * Every request has an id of its own, "<run>/<number>/<file>", by which its answer is known; the results
 * are read from their end before the first request is sent, so none is missed. When no answer comes for
 * --timeout, the stage that is not there is looked for and named.
 */
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/bus/publisher.h"
#include "lib/client/client.h"
#include "lib/client/fleet.h"
#include "lib/client/show.h"
#include "lib/client/source.h"
#include "proto/event.h"
#include "proto/messages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct options {
    const char *model;
    int64_t timeout_ms, rate;
    bool summary, in_order, all, json;
};
static const struct setting settings[] = {
    {"model", SETTING_TEXT, offsetof(struct options, model), EVENT_DEFAULT_MODEL, "The model to ask", NULL, 0, 0, 0},
    {"timeout", SETTING_TIME, offsetof(struct options, timeout_ms), "30s", "How long to wait while no answer comes", NULL, 1, 1e9, 0},
    {"summary", SETTING_BOOL, offsetof(struct options, summary), "false", "Only the figures of all, not a line a file", NULL, 0, 0, 0},
    {"rate", SETTING_INT, offsetof(struct options, rate), "0", "Requests a second, at most; 0: as fast as it goes", NULL, 0, 1e9, 0},
    {"in-order", SETTING_BOOL, offsetof(struct options, in_order), "false", "Sent in the order of the names, not shuffled", NULL, 0, 0, 0},
    {"all", SETTING_BOOL, offsetof(struct options, all), "false", "Also files that do not begin as a PNG does", NULL, 0, 0, 0},
    {"json", SETTING_BOOL, offsetof(struct options, json), "false", "JSON, one object a line; with --summary, one object", NULL, 0, 0, 0},
    {0}};

enum { RUN_HEX = 16, TROUBLES_TOLD = 20, NAME_WIDTH_MAX = 48 };

struct request {
    int64_t sent_us; /* 0: not sent */
    bool answered;
};

struct version_count {
    int64_t version, answers;
};

struct predicting {
    const struct client *c;
    const struct options *o;
    struct source source;
    struct request *requests; /* one an image */
    uint32_t *latencies;      /* us, of the answered ones */
    struct reader *reader;
    struct publisher *publisher;
    struct arena arena;
    struct buf file, line;
    char run[RUN_HEX + 2]; /* and a slash */
    size_t name_width;
    int64_t start_us, last_answer_us;
    int64_t sent, answered, errors, doubled, labelled, right, skipped, failed, looked_at;
    struct version_count *versions;
    size_t version_count;
};

static void trouble(struct predicting *p, const char *name, const char *why) {
    if (p->failed++ < TROUBLES_TOLD) client_say(p->c, "%s: %s", name, why);
    if (p->failed == TROUBLES_TOLD) client_say(p->c, "further files like this are only counted");
}

static void not_accepted(void *ctx, uint64_t tag, const struct err *why) {
    struct predicting *p = ctx;
    p->sent--;
    p->requests[tag].sent_us = 0;
    trouble(p, source_name(&p->source, &p->source.images[tag]), why->text);
}

/* ---- requests ---- */

/* Latency counts here: what is sent goes at once, unless the user's own properties say otherwise. */
static struct publisher *open_publisher(struct predicting *p, struct err *e) {
    size_t n = p->c->property_count;
    struct bus_property *all = mem_zeroed(n + 1, sizeof *all);
    all[0] = (struct bus_property){"linger.ms", "1"};
    memcpy(all + 1, p->c->properties, n * sizeof *all);
    struct publisher *publisher = publisher_open(all, n + 1, not_accepted, p, e);
    free(all);
    return publisher;
}

/* ERR_BAD: this image cannot be sent, the rest can. */
static enum err_kind send_request(struct predicting *p, size_t i, struct err *e) {
    const struct source_image *im = &p->source.images[i];
    if (source_read(&p->source, im, topic_info(PREDICTIONS_REQUESTS)->max_bytes, p->o->all, &p->file, e)) return e->kind;
    arena_reset(&p->arena);
    struct bytes name = bytes_of(source_name(&p->source, im));
    const char *last = strrchr(name.data, '/');
    struct bytes short_name = bytes_of(last ? last + 1 : name.data);
    if (short_name.len > 128 || !bytes_is_clean_text(short_name)) short_name = BYTES("image");
    struct event ev = {.type = BYTES("darkroom.prediction.request"), .source = BYTES("darkroom/predict"),
                       .model = bytes_of(p->o->model), .content_type = BYTES("image/png"), .time_ms = clock_now_ms()};
    ev.id = bytes_of(arena_printf(&p->arena, "%s%zu/%s", p->run, i, (const char *)short_name.data));
    if (name.len <= 1024 && bytes_is_clean_text(name)) ev.subject = name;
    struct record r = {.topic = topic_name(PREDICTIONS_REQUESTS), .key = ev.id, .value = buf_bytes(&p->file), .time_ms = -1};
    event_write(&ev, NULL, &p->arena, &r);
    p->requests[i].sent_us = clock_monotonic_us();
    p->sent++;
    if (!publisher_send(p->publisher, &r, i, e)) return ERR_NONE;
    p->sent--;
    p->requests[i].sent_us = 0;
    return e->kind;
}

/* The next image, if it is due. */
static enum err_kind send_next(struct predicting *p, struct err *e) {
    size_t i = (size_t)p->looked_at;
    if (client_due(p->start_us, p->looked_at, p->o->rate)) return ERR_NONE;
    enum err_kind kind = send_request(p, i, e);
    p->looked_at++;
    if (kind != ERR_BAD) return kind;
    if (e->reason == REASON_NOT_PNG) p->skipped++;
    else trouble(p, source_name(&p->source, &p->source.images[i]), e->text);
    err_clear(e);
    return ERR_NONE;
}

/* ---- answers ---- */

static void count_version(struct predicting *p, int64_t version) {
    size_t i = 0;
    while (i < p->version_count && p->versions[i].version < version) i++;
    if (i == p->version_count || p->versions[i].version != version) {
        p->versions = mem_resize(p->versions, (p->version_count + 1) * sizeof *p->versions);
        memmove(&p->versions[i + 1], &p->versions[i], (p->version_count - i) * sizeof *p->versions);
        p->versions[i] = (struct version_count){version, 0};
        p->version_count++;
    }
    p->versions[i].answers++;
}

static void print_json(struct predicting *p, const struct result *m, const char *name, struct bytes label, uint32_t us) {
    struct json_writer w = json_begin(&p->line);
    json_put_text(&w, "file", bytes_of(name));
    if (label.data) json_put_text(&w, "folder", label);
    if (m->reason.data) {
        json_put_text(&w, "error", m->reason);
        json_put_text(&w, "text", m->text);
    } else {
        json_put_text(&w, "label", m->label);
        json_put_fraction(&w, "probability", m->probability);
        json_put_text(&w, "model", m->model);
        json_put_int(&w, "version", m->version);
        json_open_object(&w, "probabilities");
        for (size_t i = 0; i < m->label_count; i++) json_put_fraction(&w, m->labels[i], (double)m->probabilities[i]);
        json_close_object(&w);
    }
    json_put_real(&w, "latency_ms", (double)us / 1000);
    json_end(&w);
}

static void print_line(struct predicting *p, const struct result *m, const char *name) {
    show_padded(&p->line, bytes_of(name), p->name_width);
    buf_add_text(&p->line, "  ");
    show_padded(&p->line, m->reason.data ? m->reason : m->label, 12);
    if (m->reason.data) {
        buf_add_text(&p->line, "  ");
        show_text(&p->line, m->text);
    } else {
        buf_printf(&p->line, "  %.4f  v%lld", m->probability, (long long)m->version);
    }
}

/* Which request of ours a result answers: its key is "<run>/<number>/…". */
static bool request_of(const struct predicting *p, struct bytes id, size_t *i) {
    const char *text = id.data;
    size_t at = RUN_HEX + 1, n = 0;
    if (id.len <= at || memcmp(text, p->run, at) != 0) return false;
    for (; at < id.len && text[at] >= '0' && text[at] <= '9' && n <= p->source.count; at++) n = 10 * n + (size_t)(text[at] - '0');
    if (at == id.len || text[at] != '/' || n >= p->source.count || !p->requests[n].sent_us) return false;
    *i = n;
    return true;
}

static void take_answer(struct predicting *p, const struct record *r, int64_t now_us) {
    size_t i;
    struct result m = {0};
    struct err e = {0};
    if (!request_of(p, r->key, &i)) return;
    if (p->requests[i].answered) {
        p->doubled++;
        return;
    }
    const struct source_image *im = &p->source.images[i];
    const char *name = source_name(&p->source, im);
    arena_reset(&p->arena);
    if (result_decode(r->value, &p->arena, &m, &e)) m.reason = BYTES("bad-message"), m.text = bytes_of(e.text);
    uint32_t us = (uint32_t)(now_us - p->requests[i].sent_us);
    struct bytes label = source_label(&p->source, im);
    p->requests[i].answered = true;
    p->latencies[p->answered++] = us;
    p->last_answer_us = now_us;
    if (m.reason.data) {
        p->errors++;
    } else {
        count_version(p, m.version);
        p->labelled += label.data != NULL;
        p->right += label.data && bytes_equal(label, m.label);
    }
    if (p->o->summary) return;
    buf_clear(&p->line);
    if (p->o->json) print_json(p, &m, name, label, us);
    else print_line(p, &m, name);
    progress_hide();
    puts(p->line.data);
}

/* All that is there, after waiting at most wait_ms for the first. */
static enum err_kind take_answers(struct predicting *p, int wait_ms, struct err *e) {
    for (bool got = true; got;) {
        struct record r;
        if (reader_poll(p->reader, wait_ms, &r, &got, e)) return e->kind;
        if (got) take_answer(p, &r, clock_monotonic_us());
        wait_ms = 0;
    }
    return ERR_NONE;
}

static enum err_kind exchange(struct predicting *p, struct err *e) {
    enum { AT_ONCE = 64 }; /* requests between two looks at the answers */
    int64_t count = (int64_t)p->source.count, linger_us = p->o->summary ? 1000000 : 200000;
    p->start_us = p->last_answer_us = clock_monotonic_us();
    while (!client_stopped()) {
        for (int i = 0; i < AT_ONCE && p->looked_at < count; i++)
            if (send_next(p, e)) return e->kind;
        bool all_sent = p->looked_at == count;
        int64_t due = all_sent ? 50000 : client_due(p->start_us, p->looked_at, p->o->rate);
        publisher_poll(p->publisher, 0);
        if (take_answers(p, due > 50000 ? 50 : (int)((due + 999) / 1000), e) == ERR_FATAL) return e->kind;
        err_clear(e); /* the broker is away: the time-out below will tell */
        progress_at(p->answered, 0);
        if (all_sent && p->answered >= p->sent) break;
        int64_t since = p->last_answer_us;
        if (p->looked_at && p->requests[p->looked_at - 1].sent_us > since) since = p->requests[p->looked_at - 1].sent_us;
        if (clock_monotonic_us() - since > p->o->timeout_ms * 1000 && p->answered < p->sent)
            return err_again(e, "no answer came for %lld ms", (long long)p->o->timeout_ms);
    }
    /* An answer that comes twice would come now. */
    for (int64_t end = clock_monotonic_us() + linger_us; p->sent && !client_stopped() && clock_monotonic_us() < end;)
        if (take_answers(p, 50, e)) break;
    err_clear(e);
    return ERR_NONE;
}

/* ---- afterwards ---- */

/* Which stage is not there, as far as the broker can tell. */
static void say_who_is_missing(const struct predicting *p) {
    struct err e = {0};
    struct fleet_stage stage = {0};
    struct arena arena = {0};
    struct deployed *models = NULL;
    size_t n = 0, i = 0;
    struct admin *a = admin_open(p->c->properties, p->c->property_count, &e);
    if (!a || fleet_look(a, FLEET_PREDICT, &stage, &e)) {
        client_say(p->c, "%s", e.text);
    } else {
        if (!stage.members) client_say(p->c, "no predict worker is running (group %s has no members)", stage.group);
        if (stage.lag > 0) client_say(p->c, "predict is %lld records behind on %s", (long long)stage.lag, topic_name(stage.in));
        if (!fleet_deployed(p->c, &arena, &models, &n, &e)) {
            while (i < n && !bytes_is(models[i].model, p->o->model)) i++;
            if (i == n || !models[i].version) client_say(p->c, "no version of the model \"%s\" is deployed yet", p->o->model);
        }
    }
    free(stage.partitions);
    arena_free(&arena);
    admin_close(a);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_summary(struct predicting *p) {
    double seconds = (double)(p->last_answer_us - p->start_us) / 1e6;
    double rate = seconds > 0 ? (double)p->answered / seconds : 0;
    double accuracy = p->labelled ? (double)p->right / (double)p->labelled : 0;
    qsort(p->latencies, (size_t)p->answered, sizeof *p->latencies, by_value);
    double p50 = show_percentile(p->latencies, (size_t)p->answered, 0.50) / 1000.0;
    double p99 = show_percentile(p->latencies, (size_t)p->answered, 0.99) / 1000.0;
    if (p->o->json) {
        buf_clear(&p->line);
        struct json_writer w = json_begin(&p->line);
        json_put_int(&w, "requests", p->sent);
        json_put_int(&w, "answered", p->answered);
        json_put_int(&w, "missing", p->sent - p->answered);
        json_put_int(&w, "errors", p->errors);
        json_put_int(&w, "doubled", p->doubled);
        json_put_int(&w, "labelled", p->labelled);
        json_put_int(&w, "right", p->right);
        if (p->labelled) json_put_fraction(&w, "accuracy", accuracy);
        else json_put_null(&w, "accuracy");
        json_put_real(&w, "seconds", seconds);
        json_put_real(&w, "results_per_second", rate);
        json_open_object(&w, "latency_ms");
        json_put_real(&w, "p50", p50);
        json_put_real(&w, "p99", p99);
        json_close_object(&w);
        json_open_array(&w, "versions");
        for (size_t i = 0; i < p->version_count; i++) {
            json_open_object(&w, NULL);
            json_put_int(&w, "version", p->versions[i].version);
            json_put_int(&w, "answers", p->versions[i].answers);
            json_close_object(&w);
        }
        json_close_array(&w);
        json_end(&w);
        puts(p->line.data);
        return;
    }
    char text[32];
    printf("requests   %s\n", show_count(p->sent, text));
    printf("answered   %s\n", show_count(p->answered, text));
    if (p->sent > p->answered) printf("missing    %s\n", show_count(p->sent - p->answered, text));
    printf("errors     %s\n", show_count(p->errors, text));
    printf("doubled    %s\n", show_count(p->doubled, text));
    if (p->labelled) {
        printf("right      %s", show_count(p->right, text));
        printf(" of %s, %.2f %%\n", show_count(p->labelled, text), 100 * accuracy);
    }
    printf("results/s  %s\n", show_count((int64_t)rate, text));
    printf("latency    p50 %.1f ms, p99 %.1f ms\n", p50, p99);
    printf("versions   ");
    for (size_t i = 0; i < p->version_count; i++)
        printf("%sv%lld: %s", i ? ", " : "", (long long)p->versions[i].version, show_count(p->versions[i].answers, text));
    puts(p->version_count ? "" : "none");
}

static void name_the_run(struct predicting *p) {
    unsigned char random[RUN_HEX / 2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        int64_t us = clock_monotonic_us() ^ clock_now_ms() << 20;
        memcpy(random, &us, sizeof random);
    }
    for (size_t i = 0; i < sizeof random; i++) snprintf(p->run + 2 * i, 3, "%02x", random[i]);
    strcat(p->run, "/");
}

static int run(struct client *c, const void *options, char **operands, int n) {
    struct predicting p = {.c = c, .o = options};
    struct err e = {0};
    if (!event_model_is_valid(bytes_of(p.o->model)))
        return client_usage(c, "--model is \"%s\": a name has 1 to %d of a-z, 0-9, '.', '_' and '-'", p.o->model, EVENT_MODEL_MAX);
    for (int i = 0; i < n && !e.kind; i++) (void)!source_add(&p.source, operands[i], &e);
    source_sort(&p.source, !p.o->in_order);
    p.requests = mem_zeroed(p.source.count + 1, sizeof *p.requests);
    p.latencies = mem_zeroed(p.source.count + 1, sizeof *p.latencies);
    for (size_t i = 0; i < p.source.count; i++) {
        size_t width = strlen(source_name(&p.source, &p.source.images[i]));
        if (width > p.name_width) p.name_width = width < NAME_WIDTH_MAX ? width : NAME_WIDTH_MAX;
    }
    name_the_run(&p);
    if (!e.kind && !client_reach(c, PREDICTIONS_REQUESTS, &e) && !client_reach(c, PREDICTIONS_RESULTS, &e)) {
        p.reader = client_follow(c, PREDICTIONS_RESULTS, READER_END, &e);
        p.publisher = p.reader ? open_publisher(&p, &e) : NULL;
    }
    if (p.publisher) {
        progress_begin("predict", (int64_t)p.source.count);
        (void)!exchange(&p, &e);
        progress_end();
        struct err late = {0}; /* an answer may be here before the request's acknowledgement */
        if (!e.kind) (void)!publisher_flush(p.publisher, 2000, &late);
        if (p.o->summary) print_summary(&p);
    }
    int64_t missing = p.sent - p.answered;
    bool timed_out = missing > 0 && e.kind == ERR_AGAIN;
    if (e.kind) client_fail(c, &e);
    if (missing > 0) client_say(c, "%lld of %lld answers are missing", (long long)missing, (long long)p.sent);
    if (timed_out) say_who_is_missing(&p);
    if (p.skipped) client_say(c, "%lld files that do not begin as a PNG file does were left out (--all sends them)", (long long)p.skipped);
    if (p.doubled) client_say(c, "%lld answers came twice", (long long)p.doubled);
    if (p.publisher && !p.sent && !e.kind) client_say(c, "there is nothing to ask about");
    bool failed = e.kind || missing || p.errors || p.failed || !p.sent;
    publisher_close(p.publisher);
    reader_close(p.reader);
    source_free(&p.source);
    free(p.requests);
    free(p.latencies);
    free(p.versions);
    arena_free(&p.arena);
    buf_free(&p.file);
    buf_free(&p.line);
    return timed_out ? CLIENT_TIMED_OUT : failed ? CLIENT_FAILED : CLIENT_DONE;
}

const struct command command_predict = {
    .name = "predict", .operands = "PATH…", .what = "asks what images are, and prints the answers", .needs = NEEDS_KAFKA,
    .help = "Sends every image as a request and prints its file, label, probability and the model's version as the\n"
            "answers come. PATH is as in publish: a folder, a PNG file or an IDX file.\n\n"
            "  darkroom predict digits/7/00007.png\n"
            "  darkroom predict --json new | jq -r 'select(.probability < 0.8).file'\n"
            "  darkroom predict --summary test       with test/<label>/: how many are right, how fast\n"
            "  darkroom predict --rate 1000 --summary test\n\n"
            "The labels of the folders are not sent. Latency is from sending to reading the answer. --json has one\n"
            "object a line: file, folder, label, probability, model, version, probabilities, latency_ms, or error\n"
            "and text; with --summary one object: requests, answered, missing, errors, doubled, labelled, right,\n"
            "accuracy, seconds, results_per_second, latency_ms {p50, p99}, versions [{version, answers}].\n"
            "Ends with 1 when an answer is an error, with 3 when answers are missing at the time-out.",
    .least = 1, .most = -1, .settings = settings, .options_size = sizeof(struct options), .run = run};
