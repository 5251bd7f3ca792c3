#include "worker/child/line.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "proto/utf8.h"

static void put(struct line *line, const char *text, size_t size)
{
    if (line->cut) {
        return;
    }
    line->cut = size > LINE_BYTES - line->used;
    if (line->cut) {
        text = "...";
        size = strlen(text);
    }
    memcpy(line->text + line->used, text, size);
    line->used += size;
    line->text[line->used] = '\0';
}

// C1 controls are no more printable than those below a blank.
static bool is_printable(uint32_t code)
{
    return code != UTF8_INVALID && code >= 0x20 && (code < 0x7f || code >= 0xa0);
}

static void put_escaped(struct line *line, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char escape[5];

        switch (text[i]) {
        case '\n':
            put(line, "\\n", 2);
            break;
        case '\r':
            put(line, "\\r", 2);
            break;
        case '\t':
            put(line, "\\t", 2);
            break;
        default:
            put(line, escape, (size_t)snprintf(escape, sizeof(escape), "\\x%02x", (unsigned char)text[i]));
        }
    }
}

static void add(struct line *line, const char *text, size_t size, bool quoted)
{
    for (size_t at = 0; at < size && !line->cut;) {
        uint32_t code;
        size_t length = utf8_next(text + at, size - at, &code);

        if (!is_printable(code)) {
            put_escaped(line, text + at, length);
        } else {
            char character[5] = "\\";
            size_t escape = quoted && (code == '"' || code == '\\') ? 1 : 0;

            memcpy(character + escape, text + at, length);
            put(line, character, escape + length);
        }
        at += length;
    }
}

void line_add(struct line *line, const char *text, size_t size)
{
    add(line, text, size, false);
}

static bool needs_quotes(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (strchr(" \"\n\r\t", text[i]) != NULL) { // a zero byte, too
            return true;
        }
    }
    return size == 0;
}

void line_add_word(struct line *line, const char *text, size_t size)
{
    bool quoted = needs_quotes(text, size);

    put(line, " ", line->used > 0 ? 1 : 0);
    put(line, "\"", quoted ? 1 : 0);
    add(line, text, size, quoted);
    put(line, "\"", quoted ? 1 : 0);
}
