/*
 * kafka_conf.c: librdkafka configured in one place.
 *
 * The user's properties have the last word, except over the few that the contract stands on: those
 * are refused by name. Whether a property is for producers, consumers or both is asked of
 * librdkafka's own table, so that nothing here goes stale. Connection failures come on librdkafka's
 * threads, again and again while a broker is away: the last one is kept for error texts, and the
 * log gets one now and then.
 */
#define _POSIX_C_SOURCE 200809L
#include "lib/bus/kafka_conf.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    WARNING = 4, /* of syslog */
    LOG_EVERY_MS = 10000,
    ASK_MS = 5000,
    BROKER_DEFAULT = 1048588,
    SEND_LEAST = 32 << 20, /* of the sending queue: the largest record has to fit in */
    /* From here on librdkafka sends the server's nonce as it came; brokers of Kafka 4 want it so. */
    SCRAM_IS_RIGHT = 0x020601ff,
    REFUSED_MS = 60000, /* long enough to find the culprit among what is repeated */
};

void kafka_link_open(struct kafka_link *link, void *owner, const struct bus_property *properties,
                     size_t n) {
    const char *brokers = "127.0.0.1:9092", *user = NULL;
    bool scram = false;
    for (size_t i = 0; i < n; i++)
        if (!strcmp(properties[i].name, "bootstrap.servers") ||
            !strcmp(properties[i].name, "metadata.broker.list"))
            brokers = properties[i].value;
        else if (!strcmp(properties[i].name, "sasl.username"))
            user = properties[i].value;
        else if (!strncmp(properties[i].name, "sasl.mechanism", strlen("sasl.mechanism")))
            scram = !strncmp(properties[i].value, "SCRAM", strlen("SCRAM"));
    *link = (struct kafka_link){
        .owner = owner, .brokers = mem_copy(brokers, strlen(brokers)), .scram = scram};
    if (user) link->user = mem_copy(user, strlen(user));
    pthread_mutex_init(&link->lock, NULL);
}

void kafka_link_close(struct kafka_link *link) {
    pthread_mutex_destroy(&link->lock);
    for (size_t i = 0; i < KAFKA_REFUSALS; i++) free(link->refusals[i].topic);
    free(link->brokers);
    free(link->user);
}

bool kafka_is_down(struct kafka_link *link) {
    pthread_mutex_lock(&link->lock);
    bool down = link->down;
    pthread_mutex_unlock(&link->lock);
    return down;
}

void kafka_is_up(struct kafka_link *link) {
    pthread_mutex_lock(&link->lock);
    link->down = false;
    link->cause[0] = 0;
    pthread_mutex_unlock(&link->lock);
}

int64_t kafka_failed_us(struct kafka_link *link) {
    pthread_mutex_lock(&link->lock);
    int64_t at = link->failed_us;
    pthread_mutex_unlock(&link->lock);
    return at;
}

void kafka_forget_failure(struct kafka_link *link) {
    pthread_mutex_lock(&link->lock);
    link->failed_us = 0;
    pthread_mutex_unlock(&link->lock);
}

rd_kafka_resp_err_t kafka_undelivered(struct kafka_link *link) {
    pthread_mutex_lock(&link->lock);
    rd_kafka_resp_err_t code = link->undelivered;
    link->undelivered = RD_KAFKA_RESP_ERR_NO_ERROR;
    pthread_mutex_unlock(&link->lock);
    return code;
}

/* The one that is remembered for the topic, or NULL. Under lock. */
static struct kafka_refusal *find_refusal(struct kafka_link *link, const char *topic) {
    for (size_t i = 0; i < KAFKA_REFUSALS; i++) {
        struct kafka_refusal *x = &link->refusals[i];
        if (x->topic && !strcmp(x->topic, topic)) return x;
    }
    return NULL;
}

bool kafka_is_refusal(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_INVALID_RECORD || /* as one without a key, compacted */
           code == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
}

