#include "worker/kernel/csv_index.h"

#include <string.h>

void csv_index_init(struct csv_index *index, uint32_t fields)
{
    uint32_t *place = index->place;
    size_t room = index->room;

    memset(index, 0, sizeof(*index));
    index->place = place;
    index->room = room;
    index->fields = fields;
    if (fields > CSV_GRID_MAX) {
        return;
    }
    for (uint32_t phase = 0; phase < fields; phase++) {
        for (uint32_t j = fields - 1 - phase; j < 64; j += fields) {
            index->grid[phase] |= UINT64_C(1) << j;
        }
    }
    for (uint32_t n = 0; n <= 64; n++) {
        index->remainder[n] = (uint8_t)(n % fields);
    }
}

static void add(struct csv_index *index, uint32_t at, bool ends_line)
{
    index->place[1 + index->count] = at;
    index->count++;
    index->phase++;
    if (ends_line) {
        index->irregular |= index->phase != index->fields;
        index->phase = 0;
    } else if (index->phase >= index->fields) {
        index->irregular = true;
        index->phase = 0;
    }
}

// The next state; true when a line ended.
static bool step(const struct csv_dialect *d, const uint8_t *base, uint32_t at, struct csv_index *index)
{
    uint8_t byte = base[at];
    uint8_t class = d->class_of[byte];
    enum csv_state state = index->state;
    bool ends_line = false;

    index->high |= byte >= 0x80;
    index->quotes |= class == CSV_QUOTE;
    if (class == CSV_BREAK && state != CSV_QUOTED) {
        index->returns |= byte == '\r';
        if (byte == '\r' && base[at + 1] == '\n') {
            // The LF is the break.  Whatever was open is so until then.
            return false;
        }
        add(index, at, true);
        ends_line = true;
    } else if (class == CSV_SEP && csv_is_open(state)) {
        add(index, at, false);
    } else if (class == CSV_HASH && csv_is_open(state) && state != CSV_CLOSED) {
        add(index, at, false);
        index->irregular = true;
    }
    index->state = (enum csv_state)d->next[state][class];
    return ends_line;
}

void csv_index_bytes(const struct csv_dialect *d, const uint8_t *base, uint32_t from, uint32_t to,
                     struct csv_index *index)
{
    for (uint32_t at = from; at < to; at++) {
        step(d, base, at, index);
    }
}

uint32_t csv_index_line(const struct csv_dialect *d, const uint8_t *base, uint32_t from, uint32_t to,
                        struct csv_index *index)
{
    for (uint32_t at = from; at < to; at++) {
        if (step(d, base, at, index)) {
            return at + 1;
        }
    }
    return to;
}

void csv_index_end(uint8_t *base, uint32_t end, struct csv_index *index)
{
    base[end] = '\n';
    add(index, end, true);
    index->state = CSV_LINE;
}
