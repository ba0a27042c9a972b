/*
 * client: the table of commands, the way from argv to one of them, and what they share.
 */
#define _DEFAULT_SOURCE
#include "lib/client/client.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/version.h"
#include "lib/bus/admin.h"
#include "lib/client/show.h"
#include "lib/learn/images.h"
#include "lib/nn/matmul.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command *const commands[] = {
    &command_publish,
    &command_predict,
    &command_results,
    &command_status,
    &command_models_list,
    &command_models_show,
    &command_models_verify,
    &command_models_export,
    &command_models_tensorboard,
    &command_models_compare,
    &command_models_rollback,
    &command_models_promote,
    &command_models_pin,
    &command_models_unpin,
    &command_models_remove,
    &command_models_lineage,
    &command_models_find,
    &command_images_export,
    &command_images_remove,
    &command_topics_list,
    &command_topics_create,
    &command_topics_check,
    &command_topics_acls,
    &command_generate_digits,
    &command_dlq_list,
    &command_dlq_show,
    &command_dlq_replay,
    &command_dlq_drop,
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static const struct setting prefix_setting[] = {
    {"prefix", SETTING_TEXT, offsetof(struct client, prefix), TOPIC_DEFAULT_PREFIX, "Before the name of every topic, group and key", NULL, 0, 0, 0},
    {0}};
static const struct setting redis_setting[] = {REDIS_SETTINGS(struct client, redis), {0}};
static const struct setting no_setting[] = {{0}};

/* ---- help ---- */

static void print_all_help(FILE *to) {
    fputs("darkroom: drop images in, get models out; send images in, get answers out.\n\nCommands:\n", to);
    for (size_t i = 0; i < COMMANDS; i++) fprintf(to, "  %-18s %s\n", commands[i]->name, commands[i]->what);
    fputs("\n  darkroom COMMAND --help, or darkroom help COMMAND, says more; darkroom --version.\n"
          "  Kafka is where DARKROOM_KAFKA_BOOTSTRAP_SERVERS says [localhost:9092]; DARKROOM_KAFKA_<PROPERTY>\n"
          "  sets any other property of librdkafka, DARKROOM_KAFKA_SECURITY_PROTOCOL security.protocol.\n"
          "  Exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out.\n\n"
          "Try it, with the fleet that deploy/local/up starts:\n"
          "  darkroom generate digits digits 7000\n"
          "  darkroom publish digits\n"
          "  darkroom status\n"
          "  darkroom predict digits/7/00007.png\n", to);
}

static void print_help(const struct command *cmd) {
    struct buf b = {0};
    buf_printf(&b, "darkroom %s%s%s%s: %s\n\n%s\n", cmd->name, cmd->settings ? " [FLAGS]" : "",
               cmd->operands ? " " : "", cmd->operands ? cmd->operands : "", cmd->what, cmd->help);
    if (cmd->settings || cmd->needs) buf_add_text(&b, "\nFlags, and the environment variables that preset them:\n");
    if (cmd->settings) settings_help(cmd->settings, &b);
    if (cmd->needs & NEEDS_PREFIX) settings_help(prefix_setting, &b);
    if ((cmd->needs & NEEDS_REDIS) == NEEDS_REDIS) settings_help(redis_setting, &b);
    if ((cmd->needs & NEEDS_KAFKA) == NEEDS_KAFKA)
        buf_add_text(&b, "  DARKROOM_KAFKA_BOOTSTRAP_SERVERS, DARKROOM_KAFKA_<PROPERTY>: where Kafka is, and how to talk to it\n");
    fwrite(b.data, 1, b.len, stdout);
    buf_free(&b);
}

/* ---- what commands share ---- */

void client_say(const struct client *c, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    struct buf b = {0};
    show_text(&b, bytes_of(text));
    progress_hide();
    fprintf(stderr, "darkroom %s: %s\n", c->command->name, b.data);
    buf_free(&b);
}

int client_fail(const struct client *c, const struct err *e) {
    client_say(c, "%s", e->text);
    return CLIENT_FAILED;
}

int client_usage(const struct client *c, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    client_say(c, "%s", text);
    fprintf(stderr, "darkroom %s --help shows how.\n", c->command->name);
    return CLIENT_USAGE;
}

int client_version(const struct client *c, const char *text, int64_t *version) {
    const char *number = text + (text[0] == 'v');
    char *end;
    errno = 0;
    *version = strtoll(number, &end, 10);
    if (errno || end == number || *end || *version < 1)
        return client_usage(c, "\"%s\" must be the number of a version, as `darkroom models list` has them", text);
    return CLIENT_DONE;
}

static volatile sig_atomic_t stopped;

static void on_signal(int number) {
    stopped = number;
}

static void watch_signals(void) {
    struct sigaction once = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &once, NULL);
    sigaction(SIGTERM, &once, NULL);
}

bool client_stopped(void) {
    return stopped;
}

const char *client_servers(const struct client *c) {
    for (size_t i = c->property_count; i-- > 0;)
        if (strcmp(c->properties[i].name, "bootstrap.servers") == 0) return c->properties[i].value;
    return "";
}

enum err_kind client_reach(const struct client *c, enum topic t, struct err *e) {
    struct admin *a = admin_open(c->properties, c->property_count, e);
    if (!a) return e->kind;
    struct admin_topic topic = {.name = topic_name(t), .partitions = 1};
    if (!admin_inspect(a, &topic, 1, NULL, NULL, e) && !topic.exists)
        err_fatal(e, "Kafka at %s has no topic %s: `darkroom topics create` makes it", client_servers(c), topic.name);
    admin_close(a);
    return e->kind;
}

