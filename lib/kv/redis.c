/*
 * A context of hiredis is dead after its first error, so there is one way out of every failure:
 * drop(), which closes it and forgets what was queued and owed. Commands are formatted here,
 * straight into one buffer, and handed to hiredis a piece at a time: it would otherwise move all
 * that is unsent after every partial write.
 */
#define _GNU_SOURCE
#include "lib/kv/redis.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#ifdef HAVE_HIREDIS_SSL
#include <hiredis/hiredis_ssl.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

struct redis {
    /* fixed after redis_open */
    char *host, *path; /* one of them is NULL */
    char *user, *password;
    char *ca_file;
    char *where;
    int port, db;
    int connect_ms, timeout_ms;
    bool tls;
#ifdef HAVE_HIREDIS_SSL
    redisSSLContext *tls_context; /* made at the first connection, which refers to it */
#endif
    /* of the connection */
    redisContext *context; /* NULL: none */
    struct buf out;        /* commands that hiredis does not have yet */
    size_t unread;         /* commands put and not answered */
    struct err lost;       /* redis_put could not send; kind ERR_NONE: all is well */
    /* of the last reply */
    redisReply *held;
    struct arena items;
};

/* ---- the URL ---- */

static const char FORMS[] = "redis://[user:password@]host[:port][/db], rediss:// for TLS, or "
                            "unix:/path[?db=N]";

