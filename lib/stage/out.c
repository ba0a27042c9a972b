/*
 * out.c: outputs, dead letters and counts. Everything is copied into one arena: the inputs may be
 * gone before the hand-over is sent.
 */
#include "lib/stage/out.h"

#include "lib/base/clock.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LETTER_HEADERS = 12 };

void out_begin(struct out *o, const struct record *in, size_t n, int attempts) {
    arena_reset(&o->arena);
    o->count = 0;
    o->attempts = attempts;
    o->refused = (struct err){0};
    o->tally = (struct tally){.records = n, .oldest_ms = -1, .lists = o->tally.lists};
    o->tally.lists.by_model_count = 0;
    if (n > o->tally.lists.times_cap) {
        o->tally.lists.times_cap = n;
        o->tally.lists.times_ms = mem_resize(o->tally.lists.times_ms, n * sizeof(int64_t));
    }
    for (size_t i = 0; i < n; i++) {
        o->tally.lists.times_ms[i] = in[i].time_ms;
        o->tally.bytes += in[i].key.len + in[i].value.len;
        if (o->tally.oldest_ms < 0 || in[i].time_ms < o->tally.oldest_ms)
            o->tally.oldest_ms = in[i].time_ms;
    }
}

void tally_free(struct tally *t) {
    free(t->lists.times_ms);
    free(t->lists.by_model);
    *t = (struct tally){0};
}

void out_free(struct out *o) {
    tally_free(&o->tally);
    arena_free(&o->arena);
    free(o->list);
}

/* A copy at *at, which moves behind it; absent stays absent. */
static struct bytes put(char **at, struct bytes from) {
    if (!from.data) return from;
    struct bytes copy = {*at, from.len};
    memcpy(*at, from.data, from.len);
    *at += from.len;
    return copy;
}

/* The whole record in one piece of memory. `more` headers may follow the record's own. */
static struct record *add(struct out *o, const char *topic, const struct record *r, size_t more) {
    size_t count = r->header_count + more,
           size = count * sizeof(struct header) + r->key.len + r->value.len;
    for (size_t i = 0; i < r->header_count; i++)
        size += r->headers[i].name.len + r->headers[i].value.len;
    struct header *headers = arena_alloc(&o->arena, size + 1);
    char *at = (char *)(headers + count);
    for (size_t i = 0; i < r->header_count; i++) {
        headers[i].name = put(&at, r->headers[i].name);
        headers[i].value = put(&at, r->headers[i].value);
    }
    if (o->count == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 64;
        o->list = mem_resize(o->list, o->cap * sizeof *o->list);
    }
    struct record *to = &o->list[o->count++];
    *to = (struct record){
        .topic = topic,
        .key = put(&at, r->key),
        .value = put(&at, r->value),
        .headers = headers,
        .header_count = r->header_count,
        .time_ms = r->time_ms,
    };
    return to;
}

static int output_of(const struct stage *s, enum topic t) {
    for (int i = 0; i < STAGE_OUTPUTS; i++)
        if (t != TOPIC_NONE && s->out[i] == t) return i;
    return -1;
}

enum err_kind out_send(struct out *o, enum topic t, const struct record *r, struct err *e) {
    int output = output_of(o->stage, t);
    if (output < 0)
        return err_fatal(e, "%s does not name %s among its outputs", o->stage->name,
                         t > TOPIC_NONE && t < TOPIC_COUNT ? topic_info(t)->name : "this topic");
    add(o, topic_name(t), r, 0);
    o->tally.outputs[output]++;
    return ERR_NONE;
}

enum err_kind out_event(struct out *o, enum topic t, struct bytes key, struct bytes value,
                        const struct event *ev, const struct record *from, struct err *e) {
    struct event full = *ev;
    struct record r = {.key = key, .value = value, .time_ms = -1};
    if (!full.type.data) full.type = bytes_of(topic_info(t)->type);
    full.content_type = bytes_of(topic_info(t)->content_type);
    event_write(&full, from, &o->arena, &r);
    return out_send(o, t, &r, e);
}

