/*
 * worker: one of the six, compiled into a test: its main is renamed, and a function with the worker's name
 * gives out its stage. WORKER and WORKER_FILE come from the build.
 */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define main JOIN(WORKER, _main)
#include WORKER_FILE
#undef main

const struct stage *JOIN(WORKER, _stage)(void);
const struct stage *JOIN(WORKER, _stage)(void) {
    return &WORKER;
}