static int hex_digit(char c) {
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* %-decoded; NULL when a % is not followed by two digits, or for a NUL. */
static char *decoded(const char *from, size_t len) {
    char *out = mem_alloc(len + 1), *to = out;
    for (size_t i = 0; i < len; i++) {
        char c = from[i];
        if (c == '%') {
            int high = i + 2 < len ? hex_digit(from[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(from[i + 2]) : -1;
            if (low < 0 || !(high | low)) {
                free(out);
                return NULL;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        *to++ = c;
    }
    *to = 0;
    return out;
}

/* A whole number from 0 to `most` and nothing else; -1 when it is none. */
static int number(const char *text, size_t len, int most) {
    int v = 0;
    if (!len) return -1;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        v = v * 10 + (text[i] - '0');
        if (v > most) return -1;
    }
    return v;
}

/* "user:password@" in front of *rest, which is moved behind it. */
static const char *parse_user(struct redis *r, const char **rest, size_t authority) {
    const char *at = memrchr(*rest, '@', authority);
    if (!at) return NULL;
    const char *colon = memchr(*rest, ':', (size_t)(at - *rest));
    if (!colon) return "a user without a password";
    if (colon > *rest && !(r->user = decoded(*rest, (size_t)(colon - *rest))))
        return "a wrong % in the user";
    if (!(r->password = decoded(colon + 1, (size_t)(at - colon - 1))))
        return "a wrong % in the password";
    *rest = at + 1;
    return NULL;
}

static const char *parse_host(struct redis *r, const char *rest) {
    size_t authority = strcspn(rest, "/?#");
    const char *end = rest + authority;
    const char *wrong = parse_user(r, &rest, authority);
    if (wrong) return wrong;
    const char *host = rest, *colon;
    size_t host_len;
    if (*rest == '[') { /* IPv6 */
        const char *close = memchr(rest, ']', (size_t)(end - rest));
        if (!close) return "a [ without its ]";
        host++;
        host_len = (size_t)(close - host);
        colon = close + 1;
    } else {
        colon = memchr(rest, ':', (size_t)(end - rest));
        if (!colon) colon = end;
        host_len = (size_t)(colon - host);
    }
    if (!host_len) return "no host";
    r->port = 6379;
    if (colon < end) {
        r->port = *colon == ':' ? number(colon + 1, (size_t)(end - colon - 1), 65535) : -1;
        if (r->port < 1) return "a port that is none";
    }
    r->host = mem_copy(host, host_len);
    if (*end == '/' && end[1]) {
        r->db = number(end + 1, strlen(end + 1), 1 << 20);
        if (r->db < 0) return "a database that is no number";
    } else if (*end && *end != '/') {
        return "something behind the port";
    }
    return NULL;
}

static const char *parse_path(struct redis *r, const char *rest) {
    if (strncmp(rest, "//", 2) == 0) {
        rest += 2;
        const char *wrong = parse_user(r, &rest, strcspn(rest, "/?"));
        if (wrong) return wrong;
    }
    if (*rest != '/') return "no path that begins with /";
    const char *query = strchrnul(rest, '?');
    if (*query) {
        if (strncmp(query, "?db=", 4) != 0) return "something else than ?db=N behind the path";
        r->db = number(query + 4, strlen(query + 4), 1 << 20);
        if (r->db < 0) return "a database that is no number";
    }
    r->path = mem_copy(rest, (size_t)(query - rest));
    return NULL;
}

static const char *parse_url(struct redis *r, const char *url) {
    if (strncmp(url, "redis://", 8) == 0) return parse_host(r, url + 8);
    if (strncmp(url, "unix:", 5) == 0) return parse_path(r, url + 5);
    if (strncmp(url, "rediss://", 9) == 0) {
#ifndef HAVE_HIREDIS_SSL
        return "rediss://, but this was built with a hiredis that has no TLS";
#endif
        r->tls = true;
        return parse_host(r, url + 9);
    }
    return "another beginning";
}

struct redis *redis_open(const struct redis_conf *conf, struct err *e) {
    struct redis *r = mem_zeroed(1, sizeof *r);
    const char *wrong = conf->url ? parse_url(r, conf->url) : "nothing";
    if (wrong) {
        err_fatal(e, "the Redis URL has %s: it must be %s", wrong, FORMS);
        redis_close(r);
        return NULL;
    }
    struct buf where = {0};
    if (r->path)
        buf_add_text(&where, r->path);
    else
        buf_printf(&where, strchr(r->host, ':') ? "[%s]:%d" : "%s:%d", r->host, r->port);
    r->where = where.data;
    r->connect_ms = conf->connect_ms > 0 ? conf->connect_ms : 2000;
    r->timeout_ms = conf->timeout_ms > 0 ? conf->timeout_ms : 5000;
    if (conf->ca_file && *conf->ca_file) r->ca_file = mem_copy(conf->ca_file, strlen(conf->ca_file));
    signal(SIGPIPE, SIG_IGN); /* hiredis 0.14 writes with write() */
    return r;
}

static void release_reply(struct redis *r) {
    if (r->held) freeReplyObject(r->held);
    r->held = NULL;
    arena_reset(&r->items);
}

static void drop(struct redis *r) {
    release_reply(r);
    if (r->context) redisFree(r->context);
    r->context = NULL;
    r->unread = 0;
    buf_clear(&r->out);
}

void redis_close(struct redis *r) {
    if (!r) return;
    drop(r);
    buf_free(&r->out);
    arena_free(&r->items);
    if (r->password) explicit_bzero(r->password, strlen(r->password));
#ifdef HAVE_HIREDIS_SSL
    if (r->tls_context) redisFreeSSLContext(r->tls_context);
#endif
    free(r->host);
    free(r->path);
    free(r->user);
    free(r->password);
    free(r->ca_file);
    free(r->where);
    free(r);
}

const char *redis_where(const struct redis *r) {
    return r->where;
}

/* ---- what the server refuses ---- */

static const struct {
    const char *code, *what;
} passing[] = {
    {"LOADING", "is still loading its data"},
    {"BUSY", "is busy with a script"},
    {"READONLY", "is a replica that takes no writes"},
    {"MASTERDOWN", "is a replica that has lost its master"},
    {"TRYAGAIN", "is moving these keys to another node"},
    {"CLUSTERDOWN", "is a cluster that is down"},
    {"OOM", "is out of memory (maxmemory)"},
    {"NOREPLICAS", "has too few replicas to take writes"},
    {"MISCONF", "takes no writes because it cannot save to disk"},
    {"ERR max number of clients reached", "takes no more clients (maxclients)"},
    {"DENIED", "takes clients of its own machine only (protected-mode)"},
    {"NOAUTH", "wants a password: check the user and password of the Redis URL"},
    {"WRONGPASS", "refuses the user or password: check the Redis URL"},
    {"NOPERM", "does not permit this to the user of the Redis URL: check its rights"},
};

static bool has_code(const char *text, const char *code) {
    size_t n = strlen(code);
    return strncmp(text, code, n) == 0 && (text[n] == ' ' || !text[n]);
}

static enum err_kind refused(const struct redis *r, const char *text, struct err *e) {
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (has_code(text, passing[i].code))
            return err_again(e, "Redis at %s %s: %s", r->where, passing[i].what, text);
    return err_fatal(e, "Redis at %s refuses a command: %s", r->where, text);
}

/* ---- the connection ---- */

static enum err_kind broken(struct redis *r, const char *doing, struct err *e) {
    const redisContext *c = r->context;
    bool late = c && c->err != REDIS_ERR_EOF && c->err != REDIS_ERR_PROTOCOL &&
                (errno == EAGAIN || errno == ETIMEDOUT);
    if (late)
        err_again(e, "Redis at %s: no answer within %d ms while %s", r->where, r->timeout_ms,
                  doing);
    else
        err_again(e, "Redis at %s: %s while %s", r->where, c ? c->errstr : "no memory", doing);
    drop(r);
    return ERR_AGAIN;
}

/* AUTH and SELECT are the only commands that go around the pipeline. */
static enum err_kind greet(struct redis *r, int argc, const char **argv, struct err *e) {
    redisReply *reply = redisCommandArgv(r->context, argc, argv, NULL);
    if (!reply) return broken(r, "greeting it", e);
    if (reply->type == REDIS_REPLY_ERROR) {
        /* A server without AUTH repeats its arguments: of an unknown answer only the code is told.
         */
        bool known = refused(r, reply->str, e) == ERR_AGAIN;
        if (!known && *argv[0] == 'A')
            err_again(e, "Redis at %s refuses the user or password (%.*s): check the Redis URL",
                      r->where, (int)strcspn(reply->str, " "), reply->str);
        else if (!known)
            err_again(e, "Redis at %s has no database %d: %s", r->where, r->db, reply->str);
    }
    bool bad = reply->type == REDIS_REPLY_ERROR;
    freeReplyObject(reply);
    if (!bad) return ERR_NONE;
    drop(r);
    return ERR_AGAIN;
}

#ifdef HAVE_HIREDIS_SSL
static enum err_kind start_tls(struct redis *r, struct err *e) {
    redisSSLContextError why = REDIS_SSL_CTX_NONE;
    if (!r->tls_context) {
        redisInitOpenSSL();
        r->tls_context = redisCreateSSLContext(r->ca_file, NULL, NULL, NULL, r->host, &why);
        if (!r->tls_context) {
            drop(r);
            return err_fatal(e, "TLS for Redis at %s: %s", r->where, redisSSLContextGetError(why));
        }
    }
    if (redisInitiateSSLWithContext(r->context, r->tls_context) != REDIS_OK)
        return broken(r, "starting TLS", e);
    return ERR_NONE;
}
#endif

static struct timeval as_timeval(int ms) {
    return (struct timeval){ms / 1000, ms % 1000 * 1000};
}

static enum err_kind connected(struct redis *r, struct err *e) {
    if (r->context) return ERR_NONE;
    errno = 0;
    r->context = r->path ? redisConnectUnixWithTimeout(r->path, as_timeval(r->connect_ms))
                         : redisConnectWithTimeout(r->host, r->port, as_timeval(r->connect_ms));
    if (!r->context || r->context->err) {
        err_again(e, "Redis at %s: %s while connecting", r->where,
                  r->context ? r->context->errstr : "no memory");
        drop(r);
        return ERR_AGAIN;
    }
    redisSetTimeout(r->context, as_timeval(r->timeout_ms));
    if (r->host) redisEnableKeepAlive(r->context);
#ifdef HAVE_HIREDIS_SSL
    if (r->tls && start_tls(r, e)) return e->kind;
#endif
    if (r->password) {
        const char *argv[3] = {"AUTH", r->user ? r->user : r->password, r->password};
        if (greet(r, r->user ? 3 : 2, argv, e)) return e->kind;
    }
    if (r->db) {
        char db[16];
        snprintf(db, sizeof db, "%d", r->db);
        if (greet(r, 2, (const char *[]){"SELECT", db}, e)) return e->kind;
    }
    return ERR_NONE;
}

/* ---- pipelines ---- */

static enum err_kind send_out(struct redis *r, struct err *e) {
    if (connected(r, e)) return e->kind;
    if (redisAppendFormattedCommand(r->context, r->out.data, r->out.len) != REDIS_OK)
        return broken(r, "queueing", e);
    if (r->out.cap > 4 * REDIS_PIECE)
        buf_free(&r->out); /* a model: not kept for the next images */
    else
        buf_clear(&r->out);
    for (int done = 0; !done;)
        if (redisBufferWrite(r->context, &done) != REDIS_OK) return broken(r, "sending", e);
    return ERR_NONE;
}

/* mark, n, "\r\n" */
static void add_count(struct buf *b, char mark, size_t n) {
    char text[24], *p = text + sizeof text;
    *--p = '\n';
    *--p = '\r';
    do *--p = (char)('0' + n % 10);
    while (n /= 10);
    *--p = mark;
    buf_add(b, p, (size_t)(text + sizeof text - p));
}

void redis_put(struct redis *r, int argc, const struct bytes *argv) {
    if (r->lost.kind) return;
    add_count(&r->out, '*', (size_t)argc);
    for (int i = 0; i < argc; i++) {
        add_count(&r->out, '$', argv[i].len);
        buf_add(&r->out, argv[i].data, argv[i].len);
        buf_add(&r->out, "\r\n", 2);
    }
    r->unread++;
    struct err e;
    if (r->out.len >= REDIS_PIECE && send_out(r, &e)) r->lost = e;
}

enum err_kind redis_flush(struct redis *r, struct err *e) {
    if (r->lost.kind) {
        *e = r->lost;
        err_clear(&r->lost);
        return e->kind;
    }
    return r->out.len ? send_out(r, e) : ERR_NONE;
}

static void take(struct redis *r, const redisReply *from, struct redis_reply *out) {
    *out = (struct redis_reply){0};
    switch (from->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
        out->type = from->type == REDIS_REPLY_ERROR ? REDIS_ERROR : REDIS_TEXT;
        out->text = (struct bytes){from->str, (size_t)from->len};
        break;
    case REDIS_REPLY_INTEGER:
        out->type = REDIS_INTEGER;
        out->integer = from->integer;
        break;
    case REDIS_REPLY_ARRAY: {
        struct redis_reply *items = arena_alloc(&r->items, from->elements * sizeof *items);
        for (size_t i = 0; i < from->elements; i++) take(r, from->element[i], &items[i]);
        out->type = REDIS_ARRAY;
        out->count = from->elements;
        out->items = items;
        break;
    }
    default: break; /* nil */
    }
}

enum err_kind redis_next(struct redis *r, struct redis_reply *out, struct err *e) {
    void *reply = NULL;
    release_reply(r);
    if (redis_flush(r, e)) return e->kind;
    if (!r->unread) return err_fatal(e, "a reply of Redis was asked for, but no command is open");
    if (redisGetReply(r->context, &reply) != REDIS_OK) return broken(r, "reading", e);
    r->held = reply;
    r->unread--;
    take(r, r->held, out);
    if (out->type != REDIS_ERROR || has_code(r->held->str, "NOSCRIPT")) return ERR_NONE;
    refused(r, r->held->str, e);
    redis_reset(r);
    return e->kind;
}

size_t redis_unread(const struct redis *r) {
    return r->unread;
}

void redis_reset(struct redis *r) {
    release_reply(r);
    err_clear(&r->lost);
    if (r->unread) drop(r);
}

enum err_kind redis_do(struct redis *r, struct redis_reply *out, struct err *e, int argc,
                       const struct bytes *argv) {
    redis_reset(r);
    redis_put(r, argc, argv);
    return redis_next(r, out, e);
}

/* ---- built on these ---- */

enum err_kind redis_load(struct redis *r, struct redis_script *s, struct err *e) {
    struct redis_reply reply;
    struct bytes argv[] = {BYTES("SCRIPT"), BYTES("LOAD"), bytes_of(s->source)};
    if (redis_do(r, &reply, e, 3, argv)) return e->kind;
    if (reply.type != REDIS_TEXT || reply.text.len != sizeof s->sha - 1)
        return err_fatal(e, "Redis at %s answers SCRIPT LOAD with no SHA-1", r->where);
    memcpy(s->sha, reply.text.data, sizeof s->sha - 1);
    s->sha[sizeof s->sha - 1] = 0;
    return ERR_NONE;
}

enum err_kind redis_script(struct redis *r, struct redis_script *s, struct redis_reply *out,
                           struct err *e, int keys, int argc, const struct bytes *argv) {
    char count[16];
    snprintf(count, sizeof count, "%d", keys);
    struct bytes *words = mem_alloc((size_t)(argc + 3) * sizeof *words);
    words[0] = BYTES("EVALSHA");
    words[2] = bytes_of(count);
    memcpy(words + 3, argv, (size_t)argc * sizeof *argv);
    enum err_kind kind = *s->sha ? ERR_NONE : redis_load(r, s, e);
    for (int tries = 0; !kind && tries < 2; tries++) {
        words[1] = bytes_of(s->sha);
        kind = redis_do(r, out, e, argc + 3, words);
        if (kind || out->type != REDIS_ERROR) break;
        /* NOSCRIPT: the server was started again or flushed its scripts */
        kind =
            tries ? err_again(e, "Redis at %s forgets its scripts", r->where) : redis_load(r, s, e);
    }
    free(words);
    return kind;
}

enum err_kind redis_ping(struct redis *r, struct err *e) {
    struct redis_reply reply;
    return redis_do(r, &reply, e, 1, (struct bytes[]){BYTES("PING")});
}

/* The value of "name:value\r\n" in INFO's text; absent when it is not there. */
static struct bytes info_field(struct bytes info, const char *name) {
    const char *p = info.data, *end = p + info.len;
    size_t n = strlen(name);
    while (p < end) {
        const char *stop = memchr(p, '\r', (size_t)(end - p));
        if (!stop) stop = end;
        if ((size_t)(stop - p) > n && memcmp(p, name, n) == 0 && p[n] == ':')
            return (struct bytes){p + n + 1, (size_t)(stop - p) - n - 1};
        p = stop + 2 <= end ? stop + 2 : end;
    }
    return (struct bytes){0};
}

static enum err_kind info(struct redis *r, const char *section, struct redis_reply *out,
                          struct err *e) {
    if (redis_do(r, out, e, 2, (struct bytes[]){BYTES("INFO"), bytes_of(section)})) return e->kind;
    if (out->type == REDIS_TEXT) return ERR_NONE;
    return err_fatal(e, "Redis at %s answers INFO with no text", r->where);
}

enum err_kind redis_check(struct redis *r, bool *durable, struct err *e) {
    struct redis_reply reply;
    if (info(r, "memory", &reply, e)) return e->kind;
    struct bytes policy = info_field(reply.text, "maxmemory_policy");
    if (!bytes_is(policy, "noeviction"))
        return err_again(
            e,
            "Redis at %s may throw images and models away: its maxmemory-policy is %.*s, "
            "and must be noeviction",
            r->where, policy.data ? (int)policy.len : 7,
            policy.data ? (const char *)policy.data : "unknown");
    if (info(r, "persistence", &reply, e)) return e->kind;
    /* It answers INFO already, and says that it has no append-only file. */
    if (bytes_is(info_field(reply.text, "loading"), "1"))
        return err_again(e, "Redis at %s is still loading its data", r->where);
    *durable = bytes_is(info_field(reply.text, "aof_enabled"), "1");
    return ERR_NONE;
}