void kafka_not_delivered(struct kafka_link *link, const char *topic, size_t bytes, bool alone,
                         rd_kafka_resp_err_t code) {
    pthread_mutex_lock(&link->lock);
    if (!link->undelivered) link->undelivered = code;
    struct kafka_refusal *x = find_refusal(link, topic);
    int64_t now = clock_monotonic_us();
    if (kafka_is_refusal(code)) {
        if (!x) {
            x = &link->refusals[link->next_refusal++ % KAFKA_REFUSALS];
            free(x->topic);
            *x = (struct kafka_refusal){.topic = mem_copy(topic, strlen(topic))};
        }
        /* Of a batch that is too large, the largest: it is the likeliest culprit. */
        bool first = x->code != code || now > x->until_us || alone;
        if (first || bytes > x->bytes) x->bytes = bytes;
        x->alone = alone;
        x->code = code;
        x->until_us = now + REFUSED_MS * 1000LL;
    }
    pthread_mutex_unlock(&link->lock);
}

bool kafka_refuses(struct kafka_link *link, const char *topic) {
    pthread_mutex_lock(&link->lock);
    struct kafka_refusal *x = find_refusal(link, topic);
    bool yes =
        x && x->code != RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE && clock_monotonic_us() < x->until_us;
    pthread_mutex_unlock(&link->lock);
    return yes;
}

/* The broker has refused a record of this size: alone, or it may have been the batch. */
static bool was_too_large(struct kafka_link *link, const struct record *r, bool alone) {
    pthread_mutex_lock(&link->lock);
    struct kafka_refusal *x = find_refusal(link, r->topic);
    bool yes = x && x->code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE &&
               clock_monotonic_us() < x->until_us && kafka_payload(r) >= x->bytes &&
               (x->alone || !alone);
    pthread_mutex_unlock(&link->lock);
    return yes;
}

static bool is_absence(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR__TRANSPORT || code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN ||
           code == RD_KAFKA_RESP_ERR__TIMED_OUT || code == RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE ||
           code == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT || code == RD_KAFKA_RESP_ERR__RESOLVE ||
           code == RD_KAFKA_RESP_ERR__WAIT_COORD;
}

bool kafka_is_forbidden(rd_kafka_resp_err_t code) {
    return code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
}

static enum err_kind again(struct kafka_link *link, struct err *e, const char *what,
                           rd_kafka_resp_err_t code, const char *text) {
    char cause[sizeof link->cause];
    pthread_mutex_lock(&link->lock);
    memcpy(cause, link->cause, sizeof cause);
    pthread_mutex_unlock(&link->lock);
    if (is_absence(code) && cause[0])
        return err_again(e, "no broker at %.50s: %s; waiting", link->brokers, cause);
    if (kafka_is_forbidden(code))
        return err_again(
            e,
            "%.70s at %.50s: %s, for the user %.40s; `darkroom topics acls` lists who needs what",
            what, link->brokers, rd_kafka_err2str(code),
            link->user ? link->user : "of this client");
    return err_again(e, "%s at %.80s: %.120s", what, link->brokers, text);
}

enum err_kind kafka_again(struct kafka_link *link, struct err *e, const char *what,
                          rd_kafka_resp_err_t code) {
    return again(link, e, what, code, rd_kafka_err2str(code));
}

enum err_kind kafka_again_sending(struct kafka_link *link, struct err *e,
                                  rd_kafka_resp_err_t code) {
    char what[80] = "sending records";
    pthread_mutex_lock(&link->lock);
    for (size_t i = 0; i < KAFKA_REFUSALS; i++) {
        const struct kafka_refusal *x = &link->refusals[i];
        if (x->topic && x->code == code && clock_monotonic_us() < x->until_us)
            snprintf(what, sizeof what, "sending records to %.60s", x->topic);
    }
    pthread_mutex_unlock(&link->lock);
    return kafka_again(link, e, what, code);
}

