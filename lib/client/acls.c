/*
 * topics acls: the rights of proto/acls.c, in the words of whoever makes them on a broker. Nothing is
 * asked of a broker, and nothing is changed there.
 */
#include "proto/acls.h"
#include "lib/base/json.h"
#include "lib/client/client.h"
#include "lib/client/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum format { TABLE, KAFKA_ACLS, JSON, MARKDOWN };

struct options {
    int format;
    const char *principal, *reply_topics;
};
static const struct setting settings[] = {
    {"format", SETTING_CHOICE, offsetof(struct options, format), "table", "How they are told",
     "table|kafka-acls|json|markdown", 0, 0, 0},
    {"principal", SETTING_TEXT, offsetof(struct options, principal), "User:darkroom-*",
     "Who a role is to the broker, with * for the role", NULL, 0, 0, 0},
    {"reply-topics", SETTING_TEXT, offsetof(struct options, reply_topics), NULL,
     "As predict has it: the topics that a request's reply-to may name besides the results", NULL,
     0, 0, 0},
    {0}};

/* ---- names ---- */

static const char *principal_of(struct arena *a, const struct options *o, const char *role) {
    const char *star = strchr(o->principal, '*');
    return star ? arena_printf(a, "%.*s%s%s", (int)(star - o->principal), o->principal, role,
                               star + 1)
                : o->principal;
}

/* With the names that the broker knows; without any prefix every name is one that Kafka calls *. */
static struct acl named(struct arena *a, const struct acl *acl) {
    struct acl full = *acl;
    for (size_t i = 0; i < acl->count; i++)
        full.names[i] = arena_printf(a, "%s%s", topics_prefix_now(), acl->names[i]);
    if (!*full.names[0]) {
        full.names[0] = "*";
        full.prefixed = false;
    }
    return full;
}

static const char *pattern(const struct acl *acl) {
    return acl->prefixed ? "prefixed" : "literal";
}

/* ---- the formats: each is given one right of one role ---- */

static void add_operations(struct buf *b, unsigned operations, const char *before,
                           const char *between) {
    bool first = true;
    for (int i = 0; i < ACL_OPERATIONS; i++) {
        if (!(operations & 1u << i)) continue;
        buf_printf(b, "%s%s%s", first ? "" : between, before, acl_operation_name(i));
        first = false;
    }
}

static void add_row(struct table *t, const char *who, const struct acl *acl) {
    struct buf b = {0};
    add_operations(&b, acl->operations, "", ", ");
    for (size_t i = 0; i < acl->count; i++) {
        table_text(t, bytes_of(who));
        table_text(t, buf_bytes(&b));
        table_text(t, bytes_of(acl_resource_name(acl->resource)));
        table_print(t, "%s%s", acl->names[i], acl->prefixed ? "*" : "");
    }
    buf_free(&b);
}

static void add_markdown(struct buf *b, const char *role, const struct acl *acl) {
    buf_printf(b, "| %s | ", role);
    add_operations(b, acl->operations, "", ", ");
    buf_printf(b, " | %s | ", acl_resource_name(acl->resource));
    for (size_t i = 0; i < acl->count; i++)
        buf_printf(b, "%s`%s%s`", i ? ", " : "", acl->names[i], acl->prefixed ? "*" : "");
    buf_add_text(b, " |\n");
}

/* The words of one call of kafka-acls.sh. */
static void add_arguments(struct buf *b, const char *who, const struct acl *acl) {
    static const char *const flags[] = {"--topic", "--group", "--transactional-id"};
    buf_printf(b, "--add --allow-principal \"%s\" ", who);
    add_operations(b, acl->operations, "--operation ", " ");
    for (size_t i = 0; i < acl->count; i++)
        buf_printf(b, " %s %s", flags[acl->resource], acl->names[i]);
    buf_printf(b, " --resource-pattern-type %s\n", pattern(acl));
}

static void add_json(struct buf *b, const char *who, const struct acl *acl) {
    for (size_t i = 0; i < acl->count; i++)
        for (int k = 0; k < ACL_OPERATIONS; k++) {
            if (!(acl->operations & 1u << k)) continue;
            struct json_writer w = json_begin(b);
            json_put_text(&w, "principal", bytes_of(who));
            json_put_text(&w, "host", BYTES("*"));
            json_put_text(&w, "permission", BYTES("Allow"));
            json_put_text(&w, "operation", bytes_of(acl_operation_name(k)));
            json_put_text(&w, "resource_type", bytes_of(acl_resource_name(acl->resource)));
            json_put_text(&w, "name", bytes_of(acl->names[i]));
            json_put_text(&w, "pattern_type", bytes_of(pattern(acl)));
            json_end(&w);
            buf_add_text(b, "\n");
        }
}

/* ---- the command ---- */

struct output {
    const struct options *options;
    struct table table;
    struct buf text;
    struct arena names;
};

