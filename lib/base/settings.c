/* settings: one walk over the tables for presets and environment, one getopt_long for the flags. */
#define _GNU_SOURCE
#include "lib/base/settings.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static void variable_name(const struct setting *s, char *out, size_t size) {
    int n = snprintf(out, size, "DARKROOM_%s", s->name);
    for (int i = 0; i < n && out[i]; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

/* Texts of files: kept for the process's life. */
static struct arena kept;

/* The whole file less the line ends behind it; NULL when it cannot be read. */
static const char *read_file(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) return NULL;
    struct buf b = {0};
    char piece[4096];
    size_t n;
    while ((n = fread(piece, 1, sizeof piece, f)) > 0) buf_add(&b, piece, n);
    bool bad = ferror(f);
    int error = errno;
    fclose(f);
    errno = error;
    while (b.len && (b.data[b.len - 1] == '\n' || b.data[b.len - 1] == '\r')) b.len--;
    const char *text = bad ? NULL : arena_text(&kept, buf_bytes(&b));
    buf_free(&b);
    return text;
}

struct unit {
    const char *suffix;
    double factor;
};
static const struct unit sizes[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {0}};
static const struct unit times[] = {{"ms", 1},    {"s", 1e3},    {"m", 6e4},
                                    {"h", 3.6e6}, {"d", 8.64e7}, {0}};

static bool with_unit(const char *text, const struct unit *units, double *out) {
    char *end;
    double n = strtod(text, &end);
    if (end == text || !(n >= 0)) return false;
    for (; units->suffix; units++)
        if (strcasecmp(end, units->suffix) == 0) {
            *out = n * units->factor;
            return *out < 9e18; /* fits an int64_t */
        }
    return false;
}

static bool choice(const char *allowed, const char *text, int *index) {
    size_t len = strlen(text);
    for (int i = 0; *allowed; i++) {
        size_t n = strcspn(allowed, "|");
        if (n == len && memcmp(allowed, text, n) == 0) {
            *index = i;
            return true;
        }
        allowed += n + (allowed[n] == '|');
    }
    return false;
}

/* What may stand there, for the error and --help. */
static void allowed_text(const struct setting *s, char *out, size_t size) {
    bool bounded = s->least != 0 || s->most != 0;
    switch (s->type) {
    case SETTING_CHOICE: snprintf(out, size, "one of %s", s->allowed); return;
    case SETTING_BOOL: snprintf(out, size, "true or false"); return;
    case SETTING_SIZE: snprintf(out, size, "a size like 512, 64K, 16M or 1G"); break;
    case SETTING_TIME: snprintf(out, size, "a time like 250ms, 5s, 10m, 2h or 7d"); break;
    case SETTING_INT: snprintf(out, size, "a whole number"); break;
    case SETTING_REAL: snprintf(out, size, "a number"); break;
    default: snprintf(out, size, "a text"); return;
    }
    size_t n = strlen(out);
    const char *unit = s->type == SETTING_TIME ? " ms" : s->type == SETTING_SIZE ? " bytes" : "";
    if (bounded) snprintf(out + n, size - n, " from %.10g to %.10g%s", s->least, s->most, unit);
}

static bool put(const struct setting *s, void *into, const char *text) {
    void *field = (char *)into + s->offset;
    double n = 0;
    char *end;
    bool bounded = s->least != 0 || s->most != 0;
    switch (s->type) {
    case SETTING_TEXT:
    case SETTING_SECRET: memcpy(field, &text, sizeof text); return true;
    case SETTING_CHOICE: return choice(s->allowed, text, field);
    case SETTING_BOOL: {
        int yes;
        if (!choice("false|true", text, &yes)) return false;
        *(bool *)field = yes;
        return true;
    }
    case SETTING_INT: {
        errno = 0;
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno) return false;
        if (bounded && ((double)v < s->least || (double)v > s->most)) return false;
        *(int64_t *)field = v;
        return true;
    }
    case SETTING_REAL: /* ERANGE is said of the smallest numbers too; too large ones are infinite */
        n = strtod(text, &end);
        if (end == text || *end || !isfinite(n)) return false;
        if (bounded && !(n >= s->least && n <= s->most)) return false;
        *(double *)field = n;
        return true;
    case SETTING_SIZE:
    case SETTING_TIME:
        if (!with_unit(text, s->type == SETTING_SIZE ? sizes : times, &n)) return false;
        if (bounded && !(n >= s->least && n <= s->most)) return false;
        *(int64_t *)field = (int64_t)n;
        return true;
    }
    return false;
}

