/*
 * seeds FOLDER: real inputs for every target of tests/fuzz, made by what Darkroom writes with itself, and
 * by hand what it only reads. The messages are copied from tests/fixtures by tests/fuzz/run.
 */
#include "lib/image/png.h"
#include "lib/learn/lineage.h"
#include "lib/learn/report.h"
#include "lib/nn/model.h"
#include "tests/unit/png_file.h"

#include <stdio.h>
#include <sys/stat.h>

static const char *folder;

static void save(const char *target, const char *name, struct bytes data) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data.data, 1, data.len, f) != data.len || fclose(f)) {
        perror(path);
        exit(1);
    }
}

static void must(enum err_kind kind, const struct err *e) {
    if (!kind) return;
    fprintf(stderr, "%s\n", e->text);
    exit(1);
}

static void pictures(void) {
    static const struct {
        int type, depth;
    } kinds[] = {{PNG_GREY, 1},    {PNG_GREY, 4},       {PNG_GREY, 8},      {PNG_GREY, 16},
                 {PNG_RGB, 8},     {PNG_RGB, 16},       {PNG_PALETTE, 1},   {PNG_PALETTE, 2},
                 {PNG_PALETTE, 8}, {PNG_GREY_ALPHA, 8}, {PNG_RGB_ALPHA, 8}, {PNG_RGB_ALPHA, 16}};
    uint16_t samples[9 * 5 * 4];
    uint8_t colours[3 * 256], pixels[28 * 28 * 3];
    char name[64];
    struct err e = {0};
    for (size_t i = 0; i < sizeof colours; i++) colours[i] = (uint8_t)(i * 89);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i % 28 > 10 && i % 28 < 15 ? 250 : i % 7);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int form = 0; form < 4; form++) {
            int type = kinds[k].type, depth = kinds[k].depth;
            struct png_sheet s = {type, depth, 9, 5, form & 1, samples};
            struct buf file = {0};
            for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
                samples[i] = (uint16_t)(i * 2654435761u >> 8 & ((1u << depth) - 1));
            struct bytes palette = {type == PNG_PALETTE ? colours : NULL, 3u << depth};
            struct bytes key = {form & 2 && type < PNG_GREY_ALPHA ? colours : NULL,
                                type == PNG_RGB ? 6 : 2};
            png_file(&file, &s, palette, key);
            snprintf(name, sizeof name, "hand-%d-%d-%d", type, depth, form);
            save("png", name, buf_bytes(&file));
            buf_free(&file);
        }
    for (int side = 1; side <= 28; side += 9)
        for (int channels = 1; channels <= 3; channels += 2) {
            struct buf file = {0};
            must(image_encode(&(struct image){side, side, channels, pixels}, &file, &e), &e);
            snprintf(name, sizeof name, "own-%d-%d", side, channels);
            save("png", name, buf_bytes(&file));
            buf_free(&file);
        }
}

static void one_model(const char *name, const struct net_spec *spec, const char *const *labels) {
    struct err e = {0};
    struct buf file = {0};
    struct model m = {0};
    for (; *labels; labels++) model_add_label(&m, *labels);
    m.net = net_make(spec, m.label_count, 7, &e);
    must(e.kind, &e);
    model_set_note(&m, "alpha", "black");
    model_set_note(&m, "model", "digits");
    must(model_save(&m, NULL, &file, &e), &e);
    save("model", name, buf_bytes(&file));
    buf_free(&file);
    model_free(&m);
}

