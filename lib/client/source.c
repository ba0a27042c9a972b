/*
 * source: finding images in folders and IDX files, and reading them.
 */
#define _DEFAULT_SOURCE
#include "lib/client/source.h"

#include "lib/base/clock.h"
#include "lib/client/ahead.h"
#include "lib/client/idx.h"
#include "lib/image/png.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct source_idx {
    int fd;
    int width, height;
    uint8_t *labels; /* NULL: none beside it */
};

/* FNV-1a and a finaliser: names that differ in their last digit land far apart. */
static uint64_t order_of(const char *name, int64_t index) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    h ^= (uint64_t)index * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 33) * 0xff51afd7ed558ccdu;
    h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}

static void stop_ahead(struct source *s) {
    ahead_stop(s->ahead);
    s->ahead = NULL;
}

static void add(struct source *s, struct source_image im) {
    stop_ahead(s);
    if (s->count == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 1024;
        s->images = mem_resize(s->images, s->cap * sizeof *s->images);
    }
    im.order = order_of(im.path + im.name_at, im.index);
    s->images[s->count++] = im;
}

/* ---- IDX ---- */

static bool is_idx_images(const char *path) {
    const char *name = strrchr(path, '/');
    return strstr(name ? name : path, "idx3-ubyte");
}
static bool is_idx_labels(const char *path) {
    const char *name = strrchr(path, '/');
    return strstr(name ? name : path, "idx1-ubyte");
}

/* Opens an IDX file and reads its header: the descriptor, or -1. */
static int idx_open(const char *path, int dims, int64_t sizes[3], struct err *e) {
    unsigned char head[IDX_HEADER_MAX];
    struct stat st;
    struct err why = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
    if (n < 0 || fstat(fd, &st)) err_fatal(e, "%s: %s", path, strerror(errno));
    else if (idx_header((struct bytes){head, (size_t)n}, st.st_size, dims, sizes, &why)) err_fatal(e, "%s: %s", path, why.text);
    if (e->kind && fd >= 0) close(fd);
    return e->kind ? -1 : fd;
}

/* The labels stand in the file of the same name with "labels-idx1" for "images-idx3". */
static enum err_kind read_labels(const char *images, int64_t count, uint8_t **out, struct err *e) {
    size_t at = (size_t)(strstr(strrchr(images, '/') ? strrchr(images, '/') : images, "idx3-ubyte") - images);
    char *path = mem_copy(images, strlen(images));
    memcpy(path + at, "idx1", 4);
    if (at >= 7 && (memcmp(path + at - 7, "images", 6) == 0)) memcpy(path + at - 7, "labels", 6);
    int64_t sizes[3] = {0};
    *out = NULL;
    if (access(path, F_OK) == 0) {
        int fd = idx_open(path, 1, sizes, e);
        if (fd >= 0 && sizes[0] != count)
            err_fatal(e, "%s has %lld labels for %lld images", path, (long long)sizes[0], (long long)count);
        *out = mem_alloc((size_t)count + 1);
        if (!e->kind && pread(fd, *out, (size_t)count, 8) != (ssize_t)count) err_fatal(e, "%s: cannot be read", path);
        if (fd >= 0) close(fd);
    }
    if (e->kind) {
        free(*out);
        *out = NULL;
    }
    free(path);
    return e->kind;
}

static enum err_kind add_idx(struct source *s, const char *path, size_t name_at, struct err *e) {
    int64_t sizes[3] = {0};
    struct source_idx file = {0};
    file.fd = idx_open(path, 3, sizes, e);
    if (file.fd < 0) return e->kind;
    if (read_labels(path, sizes[0], &file.labels, e)) {
        close(file.fd);
        return e->kind;
    }
    file.height = (int)sizes[1];
    file.width = (int)sizes[2];
    s->idx = mem_resize(s->idx, (s->idx_count + 1) * sizeof *s->idx);
    s->idx[s->idx_count] = file;
    const char *kept = arena_text(&s->names, bytes_of(path));
    for (int64_t i = 0; i < sizes[0]; i++)
        add(s, (struct source_image){.path = kept, .name_at = (uint32_t)name_at, .idx = (int32_t)s->idx_count, .index = i});
    s->idx_count++;
    return ERR_NONE;
}

