/*
 * A commit that a broker's death has torn is completed, whichever of its markers were lost. No broker can
 * be made to tear one when it is wanted, so what it leaves behind is made here: of what is kept as one
 * transaction, a part is committed and a part is aborted.
 */
#define _GNU_SOURCE
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/bus/admin.h"
#include "lib/bus/kafka_torn.h"
#include "lib/bus/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { LANES = 2, PARTITIONS = 3, WAIT_MS = 20000, TEXT = 100 };

static struct err err;
static struct bus_property properties[1];
static struct admin *admin;
static struct kafka_link link_;
static struct bus_conf conf;
static rd_kafka_t *lanes[LANES], *other;
static bool is_open[LANES];
static rd_kafka_consumer_group_metadata_t *member; /* for what is asked next; NULL: the group's */
static char in[TEXT], out[TEXT], group[TEXT];

static void must(enum err_kind kind) {
    if (kind) fail_msg("%s", err.text);
}

static void done(rd_kafka_error_t *error) {
    if (error) fail_msg("%s", rd_kafka_error_string(error));
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque) {
    (void)rk, (void)opaque;
    kept_delivered(link_.kept, m);
}

static rd_kafka_t *make_producer(const char *id) {
    rd_kafka_conf_t *c = kafka_producer_conf(&link_, properties, 1, 1 << 20, 2, &err);
    assert_non_null(c);
    kafka_set(c, "transactional.id", id);
    rd_kafka_conf_set_dr_msg_cb(c, on_delivery);
    rd_kafka_t *rk = kafka_make(RD_KAFKA_PRODUCER, c, &err);
    assert_non_null(rk);
    done(rd_kafka_init_transactions(rk, WAIT_MS));
    return rk;
}

/* Topics, a group and producers of its own for every test. */
static int begin(void **state) {
    static int number;
    struct admin_topic topics[] = {{.name = in, .partitions = PARTITIONS, .replicas = 1},
                                   {.name = out, .partitions = PARTITIONS, .replicas = 1}};
    (void)state;
    number++;
    snprintf(in, sizeof in, "torn.%d.%d.in", getpid(), number);
    snprintf(out, sizeof out, "torn.%d.%d.out", getpid(), number);
    snprintf(group, sizeof group, "torn.%d.%d", getpid(), number);
    must(admin_create(admin, topics, 2, &err));
    conf = (struct bus_conf){
        .group = group, .instance = "one", .in = in, .properties = properties, .property_count = 1};
    kafka_link_open(&link_, NULL, properties, 1);
    link_.kept = kept_open();
    lanes[0] = make_producer(in);
    lanes[1] = make_producer(out);
    other = make_producer(group);
    is_open[0] = is_open[1] = false;
    return 0;
}

static int end(void **state) {
    (void)state;
    for (int i = 0; i < LANES; i++) rd_kafka_destroy(lanes[i]);
    rd_kafka_destroy(other);
    kept_free(link_.kept);
    kafka_link_close(&link_);
    return 0;
}

static struct record *records(const char *word, size_t n) {
    static struct record list[16];
    static char keys[16][16];
    static const struct header header = {BYTES("h"), BYTES("1")};
    for (size_t i = 0; i < n; i++) {
        snprintf(keys[i], sizeof keys[i], "%s-%zu", word, i);
        list[i] = (struct record){.topic = out,
                                  .key = bytes_of(keys[i]),
                                  .value = bytes_of(keys[i]),
                                  .headers = &header,
                                  .header_count = 1,
                                  .time_ms = -1};
    }
    return list;
}

/* Of a transaction the records of the partitions from..to - 1; record i is of partition i modulo
   PARTITIONS. They are open. */
static void put(rd_kafka_t *rk, const struct kept_txn *kept, int32_t from, int32_t to) {
    done(rd_kafka_begin_transaction(rk));
    for (size_t i = 0; i < kept->count; i++) {
        int32_t p = (int32_t)(i % PARTITIONS);
        if (p < from || p >= to) continue;
        assert_int_equal(kafka_produce(rk, &kept->copies[i].record, p, kept_opaque(kept, i, false)),
                         RD_KAFKA_RESP_ERR_NO_ERROR);
    }
    assert_int_equal(rd_kafka_flush(rk, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
}

static rd_kafka_topic_partition_list_t *positions(int64_t offset) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, in, 1)->offset = offset;
    return list;
}