static bool name_is_legal(struct bytes name) {
    const char *p = name.data;
    for (size_t i = 0; i < name.len; i++)
        if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= 'A' && p[i] <= 'Z') ||
              (p[i] >= '0' && p[i] <= '9') || p[i] == '.' || p[i] == '_' || p[i] == '-'))
            return false;
    return name.len > 0 && name.len <= TOPIC_NAME_MAX;
}

static bool list_allows(const char *list, const char *name) {
    for (; list && *list; list += *list == ',') {
        size_t n = strcspn(list, ",");
        bool open_end = n && list[n - 1] == '*';
        if (open_end ? !strncmp(list, name, n - 1) : n == strlen(name) && !strncmp(list, name, n))
            return true;
        list += n;
    }
    return false;
}

enum err_kind out_reply(struct out *o, struct bytes topic, enum topic usual, struct bytes key,
                        struct bytes value, const struct event *ev, const struct record *from,
                        struct err *e) {
    bool exists = true;
    if (!topic.data) return out_event(o, usual, key, value, ev, from, e);
    if (!o->stage->replies || !name_is_legal(topic))
        return err_bad(e, REASON_REPLY_TOPIC, "the reply topic is not a topic's name");
    const char *name = arena_text(&o->arena, topic);
    enum topic own = topic_of(name);
    if (own != TOPIC_NONE && output_of(o->stage, own) >= 0)
        return out_event(o, own, key, value, ev, from, e);
    /* No pattern is wide enough for the fleet's own topics: a requester does not write models. */
    if (own != TOPIC_NONE || !list_allows(o->conf->reply_topics, name))
        return err_bad(e, REASON_REPLY_TOPIC, "the setting reply-topics does not allow %.100s",
                       name);
    if (bus_topic_exists(o->bus, name, &exists, e)) return e->kind;
    if (!exists) return err_bad(e, REASON_REPLY_TOPIC, "no topic %.100s takes our records", name);
    if (out_event(o, usual, key, value, ev, from, e)) return e->kind;
    o->list[o->count - 1].topic = name;
    o->tally.outputs[output_of(o->stage, usual)]--;
    o->tally.replies++;
    return ERR_NONE;
}

static void letter_header(struct record *to, const char *name, const char *value) {
    struct header *h = (struct header *)&to->headers[to->header_count++];
    *h = (struct header){bytes_of(name), bytes_of(value)};
}

static void write_letter(struct out *o, const char *topic, const struct record *as,
                         const struct record *r, const struct err *why) {
    char now[CLOCK_RFC3339_LEN + 1], then[CLOCK_RFC3339_LEN + 1];
    clock_format(clock_now_ms(), now);
    clock_format(r->time_ms, then);
    struct record *to = add(o, topic, as, LETTER_HEADERS);
    to->time_ms = -1; /* retention counts from the refusal */
    letter_header(to, "dlq.reason", reason_code(why->reason));
    letter_header(to, "dlq.text", arena_text(&o->arena, bytes_of(why->text)));
    letter_header(to, "dlq.stage", o->stage->name);
    letter_header(to, "dlq.version", DARKROOM_VERSION);
    letter_header(to, "dlq.topic", arena_text(&o->arena, bytes_of(r->topic)));
    letter_header(to, "dlq.partition", arena_printf(&o->arena, "%d", r->partition));
    letter_header(to, "dlq.offset", arena_printf(&o->arena, "%" PRId64, r->offset));
    letter_header(to, "dlq.record-time", arena_text(&o->arena, bytes_of(then)));
    letter_header(to, "dlq.cluster", arena_text(&o->arena, bytes_of(bus_cluster(o->bus))));
    letter_header(to, "dlq.attempts", arena_printf(&o->arena, "%d", o->attempts));
    letter_header(to, "dlq.time", arena_text(&o->arena, bytes_of(now)));
    if (as != r)
        letter_header(to, "dlq.left-out", "key, value and headers: together they are too long");
}

/* Counts and says it; the topic of the letter, or NULL when the input has none. */
static const char *refuse(struct out *o, const struct record *r, const struct err *why) {
    static long long said;
    enum topic t = topic_dead_letters(o->stage->in);
    o->refused = *why;
    stage_count_refused(o, why);
    if (log_due(&said, 1000))
        log_warn("refused %s[%d]@%" PRId64 ": %s: %s", r->topic, r->partition, r->offset,
                 reason_code(why->reason), why->text);
    return t == TOPIC_NONE ? NULL : topic_name(t);
}