/* ---- folders ---- */

static enum err_kind add_path(struct source *s, const char *path, size_t name_at, struct err *e) {
    if (is_idx_labels(path)) return ERR_NONE; /* read with their images */
    if (is_idx_images(path)) return add_idx(s, path, name_at, e);
    add(s, (struct source_image){.path = arena_text(&s->names, bytes_of(path)), .name_at = (uint32_t)name_at, .idx = -1});
    return ERR_NONE;
}

/* Without a known type (some file systems), or behind a link: ask. A link to a folder is left alone. */
static int type_of(const char *path, const struct dirent *entry) {
    struct stat st;
    if (entry->d_type == DT_DIR || entry->d_type == DT_REG) return entry->d_type;
    if (stat(path, &st)) return DT_REG; /* reading it will say why */
    if (S_ISREG(st.st_mode)) return DT_REG;
    return S_ISDIR(st.st_mode) && entry->d_type != DT_LNK ? DT_DIR : DT_UNKNOWN;
}

static enum err_kind add_folder(struct source *s, struct buf *path, size_t name_at, struct err *e) {
    DIR *d = opendir(path->data);
    if (!d) return err_fatal(e, "%s: %s", path->data, strerror(errno));
    size_t len = path->len;
    for (struct dirent *entry; !e->kind && (entry = readdir(d));) {
        if (entry->d_name[0] == '.') continue;
        buf_printf(path, "/%s", entry->d_name);
        int type = type_of(path->data, entry);
        if (type == DT_DIR) (void)!add_folder(s, path, name_at, e);
        else if (type == DT_REG) (void)!add_path(s, path->data, name_at, e);
        path->len = len;
        path->data[len] = 0;
    }
    closedir(d);
    return e->kind;
}

static size_t last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

enum err_kind source_add(struct source *s, const char *path, struct err *e) {
    struct stat st;
    if (stat(path, &st)) return err_fatal(e, "%s: %s", path, strerror(errno));
    if (S_ISREG(st.st_mode) && is_idx_labels(path))
        return err_fatal(e, "%s has labels only: name the file with the images, the labels are found beside it", path);
    if (S_ISREG(st.st_mode)) return add_path(s, path, last_name(path), e);
    if (!S_ISDIR(st.st_mode)) return err_fatal(e, "%s is neither a file nor a folder", path);
    struct buf b = {0};
    buf_add_text(&b, path);
    while (b.len > 1 && b.data[b.len - 1] == '/') b.data[--b.len] = 0;
    enum err_kind kind = add_folder(s, &b, b.len + 1, e);
    buf_free(&b);
    return kind;
}

void source_add_file(struct source *s, const char *top, const char *path) {
    size_t n = strlen(top);
    while (n > 1 && top[n - 1] == '/') n--;
    add(s, (struct source_image){.path = arena_text(&s->names, bytes_of(path)), .name_at = (uint32_t)n + 1, .idx = -1});
}

