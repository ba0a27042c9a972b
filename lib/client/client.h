/*
 * client: the command line, `darkroom COMMAND …`. A command is one file and one struct command; the table
 * in client.c lists them. What they share stands here: where Kafka and Redis are, how an end is told, and
 * how Ctrl-C is noticed.
 */
#ifndef DARKROOM_CLIENT_CLIENT_H
#define DARKROOM_CLIENT_CLIENT_H

#include "lib/base/settings.h"
#include "lib/bus/reader.h"
#include "lib/kv/redis.h"
#include "proto/topics.h"

/* Exit codes, of every command. */
enum { CLIENT_DONE, CLIENT_FAILED, CLIENT_USAGE, CLIENT_TIMED_OUT };

/* What a command is connected to; its --help tells of no more than that. With NEEDS_LEARNING it computes as the
   workers do. */
enum { NEEDS_PREFIX = 1, NEEDS_KAFKA = 2 | NEEDS_PREFIX, NEEDS_REDIS = 4 | NEEDS_PREFIX, NEEDS_LEARNING = 8 };

struct client {
    const struct command *command;
    const char *prefix;
    struct redis_conf redis;
    struct bus_property *properties; /* for the Kafka client */
    size_t property_count;
};

struct command {
    const char *name;     /* "publish", "topics list" */
    const char *operands; /* for the usage line; NULL: none */
    const char *what;     /* one line */
    const char *help;     /* the rest of --help: how it works, examples */
    int needs;
    int least, most;      /* operands; most -1: any number */
    const struct setting *settings; /* into the options; NULL: none */
    size_t options_size;
    /* Returns the exit code; has said on stderr what went wrong. */
    int (*run)(struct client *c, const void *options, char **operands, int n);
};
extern const struct command command_publish, command_predict, command_results, command_status,
    command_models_list, command_models_show, command_models_verify, command_models_export,
    command_models_tensorboard, command_models_compare, command_models_rollback,
    command_models_promote, command_models_pin, command_models_unpin, command_models_remove,
    command_models_lineage, command_models_find, command_images_export, command_images_remove,
    command_topics_list, command_topics_create, command_topics_check, command_topics_acls,
    command_generate_digits, command_dlq_list, command_dlq_show, command_dlq_replay,
    command_dlq_drop;

int client_main(int argc, char **argv);

/* "darkroom publish: …" on stderr, cleaned; the progress line makes room. */
void client_say(const struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int client_fail(const struct client *c, const struct err *e);                     /* says it: CLIENT_FAILED */
int client_usage(const struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* True once Ctrl-C or SIGTERM came; a second one ends the process at once. */
bool client_stopped(void);

const char *client_servers(const struct client *c); /* bootstrap.servers, for messages */

/* The broker answers and has the topic, or ERR_FATAL says what to do. */
enum err_kind client_reach(const struct client *c, enum topic t, struct err *e) MUST_CHECK;

/* A reader of the topic with its positions taken. NULL: ERR_AGAIN when the broker does not give them within
   ten seconds, as it may not while topics are new or leaders move; ERR_FATAL. */
struct reader *client_follow(const struct client *c, enum topic t, enum reader_from from, struct err *e);

/* The number of a version, "12" or "v12"; or says what is wrong with it, and is CLIENT_USAGE. */
int client_version(const struct client *c, const char *text, int64_t *version) MUST_CHECK;

/* Microseconds until the n-th of `rate` things a second is due; 0: now. rate 0 is no limit. */
int64_t client_due(int64_t start_us, int64_t n, int64_t rate);

#endif
