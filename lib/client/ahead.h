/*
 * ahead: reads files before they are needed, so that a cold disk gets many requests at once instead of one
 * after the other. What is read is forgotten here; the kernel keeps it.
 */
#ifndef DARKROOM_CLIENT_AHEAD_H
#define DARKROOM_CLIENT_AHEAD_H

#include <stddef.h>

struct ahead;

/* path(ctx, i) is the i-th of `count` files, or NULL to leave it out; called from threads, until ahead_stop. */
struct ahead *ahead_start(const char *(*path)(const void *ctx, size_t i), const void *ctx, size_t count, size_t at);
void ahead_at(struct ahead *a, size_t i); /* the i-th is read now */
void ahead_stop(struct ahead *a);         /* NULL is fine */

#endif
