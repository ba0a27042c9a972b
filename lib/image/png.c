/* png.c: libpng with memory of our own on the stack, and every exit in one place: setjmp alone
   returns. */
#include "lib/image/png.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

const struct image_limits image_default_limits = {16 << 20, 16 << 20};

/* What a decode owns. It lives in the caller of the function that calls setjmp, so that a longjmp
   leaves every field defined. */
struct decode {
    png_structp png;
    png_infop info;
    struct bytes left; /* of the file, unread */
    int channels;
    enum image_alpha alpha;
    const struct image_limits *limits;
    struct image *out;
    uint8_t *plane; /* rows as libpng gives them, where they are not the picture's own */
    bool failed;
    struct err *e;
    /* libpng's and zlib's state of one decode is some 45 KB in a dozen pieces: taken from here. */
    size_t scratch_used;
    _Alignas(16) char scratch[64 << 10];
};

static void *scratch_alloc(png_structp png, png_alloc_size_t n) {
    struct decode *d = png_get_mem_ptr(png);
    size_t rounded = (n + 15) & ~(size_t)15;
    if (n > sizeof d->scratch - d->scratch_used || rounded > sizeof d->scratch - d->scratch_used)
        return mem_alloc(n);
    void *p = d->scratch + d->scratch_used;
    d->scratch_used += rounded;
    return p;
}

static void scratch_free(png_structp png, void *p) {
    struct decode *d = png_get_mem_ptr(png);
    if ((char *)p < d->scratch || (char *)p >= d->scratch + sizeof d->scratch) free(p);
}

static void on_error(png_structp png, const char *what) {
    struct decode *d = png_get_error_ptr(png);
    d->failed = true;
    err_bad(d->e, REASON_BROKEN_IMAGE, "a damaged PNG: %s", what);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, const char *what) {
    (void)png, (void)what;
}

static void read_bytes(png_structp png, png_bytep to, size_t n) {
    struct decode *d = png_get_io_ptr(png);
    if (n > d->left.len) png_error(png, "the file ends too early");
    memcpy(to, d->left.data, n);
    d->left = (struct bytes){(const char *)d->left.data + n, d->left.len - n};
}

static uint8_t over(unsigned sample, unsigned alpha, unsigned background) {
    return (uint8_t)((sample * alpha + background * (255 - alpha) + 127) / 255);
}

/* One row of `width` pixels from 1..4 channels (grey, grey+alpha, RGB, RGBA) to 1 or 3. */
static void convert_row(const uint8_t *in, int in_channels, uint8_t *out, int channels, int width,
                        unsigned background) {
    bool colour = in_channels >= 3, has_alpha = in_channels % 2 == 0;
    for (int x = 0; x < width; x++, in += in_channels, out += channels) {
        uint8_t rgb[3] = {in[0], in[colour ? 1 : 0], in[colour ? 2 : 0]};
        if (has_alpha)
            for (int c = 0; c < 3; c++) rgb[c] = over(rgb[c], in[in_channels - 1], background);
        if (channels == 3)
            memcpy(out, rgb, 3);
        else if (!colour)
            out[0] = rgb[0];
        else
            out[0] = (uint8_t)((299u * rgb[0] + 587u * rgb[1] + 114u * rgb[2] + 500) / 1000);
    }
}

static void make_room(struct image *im, int width, int height, int channels) {
    size_t have = (size_t)im->width * (size_t)im->height * (size_t)im->channels;
    size_t need = (size_t)width * (size_t)height * (size_t)channels;
    if (!im->pixels || need > have) {
        free(im->pixels);
        im->pixels = mem_alloc(need);
    }
    im->width = width, im->height = height, im->channels = channels;
}

/* Everything that may longjmp. */
static void read_picture(struct decode *d) {
    png_structp png = d->png;
    png_infop info = d->info = png_create_info_struct(png);
    if (!info) png_error(png, "no memory for its header");
    png_uint_32 side = d->limits->max_pixels < PNG_UINT_31_MAX ? (png_uint_32)d->limits->max_pixels
                                                               : PNG_UINT_31_MAX;
    png_set_user_limits(png, side, side);
    png_set_chunk_malloc_max(png, 0); /* those that are large are skipped, no memory is taken */
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_benign_errors(png, 0); /* what libpng would overlook */
    /* -1: everything, known to libpng or not, but IHDR, PLTE, tRNS, IDAT and IEND. */
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_read_fn(png, d, read_bytes);
    png_read_info(png, info);

    /* A transformation that changes nothing still costs a call a row. */
    int depth = png_get_bit_depth(png, info);
    bool palette = png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE;
    if (palette || depth < 8 || png_get_valid(png, info, PNG_INFO_tRNS))
        png_set_expand(png); /* palette to RGB, 1..4 bits to 8, tRNS to alpha */
    if (depth == 16) png_set_scale_16(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);

    int width = (int)png_get_image_width(png, info), height = (int)png_get_image_height(png, info);
    int in_channels = png_get_channels(png, info);
    size_t in_stride = (size_t)width * (size_t)in_channels;
    size_t stride = (size_t)width * (size_t)d->channels;
    make_room(d->out, width, height, d->channels);
    unsigned background = d->alpha == IMAGE_OVER_WHITE ? 255 : 0;
    if (in_channels == d->channels) {
        for (int pass = 0; pass < passes; pass++)
            for (int y = 0; y < height; y++)
                png_read_row(png, d->out->pixels + (size_t)y * stride, NULL);
    } else if (passes == 1) {
        d->plane = mem_alloc(in_stride);
        for (int y = 0; y < height; y++) {
            png_read_row(png, d->plane, NULL);
            convert_row(d->plane, in_channels, d->out->pixels + (size_t)y * stride, d->channels,
                        width, background);
        }
    } else {
        d->plane = mem_alloc(in_stride * (size_t)height);
        for (int pass = 0; pass < passes; pass++)
            for (int y = 0; y < height; y++)
                png_read_row(png, d->plane + (size_t)y * in_stride, NULL);
        for (int y = 0; y < height; y++)
            convert_row(d->plane + (size_t)y * in_stride, in_channels,
                        d->out->pixels + (size_t)y * stride, d->channels, width, background);
    }
    png_read_end(png, info); /* up to IEND and its checksum; without info it looks at no chunk */
}

