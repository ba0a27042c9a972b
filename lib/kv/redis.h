/*
 * redis: commands to a Redis server and their replies, in pipelines; the one door to hiredis.
 *
 * A pipeline is redis_put, put, put, then redis_next as many times. Queued commands are sent in
 * pieces of REDIS_PIECE bytes, so a pipeline of any length needs little memory here; the server
 * keeps the replies that are not yet read.
 *
 * How it fails: any error that a function here returns ends the pipeline, and all that is queued
 * and unread is dropped, so a late reply is never taken for another's. The connection comes again,
 * with AUTH and SELECT, by itself at the next use. ERR_AGAIN is what waiting or an operator can
 * heal: no connection, no answer in time, a server that loads, is full, or refuses the password.
 * ERR_FATAL is a command that the server does not understand. Whether a command that was under way
 * has been done cannot be known: what is sent must be repeatable. SIGPIPE is ignored in the whole
 * process from redis_open on, because a server that goes away in the middle of a write would end
 * it.
 */
#ifndef DARKROOM_KV_REDIS_H
#define DARKROOM_KV_REDIS_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

struct redis;

enum { REDIS_PIECE = 256 << 10 };

struct redis_conf {
    /* redis://[user:password@]host[:port][/db], rediss:// the same with TLS, unix:/path[?db=N] or
       unix://[user:password@]/path[?db=N]. User and password may be %-encoded; the user may be
       empty. TLS checks who signed the certificate, not the host name in it: hiredis cannot. */
    const char *url;
    int connect_ms, timeout_ms; /* of a connection (0: 2 s); of one write or read (0: 5 s) */
    const char *ca_file;        /* PEM, for rediss://; NULL: the system's */
};

/* Parses only, the first use connects. NULL and ERR_FATAL when the URL is not one of the above; no
   text ever has the password in it. */
struct redis *redis_open(const struct redis_conf *conf, struct err *e);
void redis_close(struct redis *r);              /* NULL is fine */
const char *redis_where(const struct redis *r); /* "host:port" or the socket's path, for messages */

enum redis_type { REDIS_NIL, REDIS_TEXT, REDIS_INTEGER, REDIS_ARRAY, REDIS_ERROR };

struct redis_reply {
    enum redis_type type;
    struct bytes text;               /* of TEXT (also a status, as OK) and ERROR */
    int64_t integer;                 /* of INTEGER */
    size_t count;                    /* of ARRAY */
    const struct redis_reply *items; /* count replies */
};

/* Queues one command; argv is copied. An error of sending is told by the next redis_flush or
   redis_next, and what is put until then is dropped. */
void redis_put(struct redis *r, int argc, const struct bytes *argv);
/* Sends all that is queued. redis_next does it by itself. */
enum err_kind redis_flush(struct redis *r, struct err *e) MUST_CHECK;
/* The reply to the oldest command that has none yet. *out is borrowed until the next call with `r`.
   REDIS_ERROR is seen only for NOSCRIPT and inside arrays; other server errors are returned. */
enum err_kind redis_next(struct redis *r, struct redis_reply *out, struct err *e) MUST_CHECK;
/* Replies that redis_next still has to give. */
size_t redis_unread(const struct redis *r);
/* Drops what is queued and unread: for a caller who gives a pipeline up. */
void redis_reset(struct redis *r);

/* One command and its reply. A pipeline that was not read to its end is dropped first. */
enum err_kind redis_do(struct redis *r, struct redis_reply *out, struct err *e, int argc,
                       const struct bytes *argv) MUST_CHECK;

/* A Lua script, loaded when the server does not have it. */
struct redis_script {
    const char *source;
    char sha[41]; /* "" until it was loaded; for a pipeline of EVALSHA */
};
/* SCRIPT LOAD; fills s->sha. */
enum err_kind redis_load(struct redis *r, struct redis_script *s, struct err *e) MUST_CHECK;
/* argv: the keys, then the arguments. */
enum err_kind redis_script(struct redis *r, struct redis_script *s, struct redis_reply *out,
                           struct err *e, int keys, int argc, const struct bytes *argv) MUST_CHECK;

enum err_kind redis_ping(struct redis *r, struct err *e) MUST_CHECK;
/* ERR_AGAIN when the server may throw keys away to make room (a maxmemory-policy other than
   noeviction), or still loads. Sets *durable to whether it writes an append-only file. Asks INFO,
   which needs no rights to CONFIG. */
enum err_kind redis_check(struct redis *r, bool *durable, struct err *e) MUST_CHECK;

#endif
