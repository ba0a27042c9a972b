/* pen.c: letters are five rows of three pixels, a row an octal digit. */
#include "lib/export/pen.h"

#include "lib/image/resize.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    char letter;
    const char *rows;
} letters[] = {
    {'0', "75557"}, {'1', "26227"},  {'2', "71747"}, {'3', "71717"}, {'4', "55711"}, {'5', "74717"},
    {'6', "74757"}, {'7', "71244"},  {'8', "75757"}, {'9', "75717"}, {'A', "25755"}, {'B', "65656"},
    {'C', "34443"}, {'D', "65556"},  {'E', "74647"}, {'F', "74644"}, {'G', "34553"}, {'H', "55755"},
    {'I', "72227"}, {'J', "11152"},  {'K', "55655"}, {'L', "44447"}, {'M', "57755"}, {'N', "65555"},
    {'O', "25552"}, {'P', "65644"},  {'Q', "25573"}, {'R', "65655"}, {'S', "34216"}, {'T', "72222"},
    {'U', "55557"}, {'V', "55552"},  {'W', "55775"}, {'X', "55255"}, {'Y', "55222"}, {'Z', "71247"},
    {'a', "03553"}, {'b', "46556"},  {'c', "03443"}, {'d', "13553"}, {'e', "02563"}, {'f', "12722"},
    {'g', "03536"}, {'h', "46555"},  {'i', "20222"}, {'j', "10152"}, {'k', "45665"}, {'l', "62227"},
    {'m', "07755"}, {'n', "06555"},  {'o', "02552"}, {'p', "06564"}, {'q', "03531"}, {'r', "05644"},
    {'s', "03636"}, {'t', "27221"},  {'u', "05553"}, {'v', "05552"}, {'w', "05577"}, {'x', "05225"},
    {'y', "05536"}, {'z', "07247"},  {' ', "00000"}, {'-', "00700"}, {'_', "00007"}, {'.', "00002"},
    {',', "00024"}, {':', "02020"},  {'>', "42124"}, {'<', "12421"}, {'%', "51245"}, {'/', "11244"},
    {'+', "02720"}, {'=', "07070"},  {'(', "12221"}, {')', "42224"}, {'!', "22202"}, {'?', "71202"},
    {'#', "57575"}, {'\'', "22000"},
};

static const char *rows_of(char c) {
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
        if (letters[i].letter == c) return letters[i].rows;
    return "77777";
}

void pen_canvas(struct image *canvas, int width, int height) {
    size_t size = (size_t)width * (size_t)height * 3;
    *canvas = (struct image){width, height, 3, memset(mem_alloc(size), 255, size)};
}

void pen_box(struct image *canvas, int x, int y, int width, int height, struct colour c) {
    for (int j = y < 0 ? 0 : y; j < y + height && j < canvas->height; j++)
        for (int i = x < 0 ? 0 : x; i < x + width && i < canvas->width; i++) {
            uint8_t *p = canvas->pixels + ((size_t)j * (size_t)canvas->width + (size_t)i) * 3;
            p[0] = c.r, p[1] = c.g, p[2] = c.b;
        }
}

static bool begins_character(char c) {
    return ((unsigned char)c & 0xc0) != 0x80;
}

int pen_length(const char *text, int most) {
    int n = 0;
    for (; *text && n < most; text++) n += begins_character(*text);
    return n;
}

/* Where the n-th character begins, or the end. */
static const char *skip(const char *text, int n) {
    while (*text && n > 0) {
        text++;
        n -= begins_character(*text);
    }
    return text;
}

void pen_fit(const char *text, int most, char *out, size_t size) {
    int length = pen_length(text, INT_MAX), tail = (most - 2) / 3, head = most - 2 - tail;
    if (length <= most)
        snprintf(out, size, "%s", text);
    else
        snprintf(out, size, "%.*s..%s", (int)(skip(text, head) - text), text,
                 skip(text, length - tail));
}

static void draw(struct image *canvas, int x, int y, int size, const char *text, int most,
                 bool upwards, struct colour c) {
    int length = pen_length(text, most) * PEN_STEP;
    for (int at = 0; *text && at < length; text++) {
        if (!begins_character(*text)) continue;
        const char *rows = rows_of(*text);
        for (int j = 0; j < PEN_HEIGHT; j++)
            for (int i = 0; i < 3; i++) {
                if (!((rows[j] - '0') >> (2 - i) & 1)) continue;
                int along = at + i, right = upwards ? j : along;
                int down = upwards ? length - 1 - along : j;
                pen_box(canvas, x + right * size, y + down * size, size, size, c);
            }
        at += PEN_STEP;
    }
}

void pen_text(struct image *canvas, int x, int y, int size, const char *text, int most,
              struct colour c) {
    draw(canvas, x, y, size, text, most, false, c);
}

void pen_text_upwards(struct image *canvas, int x, int y, int size, const char *text, int most,
                      struct colour c) {
    draw(canvas, x, y, size, text, most, true, c);
}

void pen_image(struct image *canvas, int x, int y, int side, const struct image *from) {
    int longest = from->width > from->height ? from->width : from->height;
    int width = from->width * side / longest, height = from->height * side / longest;
    width = width ? width : 1, height = height ? height : 1;
    uint8_t *pixels = mem_alloc((size_t)width * (size_t)height * (size_t)from->channels),
            *p = pixels;
    image_fit(from, width, height, pixels);
    x += (side - width) / 2, y += (side - height) / 2;
    for (int j = 0; j < height; j++)
        for (int i = 0; i < width; i++, p += from->channels)
            pen_box(canvas, x + i, y + j, 1, 1,
                    from->channels == 3 ? (struct colour){p[0], p[1], p[2]}
                                        : (struct colour){*p, *p, *p});
    free(pixels);
}