enum err_kind settings_put(const struct setting *s, void *into, const char *text, const char *from,
                           struct err *e) {
    if (put(s, into, text)) return ERR_NONE;
    char allowed[160];
    allowed_text(s, allowed, sizeof allowed);
    return err_fatal(e, "%s is \"%.60s\": it must be %s", from,
                     s->type == SETTING_SECRET ? "(secret)" : text, allowed);
}

/* What the variable names is not repeated: it may be the secret itself, put into the wrong one. */
static enum err_kind unreadable(struct err *e, const char *variable) {
    return err_fatal(e, "%s names a file that cannot be read: %s", variable, strerror(errno));
}

/* The argument as it will be kept; what every user of the machine can see of the process's
   arguments is painted over. */
static const char *take_secret(char *argument) {
    const char *copy = arena_text(&kept, bytes_of(argument));
    memset(argument, 'x', strlen(argument));
    return copy;
}

void settings_get(const struct setting *s, const void *from, char *text, size_t size) {
    const char *at = (const char *)from + s->offset;
    const char *word = s->allowed;
    switch (s->type) {
    case SETTING_CHOICE:
        for (int i = *(const int *)at; i > 0; i--) word = strchr(word, '|') + 1;
        snprintf(text, size, "%.*s", (int)strcspn(word, "|"), word);
        break;
    case SETTING_BOOL: snprintf(text, size, "%s", *(const bool *)at ? "true" : "false"); break;
    case SETTING_INT:
    case SETTING_SIZE: snprintf(text, size, "%lld", (long long)*(const int64_t *)at); break;
    case SETTING_TIME: snprintf(text, size, "%lldms", (long long)*(const int64_t *)at); break;
    case SETTING_REAL: snprintf(text, size, "%.17g", *(const double *)at); break;
    case SETTING_TEXT:
    case SETTING_SECRET: *text = 0; break;
    }
}

static enum err_kind from_environment(const struct setting *s, void *into, struct err *e) {
    char name[80], file_name[96];
    variable_name(s, name, sizeof name);
    const char *value = getenv(name);
    if (!value && s->type == SETTING_SECRET) {
        snprintf(file_name, sizeof file_name, "%s_FILE", name);
        const char *path = getenv(file_name);
        if (path && !(value = read_file(path))) return unreadable(e, file_name);
    }
    return value ? settings_put(s, into, value, name, e) : ERR_NONE;
}

enum { FLAG_BASE = 1000, MAX_FLAGS = 128 };

