// Rows for people (a table that fits the terminal) or for programs (a JSON array of objects).
#ifndef DRAY_CLIENT_CLI_LISTING_H
#define DRAY_CLIENT_CLI_LISTING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/error.h"

enum listing_format { LISTING_TABLE, LISTING_JSON };
int listing_format_parse(const char *name, enum listing_format *out, struct error *err);

struct listing_column {
    const char *title; // NULL: only in JSON
    const char *key;   // NULL: only in the table
    bool right;        // numbers
    bool elide;        // may be cut, with "...", when the table is too wide
};

struct listing;
// columns are borrowed.  NULL: no memory.
struct listing *listing_create(const struct listing_column *columns, size_t count);
void listing_destroy(struct listing *listing);
// Cells of a row, in order.  Texts are copied; NULL is an empty cell, and null in JSON.
void listing_text(struct listing *listing, const char *text);
// shown: NULL: the number.
void listing_number(struct listing *listing, double number, const char *shown);
void listing_bool(struct listing *listing, bool value, const char *shown);
// Texts joined by commas; a list in JSON.
void listing_texts(struct listing *listing, char *const *text, size_t count);
// The number of columns of the terminal that `out` is; 0: it is none, nothing is cut.
size_t listing_terminal(FILE *out);
int listing_print(const struct listing *listing, enum listing_format format, size_t width, FILE *out,
                  struct error *err);

void listing_json_string(FILE *out, const char *text);
// 1.5G; 3m20s
void listing_size(uint64_t bytes, char out[24]);
void listing_age(uint64_t us, char out[24]);

#endif
