// The structural index: the places of the separators and line breaks that are not inside
// quotes.  In a regular stretch every fields-th place is a line break, so that field c of row r ends at
// place[1 + r * fields + c] and begins behind the place before that.
#ifndef DRAY_WORKER_KERNEL_CSV_INDEX_H
#define DRAY_WORKER_KERNEL_CSV_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/kernel/csv_dialect.h"

#define CSV_GRID_MAX 64   // more fields than that are checked row by row
#define CSV_INDEX_SLACK 64  // places written behind the last one by vector stores

struct csv_index {
    // place[0] is the byte before the first line; then `count` places.  A comment byte is a place too.
    uint32_t *place;
    size_t count;
    size_t room;
    enum csv_state state;  // behind the last byte seen; CSV_FIELD may stand for CSV_LINE
    // Seen since they were cleared:
    bool quotes;
    bool returns;    // CR; one before an LF is no place but a part of the last field's text
    bool high;       // bytes beyond ASCII
    bool irregular;  // a line with more or fewer fields, or a comment
    uint32_t phase;  // places since the last line break
    uint32_t fields;
    uint64_t grid[CSV_GRID_MAX];      // by phase: bit j is set when the place j from here on ends a line
    uint8_t remainder[64 + 1];        // n % fields
};

void csv_index_init(struct csv_index *index, uint32_t fields);

// Adds the bytes base[from .. to); base[to] is readable and tells whether a CR at the end is one of a pair.
// There is room for to - from + CSV_INDEX_SLACK more places.
typedef void csv_index_fn(const struct csv_dialect *dialect, const uint8_t *base, uint32_t from, uint32_t to,
                          struct csv_index *index);

// Byte by byte; any dialect.
csv_index_fn csv_index_bytes;
// With vectors; no comments.
csv_index_fn csv_index_baseline;
csv_index_fn csv_index_avx2;
csv_index_fn csv_index_avx512;

// Goes on from `from` to the first line break or `to`; the place behind the last byte looked at.
uint32_t csv_index_line(const struct csv_dialect *dialect, const uint8_t *base, uint32_t from, uint32_t to,
                        struct csv_index *index);
// The text ended within a line: base[end] is made its line break.
void csv_index_end(uint8_t *base, uint32_t end, struct csv_index *index);

#endif
