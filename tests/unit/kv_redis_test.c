/* redis: dialogues with a real server, and with one that dies, stalls, refuses or is full. */
#define _GNU_SOURCE
#include "lib/base/clock.h"
#include "lib/kv/redis.h"
#include "tests/unit/redis_server.h"

#include <netinet/in.h>
#include <setjmp.h>

#include <cmocka.h>

static struct redis_server server;
static struct redis *r;
static struct redis_reply reply;
static struct err e;

static struct redis *open_at(const char *url, int timeout_ms) {
    struct redis *c = redis_open(&(struct redis_conf){url, 2000, timeout_ms, NULL}, &e);
    if (!c) fail_msg("%s", e.text);
    return c;
}

static void start(void **state) {
    redis_server_start(&server, NULL);
    r = open_at(redis_server_url(&server), 20000);
}
static int setup(void **state) {
    start(state);
    return 0;
}
static int teardown(void **state) {
    redis_close(r);
    redis_server_stop(&server);
    return 0;
}

enum { WORDS = 8 };
static int split(char *line, struct bytes *argv) {
    int n = 0;
    for (char *word = strtok(line, " "); word && n < WORDS; word = strtok(NULL, " "))
        argv[n++] = bytes_of(word);
    return n;
}

/* "SET a b" */
static enum err_kind ask(const char *line) {
    char copy[256];
    struct bytes argv[WORDS];
    snprintf(copy, sizeof copy, "%s", line);
    return redis_do(r, &reply, &e, split(copy, argv), argv);
}
static void put(const char *line) {
    char copy[256];
    struct bytes argv[WORDS];
    snprintf(copy, sizeof copy, "%s", line);
    redis_put(r, split(copy, argv), argv);
}
static void ok(enum err_kind kind) {
    if (kind) fail_msg("%s", e.text);
}
static void says(const char *text) {
    if (reply.type != REDIS_TEXT || !bytes_is(reply.text, text))
        fail_msg("type %d, \"%.*s\", not \"%s\"", reply.type, (int)reply.text.len,
                 (const char *)reply.text.data, text);
}
static void error_has(const char *word) {
    if (!strstr(e.text, word)) fail_msg("\"%s\" does not say \"%s\"", e.text, word);
}

static void every_type_of_reply(void **state) {
    ok(redis_ping(r, &e));
    ok(ask("SET a 1"));
    says("OK");
    ok(ask("GET a"));
    says("1");
    ok(ask("GET nothing"));
    assert_int_equal(reply.type, REDIS_NIL);
    ok(ask("INCRBY a 9223372036854775806"));
    assert_int_equal(reply.type, REDIS_INTEGER);
    assert_true(reply.integer == INT64_MAX);
    ok(ask("MGET a nothing a"));
    assert_int_equal(reply.type, REDIS_ARRAY);
    assert_int_equal(reply.count, 3);
    assert_true(bytes_is(reply.items[0].text, "9223372036854775807"));
    assert_int_equal(reply.items[1].type, REDIS_NIL);
    struct bytes nested[] = {BYTES("EVAL"),
                             BYTES("return {1, {'a', {}}, redis.error_reply('E x')}"), BYTES("0")};
    ok(redis_do(r, &reply, &e, 3, nested));
    assert_int_equal(reply.items[1].items[1].type, REDIS_ARRAY);
    assert_int_equal(reply.items[1].items[1].count, 0);
    assert_true(bytes_is(reply.items[1].items[0].text, "a"));
    assert_int_equal(reply.items[2].type, REDIS_ERROR);
    char binary[] = "\0\r\n$5\xff"; /* any bytes, and none */
    struct bytes set[] = {BYTES("SET"), {binary, sizeof binary}, {binary, sizeof binary}};
    ok(redis_do(r, &reply, &e, 3, set));
    struct bytes get[] = {BYTES("GET"), {binary, sizeof binary}};
    ok(redis_do(r, &reply, &e, 2, get));
    assert_int_equal(reply.text.len, sizeof binary);
    assert_memory_equal(reply.text.data, binary, sizeof binary);
    struct bytes empty[] = {BYTES("ECHO"), {NULL, 0}};
    ok(redis_do(r, &reply, &e, 2, empty));
    says("");
}

