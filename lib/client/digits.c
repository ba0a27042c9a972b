/*
 * digits: strokes, bent by a hand.
 *
 * A style of a digit is a list of points in a box one high: curves run smoothly through them
 * (Catmull-Rom), stop at corners, and the pen lifts between strokes. A hand has its favourite style of each
 * digit, its slant, proportions, a smooth distortion of the whole plane, its pen and its pressure; each
 * picture departs a little from its hand. A pixel's ink is the pen's radius there less the distance to the
 * nearest piece of curve; then a light blur and noise, as a scanner makes them.
 */
#include "lib/client/digits.h"

#include "lib/base/random.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum kind { END, MOVE, SMOOTH, CORNER };
struct point {
    enum kind kind;
    float x, y;
};
#define M(x, y) {MOVE, x##f, y##f}
#define S(x, y) {SMOOTH, x##f, y##f}
#define C(x, y) {CORNER, x##f, y##f}

enum { POINTS = 20, STYLES = 4, PIECES = 6 /* straight pieces between two points */, HANDS_SHARE = 50 };

static const struct point styles[10][STYLES][POINTS] = {
    {{M(.36, .02), S(.12, .18), S(.02, .50), S(.13, .84), S(.34, .98), S(.56, .82), S(.64, .50), S(.55, .16), S(.34, .02), S(.26, .06)},
     {M(.45, .06), S(.20, .10), S(.05, .40), S(.10, .80), S(.35, .97), S(.58, .75), S(.62, .35), S(.45, .05), S(.30, .03)},
     {M(.20, .10), S(.06, .42), S(.12, .82), S(.33, .98), S(.55, .80), S(.60, .40), S(.44, .08), S(.28, .02), S(.16, .16)}},
    {{M(.33, .0), S(.33, .50), S(.33, 1.)},
     {M(.12, .25), C(.36, .02), S(.35, .50), S(.34, 1.)},
     {M(.12, .22), C(.35, .02), S(.34, .50), S(.34, .98), M(.10, .98), S(.35, .97), S(.60, .97)},
     {M(.36, .0), S(.32, .50), S(.31, 1.)}},
    {{M(.08, .22), S(.20, .05), S(.42, .02), S(.58, .18), S(.52, .42), S(.28, .72), C(.05, .97), S(.35, .94), S(.64, .97)},
     {M(.10, .20), S(.30, .02), S(.55, .12), S(.56, .36), S(.36, .68), S(.14, .93), S(.04, .90), S(.12, .78), S(.30, .86), S(.48, .97), S(.65, .90)},
     {M(.08, .10), S(.35, .03), S(.56, .12), S(.40, .50), C(.06, .96), S(.35, .95), S(.62, .96)}},
    {{M(.10, .12), S(.30, .02), S(.52, .10), S(.53, .32), S(.38, .45), C(.24, .47), S(.45, .50), S(.60, .68), S(.50, .90), S(.28, .98), S(.06, .88)},
     {M(.10, .05), S(.30, .04), C(.55, .05), S(.40, .25), C(.27, .42), S(.48, .47), S(.60, .66), S(.52, .88), S(.30, .98), S(.07, .90)},
     {M(.08, .10), S(.32, .01), S(.54, .16), S(.44, .40), S(.30, .47), S(.46, .52), S(.58, .74), S(.40, .97), S(.06, .94)}},
    {{M(.18, .03), S(.12, .30), C(.06, .58), S(.35, .56), S(.64, .54), M(.48, .08), S(.46, .50), S(.44, 1.)},
     {M(.46, .0), S(.25, .32), C(.02, .66), S(.35, .64), S(.66, .63), M(.46, .0), S(.45, .50), S(.44, 1.)},
     {M(.06, .02), S(.04, .30), S(.10, .52), S(.30, .56), S(.53, .50), M(.56, .06), S(.53, .40), S(.48, 1.)}},
    {{M(.14, .04), S(.12, .25), C(.10, .44), S(.30, .38), S(.52, .46), S(.60, .68), S(.48, .90), S(.25, .98), S(.04, .90), M(.14, .04), S(.35, .04), S(.58, .02)},
     {M(.60, .04), S(.35, .05), C(.16, .08), S(.14, .28), C(.12, .42), S(.36, .40), S(.56, .58), S(.50, .86), S(.26, .98), S(.05, .92)},
     {M(.60, .05), S(.34, .05), S(.16, .18), S(.22, .38), S(.46, .50), S(.55, .70), S(.42, .93), S(.20, .98), S(.04, .90)}},
    {{M(.50, .02), S(.28, .18), S(.10, .50), S(.08, .78), S(.26, .97), S(.50, .90), S(.56, .70), S(.42, .54), S(.22, .60), S(.10, .76)},
     {M(.40, .0), S(.15, .30), S(.06, .68), S(.20, .95), S(.42, .95), S(.52, .75), S(.40, .60), S(.20, .68), S(.12, .82)},
     {M(.30, .0), S(.14, .35), S(.08, .70), S(.20, .96), S(.46, .95), S(.60, .76), S(.46, .60), S(.24, .62), S(.10, .75)}},
    {{M(.05, .06), S(.30, .05), C(.60, .04), S(.42, .45), S(.28, 1.)},
     {M(.05, .06), S(.30, .05), C(.60, .04), S(.42, .45), S(.28, 1.), M(.20, .50), S(.38, .49), S(.56, .48)},
     {M(.06, .20), C(.07, .05), S(.30, .06), C(.60, .05), S(.40, .50), S(.32, 1.)},
     {M(.06, .10), S(.30, .05), S(.52, .06), S(.58, .16), S(.42, .50), S(.30, 1.)}},
    {{M(.50, .14), S(.32, .02), S(.12, .14), S(.16, .34), S(.34, .48), S(.54, .66), S(.54, .88), S(.32, .98), S(.10, .88), S(.10, .66), S(.30, .48), S(.50, .30), S(.52, .14), S(.40, .04)},
     {M(.32, .02), S(.12, .12), S(.12, .34), S(.32, .45), S(.52, .34), S(.52, .12), S(.32, .02), M(.32, .45), S(.08, .58), S(.06, .84), S(.32, .98), S(.58, .84), S(.56, .58), S(.32, .45)},
     {M(.56, .06), S(.30, .04), S(.14, .20), S(.30, .42), S(.50, .62), S(.50, .88), S(.28, .98), S(.10, .84), S(.22, .58), S(.46, .34), S(.58, .08)}},
    {{M(.54, .16), S(.34, .03), S(.12, .14), S(.08, .36), S(.24, .50), S(.46, .40), C(.55, .16), S(.52, .50), S(.48, 1.)},
     {M(.54, .14), S(.32, .03), S(.10, .16), S(.10, .40), S(.30, .50), S(.50, .34), S(.55, .14), S(.54, .50), S(.44, .84), S(.20, .98), S(.08, .94)},
     {M(.50, .12), S(.30, .03), S(.10, .18), S(.14, .40), S(.34, .44), S(.52, .26), C(.56, .08), S(.44, .50), S(.30, 1.)}},
};

