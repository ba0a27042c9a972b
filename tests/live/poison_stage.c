/*
 * A stage for tests/live/poison_test.py: images -> images.prepared, as they came. A record whose value is "die"
 * ends the process with SIGABRT, and leaves a line in the file --deaths before it does; every other record takes --slow.
 */
#include "lib/base/clock.h"
#include "lib/stage/stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

struct poison {
    const char *deaths;
    int64_t slow_ms;
};

static const struct setting settings[] = {
    {"deaths", SETTING_TEXT, offsetof(struct poison, deaths), NULL, "a line here for every death"},
    {"slow", SETTING_TIME, offsetof(struct poison, slow_ms), "1ms", "time of one record", NULL, 0,
     60000},
    {0},
};

static void die(const struct poison *p, const struct record *r, size_t n) {
    char line[128];
    int len = snprintf(line, sizeof line, "%d %lld of %zu, process %d\n", r->partition,
                       (long long)r->offset, n, (int)getpid());
    int fd = open(p->deaths, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0 || write(fd, line, (size_t)len) != len) _exit(1);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    abort();
}

static enum err_kind handle(void *state, const struct record *in, size_t n, struct out *out,
                            struct err *e) {
    const struct poison *p = state;
    for (size_t i = 0; i < n; i++) {
        if (bytes_is(in[i].value, "die")) die(p, &in[i], n);
        struct record copy = in[i];
        copy.time_ms = -1; /* now */
        clock_sleep_ms(p->slow_ms);
        if (stage_alive(out, e) || out_send(out, IMAGES_PREPARED, &copy, e)) return e->kind;
    }
    return ERR_NONE;
}

static const struct stage poison = {
    .name = "poison",
    .what = "images -> images.prepared: as they came, or death",
    .in = IMAGES,
    .out = {IMAGES_PREPARED},
    .max_records = 64,
    .max_bytes = 1 << 20,
    .overlap = true,
    .settings = settings,
    .state_size = sizeof(struct poison),
    .handle = handle,
};

int main(int argc, char **argv) {
    return stage_main(&poison, argc, argv);
}
