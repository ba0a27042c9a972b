/*
 * matmul: float32 matrix products, the one door to OpenBLAS, which always runs in the calling
 * thread alone.
 *
 * OpenBLAS picks its kernels when it is loaded, and a version older than the processor falls back
 * to kernels for machines of fifteen years ago, four times slower. matmul_choose_kernels puts that
 * right.
 */
#ifndef DARKROOM_NN_MATMUL_H
#define DARKROOM_NN_MATMUL_H

/*
 * First thing in main. When the kernels chosen are worse than the processor allows, it sets
 * OPENBLAS_CORETYPE (and OPENBLAS_NUM_THREADS=1) and executes this program again, once, with the
 * same arguments; it returns when there is nothing to gain, or the execution fails. A user's own
 * OPENBLAS_CORETYPE is left alone.
 */
void matmul_choose_kernels(int argc, char **argv);
const char *matmul_kernels(void); /* "SkylakeX" */
/* All that the bits of a result depend on: OpenBLAS' version and kernels, and the vector unit that
   our own loops use. "OpenBLAS 0.3.21 SkylakeX, avx512" */
const char *matmul_machine(void);

/* Before the first product; net_make does it. */
void matmul_setup(void);

/* C = A B + beta C; A is (m, k), B is (k, n), C is (m, n), row-major; ld* is the floats from one
   row to the next. With beta 0 C may hold anything. */
void matmul(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta,
            float *c, int ldc);
/* C = A' B + beta C; A is (k, m) */
void matmul_at(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta,
               float *c, int ldc);
/* C = A B' + beta C; B is (n, k) */
void matmul_bt(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float beta,
               float *c, int ldc);

#endif
