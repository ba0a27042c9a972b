/*
 * kafka_admin.c: topics, groups and the cluster, asked and told through librdkafka's Admin API.
 * Every question waits on a queue of its own for its one answer.
 */
#include "lib/bus/admin.h"

#include "lib/base/clock.h"
#include "lib/bus/kafka_conf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_MS = 10000 };

struct admin {
    struct kafka_link link;
    rd_kafka_t *rk; /* everything readable: the ends it tells are the true ones */
};

struct admin *admin_open(const struct bus_property *properties, size_t n, struct err *e) {
    struct admin *a = mem_zeroed(1, sizeof *a);
    kafka_link_open(&a->link, a, properties, n);
    rd_kafka_conf_t *conf = kafka_follower_conf(&a->link, properties, n, false, e);
    a->rk = conf ? kafka_make(RD_KAFKA_CONSUMER, conf, e) : NULL;
    if (a->rk) return a;
    admin_close(a);
    return NULL;
}

void admin_close(struct admin *a) {
    if (!a) return;
    if (a->rk) rd_kafka_destroy(a->rk);
    kafka_link_close(&a->link);
    free(a);
}

/* A question on its way: options and queue before it, event after it. */
struct question {
    rd_kafka_queue_t *queue;
    rd_kafka_AdminOptions_t *options;
    rd_kafka_event_t *event;
};

static struct question ask(struct admin *a, rd_kafka_admin_op_t op) {
    struct question q = {rd_kafka_queue_new(a->rk), rd_kafka_AdminOptions_new(a->rk, op), NULL};
    rd_kafka_AdminOptions_set_request_timeout(q.options, CALL_MS, NULL, 0);
    return q;
}

static enum err_kind answer(struct admin *a, struct question *q, const char *what, struct err *e) {
    q->event = rd_kafka_queue_poll(q->queue, CALL_MS + 1000);
    rd_kafka_resp_err_t code =
        q->event ? rd_kafka_event_error(q->event) : RD_KAFKA_RESP_ERR__TIMED_OUT;
    return code ? kafka_again(&a->link, e, what, code) : ERR_NONE;
}

static void end(struct question *q) {
    if (q->event) rd_kafka_event_destroy(q->event);
    rd_kafka_AdminOptions_destroy(q->options);
    rd_kafka_queue_destroy(q->queue);
}