enum err_kind kafka_again_error(struct kafka_link *link, struct err *e, const char *what,
                                rd_kafka_error_t *error) {
    again(link, e, what, rd_kafka_error_code(error), rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    return e->kind;
}

/* What a line says behind "[thrd:…]: BROKER: ", and behind "failed: ": "Connection refused". */
static const char *message_of(const char *text, size_t *len) {
    const char *p = strncmp(text, "[thrd:", 6) ? NULL : strstr(text, "]: ");
    const char *broker = p ? strstr(p + 3, ": ") : NULL;
    if (broker) text = broker + 2;
    const char *from = strstr(text, "failed: "), *to;
    if (from) text = from + strlen("failed: ");
    to = strstr(text, " (after");
    *len = to ? (size_t)(to - text) : strlen(text);
    return text;
}

static void keep_cause(struct kafka_link *link, const char *text) {
    size_t n;
    const char *said = message_of(text, &n);
    bool password = strstr(text, "SASL authentication error");
    bool old = link->scram && rd_kafka_version() < SCRAM_IS_RIGHT;
    pthread_mutex_lock(&link->lock);
    if (password)
        snprintf(link->cause, sizeof link->cause,
                 "login failed: check sasl.username, sasl.password and sasl.mechanism%s",
                 old ? "; Kafka 4 refuses the SCRAM of any librdkafka before 2.6.1, as this one"
                     : "");
    else
        snprintf(link->cause, sizeof link->cause, "%.*s", (int)n, said);
    pthread_mutex_unlock(&link->lock);
}

/* From lines and from errors: either may be held back when it is not the first of its kind. One that
   could not be made is none: a name may stand for addresses of which one never answers. */
static void note_failure(const rd_kafka_t *rk, struct kafka_link *link, const char *text) {
    if (rd_kafka_type(rk) != RD_KAFKA_PRODUCER || !strstr(text, " in state UP")) return;
    pthread_mutex_lock(&link->lock);
    if (!link->failed_us) link->failed_us = clock_monotonic_us();
    pthread_mutex_unlock(&link->lock);
}

static void on_log(const rd_kafka_t *rk, int level, const char *facility, const char *text) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static long long last;
    struct kafka_link *link = rk ? rd_kafka_opaque(rk) : NULL;
    if (link && !strcmp(facility, "FAIL")) {
        note_failure(rk, link, text);
        keep_cause(link, text);
    }
    pthread_mutex_lock(&lock);
    /* GETPID: an id whose last owner was killed is not free at once; it asks again. */
    if (level <= WARNING && strcmp(facility, "GETPID") && log_due(&last, LOG_EVERY_MS))
        log_warn("kafka: %s: %s", facility, text);
    else
        log_debug("kafka: %s: %s", facility, text);
    pthread_mutex_unlock(&lock);
}

static void on_error(rd_kafka_t *rk, int code, const char *text, void *opaque) {
    struct kafka_link *link = opaque;
    log_debug("kafka: %s", text);
    if (is_absence((rd_kafka_resp_err_t)code)) note_failure(rk, link, text);
    /* A producer's word waits until it sends again, when the brokers may be back long since. */
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || rd_kafka_type(rk) != RD_KAFKA_CONSUMER)
        return;
    pthread_mutex_lock(&link->lock);
    link->down = true;
    pthread_mutex_unlock(&link->lock);
}

void kafka_set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char text[256];
    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) != RD_KAFKA_CONF_OK) {
        log_error("librdkafka does not take %s=%s: %s", name, value, text);
        abort();
    }
}

/* 'P', 'C' or '*', from the table that librdkafka prints of itself; 0 when the name is not in it.
 */
static char role_of(const char *table, const char *name) {
    size_t n = strlen(name);
    for (const char *line = table; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, name, n) || line[n] != ' ') continue;
        const char *bar = strchr(line, '|');
        if (bar) return bar[1 + strspn(bar + 1, " ")];
    }
    return 0;
}

static const struct kafka_rule *broken_rule(const struct kafka_rule *rules,
                                            const struct bus_property *p) {
    for (; rules->name; rules++)
        if (!strcmp(rules->name, p->name) && (!rules->value || strcasecmp(rules->value, p->value)))
            return rules;
    return NULL;
}

static enum err_kind apply(rd_kafka_conf_t *conf, char role, const char *table,
                           const struct bus_property *p, const struct kafka_rule *rules,
                           struct err *e) {
    char text[160];
    const struct kafka_rule *rule = broken_rule(rules, p);
    if (rule && rule->value)
        return err_fatal(e, "the Kafka property %s has to stay %s", p->name, rule->value);
    if (rule) return err_fatal(e, "the Kafka property %s is not to be set", p->name);
    if (strchr(p->value, '@') &&
        (!strcmp(p->name, "bootstrap.servers") || !strcmp(p->name, "metadata.broker.list")))
        return err_fatal(e,
                         "the Kafka property %s takes hosts and ports: a user and password are "
                         "sasl.username and sasl.password",
                         p->name);
    if (!strcmp(p->name, "partition.assignment.strategy") && strstr(p->value, "cooperative"))
        return err_fatal(e, "the Kafka property %s takes range and roundrobin only", p->name);
    char its = role_of(table, p->name);
    if (its && its != '*' && its != role) return ERR_NONE;
    if (rd_kafka_conf_set(conf, p->name, p->value, text, sizeof text) != RD_KAFKA_CONF_OK)
        return err_fatal(e, "the Kafka property %.60s: %s", p->name, text);
    return ERR_NONE;
}

