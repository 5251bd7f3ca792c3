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

// Eight bytes of a string at a time, so that comparing does not touch the string.
struct item {
    uint64_t head; // big-endian, padded with zeros
    uint32_t row;
};

// Beyond this many heads, strings are compared as they are: no deep recursion for long ones.
enum { DEPTH_MAX = 8 };

static uint64_t string_head(struct string_view s, uint32_t from)
{
    uint64_t head = 0;

    if (s.size > from) {
        memcpy(&head, s.data + from, s.size - from < 8 ? s.size - from : 8);
    }
    return __builtin_bswap64(head);
}

static bool string_after(struct string_view a, struct string_view b)
{
    uint32_t n = a.size < b.size ? a.size : b.size;
    int c = n > 0 ? memcmp(a.data, b.data, n) : 0;

    return c != 0 ? c > 0 : a.size > b.size;
}

// With `string` by the strings, else by the heads.
static bool after(const struct item *a, const struct item *b, const struct string_view *string)
{
    return string == NULL ? a->head > b->head : string_after(string[a->row], string[b->row]);
}

static void merge(const struct item *from, size_t left, size_t middle, size_t right, struct item *to,
                  const struct string_view *string)
{
    size_t i = left;
    size_t j = middle;

    if (middle >= right || !after(&from[middle - 1], &from[middle], string)) {
        memcpy(to + left, from + left, (right - left) * sizeof(*to));
        return;
    }
    for (size_t k = left; k < right; k++) {
        bool take_left = i < middle && (j >= right || !after(&from[i], &from[j], string));

        to[k] = take_left ? from[i++] : from[j++];
    }
}

static void merge_sort(struct item *item, struct item *other, size_t items, const struct string_view *string)
{
    struct item *from = item;
    struct item *to = other;

    for (size_t width = 1; width < items; width *= 2) {
        for (size_t at = 0; at < items; at += 2 * width) {
            size_t middle = at + width < items ? at + width : items;
            size_t end = at + 2 * width < items ? at + 2 * width : items;

            merge(from, at, middle, end, to, string);
        }
        struct item *t = from;

        from = to;
        to = t;
    }
    if (from != item) {
        memcpy(item, from, items * sizeof(*item));
    }
}

// Items whose strings agree in their first `depth` heads.
static void sort_equal(struct item *item, struct item *other, size_t items, uint32_t depth,
                       const struct string_view *string)
{
    if (items < 2) {
        return;
    }
    if (depth == DEPTH_MAX) {
        merge_sort(item, other, items, string);
        return;
    }
    // Strings that end within what is known agree but for zeros at their end: the shorter comes first,
    // and all of them before those that go on.
    uint32_t known = depth * 8;
    uint32_t most = 0;

    for (size_t i = 0; i < items; i++) {
        uint32_t size = string[item[i].row].size;

        item[i].head = size < known ? size : known;
        most = size > most ? size : most;
    }
    merge_sort(item, other, items, NULL);
    if (most <= known) {
        return;
    }
    size_t first = 0;

    while (string[item[first].row].size < known) {
        first++;
    }
    for (size_t i = first; i < items; i++) {
        item[i].head = string_head(string[item[i].row], known);
    }
    merge_sort(item + first, other, items - first, NULL);
    for (size_t left = first, right; left < items; left = right) {
        for (right = left + 1; right < items && item[right].head == item[left].head; right++) {
        }
        sort_equal(item + left, other, right - left, depth + 1, string);
    }
}

// By their first heads with the radix sort, then those that share one.
int order_strings(const struct string_view *string, uint32_t count, struct memory *memory, uint64_t *rank,
                  struct error *err)
{
    struct block block[2] = {{0}, {0}};
    struct order order = {.memory = memory};
    uint64_t r = 0;
    int rc = order_init(&order, memory, count, err);

    if (rc == 0) {
        rc = block_reserve(&block[0], memory, count, sizeof(struct item), err);
    }
    if (rc == 0) {
        rc = block_reserve(&block[1], memory, count, sizeof(struct item), err);
    }
    if (rc < 0) {
        goto out;
    }
    // The heads lie in `rank` until the ranks do.
    for (uint32_t i = 0; i < count; i++) {
        rank[i] = string_head(string[i], 0);
    }
    order_by_word(&order, rank);

    struct item *item = block[0].data;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t row = order_rows(&order)[i];

        item[i] = (struct item){rank[row], row};
    }
    for (uint32_t left = 0, right; left < count; left = right) {
        for (right = left + 1; right < count && item[right].head == item[left].head; right++) {
        }
        sort_equal(item + left, block[1].data, right - left, 1, string);
    }
    for (uint32_t i = 0; i < count; i++) {
        r += i > 0 && string_after(string[item[i].row], string[item[i - 1].row]);
        rank[item[i].row] = r;
    }
out:
    order_free(&order);
    block_free(&block[0], memory);
    block_free(&block[1], memory);
    return rc;
}
