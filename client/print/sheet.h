// Strips of text, laid side by side: the tools with which pandas lays out a print
// (pandas/io/formats: adjoin, justify, _make_fixed_width).  Widths are in characters.
// Memory comes from the sheet's arena; when there is no more, texts become empty and
// sheet->no_memory says so at the end.
#ifndef DRAY_CLIENT_PRINT_SHEET_H
#define DRAY_CLIENT_PRINT_SHEET_H

#include <stdbool.h>
#include <stdio.h>

#include "proto/arena.h"

struct sheet {
    struct arena arena;
    bool no_memory;
};

struct text {
    const char *data;
    size_t size;
    size_t width;
};

// From top to bottom.
struct strip {
    struct text *line;
    size_t count;
    size_t room;
};

enum align { ALIGN_LEFT, ALIGN_RIGHT, ALIGN_CENTER };

void sheet_init(struct sheet *sheet);
void sheet_fini(struct sheet *sheet);

struct text text_of(const char *literal);
// Borrows data.
struct text text_borrow(const char *data, size_t size);
struct text text_join(struct sheet *sheet, const char *prefix, struct text text);
// Tabs, returns and newlines as \t, \r, \n.
struct text text_escape(struct sheet *sheet, const char *data, size_t size);
struct text text_pad(struct sheet *sheet, struct text text, size_t width, enum align align);
__attribute__((format(printf, 2, 3))) struct text text_print(struct sheet *sheet, const char *format, ...);

void strip_add(struct sheet *sheet, struct strip *strip, struct text text);
void strip_insert(struct sheet *sheet, struct strip *strip, size_t at, struct text text);
size_t strip_width(const struct strip *strip);
void strip_pad(struct sheet *sheet, struct strip *strip, size_t width, enum align align);
// All as wide as the widest, at least `minimum`, at most 50; what is longer ends in "...".
void strip_fix_width(struct sheet *sheet, struct strip *strip, size_t minimum, enum align align);
// Takes away leading spaces that all have.
void strip_trim_front(struct strip *strip);
// Side by side with `space` between them, one strip of lines.
struct strip strips_adjoin(struct sheet *sheet, size_t space, const struct strip *strips, size_t count);
void strip_write(const struct strip *strip, FILE *out);

#endif