/* ---- chance ---- */

static float uniform(uint64_t *state, float from, float to) {
    return from + (to - from) * (float)(random_next(state) >> 40) * 0x1p-24f;
}
/* Mean 0, deviation 1, never beyond 3.5: the sum of twelve. */
static float normal(uint64_t *state) {
    float sum = -6;
    for (int i = 0; i < 12; i++) sum += uniform(state, 0, 1);
    return fminf(fmaxf(sum, -3.5f), 3.5f);
}

/* ---- a hand ---- */

enum { WAVES = 2 };
struct hand {
    int style[10];
    float slant, turn;                       /* x by y; radians */
    float width, height;                     /* of the box, in pixels */
    float pen;                               /* radius, pixels */
    float pressure, pressure_phase;          /* how much the radius changes along a stroke */
    float ink;                               /* 0..1 */
    float wave[WAVES][2], phase[WAVES][2];   /* the distortion: amplitude in x and y */
    float shaky;                             /* deviation of a point, of the height */
};

static struct hand make_hand(uint64_t state) {
    struct hand h;
    for (int d = 0; d < 10; d++) {
        int count = 0;
        while (count < STYLES && styles[d][count][0].kind == MOVE) count++;
        h.style[d] = (int)(random_next(&state) % (unsigned)count);
    }
    h.slant = 0.12f + 0.16f * normal(&state);
    h.turn = 0.06f * normal(&state);
    h.height = uniform(&state, 17.0f, 20.5f);
    h.width = h.height * (0.95f + 0.12f * normal(&state));
    h.pen = uniform(&state, 0.75f, 1.65f);
    h.pressure = uniform(&state, 0, 0.3f);
    h.pressure_phase = uniform(&state, 0, 6.28f);
    h.ink = uniform(&state, 0.8f, 1.0f);
    for (int i = 0; i < WAVES; i++)
        for (int k = 0; k < 2; k++) {
            h.wave[i][k] = 0.026f * normal(&state);
            h.phase[i][k] = uniform(&state, 0, 6.28f);
        }
    h.shaky = uniform(&state, 0.008f, 0.024f);
    return h;
}