static void add(struct output *out, const char *role, const struct acl *acl) {
    const char *who = principal_of(&out->names, out->options, role);
    switch ((enum format)out->options->format) {
    case TABLE: add_row(&out->table, who, acl); break;
    case KAFKA_ACLS: add_arguments(&out->text, who, acl); break;
    case JSON: add_json(&out->text, who, acl); break;
    case MARKDOWN: add_markdown(&out->text, role, acl); break;
    }
}

static void add_role(struct output *out, const struct acl_role *role) {
    struct acl list[ACLS_MAX];
    size_t n = acls_of(role, list);
    for (size_t i = 0; i < n; i++) {
        if (out->options->format != MARKDOWN) list[i] = named(&out->names, &list[i]);
        add(out, role->name, &list[i]);
    }
}

/* Of whole names with commas between them; a * at the end of one is any end. NULL: no more. */
static const char *next_topic(struct arena *a, const char **list, bool *any) {
    *list += strspn(*list, ",");
    size_t n = strcspn(*list, ",");
    if (!n) return NULL;
    *any = (*list)[n - 1] == '*';
    const char *name = arena_text(a, (struct bytes){*list, n - *any});
    *list += n;
    return name;
}

/* The first pattern that would let predict write the fleet's own topics, or NULL. */
static const char *too_wide(struct arena *a, const char *list) {
    bool any;
    for (const char *name; (name = next_topic(a, &list, &any));)
        for (enum topic t = IMAGES; t < TOPIC_COUNT; t++)
            if (any ? !strncmp(topic_name(t), name, strlen(name)) : !strcmp(topic_name(t), name))
                return arena_printf(a, "%s%s", name, any ? "*" : "");
    return NULL;
}

static void add_reply_topics(struct output *out, const char *list) {
    bool any;
    for (const char *name; (name = next_topic(&out->names, &list, &any));)
        add(out, "predict",
            &(struct acl){ACL_TOPIC, ACL_WRITE | ACL_DESCRIBE_CONFIGS, any, 1, {name}});
}

static bool is_asked(const char *role, char **operands, int n) {
    for (int i = 0; i < n; i++)
        if (strcmp(operands[i], role) == 0) return true;
    return !n;
}

/* The first word that is no role, or NULL. */
static const char *unknown(char **operands, int n) {
    for (int i = 0; i < n; i++) {
        size_t k = 0;
        while (k < ACL_ROLES && strcmp(operands[i], acl_roles[k].name) != 0) k++;
        if (k == ACL_ROLES) return operands[i];
    }
    return NULL;
}

static int run(struct client *c, const void *options, char **operands, int n) {
    static const char *const heads[] = {"principal", "may", "resource", "name"};
    const struct options *o = options;
    struct output out = {.options = o, .table = table_make(heads, 4)};
    const char *stranger = unknown(operands, n);
    if (stranger) return client_usage(c, "there is no role \"%.60s\"", stranger);
    if (strpbrk(o->principal, "\"\\\n"))
        return client_usage(c, "a principal has no quotes, backslashes or line ends");
    const char *wide = o->reply_topics ? too_wide(&out.names, o->reply_topics) : NULL;
    if (wide) {
        int code =
            client_usage(c, "with \"%.100s\" predict could write topics of the fleet's own", wide);
        arena_free(&out.names);
        return code;
    }
    if (o->format == MARKDOWN)
        buf_add_text(&out.text, "| who | may | resource | names |\n|---|---|---|---|\n");
    for (size_t i = 0; i < ACL_ROLES; i++)
        if (is_asked(acl_roles[i].name, operands, n)) add_role(&out, &acl_roles[i]);
    if (o->reply_topics && is_asked("predict", operands, n))
        add_reply_topics(&out, o->reply_topics);
    if (out.text.len) fwrite(out.text.data, 1, out.text.len, stdout);
    if (out.table.count) table_end(&out.table);
    buf_free(&out.text);
    arena_free(&out.names);
    return CLIENT_DONE;
}

const struct command command_topics_acls = {
    .name = "topics acls",
    .operands = "[ROLE...]",
    .what = "who needs which rights on a broker with ACLs",
    .needs = NEEDS_PREFIX,
    .help =
        "Prints what each stage must be permitted, what somebody who publishes and subscribes "
        "needs (user),\n"
        "what `topics create`, `topics check` and `status` need (operator), and what `dlq` needs "
        "(dlq). Asks\n"
        "no broker. A ROLE is a stage's name, user, operator or dlq; without any it is all of "
        "them.\n\n"
        "  darkroom topics acls\n"
        "  darkroom topics acls --format kafka-acls |\n"
        "      xargs -L 1 kafka-acls.sh --bootstrap-server $BROKERS --command-config "
        "admin.properties\n"
        "  darkroom topics acls predict --principal 'User:CN=*' --format json",
    .most = -1,
    .settings = settings,
    .options_size = sizeof(struct options),
    .run = run};
