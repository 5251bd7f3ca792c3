#include "proto/utf8.h"

size_t utf8_next(const char *text, size_t size, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *p = (const uint8_t *)text;
    size_t length = p[0] < 0x80   ? 1
                    : p[0] < 0xc2 ? 0
                    : p[0] < 0xe0 ? 2
                    : p[0] < 0xf0 ? 3
                    : p[0] < 0xf5 ? 4
                                  : 0;
    uint32_t value;

    if (length == 1) {
        *code = p[0];
        return 1;
    }
    *code = UTF8_INVALID;
    if (length == 0 || length > size) {
        return 1;
    }
    value = p[0] & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 1;
        }
        value = value << 6 | (p[i] & 0x3f);
    }
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
        return 1;
    }
    *code = value;
    return length;
}

size_t utf8_prefix(const char *text, size_t size, size_t count)
{
    size_t at = 0;
    uint32_t code;

    while (at < size && count-- > 0) {
        at += utf8_next(text + at, size - at, &code);
    }
    return at;
}

size_t utf8_length(const char *text, size_t size)
{
    size_t count = 0;
    uint32_t code;

    for (size_t at = 0; at < size; count++) {
        at += utf8_next(text + at, size - at, &code);
    }
    return count;
}
