/*
 * redis_server: a real redis-server of the test's own, on a socket in a new directory, gone with
 * the test.
 */
#ifndef DARKROOM_TESTS_REDIS_SERVER_H
#define DARKROOM_TESTS_REDIS_SERVER_H

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REDIS_SERVER_ARGS = 40 };

struct redis_server {
    pid_t pid; /* 0: not running */
    char dir[40], path[64], url[80];
    const char *args[REDIS_SERVER_ARGS + 1]; /* borrowed from the caller */
};

/* Runs it (again) with the same directory and arguments; back when it takes connections. */
static inline void redis_server_again(struct redis_server *s) {
    unlink(s->path);
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp("redis-server", (char **)s->args);
        perror("redis-server");
        _exit(127);
    }
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, s->path, sizeof s->path);
    for (int tries = 0; tries < 1000; tries++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        int failed = connect(fd, (struct sockaddr *)&to, sizeof to);
        close(fd);
        if (!failed) return;
        usleep(10000);
    }
    fprintf(stderr, "redis-server does not start: see %s/log\n", s->dir);
    abort();
}

static inline const char *redis_server_url(const struct redis_server *s) {
    return s->url;
}

/* Extra arguments, "--appendonly", "yes", …, end with NULL. */
static inline void redis_server_start(struct redis_server *s, ...) {
    memset(s, 0, sizeof *s);
    strcpy(s->dir, "/tmp/darkroom-redis-XXXXXX");
    if (!mkdtemp(s->dir)) abort();
    snprintf(s->path, sizeof s->path, "%s/socket", s->dir);
    snprintf(s->url, sizeof s->url, "unix:%s", s->path);
    const char *own[] = {"redis-server", "--port", "0", "--unixsocket", s->path, "--dir",
                         s->dir,         "--save", "",  "--logfile",    "log"};
    size_t n = sizeof own / sizeof *own;
    memcpy(s->args, own, sizeof own);
    va_list more;
    va_start(more, s);
    for (const char *a; n < REDIS_SERVER_ARGS && (a = va_arg(more, const char *));)
        s->args[n++] = a;
    va_end(more);
    redis_server_again(s);
}

/* kill -9; the directory stays for redis_server_again. */
static inline void redis_server_kill(struct redis_server *s) {
    if (s->pid <= 0) return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

static inline void redis_server_stop(struct redis_server *s) {
    char command[80];
    redis_server_kill(s);
    if (!*s->dir) return;
    snprintf(command, sizeof command, "rm -rf %s", s->dir);
    if (system(command)) perror(command);
    *s->dir = 0;
}

#endif
