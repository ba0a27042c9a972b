/*
 * poison: a record that kills the process must not kill the fleet.
 *
 * Before records are handled their ranges of offsets are written to a page that the watching parent
 * shares (struct stage_hands); they stand there until the commit is done. When the process dies of
 * a fault, or of the memory limit, what stands there becomes suspect. Of n suspects it takes the
 * root of n at a time; a small crowd that dies too is hot and taken one record at a time. So the
 * third death is that of the culprit alone, and the others wait for some 2 * root of n commits.
 *
 * Before suspects are handled their try is counted in the note of the committed position, which
 * outlives the process and moves with the partition. Dying from outside (kill -9) or failing
 * without dying takes a try back: the page knows how many tries stood before this one, and wins
 * over the note if the note is its own. A note of another page may count tries that were no deaths,
 * so nothing is buried before a page has seen it die alone and said so in the note, unless the
 * tries are many: then it is a record that takes the watching parent with it.
 */
#ifndef DARKROOM_STAGE_POISON_H
#define DARKROOM_STAGE_POISON_H

#include "lib/bus/bus.h"

enum { POISON_TRIES = 3, POISON_MANY = 8, POISON_RANGES = 512, POISON_ALONE = 64 };

struct range {
    int32_t partition;
    int64_t from, to; /* offsets, `to` excluded */
};
struct ranges {
    uint32_t count;
    struct range list[POISON_RANGES];
};

/* In memory that parent and child share. {0} is nothing in hand. */
struct stage_hands {
    uint64_t id;            /* of this page: whose note it is */
    struct ranges held;     /* being handled, or their commit is under way */
    struct ranges suspects; /* were held when a process died of a fault */
    struct ranges hot;      /* of them, held in a small crowd when it died again */
    struct alone {
        int32_t partition;
        int64_t offset;
        int tries;         /* deaths that are known of */
        int deaths;        /* of them alone, in this page's hands */
    } alone[POISON_ALONE]; /* one a partition, the suspect that was taken last */
    uint32_t alone_count;
    uint64_t restarts;
};

struct stage_hands *hands_make(
    void); /* shared with the children of fork; NULL when there is no memory */
void hands_unmake(struct stage_hands *h);

/* One range a partition, widened; what does not fit any more is left out. */
void ranges_add(struct ranges *to, int32_t partition, int64_t from, int64_t until);
void ranges_add_records(struct ranges *to, const struct record *in, size_t n);
void ranges_add_all(struct ranges *to, const struct ranges *from);
bool ranges_hold(const struct ranges *r, const struct record *x);
/* Drops the ranges whose partition is committed to their end; true when one is left that is ours.
 */
bool ranges_ahead(struct ranges *r, const struct bus *b);

/* By the parent: the child died. `fault`: of a signal that its own code raises, or of the memory
 * limit. */
void poison_died(struct stage_hands *h, bool fault);

/* By the child. Notes that came with the partitions of these records add to the suspects. */
void poison_learn(struct stage_hands *h, const struct bus *b, const struct record *in, size_t n);
/* How many records may be taken at once, for the suspects that are ahead; 0: there are none. */
size_t poison_crowd(struct stage_hands *h, const struct bus *b);
/* How many deaths this record has been held for; 0: it is no suspect. */
int poison_tries(const struct stage_hands *h, const struct bus *b, const struct record *r);
/* Whether a record with so many deaths is to be buried. */
bool poison_is_proven(const struct stage_hands *h, const struct bus *b, const struct record *r,
                      int tries);
/* Counts one try more, in the page and in the note; then the suspect may be handled alone. */
enum err_kind poison_try(struct stage_hands *h, struct bus *b, const struct record *r,
                         struct err *e) MUST_CHECK;
/* The same for a small crowd of them, which may be of several partitions. */
enum err_kind poison_try_crowd(struct stage_hands *h, struct bus *b, const struct record *in,
                               size_t n, struct err *e) MUST_CHECK;

/* How often the memory limit of this process's control group has killed; -1 where that cannot be
 * read. */
int64_t poison_memory_kills(void);

#endif
