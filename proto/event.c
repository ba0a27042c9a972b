/*
 * event: CloudEvents attributes as Kafka headers. Headers are matched as bytes; nothing is trusted.
 */
#include "proto/event.h"

#include "lib/base/clock.h"
#include "lib/base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Carried from input to output untouched: W3C trace context, as plain headers and as CloudEvents
   extensions, and the correlation ids in use. */
#define NAME(text)                                                                                 \
    { text, sizeof text - 1 }
static const struct bytes carried[] = {NAME("traceparent"),      NAME("tracestate"),
                                       NAME("baggage"),          NAME("ce_traceparent"),
                                       NAME("ce_tracestate"),    NAME("correlation-id"),
                                       NAME("correlationId"),    NAME("correlation_id"),
                                       NAME("ce_correlationid"), NAME("kafka_correlationId")};
enum { CARRIED = sizeof carried / sizeof *carried, ATTRIBUTES = 12, MAX_CARRIED = 16 };
enum { CARRIED_BYTES = 8192 }; /* of one: what W3C allows baggage, the largest of them */

bool event_model_is_valid(struct bytes model) {
    const char *p = model.data;
    if (!model.len || model.len > EVENT_MODEL_MAX) return false;
    for (size_t i = 0; i < model.len; i++) {
        char c = p[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!word && (i == 0 || (c != '.' && c != '_' && c != '-'))) return false;
    }
    return true;
}

/* The key is the id where no ce_id is: text as it is, other bytes (a Java long) in hex. */
static struct bytes id_of_key(struct bytes key, struct arena *a) {
    if (key.len > EVENT_ID_MAX / 2 || bytes_is_clean_text(key)) return key;
    static const char digits[] = "0123456789abcdef";
    const unsigned char *from = key.data;
    char *text = arena_alloc(a, 2 + 2 * key.len), *p = text;
    *p++ = '0';
    *p++ = 'x';
    for (size_t i = 0; i < key.len; i++) {
        *p++ = digits[from[i] >> 4];
        *p++ = digits[from[i] & 15];
    }
    return (struct bytes){text, (size_t)(p - text)};
}

static struct bytes id_of_value(struct bytes value, struct arena *a) {
    struct hash h = hash_of(value);
    char *hex = arena_alloc(a, HASH_HEX + 1);
    hash_hex(&h, HASH_LEN, hex);
    return (struct bytes){hex, HASH_HEX};
}

static bool fit(struct bytes text, size_t most) {
    return text.len && text.len <= most && bytes_is_clean_text(text);
}

static struct bytes either(struct bytes first, struct bytes second) {
    return first.data ? first : second;
}

static enum err_kind read_all(const struct record *r, struct arena *a, struct event *ev,
                              struct err *e) {
    struct bytes version = {0}, id = {0}, source = {0}, subject = {0}, model = {0}, label = {0};
    struct bytes plain_label = {0}, filename = {0}, time = {0}, expiry = {0}, shape = {0};
    const struct {
        struct bytes name;
        struct bytes *to;
    } wanted[] = {{NAME("ce_specversion"), &version}, {NAME("ce_id"), &id},
                  {NAME("ce_source"), &source},       {NAME("ce_subject"), &subject},
                  {NAME("ce_model"), &model},         {NAME("ce_label"), &label},
                  {NAME("label"), &plain_label},      {NAME("filename"), &filename},
                  {NAME("ce_time"), &time},           {NAME("ce_expirytime"), &expiry},
                  {NAME("ce_shape"), &shape}};
    for (size_t i = r->header_count;
         i-- > 0;) /* backwards: the first of a repeated header counts */
        for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
            if (bytes_equal(r->headers[i].name, wanted[k].name)) {
                *wanted[k].to = r->headers[i].value;
                break;
            }
    label = either(label, plain_label);
    subject = either(subject, filename);
    *ev = (struct event){.time_ms = r->time_ms, .expires_ms = -1, .shape = shape, .label = label};
    ev->id = id.data ? id : r->key.len ? id_of_key(r->key, a) : id_of_value(r->value, a);
    size_t prefix = strlen(topics_prefix_now());
    ev->source = either(
        source, bytes_of(r->topic && strlen(r->topic) > prefix ? r->topic + prefix : "images"));
    ev->model = either(model, BYTES(EVENT_DEFAULT_MODEL));
    if (subject.data && fit(subject, 1024)) ev->subject = subject;

    if (version.data && (version.len < 2 || memcmp(version.data, "1.", 2) != 0))
        return err_bad(e, REASON_BAD_EVENT, "ce_specversion must be 1.x");
    if (!fit(ev->id, EVENT_ID_MAX))
        return err_bad(
            e, REASON_BAD_ID,
            "the id (ce_id, or the record's key) has %zu bytes: 1 to %d of clean UTF-8 are allowed",
            ev->id.len, EVENT_ID_MAX);
    if (!fit(ev->source, EVENT_ID_MAX))
        return err_bad(e, REASON_BAD_EVENT,
                       "ce_source has %zu bytes: 1 to %d of clean UTF-8 are allowed",
                       ev->source.len, EVENT_ID_MAX);
    if (!event_model_is_valid(ev->model))
        return err_bad(e, REASON_BAD_MODEL,
                       "ce_model must be 1 to %d of a-z, 0-9, '.', '_' and '-'", EVENT_MODEL_MAX);
    if (label.data && !fit(label, EVENT_LABEL_MAX))
        return err_bad(e, REASON_BAD_LABEL,
                       "the label has %zu bytes: 1 to %d of clean UTF-8 are allowed", label.len,
                       EVENT_LABEL_MAX);
    if (time.data && clock_parse(time, &ev->time_ms, e)) return err_in(e, "ce_time");
    if (expiry.data && clock_parse(expiry, &ev->expires_ms, e)) return err_in(e, "ce_expirytime");
    return ERR_NONE;
}

