/* kafka_kept.c: copies of the records of a few transactions; their memory is used again by the next. */
#include "lib/bus/kafka_kept.h"

#include "lib/base/clock.h"

#include <stdlib.h>
#include <string.h>

struct kept *kept_open(void) {
    return mem_zeroed(1, sizeof(struct kept));
}

static void clear(struct kept_txn *x) {
    if (x->positions) rd_kafka_topic_partition_list_destroy(x->positions);
    if (x->group) rd_kafka_consumer_group_metadata_destroy(x->group);
    arena_reset(&x->memory);
    *x = (struct kept_txn){.memory = x->memory};
}

void kept_free(struct kept *k) {
    if (!k) return;
    for (int i = 0; i < KEPT_MOST; i++) {
        clear(&k->list[i]);
        arena_free(&k->list[i].memory);
    }
    free(k);
}

static struct kept_txn *find(struct kept *k, uint32_t serial) {
    for (int i = 0; i < KEPT_MOST && serial; i++)
        if (k->list[i].serial == serial) return &k->list[i];
    return NULL;
}

struct kept_txn *kept_after(struct kept *k, const struct kept_txn *x) {
    struct kept_txn *oldest = NULL;
    for (int i = 0; i < KEPT_MOST; i++) {
        struct kept_txn *each = &k->list[i];
        if (each->asked && (!x || each->serial > x->serial) &&
            (!oldest || each->serial < oldest->serial))
            oldest = each;
    }
    return oldest;
}

/* Absent data stays absent. */
static struct bytes pack(char **to, struct bytes from) {
    struct bytes copy = {from.data ? *to : NULL, from.len};
    if (from.len) memcpy(*to, from.data, from.len);
    *to += from.len;
    return copy;
}

/* Headers, then bytes, of all records in one piece: a piece for each costs more than what is copied. */
static void copy_all(struct kept_txn *x, const struct record *out) {
    size_t headers = 0, bytes = 0;
    for (size_t i = 0; i < x->count; i++) {
        headers += out[i].header_count;
        bytes += kafka_payload(&out[i]);
    }
    x->copies = arena_alloc(&x->memory, (x->count + 1) * sizeof *x->copies);
    struct header *header = arena_alloc(&x->memory, headers * sizeof *header + bytes + 1);
    char *to = (char *)(header + headers);
    const char *topic = NULL;
    for (size_t i = 0; i < x->count; i++) {
        struct record r = out[i];
        if (!topic || strcmp(topic, r.topic)) topic = arena_text(&x->memory, bytes_of(r.topic));
        r.topic = topic;
        r.key = pack(&to, r.key);
        r.value = pack(&to, r.value);
        r.headers = header;
        for (size_t h = 0; h < r.header_count; h++) {
            struct header from = out[i].headers[h];
            *header++ = (struct header){pack(&to, from.name), pack(&to, from.value)};
        }
        x->copies[i] = (struct kept_copy){.record = r};
    }
}

struct kept_txn *kept_begin(struct kept *k, int lane, const struct record *out, size_t n) {
    struct kept_txn *x = NULL;
    for (int i = 0; i < KEPT_MOST && !x; i++)
        if (!k->list[i].serial) x = &k->list[i];
    if (!x && (x = kept_after(k, NULL))) clear(x);
    if (!++k->serial) k->serial++;
    x->serial = k->serial;
    x->lane = lane;
    x->count = n;
    copy_all(x, out);
    return x;
}

void kept_asked(struct kept *k, const rd_kafka_topic_partition_list_t *positions) {
    struct kept_txn *last = find(k, k->serial);
    last->positions = rd_kafka_topic_partition_list_copy(positions);
    last->asked = true;
    last->asked_us = clock_monotonic_us();
    k->looked = false;
    for (int i = 0; i < KEPT_MOST; i++) {
        struct kept_txn *x = &k->list[i];
        if (x != last &&
            (x->lane == last->lane || last->asked_us - x->asked_us > KEPT_CERTAIN_MS * 1000LL))
            clear(x);
    }
}

void kept_told(struct kept *k) {
    find(k, k->serial)->told = true;
}

void kept_dropped(struct kept *k) {
    struct kept_txn *last = find(k, k->serial);
    if (last) clear(last);
}

void kept_group(struct kept *k, rd_kafka_consumer_group_metadata_t *group) {
    struct kept_txn *last = find(k, k->serial);
    if (last && last->asked && !last->group)
        last->group = group;
    else if (group)
        rd_kafka_consumer_group_metadata_destroy(group);
}

/* Serial, place, alone. */
void *kept_opaque(const struct kept_txn *x, size_t i, bool alone) {
    return (void *)(uintptr_t)((uint64_t)x->serial << 32 | (uint64_t)i << 1 | alone);
}

bool kept_is_alone(const rd_kafka_message_t *m) {
    return (uintptr_t)m->_private & 1;
}

/* By its serial: a report may come when the transaction is here no more. */
void kept_delivered(struct kept *k, const rd_kafka_message_t *m) {
    uint64_t opaque = (uintptr_t)m->_private;
    struct kept_txn *x = find(k, (uint32_t)(opaque >> 32));
    size_t i = (uint32_t)opaque >> 1;
    if (!x || i >= x->count || m->err) return;
    x->copies[i].delivered = true;
    x->copies[i].record.partition = m->partition;
    x->copies[i].record.offset = m->offset;
}

void kept_only(struct kept *k, uint32_t last) {
    for (int i = 0; i < KEPT_MOST; i++) {
        struct kept_txn *x = &k->list[i];
        if (x->asked && x->serial <= last)
            x->lane = 0;
        else
            clear(x);
    }
    k->waits_us = 0;
    k->tries = 0;
}

void kept_topics(struct kept *k, const char ***list, size_t *n) {
    for (const struct kept_txn *x = NULL; (x = kept_after(k, x));)
        for (size_t i = 0; i < x->count; i++) {
            const char *topic = x->copies[i].record.topic;
            size_t at = 0;
            while (at < *n && strcmp((*list)[at], topic)) at++;
            if (at < *n) continue;
            *list = mem_resize(*list, (*n + 1) * sizeof **list);
            (*list)[(*n)++] = topic;
        }
}
