/*
 * results: follows what predict answers.
 */
#include "lib/client/client.h"
#include "lib/client/show.h"
#include "proto/messages.h"

#include <stdio.h>

struct options {
    int64_t limit;
    bool from_beginning, json;
};
static const struct setting settings[] = {
    {"from-beginning", SETTING_BOOL, offsetof(struct options, from_beginning), "false", "All that the topic still has, then what comes", NULL, 0, 0, 0},
    {"limit", SETTING_INT, offsetof(struct options, limit), "0", "Stop after so many; 0: at Ctrl-C", NULL, 0, 1e15, 0},
    {"json", SETTING_BOOL, offsetof(struct options, json), "false", "JSON, one answer a line, with all probabilities", NULL, 0, 0, 0},
    {0}};

static void print_result(const struct record *r, bool json, struct arena *a, struct buf *b) {
    struct result m = {0};
    struct err e = {0};
    arena_reset(a);
    buf_clear(b);
    if (result_decode(r->value, a, &m, &e)) {
        fprintf(stderr, "darkroom results: partition %d, offset %lld: %s\n", r->partition, (long long)r->offset, e.text);
        return;
    }
    if (json) {
        result_encode(&m, b);
    } else {
        show_padded(b, m.id, 44);
        if (m.reason.data) {
            buf_add_text(b, "  ");
            show_padded(b, m.reason, 16);
            buf_add_text(b, "  ");
            show_text(b, m.text);
        } else {
            buf_add_text(b, "  ");
            show_padded(b, m.label, 16);
            buf_printf(b, "  %.4f  ", m.probability);
            show_text(b, m.model);
            buf_printf(b, " v%lld", (long long)m.version);
        }
    }
    puts(b->data);
}

static int run(struct client *c, const void *options, char **operands, int n) {
    const struct options *o = options;
    struct err e = {0};
    struct arena a = {0};
    struct buf b = {0};
    struct reader *reader = NULL;
    if (!client_reach(c, PREDICTIONS_RESULTS, &e))
        reader = client_follow(c, PREDICTIONS_RESULTS, o->from_beginning ? READER_BEGINNING : READER_END, &e);
    for (int64_t seen = 0; reader && !e.kind && !client_stopped() && (!o->limit || seen < o->limit);) {
        struct record r;
        bool got = false;
        enum err_kind kind = reader_poll(reader, 200, &r, &got, &e);
        if (kind == ERR_AGAIN) { /* the broker is away for a while: said, and waited for */
            client_say(c, "%s", e.text);
            err_clear(&e);
        } else if (got) {
            print_result(&r, o->json, &a, &b);
            seen++;
        } else {
            fflush(stdout);
        }
    }
    reader_close(reader);
    arena_free(&a);
    buf_free(&b);
    return e.kind ? client_fail(c, &e) : CLIENT_DONE;
}

const struct command command_results = {
    .name = "results", .what = "follows the answers to all requests", .needs = NEEDS_KAFKA,
    .help = "Prints every answer as it comes: the request's id, then label, probability and the model's version, or\n"
            "the reason why there is none. Ends at Ctrl-C, or after --limit answers.\n\n"
            "  darkroom results\n"
            "  darkroom results --from-beginning --limit 100\n"
            "  darkroom results --json | jq -r 'select(.label == \"7\").id'",
    .settings = settings, .options_size = sizeof(struct options), .run = run};
