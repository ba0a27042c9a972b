/*
 * learn: what the learner makes of a stream, without a broker: images arrive in batches, batches
 * make versions, and the versions are scored on images that no training sees.
 *
 *   learn TRAIN TEST [FLAGS]             folders of <label>/<id>.png
 *   learn --made glyphs|shapes [FLAGS]   images that are drawn: tests/bench/made.h
 *
 *   --order shuffled|sorted|halves  of arrival; halves: those of half of the labels first
 *   --seed N     of the order                   --batch N    images of a batch
 *   --join N     batches of a version           --every N    a line for each N-th version, and the last
 *   --wrong S    share of the images that come with another label; corrected at the end
 *   --train N, --test N   images to draw        --write DIR  of both, as DIR/train and DIR/test, and ends
 *   --spec FILE  what the model wants           --threads N  of the arithmetic
 */
#define _GNU_SOURCE
#include "lib/base/bytes.h"
#include "lib/base/clock.h"
#include "lib/base/random.h"
#include "lib/image/png.h"
#include "lib/image/tensor.h"
#include "lib/learn/learner.h"
#include "lib/nn/matmul.h"
#include "tests/bench/made.h"
#include "tests/unit/redis_server.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <math.h>
#include <sys/stat.h>

struct sample {
    const char *label, *id;
    char *path;     /* of a file; NULL: it is drawn */
    uint64_t class; /* when drawn: of the label, and of the picture */
    uint64_t seed;
};
struct samples {
    struct sample *list;
    size_t count;
};

static struct sample *add_sample(struct samples *s) {
    if (!(s->count & (s->count - 1)))
        s->list = mem_resize(s->list, (s->count ? 2 * s->count : 1) * sizeof *s->list);
    s->list[s->count] = (struct sample){.path = NULL};
    return &s->list[s->count++];
}

static struct samples *filling;

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)ftw;
    size_t n = strlen(path);
    if (type == FTW_F && n > 4 && !strcmp(path + n - 4, ".png"))
        add_sample(filling)->path = mem_copy(path, n);
    return 0;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct sample *)a)->path, ((const struct sample *)b)->path);
}

static struct samples find(const char *folder) {
    struct samples all = {0};
    filling = &all;
    nftw(folder, visit, 16, 0);
    if (!all.count) {
        fprintf(stderr, "learn: no .png below %s\n", folder);
        exit(1);
    }
    qsort(all.list, all.count, sizeof *all.list, by_path);
    for (size_t i = 0; i < all.count; i++) {
        struct sample *f = &all.list[i];
        char *slash = strrchr(f->path, '/');
        f->id = slash + 1;
        const char *from = slash;
        while (from > f->path && from[-1] != '/') from--;
        f->label = mem_copy(from, (size_t)(slash - from));
    }
    return all;
}

/* n pictures, sorted by label, whose ids begin at `first`. */
static struct samples make(const struct made *made, size_t n, size_t first) {
    struct samples all = {0};
    char text[32];
    for (size_t i = 0; i < n; i++) {
        struct sample *f = add_sample(&all);
        f->class = i * (size_t)made->classes / n;
        f->seed = 1000003 * (first + i) + 17;
        f->label = mem_copy(text, (size_t)snprintf(text, sizeof text, "c%03d", (int)f->class));
        f->id = mem_copy(text, (size_t)snprintf(text, sizeof text, "%zu", first + i));
    }
    return all;
}

/* Those whose label comes before `middle` first, else in their order. */
static void halve(struct samples *f, const char *middle) {
    struct sample *list = mem_alloc(f->count * sizeof *list);
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
    const struct made *made; /* NULL: files */
    struct images *images;
    struct registry *registry;
    struct tensor_reader reader;
    struct err err;
};

static void pixels_of(struct world *w, const struct sample *f, uint8_t *out) {
    static char file[1 << 20];
    if (w->made) {
        w->made->draw((int)f->class, f->seed, out);
        return;
    }
    FILE *in = fopen(f->path, "rb");
    size_t n = in ? fread(file, 1, sizeof file, in) : 0;
    if (in) fclose(in);
    if (tensor_read(&w->reader, (struct bytes){file, n}, (int)w->spec->width, (int)w->spec->height,
                    (int)w->spec->channels, (enum image_alpha)w->spec->alpha, out, &w->err))
        die(&w->err);
}

/* Shares of the test images that the artifact answers rightly: of all, and of those whose label
   comes before `middle`. */