/* The same hand on another day. */
static void vary(struct hand *h, uint64_t *state) {
    h->slant += 0.06f * normal(state);
    h->turn += 0.03f * normal(state);
    h->height *= 1 + 0.04f * normal(state);
    h->width *= 1 + 0.06f * normal(state);
    h->pen *= 1 + 0.08f * normal(state);
    for (int i = 0; i < WAVES; i++)
        for (int k = 0; k < 2; k++) h->wave[i][k] += 0.01f * normal(state);
}

/* From the box to the page, in pixels around the origin. */
static struct point place(const struct hand *h, struct point p) {
    float x = p.x - 0.33f, y = p.y - 0.5f;
    float bent_x = x, bent_y = y;
    for (int i = 0; i < WAVES; i++) {
        float rate = 4.2f * (float)(i + 1);
        bent_x += h->wave[i][0] * sinf(rate * y + h->phase[i][0]);
        bent_y += h->wave[i][1] * sinf(rate * x * 1.3f + h->phase[i][1]);
    }
    x = bent_x * h->width - h->slant * bent_y * h->height;
    y = bent_y * h->height;
    p.x = x * cosf(h->turn) - y * sinf(h->turn);
    p.y = x * sinf(h->turn) + y * cosf(h->turn);
    return p;
}

/* ---- drawing ---- */

