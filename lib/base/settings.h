/*
 * settings: a table names every setting once; environment variables, flags, --help and the README's
 * reference come from it. `batch-count` is --batch-count and DARKROOM_BATCH_COUNT; a flag wins over
 * the environment, which wins over the preset. For secrets DARKROOM_X_FILE names a file that holds
 * the value.
 */
#ifndef DARKROOM_BASE_SETTINGS_H
#define DARKROOM_BASE_SETTINGS_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

enum setting_type {
    SETTING_TEXT,   /* const char * */
    SETTING_SECRET, /* const char *; never printed */
    SETTING_CHOICE, /* int: index into `allowed`, words separated by '|' */
    SETTING_BOOL,   /* bool: true|false; as a flag alone, true */
    SETTING_INT,    /* int64_t, within least..most */
    SETTING_REAL,   /* double, within least..most */
    SETTING_SIZE,   /* int64_t bytes: 512, 64K, 16M, 1G */
    SETTING_TIME,   /* int64_t ms: 250ms, 5s, 10m, 2h, 7d */
};

struct setting {
    const char *name;
    enum setting_type type;
    size_t offset;       /* into the struct that settings_read fills */
    const char *preset;  /* as it would be typed; NULL for a text is NULL */
    const char *what;    /* one sentence, without its full stop */
    const char *allowed; /* of a SETTING_CHOICE */
    double least, most;  /* both 0: no bounds but those of the type */
    char letter;         /* short flag, 0 for none */
};
/* Tables end with {0}. */

struct settings_use {
    const struct setting *table;
    void *into;
};

/*
 * Fills every table's struct from presets, environment and argv, in this order. `uses` ends with
 * {0}. argv is permuted as getopt does; *first_operand is the index of the first word that is no
 * flag. -h and --help set *help and stop. An unknown flag or a wrong value is ERR_FATAL whose text
 * names the setting, where the value came from and what is allowed; the caller exits with 2. Texts
 * are borrowed from argv and the environment, or live as long as the process. A secret is painted
 * over in argv, which every user of the machine can see.
 */
enum err_kind settings_read(const struct settings_use *uses, int argc, char **argv,
                            int *first_operand, bool *help, struct err *e) MUST_CHECK;

/* One value as it would be typed; ERR_FATAL names `from`. For tables that are filled from
 * elsewhere. */
enum err_kind settings_put(const struct setting *s, void *into, const char *text, const char *from,
                           struct err *e) MUST_CHECK;

/* A value as settings_put takes it; not of a text or a secret. */
void settings_get(const struct setting *s, const void *from, char *text, size_t size);

/* Lines for --help, one a setting: flag, sentence, environment variable, preset. */
void settings_help(const struct setting *table, struct buf *out);
/* Rows of a Markdown table: | variable | flag | preset | what | */
void settings_reference(const struct setting *table, struct buf *out);

/* Every environment variable that begins with `prefix`, as property and value: DARKROOM_KAFKA_ACKS
   with the prefix DARKROOM_KAFKA_ calls back with ("acks", value); `_` becomes `.`, `__` becomes
   `_`. With _FILE behind it the value is read from that file. */
enum err_kind settings_properties(const char *prefix,
                                  enum err_kind (*each)(void *ctx, const char *property,
                                                        const char *value, struct err *e),
                                  void *ctx, struct err *e) MUST_CHECK;

#endif