static double score(struct world *w, struct bytes artifact, const uint8_t *x,
                    const struct samples *test, const char *middle, double *first) {
    struct buf file = {0};
    struct model m;
    if (registry_get_artifact(w->registry, artifact, &file, &w->err) ||
        model_load(buf_bytes(&file), &m, &w->err))
        die(&w->err);
    int classes = net_classes(m.net);
    struct net_run *run = net_run_make(m.net, 500);
    float *prob = mem_alloc((size_t)500 * (size_t)classes * sizeof *prob);
    size_t right = 0, firsts = 0, right_firsts = 0, image = net_image_size(m.net);
    for (size_t at = 0; at < test->count; at += 500) {
        int n = (int)(test->count - at < 500 ? test->count - at : 500);
        net_forward(run, NULL, x + at * image, n, prob);
        for (int i = 0; i < n; i++) {
            const char *label = test->list[at + (size_t)i].label;
            int best = 0;
            for (int c = 1; c < classes; c++)
                if (prob[i * classes + c] > prob[i * classes + best]) best = c;
            bool good = !strcmp(m.labels[best], label), of_first = strcmp(label, middle) < 0;
            right += good;
            firsts += of_first;
            right_firsts += good && of_first;
        }
    }
    net_run_free(run);
    free(prob);
    model_free(&m);
    buf_free(&file);
    *first = firsts ? (double)right_firsts / (double)firsts : 0;
    return (double)right / (double)test->count;
}

static enum err_kind still(void *ctx, struct err *e) {
    (void)ctx, (void)e;
    return ERR_NONE;
}

/* Stores the images and names them in a manifest. With `wrong` that share of them, by a hash of
   their number, comes with the next one's label. */
static struct manifest arrive(struct world *w, const struct sample *list, size_t n, size_t at,
                              size_t of, bool corrected, double wrong, struct arena *a) {
    size_t size = (size_t)(w->spec->width * w->spec->height * w->spec->channels);
    struct image_put *put = arena_alloc(a, n * sizeof *put);
    int64_t offset = (int64_t)(corrected ? at + of : at);
    struct manifest m = {.model = BYTES("default"), .images = arena_alloc(a, n * sizeof *m.images)};
    for (size_t i = 0; i < n; i++) {
        const struct sample *f = &list[at + i];
        uint64_t seed = at + i + 12345;
        bool is_wrong = random_uniform(&seed) < wrong;
        const char *label = f->label;
        if (is_wrong && !corrected) label = list[random_next(&seed) % of].label;
        if (corrected && !is_wrong) continue;
        uint8_t *x = arena_alloc(a, size);
        pixels_of(w, f, x);
        put[m.image_count++] = (struct image_put){.row = {.model = m.model,
                                                          .id = bytes_of(f->id),
                                                          .source = BYTES("learn"),
                                                          .label = bytes_of(label),
                                                          .time_ms = offset + (int64_t)i,
                                                          .height = (int)w->spec->height,
                                                          .width = (int)w->spec->width,
                                                          .channels = (int)w->spec->channels,
                                                          .pixels = {x, size}},
                                                  .from = {"c", "t", 0, offset + (int64_t)i, 1},
                                                  .share = w->spec->eval_share};
    }
    if (images_put(w->images, put, m.image_count, NULL, NULL, &w->err)) die(&w->err);
    for (size_t i = 0; i < m.image_count; i++)
        m.images[i] = (struct manifest_image){bytes_of(arena_text(a, bytes_of(put[i].name))),
                                              put[i].revision, put[i].row.label, put[i].split};
    m.batch = bytes_of(arena_printf(a, "%064lld", (long long)offset));
    m.offset = offset;
    return m;
}

static void make_folder(const char *path) {
    if (mkdir(path, 0777) && errno != EEXIST) {
        perror(path);
        exit(1);
    }
}

