/* tiles: products of every shape of tile, for each unit that this processor has, against a plain sum;
   the factors end where a page ends that nobody may read, and around C nothing is written. */
#define _GNU_SOURCE
#include "lib/nn/tiles.c"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

#if defined(__x86_64__) && !defined(CPU_SANITIZED)

enum { MOST = 64 * 1024 };

/* MOST floats, behind which lies the page; filled(n) are the last n of them. */
static float *pages(void) {
    size_t size = MOST * sizeof(float), page = (size_t)sysconf(_SC_PAGESIZE);
    char *at = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(mprotect(at + size, page, PROT_NONE), 0);
    return (float *)at;
}

static float *filled(float *pages, size_t n) {
    assert_true(n <= MOST);
    float *x = pages + MOST - n;
    for (size_t i = 0; i < n; i++) x[i] = (float)(rand() % 2001 - 1000) / 1000;
    return x;
}

static float *page_a, *page_b, *page_c;
static double worst;

static void try(enum cpu_vectors u, int m, int n, struct tiles_a t, bool add) {
    size_t last = (m - 1) * t.row + (t.outer - 1) * t.jump + (t.inner - 1) * t.step;
    int k = t.outer * t.inner, ldb = n + 3, ldc = n + 5;
    float *b = filled(page_b, (size_t)(k - 1) * ldb + n);
    float *c = filled(page_c, (size_t)(m - 1) * ldc + n), *before = malloc(MOST * sizeof *before);
    t.a = filled(page_a, last + 1);
    memcpy(before, page_c, MOST * sizeof *before);
    (u == CPU_AVX512 ? product_avx512 : product_avx2)(m, n, &t, b, ldb, add, c, ldc);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            size_t at = c - page_c + (size_t)i * ldc + j;
            double sum = add ? before[at] : 0;
            for (int p = 0; p < k; p++)
                sum += (double)t.a[i * t.row + p / t.inner * t.jump + p % t.inner * t.step] *
                       b[(size_t)p * ldb + j];
            double off = fabs(page_c[at] - sum);
            if (off > worst) worst = off;
            if (!(off < 1e-4)) fail_msg("%d x %d x %d, (%d, %d): off by %g", m, n, k, i, j, off);
            before[at] = page_c[at];
        }
    assert_memory_equal(before, page_c, MOST * sizeof *before);
    free(before);
}

static void test_shapes(void **state) {
    page_a = pages(), page_b = pages(), page_c = pages();
    for (enum cpu_vectors u = CPU_AVX2; u <= cpu_vectors(); u++)
        for (int m = 1; m <= 30; m++)
            for (int n = 1; n <= 70; n += n < 35 ? 1 : 7) {
                /* as it stands; turned; windows of 3 rows of a row of an image */
                try(u, m, n, (struct tiles_a){.row = 20, .step = 1, .inner = 19, .outer = 1},
                    false);
                try(u, m, n, (struct tiles_a){.row = 1, .step = m + 2, .inner = 17, .outer = 1},
                    true);
                try(u, m, n,
                    (struct tiles_a){.row = 2, .step = 1, .inner = 5, .jump = 90, .outer = 3},
                    m & 1);
            }
    print_message("units: %d; largest difference %.1e\n", (int)cpu_vectors(), worst);
}

#else

static void test_shapes(void **state) {
    assert_false(tiles_fit());
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes)};
    return cmocka_run_group_tests_name("tiles", tests, NULL, NULL);
}
