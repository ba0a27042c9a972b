/*
 * whole: a temporary name, fsync, rename. A power cut leaves the old file or the new one.
 */
#define _DEFAULT_SOURCE
#include "lib/client/whole.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum err_kind cannot(const char *what, const char *path, struct err *e) {
    return err_fatal(e, "cannot %s %.120s: %s", what, path, strerror(errno));
}

static bool write_all(int fd, struct bytes data) {
    const char *p = data.data;
    while (data.len) {
        ssize_t n = write(fd, p, data.len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        p += n, data.len -= (size_t)n;
    }
    return true;
}

enum err_kind whole_write(const char *path, struct bytes data, struct err *e) {
    const char *name = strrchr(path, '/');
    struct buf temporary = {0};
    name = name ? name + 1 : path;
    /* Nothing of the name: whoever looks for names of a kind must not find what a kill left. */
    buf_printf(&temporary, "%.*s.new.%ld", (int)(name - path), path, (long)getpid());
    int fd = open(temporary.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    bool good = fd >= 0 && write_all(fd, data) && fsync(fd) == 0;
    if (!good) cannot("write", path, e);
    if (fd >= 0 && close(fd) != 0 && good) cannot("write", path, e);
    if (!e->kind && rename(temporary.data, path) != 0) cannot("write", path, e);
    if (e->kind && fd >= 0) unlink(temporary.data);
    buf_free(&temporary);
    return e->kind;
}

enum err_kind whole_folder(const char *path, struct err *e) {
    char *each = mem_copy(path, strlen(path));
    for (char *at = each + 1; !e->kind; at++) {
        char was = *at;
        if (was && was != '/') continue;
        *at = 0;
        struct stat st;
        if (mkdir(each, 0777) != 0 &&
            (errno != EEXIST || stat(each, &st) != 0 || !S_ISDIR(st.st_mode)))
            cannot("make the folder", each, e);
        *at = was;
        if (!was) break;
    }
    free(each);
    return e->kind;
}
