/*
 * augment: a changed copy of a training image, another one each time it is seen: turned, stretched,
 * sheared, moved, bent and cut for what keeps its meaning so, mirrored and recoloured for photos.
 */
#ifndef DARKROOM_IMAGE_AUGMENT_H
#define DARKROOM_IMAGE_AUGMENT_H

#include <stddef.h>
#include <stdint.h>

/* How far each change goes at most; every image draws its own evenly up to there, either way. All
   0: nothing is changed. */
struct augment {
    double rotate;  /* degrees */
    double scale;   /* share of the size; width and height each draw their own */
    double shear;   /* tangent of the angle */
    double shift;   /* share of the side */
    double elastic; /* share of the side by which points of a coarse grid move by themselves; as in
                       Simard, Steinkraus, Platt 2003, with a grid in place of the Gaussian */
    double flip;    /* chance of a mirror image, left for right */
    double crop;    /* share of the sides that is cut off */
    double color;   /* share of brightness, contrast and, with three channels, saturation */
};

struct augmenter; /* tables for one size of image; one thread at a time */

struct augmenter *augmenter_make(const struct augment *how, int height, int width, int channels);
void augmenter_free(struct augmenter *a); /* NULL is fine */

/* in and out: (height, width, channels) uint8, not the same memory. What comes in from outside the
   image is its edge, continued. The same seed gives the same image. */
void augmenter_run(struct augmenter *a, uint64_t seed, const uint8_t *in, uint8_t *out);

#endif
