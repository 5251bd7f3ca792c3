// Orders of rows: stable sorts of row numbers by one key after another, the last key first.
#ifndef DRAY_WORKER_KERNEL_ORDER_H
#define DRAY_WORKER_KERNEL_ORDER_H

#include "worker/kernel/batch.h"
#include "worker/kernel/memory.h"

struct order {
    struct memory *memory;
    uint32_t rows;
    struct block row;   // uint32_t[rows]: the order
    struct block other; // of the same size
};

// Values as words that ascend, compared without a sign, as the values do.
static inline uint64_t order_int64(int64_t value)
{
    return (uint64_t)value ^ (UINT64_C(1) << 63);
}
// -0.0 like 0.0; not for NaN.
static inline uint64_t order_float64(double value)
{
    uint64_t bits;

    value += 0.0;
    __builtin_memcpy(&bits, &value, sizeof(bits));
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

// Rows 0, 1, 2...
int order_init(struct order *order, struct memory *memory, uint32_t rows, struct error *err);
static inline const uint32_t *order_rows(const struct order *order)
{
    return order->row.data;
}
void order_by_word(struct order *order, const uint64_t *word);
// Rows with a nonzero flag behind (or before) all others.
void order_by_flag(struct order *order, const uint8_t *flag, bool flagged_first);
void order_free(struct order *order);

// rank[i]: the number of distinct strings below string[i], by bytes.
int order_strings(const struct string_view *string, uint32_t count, struct memory *memory, uint64_t *rank,
                  struct error *err);

#endif
