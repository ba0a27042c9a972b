/*
 * made: labelled images that are drawn, to learn from where no data is at hand. They are hard for a
 * classifier that looks at single pixels, since places, sizes, colours and backgrounds are
 * anywhere, and easy for one that sees shapes.
 *
 *   glyphs  28 x 28 grey, 200 classes: strokes of a class' own, turned, stretched, moved, on noise
 *   shapes  48 x 64 RGB, 2 classes: something round or something with corners, lighter than what is
 *           behind it, a little turned, and two lines of its colour
 */
#ifndef DARKROOM_TESTS_MADE_H
#define DARKROOM_TESTS_MADE_H

#include <stdint.h>

struct made {
    const char *name;
    int height, width, channels, classes;
    /* image `seed` of the class: (height, width, channels) */
    void (*draw)(int class, uint64_t seed, uint8_t *out);
};
extern const struct made made_glyphs, made_shapes;

#endif
