/*
 * A broker that answers everything but who waits to join a group: the worker may not wait with it.
 * The broker is librdkafka's own imitation, which can keep an answer back.
 */
#define _GNU_SOURCE
#include "lib/base/clock.h"
#include "lib/bus/bus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <cmocka.h>

enum { JOIN_GROUP = 11, LONG_MS = 300000 };

static rd_kafka_t *host;
static rd_kafka_mock_cluster_t *cluster;

static int begin(void **state) {
    char text[256];
    (void)state;
    host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), text, sizeof text);
    cluster = host ? rd_kafka_mock_cluster_new(host, 1) : NULL;
    return !cluster || rd_kafka_mock_topic_create(cluster, "in", 2, 1);
}

static int end(void **state) {
    (void)state;
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
    return 0;
}

static struct bus *open_(struct err *e) {
    static struct bus_property properties[1];
    properties[0] =
        (struct bus_property){"bootstrap.servers", rd_kafka_mock_cluster_bootstraps(cluster)};
    const struct bus_conf conf = {.in = "in",
                                  .group = "group",
                                  .instance = "one",
                                  .delivery = BUS_AT_LEAST_ONCE,
                                  .lanes = 1,
                                  .queue_bytes = 1 << 20,
                                  .properties = properties,
                                  .property_count = 1};
    struct bus *b = bus_open_kafka(&conf, e);
    if (!b) fail_msg("%s", e->text);
    return b;
}

/* Polls until what is said is not ERR_NONE, or so long. */
static enum err_kind poll_for(struct bus *b, int64_t ms, struct err *e) {
    const struct bus_limits limits = {.max_records = 10, .max_bytes = 1 << 20, .wait_ms = 100};
    int64_t until = clock_monotonic_us() + ms * 1000;
    struct records r;
    while (clock_monotonic_us() < until)
        if (bus_poll(b, &limits, &r, e)) return e->kind;
    return ERR_NONE;
}

static void who_is_forgotten_begins_anew(void **state) {
    struct err e = {0};
    (void)state;
    rd_kafka_mock_broker_push_request_error_rtts(cluster, 1, JOIN_GROUP, 1,
                                                 RD_KAFKA_RESP_ERR_NO_ERROR, LONG_MS);
    struct bus *b = open_(&e);
    int64_t from = clock_monotonic_us();
    assert_int_equal(poll_for(b, 60000, &e), ERR_FATAL);
    int64_t took = (clock_monotonic_us() - from) / 1000;
    assert_non_null(strstr(e.text, "has not let us in"));
    assert_in_range(took, 14000, 30000);
    bus_close(b);
    b = open_(&(struct err){0}); /* and is let in */
    err_clear(&e);
    assert_int_equal(poll_for(b, 4000, &e), ERR_NONE);
    bus_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_is_forgotten_begins_anew, begin, end)};
    return cmocka_run_group_tests_name("join", tests, NULL, NULL);
}