/* <dir>/<what>/<label>/<id>.png */
static void write_samples(struct world *w, const struct samples *s, const char *what,
                          const char *dir) {
    size_t size = (size_t)(w->spec->width * w->spec->height * w->spec->channels);
    struct image im = {(int)w->spec->width, (int)w->spec->height, (int)w->spec->channels,
                       mem_alloc(size)};
    struct buf file = {0};
    char path[4096];
    make_folder(dir);
    snprintf(path, sizeof path, "%s/%s", dir, what);
    make_folder(path);
    for (size_t i = 0; i < s->count; i++) {
        const struct sample *f = &s->list[i];
        snprintf(path, sizeof path, "%s/%s/%s", dir, what, f->label);
        make_folder(path);
        snprintf(path, sizeof path, "%s/%s/%s/%s.png", dir, what, f->label, f->id);
        pixels_of(w, f, im.pixels);
        file.len = 0;
        if (image_encode(&im, &file, &w->err)) die(&w->err);
        FILE *out = fopen(path, "wb");
        if (!out || fwrite(file.data, 1, file.len, out) != file.len || fclose(out)) {
            perror(path);
            exit(1);
        }
    }
    buf_free(&file);
    image_free(&im);
}

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    static const struct option options[] = {
        {"order", 1, NULL, 'o'}, {"seed", 1, NULL, 's'},  {"batch", 1, NULL, 'b'},
        {"join", 1, NULL, 'j'},  {"spec", 1, NULL, 'f'},  {"threads", 1, NULL, 't'},
        {"every", 1, NULL, 'e'}, {"wrong", 1, NULL, 'w'}, {"made", 1, NULL, 'm'},
        {"train", 1, NULL, 'n'}, {"test", 1, NULL, 'N'},  {"write", 1, NULL, 'W'},
        {NULL, 0, NULL, 0}};
    const char *order = "shuffled", *file = NULL, *made = NULL, *dir = NULL;
    uint64_t seed = 1;
    size_t batch = 1000, join = 1, every = 10, train_count = 20000, test_count = 5000;
    double wrong = 0;
    int threads = 2;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'o': order = optarg; break;
        case 's': seed = strtoull(optarg, NULL, 10); break;
        case 'b': batch = strtoul(optarg, NULL, 10); break;
        case 'j': join = strtoul(optarg, NULL, 10); break;
        case 'f': file = optarg; break;
        case 't': threads = atoi(optarg); break;
        case 'e': every = strtoul(optarg, NULL, 10); break;
        case 'w': wrong = atof(optarg); break;
        case 'm': made = optarg; break;
        case 'n': train_count = strtoul(optarg, NULL, 10); break;
        case 'N': test_count = strtoul(optarg, NULL, 10); break;
        case 'W': dir = optarg; break;
        default: return 2;
        }
    }
    if (argc - optind != (made ? 0 : 2) || !batch || !join || !every) {
        fprintf(stderr, "usage: learn TRAIN TEST [FLAGS], or learn --made glyphs|shapes [FLAGS]\n");
        return 2;
    }
    struct world w = {.reader.max_pixels = 1 << 24};
    struct redis_server server;
    struct arena a = {0};
    struct specs *specs = specs_load(file, &w.err);
    if (!specs) die(&w.err);
    struct spec spec = *specs_of(specs, BYTES("default"));
    w.spec = &spec;
    if (made) {
        w.made = strcmp(made, "shapes") ? &made_glyphs : &made_shapes;
        spec.width = w.made->width;
        spec.height = w.made->height;
        spec.channels = w.made->channels;
    }
    struct samples train = made ? make(w.made, train_count, 0) : find(argv[optind]),
                   test = made ? make(w.made, test_count, train_count) : find(argv[optind + 1]);
    if (dir) {
        write_samples(&w, &train, "train", dir);
        write_samples(&w, &test, "test", dir);
        return 0;
    }
    const char *middle = train.list[train.count / 2].label; /* they are sorted by label here */
    for (size_t i = train.count; i > 1 && strcmp(order, "sorted") != 0; i--) {
        size_t k = (size_t)(random_uniform(&seed) * (double)i);
        struct sample swap = train.list[i - 1];
        train.list[i - 1] = train.list[k];
        train.list[k] = swap;
    }
    if (!strcmp(order, "halves")) halve(&train, middle);
    size_t image = (size_t)(w.spec->width * w.spec->height * w.spec->channels);
    uint8_t *x = mem_alloc(test.count * image);
    for (size_t i = 0; i < test.count; i++) pixels_of(&w, &test.list[i], x + i * image);
    redis_server_start(&server, NULL);
    struct redis *redis =
        redis_open(&(struct redis_conf){.url = redis_server_url(&server)}, &w.err);
    if (!redis) die(&w.err);
    w.images = images_open(redis, "l.");
    w.registry = registry_open(redis, "l.");
    struct learner *l = learner_open(w.registry, w.images, threads);
    const struct alive alive = {.still = still};
    double seconds = 0, training = 0, first = 0, middle_first = 0;
    printf("%zu images, %zu to a batch, %zu batches to a version, %s\n", train.count, batch, join,
           order);
    printf("%8s %8s %14s %9s %9s %9s %9s %10s\n", "version", "images", "presentations", "seconds",
           "held out", "test", "1st half", "images/s");
    size_t rounds = wrong > 0 ? 2 : 1, end = train.count * rounds;
    for (size_t at = 0; at < end;) {
        struct manifest list[64];
        size_t n = 0, before = at;
        for (; n < join && n < 64 && at < end; n++) {
            bool corrected = at >= train.count;
            size_t from = at % train.count, k = corrected ? (size_t)((double)batch / wrong) : batch;
            if (train.count - from < k) k = train.count - from;
            list[n] = arrive(&w, train.list, k, from, train.count, corrected, wrong, &a);
            at += k;
        }
        struct trained out;
        if (learner_learn(l, BYTES("default"), w.spec, list, n, &alive, &a, &out, &w.err))
            die(&w.err);
        seconds += out.seconds;
        training += out.training_seconds;
        bool half = before < train.count / 2 && at >= train.count / 2;
        if ((size_t)out.version % every == 0 || at % train.count == 0 || half) {
            double share = score(&w, out.artifact, x, &test, middle, &first);
            if (half) middle_first = first;
            printf("%8lld %8lld %14lld %9.1f %8.2f%% %8.2f%% %8.2f%% %10.0f\n",
                   (long long)out.version, (long long)out.images, (long long)out.presentations,
                   seconds, 100 * out.evaluation.accuracy, 100 * share, 100 * first,
                   training > 0 ? (double)out.presentations / training : 0);
            fflush(stdout);
        }
        arena_reset(&a);
    }
    if (!strcmp(order, "halves"))
        printf("the first half of the labels: %+.2f points\n", 100 * (first - middle_first));
    learner_close(l);
    registry_close(w.registry);
    images_close(w.images);
    redis_close(redis);
    redis_server_stop(&server);
    return 0;
}
