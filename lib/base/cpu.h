/*
 * cpu: what the processor's vector units can do, and how they take denormals.
 */
#ifndef DARKROOM_BASE_CPU_H
#define DARKROOM_BASE_CPU_H

#include <stdint.h>

/* What a sanitizer cannot live with: the thread sanitizer with functions that are chosen when the
   program is loaded; the address sanitizer of gcc before 14 with wide vectors, which it stores to
   places on its stack that are not aligned (gcc's bug 110027). */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CPU_SANITIZED
#endif
#elif defined(__SANITIZE_THREAD__) || (defined(__SANITIZE_ADDRESS__) && __GNUC__ < 14)
#define CPU_SANITIZED
#endif

enum cpu_vectors {
    CPU_PLAIN,
    CPU_AVX2,  /* with fused products */
    CPU_AVX512 /* F, VL, DQ and BW */
};

enum cpu_vectors cpu_vectors(void);
const char *cpu_vectors_name(enum cpu_vectors v); /* "plain" */

/* From here on denormals count as 0 on this thread (FTZ and DAZ), until cpu_denormals_restore with what
   this answers: arithmetic on them is many times slower, and no result of ours needs them. */
uint64_t cpu_denormals_flush(void);
void cpu_denormals_restore(uint64_t mode);

#endif