/* Partitions of a topic, 0 when there is none; *replicas of its first one. */
static enum err_kind look(struct admin *a, const char *name, int *partitions, int *replicas,
                          struct err *e) {
    const struct rd_kafka_metadata *md;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(a->rk, name, NULL);
    rd_kafka_resp_err_t code = rd_kafka_metadata(a->rk, 0, topic, &md, CALL_MS);
    rd_kafka_topic_destroy(topic);
    if (code) return kafka_again(&a->link, e, "asking for a topic", code);
    const struct rd_kafka_metadata_topic *t = md->topic_cnt ? &md->topics[0] : NULL;
    code = t ? t->err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    *partitions = code ? 0 : t->partition_cnt;
    *replicas = code || !t->partition_cnt ? 0 : t->partitions[0].replica_cnt;
    rd_kafka_metadata_destroy(md);
    if (code && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        return kafka_again(&a->link, e, name, code);
    return ERR_NONE;
}

static enum err_kind look_at(struct admin *a, struct admin_topic *t, struct err *e) {
    t->why = (struct err){0};
    if (look(a, t->name, &t->actual_partitions, &t->actual_replicas, e)) return e->kind;
    t->exists = t->actual_partitions > 0;
    return ERR_NONE;
}

/* A topic is created before every broker knows of it; what is used at once would not be found. */
static enum err_kind await(struct admin *a, struct admin_topic *t, struct err *e) {
    for (int64_t end = clock_monotonic_us() + CALL_MS * 1000LL; clock_monotonic_us() < end;
         clock_sleep_ms(10)) {
        if (look_at(a, t, e)) return e->kind;
        if (t->exists) return ERR_NONE;
    }
    return err_again(e, "%s was created, and does not show up", t->name);
}

static void take_created(struct admin_topic *t, const rd_kafka_topic_result_t *r) {
    rd_kafka_resp_err_t code = rd_kafka_topic_result_error(r);
    t->created = code == RD_KAFKA_RESP_ERR_NO_ERROR;
    t->exists = t->created || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS;
    if (t->exists) return;
    const char *text = rd_kafka_topic_result_error_string(r);
    err_fatal(&t->why, "creating %s: %s", t->name, text ? text : rd_kafka_err2str(code));
}

enum err_kind admin_create(struct admin *a, struct admin_topic *topics, size_t n, struct err *e) {
    rd_kafka_NewTopic_t **list = mem_zeroed(n + 1, sizeof(rd_kafka_NewTopic_t *));
    struct question q = ask(a, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    size_t count = 0, results = 0;
    char text[200];
    err_clear(e);
    for (size_t i = 0; i < n && !e->kind; i++) {
        struct admin_topic *t = &topics[i];
        t->created = false;
        if (look_at(a, t, e) || t->exists) continue;
        rd_kafka_NewTopic_t *x =
            rd_kafka_NewTopic_new(t->name, t->partitions, t->replicas, text, sizeof text);
        if (!x) {
            err_fatal(e, "the topic %s: %.150s", t->name, text);
            break;
        }
        for (size_t c = 0; c < t->config_count; c++)
            rd_kafka_NewTopic_set_config(x, t->configs[c].name, t->configs[c].value);
        list[count++] = x;
    }
    if (!e->kind && count) {
        rd_kafka_AdminOptions_set_operation_timeout(q.options, CALL_MS, NULL, 0);
        rd_kafka_CreateTopics(a->rk, list, count, q.options, q.queue);
        (void)!answer(a, &q, "creating topics", e);
    }
    if (!e->kind && count) {
        const rd_kafka_topic_result_t **r = rd_kafka_CreateTopics_result_topics(
            rd_kafka_event_CreateTopics_result(q.event), &results);
        for (size_t i = 0; i < n; i++)
            for (size_t k = 0; k < results; k++)
                if (!strcmp(rd_kafka_topic_result_name(r[k]), topics[i].name))
                    take_created(&topics[i], r[k]);
        for (size_t i = 0; i < n && !e->kind; i++)
            if (topics[i].created) (void)!await(a, &topics[i], e);
    }
    rd_kafka_NewTopic_destroy_array(list, count);
    free(list);
    end(&q);
    return e->kind;
}

typedef void on_difference(void *ctx, const struct admin_topic *t, const char *config,
                           const char *wanted, const char *actual);

static void compare(const struct admin_topic *t, const rd_kafka_ConfigResource_t *r,
                    on_difference *different, void *ctx) {
    size_t n;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(r, &n);
    for (size_t c = 0; c < t->config_count; c++) {
        const char *actual = NULL;
        for (size_t i = 0; i < n; i++)
            if (!strcmp(rd_kafka_ConfigEntry_name(entries[i]), t->configs[c].name))
                actual = rd_kafka_ConfigEntry_value(entries[i]);
        if (!actual || strcmp(actual, t->configs[c].value))
            different(ctx, t, t->configs[c].name, t->configs[c].value, actual ? actual : "");
    }
}

static enum err_kind inspect(struct admin *a, struct admin_topic *t, on_difference *different,
                             void *ctx, struct err *e) {
    if (look_at(a, t, e) || !t->exists || !t->config_count) return e->kind;
    struct question q = ask(a, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, t->name);
    rd_kafka_DescribeConfigs(a->rk, &resource, 1, q.options, q.queue);
    if (!answer(a, &q, "asking for a topic's settings", e)) {
        size_t n;
        const rd_kafka_ConfigResource_t **r = rd_kafka_DescribeConfigs_result_resources(
            rd_kafka_event_DescribeConfigs_result(q.event), &n);
        rd_kafka_resp_err_t code =
            n ? rd_kafka_ConfigResource_error(r[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
        if (code)
            err_again(&t->why, "settings of %s: %s", t->name, rd_kafka_err2str(code));
        else
            compare(t, r[0], different, ctx);
    }
    rd_kafka_ConfigResource_destroy(resource);
    end(&q);
    return e->kind;
}

enum err_kind admin_inspect(struct admin *a, struct admin_topic *topics, size_t n,
                            on_difference *different, void *ctx, struct err *e) {
    err_clear(e);
    for (size_t i = 0; i < n && !e->kind; i++) (void)!inspect(a, &topics[i], different, ctx, e);
    return e->kind;
}

static void take_offsets(struct question *q, struct admin_partition *list, size_t count,
                         rd_kafka_resp_err_t *code) {
    size_t n;
    const rd_kafka_group_result_t **groups = rd_kafka_ListConsumerGroupOffsets_result_groups(
        rd_kafka_event_ListConsumerGroupOffsets_result(q->event), &n);
    const rd_kafka_error_t *error = n ? rd_kafka_group_result_error(groups[0]) : NULL;
    if (error) *code = rd_kafka_error_code(error);
    const rd_kafka_topic_partition_list_t *offsets =
        n ? rd_kafka_group_result_partitions(groups[0]) : NULL;
    for (int i = 0; offsets && i < offsets->cnt; i++) {
        const rd_kafka_topic_partition_t *x = &offsets->elems[i];
        if (x->err) *code = x->err;
        if (x->partition >= 0 && (size_t)x->partition < count && x->offset >= 0)
            list[x->partition].committed = x->offset;
    }
}

static enum err_kind ask_offsets(struct admin *a, const char *group, const char *topic,
                                 struct admin_partition *list, size_t count,
                                 rd_kafka_resp_err_t *code, struct err *e) {
    struct question q = ask(a, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
    rd_kafka_topic_partition_list_t *wanted = rd_kafka_topic_partition_list_new((int)count);
    for (size_t p = 0; p < count; p++) rd_kafka_topic_partition_list_add(wanted, topic, (int32_t)p);
    rd_kafka_ListConsumerGroupOffsets_t *request =
        rd_kafka_ListConsumerGroupOffsets_new(group, wanted);
    rd_kafka_error_t *error = rd_kafka_AdminOptions_set_require_stable_offsets(q.options, 1);
    if (error) rd_kafka_error_destroy(error);
    rd_kafka_ListConsumerGroupOffsets(a->rk, &request, 1, q.options, q.queue);
    *code = RD_KAFKA_RESP_ERR_NO_ERROR;
    if (!answer(a, &q, "asking for a group's positions", e)) take_offsets(&q, list, count, code);
    rd_kafka_ListConsumerGroupOffsets_destroy(request);
    rd_kafka_topic_partition_list_destroy(wanted);
    end(&q);
    return e->kind;
}

/* Positions that an open transaction carries are waited for. */
static enum err_kind ask_stable_offsets(struct admin *a, const char *group, const char *topic,
                                        struct admin_partition *list, size_t count, struct err *e) {
    rd_kafka_resp_err_t code;
    int64_t deadline = clock_monotonic_us() + CALL_MS * 1000LL;
    do {
        err_clear(e);
        if (ask_offsets(a, group, topic, list, count, &code, e)) return e->kind;
        if (code != RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT) break;
        clock_sleep_ms(5);
    } while (clock_monotonic_us() < deadline);
    return code ? kafka_again(&a->link, e, "asking for a group's positions", code) : ERR_NONE;
}

enum err_kind admin_positions(struct admin *a, const char *group, const char *topic,
                              struct admin_partition **out, size_t *n, struct err *e) {
    int partitions, replicas;
    *out = NULL;
    *n = 0;
    if (look(a, topic, &partitions, &replicas, e)) return e->kind;
    if (!partitions) return ERR_NONE;
    struct admin_partition *list = mem_zeroed((size_t)partitions, sizeof *list);
    for (int32_t p = 0; p < partitions; p++)
        list[p] = (struct admin_partition){.partition = p, .committed = -1};
    err_clear(e);
    (void)!ask_stable_offsets(a, group, topic, list, (size_t)partitions, e);
    for (int32_t p = 0; p < partitions && !e->kind; p++) {
        rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(a->rk, topic, p, &list[p].begin,
                                                                    &list[p].end, CALL_MS);
        if (code) kafka_again(&a->link, e, "asking for the end of a topic", code);
    }
    if (e->kind) {
        free(list);
        return e->kind;
    }
    *out = list;
    *n = (size_t)partitions;
    return ERR_NONE;
}

enum err_kind admin_members(struct admin *a, const char *group, int *members, char state[32],
                            struct err *e) {
    struct question q = ask(a, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS);
    *members = 0;
    snprintf(state, 32, "Dead");
    err_clear(e);
    rd_kafka_DescribeConsumerGroups(a->rk, &group, 1, q.options, q.queue);
    if (!answer(a, &q, "asking for a group", e)) {
        size_t n;
        const rd_kafka_ConsumerGroupDescription_t **list =
            rd_kafka_DescribeConsumerGroups_result_groups(
                rd_kafka_event_DescribeConsumerGroups_result(q.event), &n);
        const rd_kafka_error_t *error = n ? rd_kafka_ConsumerGroupDescription_error(list[0]) : NULL;
        if (error && rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND) {
            kafka_again(&a->link, e, "asking for a group", rd_kafka_error_code(error));
        } else if (n && !error) {
            *members = (int)rd_kafka_ConsumerGroupDescription_member_count(list[0]);
            snprintf(state, 32, "%s",
                     rd_kafka_consumer_group_state_name(
                         rd_kafka_ConsumerGroupDescription_state(list[0])));
        }
    }
    end(&q);
    return e->kind;
}

enum err_kind admin_cluster(struct admin *a, char id[64], int *brokers, struct err *e) {
    const struct rd_kafka_metadata *md;
    rd_kafka_resp_err_t code = rd_kafka_metadata(a->rk, 0, NULL, &md, CALL_MS);
    if (code) return kafka_again(&a->link, e, "asking for the brokers", code);
    *brokers = md->broker_cnt;
    rd_kafka_metadata_destroy(md);
    char *text = rd_kafka_clusterid(a->rk, CALL_MS);
    snprintf(id, 64, "%s", text ? text : "");
    if (text) rd_kafka_mem_free(a->rk, text);
    return ERR_NONE;
}