static void what_the_server_refuses(void **state) {
    assert_int_equal(ask("NONSENSE"), ERR_FATAL);
    assert_int_equal(redis_unread(r), 0);
    ok(ask("SET a text"));
    assert_int_equal(ask("INCR a"), ERR_FATAL);
    ok(ask("CONFIG SET maxmemory 1"));
    assert_int_equal(ask("SET a b"), ERR_AGAIN);
    error_has("out of memory");
    ok(ask("CONFIG SET maxmemory 0"));
    ok(ask("CONFIG SET min-replicas-to-write 1"));
    assert_int_equal(ask("SET a b"), ERR_AGAIN);
    ok(ask("CONFIG SET min-replicas-to-write 0"));
    ok(ask("REPLICAOF 127.0.0.1 1"));
    assert_int_equal(ask("SET a b"), ERR_AGAIN);
    error_has("replica");
    ok(ask("REPLICAOF NO ONE"));
    ok(ask("SET a b"));
    assert_int_equal(redis_next(r, &reply, &e), ERR_FATAL); /* nothing was asked */
}

static void a_long_pipeline(void **state) {
    enum { N = 100000, SIZE = 1024 };
    char *value = malloc(SIZE);
    for (int i = 0; i < N; i++) {
        memset(value, 'a' + i % 26, SIZE);
        memcpy(value, &i, sizeof i);
        redis_put(r, 2, (struct bytes[]){BYTES("ECHO"), {value, SIZE}});
    }
    assert_int_equal(redis_unread(r), N);
    for (int i = 0; i < N; i++) {
        ok(redis_next(r, &reply, &e));
        assert_int_equal(reply.text.len, SIZE);
        assert_memory_equal(reply.text.data, &i, sizeof i);
        assert_int_equal(((const char *)reply.text.data)[SIZE - 1], 'a' + i % 26);
    }
    assert_int_equal(redis_unread(r), 0);
    free(value);
    size_t large = 20 << 20; /* one value over every piece */
    char *model = mem_zeroed(large, 1);
    model[large - 1] = 'x';
    ok(redis_do(r, &reply, &e, 3, (struct bytes[]){BYTES("SET"), BYTES("m"), {model, large}}));
    ok(ask("GET m"));
    assert_int_equal(reply.text.len, large);
    assert_memory_equal(reply.text.data, model, large);
    free(model);
}

static void flushed_before_the_first_reply(void **state) {
    put("SET a 1");
    put("INCR a");
    ok(redis_flush(r, &e));
    put("INCR a");
    ok(redis_next(r, &reply, &e));
    says("OK");
    for (int i = 2; i <= 3; i++) {
        ok(redis_next(r, &reply, &e));
        assert_int_equal(reply.integer, i);
    }
    ok(redis_flush(r, &e)); /* nothing to send */
}

static void an_abandoned_pipeline_answers_nobody(void **state) {
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 50; i++) put("ECHO old");
        if (round == 1) ok(redis_flush(r, &e));
        if (round == 2) ok(redis_next(r, &reply, &e));
        redis_reset(r);
        assert_int_equal(redis_unread(r), 0);
        put("ECHO new");
        ok(redis_next(r, &reply, &e));
        says("new");
    }
    put("ECHO old"); /* without a reset */
    ok(redis_flush(r, &e));
    ok(ask("ECHO new"));
    says("new");
    put("NONSENSE"); /* an error in the middle ends the pipeline */
    put("ECHO old");
    assert_int_equal(redis_next(r, &reply, &e), ERR_FATAL);
    assert_int_equal(redis_unread(r), 0);
    ok(ask("ECHO new"));
    says("new");
}