static void models(void) {
    const char *const labels[] = {"0", "1", "\xc3\xa9t\xc3\xa9", NULL};
    struct net_spec spec = {.height = 2, .width = 3, .channels = 1};
    one_model("bare", &spec, labels);
    net_spec_mlp(&spec, 3, 3, 1);
    spec.layers[0].units = 4;
    one_model("mlp", &spec, labels + 1);
    net_spec_cnn(&spec, 4, 4, 3);
    for (int i = 0; i < spec.layer_count; i++)
        if (spec.layers[i].units) spec.layers[i].units = 2;
    one_model("cnn", &spec, labels);
    spec = (struct net_spec){
        4,
        4,
        1,
        3,
        {{LAYER_CONV, 2, 2, 2, 1}, {LAYER_RELU, 0, 0, 0, 0}, {LAYER_MAXPOOL, 0, 2, 0, 0}}};
    one_model("strides", &spec, labels + 2);
    net_spec_wide_and_deep(&spec, 2, 2, 1);
    spec.layers[0].units = spec.layers[2].units = 2;
    one_model("joins", &spec, labels);
    spec =
        (struct net_spec){4,
                          3,
                          1,
                          6,
                          {{.type = LAYER_CONV, .units = 4, .kernel = 3, .stride = 1, .padding = 1},
                           {.type = LAYER_NORM, .groups = 2},
                           {.type = LAYER_ADD, .from = 1},
                           {.type = LAYER_RELU},
                           {.type = LAYER_MAXPOOL, .kernel = 2},
                           {.type = LAYER_GLOBALPOOL}}};
    one_model("residual", &spec, labels);
}

static void reports(void) {
    struct report_class classes[] = {{BYTES("7"), {10, 9, 8, 0.75}}, {{0}, {1, 0, 0, NAN}}};
    struct report_pair pairs[] = {{BYTES("7"), BYTES("1"), 2}, {{0}, BYTES("7"), 1}};
    struct version_report r = {.model = BYTES("m"), .version = 3, .images = 11, .temperature = 0.9};
    struct buf json = {0};
    r.calibration.ece = NAN;
    report_encode(&r, &json);
    save("report", "empty", buf_bytes(&json));
    buf_clear(&json);
    r.classes = classes;
    r.pairs = pairs;
    r.class_count = r.pair_count = 2;
    r.classes_left_out = 5;
    r.calibration.images = r.calibration.bins[14].images = 6;
    r.calibration.ece = 0.02;
    report_encode(&r, &json);
    save("report", "two", buf_bytes(&json));
    buf_free(&json);
}

