/* record.c: the one door to ISA-L. */
#include "lib/format/record.h"

#include <isa-l/crc.h>

/* ISA-L's function leaves both inversions of RFC 3720 to its caller, takes an int for the length,
   and its argument is not const though it only reads. */
uint32_t record_crc32c(struct bytes data) {
    unsigned char *p = (unsigned char *)(uintptr_t)data.data;
    uint32_t crc = ~0u;
    for (size_t left = data.len; left;) {
        int n = left < (1 << 30) ? (int)left : 1 << 30;
        crc = crc32_iscsi(p, n, crc);
        p += n;
        left -= (size_t)n;
    }
    return ~crc;
}

static void add_little_endian(struct buf *file, uint64_t value, size_t n) {
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(value >> 8 * i);
    buf_add(file, bytes, n);
}

static void add_masked_crc(struct buf *file, struct bytes data) {
    uint32_t crc = record_crc32c(data);
    add_little_endian(file, (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u), 4);
}

void record_add(struct buf *file, struct bytes data) {
    unsigned char length[8];
    for (size_t i = 0; i < sizeof length; i++)
        length[i] = (unsigned char)((uint64_t)data.len >> 8 * i);
    buf_add(file, length, sizeof length);
    add_masked_crc(file, (struct bytes){length, sizeof length});
    buf_add(file, data.data, data.len);
    add_masked_crc(file, data);
}
