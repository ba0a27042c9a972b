/*
 * digits: handwritten digits of many hands, made from nothing: for trying Darkroom without anybody's data.
 */
#ifndef DARKROOM_CLIENT_DIGITS_H
#define DARKROOM_CLIENT_DIGITS_H

#include <stdint.h>

enum { DIGITS_SIZE = 28, DIGITS_PIXELS = DIGITS_SIZE * DIGITS_SIZE };

/* Draws digit (0..9), white on black, (28, 28) row-major. The same seed and number give the same picture;
   a hand writes about one picture in fifty. */
void digits_draw(int digit, uint64_t seed, uint64_t number, uint8_t out[DIGITS_PIXELS]);

#endif
