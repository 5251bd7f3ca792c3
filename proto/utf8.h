// Text as characters: printing counts these, not bytes.  Bytes that are no UTF-8
// are passed on as they are and count one each.
#ifndef DRAY_PROTO_UTF8_H
#define DRAY_PROTO_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_INVALID UINT32_MAX

// Bytes of the character at text (size > 0); *code is UTF8_INVALID for a byte that begins none.
size_t utf8_next(const char *text, size_t size, uint32_t *code);
size_t utf8_length(const char *text, size_t size);
// Bytes of the first `count` characters.
size_t utf8_prefix(const char *text, size_t size, size_t count);

#endif
