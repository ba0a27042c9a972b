/* aside: a thread is made for each piece of work and ended with it; that costs far less than a read. */
#include "lib/base/aside.h"

static void *aside_main(void *arg) {
    struct aside *a = arg;
    a->work(a->ctx);
    return NULL;
}

void aside_begin(struct aside *a, bool beside, void (*work)(void *ctx), void *ctx) {
    a->work = work;
    a->ctx = ctx;
    a->running = beside && !pthread_create(&a->thread, NULL, aside_main, a);
    if (!a->running) work(ctx);
}

void aside_wait(struct aside *a) {
    if (a->running) pthread_join(a->thread, NULL);
    a->running = false;
}