struct reader *client_follow(const struct client *c, enum topic t, enum reader_from from, struct err *e) {
    struct reader *r = reader_open(c->properties, c->property_count, topic_name(t), from, e);
    int64_t deadline = clock_monotonic_us() + 10 * 1000000LL;
    if (!r) return NULL;
    while (reader_ready(r, 2000, e)) {
        if (e->kind == ERR_FATAL || client_stopped() || clock_monotonic_us() > deadline) {
            reader_close(r);
            return NULL;
        }
        err_clear(e);
        clock_sleep_ms(100);
    }
    return r;
}

int64_t client_due(int64_t start_us, int64_t n, int64_t rate) {
    if (rate <= 0) return 0;
    int64_t left = start_us + n * 1000000 / rate - clock_monotonic_us();
    return left > 0 ? left : 0;
}

/* ---- from argv to a command ---- */

static enum err_kind add_property(void *ctx, const char *property, const char *value, struct err *e) {
    struct client *c = ctx;
    c->properties = mem_resize(c->properties, (c->property_count + 1) * sizeof *c->properties);
    c->properties[c->property_count++] = (struct bus_property){mem_copy(property, strlen(property)), value};
    return ERR_NONE;
}

static int run_command(const struct command *cmd, int argc, char **argv) {
    struct client c = {.command = cmd};
    struct err e = {0};
    void *options = mem_zeroed(1, cmd->options_size + 1);
    const struct settings_use uses[] = {
        {cmd->needs & NEEDS_PREFIX ? prefix_setting : no_setting, &c},
        {(cmd->needs & NEEDS_REDIS) == NEEDS_REDIS ? redis_setting : no_setting, &c},
        {cmd->settings, options},
        {0}};
    int first = 0, code;
    bool help = false;
    if (settings_read(uses, argc, argv, &first, &help, &e)) {
        code = client_usage(&c, "%s", e.text);
    } else if (help) {
        print_help(cmd);
        code = CLIENT_DONE;
    } else if (argc - first < cmd->least || (cmd->most >= 0 && argc - first > cmd->most)) {
        code = client_usage(&c, argc - first < cmd->least ? "something is missing: darkroom %s %s" : "too many words: darkroom %s %s",
                            cmd->name, cmd->operands ? cmd->operands : "");
    } else if ((c.prefix && topics_prefix(c.prefix, &e)) || add_property(&c, "bootstrap.servers", "localhost:9092", &e) ||
               settings_properties("DARKROOM_KAFKA_", add_property, &c, &e)) {
        code = client_usage(&c, "%s", e.text);
    } else {
        watch_signals();
        code = cmd->run(&c, options, argv + first, argc - first);
        progress_hide();
        if (fflush(stdout) || ferror(stdout)) {
            client_say(&c, "could not write all of the output");
            code = CLIENT_FAILED;
        }
    }
    for (size_t i = 0; i < c.property_count; i++) free((char *)c.properties[i].name);
    free(c.properties);
    free(options);
    return code;
}

/* The command of the first one or two words; *words is how many they are. */
static const struct command *find(int argc, char **argv, int *words) {
    for (size_t i = 0; i < COMMANDS; i++) {
        const char *name = commands[i]->name, *space = strchr(name, ' ');
        size_t n = space ? (size_t)(space - name) : strlen(name);
        if (strlen(argv[0]) != n || memcmp(argv[0], name, n) != 0) continue;
        if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0)) continue;
        *words = space ? 2 : 1;
        return commands[i];
    }
    return NULL;
}

/* "topics" alone, or with a second word that is none of its own: the commands that begin so. */
static bool print_group(const char *word, FILE *to) {
    size_t n = strlen(word), found = 0;
    for (size_t i = 0; i < COMMANDS; i++) {
        const char *name = commands[i]->name;
        if (strncmp(name, word, n) != 0 || name[n] != ' ') continue;
        if (!found++) fprintf(to, "darkroom %s has these commands:\n", word);
        fprintf(to, "  darkroom %-18s %s\n", name, commands[i]->what);
    }
    return found;
}

static bool is_help(const char *word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int client_main(int argc, char **argv) {
    char **all = argv;
    int all_count = argc;
    log_setup("darkroom", LOG_WARN, LOG_HUMAN);
    argc--, argv++;
    if (argc && strcmp(argv[0], "--version") == 0) {
        puts("darkroom " DARKROOM_VERSION);
        return CLIENT_DONE;
    }
    bool help = argc && (strcmp(argv[0], "help") == 0 || is_help(argv[0]));
    if (help) argc--, argv++;
    if (!argc) {
        print_all_help(help ? stdout : stderr);
        return help ? CLIENT_DONE : CLIENT_USAGE;
    }
    int words = 0;
    const struct command *cmd = find(argc, argv, &words);
    if (cmd && help) {
        print_help(cmd);
        return CLIENT_DONE;
    }
    if (cmd && cmd->needs & NEEDS_LEARNING) matmul_choose_kernels(all_count, all);
    if (cmd) return run_command(cmd, argc - words + 1, argv + words - 1);
    help |= argc > 1 && is_help(argv[1]);
    if (!print_group(argv[0], help ? stdout : stderr)) {
        fprintf(stderr, "darkroom: there is no command \"%s\"; darkroom --help lists them\n", argv[0]);
        return CLIENT_USAGE;
    }
    return help ? CLIENT_DONE : CLIENT_USAGE;
}