static void killed_in_the_middle(void **state) {
    put("SET a 1");
    put("ECHO x");
    ok(redis_next(r, &reply, &e));
    ok(redis_next(r, &reply, &e));
    put("ECHO y");
    redis_server_kill(&server);
    assert_int_equal(redis_next(r, &reply, &e), ERR_AGAIN);
    error_has(server.path);
    assert_int_equal(redis_unread(r), 0);
    assert_int_equal(redis_ping(r, &e), ERR_AGAIN); /* not there */
    error_has("connecting");
    char big[64 << 10] = {
        0}; /* put itself cannot send: the next call says so, and then it is over */
    for (int i = 0; i < 20; i++)
        redis_put(r, 2, (struct bytes[]){BYTES("ECHO"), {big, sizeof big}});
    assert_int_equal(redis_unread(r), 0);
    assert_int_equal(redis_next(r, &reply, &e), ERR_AGAIN);
    redis_server_again(&server);
    ok(ask("ECHO back"));
    says("back");
    /* gone in the middle of a long write: no SIGPIPE */
    for (int i = 0; i < 20; i++) {
        if (i == 10) redis_server_kill(&server);
        redis_put(r, 2, (struct bytes[]){BYTES("ECHO"), {big, sizeof big}});
    }
    assert_int_equal(redis_flush(r, &e), ERR_AGAIN);
    redis_server_again(&server);
    ok(redis_ping(r, &e));
}

static void a_server_that_does_not_answer(void **state) {
    struct redis *was = r;
    r = open_at(redis_server_url(&server), 200);
    ok(redis_ping(r, &e));
    kill(server.pid, SIGSTOP);
    int64_t begin = clock_monotonic_us();
    assert_int_equal(ask("ECHO late"), ERR_AGAIN);
    assert_in_range(clock_monotonic_us() - begin, 150000, 5000000);
    error_has("no answer within 200 ms");
    kill(server.pid, SIGCONT);
    ok(ask("ECHO now"));
    says("now");
    redis_close(r);
    r = was;
}

static void scripts(void **state) {
    struct redis_script add = {.source = "return redis.call('INCRBY', KEYS[1], ARGV[1])"};
    struct bytes argv[] = {BYTES("n"), BYTES("5")};
    ok(redis_script(r, &add, &reply, &e, 1, 2, argv));
    assert_int_equal(reply.integer, 5);
    assert_int_equal(strlen(add.sha), 40);
    ok(ask("SCRIPT FLUSH"));
    put("EVALSHA 0000000000000000000000000000000000000000 0"); /* NOSCRIPT is the caller's to see */
    put("ECHO on");
    ok(redis_next(r, &reply, &e));
    assert_int_equal(reply.type, REDIS_ERROR);
    ok(redis_next(r, &reply, &e));
    says("on");
    ok(redis_script(r, &add, &reply, &e, 1, 2, argv));
    assert_int_equal(reply.integer, 10);
    struct redis_script wrong = {.source = "this is no Lua"};
    assert_int_equal(redis_script(r, &wrong, &reply, &e, 0, 0, argv), ERR_FATAL);
}

static void databases(void **state) {
    char url[128];
    snprintf(url, sizeof url, "%s?db=3", redis_server_url(&server));
    struct redis *zero = r;
    r = open_at(url, 5000);
    ok(ask("SET where three"));
    redis_server_kill(&server);
    assert_int_equal(redis_ping(r, &e), ERR_AGAIN);
    redis_server_again(&server);
    ok(ask("SET where three")); /* selected again after the reconnection */
    redis_close(r);
    r = zero;
    if (ask("GET where")) ok(ask("GET where")); /* its connection died with the server */
    assert_int_equal(reply.type, REDIS_NIL);
    ok(ask("SELECT 3"));
    ok(ask("GET where"));
    says("three");
    snprintf(url, sizeof url, "%s?db=999", redis_server_url(&server));
    struct redis *none = open_at(url, 5000);
    assert_int_equal(redis_ping(none, &e), ERR_AGAIN);
    error_has("no database 999");
    redis_close(none);
}

static enum err_kind ping_as(const char *who) {
    char url[160];
    snprintf(url, sizeof url, "unix://%s%s", who, server.path);
    struct redis *c = open_at(url, 5000);
    enum err_kind kind = redis_ping(c, &e);
    redis_close(c);
    return kind;
}

