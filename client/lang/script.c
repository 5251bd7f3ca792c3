#include "client/lang/script.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// What is shown of a long line: characters before the place, and in all.
enum { SHOWN_BEFORE = 50, SHOWN_MAX = 100, MESSAGE_MAX = 640 };

uint32_t script_line(const struct script *script, uint32_t offset)
{
    uint32_t line = 1;

    for (uint32_t i = 0; i < offset && i < script->size; i++) {
        line += script->text[i] == '\n';
    }
    return line;
}

static bool starts_character(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

static void append(char *out, size_t max, size_t *used, const char *text, size_t size)
{
    if (size > max - *used - 1) {
        size = max - *used - 1;
    }
    memcpy(out + *used, text, size);
    *used += size;
    out[*used] = '\0';
}

static void append_line(char *out, size_t max, size_t *used, const char *text, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        // A control character would move the caret or worse.
        char c = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];

        append(out, max, used, &c, 1);
    }
}

// The line of the place and the carets, cut to what a terminal shows.
static void show(const struct script *script, struct place at, char *out, size_t max)
{
    const char *text = script->text;
    size_t begin = at.start;
    size_t end = at.start;
    size_t used = 0;
    bool cut_left = false;
    bool cut_right = false;

    out[0] = '\0';
    while (begin > 0 && text[begin - 1] != '\n') {
        begin--;
    }
    while (end < script->size && text[end] != '\n' && text[end] != '\r') {
        end++;
    }
    size_t stop = at.end > end ? end : at.end;

    if (at.start - begin > SHOWN_BEFORE && end - begin > SHOWN_MAX) {
        begin = at.start - SHOWN_BEFORE;
        cut_left = true;
        while (!starts_character(text[begin])) {
            begin++;
        }
    }
    if (end - begin > SHOWN_MAX) {
        end = begin + SHOWN_MAX;
        cut_right = true;
        while (end > begin && !starts_character(text[end])) {
            end--;
        }
    }
    if (stop > end) {
        stop = end;
    }
    append(out, max, &used, cut_left ? "\n  ..." : "\n  ", cut_left ? 6 : 3);
    append_line(out, max, &used, text, begin, end);
    append(out, max, &used, cut_right ? "...\n  " : "\n  ", cut_right ? 6 : 3);
    append(out, max, &used, "   ", cut_left ? 3 : 0);
    for (size_t i = begin; i < at.start && i < end; i++) {
        if (starts_character(text[i])) {
            append(out, max, &used, " ", 1);
        }
    }
    append(out, max, &used, "^", 1);
    for (size_t i = at.start + 1; i < stop; i++) {
        if (starts_character(text[i])) {
            append(out, max, &used, "^", 1);
        }
    }
}

static uint32_t column_of(const struct script *script, uint32_t offset)
{
    uint32_t column = 1;

    for (uint32_t i = offset; i > 0 && script->text[i - 1] != '\n'; i--) {
        column += i < script->size ? starts_character(script->text[i]) : 1;
    }
    return column;
}

static int set_error(const struct script *script, struct place at, bool with_column, struct error *err,
                     const char *format, va_list args)
{
    char message[MESSAGE_MAX];
    char shown[4 * SHOWN_MAX];
    char column[16] = "";

    if (err == NULL) {
        return -EINVAL;
    }
    if (at.start > script->size) {
        at.start = (uint32_t)script->size;
    }
    vsnprintf(message, sizeof(message), format, args);
    if (with_column) {
        snprintf(column, sizeof(column), "%u:", column_of(script, at.start));
    }
    show(script, at, shown, sizeof(shown));
    return error_set(err, EINVAL, "%s:%u:%s %s%s", script->name, script_line(script, at.start), column,
                     message, shown);
}

int script_error(const struct script *script, struct place at, struct error *err, const char *format, ...)
{
    va_list args;
    int rc;

    va_start(args, format);
    rc = set_error(script, at, false, err, format, args);
    va_end(args);
    return rc;
}

int script_error_column(const struct script *script, struct place at, struct error *err, const char *format,
                        ...)
{
    va_list args;
    int rc;

    va_start(args, format);
    rc = set_error(script, at, true, err, format, args);
    va_end(args);
    return rc;
}
