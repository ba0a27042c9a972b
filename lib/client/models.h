/*
 * models: what the commands about models share.
 */
#ifndef DARKROOM_CLIENT_MODELS_H
#define DARKROOM_CLIENT_MODELS_H

#include <stdbool.h>
#include <stdint.h>

/* "12" or "v12"; false for what is no version's number. */
bool models_version(const char *text, int64_t *version);

#endif
