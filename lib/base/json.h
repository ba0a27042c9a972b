/*
 * json: reading (cJSON behind it) and writing (our own: a flat message is appended to a buffer
 * without a tree, and a probability as a fixed fraction; cJSON_Print would cost predict more than
 * its network).
 *
 * Reading is strict where it matters: the text must be UTF-8 and one whole value of at most
 * JSON_DEPTH levels, names are told apart by case; a name that comes twice, a control character and
 * a number past a double are refused. Unknown names are ignored. Whole numbers that may pass 2^53
 * (offsets, counts) travel as strings; json_get_int takes both forms.
 */
#ifndef DARKROOM_BASE_JSON_H
#define DARKROOM_BASE_JSON_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

enum { JSON_DEPTH = 32 };

struct json; /* one value, borrowed from the root that json_parse gave */

/* NULL and ERR_BAD (bad-message) when the text is not JSON. Free the root with json_free. */
struct json *json_parse(struct bytes text, struct err *e);
void json_free(struct json *root); /* NULL is fine */

/* The value as compact JSON, appended. */
void json_print(const struct json *v, struct buf *to);

/* A member of an object, or NULL. */
const struct json *json_member(const struct json *object, const char *name);
bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_null(const struct json *v);
/* Walk: first child of an array or object, then its next; json_name is a member's name. */
const struct json *json_first(const struct json *v);
const struct json *json_next(const struct json *v);
const char *json_name(const struct json *v);
size_t json_count(const struct json *v);

/*
 * Typed reading of object[name]. Absent or null: ERR_NONE and *out untouched when `need` is false,
 * else ERR_BAD naming the member. A wrong type is always ERR_BAD. Texts are borrowed from the root.
 */
enum err_kind json_get_text(const struct json *o, const char *name, bool need, struct bytes *out,
                            struct err *e) MUST_CHECK;
enum err_kind json_get_int(const struct json *o, const char *name, bool need, int64_t *out,
                           struct err *e) MUST_CHECK;
enum err_kind json_get_real(const struct json *o, const char *name, bool need, double *out,
                            struct err *e) MUST_CHECK;
enum err_kind json_get_bool(const struct json *o, const char *name, bool need, bool *out,
                            struct err *e) MUST_CHECK;
/* A value by itself, as an element of an array. */
enum err_kind json_as_text(const struct json *v, struct bytes *out, struct err *e) MUST_CHECK;
enum err_kind json_as_real(const struct json *v, double *out, struct err *e) MUST_CHECK;

/*
 * Writing, compact, appended to `to`. Members of an object take a name; elements of an array take
 * NULL. Bytes that are no UTF-8, and NULs, which no reader of C takes, are replaced by U+FFFD.
 */
struct json_writer {
    struct buf *to;
    bool comma;
};
struct json_writer json_begin(struct buf *to); /* opens the outermost object */
void json_end(struct json_writer *w);          /* closes it */
void json_open_object(struct json_writer *w, const char *name);
void json_close_object(struct json_writer *w);
void json_open_array(struct json_writer *w, const char *name);
void json_close_array(struct json_writer *w);
void json_put_text(struct json_writer *w, const char *name, struct bytes text);
void json_put_int(struct json_writer *w, const char *name, int64_t value);
void json_put_real(struct json_writer *w, const char *name,
                   double value); /* shortest that reads back */
void json_put_fraction(struct json_writer *w, const char *name,
                       double value); /* 0..1, six places */
void json_put_bool(struct json_writer *w, const char *name, bool value);
void json_put_null(struct json_writer *w, const char *name);
void json_put_raw(struct json_writer *w, const char *name, struct bytes json); /* already JSON */
void json_quote(struct buf *to, struct bytes text);                            /* `"…"` alone */

#endif
