/*
 * idx: the header of an IDX file; what does not fit to the last byte is refused.
 */
#include "lib/client/idx.h"

enum err_kind idx_header(struct bytes head, int64_t file_size, int dims, int64_t sizes[3], struct err *e) {
    const unsigned char *p = head.data;
    if (head.len >= 2 && p[0] == 0x1f && p[1] == 0x8b)
        return err_bad(e, REASON_BROKEN_IMAGE, "it is compressed: gunzip it first");
    if (head.len < 4 || p[0] || p[1])
        return err_bad(e, REASON_BROKEN_IMAGE, "it does not begin as an IDX file does");
    if (p[2] != 8) return err_bad(e, REASON_BROKEN_IMAGE, "its values are of type 0x%02x: only 0x08, unsigned bytes, is read", p[2]);
    if (p[3] != dims) return err_bad(e, REASON_BROKEN_IMAGE, "it has %d dimensions, not %d", p[3], dims);
    if (head.len < 4 + 4 * (size_t)dims) return err_bad(e, REASON_BROKEN_IMAGE, "its header is cut short");
    int64_t bytes = 1;
    for (int i = 0; i < dims; i++) {
        const unsigned char *q = p + 4 + 4 * i;
        sizes[i] = (int64_t)q[0] << 24 | (int64_t)q[1] << 16 | (int64_t)q[2] << 8 | (int64_t)q[3];
        if ((i > 0 && (sizes[i] < 1 || sizes[i] > 65535)) || (sizes[i] && bytes > INT64_MAX / sizes[i]))
            return err_bad(e, REASON_BROKEN_IMAGE, "its dimension %d is %lld", i + 1, (long long)sizes[i]);
        bytes *= sizes[i];
    }
    int64_t expected = 4 + 4 * dims;
    if (file_size - expected != bytes)
        return err_bad(e, REASON_BROKEN_IMAGE, "it has %lld bytes of values where its header says %lld",
                       (long long)(file_size - expected), (long long)bytes);
    return ERR_NONE;
}
