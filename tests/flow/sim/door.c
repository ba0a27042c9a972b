/*
 * door: stands between lib/kv and hiredis (the linker's --wrap), so that what goes to Redis and what comes
 * back passes a boundary. What gets through is real, and so is what Redis does with it.
 */
#define _GNU_SOURCE
#include "tests/flow/sim/sim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

redisContext *__real_redisConnectUnixWithTimeout(const char *path, const struct timeval tv);
redisContext *__wrap_redisConnectUnixWithTimeout(const char *path, const struct timeval tv);
int __real_redisBufferWrite(redisContext *c, int *done);
int __wrap_redisBufferWrite(redisContext *c, int *done);
int __real_redisGetReply(redisContext *c, void **reply);
int __wrap_redisGetReply(redisContext *c, void **reply);

redisContext *__wrap_redisConnectUnixWithTimeout(const char *path, const struct timeval tv) {
    uint32_t dice;
    if (!world_inside()) return __real_redisConnectUnixWithTimeout(path, tv);
    switch (world_boundary(AT_CONNECT, &dice)) {
    case CRASH: world_die();
    case CUT: return __real_redisConnectUnixWithTimeout("/nowhere", tv);
    default: break;
    }
    redisContext *c = __real_redisConnectUnixWithTimeout(path, tv);
    if (c && !c->err) world_connected(c->fd);
    return c;
}

/* Some of what is to be sent gets there; then the connection is no more. */
static void cut(redisContext *c, uint32_t dice) {
    size_t all = sdslen(c->obuf), some = all ? dice % (all + 1) : 0;
    if (some) some = (size_t)(write(c->fd, c->obuf, some) + 0);
    shutdown(c->fd, SHUT_RDWR);
    world_barrier();
}

/* The server answers the next command with this, and does not do it. */
static redisContext *loading;

int __wrap_redisBufferWrite(redisContext *c, int *done) {
    uint32_t dice;
    if (!world_inside() || !sdslen(c->obuf)) return __real_redisBufferWrite(c, done);
    switch (world_boundary(AT_COMMAND, &dice)) {
    case CRASH: cut(c, dice); world_die();
    case CUT: cut(c, dice); break;
    case LOADING:
        loading = c;
        sdsclear(c->obuf);
        *done = 1;
        return REDIS_OK;
    default: break;
    }
    return __real_redisBufferWrite(c, done);
}

static int refuse(void **reply) {
    static const char text[] = "LOADING Redis is loading the dataset in memory";
    redisReply *r = calloc(1, sizeof *r);
    r->type = REDIS_REPLY_ERROR;
    r->str = strdup(text);
    r->len = sizeof text - 1;
    *reply = r;
    return REDIS_OK;
}

int __wrap_redisGetReply(redisContext *c, void **reply) {
    uint32_t dice;
    if (!world_inside()) return __real_redisGetReply(c, reply);
    if (loading == c) {
        loading = NULL;
        return refuse(reply);
    }
    int code = __real_redisGetReply(c, reply);
    if (code != REDIS_OK) return code;
    switch (world_boundary(AT_REPLY, &dice)) {
    case CRASH: world_die();
    case CUT:
        shutdown(c->fd, SHUT_RDWR);
        world_barrier();
        freeReplyObject(*reply);
        *reply = NULL;
        c->err = REDIS_ERR_EOF;
        strcpy(c->errstr, "Server closed the connection");
        return REDIS_ERR;
    case LOADING: freeReplyObject(*reply); return refuse(reply);
    default: return REDIS_OK;
    }
}
