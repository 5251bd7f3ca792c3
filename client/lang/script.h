// The text of a script, places in it, and errors that point at a place.
#ifndef DRAY_CLIENT_LANG_SCRIPT_H
#define DRAY_CLIENT_LANG_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

#define SCRIPT_BYTES_MAX ((size_t)256 << 10)

struct script {
    const char *name; // for people: a file name, "<stdin>", "script"
    const char *text;
    size_t size;
};

// Bytes [start, end) of the script.
struct place {
    uint32_t start;
    uint32_t end;
};

// -EINVAL with three lines: "NAME:LINE: message", the line, carets under the place.
int script_error(const struct script *script, struct place at, struct error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// The same with "NAME:LINE:COLUMN: message"; columns are characters, from 1.
int script_error_column(const struct script *script, struct place at, struct error *err, const char *format,
                        ...) __attribute__((format(printf, 4, 5)));

uint32_t script_line(const struct script *script, uint32_t offset); // from 1

#endif
