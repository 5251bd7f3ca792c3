#include "client/cli/listing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/arena.h"
#include "proto/utf8.h"

enum { ELIDED_MIN = 8, GAP = 2 };

struct cell {
    const char *shown; // one line
    const char *json;
};

struct listing {
    const struct listing_column *column;
    size_t columns;
    struct arena arena;
    struct cell *cell; // malloc
    size_t cells, room;
    bool no_memory;
};

int listing_format_parse(const char *name, enum listing_format *out, struct error *err)
{
    if (strcmp(name, "table") == 0) {
        *out = LISTING_TABLE;
    } else if (strcmp(name, "json") == 0) {
        *out = LISTING_JSON;
    } else {
        return error_set(err, EINVAL, "\"%s\" is not one of table, json", name);
    }
    return 0;
}

struct listing *listing_create(const struct listing_column *columns, size_t count)
{
    struct listing *listing = calloc(1, sizeof(*listing));

    if (listing != NULL) {
        listing->column = columns;
        listing->columns = count;
        arena_init(&listing->arena, 0);
    }
    return listing;
}

void listing_destroy(struct listing *listing)
{
    if (listing != NULL) {
        arena_fini(&listing->arena);
        free(listing->cell);
        free(listing);
    }
}

// ---- cells -----------------------------------------------------------------------------------

static void add(struct listing *listing, const char *shown, const char *json)
{
    if (listing->cells == listing->room) {
        size_t room = listing->room == 0 ? 64 : 2 * listing->room;
        struct cell *grown = realloc(listing->cell, room * sizeof(*grown));

        if (grown == NULL) {
            listing->no_memory = true;
            return;
        }
        listing->cell = grown;
        listing->room = room;
    }
    if (shown == NULL || json == NULL) {
        listing->no_memory = true;
        return;
    }
    listing->cell[listing->cells++] = (struct cell){.shown = shown, .json = json};
}

// Control characters as spaces.
static const char *one_line(struct listing *listing, const char *text)
{
    char *copy = arena_strdup(&listing->arena, text);

    for (size_t i = 0; copy != NULL && copy[i] != '\0'; i++) {
        if ((unsigned char)copy[i] < 0x20 || copy[i] == 0x7f) {
            copy[i] = ' ';
        }
    }
    return copy;
}

void listing_json_string(FILE *out, const char *text)
{
    size_t size = strlen(text), length;
    uint32_t code;

    putc_unlocked('"', out);
    for (size_t at = 0; at < size; at += length) {
        length = utf8_next(text + at, size - at, &code);
        if (code == '"' || code == '\\') {
            fprintf(out, "\\%c", (int)code);
        } else if (code < 0x20) {
            fprintf(out, "\\u%04x", code);
        } else if (code == UTF8_INVALID) {
            fputs("\\ufffd", out);
        } else {
            fwrite(text + at, 1, length, out);
        }
    }
    putc_unlocked('"', out);
}

static const char *json_of(struct listing *listing, char *const *text, size_t count, bool list)
{
    char *made = NULL;
    size_t size;
    FILE *stream = open_memstream(&made, &size);
    const char *copy = NULL;

    if (stream == NULL) {
        return NULL;
    }
    fputs(list ? "[" : "", stream);
    for (size_t i = 0; i < count; i++) {
        fputs(i > 0 ? ", " : "", stream);
        listing_json_string(stream, text[i]);
    }
    fputs(list ? "]" : "", stream);
    if (fclose(stream) == 0) {
        copy = arena_strdup(&listing->arena, made);
    }
    free(made);
    return copy;
}

void listing_text(struct listing *listing, const char *text)
{
    if (text == NULL) {
        add(listing, "", "null");
    } else {
        add(listing, one_line(listing, text),
            json_of(listing, (char *[]){(char *)(uintptr_t)text}, 1, false));
    }
}

void listing_number(struct listing *listing, double number, const char *shown)
{
    const char *json = arena_printf(&listing->arena, "%.15g", number);

    add(listing, shown != NULL ? one_line(listing, shown) : json, json);
}

void listing_bool(struct listing *listing, bool value, const char *shown)
{
    add(listing, one_line(listing, shown), value ? "true" : "false");
}

void listing_texts(struct listing *listing, char *const *text, size_t count)
{
    const char *joined = "";

    for (size_t i = 0; i < count && joined != NULL; i++) {
        joined = arena_printf(&listing->arena, "%s%s%s", joined, i > 0 ? "," : "", text[i]);
    }
    add(listing, joined != NULL ? one_line(listing, joined) : NULL, json_of(listing, text, count, true));
}

// ---- printing ----------------------------------------------------------------------------------

