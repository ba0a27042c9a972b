/*
 * The models' file: what is taken has every field of every model within its bounds, and gives every model
 * that it names a spec of its own; what is refused says where.
 */
#define _GNU_SOURCE
#include "lib/learn/spec.h"

#include "lib/base/json.h"
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

static void holds_of_spec(const struct spec *s) {
    for (const struct setting *f = spec_settings; f->name; f++) {
        const void *field = (const char *)s + f->offset;
        if (f->least == 0 && f->most == 0) continue;
        double v =
            f->type == SETTING_REAL ? *(const double *)field : (double)*(const int64_t *)field;
        HOLDS(v >= f->least && v <= f->most);
    }
    HOLDS(s->channels == 1 || s->channels == 3);
    HOLDS(s->keep_age_ms >= 0);
    struct net_spec net;
    struct augment how = spec_augment(s);
    HOLDS(how.rotate >= 0 && how.scale >= 0 && how.shear >= 0 && how.shift >= 0);
    HOLDS(how.elastic >= 0 && how.flip >= 0 && how.flip <= 1 && how.crop >= 0 && how.color >= 0);
    HOLDS(s->alpha >= 0 && s->alpha <= 1 && !spec_net(s, &net, &(struct err){0}));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("models", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    HOLDS(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    struct err e = {0};
    struct specs *s = specs_load(path, &e);
    if (!s) {
        HOLDS(e.kind == ERR_FATAL && strstr(e.text, path));
        return 0;
    }
    struct json *root = json_parse((struct bytes){data, size}, &e);
    HOLDS(root);
    for (const struct json *v = json_first(json_member(root, "models")); v; v = json_next(v)) {
        const struct spec *of = specs_of(s, bytes_of(json_name(v)));
        HOLDS(of != specs_of(s, BYTES("No name of a model's")));
        holds_of_spec(of);
    }
    holds_of_spec(specs_of(s, BYTES("No name of a model's")));
    HOLDS(specs_largest(s) <= 3 << 20);
    json_free(root);
    specs_free(s);
    return 0;
}
