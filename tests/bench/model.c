/*
 * model: puts two versions of a ready network, with random weights, into the registry, and says on
 * models.deployed that they are served, one after the other in turn. How fast a network answers
 * does not depend on what it has learned.
 *
 *   model BROKERS REDIS_URL PREFIX mlp|cnn FIRST_VERSION COUNT INTERVAL_MS
 */
#include "lib/nn/model.h"
#include "lib/base/clock.h"
#include "lib/bus/publisher.h"
#include "lib/learn/registry.h"
#include "proto/event.h"
#include "tests/bench/bench.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = 28, CLASSES = 10 };

static struct err err;

static void ok(enum err_kind kind) {
    if (kind) die("%s", err.text);
}

static void lost(void *ctx, uint64_t tag, const struct err *why) {
    (void)ctx;
    (void)tag;
    die("%s", why->text);
}

static void put(struct registry *g, bool mlp, uint64_t seed, char name[HASH_HEX + 1]) {
    struct net_spec spec;
    struct model m = {0};
    struct buf file = {0};
    (mlp ? net_spec_mlp : net_spec_cnn)(&spec, SIDE, SIDE, 1);
    if (!(m.net = net_make(&spec, CLASSES, seed, &err))) die("%s", err.text);
    for (int k = 0; k < CLASSES; k++) model_add_label(&m, (const char[]){(char)('0' + k), 0});
    ok(model_save(&m, NULL, &file, &err));
    ok(registry_put_artifact(g, buf_bytes(&file), name, &err));
    buf_free(&file);
    model_free(&m);
}

static void deploy(struct publisher *p, int64_t version, const char *artifact) {
    struct arena a = {0};
    struct buf json = {0};
    struct deployed d = {.model = BYTES(EVENT_DEFAULT_MODEL),
                         .version = version,
                         .artifact = bytes_of(artifact),
                         .judged = version,
                         .promoted = true,
                         .why = BYTES("it is its turn"),
                         .time_ms = clock_now_ms()};
    deployed_encode(&d, &json);
    struct event ev = {.id = d.artifact,
                       .source = BYTES("darkroom/deploy"),
                       .type = BYTES("darkroom.model.deployed"),
                       .model = d.model,
                       .content_type = bytes_of(topic_info(MODELS_DEPLOYED)->content_type),
                       .time_ms = d.time_ms};
    struct record r = {.topic = topic_name(MODELS_DEPLOYED),
                       .key = d.model,
                       .value = buf_bytes(&json),
                       .time_ms = -1};
    event_write(&ev, NULL, &a, &r);
    ok(publisher_send(p, &r, 0, &err));
    ok(publisher_flush(p, 10000, &err));
    buf_free(&json);
    arena_free(&a);
}

int main(int argc, char **argv) {
    if (argc != 8) die("BROKERS REDIS_URL PREFIX mlp|cnn FIRST_VERSION COUNT INTERVAL_MS");
    char artifact[2][HASH_HEX + 1];
    const struct bus_property properties[] = {{"bootstrap.servers", argv[1]}};
    int64_t first = atoll(argv[5]), count = atoll(argv[6]), interval_ms = atoll(argv[7]);
    ok(topics_prefix(argv[3], &err));
    struct redis *redis = redis_open(&(struct redis_conf){.url = argv[2]}, &err);
    if (!redis) die("%s", err.text);
    struct registry *g = registry_open(redis, argv[3]);
    for (int i = 0; i < 2; i++) put(g, !strcmp(argv[4], "mlp"), (uint64_t)i + 1, artifact[i]);
    struct publisher *p = publisher_open(properties, 1, lost, NULL, &err);
    if (!p) die("%s", err.text);
    for (int64_t i = 0; i < count; i++) {
        if (i) clock_sleep_ms(interval_ms);
        deploy(p, first + i, artifact[(first + i) % 2]);
    }
    publisher_close(p);
    registry_close(g);
    redis_close(redis);
    return 0;
}
