/*
 * random: splitmix64 (Steele, Lea, Flood 2014): one seed, one sequence, on every machine.
 */
#ifndef DARKROOM_BASE_RANDOM_H
#define DARKROOM_BASE_RANDOM_H

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 to below 1 */
static inline double random_uniform(uint64_t *state) {
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

/* -1 to below 1 */
static inline double random_either(uint64_t *state) {
    return 2 * random_uniform(state) - 1;
}

#endif
