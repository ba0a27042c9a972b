/*
 * A version's lineage and a rows artifact: what is decoded and encoded is decoded and encoded to the same
 * bytes; rows come back as they were packed.
 */
#include "lib/learn/lineage.h"

#include "tests/fuzz/fuzz.h"

static void try_rows(struct bytes data) {
    struct rows r = {0}, held = {0}, again = {0};
    struct err e = {0};
    enum err_kind kind = rows_unpack(&r, data, &e);
    holds_of_error(kind, &e);
    if (!kind) {
        char name[ROW_HEX + 1];
        unsigned char *gone = mem_zeroed(r.count, 1);
        HOLDS(bytes_equal(rows_pack(&r, 0, r.count), data));
        for (size_t i = 0; i < r.count; i++) {
            rows_name(&r, i, name);
            rows_hold_out(&held, name, 5);
            rows_add(&again, name);
            gone[i] = name[0] == '0';
        }
        HOLDS(bytes_equal(rows_pack(&again, 0, again.count), data));
        HOLDS(held.count <= 5 && held.count <= r.count);
        for (size_t i = 1; i < held.count; i++)
            HOLDS(memcmp(held.list[i - 1], held.list[i], sizeof *held.list) < 0);
        rows_drop(&r, gone);
        free(gone);
    }
    rows_free(&r);
    rows_free(&held);
    rows_free(&again);
}

/* Places come back as they were packed; a content says its revision. */
static void try_places(struct bytes data) {
    enum { ROWS = 300 };
    unsigned char gone[ROWS] = {0}, again[ROWS] = {0};
    struct err e = {0};
    struct buf packed = {0};
    enum err_kind kind = places_unpack(data, gone, ROWS, &e);
    holds_of_error(kind, &e);
    places_pack(gone, ROWS, &packed);
    HOLDS(!places_unpack(buf_bytes(&packed), again, ROWS, &e));
    HOLDS(!memcmp(gone, again, ROWS));
    buf_free(&packed);
    struct content c = content_of((int64_t)data.len, data, data);
    HOLDS(content_revision(&c) == (int64_t)data.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct lineage l, back;
    struct err e = {0};
    try_rows((struct bytes){data, size});
    try_places((struct bytes){data, size});
    enum err_kind kind = lineage_decode((struct bytes){data, size}, &l, &e);
    holds_of_error(kind, &e);
    if (!kind) {
        struct buf once = {0}, twice = {0};
        if (l.batch_count) {
            const struct lineage_batch first = l.batches[0];
            lineage_add_batch(&l, &first);
        }
        lineage_encode(&l, BYTES("m"), 2, 1, &once);
        HOLDS(!lineage_decode(buf_bytes(&once), &back, &e));
        lineage_encode(&back, BYTES("m"), 2, 1, &twice);
        HOLDS(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
        lineage_free(&back);
        buf_free(&once);
        buf_free(&twice);
    }
    lineage_free(&l);
    return 0;
}
