/* made: everything is drawn by its distance from a line or an edge, so that edges are smooth. */
#include "tests/bench/made.h"

#include "lib/base/random.h"

#include <math.h>

static double between(uint64_t *seed, double least, double most) {
    return least + (most - least) * random_uniform(seed);
}

static uint8_t to_byte(double v) {
    return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)(v + 0.5);
}

/* ---- glyphs ---- */

enum { GLYPH = 28, STROKES = 3, JOINTS = 4 };

static double from_segment(double px, double py, const double *a, const double *b) {
    double dx = b[0] - a[0], dy = b[1] - a[1], length = dx * dx + dy * dy;
    double t = length > 0 ? ((px - a[0]) * dx + (py - a[1]) * dy) / length : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return hypot(px - a[0] - t * dx, py - a[1] - t * dy);
}

/* The class' own strokes, within -0.35..0.35 around the middle. */
static void strokes_of(int class, double joints[STROKES][JOINTS][2]) {
    uint64_t seed = 977 * (uint64_t) class + 5;
    for (int s = 0; s < STROKES; s++)
        for (int j = 0; j < JOINTS; j++) {
            if (j == 0 || random_uniform(&seed) < 0.2) {
                joints[s][j][0] = between(&seed, -0.35, 0.35);
                joints[s][j][1] = between(&seed, -0.35, 0.35);
                continue;
            }
            double angle = between(&seed, 0, 6.2832), far = between(&seed, 0.15, 0.35);
            double x = joints[s][j - 1][0] + far * cos(angle),
                   y = joints[s][j - 1][1] + far * sin(angle);
            joints[s][j][0] = x < -0.35 ? -0.35 : x > 0.35 ? 0.35 : x;
            joints[s][j][1] = y < -0.35 ? -0.35 : y > 0.35 ? 0.35 : y;
        }
}

static void draw_glyph(int class, uint64_t seed, uint8_t *out) {
    double joints[STROKES][JOINTS][2];
    strokes_of(class, joints);
    double angle = between(&seed, -0.25, 0.25), scale = between(&seed, 0.75, 1.15),
           slant = between(&seed, -0.2, 0.2), mx = between(&seed, -0.14, 0.14),
           my = between(&seed, -0.14, 0.14), thick = between(&seed, 0.02, 0.04),
           ink = between(&seed, 140, 255), paper = between(&seed, 0, 60);
    for (int s = 0; s < STROKES; s++)
        for (int j = 0; j < JOINTS; j++) {
            double x = joints[s][j][0] + between(&seed, -0.02, 0.02),
                   y = joints[s][j][1] + between(&seed, -0.02, 0.02);
            x += slant * y;
            joints[s][j][0] = 0.5 + mx + scale * (x * cos(angle) - y * sin(angle));
            joints[s][j][1] = 0.5 + my + scale * (x * sin(angle) + y * cos(angle));
        }
    for (int y = 0; y < GLYPH; y++)
        for (int x = 0; x < GLYPH; x++) {
            double far = 9, px = (x + 0.5) / GLYPH, py = (y + 0.5) / GLYPH;
            for (int s = 0; s < STROKES; s++)
                for (int j = 1; j < JOINTS; j++)
                    far = fmin(far, from_segment(px, py, joints[s][j - 1], joints[s][j]));
            double edge = (far - thick) * GLYPH, cover = edge < 0 ? 1 : edge > 1 ? 0 : 1 - edge;
            out[y * GLYPH + x] = to_byte(paper + cover * (ink - paper) + 18 * random_either(&seed));
        }
}

const struct made made_glyphs = {"glyphs", GLYPH, GLYPH, 1, 200, draw_glyph};

/* ---- shapes ---- */

enum { SHAPE_H = 48, SHAPE_W = 64 };

/* Below 0 inside: an ellipse, or a rectangle or a triangle, of half sides a and b. */
static double edge_of(int kind, double u, double v, double a, double b) {
    if (kind == 0) return (hypot(u / a, v / b) - 1) * fmin(a, b);
    if (kind == 1) return fmax(fabs(u) - a, fabs(v) - b);
    return fmax(v - b, (fabs(u) * 2 * b - (v + b) * a) / hypot(2 * b, a));
}

static void draw_shape(int class, uint64_t seed, uint8_t *out) {
    int kind = class == 0 ? 0 : random_uniform(&seed) < 0.5 ? 1 : 2;
    double back[3], slope[3][2], fill[3], lighter;
    for (int c = 0; c < 3; c++) {
        back[c] = between(&seed, 20, 140);
        slope[c][0] = between(&seed, -1.2, 1.2);
        slope[c][1] = between(&seed, -1.2, 1.2);
    }
    do { /* a colour that can be told from the background's, and lighter */
        lighter = 0;
        for (int c = 0; c < 3; c++) {
            fill[c] = between(&seed, 10, 245);
            lighter += fill[c] - back[c];
        }
    } while (lighter < 150);
    double a = between(&seed, 7, 14), b = a * between(&seed, 0.7, 1.3),
           angle = between(&seed, -0.4, 0.4), cx = between(&seed, 15, SHAPE_W - 15),
           cy = between(&seed, 15, SHAPE_H - 15), cosine = cos(angle), sine = sin(angle);
    double line[2][3]; /* two lines across the picture, of its colour */
    for (int i = 0; i < 2; i++) {
        double turn = between(&seed, 0, 6.2832);
        line[i][0] = cos(turn);
        line[i][1] = sin(turn);
        line[i][2] =
            line[i][0] * between(&seed, 0, SHAPE_W) + line[i][1] * between(&seed, 0, SHAPE_H);
    }
    for (int y = 0; y < SHAPE_H; y++)
        for (int x = 0; x < SHAPE_W; x++, out += 3) {
            double u = (x - cx) * cosine + (y - cy) * sine, v = (y - cy) * cosine - (x - cx) * sine;
            double edge = edge_of(kind, u, v, a, b);
            double cover = edge < -0.5 ? 1 : edge > 0.5 ? 0 : 0.5 - edge;
            for (int i = 0; i < 2; i++) {
                double near = 1.5 - fabs(line[i][0] * x + line[i][1] * y - line[i][2]);
                if (near > 0 && cover < 0.6) cover = near < 0.6 ? near : 0.6;
            }
            for (int c = 0; c < 3; c++) {
                double ground =
                    back[c] + slope[c][0] * (x - SHAPE_W / 2) + slope[c][1] * (y - SHAPE_H / 2);
                out[c] = to_byte(ground + cover * (fill[c] - ground) + 14 * random_either(&seed));
            }
        }
}

const struct made made_shapes = {"shapes", SHAPE_H, SHAPE_W, 3, 2, draw_shape};
