/*
 * crash: many schedules, a table of what was met where, and the shortest form of a schedule that fails.
 * Schedules run in children, some hundred each: what a crashed worker leaves behind goes with them.
 */
#define _GNU_SOURCE
#include "tests/flow/sim/sim.h"

#include "lib/base/log.h"
#include "lib/base/settings.h"
#include "tests/unit/redis_server.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { CHUNK = 1, PROCESSES = 64 };

struct options {
    int64_t schedules, seed, processes, least;
    bool tell, shrink;
};

static const struct setting table[] = {
    {"schedules", SETTING_INT, offsetof(struct options, schedules), "2000", "how many", NULL, 1,
     1e9, 'n'},
    {"seed", SETTING_INT, offsetof(struct options, seed), "1",
     "of the first one; the others follow", NULL, 0, 9e18, 's'},
    {"processes", SETTING_INT, offsetof(struct options, processes), "2", "side by side", NULL, 1,
     PROCESSES, 'p'},
    {"least", SETTING_INT, offsetof(struct options, least), "0",
     "fail when a fault was met less often than this at a boundary where it applies", NULL, 0, 1e9,
     0},
    {"shrink", SETTING_BOOL, offsetof(struct options, shrink), "true",
     "look for the least that still fails", NULL, 0, 0, 0},
    {"tell", SETTING_BOOL, offsetof(struct options, tell), "false",
     "print what happens; for one schedule", NULL, 0, 0, 't'},
    {0}};

/* Shared by all processes. */
static struct shared {
    uint64_t met[BOUNDARIES][FAULTS];
    uint64_t done, boundaries, deaths;
    bool failed, unlike;
    uint64_t seed; /* of the first failure */
    struct report report;
} * shared;

static const char *models_file;

static int64_t seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* In a child of its own: what it makes of the plan. */
static struct report try(const struct plan *p, const char *socket, bool tell) {
    struct report *out = mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                              -1, 0),
                  copy;
    static uint64_t met[BOUNDARIES][FAULTS];
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        if (tell) log_setup("crash", LOG_INFO, LOG_HUMAN);
        setvbuf(stdout, NULL, _IOLBF, 0);
        world_run(p, socket, models_file, tell, met, out);
        fflush(stdout);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    copy = *out;
    munmap(out, sizeof *out);
    if (status && !*copy.what)
        report_wrong(&copy, "the process ended with status %#x", (unsigned)status);
    return copy;
}

/* One chunk of schedules, in a child. */
static void chunk(int64_t from, int64_t to, const char *socket) {
    static struct plan p;
    static struct report r;
    for (int64_t i = from; i < to && !shared->failed; i++) {
        uint64_t met[BOUNDARIES][FAULTS] = {0};
        plan_draw(&p, (uint64_t)i);
        world_run(&p, socket, models_file, false, met, &r);
        for (int b = 0; b < BOUNDARIES; b++)
            for (int f = 0; f < FAULTS; f++)
                __atomic_fetch_add(&shared->met[b][f], met[b][f], __ATOMIC_RELAXED);
        __atomic_fetch_add(&shared->done, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&shared->boundaries, (uint64_t)r.boundaries, __ATOMIC_RELAXED);
        __atomic_fetch_add(&shared->deaths, (uint64_t)r.deaths, __ATOMIC_RELAXED);
        if (*r.what && !__atomic_exchange_n(&shared->failed, true, __ATOMIC_ACQ_REL)) {
            shared->seed = (uint64_t)i;
            shared->report = r;
        }
    }
}

static void work(int64_t first, const struct options *o, int process) {
    struct redis_server server;
    redis_server_start(&server, (char *)NULL);
    for (int64_t at = process * CHUNK; at < o->schedules && !shared->failed;
         at += o->processes * CHUNK) {
        int64_t end = at + CHUNK < o->schedules ? at + CHUNK : o->schedules;
        pid_t pid = fork();
        int status;
        if (!pid) {
            chunk(first + at, first + end, server.path);
            _exit(0);
        }
        waitpid(pid, &status, 0);
        if (status && !__atomic_exchange_n(&shared->failed, true, __ATOMIC_ACQ_REL)) {
            /* It died: find out of which. */
            for (int64_t i = at; i < end; i++) {
                struct plan p;
                plan_draw(&p, (uint64_t)(first + i));
                struct report r = try(&p, server.path, false);
                if (!*r.what) continue;
                shared->seed = (uint64_t)(first + i);
                shared->report = r;
                break;
            }
        }
    }
    redis_server_stop(&server);
}

static void print_table(void) {
    printf("%-10s", "");
    for (int f = 0; f < FAULTS; f++) printf("%10s", fault_names[f]);
    printf("\n");
    for (int b = 0; b < BOUNDARIES; b++) {
        printf("%-10s", boundary_names[b]);
        for (int f = 0; f < FAULTS; f++)
            if (fault_applies((enum boundary)b, (enum fault)f))
                printf("%10llu", (unsigned long long)shared->met[b][f]);
            else
                printf("%10s", "-");
        printf("\n");
    }
}

