/*
 * watch: files that come into folders, told when they are completely written.
 */
#ifndef DARKROOM_CLIENT_WATCH_H
#define DARKROOM_CLIENT_WATCH_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

struct watch;

struct watch *watch_open(struct err *e); /* NULL and ERR_FATAL */
/* A folder and all below it. Files that are there already are found by the next polls. */
enum err_kind watch_add(struct watch *w, const char *top, struct err *e) MUST_CHECK;
/*
 * Waits at most wait_ms, and calls found for every file that was closed after writing or moved in, and for
 * those that were there and have been left alone for two seconds. A file may be told twice. Names that
 * begin with a dot are left out.
 */
enum err_kind watch_poll(struct watch *w, int wait_ms, void (*found)(void *ctx, const char *top, const char *path),
                         void *ctx, struct err *e) MUST_CHECK;
void watch_close(struct watch *w); /* NULL is fine */

#endif
