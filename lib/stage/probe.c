/*
 * probe.c: the door to libmicrohttpd. Three pages, GET and HEAD; everything else is 404 or 405.
 */
#define _GNU_SOURCE
#include "lib/stage/probe.h"

#include "lib/base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <microhttpd.h>

enum { MOST_CONNECTIONS = 64, PATIENCE_S = 10 };

struct probe {
    struct MHD_Daemon *daemon;
    const struct stage *stage;
    struct stage_metrics *metrics;
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static bool parse_port(const char *text, in_port_t *port) {
    char *end;
    long n = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n > 65535) return false;
    *port = htons((uint16_t)n);
    return true;
}

/* *all: ":PORT", every address of both families. */
static bool parse(const char *text, union address *to, bool *all) {
    char host[PROBE_ADDRESS_LEN];
    const char *colon = strrchr(text, ':');
    in_port_t port;
    *to = (union address){0};
    *all = colon == text;
    if (!parse_port(colon ? colon + 1 : text, &port) || strlen(text) >= sizeof host) return false;
    snprintf(host, sizeof host, "%.*s", colon ? (int)(colon - text) : 0, text);
    size_t n = strlen(host);
    if (*all || (n > 2 && host[0] == '[' && host[n - 1] == ']')) {
        to->v6.sin6_family = AF_INET6;
        to->v6.sin6_port = port;
        if (*all) return true;
        host[n - 1] = 0;
        return inet_pton(AF_INET6, host + 1, &to->v6.sin6_addr) == 1;
    }
    to->v4.sin_family = AF_INET;
    to->v4.sin_port = port;
    return inet_pton(AF_INET,
                     !colon                       ? "127.0.0.1"
                     : !strcmp(host, "localhost") ? "127.0.0.1"
                                                  : host,
                     &to->v4.sin_addr) == 1;
}

bool probe_address_is_valid(const char *address) {
    union address a;
    bool all;
    return parse(address, &a, &all);
}

/* The page's status; its text is appended. */
static unsigned page(struct probe *p, const char *path, const char **type, struct buf *out) {
    struct stage_metrics *m = p->metrics;
    *type = "text/plain; charset=utf-8";
    if (!strcmp(path, "/metrics")) {
        *type = "text/plain; version=0.0.4; charset=utf-8";
        metrics_write(m, p->stage, out);
        return MHD_HTTP_OK;
    }
    if (!strcmp(path, "/healthz")) {
        int64_t since_ms = (clock_monotonic_us() - m->beat_us) / 1000;
        bool alive = since_ms < PROBE_BEAT_MS;
        if (alive)
            buf_add_text(out, "ok\n");
        else
            buf_printf(out, "no sign of life for %" PRId64 " s\n", since_ms / 1000);
        return alive ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (!strcmp(path, "/readyz")) {
        pthread_mutex_lock(&m->lock);
        bool ready = !*m->not_ready;
        buf_printf(out, "%s\n", ready ? "ready" : m->not_ready);
        pthread_mutex_unlock(&m->lock);
        return ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    buf_add_text(out, "there are /metrics, /healthz and /readyz\n");
    return MHD_HTTP_NOT_FOUND;
}

static enum MHD_Result answer(void *ctx, struct MHD_Connection *c, const char *path,
                              const char *method, const char *version, const char *body,
                              size_t *body_len, void **request) {
    const char *type = "text/plain; charset=utf-8";
    struct buf text = {0};
    unsigned status = MHD_HTTP_METHOD_NOT_ALLOWED;
    if (!strcmp(method, "GET") || !strcmp(method, "HEAD"))
        status = page(ctx, path, &type, &text);
    else
        buf_add_text(&text, "only GET\n");
    struct MHD_Response *r =
        MHD_create_response_from_buffer(text.len, text.data, MHD_RESPMEM_MUST_COPY);
    buf_free(&text);
    if (!r) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static struct MHD_Daemon *listen_on(struct probe *p, const union address *a, unsigned more) {
    return MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | more, 0, NULL, NULL,
                            answer, p, MHD_OPTION_SOCK_ADDR, &a->any, MHD_OPTION_CONNECTION_LIMIT,
                            (unsigned)MOST_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
                            (unsigned)PATIENCE_S, MHD_OPTION_END);
}

struct probe *probe_start(const char *address, const struct stage *s, struct stage_metrics *m,
                          struct err *e) {
    union address a;
    bool all;
    if (!parse(address, &a, &all)) return err_fatal(e, "probe: %.60s is no address", address), NULL;
    struct probe *p = mem_zeroed(1, sizeof *p);
    p->stage = s;
    p->metrics = m;
    p->daemon = listen_on(p, &a,
                          a.any.sa_family != AF_INET6 ? 0
                          : all                       ? MHD_USE_DUAL_STACK
                                                      : MHD_USE_IPv6);
    if (!p->daemon && all) { /* a machine without IPv6 */
        in_port_t port = a.v6.sin6_port;
        a = (union address){.v4 = {.sin_family = AF_INET, .sin_port = port}};
        p->daemon = listen_on(p, &a, 0);
    }
    if (p->daemon) return p;
    err_fatal(e, "probe: cannot listen on %.60s: %s", address, strerror(errno));
    free(p);
    return NULL;
}

int probe_port(const struct probe *p) {
    return MHD_get_daemon_info(p->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

void probe_stop(struct probe *p) {
    if (!p) return;
    MHD_stop_daemon(p->daemon);
    free(p);
}