/* The only automatic object beside a longjmp is `d` itself, which does not change. */
static void read_guarded(struct decode *d) {
    if (setjmp(png_jmpbuf(d->png)) == 0) read_picture(d);
}

/* By the file's first bytes. IHDR must stand there: libpng skips what stands before it, and would
   meet a size that nobody has looked at. */
static enum err_kind check_limits(struct bytes file, const struct image_limits *limits,
                                  struct err *e) {
    const uint8_t *p = file.data;
    if (!file.data || !file.len) return err_bad(e, REASON_EMPTY, "no image: the value is empty");
    if (file.len < 8 || png_sig_cmp(p, 0, 8))
        return err_bad(e, REASON_NOT_PNG, "not a PNG file: it begins in another way");
    if (file.len > (uint64_t)limits->max_bytes)
        return err_bad(e, REASON_TOO_LARGE, "a PNG of %zu bytes, over the limit of %lld", file.len,
                       (long long)limits->max_bytes);
    if (file.len < 33 || memcmp(p + 8, "\0\0\0\rIHDR", 8) != 0)
        return err_bad(e, REASON_BROKEN_IMAGE, "a damaged PNG: it does not begin with its header");
    uint64_t width = png_get_uint_32(p + 16), height = png_get_uint_32(p + 20);
    if (width * height > (uint64_t)limits->max_pixels)
        return err_bad(e, REASON_TOO_LARGE, "a PNG of %llu x %llu pixels, over the limit of %lld",
                       (unsigned long long)width, (unsigned long long)height,
                       (long long)limits->max_pixels);
    return ERR_NONE;
}

enum err_kind image_decode(struct bytes file, int channels, enum image_alpha alpha,
                           const struct image_limits *limits, struct image *out, struct err *e) {
    if (check_limits(file, limits, e)) {
        image_free(out);
        return e->kind;
    }
    struct decode d; /* not cleared as a whole: scratch is 64 KiB */
    d.info = NULL;
    d.left = file;
    d.channels = channels, d.alpha = alpha, d.limits = limits;
    d.out = out;
    d.plane = NULL;
    d.failed = false;
    d.e = e;
    d.scratch_used = 0;
    d.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &d, on_error, on_warning, &d,
                                     scratch_alloc, scratch_free);
    if (!d.png) {
        image_free(out);
        return err_fatal(e, "libpng does not start: it is not the %s that this was built with",
                         PNG_LIBPNG_VER_STRING);
    }
    read_guarded(&d);
    png_destroy_read_struct(&d.png, &d.info, NULL);
    free(d.plane);
    if (!d.failed) return ERR_NONE;
    image_free(out);
    return e->kind;
}

struct encode {
    png_structp png;
    png_infop info;
    const struct image *im;
    struct buf *out;
    bool failed;
    struct err *e;
};

static void on_encode_error(png_structp png, const char *what) {
    struct encode *w = png_get_error_ptr(png);
    w->failed = true;
    err_fatal(w->e, "a picture of %d x %d x %d cannot be written as PNG: %s", w->im->width,
              w->im->height, w->im->channels, what);
    png_longjmp(png, 1);
}

static void write_bytes(png_structp png, png_bytep data, size_t n) {
    struct encode *w = png_get_io_ptr(png);
    buf_add(w->out, data, n);
}

static void flush_nothing(png_structp png) {
    (void)png;
}

static void write_guarded(struct encode *w) {
    const struct image *im = w->im;
    if (setjmp(png_jmpbuf(w->png))) return;
    if (!(w->info = png_create_info_struct(w->png))) png_error(w->png, "no memory for its header");
    png_set_write_fn(w->png, w, write_bytes, flush_nothing);
    png_set_IHDR(w->png, w->info, (png_uint_32)im->width, (png_uint_32)im->height, 8,
                 im->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    for (int y = 0; y < im->height; y++)
        png_write_row(w->png, im->pixels + (size_t)y * (size_t)im->width * (size_t)im->channels);
    png_write_end(w->png, NULL);
}

enum err_kind image_encode(const struct image *im, struct buf *out, struct err *e) {
    if (im->width < 1 || im->height < 1 || (im->channels != 1 && im->channels != 3))
        return err_fatal(e, "%d x %d x %d is no picture", im->width, im->height, im->channels);
    struct encode w = {.im = im, .out = out, .e = e};
    size_t before = out->len;
    w.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, on_encode_error, on_warning);
    if (!w.png)
        return err_fatal(e, "libpng does not start: it is not the %s that this was built with",
                         PNG_LIBPNG_VER_STRING);
    write_guarded(&w);
    png_destroy_write_struct(&w.png, &w.info);
    if (!w.failed) return ERR_NONE;
    out->len = before;
    return e->kind;
}

void image_free(struct image *im) {
    free(im->pixels);
    *im = (struct image){0};
}
