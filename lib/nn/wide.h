/*
 * wide: one source, several machine codes. A function marked WIDE is compiled for the vector units
 * of newer x86-64 processors too, and the right one is chosen when the program is loaded. arm64 has
 * one vector unit for all. WIDE functions are static, since clang 14 cannot call one from another
 * file. Where a sanitizer cannot live with that there is one code.
 */
#ifndef DARKROOM_NN_WIDE_H
#define DARKROOM_NN_WIDE_H

#include "lib/base/cpu.h"

#include <stdint.h>

/* By what a processor can do, not by its name: "arch=haswell" is taken by a processor of that name
   alone. Clang 14 knows no names for sets of features, and so goes without fused products in its
   second. */
#if !defined(__x86_64__) || !defined(__gnu_linux__) || defined(CPU_SANITIZED)
#define WIDE
#elif defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif

/* For the pieces of a WIDE function, so that they are compiled with it. */
#define WIDE_INLINE static inline __attribute__((always_inline))

/* LANES floats at once; `loose` is where an array has them. */
enum { LANES = 16 };
typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef float loose __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(LANES * sizeof(int32_t))));

#endif
