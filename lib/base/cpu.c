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
