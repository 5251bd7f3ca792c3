// The structural index, 64 bytes at a time, after G. Langdale and D. Lemire, "Parsing gigabytes of JSON per
// second" (2019).  Included once by each csv_index_ISA.c, which defines before:
//
//   struct lanes           what the masks need in registers; lanes_init(&lanes, dialect)
//   masks_of(&lanes, p)    the masks of 64 bytes; collects bytes beyond ASCII in `lanes`, lanes_high(&lanes)
//   prefix_xor(bits)       bit i: parity of bits 0..i
//   extract(bits, mask)    the bits under the mask, packed (PEXT)
//   spread(out, bits, at, &lanes)  writes at + i for each bit i set; may write up to 64 places in all
//
// Quotes: a quote opens where the text was outside quotes, so inside = prefix_xor(quotes), provided that each quote that
// opens stands at the start of a field or behind a quote that closed (a doubled quote).  Where one does not
// (5" disk), the 64 bytes go through the state machine.
#ifndef DRAY_WORKER_KERNEL_CSV_INDEX_CORE_H
#define DRAY_WORKER_KERNEL_CSV_INDEX_CORE_H

#include "worker/kernel/csv_index.h"

static inline uint64_t low_bits(uint32_t n)
{
    return n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
}

// Checks what was added against the grid of a regular file.
static inline bool off_grid(struct csv_index *index, uint32_t *phase, uint64_t places, uint64_t breaks)
{
    uint32_t count = (uint32_t)__builtin_popcountll(places);
    uint64_t wrong = (extract(breaks, places) ^ index->grid[*phase]) & low_bits(count);
    uint32_t next = *phase + index->remainder[count];

    *phase = next >= index->fields ? next - index->fields : next;
    return wrong != 0;
}

// The same for too many fields: places from `first` on, one by one.
static void check_places(const uint8_t *base, size_t first, struct csv_index *index)
{
    for (size_t i = first; i < index->count && !index->irregular; i++) {
        uint8_t byte = base[index->place[1 + i]];
        bool ends_line = byte == '\n' || byte == '\r';

        index->phase++;
        index->irregular = ends_line != (index->phase == index->fields);
        index->phase = ends_line ? 0 : index->phase;
    }
}

static inline enum csv_state state_after(const struct csv_dialect *d, uint8_t byte, uint64_t inside,
                                         uint64_t may_open)
{
    if (inside != 0) {
        return CSV_QUOTED;
    }
    if (may_open == 0) {
        return CSV_PLAIN;
    }
    return d->has_quote && byte == d->quote ? CSV_CLOSED : CSV_FIELD;
}

static inline void index_blocks(const struct csv_dialect *d, const uint8_t *base, uint32_t from, uint32_t to,
                                struct csv_index *index)
{
    struct lanes lanes;
    bool grid = index->fields <= CSV_GRID_MAX;
    uint64_t inside = index->state == CSV_QUOTED ? ~UINT64_C(0) : 0;
    uint64_t may_open = index->state == CSV_LINE || index->state == CSV_FIELD || index->state == CSV_CLOSED;
    uint32_t *out = index->place + 1 + index->count;
    uint32_t phase = index->phase;
    size_t checked = index->count;
    uint64_t quotes = 0;
    uint64_t returns = 0;
    bool irregular = false;

    lanes_init(&lanes, d);
    for (uint32_t at = from; at < to; at += 64) {
        struct masks m = masks_of(&lanes, base + at);
        uint32_t size = to - at < 64 ? to - at : 64;
        uint64_t sep = m.sep;
        uint64_t breaks = m.lf;

        if (__builtin_expect(m.cr != 0, 0)) {
            uint64_t next_lf = m.lf >> 1 | (uint64_t)(base[at + 64] == '\n') << 63;

            // A CR before an LF is text.
            returns |= m.cr & low_bits(size);
            breaks |= m.cr & ~next_lf;
        }
        if (size < 64) {
            sep &= low_bits(size);
            breaks &= low_bits(size);
        }
        uint64_t edges = m.sep | m.lf | m.cr | m.quote;

        if (__builtin_expect((m.quote | inside) != 0, 0)) {
            uint64_t quote = m.quote & low_bits(size);
            uint64_t quoted = prefix_xor(quote) ^ inside;

            quotes |= quote;
            if ((quote & quoted & ~(edges << 1 | may_open)) != 0) {
                index->count = (size_t)(out - index->place) - 1;
                if (grid) {
                    index->phase = phase;
                } else {
                    check_places(base, checked, index);
                }
                if (at > from) {
                    index->state = state_after(d, base[at - 1], inside, may_open);
                }
                csv_index_bytes(d, base, at, at + size, index);
                inside = index->state == CSV_QUOTED ? ~UINT64_C(0) : 0;
                may_open = index->state == CSV_LINE || index->state == CSV_FIELD || index->state == CSV_CLOSED;
                out = index->place + 1 + index->count;
                phase = index->phase;
                checked = index->count;
                continue;
            }
            inside = (uint64_t)((int64_t)quoted >> 63);
            sep &= ~quoted;
            breaks &= ~quoted;
        }
        may_open = edges >> (size - 1) & 1;
        uint64_t places = sep | breaks;

        spread(out, places, at, &lanes);
        out += __builtin_popcountll(places);
        if (grid) {
            irregular |= off_grid(index, &phase, places, breaks);
        }
    }
    index->count = (size_t)(out - index->place) - 1;
    index->irregular |= irregular;
    index->quotes |= quotes != 0;
    index->returns |= returns != 0;
    index->high |= lanes_high(&lanes);
    if (grid) {
        index->phase = phase;
    } else {
        check_places(base, checked, index);
    }
    if (to > from) {
        index->state = state_after(d, base[to - 1], inside, may_open);
    }
}

#endif
