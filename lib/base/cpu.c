/* cpu: asks the compiler, which asks the processor and the kernel. */
#include "lib/base/cpu.h"

enum cpu_vectors cpu_vectors(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
        return CPU_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return CPU_AVX2;
#endif
    return CPU_PLAIN;
}

const char *cpu_vectors_name(enum cpu_vectors v) {
    return v == CPU_AVX512 ? "avx512" : v == CPU_AVX2 ? "avx2" : "plain";
}

#if defined(__x86_64__)
enum { FTZ = 0x8000, DAZ = 0x40 }; /* of MXCSR */

uint64_t cpu_denormals_flush(void) {
    unsigned mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode | FTZ | DAZ);
    return mode;
}

void cpu_denormals_restore(uint64_t mode) {
    __builtin_ia32_ldmxcsr((unsigned)mode);
}
#elif defined(__aarch64__)
enum { FZ = 1 << 24 }; /* of FPCR */

uint64_t cpu_denormals_flush(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode | FZ));
    return mode;
}

void cpu_denormals_restore(uint64_t mode) {
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
}
#else
uint64_t cpu_denormals_flush(void) {
    return 0;
}

void cpu_denormals_restore(uint64_t mode) {
    (void)mode;
}
#endif
