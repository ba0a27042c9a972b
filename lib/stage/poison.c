/*
 * poison.c: ranges, the note "suspect OFFSET hot OFFSET tries N deaths N until OFFSET by PAGE", and
 * the count of the memory limit.
 */
#define _GNU_SOURCE
#include "lib/stage/poison.h"

#include "lib/base/clock.h"
#include "lib/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NOTE_LEN = 160, PATH_LEN = 512 };

struct stage_hands *hands_make(void) {
    void *page = mmap(NULL, sizeof(struct stage_hands), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return NULL;
    struct stage_hands *h = page;
    h->id = (uint64_t)clock_now_ms() << 20 ^ (uint64_t)getpid();
    return h;
}

void hands_unmake(struct stage_hands *h) {
    if (h) munmap(h, sizeof *h);
}

static const struct range *find(const struct ranges *r, int32_t partition) {
    for (uint32_t i = 0; i < r->count; i++)
        if (r->list[i].partition == partition) return &r->list[i];
    return NULL;
}

void ranges_add(struct ranges *to, int32_t partition, int64_t from, int64_t until) {
    struct range *x = (struct range *)find(to, partition);
    if (!x) {
        if (to->count == POISON_RANGES) return;
        to->list[to->count] = (struct range){partition, from, until};
        to->count++; /* last: whoever reads after a crash sees whole ranges only */
        return;
    }
    if (from < x->from) x->from = from;
    if (until > x->to) x->to = until;
}

void ranges_add_records(struct ranges *to, const struct record *in, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t first = i;
        while (i < n && in[i].partition == in[first].partition) i++;
        ranges_add(to, in[first].partition, in[first].offset, in[i - 1].offset + 1);
    }
}

void ranges_add_all(struct ranges *to, const struct ranges *from) {
    for (uint32_t i = 0; i < from->count; i++)
        ranges_add(to, from->list[i].partition, from->list[i].from, from->list[i].to);
}

bool ranges_hold(const struct ranges *r, const struct record *x) {
    const struct range *of = find(r, x->partition);
    return of && x->offset >= of->from && x->offset < of->to;
}

bool ranges_ahead(struct ranges *r, const struct bus *b) {
    bool ahead = false;
    for (uint32_t i = 0; i < r->count;) {
        int64_t start = bus_start(b, r->list[i].partition);
        if (start >= r->list[i].to) {
            r->list[i] = r->list[--r->count];
            continue;
        }
        ahead = ahead || start >= 0;
        i++;
    }
    return ahead;
}

static struct alone *alone_of(const struct stage_hands *h, int32_t partition, int64_t offset) {
    for (uint32_t i = 0; i < h->alone_count; i++)
        if (h->alone[i].partition == partition && h->alone[i].offset == offset)
            return (struct alone *)&h->alone[i];
    return NULL;
}

/* In the place of the partition's last one; where there are too many, of any. */
static struct alone *alone_new(struct stage_hands *h, int32_t partition, int64_t offset) {
    uint32_t i = 0;
    while (i < h->alone_count && h->alone[i].partition != partition) i++;
    if (i == POISON_ALONE) i = (uint32_t)partition % POISON_ALONE;
    h->alone[i] = (struct alone){.partition = partition, .offset = offset};
    if (i == h->alone_count) h->alone_count++;
    return &h->alone[i];
}

static bool overlaps(const struct ranges *r, const struct range *x) {
    const struct range *of = find(r, x->partition);
    return of && x->from < of->to && x->to > of->from;
}

void poison_died(struct stage_hands *h, bool fault) {
    for (uint32_t i = 0; fault && i < h->held.count; i++) {
        const struct range *x = &h->held.list[i];
        if (overlaps(&h->suspects, x)) ranges_add(&h->hot, x->partition, x->from, x->to);
        ranges_add(&h->suspects, x->partition, x->from, x->to);
        struct alone *alone = alone_of(h, x->partition, x->from);
        if (h->held.count > 1 || x->to != x->from + 1 || !alone) continue;
        alone->tries++;
        alone->deaths++;
    }
    h->held.count = 0;
    h->restarts++;
}

/* offset <= hot <= until: what is being tried, and what else is suspect. tries and deaths are of
   the record at `offset` when it is tried alone, else of all below hot. */
struct note {
    int64_t offset, hot, until;
    int tries, deaths; /* deaths: alone, seen by a page */
    uint64_t by;
};

static bool read_note(const struct bus *b, int32_t partition, struct note *n) {
    const char *text = bus_note(b, partition);
    return text && sscanf(text,
                          "suspect %" SCNd64 " hot %" SCNd64 " tries %d deaths %d until %" SCNd64
                          " by %" SCNx64,
                          &n->offset, &n->hot, &n->tries, &n->deaths, &n->until, &n->by) == 6;
}

static enum err_kind write_note(struct bus *b, int32_t partition, const struct note *n,
                                struct err *e) {
    char text[NOTE_LEN];
    snprintf(text, sizeof text,
             "suspect %" PRId64 " hot %" PRId64 " tries %d deaths %d until %" PRId64 " by %" PRIx64,
             n->offset, n->hot, n->tries, n->deaths, n->until, n->by);
    return bus_mark(b, partition, text, e);
}