size_t listing_terminal(FILE *out)
{
    struct winsize size;

    return isatty(fileno(out)) && ioctl(fileno(out), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static size_t width_of(const char *text)
{
    return utf8_length(text, strlen(text));
}

// Takes from the widest of the columns that may be cut until the table fits or nothing more can go.
static void fit(const struct listing *listing, size_t *width, size_t room)
{
    for (;;) {
        size_t total = 0, widest = listing->columns;

        for (size_t c = 0; c < listing->columns; c++) {
            if (listing->column[c].title == NULL) {
                continue;
            }
            total += width[c] + (total > 0 ? GAP : 0);
            if (listing->column[c].elide && width[c] > ELIDED_MIN &&
                (widest == listing->columns || width[c] > width[widest])) {
                widest = c;
            }
        }
        if (total <= room || widest == listing->columns) {
            return;
        }
        width[widest]--;
    }
}

static void put_cell(const char *text, size_t width, bool right, bool last, FILE *out)
{
    size_t own = width_of(text), size = strlen(text);
    bool cut = own > width;

    if (cut) {
        size = utf8_prefix(text, size, width - 3);
        own = width;
    }
    for (size_t i = own; right && i < width; i++) {
        putc_unlocked(' ', out);
    }
    fwrite(text, 1, size, out);
    fputs(cut ? "..." : "", out);
    for (size_t i = own; !right && !last && i < width; i++) {
        putc_unlocked(' ', out);
    }
}

static void put_row(const struct listing *listing, const struct cell *cell, const size_t *width, FILE *out)
{
    size_t last = listing->columns;
    bool first = true;

    while (last > 0 && listing->column[last - 1].title == NULL) {
        last--;
    }
    for (size_t c = 0; c < last; c++) {
        const struct listing_column *column = &listing->column[c];

        if (column->title != NULL) {
            fputs(first ? "" : "  ", out);
            put_cell(cell != NULL ? cell[c].shown : column->title, width[c], column->right, c + 1 == last,
                     out);
            first = false;
        }
    }
    putc_unlocked('\n', out);
}

static int print_table(const struct listing *listing, size_t room, FILE *out, struct error *err)
{
    size_t *width = calloc(listing->columns, sizeof(*width));

    if (width == NULL) {
        return error_no_memory(err);
    }
    for (size_t c = 0; c < listing->columns; c++) {
        width[c] = listing->column[c].title != NULL ? width_of(listing->column[c].title) : 0;
    }
    for (size_t i = 0; i < listing->cells; i++) {
        size_t own = width_of(listing->cell[i].shown), c = i % listing->columns;

        width[c] = own > width[c] ? own : width[c];
    }
    if (room > 0) {
        fit(listing, width, room);
    }
    put_row(listing, NULL, width, out);
    for (size_t i = 0; i + listing->columns <= listing->cells; i += listing->columns) {
        put_row(listing, listing->cell + i, width, out);
    }
    free(width);
    return 0;
}

static void print_json(const struct listing *listing, FILE *out)
{
    fputs("[", out);
    for (size_t i = 0; i + listing->columns <= listing->cells; i += listing->columns) {
        bool first = true;

        fputs(i > 0 ? ",\n {" : "\n {", out);
        for (size_t c = 0; c < listing->columns; c++) {
            if (listing->column[c].key != NULL) {
                fprintf(out, "%s\"%s\": %s", first ? "" : ", ", listing->column[c].key,
                        listing->cell[i + c].json);
                first = false;
            }
        }
        fputs("}", out);
    }
    fputs(listing->cells > 0 ? "\n]" : "]", out);
}

int listing_print(const struct listing *listing, enum listing_format format, size_t width, FILE *out,
                  struct error *err)
{
    if (listing->no_memory) {
        return error_no_memory(err);
    }
    if (format == LISTING_TABLE) {
        return print_table(listing, width, out, err);
    }
    print_json(listing, out);
    return 0;
}

// ---- amounts -------------------------------------------------------------------------------------

void listing_size(uint64_t bytes, char out[24])
{
    static const char *const unit[] = {"B", "K", "M", "G", "T"};
    double value = (double)bytes;
    size_t i = 0;

    while (value >= 1023.5 && i + 1 < sizeof(unit) / sizeof(unit[0])) {
        value /= 1024;
        i++;
    }
    snprintf(out, 24, i == 0 || value >= 99.95 ? "%.0f%s" : "%.1f%s", value, unit[i]);
}

void listing_age(uint64_t us, char out[24])
{
    uint64_t s = us / 1000000;

    if (s < 10) {
        snprintf(out, 24, "%.1fs", (double)us / 1e6);
    } else if (s < 60) {
        snprintf(out, 24, "%" PRIu64 "s", s);
    } else if (s < 3600) {
        snprintf(out, 24, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    } else if (s < 86400) {
        snprintf(out, 24, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    } else {
        snprintf(out, 24, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
    }
}
