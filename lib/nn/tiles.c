/* tiles.c: for AVX-512, and for AVX2 with fused products; elsewhere nothing fits. */
#include "lib/nn/tiles.h"

#include "lib/nn/wide.h"

#if defined(__x86_64__) && !defined(CPU_SANITIZED)

#include <immintrin.h>

#define UNIT(name) name##_avx512
#define MASK __mmask16
#define MASK_OF(n) ((__mmask16)((1u << ((n) < 16 ? (n) : 16)) - 1))
#define LOAD(mask, from) ((vec_avx512)_mm512_maskz_loadu_ps(mask, from))
#define STORE(mask, to, v) _mm512_mask_storeu_ps(to, mask, (__m512)(v))
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma")))
#define FLOATS 16
#define MOST_ROWS 14
#include "lib/nn/tiles_of.h"
#undef UNIT
#undef TARGET
#undef FLOATS
#undef MOST_ROWS
#undef MASK
#undef MASK_OF
#undef LOAD
#undef STORE

#define UNIT(name) name##_avx2
#define MASK __m256i
#define MASK_OF(n)                                                                                 \
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
#define LOAD(mask, from) ((vec_avx2)_mm256_maskload_ps(from, mask))
#define STORE(mask, to, v) _mm256_maskstore_ps(to, mask, (__m256)(v))
#define TARGET __attribute__((target("avx2,fma")))
#define FLOATS 8
#define MOST_ROWS 6
#include "lib/nn/tiles_of.h"

bool tiles_fit(void) {
    return cpu_vectors() != CPU_PLAIN;
}

void tiles_product(int m, int n, const struct tiles_a *a, const float *b, size_t ldb, bool add,
                   float *c, size_t ldc) {
    if (cpu_vectors() == CPU_AVX512)
        product_avx512(m, n, a, b, ldb, add, c, ldc);
    else
        product_avx2(m, n, a, b, ldb, add, c, ldc);
}

#else

bool tiles_fit(void) {
    return false;
}

void tiles_product(int m, int n, const struct tiles_a *a, const float *b, size_t ldb, bool add,
                   float *c, size_t ldc) {}

#endif