void poison_learn(struct stage_hands *h, const struct bus *b, const struct record *in, size_t n) {
    struct note note;
    for (size_t i = 0; i < n; i++) {
        if (i && in[i].partition == in[i - 1].partition) continue;
        if (!read_note(b, in[i].partition, &note) || note.until <= in[i].offset) continue;
        const struct range *known = find(&h->suspects, in[i].partition);
        if (!known || known->to < note.until)
            log_warn("partition %d goes on carefully to offset %" PRId64
                     ": a worker died of a record there",
                     in[i].partition, note.until);
        ranges_add(&h->suspects, in[i].partition, note.offset, note.until);
        if (note.by != h->id) ranges_add(&h->hot, in[i].partition, note.offset, note.hot);
    }
}

static size_t root(int64_t n) {
    size_t r = 1;
    while ((int64_t)((r + 1) * (r + 1)) <= n) r++;
    return r;
}

size_t poison_crowd(struct stage_hands *h, const struct bus *b) {
    size_t least = 0;
    bool hot = ranges_ahead(&h->hot, b);
    if (!ranges_ahead(&h->suspects, b)) return 0;
    if (hot) return 1;
    for (uint32_t i = 0; i < h->suspects.count; i++) {
        const struct range *x = &h->suspects.list[i];
        int64_t start = bus_start(b, x->partition);
        if (start < 0) continue;
        size_t crowd = root(x->to - (start > x->from ? start : x->from));
        if (!least || crowd < least) least = crowd;
    }
    return least;
}

int poison_tries(const struct stage_hands *h, const struct bus *b, const struct record *r) {
    struct note note;
    const struct alone *alone = alone_of(h, r->partition, r->offset);
    if (!ranges_hold(&h->suspects, r)) return 0;
    bool noted =
        read_note(b, r->partition, &note) && note.offset == r->offset && note.hot == r->offset + 1;
    int tries = noted ? note.tries : ranges_hold(&h->hot, r) ? 2 : 1;
    /* The page knows better than its own note, which may have counted a try that was no death. */
    if (alone && (!noted || note.by == h->id || tries < alone->tries)) tries = alone->tries;
    return tries;
}

/* Those in the note are of pages before; this one's own are not in it, or are in it again. */
static int deaths_alone(const struct stage_hands *h, const struct bus *b, const struct record *r) {
    struct note note;
    const struct alone *alone = alone_of(h, r->partition, r->offset);
    bool noted = read_note(b, r->partition, &note) && note.offset == r->offset;
    int before = noted ? note.deaths : 0, own = alone ? alone->deaths : 0;
    return before > own ? before : own;
}

bool poison_is_proven(const struct stage_hands *h, const struct bus *b, const struct record *r,
                      int tries) {
    return tries >= POISON_MANY || (tries >= POISON_TRIES && deaths_alone(h, b, r));
}

enum err_kind poison_try(struct stage_hands *h, struct bus *b, const struct record *r,
                         struct err *e) {
    const struct range *of = find(&h->suspects, r->partition);
    struct alone *alone = alone_of(h, r->partition, r->offset);
    int tries = poison_tries(h, b, r);
    struct note note = {.offset = r->offset,
                        .hot = r->offset + 1,
                        .until = of ? of->to : r->offset + 1,
                        .tries = tries + 1,
                        .deaths = deaths_alone(h, b, r),
                        .by = h->id};
    if (!alone) alone = alone_new(h, r->partition, r->offset);
    alone->tries = tries;
    return write_note(b, r->partition, &note, e);
}

enum err_kind poison_try_crowd(struct stage_hands *h, struct bus *b, const struct record *in,
                               size_t n, struct err *e) {
    for (size_t i = 0; i < n;) {
        size_t first = i;
        while (i < n && in[i].partition == in[first].partition) i++;
        struct range x = {in[first].partition, in[first].offset, in[i - 1].offset + 1};
        const struct range *of = find(&h->suspects, x.partition);
        if (!overlaps(&h->suspects, &x)) continue;
        struct note note = {x.from, x.to, of->to > x.to ? of->to : x.to, 2, 0, h->id};
        if (write_note(b, x.partition, &note, e)) return e->kind;
    }
    return ERR_NONE;
}

/* The number behind `name` in a file of lines "name number"; -1 when there is none. */
static int64_t number_in(const char *path, const char *name) {
    FILE *f = fopen(path, "re");
    char line[PATH_LEN], word[64];
    int64_t value = -1, n;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%63s %" SCNd64, word, &n) == 2 && !strcmp(word, name)) value = n;
    if (f) fclose(f);
    return value;
}

int64_t poison_memory_kills(void) {
    FILE *f = fopen("/proc/self/cgroup", "re");
    char line[PATH_LEN], path[2 * PATH_LEN];
    int64_t kills = -1;
    while (f && kills < 0 && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *v1 = strstr(line, ":memory:");
        if (!strncmp(line, "0::", 3))
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.events", line + 3);
        else if (v1)
            snprintf(path, sizeof path, "/sys/fs/cgroup/memory%s/memory.oom_control", v1 + 8);
        else
            continue;
        kills = number_in(path, "oom_kill");
    }
    if (f) fclose(f);
    /* In a container the group's own folder may be the root that is seen. */
    if (kills < 0) kills = number_in("/sys/fs/cgroup/memory.events", "oom_kill");
    if (kills < 0) kills = number_in("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill");
    return kills;
}
