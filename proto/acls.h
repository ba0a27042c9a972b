/*
 * acls: who may do what, on a broker that asks. Rights follow from the table of topics: who writes
 * a topic may write it, who reads it may read it, and nobody may do anything else. A stage has its
 * group and the transactional ids of its instances besides.
 */
#ifndef DARKROOM_PROTO_ACLS_H
#define DARKROOM_PROTO_ACLS_H

#include "proto/topics.h"

enum acl_resource { ACL_TOPIC, ACL_GROUP, ACL_TRANSACTIONAL_ID };

/* Bits, in the order of acl_operation_name. READ and WRITE let a resource be described, too. */
enum {
    ACL_READ = 1,
    ACL_WRITE = 2,
    ACL_CREATE = 4,
    ACL_DESCRIBE = 8,
    ACL_DESCRIBE_CONFIGS = 16,
    ACL_OPERATIONS = 5
};

/* What a role may do with some resources of one kind. */
struct acl {
    enum acl_resource resource;
    unsigned operations;
    bool prefixed; /* the names are beginnings of names */
    size_t count;
    const char *names[TOPIC_COUNT]; /* without the prefix; for the process's life */
};

struct acl_role {
    const char *name;       /* a stage's, or what the command line is used for */
    const char *topic_word; /* what the table of topics calls it; NULL: it does not */
    const char *ids;        /* how its transactional ids begin; NULL: it has none */
    bool group;             /* it consumes as a group of its name */
};

enum { ACL_ROLES = 10, ACLS_MAX = 8 };
extern const struct acl_role acl_roles[ACL_ROLES];

/* Fills out[0..ACLS_MAX) and returns how many there are. */
size_t acls_of(const struct acl_role *role, struct acl out[ACLS_MAX]);

/* In Kafka's words: "Topic"; "Read" for 0, "Write" for 1, … */
const char *acl_resource_name(enum acl_resource r);
const char *acl_operation_name(int bit);

#endif
