/*
 * warp_of: rows of the new image for one kind of processor; warp.c includes this once for each.
 *
 *   UNIT(name)  its own names     TARGET  what the processor can do     FLOATS  of a vector
 *   LEAST(a, b), MOST(a, b)       of two vectors
 *   PICK(table, which)            of 8 floats
 *   GATHER(from, offset)          the 32 bits at each offset
 *   PUT(to, vector)               the low byte of each
 */
typedef float UNIT(vec) __attribute__((vector_size(FLOATS * sizeof(float))));
typedef float UNIT(loose) __attribute__((vector_size(FLOATS * sizeof(float)), aligned(4)));
typedef int32_t UNIT(ivec) __attribute__((vector_size(FLOATS * sizeof(int32_t))));
typedef int32_t UNIT(iloose) __attribute__((vector_size(FLOATS * sizeof(int32_t)), aligned(4)));
#define FLOAT(v) __builtin_convertvector(v, UNIT(vec))
#define WHOLE(v) __builtin_convertvector(v, UNIT(ivec))

/* What the grid adds in one direction. */
TARGET static inline __attribute__((always_inline)) UNIT(vec)
    UNIT(bend)(const float *nodes, UNIT(ivec) node, UNIT(vec) beyond) {
    UNIT(vec) left = PICK(nodes, node), right = PICK(nodes, node + 1);
    return left + beyond * (right - left);
}

TARGET static inline __attribute__((always_inline)) UNIT(vec)
    UNIT(between)(UNIT(ivec) bits, int right, UNIT(vec) fx) {
    UNIT(ivec) first = bits & 255, second = bits >> right & 255;
    return FLOAT(first) + fx * FLOAT(second - first);
}

TARGET static void UNIT(row)(const struct warper *w, const struct row *r, uint8_t *out) {
    const int line = w->width * w->channels;
    const UNIT(vec) zero = {0};
    for (int i = 0; i < w->width; i += FLOATS) {
        UNIT(vec) u = *(const UNIT(loose) *)(w->u + i);
        UNIT(vec) x = r->xx * u + r->x0, y = r->yx * u + r->y0;
        if (r->bent) {
            UNIT(ivec) node = *(const UNIT(iloose) *)(w->node + i);
            UNIT(vec) beyond = *(const UNIT(loose) *)(w->beyond + i);
            x += UNIT(bend)(r->dx, node, beyond);
            y += UNIT(bend)(r->dy, node, beyond);
        }
        x = LEAST(MOST(x, zero), zero + (float)(w->width - 1));
        y = LEAST(MOST(y, zero), zero + (float)(w->height - 1));
        UNIT(ivec) column = WHOLE(x), row = WHOLE(y);
        UNIT(vec) fx = x - FLOAT(column), fy = y - FLOAT(row);
        UNIT(ivec) at = row * line + column * w->channels;
        int left = w->width - i < FLOATS ? w->width - i : FLOATS;
        uint8_t bytes[FLOATS];
        for (int c = 0; c < w->channels; c++) {
            const uint8_t *in = w->in + c;
            UNIT(vec) top = UNIT(between)(GATHER(in, at), 8 * w->channels, fx);
            UNIT(vec) low = UNIT(between)(GATHER(in + line, at), 8 * w->channels, fx);
            PUT(bytes, WHOLE(top + fy * (low - top) + 0.5f));
            for (int k = 0; k < left; k++) out[(i + k) * w->channels + c] = bytes[k];
        }
    }
}

#undef FLOAT
#undef WHOLE
