/*
 * Event headers: what is read, written and read again is the same event, and fit for every place where
 * its texts end.
 */
#include "proto/event.h"

#include "lib/base/clock.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/record.h"

static bool same(struct bytes a, struct bytes b) {
    return !a.data == !b.data && bytes_equal(a, b);
}

static bool fit(struct bytes text, size_t most) {
    return text.len >= 1 && text.len <= most && bytes_is_clean_text(text);
}

static void holds_of_event(const struct event *ev) {
    int height, width, channels;
    struct err e = {0};
    HOLDS(fit(ev->id, EVENT_ID_MAX));
    HOLDS(fit(ev->source, EVENT_ID_MAX));
    HOLDS(fit(ev->model, EVENT_MODEL_MAX) && event_model_is_valid(ev->model));
    HOLDS(!ev->label.data || fit(ev->label, EVENT_LABEL_MAX));
    HOLDS(!ev->subject.data || fit(ev->subject, 1024));
    enum err_kind kind = event_shape(ev->shape, &height, &width, &channels, &e);
    holds_of_error(kind, &e);
    if (!kind) HOLDS(height >= 1 && width >= 1 && (channels == 1 || channels == 3));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct arena a;
    struct err e = {0};
    struct event ev, back;
    struct record r = record_of_bytes(data, size, &a);
    (void)event_reply_to(&r);
    enum err_kind kind = event_read(&r, &a, &ev, &e);
    holds_of_error(kind, &e);
    if (!kind) {
        struct record out = {.topic = "darkroom.images.prepared"};
        char time[CLOCK_RFC3339_LEN + 1], time_back[CLOCK_RFC3339_LEN + 1];
        holds_of_event(&ev);
        ev.type = BYTES("t");
        ev.content_type = BYTES("c");
        event_write(&ev, &r, &a, &out);
        kind = event_read(&out, &a, &back, &e);
        HOLDS(!kind);
        HOLDS(same(ev.id, back.id) && same(ev.source, back.source) && same(ev.model, back.model));
        HOLDS(same(ev.label, back.label) && same(ev.subject, back.subject) &&
              same(ev.shape, back.shape));
        clock_format(ev.time_ms, time); /* the years 0 to 9999 */
        clock_format(back.time_ms, time_back);
        HOLDS(strcmp(time, time_back) == 0);
    }
    arena_reset(&a);
    return 0;
}
