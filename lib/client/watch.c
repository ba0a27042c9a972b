/*
 * watch: inotify over folder trees. A folder is watched first and listed then, so nothing falls between;
 * what the listing finds may be half-written, and waits until it is two seconds old: whoever still writes
 * it will close it, which is told by inotify. When the kernel's queue overflows, all is listed again.
 */
#define _DEFAULT_SOURCE
#include "lib/client/watch.h"

#include "lib/base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SETTLED_MS = 2000, EVENTS = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR | IN_EXCL_UNLINK };

struct place {
    int number; /* inotify's, of a folder */
    char *path;
    size_t top; /* which of the tops */
};

struct places {
    struct place *list;
    size_t count, cap;
};

struct watch {
    int fd;
    struct places tops, folders, waiting; /* waiting: files that may be half-written */
};

static void places_add(struct places *p, int number, const char *path, size_t top) {
    if (p->count == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->list = mem_resize(p->list, p->cap * sizeof *p->list);
    }
    p->list[p->count++] = (struct place){number, mem_copy(path, strlen(path)), top};
}

static void places_free(struct places *p) {
    for (size_t i = 0; i < p->count; i++) free(p->list[i].path);
    free(p->list);
}

struct watch *watch_open(struct err *e) {
    struct watch *w = mem_zeroed(1, sizeof *w);
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->fd >= 0) return w;
    err_fatal(e, "cannot watch folders: %s", strerror(errno));
    watch_close(w);
    return NULL;
}

void watch_close(struct watch *w) {
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    places_free(&w->tops);
    places_free(&w->folders);
    places_free(&w->waiting);
    free(w);
}

static enum err_kind add_folder(struct watch *w, const char *path, size_t top, struct err *e) {
    int number = inotify_add_watch(w->fd, path, EVENTS);
    if (number < 0 && errno == ENOENT && strcmp(path, w->tops.list[top].path) != 0) return ERR_NONE; /* gone again */
    if (number < 0)
        return err_fatal(e, "cannot watch %s: %s%s", path, strerror(errno),
                         errno == ENOSPC ? " (raise the sysctl fs.inotify.max_user_watches)" : "");
    bool known = false;
    for (size_t i = 0; i < w->folders.count && !known; i++) known = w->folders.list[i].number == number;
    if (!known) places_add(&w->folders, number, path, top);
    DIR *d = opendir(path);
    if (!d) return errno == ENOENT ? ERR_NONE : err_fatal(e, "%s: %s", path, strerror(errno));
    struct buf b = {0};
    for (struct dirent *entry; !e->kind && (entry = readdir(d));) {
        struct stat st;
        if (entry->d_name[0] == '.') continue;
        buf_clear(&b);
        buf_printf(&b, "%s/%s", path, entry->d_name);
        if (stat(b.data, &st)) continue;
        if (S_ISDIR(st.st_mode) && entry->d_type != DT_LNK) (void)!add_folder(w, b.data, top, e);
        else if (S_ISREG(st.st_mode)) places_add(&w->waiting, 0, b.data, top);
    }
    buf_free(&b);
    closedir(d);
    return e->kind;
}

enum err_kind watch_add(struct watch *w, const char *top, struct err *e) {
    char *path = mem_copy(top, strlen(top));
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/';) path[--n] = 0;
    places_add(&w->tops, 0, path, w->tops.count);
    enum err_kind kind = add_folder(w, path, w->tops.count - 1, e);
    free(path);
    return kind;
}

static enum err_kind list_again(struct watch *w, struct err *e) {
    for (size_t i = 0; i < w->tops.count && !e->kind; i++) (void)!add_folder(w, w->tops.list[i].path, i, e);
    return e->kind;
}

static int64_t age_ms(const char *path) {
    struct stat st;
    if (stat(path, &st)) return -1;
    return clock_now_ms() - ((int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
}

/* Gives out what has been left alone long enough, forgets what is gone, keeps the rest. */
static void give_out_settled(struct watch *w, void (*found)(void *, const char *, const char *), void *ctx) {
    size_t kept = 0;
    for (size_t i = 0; i < w->waiting.count; i++) {
        struct place *f = &w->waiting.list[i];
        int64_t age = age_ms(f->path);
        if (age >= 0 && age < SETTLED_MS) {
            w->waiting.list[kept++] = *f;
            continue;
        }
        if (age >= 0) found(ctx, w->tops.list[f->top].path, f->path);
        free(f->path);
    }
    w->waiting.count = kept;
}

static enum err_kind take_event(struct watch *w, const struct inotify_event *event,
                                void (*found)(void *, const char *, const char *), void *ctx, struct err *e) {
    if (event->mask & IN_Q_OVERFLOW) return list_again(w, e);
    struct places *folders = &w->folders;
    size_t i = 0;
    while (i < folders->count && folders->list[i].number != event->wd) i++;
    if (i == folders->count) return ERR_NONE;
    if (event->mask & IN_IGNORED) { /* the folder is gone */
        free(folders->list[i].path);
        folders->list[i] = folders->list[--folders->count];
        return ERR_NONE;
    }
    if (!event->len || event->name[0] == '.') return ERR_NONE;
    struct buf b = {0};
    size_t top = folders->list[i].top;
    buf_printf(&b, "%s/%s", folders->list[i].path, event->name);
    if (event->mask & IN_ISDIR) (void)!add_folder(w, b.data, top, e);
    else if (event->mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) found(ctx, w->tops.list[top].path, b.data);
    buf_free(&b);
    return e->kind;
}

enum err_kind watch_poll(struct watch *w, int wait_ms, void (*found)(void *ctx, const char *top, const char *path),
                         void *ctx, struct err *e) {
    _Alignas(struct inotify_event) char events[1 << 16];
    struct pollfd ready = {.fd = w->fd, .events = POLLIN};
    give_out_settled(w, found, ctx);
    if (poll(&ready, 1, wait_ms) <= 0) return ERR_NONE; /* also when a signal came */
    ssize_t n = read(w->fd, events, sizeof events);
    for (ssize_t at = 0; at < n && !e->kind;) {
        const struct inotify_event *event = (const void *)(events + at);
        (void)!take_event(w, event, found, ctx, e);
        at += (ssize_t)sizeof *event + event->len;
    }
    return e->kind;
}
