/*
 * ahead: some threads that open and read what comes next, at most DISTANCE files before its reader.
 */
#define _DEFAULT_SOURCE
#include "lib/client/ahead.h"

#include "lib/base/bytes.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { THREADS = 8, DISTANCE = 1024, FIRST = 4096 };

struct ahead {
    const char *(*path)(const void *ctx, size_t i);
    const void *ctx;
    size_t count;
    atomic_size_t at, next; /* where the reader is; what no thread has taken yet */
    atomic_bool stop;
    pthread_t threads[THREADS];
    int thread_count;
};

static void touch(const char *path) {
    char first[FIRST];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return; /* its reader will say so */
    if (read(fd, first, sizeof first) == sizeof first) posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
    close(fd);
}

static void *work(void *arg) {
    struct ahead *a = arg;
    while (!atomic_load(&a->stop)) {
        size_t i = atomic_fetch_add(&a->next, 1);
        if (i >= a->count) break;
        while (i > atomic_load(&a->at) + DISTANCE && !atomic_load(&a->stop)) usleep(1000);
        const char *path = i > atomic_load(&a->at) ? a->path(a->ctx, i) : NULL;
        if (path) touch(path);
    }
    return NULL;
}

struct ahead *ahead_start(const char *(*path)(const void *ctx, size_t i), const void *ctx, size_t count, size_t at) {
    struct ahead *a = mem_zeroed(1, sizeof *a);
    a->path = path;
    a->ctx = ctx;
    a->count = count;
    atomic_init(&a->at, at);
    atomic_init(&a->next, at + 1);
    while (a->thread_count < THREADS && pthread_create(&a->threads[a->thread_count], NULL, work, a) == 0) a->thread_count++;
    return a;
}

void ahead_at(struct ahead *a, size_t i) {
    atomic_store(&a->at, i);
}

void ahead_stop(struct ahead *a) {
    if (!a) return;
    atomic_store(&a->stop, true);
    for (int i = 0; i < a->thread_count; i++) pthread_join(a->threads[i], NULL);
    free(a);
}
