/*
 * learn: what the learner makes of a stream, without a broker: images of a folder arrive in batches,
 * each batch makes a version, and every version that the spec's evaluation does not see is scored
 * on a second folder. The order of arrival is drawn from a seed, or goes by label.
 *
 *   learn TRAIN TEST [--order shuffled|sorted|halves] [--seed N] [--batch N] [--join N]
 *         [--spec FILE] [--threads N] [--every N]
 *
 * Folders hold <label>/<id>.png. Prints a line for every --every'th version and for the last.
 */
#define _GNU_SOURCE
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/random.h"
#include "lib/image/tensor.h"
#include "lib/learn/learner.h"
#include "lib/nn/matmul.h"
#include "tests/unit/redis_server.h"

#include <ftw.h>
#include <getopt.h>
#include <math.h>

struct file {
    char *path;
    const char *label, *id; /* in path, cut there */
};
struct files {
    struct file *list;
    size_t count;
};

static struct files *filling;

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)ftw;
    size_t n = strlen(path);
    if (type != FTW_F || n < 5 || strcmp(path + n - 4, ".png") != 0) return 0;
    if (!(filling->count & (filling->count - 1)))
        filling->list = mem_resize(filling->list,
                                   (filling->count ? 2 * filling->count : 1) * sizeof(struct file));
    struct file *f = &filling->list[filling->count++];
    f->path = mem_copy(path, n);
    return 0;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static struct files find(const char *folder) {
    struct files files = {0};
    filling = &files;
    nftw(folder, visit, 16, 0);
    if (!files.count) {
        fprintf(stderr, "learn: no .png below %s\n", folder);
        exit(1);
    }
    qsort(files.list, files.count, sizeof *files.list, by_path);
    for (size_t i = 0; i < files.count; i++) {
        struct file *f = &files.list[i];
        char *slash = strrchr(f->path, '/');
        f->id = slash + 1;
        const char *from = slash;
        while (from > f->path && from[-1] != '/') from--;
        f->label = mem_copy(from, (size_t)(slash - from));
    }
    return files;
}

/* Those whose label comes before `middle` first, else in their order. */
static void halve(struct files *f, const char *middle) {
    struct file *list = mem_alloc(f->count * sizeof *list);
    size_t n = 0;
    for (int second = 0; second < 2; second++)
        for (size_t i = 0; i < f->count; i++)
            if ((strcmp(f->list[i].label, middle) >= 0) == second) list[n++] = f->list[i];
    free(f->list);
    f->list = list;
}

static void die(const struct err *e) {
    fprintf(stderr, "learn: %s\n", e->text);
    exit(1);
}

struct world {
    const struct spec *spec;
    struct images *images;
    struct registry *registry;
    struct tensor_reader reader;
    struct err err;
};

static void read_file(struct world *w, const char *path, uint8_t *out) {
    static char file[1 << 20];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(file, 1, sizeof file, f) : 0;
    if (f) fclose(f);
    if (tensor_read(&w->reader, (struct bytes){file, n}, (int)w->spec->width, (int)w->spec->height,
                    (int)w->spec->channels, (enum image_alpha)w->spec->alpha, out, &w->err))
        die(&w->err);
}

/* Share of the test folder that the artifact answers rightly. */
static double score(struct world *w, struct bytes artifact, const uint8_t *x,
                    const struct files *test) {
    struct buf file = {0};
    struct model m;
    if (registry_get_artifact(w->registry, artifact, &file, &w->err) ||
        model_load(buf_bytes(&file), &m, &w->err))
        die(&w->err);
    int classes = net_classes(m.net);
    struct net_run *run = net_run_make(m.net, 500);
    float *prob = mem_alloc((size_t)500 * (size_t)classes * sizeof *prob);
    size_t right = 0, image = net_image_size(m.net);
    for (size_t at = 0; at < test->count; at += 500) {
        int n = (int)(test->count - at < 500 ? test->count - at : 500);
        net_forward(run, NULL, x + at * image, n, prob);
        for (int i = 0; i < n; i++) {
            int best = 0;
            for (int c = 1; c < classes; c++)
                if (prob[i * classes + c] > prob[i * classes + best]) best = c;
            right += !strcmp(m.labels[best], test->list[at + (size_t)i].label);
        }
    }
    net_run_free(run);
    free(prob);
    model_free(&m);
    buf_free(&file);
    return (double)right / (double)test->count;
}

static enum err_kind still(void *ctx, struct err *e) {
    (void)ctx, (void)e;
    return ERR_NONE;
}