rd_kafka_conf_t *kafka_conf_make(struct kafka_link *link, rd_kafka_type_t type,
                                 const struct bus_property *defaults,
                                 const struct bus_property *properties, size_t n,
                                 const struct kafka_rule *rules, struct err *e) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char *table = NULL;
    size_t len;
    FILE *f = open_memstream(&table, &len);
    rd_kafka_conf_properties_show(f);
    fclose(f);
    kafka_set(conf, "bootstrap.servers", "127.0.0.1:9092");
    kafka_set(conf, "client.id", "darkroom");
    for (; defaults->name; defaults++)
        if (role_of(table, defaults->name))
            kafka_set(conf, defaults->name, defaults->value); /* older: not there */
    err_clear(e);
    for (size_t i = 0; i < n && !e->kind; i++)
        (void)!apply(conf, type == RD_KAFKA_CONSUMER ? 'C' : 'P', table, &properties[i], rules, e);
    free(table);
    if (e->kind) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    rd_kafka_conf_set_opaque(conf, link);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    return conf;
}

rd_kafka_conf_t *kafka_producer_conf(struct kafka_link *link, const struct bus_property *properties,
                                     size_t n, int64_t queue_bytes, int linger_ms, struct err *e) {
    char kbytes[32], linger[32];
    if (queue_bytes < SEND_LEAST) queue_bytes = SEND_LEAST;
    snprintf(kbytes, sizeof kbytes, "%lld", (long long)(queue_bytes / 1024 + 1));
    snprintf(linger, sizeof linger, "%d", linger_ms);
    const struct bus_property defaults[] = {
        {"acks", "all"},
        {"enable.idempotence", "true"},
        {"partitioner", "murmur2_random"}, /* as Java clients do */
        {"message.max.bytes", "67108864"}, /* the topic decides: kafka_check_size */
        {"retry.backoff.ms", "5"},
        {"reconnect.backoff.ms", "50"},
        {"reconnect.backoff.max.ms", "1000"},
        {"socket.nagle.disable", "true"},
        {"queue.buffering.max.messages", "1000000"},
        {"queue.buffering.max.kbytes", kbytes},
        {"linger.ms", linger},
        /* What a dead owner leaves open stops readers for this long. librdkafka lowers
           socket.timeout.ms and message.timeout.ms to it, and refuses a user's larger ones. */
        {"transaction.timeout.ms", "10000"},
        {NULL, NULL},
    };
    static const struct kafka_rule rules[] = {
        {"enable.idempotence", "true"},
        {"transactional.id", NULL},
        {"delivery.report.only.error", "false"},
        {NULL, NULL},
    };
    return kafka_conf_make(link, RD_KAFKA_PRODUCER, defaults, properties, n, rules, e);
}

rd_kafka_conf_t *kafka_follower_conf(struct kafka_link *link, const struct bus_property *properties,
                                     size_t n, bool committed_only, struct err *e) {
    const struct bus_property defaults[] = {
        {"group.id", "darkroom"}, /* assign() wants one; nothing is committed to it */
        {"isolation.level", committed_only ? "read_committed" : "read_uncommitted"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"enable.partition.eof", "true"},
        {"fetch.wait.max.ms", "100"},
        {"fetch.error.backoff.ms", "50"},
        {"fetch.queue.backoff.ms", "20"},
        {"reconnect.backoff.ms", "50"},
        {"reconnect.backoff.max.ms", "1000"},
        {"queued.max.messages.kbytes", "16384"},
        {NULL, NULL},
    };
    static const struct kafka_rule rules[] = {{"enable.partition.eof", "true"}, {NULL, NULL}};
    rd_kafka_conf_t *conf =
        kafka_conf_make(link, RD_KAFKA_CONSUMER, defaults, properties, n, rules, e);
    if (!conf) return NULL;
    /* What the properties say of a stage's group and isolation does not concern a follower. */
    kafka_set(conf, "isolation.level", committed_only ? "read_committed" : "read_uncommitted");
    kafka_set(conf, "enable.auto.commit", "false");
    kafka_set(conf, "auto.offset.reset", "error");
    return conf;
}

