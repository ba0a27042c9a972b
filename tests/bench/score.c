/*
 * score: every version of a model whose weights are kept, on the images of a folder that no training
 * saw: a line of JSON a version.
 *
 *   score REDIS-URL PREFIX MODEL FOLDER        folder of <label>/<id>.png
 */
#define _GNU_SOURCE
#include "lib/base/bytes.h"
#include "lib/image/tensor.h"
#include "lib/kv/redis.h"
#include "lib/learn/registry.h"
#include "lib/nn/calibrate.h"
#include "lib/nn/matmul.h"
#include "lib/nn/model.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct file {
    struct bytes data;
    char label[64];
};
static struct file *files;
static size_t file_count;

static void die(const char *what) {
    fprintf(stderr, "score: %s\n", what);
    exit(1);
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    size_t n = strlen(path);
    (void)ftw;
    if (type != FTW_F || n < 5 || strcmp(path + n - 4, ".png") != 0) return 0;
    if (!(file_count & (file_count - 1)))
        files = mem_resize(files, (file_count ? 2 * file_count : 1) * sizeof *files);
    struct file *f = &files[file_count++];
    const char *slash = strrchr(path, '/'), *from = slash;
    while (from > path && from[-1] != '/') from--;
    snprintf(f->label, sizeof f->label, "%.*s", (int)(slash - from), from);
    char *data = mem_alloc((size_t)st->st_size);
    FILE *in = fopen(path, "rb");
    if (!in || fread(data, 1, (size_t)st->st_size, in) != (size_t)st->st_size) die(path);
    fclose(in);
    f->data = (struct bytes){data, (size_t)st->st_size};
    return 0;
}

static void score(const struct model *m, const struct trained *v) {
    static struct tensor_reader reader = {.max_pixels = 1 << 24};
    const struct net_spec *spec = net_spec(m->net);
    size_t image = net_image_size(m->net), classes = (size_t)m->label_count, right = 0;
    const char *alpha = model_note(m, "alpha");
    uint8_t *x = mem_alloc(file_count * image);
    float *prob = mem_alloc(file_count * classes * sizeof *prob);
    int *label = mem_alloc(file_count * sizeof *label);
    struct net_run *run = net_run_make(m->net, 512);
    struct calibration c;
    struct err e = {0};
    for (size_t i = 0; i < file_count; i++) {
        if (tensor_read(&reader, files[i].data, spec->width, spec->height, spec->channels,
                        alpha && !strcmp(alpha, "black") ? IMAGE_OVER_BLACK : IMAGE_OVER_WHITE,
                        x + i * image, &e))
            die(e.text);
        label[i] = 0;
        while (label[i] < m->label_count && strcmp(m->labels[label[i]], files[i].label) != 0)
            label[i]++;
    }
    net_forward(run, NULL, x, (int)file_count, prob);
    for (size_t i = 0; i < file_count; i++) {
        size_t best = 0;
        for (size_t k = 1; k < classes; k++)
            if (prob[i * classes + k] > prob[i * classes + best]) best = k;
        right += (int)best == label[i];
    }
    calibration_of(prob, label, file_count, m->label_count, &c);
    printf("{\"version\":%lld,\"time_ms\":%lld,\"images\":%lld,\"presentations\":%lld,"
           "\"training_seconds\":%.3f,\"accuracy\":%.6f,\"ece\":%.6f}\n",
           (long long)v->version, (long long)v->time_ms, (long long)v->images,
           (long long)v->presentations, v->training_seconds, (double)right / (double)file_count,
           c.ece);
    net_run_free(run);
    free(x);
    free(prob);
    free(label);
}

int main(int argc, char **argv) {
    matmul_choose_kernels(argc, argv);
    if (argc != 5) die("usage: score REDIS-URL PREFIX MODEL FOLDER");
    struct err e = {0};
    struct arena a = {0};
    struct trained *versions = NULL;
    size_t n = 0;
    nftw(argv[4], visit, 16, 0);
    if (!file_count) die("no .png in the folder");
    struct redis *redis = redis_open(&(struct redis_conf){.url = argv[1]}, &e);
    if (!redis) die(e.text);
    struct registry *registry = registry_open(redis, argv[2]);
    if (registry_versions(registry, bytes_of(argv[3]), &a, &versions, &n, &e)) die(e.text);
    for (size_t i = 0; i < n; i++) {
        struct buf file = {0};
        struct model m;
        if (registry_get_artifact(registry, versions[i].artifact, &file, &e) == ERR_BAD) {
            err_clear(&e);
            continue;
        }
        if (e.kind || model_load(buf_bytes(&file), &m, &e)) die(e.text);
        score(&m, &versions[i]);
        model_free(&m);
        buf_free(&file);
    }
    registry_close(registry);
    redis_close(redis);
    arena_free(&a);
    return 0;
}
