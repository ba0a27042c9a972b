/*
 * answer: forward over many images with several threads. They take pieces of ANSWER_PIECE images in
 * turn, so that an image's answer is the same, bit for bit, however many threads there are.
 */
#ifndef DARKROOM_NN_ANSWER_H
#define DARKROOM_NN_ANSWER_H

#include "lib/nn/crew.h"
#include "lib/nn/net.h"

enum { ANSWER_PIECE = 64 };

struct answerer;

/* Borrows both; a crew does one thing at a time. */
struct answerer *answerer_make(const struct net *net, struct crew *crew);
void answerer_free(struct answerer *a); /* NULL is fine */

/* Any number of images, x (n, height, width, channels) bytes, to prob (n, classes). params as for
   net_forward. */
void answerer_forward(struct answerer *a, const float *params, const uint8_t *x, size_t n,
                      float *prob);

#endif
