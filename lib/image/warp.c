/* warp: a row at a time; with vectors several pixels of it at once. */
#include "lib/image/warp.h"

#include "lib/base/bytes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROOM = 16, /* of the widest vector, behind the tables */
    PICKED = 8 /* floats of a row's nodes, of which WARP_NODES are */
};

struct warper {
    int height, width, channels;
    enum cpu_vectors vectors;
    float *u;      /* (width): of each pixel, from the middle */
    int32_t *node; /* (width): the grid's column left of it */
    float *beyond; /* (width): and how far it is beyond that, 0..1 */
    uint8_t *in;   /* the old image, and a row and 4 bytes that are read but do not count */
};

/* A row of the new image. */
struct row {
    float xx, x0, yx,
        y0; /* pixel u comes from (xx u + x0, yx u + y0) of the old one, from its corner */
    bool bent;
    float dx[PICKED], dy[PICKED]; /* at the grid's columns */
};

static size_t line_of(const struct warper *w) {
    return (size_t)w->width * (size_t)w->channels;
}

struct warper *warper_make(int height, int width, int channels, enum cpu_vectors most) {
    struct warper *w = mem_zeroed(1, sizeof *w);
    *w = (struct warper){.height = height, .width = width, .channels = channels, .vectors = most};
#if !defined(__x86_64__) || defined(CPU_SANITIZED)
    w->vectors = CPU_PLAIN;
#endif
    /* A pixel and its right neighbour are to be within 32 bits. */
    if (channels > 3 || w->vectors > cpu_vectors()) w->vectors = CPU_PLAIN;
    w->u = mem_zeroed((size_t)width + ROOM, sizeof *w->u);
    w->node = mem_zeroed((size_t)width + ROOM, sizeof *w->node);
    w->beyond = mem_zeroed((size_t)width + ROOM, sizeof *w->beyond);
    w->in = mem_zeroed(((size_t)height + 1) * line_of(w) + 4, 1);
    for (int i = 0; i < width; i++) {
        double at = (double)i * (WARP_NODES - 1) / width;
        w->u[i] = (float)i - 0.5f * (float)(width - 1);
        w->node[i] = (int32_t)at;
        w->beyond[i] = (float)(at - floor(at));
    }
    return w;
}

void warper_free(struct warper *w) {
    if (!w) return;
    free(w->u);
    free(w->node);
    free(w->beyond);
    free(w->in);
    free(w);
}

enum cpu_vectors warper_vectors(const struct warper *w) {
    return w->vectors;
}

static void row_of(const struct warper *w, const struct warp *how, int at, struct row *r) {
    float middle_x = 0.5f * (float)(w->width - 1), middle_y = 0.5f * (float)(w->height - 1);
    float v = (float)at - middle_y;
    *r = (struct row){.xx = how->xx,
                      .x0 = how->xy * v + how->x0 + middle_x,
                      .yx = how->yx,
                      .y0 = how->yy * v + how->y0 + middle_y,
                      .bent = how->bent};
    if (!r->bent) return;
    float down = (float)at * (WARP_NODES - 1) / (float)w->height;
    int node = (int)down;
    down -= (float)node;
    for (int k = 0; k < WARP_NODES; k++) {
        r->dx[k] = how->dx[node][k] + down * (how->dx[node + 1][k] - how->dx[node][k]);
        r->dy[k] = how->dy[node][k] + down * (how->dy[node + 1][k] - how->dy[node][k]);
    }
}

static float clamp(float v, float most) {
    v = v < 0 ? 0 : v;
    return v > most ? most : v;
}

static void row_plain(const struct warper *w, const struct row *r, uint8_t *out) {
    int channels = w->channels, line = w->width * channels;
    for (int i = 0; i < w->width; i++, out += channels) {
        float x = r->xx * w->u[i] + r->x0, y = r->yx * w->u[i] + r->y0, beyond = w->beyond[i];
        if (r->bent) {
            const float *dx = r->dx + w->node[i], *dy = r->dy + w->node[i];
            x += dx[0] + beyond * (dx[1] - dx[0]);
            y += dy[0] + beyond * (dy[1] - dy[0]);
        }
        x = clamp(x, (float)(w->width - 1));
        y = clamp(y, (float)(w->height - 1));
        int column = (int)x, row = (int)y;
        float fx = x - (float)column, fy = y - (float)row;
        const uint8_t *p = w->in + (ptrdiff_t)row * line + (ptrdiff_t)column * channels;
        for (int c = 0; c < channels; c++, p++) {
            float top = (float)p[0] + fx * (float)(p[channels] - p[0]);
            float low = (float)p[line] + fx * (float)(p[line + channels] - p[line]);
            out[c] = (uint8_t)(top + fy * (low - top) + 0.5f);
        }
    }
}

#if defined(__x86_64__) && !defined(CPU_SANITIZED)

#include <immintrin.h>

#define UNIT(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw")))
#define FLOATS 16
#define LEAST(a, b) ((vec_avx512)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define MOST(a, b) ((vec_avx512)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define PICK(table, which)                                                                         \
    ((vec_avx512)_mm512_permutexvar_ps((__m512i)(which),                                           \
                                       _mm512_castps256_ps512(_mm256_loadu_ps(table))))
#define GATHER(from, offset) ((ivec_avx512)_mm512_i32gather_epi32((__m512i)(offset), from, 1))
#define PUT(to, v) _mm_storeu_si128((__m128i *)(to), _mm512_cvtepi32_epi8((__m512i)(v)))
#include "lib/image/warp_of.h"
#undef UNIT
#undef TARGET
#undef FLOATS
#undef LEAST
#undef MOST
#undef PICK
#undef GATHER
#undef PUT

#define UNIT(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define FLOATS 8
#define LEAST(a, b) ((vec_avx2)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define MOST(a, b) ((vec_avx2)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define PICK(table, which)                                                                         \
    ((vec_avx2)_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)(which)))
#define GATHER(from, offset)                                                                       \
    ((ivec_avx2)_mm256_i32gather_epi32((const int *)(const void *)(from), (__m256i)(offset), 1))
/* All are within 0..255, which packing with saturation keeps. */
#define PUT(to, v)                                                                                 \
    do {                                                                                           \
        __m128i half = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)(v)),                       \
                                       _mm256_extracti128_si256((__m256i)(v), 1));                 \
        _mm_storel_epi64((__m128i *)(to), _mm_packus_epi16(half, half));                           \
    } while (0)
#include "lib/image/warp_of.h"

static void row_wide(const struct warper *w, const struct row *r, uint8_t *out) {
    if (w->vectors == CPU_AVX512)
        row_avx512(w, r, out);
    else
        row_avx2(w, r, out);
}

#else

static void row_wide(const struct warper *w, const struct row *r, uint8_t *out) {
    row_plain(w, r, out);
}

#endif

void warper_run(struct warper *w, const struct warp *how, const uint8_t *in, uint8_t *out) {
    size_t line = line_of(w);
    struct row r;
    memcpy(w->in, in, (size_t)w->height * line);
    for (int y = 0; y < w->height; y++, out += line) {
        row_of(w, how, y, &r);
        if (w->vectors == CPU_PLAIN)
            row_plain(w, &r, out);
        else
            row_wide(w, &r, out);
    }
}
