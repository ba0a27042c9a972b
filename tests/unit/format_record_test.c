/*
 * Records: the checksum's published vectors, and the bytes of a record that TensorFlow wrote.
 */
#include "lib/format/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h> /* needs setjmp, stdarg, stddef and stdint before it */

/* RFC 3720, B.4, and the check value of the catalogue of CRCs. */
static void test_checksum(void **state) {
    uint8_t data[32];
    assert_int_equal(record_crc32c(BYTES("123456789")), 0xe3069283);
    assert_int_equal(record_crc32c(BYTES("")), 0);
    memset(data, 0, sizeof data);
    assert_int_equal(record_crc32c((struct bytes){data, sizeof data}), 0x8a9136aa);
    memset(data, 0xff, sizeof data);
    assert_int_equal(record_crc32c((struct bytes){data, sizeof data}), 0x62a8ab43);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    assert_int_equal(record_crc32c((struct bytes){data, sizeof data}), 0x46dd794e);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(31 - i);
    assert_int_equal(record_crc32c((struct bytes){data, sizeof data}), 0x113fdb5c);
}

/* The length of 24 of every event file's first record has a checksum that all of them begin with. */
static void test_record(void **state) {
    static const char data[24] = {0};
    static const uint8_t head[12] = {24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22};
    struct buf file = {0};
    record_add(&file, (struct bytes){data, sizeof data});
    assert_int_equal(file.len, 8 + 4 + 24 + 4);
    assert_memory_equal(file.data, head, sizeof head);
    record_add(&file, BYTES(""));
    assert_int_equal(file.len, 40 + 16);
    buf_free(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_checksum),
                                       cmocka_unit_test(test_record)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