static void users_and_passwords(void **state) {
    ok(ask("CONFIG SET requirepass s3cret/@:"));
    ok(ask("ACL SETUSER ann on >an%n ~* +ping +auth"));
    ok(ping_as(":s3cret%2F%40%3A@"));
    ok(ping_as("default:s3cret%2f%40%3a@"));
    ok(ping_as("ann:an%25n@"));
    static const char *const wrong[] = {":hunter2@", "ann:hunter2@", "nobody:hunter2@"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ping_as(wrong[i]), ERR_AGAIN);
        error_has("password");
        assert_null(strstr(e.text, "hunter2"));
    }
    assert_int_equal(ping_as(""), ERR_AGAIN); /* none given */
    error_has("password");
    struct redis *was = r;
    char url[160];
    snprintf(url, sizeof url, "unix://ann:an%%25n@%s", server.path);
    r = open_at(url, 5000);
    assert_int_equal(ask("SET a b"), ERR_AGAIN); /* no right to */
    error_has("permit");
    redis_close(r);
    r = was;
}

/* Told to take one that is not needed, or that it does not know: the secret is in no text. */
static void a_server_that_repeats_secrets(void **state) {
    assert_int_equal(ping_as(":hunter2@"), ERR_AGAIN);
    assert_null(strstr(e.text, "hunter2"));
    redis_close(r);
    redis_server_stop(&server);
    redis_server_start(&server, "--rename-command", "AUTH", "", NULL);
    r = open_at(redis_server_url(&server), 5000);
    assert_int_equal(ping_as(":hunter2@"), ERR_AGAIN);
    assert_null(strstr(e.text, "hunter2"));
}

static void urls(void **state) {
    static const struct {
        const char *url, *where;
    } table[] = {
        {"redis://localhost", "localhost:6379"},
        {"redis://localhost/", "localhost:6379"},
        {"redis://localhost:7000/5", "localhost:7000"},
        {"redis://user:p%40ss@host.example:1/0", "host.example:1"},
        {"redis://:p@ss@host", "host:6379"},
        {"redis://[::1]:7000/2", "[::1]:7000"},
        {"redis://u:p@[fe80::1]", "[fe80::1]:6379"},
        {"unix:/run/redis.sock", "/run/redis.sock"},
        {"unix:///run/redis.sock?db=4", "/run/redis.sock"},
        {"unix://u:p@/run/redis.sock", "/run/redis.sock"},
        {NULL, NULL},
        {"", NULL},
        {"localhost:6379", NULL},
        {"http://localhost", NULL},
        {"redis://", NULL},
        {"redis://:6379", NULL},
        {"redis://host:0", NULL},
        {"redis://host:65536", NULL},
        {"redis://host:12x", NULL},
        {"redis://host:", NULL},
        {"redis://host/x", NULL},
        {"redis://host/1/2", NULL},
        {"redis://host/-1", NULL},
        {"redis://host?db=1", NULL},
        {"redis://hunter2@host", NULL},
        {"redis://u:hunter2%zz@host", NULL},
        {"redis://u:hunter2%4", NULL},
        {"redis://u:hunter2%00@host", NULL},
        {"redis://u:hunter2@", NULL},
        {"redis://u:hunter2@[::1", NULL},
        {"redis://u:hunter2@[::1]7000", NULL},
        {"unix:", NULL},
        {"unix:relative", NULL},
        {"unix:/p?x=1", NULL},
        {"unix:/p?db=", NULL},
        {"unix://u:hunter2@relative", NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct redis *c = redis_open(&(struct redis_conf){table[i].url, 10, 10, NULL}, &e);
        if (!c != !table[i].where) fail_msg("%s", table[i].url);
        if (c)
            assert_string_equal(redis_where(c), table[i].where);
        else {
            assert_int_equal(e.kind, ERR_FATAL);
            error_has("redis://[user:password@]host");
            assert_null(strstr(e.text, "hunter2"));
        }
        redis_close(c);
    }
}

static void nobody_at_the_port(void **state) {
    struct redis *c = open_at("redis://127.0.0.1:1", 100);
    assert_int_equal(redis_ping(c, &e), ERR_AGAIN);
    error_has("127.0.0.1:1");
    error_has("refused");
    redis_close(c);
}

static int free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    close(fd);
    return ntohs(a.sin_port);
}