static void cut(struct bytes *text, size_t most) {
    if (text->len > most) text->len = most;
}

enum err_kind event_read(const struct record *r, struct arena *a, struct event *ev, struct err *e) {
    if (!read_all(r, a, ev, e)) return ERR_NONE;
    cut(&ev->id, EVENT_ID_MAX);
    cut(&ev->source, EVENT_ID_MAX);
    cut(&ev->model, EVENT_MODEL_MAX);
    cut(&ev->label, EVENT_LABEL_MAX);
    return e->kind;
}

void event_write(const struct event *ev, const struct record *from, struct arena *a,
                 struct record *out) {
    struct header *h = arena_alloc(a, (ATTRIBUTES + MAX_CARRIED) * sizeof *h);
    size_t n = 0;
    char time[CLOCK_RFC3339_LEN + 1];
    clock_format(ev->time_ms, time);
    struct bytes when = arena_copy(a, (struct bytes){time, CLOCK_RFC3339_LEN});
    const struct header attributes[] = {{BYTES("ce_specversion"), BYTES("1.0")},
                                        {BYTES("ce_id"), ev->id},
                                        {BYTES("ce_source"), ev->source},
                                        {BYTES("ce_type"), ev->type},
                                        {BYTES("ce_time"), when},
                                        {BYTES("content-type"), ev->content_type},
                                        {BYTES("ce_subject"), ev->subject},
                                        {BYTES("ce_model"), ev->model},
                                        {BYTES("ce_label"), ev->label},
                                        {BYTES("ce_shape"), ev->shape}};
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (attributes[i].value.data) h[n++] = attributes[i];
    size_t most = n + MAX_CARRIED;
    for (size_t i = 0; from && i < from->header_count && n < most; i++)
        for (size_t k = 0; k < CARRIED; k++)
            if (bytes_equal(from->headers[i].name, carried[k]) &&
                from->headers[i].value.len <= CARRIED_BYTES) {
                h[n++] = from->headers[i];
                break;
            }
    out->headers = h;
    out->header_count = n;
}

struct bytes event_reply_to(const struct record *r) {
    return either(record_header(r, "reply-to"), record_header(r, "kafka_replyTopic"));
}

enum err_kind event_shape(struct bytes shape, int *height, int *width, int *channels,
                          struct err *e) {
    char text[40] = "";
    size_t used = 0;
    if (shape.data && shape.len < sizeof text) memcpy(text, shape.data, shape.len);
    if (sscanf(text, "%6d,%6d,%2d%zn", height, width, channels, &used) != 3 || used != shape.len ||
        *height < 1 || *width < 1 || (*channels != 1 && *channels != 3))
        return err_bad(e, REASON_BAD_SHAPE, "ce_shape must be height,width,channels like 28,28,1");
    return ERR_NONE;
}
