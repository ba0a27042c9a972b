/*
 * A version's report: what is decoded and encoded is decoded and encoded to the same bytes, and can be
 * printed, whatever its counts are.
 */
#include "lib/client/report.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena a = {0};
    struct version_report r, back;
    struct err e = {0};
    enum err_kind kind = report_decode((struct bytes){data, size}, &a, &r, &e);
    holds_of_error(kind, &e);
    if (!kind) {
        struct buf once = {0}, twice = {0}, page = {0};
        report_encode(&r, &once);
        HOLDS(!report_decode(buf_bytes(&once), &a, &back, &e));
        report_encode(&back, &twice);
        HOLDS(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
        report_print(&r, &page);
        for (size_t i = 0; i < page.len; i++)
            HOLDS(page.data[i] == '\n' || (unsigned char)page.data[i] >= ' ');
        buf_free(&once);
        buf_free(&twice);
        buf_free(&page);
    }
    arena_free(&a);
    return 0;
}