static int by_name(const void *a, const void *b) {
    const struct source_image *x = a, *y = b;
    int c = strcmp(x->path, y->path);
    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static int by_order(const void *a, const void *b) {
    const struct source_image *x = a, *y = b;
    return x->order != y->order ? (x->order > y->order) - (x->order < y->order) : by_name(a, b);
}

void source_sort(struct source *s, bool shuffle) {
    stop_ahead(s);
    if (s->count) qsort(s->images, s->count, sizeof *s->images, shuffle ? by_order : by_name);
}

void source_clear(struct source *s) {
    stop_ahead(s);
    s->count = 0;
    arena_reset(&s->names);
}

void source_free(struct source *s) {
    stop_ahead(s);
    for (size_t i = 0; i < s->idx_count; i++) {
        close(s->idx[i].fd);
        free(s->idx[i].labels);
    }
    free(s->idx);
    free(s->pixels);
    free(s->images);
    arena_free(&s->names);
    *s = (struct source){0};
}

/* ---- one image ---- */

const char *source_name(const struct source *s, const struct source_image *im) {
    static char text[4096];
    const char *name = im->path + im->name_at;
    if (im->idx < 0) return name;
    snprintf(text, sizeof text, "%s#%lld", name, (long long)im->index);
    return text;
}

struct bytes source_label_of(const char *name) {
    const char *end = strrchr(name, '/'), *begin = end;
    if (!end) return (struct bytes){0};
    while (begin > name && begin[-1] != '/') begin--;
    return (struct bytes){begin, (size_t)(end - begin)};
}

struct bytes source_label(const struct source *s, const struct source_image *im) {
    static char text[8];
    if (im->idx < 0) return source_label_of(im->path + im->name_at);
    const uint8_t *labels = s->idx[im->idx].labels;
    if (!labels) return (struct bytes){0};
    snprintf(text, sizeof text, "%d", labels[im->index]);
    return bytes_of(text);
}

static enum err_kind read_idx(struct source *s, const struct source_image *im, struct buf *out, struct err *e) {
    const struct source_idx *file = &s->idx[im->idx];
    size_t n = (size_t)file->width * (size_t)file->height;
    s->pixels = mem_resize(s->pixels, n);
    if (pread(file->fd, s->pixels, n, IDX_HEADER_MAX + im->index * (int64_t)n) != (ssize_t)n)
        return err_bad(e, REASON_NONE, "%s: cannot be read", im->path);
    struct image image = {.width = file->width, .height = file->height, .channels = 1, .pixels = s->pixels};
    return image_encode(&image, out, e);
}

static enum err_kind read_file(const struct source_image *im, int64_t most, bool any, struct buf *out, struct err *e) {
    static const unsigned char signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    enum { FIRST = 4096 }; /* enough for many whole files */
    struct stat st;
    int fd = open(im->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_bad(e, REASON_NONE, "%s", strerror(errno));
    buf_reserve(out, FIRST);
    ssize_t n = read(fd, out->data, FIRST);
    if (n > 0) out->len = (size_t)n;
    bool png = out->len >= sizeof signature && memcmp(out->data, signature, sizeof signature) == 0;
    if (n >= 0 && !png && !any) {
        err_bad(e, REASON_NOT_PNG, "not a PNG file");
    } else if (n == FIRST && fstat(fd, &st) == 0 && st.st_size > most) {
        err_bad(e, REASON_TOO_LARGE, "%lld bytes: at most %lld are possible", (long long)st.st_size, (long long)most);
    } else {
        while (n > 0 && (n == FIRST || out->len > FIRST) && (int64_t)out->len <= most) {
            buf_reserve(out, 1 << 16);
            n = read(fd, out->data + out->len, 1 << 16);
            if (n > 0) out->len += (size_t)n;
        }
        if (n < 0) err_bad(e, REASON_NONE, "%s", strerror(errno));
    }
    close(fd);
    return e->kind;
}

static const char *path_of(const void *ctx, size_t i) {
    const struct source *s = ctx;
    return s->images[i].idx < 0 ? s->images[i].path : NULL;
}

enum err_kind source_read(struct source *s, const struct source_image *im, int64_t most, bool any,
                          struct buf *out, struct err *e) {
    enum { TRIED = 100, SLOW_US = 150 }; /* a file that the kernel has in memory takes 10 us */
    buf_clear(out);
    err_clear(e);
    if (im->idx >= 0) return read_idx(s, im, out, e);
    size_t i = (size_t)(im - s->images);
    int64_t start = clock_monotonic_us();
    (void)!read_file(im, most, any, out, e);
    s->read_us += clock_monotonic_us() - start;
    if (s->ahead) ahead_at(s->ahead, i);
    else if (++s->reads % TRIED == 0 && s->read_us > s->reads * SLOW_US) s->ahead = ahead_start(path_of, s, s->count, i);
    return e->kind;
}