static float catmull_rom(float a, float b, float c, float d, float t) {
    return b + 0.5f * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

/* Raises the ink along one straight piece; the pen's radius goes from r0 to r1. */
static void draw_piece(float *ink, struct point a, struct point b, float r0, float r1) {
    float dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy + 1e-9f, reach = fmaxf(r0, r1) + 1;
    int left = (int)floorf(fminf(a.x, b.x) - reach), right = (int)ceilf(fmaxf(a.x, b.x) + reach);
    int top = (int)floorf(fminf(a.y, b.y) - reach), bottom = (int)ceilf(fmaxf(a.y, b.y) + reach);
    for (int y = top < 0 ? 0 : top; y <= bottom && y < DIGITS_SIZE; y++)
        for (int x = left < 0 ? 0 : left; x <= right && x < DIGITS_SIZE; x++) {
            float px = (float)x - a.x, py = (float)y - a.y;
            float t = fminf(fmaxf((px * dx + py * dy) / length2, 0), 1);
            float distance = hypotf(px - t * dx, py - t * dy);
            float here = fminf(fmaxf(r0 + t * (r1 - r0) - distance + 0.5f, 0), 1);
            float *pixel = &ink[y * DIGITS_SIZE + x];
            *pixel = fmaxf(*pixel, here);
        }
}

/* p: the placed points. A curve's neighbours end at corners and where the pen lifts. */
static void draw_strokes(float *ink, const struct hand *h, const struct point *p) {
    float along = 0;
    for (size_t i = 1; p[i].kind != END; i++) {
        if (p[i].kind == MOVE) continue;
        struct point a = p[i - 1].kind == SMOOTH ? p[i - 2] : p[i - 1], b = p[i - 1], c = p[i];
        struct point d = c.kind == SMOOTH && (p[i + 1].kind == SMOOTH || p[i + 1].kind == CORNER) ? p[i + 1] : c;
        struct point from = b;
        float r0 = h->pen * (1 + h->pressure * sinf(along + h->pressure_phase));
        for (int k = 1; k <= PIECES; k++) {
            float t = (float)k / PIECES;
            struct point to = {SMOOTH, catmull_rom(a.x, b.x, c.x, d.x, t), catmull_rom(a.y, b.y, c.y, d.y, t)};
            along += hypotf(to.x - from.x, to.y - from.y) * 0.2f;
            float r1 = h->pen * (1 + h->pressure * sinf(along + h->pressure_phase));
            draw_piece(ink, from, to, r0, r1);
            from = to;
            r0 = r1;
        }
    }
}

/* Each pixel takes `share` of its four neighbours. */
static void blur(const float *from, float *to, float share) {
    for (int y = 0; y < DIGITS_SIZE; y++)
        for (int x = 0; x < DIGITS_SIZE; x++) {
            int i = y * DIGITS_SIZE + x;
            float around = (y ? from[i - DIGITS_SIZE] : 0) + (y + 1 < DIGITS_SIZE ? from[i + DIGITS_SIZE] : 0) +
                           (x ? from[i - 1] : 0) + (x + 1 < DIGITS_SIZE ? from[i + 1] : 0);
            to[i] = (1 - share) * from[i] + share / 4 * around;
        }
}

void digits_draw(int digit, uint64_t seed, uint64_t number, uint8_t out[DIGITS_PIXELS]) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u ^ (number + 1) * 0xd1342543de82ef95u;
    uint64_t hands = number / HANDS_SHARE + 1; /* so many have written so far */
    uint64_t hand_state = seed * 0xda942042e4dd58b5u + (random_next(&state) % (hands + 40)) * 0x2545f4914f6cdd1du;
    struct hand h = make_hand(hand_state);
    vary(&h, &state);
    struct point p[POINTS + 1] = {0};
    float middle = (DIGITS_SIZE - 1) / 2.0f;
    float shift_x = middle + 1.0f * normal(&state), shift_y = middle + 0.8f * normal(&state);
    for (size_t i = 0; i < POINTS && styles[digit][h.style[digit]][i].kind != END; i++) {
        p[i] = styles[digit][h.style[digit]][i];
        p[i].x += h.shaky * normal(&state);
        p[i].y += h.shaky * normal(&state);
        p[i] = place(&h, p[i]);
        p[i].x += shift_x;
        p[i].y += shift_y;
    }
    float ink[DIGITS_PIXELS] = {0}, soft[DIGITS_PIXELS];
    draw_strokes(ink, &h, p);
    blur(ink, soft, uniform(&state, 0.1f, 0.4f));
    float noise = uniform(&state, 0, 0.04f);
    for (int i = 0; i < DIGITS_PIXELS; i++) {
        float v = h.ink * soft[i] + noise * (uniform(&state, -1, 1) + uniform(&state, -1, 1));
        out[i] = (uint8_t)(fminf(fmaxf(v, 0), 1) * 255 + 0.5f);
    }
}
