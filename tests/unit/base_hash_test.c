/* hash: SHA-256 by the vectors of FIPS 180-4, and hexadecimal. */
#define _GNU_SOURCE
#include "lib/base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void vectors(void **state) {
    static const struct {
        struct bytes data;
        const char *hex;
    } table[] = {
        {BYTES(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {BYTES("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {BYTES("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct hash h = hash_of(table[i].data), back;
        char hex[HASH_HEX + 1];
        hash_hex(&h, HASH_LEN, hex);
        assert_string_equal(hex, table[i].hex);
        assert_true(hash_from_hex(bytes_of(hex), &back));
        assert_true(hash_equal(&h, &back));
    }
    struct hash none = hash_of((struct bytes){0}), empty = hash_of(BYTES(""));
    assert_true(hash_equal(&none, &empty));
    struct bytes parts[] = {BYTES("a"), BYTES(""), {NULL, 0}, BYTES("bc")};
    struct hash whole = hash_of(BYTES("abc")), pieces = hash_of_parts(parts, 4);
    assert_true(hash_equal(&whole, &pieces));
    assert_false(hash_equal(&whole, &empty));
    char hex[2 * 4 + 1];
    hash_hex(&whole, 4, hex);
    assert_string_equal(hex, "ba7816bf");
}

static void no_hex(void **state) {
    char hex[HASH_HEX + 2];
    struct hash h;
    memset(hex, 'a', sizeof hex);
    assert_true(hash_from_hex((struct bytes){hex, HASH_HEX}, &h));
    assert_false(hash_from_hex((struct bytes){hex, HASH_HEX - 1}, &h));
    assert_false(hash_from_hex((struct bytes){hex, HASH_HEX + 1}, &h));
    assert_false(hash_from_hex((struct bytes){0}, &h));
    static const char wrong[] = {'A', 'g', ' ', '/', ':', '`', 0};
    for (size_t i = 0; i < sizeof wrong; i++) {
        hex[63] = wrong[i];
        assert_false(hash_from_hex((struct bytes){hex, HASH_HEX}, &h));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(no_hex),
    };
    return cmocka_run_group_tests_name("base_hash", tests, NULL, NULL);
}
