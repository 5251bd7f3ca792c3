#include "worker/kernel/order.h"

#include <string.h>

int order_init(struct order *order, struct memory *memory, uint32_t rows, struct error *err)
{
    int rc;

    memset(order, 0, sizeof(*order));
    order->memory = memory;
    order->rows = rows;
    rc = block_reserve(&order->row, memory, rows, sizeof(uint32_t), err);
    if (rc == 0) {
        rc = block_reserve(&order->other, memory, rows, sizeof(uint32_t), err);
    }
    if (rc < 0) {
        order_free(order);
        return rc;
    }
    for (uint32_t i = 0; i < rows; i++) {
        ((uint32_t *)order->row.data)[i] = i;
    }
    return 0;
}

void order_free(struct order *order)
{
    block_free(&order->row, order->memory);
    block_free(&order->other, order->memory);
}

static void swap(struct order *order)
{
    struct block block = order->row;

    order->row = order->other;
    order->other = block;
}

// Below this, eight histograms cost more than they save.
enum { SMALL = 64 };

static void insertion(uint32_t *row, uint32_t rows, const uint64_t *word)
{
    for (uint32_t i = 1; i < rows; i++) {
        uint32_t r = row[i];
        uint32_t j = i;

        for (; j > 0 && word[row[j - 1]] > word[r]; j--) {
            row[j] = row[j - 1];
        }
        row[j] = r;
    }
}

// Least significant byte first; a byte that is the same in all rows needs no pass.
void order_by_word(struct order *order, const uint64_t *word)
{
    uint32_t rows = order->rows;
    uint32_t count[8][256];

    if (rows <= SMALL) {
        insertion(order->row.data, rows, word);
        return;
    }
    memset(count, 0, sizeof(count));
    for (uint32_t i = 0; i < rows; i++) {
        uint64_t w = word[i];

        for (int b = 0; b < 8; b++) {
            count[b][(w >> (8 * b)) & 0xff]++;
        }
    }
    for (int b = 0; b < 8; b++) {
        uint32_t at = 0;

        if (count[b][(word[0] >> (8 * b)) & 0xff] == rows) {
            continue;
        }
        for (int k = 0; k < 256; k++) {
            uint32_t n = count[b][k];

            count[b][k] = at;
            at += n;
        }
        const uint32_t *from = order->row.data;
        uint32_t *to = order->other.data;

        for (uint32_t i = 0; i < rows; i++) {
            to[count[b][(word[from[i]] >> (8 * b)) & 0xff]++] = from[i];
        }
        swap(order);
    }
}

void order_by_flag(struct order *order, const uint8_t *flag, bool flagged_first)
{
    const uint32_t *from = order->row.data;
    uint32_t *to = order->other.data;
    uint32_t at = 0;

    for (int pass = 0; pass < 2; pass++) {
        bool want = (pass == 0) == flagged_first;

        for (uint32_t i = 0; i < order->rows; i++) {
            if ((flag[from[i]] != 0) == want) {
                to[at++] = from[i];
            }
        }
    }
    swap(order);
}

// ---- strings ---------------------------------------------------------------------

// The first eight bytes decide most comparisons without touching the string.
struct item {
    uint64_t head; // big-endian, padded with zeros
    uint32_t row;
};

static uint64_t string_head(struct string_view s)
{
    uint64_t head = 0;

    if (s.size > 0) {
        memcpy(&head, s.data, s.size < 8 ? s.size : 8);
    }
    return __builtin_bswap64(head);
}

static int compare(const struct item *a, const struct item *b, const struct string_view *string)
{
    if (a->head != b->head) {
        return a->head < b->head ? -1 : 1;
    }
    const struct string_view *x = &string[a->row];
    const struct string_view *y = &string[b->row];
    uint32_t n = x->size < y->size ? x->size : y->size;
    int c = n > 8 ? memcmp(x->data + 8, y->data + 8, n - 8) : 0;

    return c != 0 ? c : (x->size > y->size) - (x->size < y->size);
}

static void merge(const struct item *from, size_t left, size_t middle, size_t right, struct item *to,
                  const struct string_view *string)
{
    size_t i = left;
    size_t j = middle;

    for (size_t k = left; k < right; k++) {
        bool take_left = i < middle && (j >= right || compare(&from[i], &from[j], string) <= 0);

        to[k] = take_left ? from[i++] : from[j++];
    }
}

int order_strings(const struct string_view *string, uint32_t count, struct memory *memory, uint64_t *rank,
                  struct error *err)
{
    struct block block[2] = {{0}, {0}};
    struct item *from;
    struct item *to;
    uint64_t r = 0;
    int rc = block_reserve(&block[0], memory, count, sizeof(struct item), err);

    if (rc == 0) {
        rc = block_reserve(&block[1], memory, count, sizeof(struct item), err);
    }
    if (rc < 0) {
        goto out;
    }
    from = block[0].data;
    to = block[1].data;
    for (uint32_t i = 0; i < count; i++) {
        from[i] = (struct item){string_head(string[i]), i};
    }
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t left = 0; left < count; left += 2 * width) {
            size_t middle = left + width < count ? left + width : count;
            size_t right = left + 2 * width < count ? left + 2 * width : count;

            merge(from, left, middle, right, to, string);
        }
        struct item *t = from;

        from = to;
        to = t;
    }
    for (uint32_t i = 0; i < count; i++) {
        r += i > 0 && compare(&from[i - 1], &from[i], string) != 0;
        rank[from[i].row] = r;
    }
out:
    block_free(&block[0], memory);
    block_free(&block[1], memory);
    return rc;
}
