/*
 * fuzz: what the targets share. A target is one decoder with what must hold of it; libFuzzer finds the
 * bytes. tests/fuzz/run builds, seeds and runs them all.
 */
#ifndef DARKROOM_TESTS_FUZZ_H
#define DARKROOM_TESTS_FUZZ_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

#include <stdio.h>
#include <stdlib.h>

/* libFuzzer's side: it calls the first for every input, and the second, where there is one, instead of its
   own way to change an input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* What must hold, whatever the input. */
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A decoder's answer: what it returns is what it says, and what it refuses has a reason and a word. */
static inline void holds_of_error(enum err_kind kind, const struct err *e) {
    HOLDS(kind == e->kind);
    HOLDS(kind == ERR_NONE || kind == ERR_BAD);
    HOLDS(kind == ERR_NONE || (e->reason != REASON_NONE && e->text[0]));
}

#endif
