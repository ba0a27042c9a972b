/*
 * An image's row as Redis has it. What is parsed is encoded as the same bytes, and one more revision of it
 * parses and is held out, or not, as the first was.
 */
#include "lib/learn/row.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct row was, next;
    if (!row_parse((struct bytes){data, size}, &was)) return 0;
    struct buf again = {0};
    row_encode(&was, &again);
    HOLDS(bytes_equal(buf_bytes(&again), (struct bytes){data, size}));

    const struct origin *last = &was.origins[was.origin_count - 1];
    struct image_put p = {.row = was.image, .pixels = was.pixels};
    p.row.model = BYTES("default");
    row_judge(&was, last, &p);
    HOLDS(p.verdict == IMAGE_REPLAYED);
    struct origin o = *last;
    o.offset = (int64_t)((uint64_t)o.offset + 1);
    p.pixels.bytes[0] ^= 1;
    row_judge(&was, &o, &p);
    if (p.verdict != IMAGE_REVISED) goto done; /* an origin that was there before, or passed */
    row_next(&was, &p, &o, &again);
    HOLDS(row_parse(buf_bytes(&again), &next));
    HOLDS(!was.split || next.split == was.split);
    HOLDS(next.revision == was.revision + 1 && next.origin_count <= ORIGINS);
    row_judge(&next, &o, &p);
    HOLDS(p.verdict == IMAGE_REPLAYED && p.revision == next.revision);
done:
    buf_free(&again);
    return 0;
}