static void ask(int64_t offset) {
    rd_kafka_topic_partition_list_t *list = positions(offset);
    kept_asked(link_.kept, list);
    kept_told(link_.kept);
    kept_group(link_.kept, member ? member : rd_kafka_consumer_group_metadata_new(group));
    member = NULL;
    rd_kafka_topic_partition_list_destroy(list);
}

/* A transaction of n records on the lane, told committed, of which so many partitions have their marker. */
static void tear(int lane, const char *word, size_t n, int32_t stand, int64_t offset) {
    const struct kept_txn *kept = kept_begin(link_.kept, lane, records(word, n), n);
    if (stand) {
        put(lanes[lane], kept, 0, stand);
        done(rd_kafka_commit_transaction(lanes[lane], WAIT_MS));
    }
    if (stand < PARTITIONS) put(lanes[lane], kept, stand, PARTITIONS);
    is_open[lane] = stand < PARTITIONS;
    if (!is_open[lane]) { /* its markers may be under way still, until it is initialised again */
        rd_kafka_destroy(lanes[lane]);
        lanes[lane] = make_producer(lane ? out : in);
    }
    ask(offset);
}

static int64_t position(void) {
    struct admin_partition *list;
    size_t n;
    int64_t found = -1;
    must(admin_positions(admin, group, in, &list, &n, &err));
    for (size_t i = 0; i < n; i++)
        if (list[i].partition == 1) found = list[i].committed;
    free(list);
    return found;
}

static void commit_positions(int64_t offset) {
    rd_kafka_topic_partition_list_t *list = positions(offset);
    rd_kafka_consumer_group_metadata_t *ours = rd_kafka_consumer_group_metadata_new(group);
    done(rd_kafka_begin_transaction(other));
    done(rd_kafka_send_offsets_to_transaction(other, list, ours, WAIT_MS));
    done(rd_kafka_commit_transaction(other, WAIT_MS));
    rd_kafka_consumer_group_metadata_destroy(ours);
    rd_kafka_topic_partition_list_destroy(list);
    assert_int_equal(position(), offset); /* which waits for the marker */
}

/* As kafka_txn.c does it. */
static enum err_kind try_to_mend(int wait_ms) {
    bool completed, dead = false;
    must(torn_look(link_.kept, &link_, &conf, WAIT_MS, &err));
    for (int i = 0; i < LANES; i++) {
        if (is_open[i]) done(rd_kafka_abort_transaction(lanes[i], WAIT_MS));
        is_open[i] = false;
    }
    enum err_kind kind =
        torn_mend(link_.kept, lanes[0], &link_, &conf, wait_ms, &completed, &dead, &err);
    assert_false(dead);
    return kind;
}

static void mend(void) {
    must(try_to_mend(WAIT_MS));
}

/* So many records are there in all, each once and in its partition, of the n of each word. */
static void holds(const char *const *words, const size_t *n, size_t count, size_t due) {
    size_t seen = 0;
    bool got, at_end = false;
    unsigned char met[8][16] = {{0}};
    struct reader *reader = reader_open(properties, 1, out, READER_BEGINNING, &err);
    assert_non_null(reader);
    while (!at_end) {
        struct record r;
        must(reader_poll(reader, 50, &r, &got, &err));
        if (!got) {
            must(reader_at_end(reader, &at_end, &err));
            continue;
        }
        size_t w = 0, i = 0;
        const char *dash = memrchr(r.key.data, '-', r.key.len);
        assert_non_null(dash);
        while (w < count && strncmp(r.key.data, words[w], (size_t)(dash - (char *)r.key.data))) w++;
        assert_true(w < count);
        i = strtoul(dash + 1, NULL, 10);
        assert_true(i < n[w] && !met[w][i]++);
        assert_int_equal(r.partition, i % PARTITIONS);
        assert_true(bytes_equal(r.key, r.value));
        assert_true(bytes_is(record_header(&r, "h"), "1"));
        seen++;
    }
    reader_close(reader);
    assert_int_equal(seen, due);
}