static void lineages(void) {
    static const char hex[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct lineage l = {.steps = 100};
    struct lineage_batch b = {.images = 20};
    struct buf json = {0};
    snprintf(l.weights, sizeof l.weights, "%s", hex);
    snprintf(l.momentum, sizeof l.momentum, "%s", hex);
    snprintf(l.evaluation, sizeof l.evaluation, "%s", hex);
    snprintf(b.id, sizeof b.id, "%s", hex);
    snprintf(b.rows, sizeof b.rows, "%s", hex);
    lineage_encode(&l, BYTES("m"), 1, 0, &json);
    save("lineage", "empty", buf_bytes(&json));
    lineage_add_batch(&l, &b);
    lineage_add_batch(&l, &b);
    snprintf(l.before, sizeof l.before, "%s", hex);
    snprintf(l.all, sizeof l.all, "%s", hex);
    buf_clear(&json);
    lineage_encode(&l, BYTES("m"), 2, 1, &json);
    save("lineage", "two", buf_bytes(&json));
    save("lineage", "rows", (struct bytes){hex, 64});
    lineage_free(&l);
    buf_free(&json);
}

/* As tests/fuzz/record.h reads them: a length, then so many bytes. */
static void add_piece(struct buf *b, const char *text) {
    buf_add(b, &(char){(char)strlen(text)}, 1);
    buf_add_text(b, text);
}

static void events(void) {
    static const char *const full[] = {"key",
                                       "value",
                                       "ce_specversion",
                                       "1.0",
                                       "ce_id",
                                       "i-1",
                                       "ce_source",
                                       "camera",
                                       "ce_type",
                                       "t",
                                       "ce_time",
                                       "2026-01-31T12:00:00.250+01:00",
                                       "ce_expirytime",
                                       "2026-01-31T11:00:01Z",
                                       "ce_subject",
                                       "a.png",
                                       "ce_model",
                                       "pets",
                                       "ce_label",
                                       "cat",
                                       "ce_shape",
                                       "28,28,1",
                                       "traceparent",
                                       "00-1",
                                       "reply-to",
                                       "answers"};
    static const char *const bare[] = {
        "k", "v", "label", "7", "filename", "7.png", "label", "8", "kafka_replyTopic", "r"};
    struct buf b = {0};
    for (size_t i = 0; i < sizeof full / sizeof *full; i++) add_piece(&b, full[i]);
    save("event", "full", buf_bytes(&b));
    buf_clear(&b);
    for (size_t i = 0; i < sizeof bare / sizeof *bare; i++) add_piece(&b, bare[i]);
    save("event", "bare", buf_bytes(&b));
    static const char *const letter[] = {"key",
                                         "value",
                                         "label",
                                         "",
                                         "dlq.reason",
                                         "bad-label",
                                         "dlq.text",
                                         "the label has 0 bytes",
                                         "dlq.stage",
                                         "preprocess",
                                         "dlq.version",
                                         "0.1.0",
                                         "dlq.topic",
                                         "darkroom.images",
                                         "dlq.partition",
                                         "3",
                                         "dlq.offset",
                                         "17",
                                         "dlq.record-time",
                                         "2026-01-31T12:00:00.250Z",
                                         "dlq.attempts",
                                         "1",
                                         "dlq.time",
                                         "2026-01-31T12:00:01.000Z",
                                         "dlq.replays",
                                         "2"};
    buf_clear(&b);
    for (size_t i = 0; i < sizeof letter / sizeof *letter; i++) add_piece(&b, letter[i]);
    save("letter", "refused", buf_bytes(&b));
    static const char *const picks[] = {
        "bad-label,bad-id", "2h",          "darkroom.images.dlq/0/17",
        "2026-11-23",       "batches.dlq", "preprocess"};
    buf_clear(&b);
    for (size_t i = 0; i < sizeof picks / sizeof *picks; i++) add_piece(&b, picks[i]);
    save("letter", "picks", buf_bytes(&b));
    save("letter", "all",
         BYTES("\xff\24"
               "2026-11-23T00:00:00Z\6images\xff"));
    save("letter", "mark",
         BYTES("\xff\xff\10dlq.done\10replayed\12dlq.letter\4"
               "0/17\10dlq.time\1x"));
    save("letter", "bare", BYTES("\xff\xff\12dlq.reason\10too-long\14dlq.left-out\3key"));
    save("event", "keyless", BYTES("\xff\1v\5label\xff"));
    save("event", "binary", BYTES("\3\0\1\xff\xff\5label\0"));
    save("event", "long", BYTES("\376k\1v\5label\376l\5ce_id\375i"));
    buf_free(&b);
}

/* As lib/learn/row.c writes a row of 2 x 2 grey pixels, with one origin, and with two and a split. */
static void rows(void) {
    for (uint8_t origins = 1; origins <= 2; origins++) {
        struct buf b = {0};
        char zeros[64] = {0};
        buf_add(&b, "DRI1", 4);
        buf_add(&b, (const uint8_t[]){origins, 0, 0, 0, origins, 0, 0, 0}, 8);
        for (uint8_t i = 0; i < origins; i++) {
            buf_add(&b, (const uint8_t[]){1, 2, 3, 4, 5, 6, 7, 8, i}, 9);
            buf_add(&b, zeros, 15);
            buf_add(&b, (const uint8_t[]){0, 0, 0, 0, (uint8_t)(i + 1), 0, 0, 0}, 8);
        }
        buf_add(&b, zeros, 8);
        buf_add(&b, "\2\0\0\0\2\0\0\0\1\0\0", 11);
        buf_add(&b, origins == 1 ? "\0" : "\2", 1);
        buf_add(&b, zeros, 32);
        buf_add(&b,
                origins == 1 ? "\1\0\1\0\1\0\1\0"
                               "islf"
                               "pppp"
                             : "\1\0\1\0\xff\xff\xff\xff"
                               "is"
                               "pppp",
                origins == 1 ? 16 : 14);
        save("row", origins == 1 ? "labelled" : "revised", buf_bytes(&b));
        buf_free(&b);
    }
}

static void texts(void) {
    static const struct {
        const char *target, *name, *text;
    } list[] = {
        {"json", "kinds",
         "{\"t\":\"x\\n\\u00e9\\ud83d\\ude00\",\"i\":-5,\"big\":\"9223372036854775807\",\"r\":2.5e-"
         "3,\"b\":true,\"n\":null,\"l\":[[],{},false]}"},
        {"json", "many",
         "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,"
         "\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1,\"r\":1}"},
        {"json", "deep", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"},
        {"spec", "empty", "{\"models\":{}}"},
        {"spec", "full",
         "{\"models\":{\"digits\":{\"input.width\":28,\"input.height\":28,\"input.channels\":3,"
         "\"input.alpha\":\"black\",\"network\":\"cnn\",\"batch.count\":\"100\",\"batch.age\":"
         "\"10s\",\"train.passes\":2.5,\"train.minibatch\":64},\"pets-2\":{\"train.rate\":0.01,"
         "\"train.momentum\":0,\"train.decay\":1e-4,\"train.smoothing\":0.1,\"train.average\":0.99,"
         "\"train.fresh\":1,\"evaluation.share\":0.1,\"evaluation.most\":500,\"keep.images\":1000,"
         "\"keep.age\":\"7d\",\"keep.versions\":3}}}"},
        {"spec", "a truth", "{\"models\":{\"m\":{\"network\":true}}}"},
        {"spec", "a list", "{\"models\":{\"m\":{\"network\":[]}}}"},
        {"spec", "two channels", "{\"models\":{\"m\":{\"input.channels\":2}}}"},
        {"settings", "flags",
         "--text=a\n-t\nb\n--choice\nlong\n--yes\n--whole=5\nfile\n--size\n16K\n--time=2.5h\n--"
         "real\n0.25\n--\n--any=1"},
        {"settings", "environment",
         "DARKROOM_TEXT=x\nDARKROOM_SECRET=hush\nDARKROOM_YES=true\nDARKROOM_ANY=-"
         "9223372036854775808\n-y\n-h"},
        {"settings", "files",
         "DARKROOM_SECRET_FILE=hush\r\nDARKROOM_KAFKA_SASL_PASS__WORD_FILE=hush\nDARKROOM_KAFKA_"
         "SECURITY_PROTOCOL=ssl"},
        {"settings", "no files", "DARKROOM_SECRET_FILE=!\nDARKROOM_KAFKA_X_FILE=/"},
        {"settings", "a folder", "DARKROOM_SECRET_FILE=/"},
        {"settings", "refused", "DARKROOM_KAFKA_ACKS=x\n--text"},
        {"settings", "far", "--time=1e11d\n--real=0x1p-1074\n"},
        {"settings", "unknown", "--nothing\n-q\n--size=1X\n"},
        {"text", "formula", "=cmd|' /C calc'!A0,\"x\"\r\n"},
        {"text", "terminal", "\033[2J\302\233\177\342\200\256 \377\300\200\355\240\200"},
        {"text", "time", "2026-02-28T23:59:60.123456+05:30"},
        {"text", "plain", "0000-01-01T00:00:00Z"},
        {"result", "nothing",
         "{\"schema\":1,\"id\":\"\",\"version\":1,\"artifact\":"
         "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"label\":\"\","
         "\"probability\":1,\"probabilities\":{}}"},
        {"deployed", "none yet",
         "{\"schema\":1,\"model\":\"m\",\"version\":0,\"judged\":1,\"promoted\":false,\"why\":\"\","
         "\"time\":\"2026-01-01T00:00:00Z\"}"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        save(list[i].target, list[i].name, bytes_of(list[i].text));
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    folder = argv[1];
    pictures();
    models();
    lineages();
    reports();
    events();
    rows();
    texts();
    return 0;
}