void out_dead_letter(struct out *o, const struct record *r, struct err *why) {
    const char *topic = refuse(o, r, why);
    if (topic) write_letter(o, topic, r, r, why);
    err_clear(why);
}

void out_bare_letter(struct out *o, const struct record *r, const struct err *why) {
    struct record bare = {.time_ms = r->time_ms};
    const char *topic = refuse(o, r, why);
    if (topic) write_letter(o, topic, &bare, r, why);
}

struct arena *out_arena(struct out *o) {
    return &o->arena;
}

enum err_kind stage_alive(struct out *o, struct err *e) {
    metrics_beat(o->metrics);
    if (o->conf->stop && *o->conf->stop) return err_again(e, "it is time to stop");
    return bus_alive(o->bus, e);
}

static enum err_kind still(void *out, struct err *e) {
    return stage_alive(out, e);
}

struct alive out_alive(struct out *o) {
    return (struct alive){still, o};
}

void stage_count(struct out *o, const char *counter, uint64_t n) {
    for (int i = 0; i < STAGE_COUNTERS && o->stage->counters[i]; i++)
        if (!strcmp(o->stage->counters[i], counter)) {
            o->tally.counters[i] += n;
            return;
        }
    log_error("%s counts %s, which it does not name", o->stage->name, counter);
}

void stage_count_model(struct out *o, struct bytes model, int64_t version, uint64_t n) {
    struct tally *t = &o->tally;
    if (!event_model_is_valid(model)) return;
    for (size_t i = t->lists.by_model_count; i-- > 0;) {
        struct model_count *c = &t->lists.by_model[i];
        if (c->version != version || !bytes_is(model, c->model)) continue;
        c->n += n;
        return;
    }
    if (t->lists.by_model_count == t->lists.by_model_cap) {
        t->lists.by_model_cap = t->lists.by_model_cap ? t->lists.by_model_cap * 2 : 8;
        t->lists.by_model =
            mem_resize(t->lists.by_model, t->lists.by_model_cap * sizeof *t->lists.by_model);
    }
    struct model_count *c = &t->lists.by_model[t->lists.by_model_count++];
    *c = (struct model_count){.version = version, .n = n};
    snprintf(c->model, sizeof c->model, "%.*s", (int)model.len, (const char *)model.data);
}

void stage_count_refused(struct out *o, const struct err *why) {
    o->tally.refused[why->reason < REASON_COUNT ? why->reason : REASON_NONE]++;
}

struct coordinates out_origin(struct out *o, const struct record *r) {
    struct coordinates here = {bus_cluster(o->bus), r->topic, r->partition, r->offset, r->time_ms};
    struct coordinates first = here;
    struct bytes topic = record_header(r, "dlq.topic"), cluster = record_header(r, "dlq.cluster"),
                 partition = record_header(r, "dlq.partition"),
                 offset = record_header(r, "dlq.offset");
    struct err ignored = {0};
    if (!bytes_is(topic, r->topic) || !cluster.data || !partition.data || !offset.data ||
        clock_parse(record_header(r, "dlq.record-time"), &first.time_ms, &ignored))
        return here;
    first.cluster = arena_text(&o->arena, cluster);
    first.partition = (int32_t)strtol(arena_text(&o->arena, partition), NULL, 10);
    first.offset = strtoll(arena_text(&o->arena, offset), NULL, 10);
    return first;
}

struct bytes out_name(struct out *o, const struct record *const *from, size_t n) {
    struct buf text = {0};
    char *name = arena_alloc(&o->arena, HASH_HEX + 1);
    buf_add_text(&text, bus_cluster(o->bus));
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, " %s/%d/%" PRId64 "@%" PRId64, from[i]->topic, from[i]->partition,
                   from[i]->offset, from[i]->time_ms);
    struct hash h = hash_of(buf_bytes(&text));
    hash_hex(&h, HASH_LEN, name);
    buf_free(&text);
    return bytes_of(name);
}