rd_kafka_t *kafka_make(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *e) {
    char text[200];
    rd_kafka_t *rk = rd_kafka_new(type, conf, text, sizeof text);
    if (rk) return rk;
    rd_kafka_conf_destroy(conf);
    return err_fatal(e, "Kafka's client: %s", text), NULL;
}

size_t kafka_payload(const struct record *r) {
    size_t n = r->key.len + r->value.len;
    for (size_t i = 0; i < r->header_count; i++)
        n += r->headers[i].name.len + r->headers[i].value.len;
    return n;
}

rd_kafka_resp_err_t kafka_produce(rd_kafka_t *rk, const struct record *r, int32_t partition,
                                  void *opaque) {
    rd_kafka_headers_t *headers = NULL;
    if (r->header_count) headers = rd_kafka_headers_new(r->header_count);
    for (size_t i = 0; i < r->header_count; i++) {
        const struct header *h = &r->headers[i];
        rd_kafka_header_add(headers, h->name.data, (ssize_t)h->name.len, h->value.data,
                            (ssize_t)h->value.len);
    }
    rd_kafka_resp_err_t code = rd_kafka_producev(
        rk, RD_KAFKA_V_TOPIC(r->topic), RD_KAFKA_V_PARTITION(partition),
        RD_KAFKA_V_KEY(r->key.data, r->key.len),
        RD_KAFKA_V_VALUE((void *)r->value.data, r->value.len), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_TIMESTAMP(r->time_ms < 0 ? 0 : r->time_ms),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(opaque), RD_KAFKA_V_END);
    if (code && headers)
        rd_kafka_headers_destroy(headers); /* it takes them only when it takes the record */
    return code;
}

struct record kafka_record(const rd_kafka_message_t *m, const char *topic,
                           struct header **headers) {
    rd_kafka_headers_t *from;
    struct record r = {
        .topic = topic,
        .key = {m->key, m->key_len},
        .value = {m->payload, m->len},
        .time_ms = rd_kafka_message_timestamp(m, NULL),
        .partition = m->partition,
        .offset = m->offset,
    };
    *headers = NULL;
    if (rd_kafka_message_headers(m, &from)) return r;
    size_t n = rd_kafka_header_cnt(from);
    struct header *list = mem_alloc((n + 1) * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const char *name;
        const void *value;
        size_t len;
        rd_kafka_header_get_all(from, i, &name, &value, &len);
        list[i] = (struct header){bytes_of(name), {value, len}};
    }
    r.headers = *headers = list;
    r.header_count = n;
    return r;
}

size_t kafka_message_payload(const rd_kafka_message_t *m) {
    struct header *headers;
    struct record r = kafka_record(m, NULL, &headers);
    size_t n = kafka_payload(&r);
    free(headers);
    return n;
}

/* What a batch of this one record takes at most: 61 bytes of its own, and a varint before each
 * part. */
static size_t batch_size(const struct record *r) {
    return 61 + 31 + kafka_payload(r) + 10 * r->header_count;
}

static size_t client_number(rd_kafka_t *rk, const char *name) {
    char text[32];
    size_t len = sizeof text;
    if (rd_kafka_conf_get(rd_kafka_conf(rk), name, text, &len) != RD_KAFKA_CONF_OK) return 0;
    return strtoul(text, NULL, 10);
}

/* What is larger than the whole sending queue is never let in. */
static size_t client_limit(rd_kafka_t *rk) {
    size_t most = client_number(rk, "message.max.bytes");
    size_t queue = client_number(rk, "queue.buffering.max.kbytes") * 1024;
    return most < queue ? most : queue;
}

