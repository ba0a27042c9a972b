/* kafka_pile: a list that grows; what was moved on stands before `from` until all has been. */
#include "lib/bus/kafka_pile.h"

#include <stdlib.h>

void pile_add(struct pile *p, struct record r, rd_kafka_message_t *m) {
    if (p->count == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 256;
        p->records = mem_resize(p->records, p->cap * sizeof *p->records);
        p->messages = mem_resize(p->messages, p->cap * sizeof(rd_kafka_message_t *));
    }
    p->records[p->count] = r;
    p->messages[p->count++] = m;
}

void pile_move(struct pile *p, struct pile *from) {
    for (; from->from < from->count; from->from++)
        pile_add(p, from->records[from->from], from->messages[from->from]);
    from->from = from->count = 0;
}

bool pile_is_empty(const struct pile *p) {
    return p->from == p->count;
}

void pile_clear(struct pile *p) {
    for (size_t i = p->from; i < p->count; i++) {
        free((void *)p->records[i].headers);
        rd_kafka_message_destroy(p->messages[i]);
    }
    p->from = p->count = 0;
}

void pile_free(struct pile *p) {
    pile_clear(p);
    free(p->records);
    free(p->messages);
    *p = (struct pile){0};
}