/* Stores the images and names them in a manifest. */
static struct manifest arrive(struct world *w, const struct file *list, size_t n, int64_t offset,
                              struct arena *a) {
    size_t size = (size_t)(w->spec->width * w->spec->height * w->spec->channels);
    struct image_put *put = arena_alloc(a, n * sizeof *put);
    struct manifest m = {.model = BYTES("default"),
                         .images = arena_alloc(a, n * sizeof *m.images),
                         .image_count = n};
    for (size_t i = 0; i < n; i++) {
        uint8_t *x = arena_alloc(a, size);
        read_file(w, list[i].path, x);
        put[i] = (struct image_put){.row = {.model = m.model,
                                            .id = bytes_of(list[i].id),
                                            .source = BYTES("learn"),
                                            .label = bytes_of(list[i].label),
                                            .time_ms = offset + (int64_t)i,
                                            .height = (int)w->spec->height,
                                            .width = (int)w->spec->width,
                                            .channels = (int)w->spec->channels,
                                            .pixels = {x, size}},
                                    .from = {"c", "t", 0, offset + (int64_t)i, 1}};
    }
    if (images_put(w->images, put, n, NULL, NULL, &w->err)) die(&w->err);
    for (size_t i = 0; i < n; i++)
        m.images[i] = (struct manifest_image){bytes_of(arena_text(a, bytes_of(put[i].name))),
                                              put[i].revision, put[i].row.label,
                                              images_split(put[i].name, w->spec->eval_share)};
    char id[65];
    snprintf(id, sizeof id, "%064llx", (unsigned long long)offset);
    m.batch = bytes_of(arena_text(a, bytes_of(id)));
    return m;
}

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    static const struct option options[] = {{"order", 1, NULL, 'o'}, {"seed", 1, NULL, 's'},
                                            {"batch", 1, NULL, 'b'}, {"join", 1, NULL, 'j'},
                                            {"spec", 1, NULL, 'f'},  {"threads", 1, NULL, 't'},
                                            {"every", 1, NULL, 'e'}, {NULL, 0, NULL, 0}};
    const char *order = "shuffled", *file = NULL;
    uint64_t seed = 1;
    size_t batch = 1000, join = 1, every = 10;
    int threads = 2;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'o') order = optarg;
        if (c == 's') seed = strtoull(optarg, NULL, 10);
        if (c == 'b') batch = strtoul(optarg, NULL, 10);
        if (c == 'j') join = strtoul(optarg, NULL, 10);
        if (c == 'f') file = optarg;
        if (c == 't') threads = atoi(optarg);
        if (c == 'e') every = strtoul(optarg, NULL, 10);
        if (c == '?') return 2;
    }
    if (argc - optind != 2 || !batch || !join || !every) {
        fprintf(stderr, "usage: learn TRAIN TEST [--order shuffled|sorted|halves] [--seed N] "
                        "[--batch N] [--join N] [--spec FILE] [--threads N] [--every N]\n");
        return 2;
    }
    struct world w = {.reader.max_pixels = 1 << 24};
    struct redis_server server;
    struct arena a = {0};
    struct specs *specs = specs_load(file, &w.err);
    if (!specs) die(&w.err);
    w.spec = specs_of(specs, BYTES("default"));
    struct files train = find(argv[optind]), test = find(argv[optind + 1]);
    const char *middle = train.list[train.count / 2].label; /* they are sorted by label here */
    for (size_t i = train.count; i > 1 && strcmp(order, "sorted") != 0; i--) {
        size_t k = (size_t)(random_uniform(&seed) * (double)i);
        struct file swap = train.list[i - 1];
        train.list[i - 1] = train.list[k];
        train.list[k] = swap;
    }
    if (!strcmp(order, "halves")) halve(&train, middle);
    size_t image = (size_t)(w.spec->width * w.spec->height * w.spec->channels);
    uint8_t *x = mem_alloc(test.count * image);
    for (size_t i = 0; i < test.count; i++) read_file(&w, test.list[i].path, x + i * image);
    redis_server_start(&server, NULL);
    struct redis *redis =
        redis_open(&(struct redis_conf){.url = redis_server_url(&server)}, &w.err);
    if (!redis) die(&w.err);
    w.images = images_open(redis, "l.");
    w.registry = registry_open(redis, "l.");
    struct learner *l = learner_open(w.registry, w.images, threads);
    const struct alive alive = {.still = still};
    double seconds = 0;
    printf("%zu images, %zu to a batch, %zu batches to a version, %s\n", train.count, batch, join,
           order);
    printf("%8s %8s %14s %9s %9s %9s %10s\n", "version", "images", "presentations", "seconds",
           "held out", "test", "images/s");
    for (size_t at = 0, version = 1; at < train.count; version++) {
        struct manifest list[64];
        size_t n = 0;
        for (; n < join && n < 64 && at < train.count; n++) {
            size_t k = train.count - at < batch ? train.count - at : batch;
            list[n] = arrive(&w, train.list + at, k, (int64_t)at, &a);
            at += k;
        }
        struct trained out;
        if (learner_learn(l, BYTES("default"), w.spec, list, n, &alive, &a, &out, &w.err))
            die(&w.err);
        seconds += out.seconds;
        if (version % every == 0 || at >= train.count) {
            printf("%8lld %8lld %14lld %9.1f %8.2f%% %8.2f%% %10.0f\n", (long long)out.version,
                   (long long)out.images, (long long)out.presentations, seconds,
                   100 * out.evaluation.accuracy, 100 * score(&w, out.artifact, x, &test),
                   (double)out.presentations / seconds);
            fflush(stdout);
        }
        arena_reset(&a);
    }
    learner_close(l);
    registry_close(w.registry);
    images_close(w.images);
    redis_close(redis);
    redis_server_stop(&server);
    return 0;
}