static size_t find_limit(rd_kafka_event_t *event, rd_kafka_resp_err_t *code) {
    size_t n, entries;
    const rd_kafka_ConfigResource_t **list =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
    if (!n) return BROKER_DEFAULT;
    *code = rd_kafka_ConfigResource_error(list[0]);
    const rd_kafka_ConfigEntry_t **entry = rd_kafka_ConfigResource_configs(list[0], &entries);
    for (size_t i = 0; i < entries; i++)
        if (!strcmp(rd_kafka_ConfigEntry_name(entry[i]), "max.message.bytes") &&
            rd_kafka_ConfigEntry_value(entry[i]))
            return strtoul(rd_kafka_ConfigEntry_value(entry[i]), NULL, 10);
    return BROKER_DEFAULT; /* not ours to see */
}

enum err_kind kafka_partitions(rd_kafka_t *rk, struct kafka_link *link, const char *topic,
                               int wait_ms, int *count, rd_kafka_resp_err_t *why, struct err *e) {
    const struct rd_kafka_metadata *md;
    *count = 0;
    *why = RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    if (!handle) return ERR_NONE; /* no name of a topic */
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, handle, &md, wait_ms);
    rd_kafka_topic_destroy(handle);
    if (code) return kafka_again(link, e, "asking for a topic", code);
    *why = md->topic_cnt ? md->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (!*why) *count = md->topics[0].partition_cnt;
    for (int p = 0; p < *count && !*why; p++)
        if (md->topics[0].partitions[p].leader < 0) *why = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
    rd_kafka_metadata_destroy(md);
    return ERR_NONE;
}

enum err_kind kafka_no_topic(struct kafka_link *link, const char *topic, rd_kafka_resp_err_t why,
                             struct err *e) {
    if (why != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) return kafka_again(link, e, topic, why);
    return err_again(e, "no topic %s at %.80s: run `darkroom topics create`", topic, link->brokers);
}

void kafka_learn_topic(rd_kafka_t *rk, const char *topic) {
    const struct rd_kafka_metadata *md;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    if (!rd_kafka_metadata(rk, 0, handle, &md, ASK_MS)) rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(handle);
}

static enum err_kind ask_limit(rd_kafka_t *rk, struct kafka_link *link, const char *topic,
                               size_t *bytes, struct err *e) {
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_AdminOptions_set_request_timeout(options, ASK_MS, NULL, 0);
    rd_kafka_DescribeConfigs(rk, &resource, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ASK_MS + 1000);
    rd_kafka_resp_err_t code = event ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    *bytes = code ? BROKER_DEFAULT : find_limit(event, &code);
    if (event) rd_kafka_event_destroy(event);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_queue_destroy(queue);
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        return kafka_no_topic(link, topic, code, e);
    if (is_absence(code)) return kafka_again(link, e, "asking for a topic's limit", code);
    if (kafka_is_forbidden(code))
        log_warn(
            "how large a record %s takes is not ours to see (DescribeConfigs): taken for %d bytes; "
            "`darkroom topics acls` lists who needs what",
            topic, BROKER_DEFAULT);
    return ERR_NONE; /* any other answer leaves the broker's default */
}

enum err_kind kafka_check_size(struct kafka_limits *limits, rd_kafka_t *rk, struct kafka_link *link,
                               const struct record *r, bool alone, struct err *e) {
    size_t i = 0;
    while (i < limits->count && strcmp(limits->list[i].topic, r->topic)) i++;
    if (i == limits->count) {
        size_t bytes, ours = client_limit(rk);
        if (ask_limit(rk, link, r->topic, &bytes, e)) return e->kind;
        kafka_learn_topic(rk, r->topic);
        limits->list = mem_resize(limits->list, (i + 1) * sizeof *limits->list);
        limits->list[i] = (struct kafka_limit){mem_copy(r->topic, strlen(r->topic)),
                                               bytes < ours ? bytes : ours, false};
        limits->count++;
    }
    if (batch_size(r) > limits->list[i].bytes)
        return err_bad(e, REASON_TOO_LONG,
                       "a record of %zu bytes for %s, which takes %zu (max.message.bytes)",
                       kafka_payload(r), r->topic, limits->list[i].bytes);
    /* The limit may not be ours to see. */
    if (was_too_large(link, r, alone))
        return err_bad(e, REASON_TOO_LONG, "a record of %zu bytes for %s, which refuses it",
                       kafka_payload(r), r->topic);
    return ERR_NONE;
}

void kafka_limits_free(struct kafka_limits *limits) {
    for (size_t i = 0; i < limits->count; i++) free(limits->list[i].topic);
    free(limits->list);
    *limits = (struct kafka_limits){0};
}
