#include "client/print/sheet.h"

#include <stdarg.h>
#include <string.h>

#include "proto/utf8.h"

enum { WIDTH_MAX = 50 }; // pandas' display.max_colwidth

void sheet_init(struct sheet *sheet)
{
    arena_init(&sheet->arena, 0);
    sheet->no_memory = false;
}

void sheet_fini(struct sheet *sheet)
{
    arena_fini(&sheet->arena);
}

// NULL only together with no_memory.
static char *allocate(struct sheet *sheet, size_t size)
{
    char *data = arena_alloc(&sheet->arena, size);

    sheet->no_memory |= data == NULL;
    return data;
}

struct text text_borrow(const char *data, size_t size)
{
    return (struct text){data, size, utf8_length(data, size)};
}

struct text text_of(const char *literal)
{
    return text_borrow(literal, strlen(literal));
}

struct text text_print(struct sheet *sheet, const char *format, ...)
{
    char buffer[512];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(buffer, sizeof(buffer), format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(buffer)) {
        n = 0;
    }
    char *data = allocate(sheet, (size_t)n + 1);

    if (data == NULL) {
        return text_of("");
    }
    memcpy(data, buffer, (size_t)n);
    return text_borrow(data, (size_t)n);
}

struct text text_join(struct sheet *sheet, const char *prefix, struct text text)
{
    size_t size = strlen(prefix);
    char *data = allocate(sheet, size + text.size + 1);

    if (data == NULL) {
        return text_of("");
    }
    memcpy(data, prefix, size);
    if (text.size > 0) {
        memcpy(data + size, text.data, text.size);
    }
    return (struct text){data, size + text.size, utf8_length(prefix, size) + text.width};
}

struct text text_escape(struct sheet *sheet, const char *data, size_t size)
{
    size_t escapes = 0;

    for (size_t i = 0; i < size; i++) {
        escapes += data[i] == '\t' || data[i] == '\r' || data[i] == '\n';
    }
    if (escapes == 0) {
        return text_borrow(data, size);
    }
    char *out = allocate(sheet, size + escapes);
    size_t n = 0;

    if (out == NULL) {
        return text_of("");
    }
    for (size_t i = 0; i < size; i++) {
        char letter = data[i] == '\t' ? 't' : data[i] == '\r' ? 'r' : data[i] == '\n' ? 'n' : '\0';

        if (letter != '\0') {
            out[n++] = '\\';
            out[n++] = letter;
        } else {
            out[n++] = data[i];
        }
    }
    return text_borrow(out, n);
}

struct text text_pad(struct sheet *sheet, struct text text, size_t width, enum align align)
{
    size_t spaces, left;
    char *data;

    if (text.width >= width) {
        return text;
    }
    spaces = width - text.width;
    // Python's str.center puts the odd space left only when the width is odd.
    left = align == ALIGN_RIGHT ? spaces : align == ALIGN_LEFT ? 0 : spaces / 2 + (spaces & width & 1);
    data = allocate(sheet, text.size + spaces);
    if (data == NULL) {
        return text_of("");
    }
    memset(data, ' ', text.size + spaces);
    if (text.size > 0) {
        memcpy(data + left, text.data, text.size);
    }
    return (struct text){data, text.size + spaces, width};
}

// ---- strips ----------------------------------------------------------------------------

void strip_insert(struct sheet *sheet, struct strip *strip, size_t at, struct text text)
{
    if (strip->count == strip->room) {
        size_t room = strip->room == 0 ? 16 : 2 * strip->room;
        struct text *line = arena_array(&sheet->arena, room, sizeof(*line));

        if (line == NULL) {
            sheet->no_memory = true;
            return;
        }
        if (strip->count > 0) {
            memcpy(line, strip->line, strip->count * sizeof(*line));
        }
        strip->line = line;
        strip->room = room;
    }
    at = at < strip->count ? at : strip->count;
    memmove(strip->line + at + 1, strip->line + at, (strip->count - at) * sizeof(*strip->line));
    strip->line[at] = text;
    strip->count++;
}

void strip_add(struct sheet *sheet, struct strip *strip, struct text text)
{
    strip_insert(sheet, strip, strip->count, text);
}

size_t strip_width(const struct strip *strip)
{
    size_t width = 0;

    for (size_t i = 0; i < strip->count; i++) {
        width = strip->line[i].width > width ? strip->line[i].width : width;
    }
    return width;
}

void strip_pad(struct sheet *sheet, struct strip *strip, size_t width, enum align align)
{
    for (size_t i = 0; i < strip->count; i++) {
        strip->line[i] = text_pad(sheet, strip->line[i], width, align);
    }
}

void strip_fix_width(struct sheet *sheet, struct strip *strip, size_t minimum, enum align align)
{
    size_t width = strip_width(strip);

    width = width < minimum ? minimum : width;
    width = width > WIDTH_MAX ? WIDTH_MAX : width;
    for (size_t i = 0; i < strip->count; i++) {
        struct text *text = &strip->line[i];

        if (text->width > width) {
            size_t kept = utf8_prefix(text->data, text->size, width - 3);
            char *data = allocate(sheet, kept + 3);

            if (data == NULL) {
                return;
            }
            memcpy(data, text->data, kept);
            memcpy(data + kept, "...", 3);
            *text = (struct text){data, kept + 3, width};
        }
    }
    strip_pad(sheet, strip, width, align);
}

void strip_trim_front(struct strip *strip)
{
    for (;;) {
        for (size_t i = 0; i < strip->count; i++) {
            if (strip->line[i].size == 0 || strip->line[i].data[0] != ' ') {
                return;
            }
        }
        if (strip->count == 0) {
            return;
        }
        for (size_t i = 0; i < strip->count; i++) {
            strip->line[i].data++;
            strip->line[i].size--;
            strip->line[i].width--;
        }
    }
}

struct strip strips_adjoin(struct sheet *sheet, size_t space, const struct strip *strips, size_t count)
{
    struct strip lines = {0};
    size_t *full = arena_array(&sheet->arena, count, sizeof(*full));
    size_t rows = 0, total = 0;

    if (full == NULL) {
        sheet->no_memory = true;
        return lines;
    }
    for (size_t i = 0; i < count; i++) {
        rows = strips[i].count > rows ? strips[i].count : rows;
        full[i] = strip_width(&strips[i]) + (i + 1 < count ? space : 0);
        total += full[i];
    }
    for (size_t row = 0; row < rows; row++) {
        size_t room = total, size = 0;

        for (size_t i = 0; i < count; i++) {
            room += row < strips[i].count ? strips[i].line[row].size : 0;
        }
        char *data = allocate(sheet, room + 1);

        if (data == NULL) {
            return lines;
        }
        for (size_t i = 0; i < count; i++) {
            struct text text = row < strips[i].count ? strips[i].line[row] : text_of("");

            if (text.size > 0) {
                memcpy(data + size, text.data, text.size);
            }
            size += text.size;
            memset(data + size, ' ', full[i] - text.width);
            size += full[i] - text.width;
        }
        strip_add(sheet, &lines, (struct text){data, size, total});
    }
    return lines;
}

void strip_write(const struct strip *strip, FILE *out)
{
    for (size_t i = 0; i < strip->count; i++) {
        fwrite(strip->line[i].data, 1, strip->line[i].size, out);
        putc('\n', out);
    }
}