static size_t sum(const size_t *n, size_t count) {
    size_t all = 0;
    for (size_t i = 0; i < count; i++) all += n[i];
    return all;
}

/* All of them. */
#define HOLDS(...)                                                                                 \
    holds((const char *const[]){__VA_ARGS__}, counts, sizeof counts / sizeof *counts,              \
          sum(counts, sizeof counts / sizeof *counts))

static void records_gone_behind_their_positions_come_again(void **state) {
    const size_t counts[] = {5};
    (void)state;
    tear(0, "a", 5, 0, 7);
    commit_positions(7);
    mend();
    HOLDS("a");
    assert_int_equal(position(), 7);
    mend(); /* and not once more */
    HOLDS("a");
}

static void records_that_stand_bring_the_rest_and_the_positions(void **state) {
    const size_t counts[] = {7};
    (void)state;
    tear(0, "a", 7, 2, 9);
    mend();
    HOLDS("a");
    assert_int_equal(position(), 9);
}

static void positions_alone_come_again(void **state) {
    const size_t counts[] = {7};
    (void)state;
    tear(0, "a", 7, PARTITIONS, 9);
    mend();
    HOLDS("a");
    assert_int_equal(position(), 9);
}

static void what_left_no_trace_is_left_to_be_read_again(void **state) {
    const size_t counts[] = {0};
    (void)state;
    tear(0, "a", 5, 0, 7);
    tear(1, "b", 3, 0, 9);
    mend();
    HOLDS("none");
    assert_int_equal(position(), -1);
}

static void what_is_whole_is_let_alone(void **state) {
    const size_t counts[] = {5};
    (void)state;
    tear(0, "a", 5, PARTITIONS, 7);
    commit_positions(7);
    mend();
    HOLDS("a");
    assert_int_equal(position(), 7);
}

/* Of two lanes the first lost all, and positions beyond its own hold. */
static void the_one_before_is_completed_too(void **state) {
    const size_t counts[] = {4, 3};
    (void)state;
    tear(0, "a", 4, 0, 7);
    tear(1, "b", 3, PARTITIONS, 9);
    commit_positions(9);
    mend();
    HOLDS("a", "b");
    assert_int_equal(position(), 9);
}

/* The same, the lanes the other way round. */
static void whichever_lane_it_was(void **state) {
    const size_t counts[] = {4, 3};
    (void)state;
    tear(1, "a", 4, 1, 7);
    tear(0, "b", 3, 2, 9);
    mend();
    HOLDS("a", "b");
    assert_int_equal(position(), 9);
}

/* The last one left no trace: its input comes again. */
static void the_one_behind_is_read_again(void **state) {
    const size_t counts[] = {4};
    (void)state;
    tear(0, "a", 4, 1, 7);
    tear(1, "b", 3, 0, 9);
    mend();
    HOLDS("a");
    assert_int_equal(position(), 7);
}

/* Its commit was asked for and refused, and somebody else has done its work and gone on: positions that hold
   are no trace of it. */
static void positions_of_others_are_no_trace(void **state) {
    const size_t counts[] = {0};
    (void)state;
    rd_kafka_topic_partition_list_t *one = positions(7);
    put(lanes[0], kept_begin(link_.kept, 0, records("a", 4), 4), 0, PARTITIONS);
    is_open[0] = true;
    kept_asked(link_.kept, one);
    rd_kafka_topic_partition_list_destroy(one);
    commit_positions(12);
    mend();
    HOLDS("none");
    assert_int_equal(position(), 12);
}

/* The next transaction has moved a position on: it does not go back. */
static void positions_do_not_go_back(void **state) {
    const size_t counts[] = {4, 3};
    (void)state;
    rd_kafka_topic_partition_list_t *two = positions(7);
    rd_kafka_topic_partition_list_add(two, in, 2)->offset = 9;
    put(lanes[0], kept_begin(link_.kept, 0, records("a", 4), 4), 0, PARTITIONS);
    is_open[0] = true;
    kept_asked(link_.kept, two);
    kept_group(link_.kept, rd_kafka_consumer_group_metadata_new(group));
    rd_kafka_topic_partition_list_destroy(two);
    tear(1, "b", 3, PARTITIONS, 12);
    commit_positions(12);
    mend();
    HOLDS("a", "b");
    assert_int_equal(position(), 12);
}

