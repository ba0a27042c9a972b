/*
 * pen: a canvas to draw a report's pictures on: boxes, images, and words in letters of 3 x 5
 * pixels. What would fall off the canvas is left out.
 */
#ifndef DARKROOM_EXPORT_PEN_H
#define DARKROOM_EXPORT_PEN_H

#include "lib/image/png.h"

enum { PEN_STEP = 4, PEN_HEIGHT = 5 }; /* pixels of a letter with its gap, at size 1 */

struct colour {
    uint8_t r, g, b;
};

void pen_canvas(struct image *canvas, int width, int height); /* white RGB; owned */
void pen_box(struct image *canvas, int x, int y, int width, int height, struct colour c);
/* At most `most` characters of UTF-8; one that has no shape here is a block. Upwards: turned to the
   left, beginning at the lower end. Both are at their upper left corner x, y (pixels). */
void pen_text(struct image *canvas, int x, int y, int size, const char *text, int most,
              struct colour c);
void pen_text_upwards(struct image *canvas, int x, int y, int size, const char *text, int most,
                      struct colour c);
/* The text in at most `most` characters; of a longer one the middle is left out: cla..e7. */
void pen_fit(const char *text, int most, char *out, size_t size);
int pen_length(const char *text, int most); /* characters that would be drawn */
/* The image, its proportions kept, in the middle of a square. */
void pen_image(struct image *canvas, int x, int y, int side, const struct image *from);

#endif
