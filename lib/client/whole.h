/*
 * whole: files that are there whole or not at all, whoever looks and whatever happens.
 */
#ifndef DARKROOM_CLIENT_WHOLE_H
#define DARKROOM_CLIENT_WHOLE_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

/* Writes beside the path (a name that begins with a dot, and nothing of its own), then renames; what was there is replaced.
   ERR_FATAL names the file, and leaves it as it was. */
enum err_kind whole_write(const char *path, struct bytes data, struct err *e) MUST_CHECK;
/* The folder, and those above it that are missing. ERR_FATAL. */
enum err_kind whole_folder(const char *path, struct err *e) MUST_CHECK;

#endif
