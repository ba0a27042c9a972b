/*
 * pages: the images of one version, drawn and read ahead of the arithmetic: new ones in shuffled order
 * again and again, old ones evenly from all that came before. While they fit into KEPT bytes each is
 * read from the store once a version; so for the rest of a version it is what it was at first.
 */
#ifndef DARKROOM_LEARN_PAGES_H
#define DARKROOM_LEARN_PAGES_H

#include "lib/learn/study.h"

struct page {
    uint8_t *x;     /* (count, H, W, C) */
    int *label;     /* (count) */
    uint64_t *seed; /* (count), of each one's change */
    int count;      /* of those asked for, that were there */
};

struct pages;

/* Borrows both; marks course->gone and course->used. */
struct pages *pages_open(const struct course *c, const struct pupil *p);
void pages_close(struct pages *ps);         /* waits for what is under way; NULL is fine */
double pages_share(const struct pages *ps); /* of new ones, among those drawn */

/* A page of images evenly taken from new and old. Before pages_begin, and gone with it. NULL after an
   error. */
const struct page *pages_sample(struct pages *ps, struct err *e) MUST_CHECK;
/* Begins with as many images as that: draws them, and reads a page ahead in a thread of its own where
   course->threads allows. */
void pages_begin(struct pages *ps, size_t images);
/* The next page, whole minibatches but for what was not there, until the next call. NULL at the end and
   after an error. */
const struct page *pages_next(struct pages *ps, struct err *e) MUST_CHECK;

#endif
