/* recipe: what a version was made with, to and from JSON. */
#define _GNU_SOURCE
#include "lib/learn/recipe.h"

#include "lib/base/json.h"
#include "lib/base/version.h"
#include "lib/nn/matmul.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

/* Raised by every change of lib/learn/study.c or lib/nn that gives other bits. */
enum { ARITHMETIC = 5 };

void recipe_machine(char text[200]) {
    char libc[40] = "";
    confstr(_CS_GNU_LIBC_VERSION, libc, sizeof libc); /* "glibc 2.36" */
    snprintf(text, 200, "darkroom %s arithmetic %d, %s, %s, %s", DARKROOM_VERSION, ARITHMETIC,
             COMPILER, libc, matmul_machine());
}

void recipe_encode(const struct spec *spec, int threads, struct buf *out) {
    struct json_writer w = json_begin(out);
    char text[200];
    recipe_machine(text);
    json_put_int(&w, "schema", MESSAGE_SCHEMA);
    json_put_text(&w, "machine", bytes_of(text));
    json_put_int(&w, "threads", threads);
    json_open_object(&w, "spec");
    for (const struct setting *s = spec_settings; s->name; s++) {
        const char *word = text;
        if (s->type == SETTING_TEXT)
            memcpy(&word, (const char *)spec + s->offset, sizeof word);
        else
            settings_get(s, spec, text, sizeof text);
        json_put_text(&w, s->name, bytes_of(word));
    }
    json_close_object(&w);
    json_end(&w);
}

static enum err_kind read_spec(const struct json *o, struct spec *spec, struct err *e) {
    if (!json_is_object(o)) return err_bad(e, REASON_BAD_MODEL_FILE, "the spec is no object");
    for (const struct setting *s = spec_settings; s->name; s++) {
        struct bytes value = bytes_of(s->preset);
        char text[200];
        if (json_get_text(o, s->name, false, &value, e)) return e->kind;
        snprintf(text, sizeof text, "%.*s", (int)value.len, (const char *)value.data);
        if (settings_put(s, spec, s->type == SETTING_TEXT ? s->preset : text, s->name, e))
            return e->kind;
    }
    return ERR_NONE;
}

static enum err_kind read_all(const struct json *o, struct recipe *r, struct err *e) {
    struct bytes machine = {0};
    int64_t threads = 0;
    if (json_get_text(o, "machine", true, &machine, e) ||
        json_get_int(o, "threads", true, &threads, e))
        return e->kind;
    if (threads < 1 || threads > 256)
        return err_bad(e, REASON_BAD_MODEL_FILE, "%lld threads", (long long)threads);
    snprintf(r->machine, sizeof r->machine, "%.*s", (int)machine.len, (const char *)machine.data);
    r->threads = (int)threads;
    return read_spec(json_member(o, "spec"), &r->spec, e);
}

enum err_kind recipe_decode(struct bytes json, struct recipe *r, struct err *e) {
    *r = (struct recipe){.threads = 0};
    err_clear(e);
    struct json *o = json_parse(json, e);
    if (o && read_all(o, r, e)) {
        char was[sizeof e->text];
        memcpy(was, e->text, sizeof was);
        err_bad(e, REASON_BAD_MODEL_FILE, "recipe: %.200s", was);
    }
    json_free(o);
    return e->kind;
}
