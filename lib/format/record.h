/*
 * record: TensorFlow's record framing, of which an event file is a row. Its checksum is CRC-32C
 * (Castagnoli, RFC 3720), rotated and shifted so that a checksum of checksums is no special case;
 * ISA-L behind it.
 *
 *     8 bytes   length, little-endian
 *     4 bytes   masked CRC of the length
 *     length    the data
 *     4 bytes   masked CRC of the data
 */
#ifndef DARKROOM_FORMAT_RECORD_H
#define DARKROOM_FORMAT_RECORD_H

#include "lib/base/bytes.h"

uint32_t record_crc32c(struct bytes data);
void record_add(struct buf *file, struct bytes data); /* appends one record */

#endif
