/*
 * parent.c: fork, wait, look how the child died, fork again.
 *
 * The signals that matter are blocked and taken one by one with sigtimedwait: no handlers, no
 * races. The child has a process group of its own, so that a terminal's Ctrl-C reaches it once,
 * through the parent. As PID 1 of a container the parent also reaps strangers.
 *
 * librdkafka waits by the clock of the day: where that is set back, a wait that is under way lasts
 * the longer for it, heartbeats with it, and nothing inside the child can end that. The parent
 * looks at the clock once a second, and kills the child, as anybody may at any instant.
 */
#define _GNU_SOURCE
#include "lib/stage/parent.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAUSE_FIRST_MS = 100, PAUSE_MOST_MS = 5000, LIVED_WELL_MS = 60000 };
enum { LOOK_MS = 1000, SET_BACK_MS = 3000 }; /* less than a session outlasts */

struct parent {
    struct stage_hands *hands;
    sigset_t signals, before;
    pid_t child;
    bool stop;
    int64_t day_ms; /* what the clock of the day is ahead of the monotonic one */
};

static void become_child(struct parent *p, pid_t parent, int (*work)(void *ctx), void *ctx) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); /* it died before we asked to die with it */
    sigprocmask(SIG_SETMASK, &p->before, NULL);
    exit(work(ctx));
}

/* Takes one signal, if one comes within wait_ms. */
static void take_signal(struct parent *p, int64_t wait_ms) {
    struct timespec t = {wait_ms / 1000, wait_ms % 1000 * 1000000};
    int signal = sigtimedwait(&p->signals, NULL, &t);
    if (signal < 0 || signal == SIGCHLD) return;
    p->stop = true;
    if (p->child) kill(p->child, signal);
}

static void look_at_clock(struct parent *p) {
    int64_t before = p->day_ms;
    p->day_ms = clock_now_ms() - clock_monotonic_us() / 1000;
    if (before - p->day_ms < SET_BACK_MS || !p->child) return;
    log_warn("the clock was set back by %.1f s, and what the worker waits for would take the "
             "longer: it is killed",
             (double)(before - p->day_ms) / 1000);
    kill(p->child, SIGKILL);
}

/* How the child ended, as waitpid says it. */
static int wait_for_child(struct parent *p) {
    for (;;) {
        int status;
        for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
            if (pid == p->child) {
                p->child = 0;
                return status;
            }
        take_signal(p, LOOK_MS);
        look_at_clock(p);
    }
}

static bool is_fault(int status, bool memory_limit) {
    if (!WIFSIGNALED(status)) return false;
    switch (WTERMSIG(status)) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGABRT: return true;
    case SIGKILL: return memory_limit;
    default: return false;
    }
}

static void say(int status, bool memory_limit, int64_t pause_ms) {
    char end[80];
    if (WIFEXITED(status))
        snprintf(end, sizeof end, "ended with exit code %d", WEXITSTATUS(status));
    else if (memory_limit)
        snprintf(end, sizeof end, "was killed by the memory limit");
    else
        snprintf(end, sizeof end, "died of signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    log_error("the worker %s; started again in %.1f s", end, (double)pause_ms / 1000);
}

/* Waits for the pause to be over; a signal to stop ends it. */
static void pause_for(struct parent *p, int64_t ms) {
    int64_t until = clock_monotonic_us() / 1000 + ms;
    for (int64_t left = ms; left > 0 && !p->stop; left = until - clock_monotonic_us() / 1000)
        take_signal(p, left);
}

static int watch(struct parent *p, int (*work)(void *ctx), void *ctx) {
    pid_t self = getpid();
    for (int64_t pause_ms = PAUSE_FIRST_MS;;) {
        int64_t born = clock_monotonic_us() / 1000, memory_kills = poison_memory_kills();
        fflush(NULL);
        p->child = fork();
        if (p->child < 0) {
            p->child = 0;
            log_error("cannot fork: %s", strerror(errno));
        } else if (!p->child) {
            become_child(p, self, work, ctx);
        } else {
            int status = wait_for_child(p);
            bool memory_limit = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
                                poison_memory_kills() > memory_kills;
            poison_died(p->hands, is_fault(status, memory_limit));
            if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2))
                return WEXITSTATUS(status);
            if (p->stop) return 1;
            if (clock_monotonic_us() / 1000 - born >= LIVED_WELL_MS) pause_ms = PAUSE_FIRST_MS;
            say(status, memory_limit, pause_ms);
        }
        pause_for(p, pause_ms);
        if (p->stop) return 0;
        pause_ms = pause_ms * 2 > PAUSE_MOST_MS ? PAUSE_MOST_MS : pause_ms * 2;
    }
}

int parent_watch(struct stage_hands *hands, int (*work)(void *ctx), void *ctx) {
    struct parent p = {.hands = hands, .day_ms = clock_now_ms() - clock_monotonic_us() / 1000};
    sigemptyset(&p.signals);
    sigaddset(&p.signals, SIGTERM);
    sigaddset(&p.signals, SIGINT);
    sigaddset(&p.signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &p.signals, &p.before);
    int code = watch(&p, work, ctx);
    sigprocmask(SIG_SETMASK, &p.before, NULL);
    return code;
}
