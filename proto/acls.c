/*
 * acls: rights out of the table of topics, and the few that no topic tells of.
 *
 * DescribeConfigs goes with Write: who writes a topic asks how large a record may be.
 * IdempotentWrite on the cluster is not needed: since Kafka 2.8 the right to write any topic
 * includes it. Topics are created by the right to their names, so nobody needs any right to the
 * cluster.
 */
#include "proto/acls.h"

#include <string.h>

enum { WRITES = ACL_WRITE | ACL_DESCRIBE_CONFIGS };

const struct acl_role acl_roles[ACL_ROLES] = {
    {"preprocess", "preprocess", "preprocess.", true},
    {"store", "store", "store.", true},
    {"batch", "batch", "batch.", true},
    {"train", "train", "train.", true},
    {"deploy", "deploy", "deploy.", true},
    {"predict", "predict", "predict.", true},
    {"user", "you", NULL, false},
    {"operator", NULL, NULL, false},
    {"models", "operators", NULL, false},
    {"dlq", "people", "dlq.", false},
};

static const struct {
    const char *role;
    struct acl acl;
} more[] = {
    /* groups of whoever subscribes to the results */
    {"user", {ACL_GROUP, ACL_READ, true, 1, {"user"}}},
    /* topics create, topics check, status */
    {"operator", {ACL_TOPIC, ACL_CREATE | ACL_DESCRIBE | ACL_DESCRIBE_CONFIGS, true, 1, {""}}},
    {"operator", {ACL_TOPIC, ACL_READ, false, 1, {"models.deployed"}}},
    {"operator", {ACL_GROUP, ACL_DESCRIBE, true, 1, {""}}},
};

/* Whether the word is one of a list like "predict, you". */
static bool has_word(const char *list, const char *word) {
    size_t n = strlen(word);
    for (; *list; list += strcspn(list, ","), list += strspn(list, ", "))
        if (strcspn(list, ",") == n && memcmp(list, word, n) == 0) return true;
    return false;
}

/* A dead letter goes back where it came from, and what became of it is noted beside it. */
static bool is_of_dead_letters(enum topic t) {
    for (enum topic in = IMAGES; in < TOPIC_COUNT; in++) {
        enum topic letters = topic_dead_letters(in);
        if (letters != TOPIC_NONE && (t == in || t == letters)) return true;
    }
    return false;
}

static bool is_for(const struct acl_role *role, enum topic t, bool write) {
    const struct topic_info *i = topic_info(t);
    if (write && strcmp(role->name, "dlq") == 0) return is_of_dead_letters(t);
    return role->topic_word && has_word(write ? i->writer : i->reader, role->topic_word);
}

/* Every topic that the role writes, or reads, as one right; 0 when there is none. */
static size_t add_topics(const struct acl_role *role, bool write, struct acl *out) {
    *out = (struct acl){.resource = ACL_TOPIC, .operations = write ? WRITES : ACL_READ};
    for (enum topic t = IMAGES; t < TOPIC_COUNT; t++)
        if (is_for(role, t, write)) out->names[out->count++] = topic_info(t)->name;
    return out->count > 0;
}

size_t acls_of(const struct acl_role *role, struct acl out[ACLS_MAX]) {
    size_t n = add_topics(role, false, out);
    n += add_topics(role, true, out + n);
    if (role->group) out[n++] = (struct acl){ACL_GROUP, ACL_READ, false, 1, {role->name}};
    if (role->ids) out[n++] = (struct acl){ACL_TRANSACTIONAL_ID, ACL_WRITE, true, 1, {role->ids}};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (strcmp(more[i].role, role->name) == 0) out[n++] = more[i].acl;
    return n;
}

const char *acl_resource_name(enum acl_resource r) {
    static const char *const names[] = {"Topic", "Group", "TransactionalId"};
    return names[r];
}

const char *acl_operation_name(int bit) {
    static const char *const names[ACL_OPERATIONS] = {"Read", "Write", "Create", "Describe",
                                                      "DescribeConfigs"};
    return names[bit];
}
