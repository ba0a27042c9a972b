/*
 * idx: the header of an IDX file, the format in which MNIST is given: two zero bytes, 8 for unsigned bytes,
 * the number of dimensions, each dimension as a big-endian 32-bit number, then the bytes.
 */
#ifndef DARKROOM_CLIENT_IDX_H
#define DARKROOM_CLIENT_IDX_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

enum { IDX_HEADER_MAX = 4 + 3 * 4 };

/* `head` is the file's beginning, at least 4 + 4 * dims bytes of it. ERR_BAD (broken-image) unless it is a
   file of unsigned bytes of `dims` dimensions (1 or 3) whose length is exactly what they say. */
enum err_kind idx_header(struct bytes head, int64_t file_size, int dims, int64_t sizes[3], struct err *e) MUST_CHECK;

#endif
