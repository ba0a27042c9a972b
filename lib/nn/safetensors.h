/*
 * safetensors: named float32 tensors and text metadata as one file, in memory.
 *
 *   8 bytes   length of the header, little-endian
 *   header    JSON, padded with spaces: {"__metadata__":{key: text},
 *             name: {"dtype":"F32","shape":[...],"data_offsets":[begin,end]}, ...}
 *   data      the tensors one after another, row-major, little-endian
 *
 * The reader trusts nothing: lengths, types, shapes and offsets must agree, tensors must fill the
 * data without gap or overlap. Whatever is wrong is ERR_BAD (bad-model-file).
 */
#ifndef DARKROOM_NN_SAFETENSORS_H
#define DARKROOM_NN_SAFETENSORS_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

enum {
    SAFETENSORS_MAX_HEADER = 1 << 20, /* bytes */
    SAFETENSORS_MAX_TENSORS = 1024,
    SAFETENSORS_MAX_RANK = 4,
};

struct safetensors_tensor {
    const char *name;
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    const void *data; /* floats; of a file that was read, perhaps not aligned: copy with memcpy */
    size_t count;     /* floats, the product of the shape; the writer computes it itself */
};

struct safetensors_text {
    const char *key, *value;
};

/* Appends the file; the same arguments give the same bytes. ERR_FATAL when the header is too long.
 */
enum err_kind safetensors_write(const struct safetensors_text *text, int text_count,
                                const struct safetensors_tensor *tensor, int tensor_count,
                                struct buf *out, struct err *e) MUST_CHECK;

/* What is read borrows `file`. NULL and ERR_BAD (bad-model-file) when it is not one. */
struct safetensors;
struct safetensors *safetensors_read(struct bytes file, struct err *e) MUST_CHECK;
void safetensors_free(struct safetensors *s); /* NULL is fine */
int safetensors_count(const struct safetensors *s);
/* In the order of the header; NULL when there is none of that name. */
const struct safetensors_tensor *safetensors_at(const struct safetensors *s, int i);
const struct safetensors_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* The metadata; the value is NULL when there is none of that key. */
int safetensors_text_count(const struct safetensors *s);
struct safetensors_text safetensors_text_at(const struct safetensors *s, int i);
const char *safetensors_text(const struct safetensors *s, const char *key);

#endif
