/*
 * alive: long work asks its caller between steps whether to go on.
 */
#ifndef DARKROOM_BASE_ALIVE_H
#define DARKROOM_BASE_ALIVE_H

#include "lib/base/err.h"

/* What `still` returns is returned at once when it is not 0. */
struct alive {
    enum err_kind (*still)(void *ctx, struct err *e);
    void *ctx;
};

#endif