enum err_kind settings_read(const struct settings_use *uses, int argc, char **argv,
                            int *first_operand, bool *help, struct err *e) {
    struct option flags[MAX_FLAGS + 2] = {{"help", no_argument, NULL, 'h'}};
    const struct setting *of[MAX_FLAGS + 1] = {0};
    void *into[MAX_FLAGS + 1] = {0};
    char letters[2 * MAX_FLAGS + 8] = ":h";
    size_t n = 1;
    *help = false;
    for (const struct settings_use *u = uses; u->table; u++)
        for (const struct setting *s = u->table; s->name; s++) {
            if (n >= MAX_FLAGS)
                return err_fatal(e, "more than %d settings in one program", MAX_FLAGS);
            if (s->preset && settings_put(s, u->into, s->preset, s->name, e)) return e->kind;
            if (from_environment(s, u->into, e)) return e->kind;
            bool word = s->type != SETTING_BOOL;
            flags[n] = (struct option){s->name, word ? required_argument : optional_argument, NULL,
                                       FLAG_BASE + (int)n};
            if (s->letter) {
                size_t end = strlen(letters);
                letters[end] = s->letter;
                letters[end + 1] = word ? ':' : 0;
                letters[end + 2] = 0;
            }
            of[n] = s;
            into[n++] = u->into;
        }
    optind = 0; /* glibc: start again, also in the same process */
    for (;;) {
        int index = -1, c = getopt_long(argc, argv, letters, flags, &index);
        if (c == -1) break;
        if (c == 'h') {
            *help = true;
            return ERR_NONE;
        }
        if (c == '?' || c == ':') {
            const char *word = argv[optind - 1]; /* without its value: that may be a secret */
            size_t len = strcspn(word, "=");
            return err_fatal(e,
                             c == '?' ? "there is no flag %.*s (--help lists them)"
                                      : "the flag %.*s needs a value",
                             len < 60 ? (int)len : 60, word);
        }
        size_t i = c >= FLAG_BASE ? (size_t)(c - FLAG_BASE) : 1;
        while (c < FLAG_BASE && i < n && of[i]->letter != c) i++;
        char from[64];
        snprintf(from, sizeof from, "--%s", of[i]->name);
        const char *text = optarg ? optarg : "true";
        if (of[i]->type == SETTING_SECRET) text = take_secret(optarg);
        if (settings_put(of[i], into[i], text, from, e)) return e->kind;
    }
    *first_operand = optind;
    return ERR_NONE;
}

void settings_help(const struct setting *table, struct buf *out) {
    for (const struct setting *s = table; s->name; s++) {
        char variable[80], allowed[160], flag[80];
        variable_name(s, variable, sizeof variable);
        allowed_text(s, allowed, sizeof allowed);
        if (s->letter)
            snprintf(flag, sizeof flag, "-%c, --%s", s->letter, s->name);
        else
            snprintf(flag, sizeof flag, "--%s", s->name);
        buf_printf(out, "  %-24s %s", flag, s->what);
        if (s->type == SETTING_CHOICE) buf_printf(out, ": %s", allowed);
        if (s->preset && *s->preset) buf_printf(out, " [%s]", s->preset);
        buf_printf(out, "\n  %-24s %s\n", "", variable);
    }
}

void settings_reference(const struct setting *table, struct buf *out) {
    for (const struct setting *s = table; s->name; s++) {
        char variable[80], allowed[160];
        variable_name(s, variable, sizeof variable);
        allowed_text(s, allowed, sizeof allowed);
        for (char *p; (p = strchr(allowed, '|'));) *p = '/'; /* a bar would end the cell */
        buf_printf(out, "| `%s` | `--%s` | %s%s%s | %s", variable, s->name,
                   s->preset && *s->preset ? "`" : "", s->preset && *s->preset ? s->preset : "none",
                   s->preset && *s->preset ? "`" : "", s->what);
        if (s->type != SETTING_TEXT && s->type != SETTING_SECRET) buf_printf(out, " (%s)", allowed);
        buf_add_text(out, " |\n");
    }
}

enum err_kind settings_properties(const char *prefix,
                                  enum err_kind (*each)(void *ctx, const char *property,
                                                        const char *value, struct err *e),
                                  void *ctx, struct err *e) {
    size_t prefix_len = strlen(prefix);
    for (char **v = environ; v && *v; v++) {
        const char *equals = strchr(*v, '=');
        if (!equals || strncmp(*v, prefix, prefix_len) != 0) continue;
        const char *name = *v + prefix_len, *value = equals + 1;
        size_t len = (size_t)(equals - name);
        if (len > 5 && memcmp(name + len - 5, "_FILE", 5) == 0) {
            if (!(value = read_file(equals + 1)))
                return unreadable(e, arena_text(&kept, (struct bytes){*v, (size_t)(equals - *v)}));
            len -= 5;
        }
        char property[128];
        size_t n = 0;
        for (size_t i = 0; i < len && n + 1 < sizeof property; i++) {
            if (name[i] == '_' && i + 1 < len && name[i + 1] == '_')
                property[n++] = '_', i++;
            else
                property[n++] = name[i] == '_' ? '.' : (char)tolower((unsigned char)name[i]);
        }
        property[n] = 0;
        if (each(ctx, property, value, e)) return e->kind;
    }
    return ERR_NONE;
}
