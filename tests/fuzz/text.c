/*
 * Text from outside on its way out: JSON that we read ourselves, CSV that comes back as it was, a terminal
 * that sees no control character, times that come back.
 */
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/client/show.h"

#include "tests/fuzz/fuzz.h"

static void through_json(struct bytes text) {
    struct buf once = {0}, twice = {0};
    struct err e = {0};
    struct bytes back;
    json_quote(&once, text);
    HOLDS(bytes_is_clean_text(buf_bytes(&once)));
    struct json *v = json_parse(buf_bytes(&once), &e);
    HOLDS(v && !json_as_text(v, &back, &e));
    if (bytes_is_clean_text(text)) HOLDS(bytes_equal(text, back));
    json_quote(&twice, back);
    HOLDS(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
    json_free(v);
    buf_free(&once);
    buf_free(&twice);
}

/* RFC 4180, the reader's side: one field with a comma behind it. */
static void through_csv(struct bytes text) {
    struct buf field = {0}, back = {0};
    csv_field(&field, text);
    buf_add_text(&field, ",");
    const char *p = field.data, *end = field.data + field.len;
    if (*p == '"') {
        for (p++; p < end && (*p != '"' || p[1] == '"'); p++) {
            buf_add(&back, p, 1);
            p += *p == '"';
        }
        p++;
    } else {
        for (; p < end && *p != ',' && *p != '\n' && *p != '\r'; p++) buf_add(&back, p, 1);
    }
    HOLDS(p + 1 == end && *p == ',');
    HOLDS(bytes_equal(buf_bytes(&back), text));
    buf_free(&field);
    buf_free(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct bytes text = {data, size};
    struct buf shown = {0};
    struct err e = {0};
    int64_t ms, again;
    show_text(&shown, text);
    HOLDS(bytes_is_clean_text(buf_bytes(&shown)));
    if (bytes_is_clean_text(text)) HOLDS(bytes_equal(buf_bytes(&shown), text));
    buf_free(&shown);
    through_json(text);
    through_csv(text);
    enum err_kind kind = clock_parse(text, &ms, &e);
    holds_of_error(kind, &e);
    if (!kind && ms >= -62167219200000 && ms <= 253402300799999) {
        char time[CLOCK_RFC3339_LEN + 1];
        clock_format(ms, time);
        HOLDS(!clock_parse(bytes_of(time), &again, &e) && again == ms);
    }
    return 0;
}