/* A certificate that signs itself, known to the one client and not to the other. */
static void tls(void **state) {
    char dir[] = "/tmp/darkroom-tls-XXXXXX", command[512], url[80], port[8], cert[64], key[64];
    struct redis *none = redis_open(&(struct redis_conf){.url = "rediss://127.0.0.1"}, &e);
    if (!none) {
        error_has("no TLS");
        skip();
    }
    redis_close(none);
    assert_non_null(mkdtemp(dir));
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
             "-subj /CN=redis -keyout %s -out %s 2>/dev/null",
             key, cert);
    assert_int_equal(system(command), 0);
    snprintf(port, sizeof port, "%d", free_port());
    snprintf(url, sizeof url, "rediss://127.0.0.1:%s/2", port);
    redis_server_start(&server, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key,
                       "--tls-ca-cert-file", cert, "--tls-auth-clients", "no", NULL);
    r = redis_open(&(struct redis_conf){.url = url, .ca_file = cert}, &e);
    assert_non_null(r);
    enum { MANY = 5000 };
    for (int i = 0; i < MANY; i++) put("SET key some-value-that-takes-its-room");
    for (int i = 0; i < MANY; i++) ok(redis_next(r, &reply, &e));
    ok(ask("GET key"));
    says("some-value-that-takes-its-room");
    redis_server_kill(&server);
    assert_int_equal(redis_ping(r, &e), ERR_AGAIN);
    redis_server_again(&server);
    ok(redis_ping(r, &e));
    struct redis *stranger = redis_open(&(struct redis_conf){.url = url}, &e);
    assert_non_null(stranger);
    assert_int_equal(redis_ping(stranger, &e), ERR_AGAIN);
    error_has("certificate");
    redis_close(stranger);
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
    teardown(state);
}

static void a_store_that_forgets(void **state) {
    bool durable = true;
    ok(redis_check(r, &durable, &e));
    assert_false(durable);
    ok(ask("CONFIG SET appendonly yes"));
    ok(redis_check(r, &durable, &e));
    assert_true(durable);
    ok(ask("CONFIG SET maxmemory-policy allkeys-lru"));
    assert_int_equal(redis_check(r, &durable, &e), ERR_AGAIN);
    error_has("allkeys-lru");
    ok(ask("CONFIG SET maxmemory-policy noeviction"));
    ok(ask("ACL SETUSER default -config"));
    ok(redis_check(r, &durable, &e));
}

/* While it reads its append-only file it says of itself that it has none. */
static void a_store_that_loads(void **state) {
    enum { KEYS = 30000 }; /* it answers in between, every 1,024 */
    bool durable = false, loaded = false;
    redis_server_start(&server, "--appendonly", "yes", "--appendfsync", "always",
                       "--key-load-delay", "30", NULL);
    r = open_at(redis_server_url(&server), 20000);
    for (int i = 0; i < KEYS; i++) put("INCR key");
    for (int i = 0; i < KEYS; i++) ok(redis_next(r, &reply, &e));
    redis_server_kill(&server);
    assert_int_equal(redis_ping(r, &e), ERR_AGAIN);
    redis_server_again(&server);
    assert_int_equal(redis_check(r, &durable, &e), ERR_AGAIN);
    error_has("loading");
    for (int tries = 0; !loaded && tries < 1000; tries++) {
        clock_sleep_ms(10);
        loaded = !redis_check(r, &durable, &e);
    }
    assert_true(loaded && durable);
    ok(ask("GET key"));
    says("30000");
    teardown(state);
}

int main(void) {
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(nobody_at_the_port),
        cmocka_unit_test(tls),
        cmocka_unit_test(a_store_that_loads),
        WITH_SERVER(every_type_of_reply),
        WITH_SERVER(what_the_server_refuses),
        WITH_SERVER(a_long_pipeline),
        WITH_SERVER(flushed_before_the_first_reply),
        WITH_SERVER(an_abandoned_pipeline_answers_nobody),
        WITH_SERVER(killed_in_the_middle),
        WITH_SERVER(a_server_that_does_not_answer),
        WITH_SERVER(scripts),
        WITH_SERVER(databases),
        WITH_SERVER(users_and_passwords),
        WITH_SERVER(a_server_that_repeats_secrets),
        WITH_SERVER(a_store_that_forgets),
    };
    return cmocka_run_group_tests_name("kv_redis", tests, NULL, NULL);
}