/* Leaves out one thing after the other, as long as it still fails. */
static void shrink(struct plan *p, struct report *r, const char *socket) {
    bool less = true;
    while (less) {
        less = false;
        for (int i = p->blow_count; i-- > 0;) {
            struct plan q = *p;
            memmove(&q.blows[i], &q.blows[i + 1], (size_t)(q.blow_count - i - 1) * sizeof *q.blows);
            q.blow_count--;
            struct report s = try(&q, socket, false);
            if (!*s.what) continue;
            *p = q, *r = s, less = true;
        }
        for (int i = p->sending_count; i-- > 0;) {
            struct plan q = *p;
            memmove(&q.sendings[i], &q.sendings[i + 1],
                    (size_t)(q.sending_count - i - 1) * sizeof *q.sendings);
            q.sending_count--;
            struct report s = try(&q, socket, false);
            if (!*s.what) continue;
            *p = q, *r = s, less = true;
        }
        for (int i = 0; i < STAGES; i++) {
            struct plan q = *p;
            if (q.instances[i] == 1) continue;
            q.instances[i] = 1;
            struct report s = try(&q, socket, false);
            if (!*s.what) continue;
            *p = q, *r = s, less = true;
        }
    }
}

static void write_models(char path[64]) {
    strcpy(path, "/tmp/darkroom-crash-XXXXXX");
    int fd = mkstemp(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f) {
        perror(path);
        exit(3);
    }
    fprintf(f, "{\"models\":{");
    for (int k = 0; k < MODELS; k++) {
        const struct habits *h = &model_habits[k];
        fprintf(f, "%s\"%s\":{\"input.width\":%d,\"input.height\":%d,", k ? "," : "",
                model_names[k], SIDE, SIDE);
        fprintf(f, "\"network\":\"mlp\",\"augment\":\"none\",");
        fprintf(f, "\"batch.count\":%d,\"batch.age\":\"%dms\",", h->batch_count, h->batch_age_ms);
        if (h->keep_versions) fprintf(f, "\"keep.versions\":%d,", h->keep_versions);
        if (h->keep_images) fprintf(f, "\"keep.images\":%d,", h->keep_images);
        if (h->better) fprintf(f, "\"deploy.rule\":\"better\",");
        if (h->floor) fprintf(f, "\"deploy.floor\":%.2f,", h->floor / 100.0);
        fprintf(f, "\"train.passes\":1,\"train.minibatch\":2,\"evaluation.share\":0.3}");
    }
    fprintf(f, "}}");
    if (fclose(f)) {
        perror(path);
        exit(3);
    }
}

static int fail(uint64_t seed, bool and_shrink) {
    struct redis_server server;
    struct plan p;
    plan_draw(&p, seed);
    redis_server_start(&server, (char *)NULL);
    struct report r = try(&p, server.path, false), again = try(&p, server.path, false);
    printf("seed %llu fails: %s\n", (unsigned long long)seed,
           *r.what ? r.what : shared->report.what);
    if (r.trace != again.trace || !*r.what)
        printf(
            "it does not do the same again (%016llx, %016llx): the simulation itself is at fault\n",
            (unsigned long long)r.trace, (unsigned long long)again.trace);
    if (*r.what && and_shrink) {
        shrink(&p, &r, server.path);
        printf("the least that fails so: %s\n", r.what);
        plan_print(&p);
        try(&p, server.path, true);
    }
    redis_server_stop(&server);
    return 1;
}

int main(int argc, char **argv) {
    struct options o;
    struct settings_use uses[] = {{table, &o}, {0}};
    struct err e;
    int operand, bad = 0;
    bool help;
    char path[64];
    if (settings_read(uses, argc, argv, &operand, &help, &e)) {
        fprintf(stderr, "crash: %s\n", e.text);
        return 2;
    }
    if (help) {
        struct buf text = {0};
        settings_help(table, &text);
        printf("crash: schedules of faults for the six workers on the memory log and a real "
               "Redis\n\n%s",
               text.data);
        return 0;
    }
    write_models(path);
    models_file = path;
    log_setup("crash", LOG_ERROR + 1, LOG_HUMAN);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int64_t began = seconds();
    if (o.tell) {
        struct redis_server server;
        struct plan p;
        redis_server_start(&server, (char *)NULL);
        plan_draw(&p, (uint64_t)o.seed);
        plan_print(&p);
        struct report r = try(&p, server.path, true);
        printf("%s; %lld boundaries, %d turns, trace %016llx\n", *r.what ? r.what : "all is well",
               (long long)r.boundaries, r.turns, (unsigned long long)r.trace);
        redis_server_stop(&server);
        unlink(path);
        return *r.what != 0;
    }
    for (int i = 0; i < o.processes; i++) {
        fflush(stdout);
        if (fork()) continue;
        work(o.seed, &o, i);
        _exit(0);
    }
    for (int left = (int)o.processes; left;) {
        int status;
        if (waitpid(-1, &status, WNOHANG) > 0) {
            left--;
            continue;
        }
        usleep(200000);
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%llu of %lld schedules, %lld s ", (unsigned long long)shared->done,
                    (long long)o.schedules, (long long)(seconds() - began));
    }
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r%40s\r", "");
    if (shared->failed) bad = fail(shared->seed, o.shrink);
    print_table();
    for (int b = 0; b < BOUNDARIES && o.least; b++)
        for (int f = 0; f < FAULTS; f++)
            if (fault_applies((enum boundary)b, (enum fault)f) &&
                (int64_t)shared->met[b][f] < o.least) {
                printf("%s at %s was met only %llu times\n", fault_names[f], boundary_names[b],
                       (unsigned long long)shared->met[b][f]);
                bad = 1;
            }
    printf("%llu schedules from seed %lld, %llu boundaries, %llu deaths of poison, %lld s: %s\n",
           (unsigned long long)shared->done, (long long)o.seed,
           (unsigned long long)shared->boundaries, (unsigned long long)shared->deaths,
           (long long)(seconds() - began), bad ? "FAILED" : "passed");
    printf("[  %s  ] 1 test(s).\n", bad ? "FAILED" : "PASSED"); /* for tests/run */
    unlink(path);
    return bad;
}
