/*
 * clock_jump: preloaded into a worker, it moves the clock of the day by the seconds that stand in the file
 * named by CLOCK_JUMP (a binary int64), which may change at any time; the monotonic clock stays. It is as if somebody set the machine's clock: a
 * wait for a moment of the day that is under way when the clock is set back lasts the longer for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_NS = 20000000, A_DAY_CLOCK_S = 1000000000 };

static const volatile int64_t *jump_s;

static __attribute__((constructor)) void find_jump(void) {
    const char *path = getenv("CLOCK_JUMP");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof *jump_s, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED) jump_s = page;
}

int clock_gettime(clockid_t which, struct timespec *t) {
    long failed = syscall(SYS_clock_gettime, which, t);
    if (!failed && jump_s && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        t->tv_sec += *jump_s;
    return (int)failed;
}

int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *t = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *t, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, t) ? base : 0;
}

static bool is_before(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* A condition that waits by the monotonic clock counts from the start of the machine. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until) {
    if (until->tv_sec < A_DAY_CLOCK_S)
        return pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, until);
    for (;;) {
        struct timespec now, look;
        clock_gettime(CLOCK_REALTIME, &now);
        if (!is_before(&now, until)) return ETIMEDOUT;
        int64_t left_ns =
            (until->tv_sec - now.tv_sec) * INT64_C(1000000000) + until->tv_nsec - now.tv_nsec;
        clock_gettime(CLOCK_MONOTONIC, &look);
        look.tv_nsec += left_ns < LOOK_NS ? (long)left_ns : LOOK_NS;
        if (look.tv_nsec >= 1000000000) {
            look.tv_sec++;
            look.tv_nsec -= 1000000000;
        }
        int woken = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &look);
        if (woken != ETIMEDOUT) return woken;
    }
}

/* glibc's are the same underneath. */
int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
    int woken = pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until);
    return woken == ETIMEDOUT ? thrd_timedout : woken ? thrd_error : thrd_success;
}
