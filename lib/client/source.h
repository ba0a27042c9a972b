/*
 * source: the images that the operands of publish and predict name: folder trees, single files, and IDX
 * files with their labels beside them. Only names are kept; bytes are read one image at a time.
 */
#ifndef DARKROOM_CLIENT_SOURCE_H
#define DARKROOM_CLIENT_SOURCE_H

#include "lib/base/bytes.h"
#include "lib/base/err.h"

struct source_image {
    const char *path; /* of its file */
    uint32_t name_at; /* where in the path the name below the operand begins */
    int32_t idx;      /* of which IDX file; -1: the file is the image */
    int64_t index;    /* in the IDX file */
    uint64_t order;
};

struct source {
    struct source_image *images;
    size_t count, cap;
    struct arena names;
    struct source_idx *idx;
    size_t idx_count;
    uint8_t *pixels; /* of one IDX image */
    struct ahead *ahead; /* once the disk turned out to be slow */
    int64_t reads, read_us;
};

/* An operand, with all that is below it; what begins with a dot is left out, folders behind symbolic links
   are not entered. ERR_FATAL when it cannot be read. */
enum err_kind source_add(struct source *s, const char *path, struct err *e) MUST_CHECK;
/* One file below `top`, without looking at it. */
void source_add_file(struct source *s, const char *top, const char *path);
/* Shuffled by a hash of the names, the same each time; or by name. */
void source_sort(struct source *s, bool shuffle);
void source_clear(struct source *s); /* forgets the images, keeps the memory */
void source_free(struct source *s);

/* What to call it: the name below the operand, "train-images-idx3-ubyte#17" in an IDX file. Borrowed until
   the next call. */
const char *source_name(const struct source *s, const struct source_image *im);
/* The label: the name of the file's folder when that is below the operand, the number in an IDX file's
   labels; absent when there is none. Borrowed as source_name. */
struct bytes source_label(const struct source *s, const struct source_image *im);
/* "7/0001.png" -> "7", "0001.png" -> absent. Borrowed from the name. */
struct bytes source_label_of(const char *name);

/*
 * The bytes to send, into `out`: the file's own, or a PNG of the IDX image. ERR_BAD not-png: it does not
 * begin as a PNG file does, and was read only so far, unless `any`; ERR_BAD of another reason: it cannot be
 * read, or is larger than `most` bytes.
 */
enum err_kind source_read(struct source *s, const struct source_image *im, int64_t most, bool any,
                          struct buf *out, struct err *e) MUST_CHECK;

#endif
