/*
 * The watching parent with children that really die, settings that are wrong, and the probe over
 * real HTTP.
 */
#define _GNU_SOURCE
#include "lib/base/clock.h"
#include "lib/stage/parent.h"
#include "lib/stage/probe.h"
#include "lib/stage/stage.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

/* A child's life is a letter each: s(egmentation fault) a(bort) k(ill -9) f(atal) w(rong setting)
   d(one) t(old to stop, through the parent). */
struct lives {
    const char *script;
    struct stage_hands *hands;
};

static int live(void *ctx) {
    struct lives *l = ctx;
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    char what = l->script[l->hands->restarts];
    const struct record r = {.partition = 3, .offset = 40 + (int64_t)l->hands->restarts};
    if (what != 'd') ranges_add_records(&l->hands->held, &r, 1);
    signal(SIGSEGV, SIG_DFL); /* not the sanitizer's */
    signal(SIGABRT, SIG_DFL);
    switch (what) {
    case 's': raise(SIGSEGV); break;
    case 'a': abort();
    case 'k': raise(SIGKILL); break;
    case 'f': _exit(1);
    case 'w': _exit(2);
    case 't':
        signal(SIGTERM, SIG_DFL);
        kill(getppid(), SIGTERM);
        for (;;) pause();
    default: break;
    }
    _exit(0);
}

static int watch(const char *script, struct stage_hands **hands) {
    *hands = hands_make();
    assert_non_null(*hands);
    return parent_watch(*hands, live, &(struct lives){script, *hands});
}

static void faults_leave_suspects(void **state) {
    struct stage_hands *h;
    assert_int_equal(watch("sad", &h), 0);
    assert_int_equal(h->restarts, 3);
    assert_int_equal(h->suspects.count, 1);
    assert_int_equal(h->suspects.list[0].partition, 3);
    assert_int_equal(h->suspects.list[0].from, 40);
    assert_int_equal(h->suspects.list[0].to, 42);
    hands_unmake(h);
}

static void other_ends_leave_none(void **state) {
    struct stage_hands *h;
    assert_int_equal(watch("kfd", &h), 0);
    assert_int_equal(h->restarts, 3);
    assert_int_equal(h->suspects.count, 0);
    hands_unmake(h);
}

static void a_wrong_setting_ends_it(void **state) {
    struct stage_hands *h;
    assert_int_equal(watch("w", &h), 2);
    hands_unmake(h);
}

static void being_told_to_stop_is_passed_on(void **state) {
    struct stage_hands *h;
    assert_int_equal(watch("t", &h), 1); /* this child did not drain: it died of the signal */
    assert_int_equal(h->restarts, 1);
    assert_int_equal(h->suspects.count, 0);
    hands_unmake(h);
}

static int hang(void *ctx) {
    pause();
    return 0;
}

static void the_child_dies_with_the_parent(void **state) {
    int ends[2];
    char byte = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t parent = fork();
    if (!parent) {
        close(ends[0]);
        parent_watch(hands_make(), hang, NULL);
        _exit(0);
    }
    close(ends[1]);
    clock_sleep_ms(100);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    assert_int_equal(read(ends[0], &byte, 1),
                     0); /* the end: nobody holds the other side any more */
    close(ends[0]);
}

static int run_main(const char *flag, const char *value) {
    static const struct stage stage = {.name = "tiny",
                                       .what = "images -> images.prepared",
                                       .in = IMAGES,
                                       .out = {IMAGES_PREPARED}};
    char *argv[] = {"darkroom-tiny", (char *)flag, (char *)value, NULL};
    return stage_main(&stage, value ? 3 : 2, argv);
}

static void wrong_settings_exit_with_2(void **state) {
    const char *wrong[][2] = {
        {"--delivery", "at-least-once"},
        {"--probe", "everywhere"},
        {"--instance", "a b"},
        {"--prefix", "a b"},
        {"--drain-time", "0s"},
        {"--log-level", "loud"},
        {"--max-bytes", "lots"},
        {"--nothing", "at-all"},
        {"a", "word"},
        {"--reply-topics", "x"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (run_main(wrong[i][0], wrong[i][1]) != 2) fail_msg("%s %s", wrong[i][0], wrong[i][1]);
    assert_int_equal(run_main("--version", NULL), 0);
    setenv("DARKROOM_KAFKA_NO_SUCH_THING", "1", 1); /* found by the child, and passed on */
    assert_int_equal(run_main("--instance", "a"), 2);
    unsetenv("DARKROOM_KAFKA_NO_SUCH_THING");
}

static void addresses(void **state) {
    const char *good[] = {"9401", ":9401", "127.0.0.1:0", "[::1]:9401", "localhost:9401"};
    const char *bad[] = {"",          ":",         "x", "1:2:3", "70000", "-1", "host.example:9401",
                         "[::1:9401", "127.0.0.1:"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!probe_address_is_valid(good[i])) fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (probe_address_is_valid(bad[i])) fail_msg("%s", bad[i]);
}

static void get(int port, const char *path, char *answer, size_t size) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    char request[128];
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(s, (struct sockaddr *)&a, sizeof a), 0);
    int n = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\n\r\n", path);
    assert_int_equal(write(s, request, (size_t)n), n);
    size_t len = 0;
    for (ssize_t got; (got = read(s, answer + len, size - 1 - len)) > 0;) len += (size_t)got;
    answer[len] = 0;
    close(s);
}

static void the_probe_answers(void **state) {
    static struct stage_metrics m;
    static const struct stage stage = {.name = "tiny", .in = IMAGES, .out = {IMAGES_PREPARED}};
    char text[32768];
    struct err e;
    clock_simulate(1700000000000);
    metrics_init(&m);
    const char *where[] = {"0", ":0"};
    for (size_t i = 0; i < 2; i++) {
        struct probe *p = probe_start(where[i], &stage, &m, &e);
        if (!p) fail_msg("%s", e.text);
        int port = probe_port(p);
        metrics_beat(&m);
        get(port, "/healthz", text, sizeof text);
        assert_non_null(strstr(text, " 200 "));
        clock_sleep_ms(PROBE_BEAT_MS + 1000);
        get(port, "/healthz", text, sizeof text);
        assert_non_null(strstr(text, " 503 "));
        assert_non_null(strstr(text, "no sign of life for 61 s"));
        metrics_ready(&m, "Redis is not there");
        get(port, "/readyz", text, sizeof text);
        assert_non_null(strstr(text, " 503 "));
        assert_non_null(strstr(text, "Redis is not there\n"));
        metrics_ready(&m, NULL);
        get(port, "/readyz", text, sizeof text);
        assert_non_null(strstr(text, " 200 "));
        get(port, "/metrics", text, sizeof text);
        assert_non_null(strstr(text, "\ndarkroom_records_total{stage=\"tiny\"} 0\n"));
        get(port, "/", text, sizeof text);
        assert_non_null(strstr(text, " 404 "));
        char taken[16];
        snprintf(taken, sizeof taken, "%s%d", i ? ":" : "", port);
        assert_null(probe_start(taken, &stage, &m, &e));
        assert_int_equal(e.kind, ERR_FATAL);
        probe_stop(p);
    }
    clock_simulate(-1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_leave_suspects),
        cmocka_unit_test(other_ends_leave_none),
        cmocka_unit_test(a_wrong_setting_ends_it),
        cmocka_unit_test(being_told_to_stop_is_passed_on),
        cmocka_unit_test(the_child_dies_with_the_parent),
        cmocka_unit_test(wrong_settings_exit_with_2),
        cmocka_unit_test(addresses),
        cmocka_unit_test(the_probe_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