/* What completes a commit may be torn in turn: it is kept. */
static void what_was_completed_is_kept(void **state) {
    const size_t counts[] = {7, 3};
    (void)state;
    tear(0, "a", 7, 1, 7);
    tear(1, "b", 3, 2, 9);
    mend();
    HOLDS("a", "b");
    const char **topics = NULL;
    size_t n = 0;
    kept_topics(link_.kept, &topics, &n);
    assert_int_equal(n, 1);
    assert_string_equal(topics[0], out);
    mend(); /* it stands */
    HOLDS("a", "b");
    n = 0;
    kept_topics(link_.kept, &topics, &n);
    assert_int_equal(n, 0);
    free(topics);
}

/* One that was given up is not brought back by those that stand. */
static void what_was_dropped_stays_away(void **state) {
    const size_t counts[] = {4};
    (void)state;
    tear(0, "a", 4, 2, 7);
    put(lanes[1], kept_begin(link_.kept, 1, records("b", 3), 3), 0, PARTITIONS);
    done(rd_kafka_abort_transaction(lanes[1], WAIT_MS));
    kept_dropped(link_.kept);
    mend();
    HOLDS("a");
    assert_int_equal(position(), 7);
}

/* Somebody else owns the partitions now: our positions would be in his way. What was lost behind positions
   that hold comes again all the same. */
static void the_group_has_the_last_word(void **state) {
    const size_t counts[] = {4, 3};
    (void)state;
    commit_positions(5);
    tear(0, "a", 3, 0, 5);
    member = rd_kafka_consumer_group_metadata_new_with_genid(group, 7, "nobody", NULL);
    tear(1, "b", 4, 1, 9);
    mend();
    holds((const char *const[]){"b", "a"}, counts, 2, 2 + 3);
    assert_int_equal(position(), 5);
}

/* What another producer has open stands before ours: it is waited for. */
static void an_open_transaction_of_others_is_waited_for(void **state) {
    const size_t counts[] = {3, 1};
    (void)state;
    done(rd_kafka_begin_transaction(other));
    assert_int_equal(kafka_produce(other, records("other", 1), 0, NULL),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    assert_int_equal(rd_kafka_flush(other, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    tear(0, "a", 3, 2, 7);
    assert_int_equal(try_to_mend(1500), ERR_AGAIN);
    done(rd_kafka_commit_transaction(other, WAIT_MS));
    mend();
    HOLDS("a", "other");
    assert_int_equal(position(), 7);
}

int main(int argc, char **argv) {
    const char *brokers = getenv("DARKROOM_KAFKA_BOOTSTRAP_SERVERS");
    if (!brokers) {
        fprintf(stderr, "DARKROOM_KAFKA_BOOTSTRAP_SERVERS is not set\n");
        return 77;
    }
    properties[0] = (struct bus_property){"bootstrap.servers", brokers};
    admin = admin_open(properties, 1, &err);
    if (!admin) return 1;
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(records_gone_behind_their_positions_come_again),
        TEST(records_that_stand_bring_the_rest_and_the_positions),
        TEST(positions_alone_come_again),
        TEST(what_left_no_trace_is_left_to_be_read_again),
        TEST(what_is_whole_is_let_alone),
        TEST(the_one_before_is_completed_too),
        TEST(whichever_lane_it_was),
        TEST(the_one_behind_is_read_again),
        TEST(positions_of_others_are_no_trace),
        TEST(positions_do_not_go_back),
        TEST(what_was_completed_is_kept),
        TEST(what_was_dropped_stays_away),
        TEST(the_group_has_the_last_word),
        TEST(an_open_transaction_of_others_is_waited_for),
    };
    if (argc == 2) cmocka_set_test_filter(argv[1]);
    int failed = cmocka_run_group_tests_name("bus_torn", tests, NULL, NULL);
    admin_close(admin);
    return failed;
}
