/* matmul.c: OpenBLAS, one thread, and the choice of its kernels by executing the program again. */
#define _POSIX_C_SOURCE 200809L
#include "lib/nn/matmul.h"

#include "lib/base/cpu.h"

#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* How good a core's kernels are on x86-64: 0 for what OpenBLAS falls back to, 1 for AVX2 with FMA,
   2 for AVX-512. */
static int quality(const char *core) {
    static const char *const avx512[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    static const char *const avx2[] = {"Haswell", "Zen", "Excavator"};
    for (size_t i = 0; i < sizeof avx512 / sizeof *avx512; i++)
        if (!strcasecmp(core, avx512[i])) return 2;
    for (size_t i = 0; i < sizeof avx2 / sizeof *avx2; i++)
        if (!strcasecmp(core, avx2[i])) return 1;
    return 0;
}

/* The OpenBLAS core to ask for on this processor, or NULL to leave the choice to it. */
static const char *best_core(void) {
    static const char *const cores[] = {
        [CPU_PLAIN] = NULL, [CPU_AVX2] = "Haswell", [CPU_AVX512] = "SkylakeX"};
    return cores[cpu_vectors()];
}

void matmul_choose_kernels(int argc, char **argv) {
    (void)argc;
    const char *core = best_core();
    if (!core || quality(matmul_kernels()) >= quality(core)) return;
    if (getenv("OPENBLAS_CORETYPE")) return; /* the user's, or ours of the first time */
    if (setenv("OPENBLAS_CORETYPE", core, 1) || setenv("OPENBLAS_NUM_THREADS", "1", 1)) return;
    execv("/proc/self/exe", argv);
    unsetenv("OPENBLAS_CORETYPE"); /* slow is better than not at all */
}

const char *matmul_kernels(void) {
    return openblas_get_corename();
}

const char *matmul_machine(void) {
    static char text[120];
    const char *config = openblas_get_config();
    const char *version = strstr(config, "OpenBLAS ");
    version = version ? version + 9 : config;
    snprintf(text, sizeof text, "OpenBLAS %.*s %s, %s", (int)strcspn(version, " "), version,
             matmul_kernels(), cpu_vectors_name(cpu_vectors()));
    return text;
}

static void one_thread(void) {
    openblas_set_num_threads(1);
}

void matmul_setup(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, one_thread);
}

void matmul(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta,
            float *c, int ldc) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, lda, b, ldb, beta, c,
                ldc);
}

void matmul_at(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta,
               float *c, int ldc) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}

void matmul_bt(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta,
               float *c, int ldc) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1, a, lda, b, ldb, beta, c, ldc);
}
