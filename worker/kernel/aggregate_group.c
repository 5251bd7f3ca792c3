#include "worker/kernel/aggregate_group.h"

#include <errno.h>
#include <string.h>

#include "worker/kernel/aggregate_key.h"

enum {
    WIDE = 64,
    LOCAL_BITS = 10, // the cell is the local number
    CELL_BITS = 16,  // the cell is looked up
    TABLE = 2 * BATCH_ROWS,
    SLOTS_MIN = 64,
    SPARSE = 8192,
};

static int room(struct arena *arena, size_t count, size_t size, void *out, struct error *err)
{
    void *p = arena_array(arena, count, size);

    if (p == NULL) {
        return error_no_memory(err);
    }
    memset(p, 0, count * size);
    memcpy(out, &p, sizeof(p));
    return 0;
}

int groups_init(struct groups *g, struct memory *memory, struct arena *arena, uint32_t keys,
                const enum type *type, uint32_t words, struct error *err)
{
    memset(g, 0, sizeof(*g));
    g->memory = memory;
    g->arena = arena;
    g->words = words;
    if (room(arena, keys, sizeof(*g->key), &g->key, err) < 0 ||
        room(arena, keys, sizeof(*g->key_bits), &g->key_bits, err) < 0 ||
        room(arena, keys, sizeof(*g->key_base), &g->key_base, err) < 0 ||
        room(arena, keys, sizeof(*g->tuple), &g->tuple, err) < 0 ||
        room(arena, BATCH_ROWS, sizeof(*g->row), &g->row, err) < 0 ||
        room(arena, BATCH_ROWS, sizeof(*g->cell), &g->cell, err) < 0 ||
        room(arena, BATCH_ROWS, sizeof(*g->local), &g->local, err) < 0 ||
        room(arena, BATCH_ROWS, sizeof(*g->first), &g->first, err) < 0 ||
        room(arena, TABLE, sizeof(*g->table), &g->table, err) < 0 ||
        room(arena, BATCH_ROWS, sizeof(*g->hash), &g->hash, err) < 0 ||
        room(arena, BATCH_ROWS, sizeof(*g->group), &g->group, err) < 0 ||
        room(arena, BATCH_ROWS, sizeof(*g->size), &g->size, err) < 0) {
        return -ENOMEM;
    }
    for (uint32_t k = 0; k < keys; k++) {
        struct group_key *key = &g->key[k];

        key->type = type[k];
        key->column = k;
        intern_init(&key->intern, memory);
        if (room(arena, BATCH_ROWS, sizeof(*key->value_room), &key->value_room, err) < 0 ||
            room(arena, BATCH_ROWS, sizeof(*key->id_room), &key->id_room, err) < 0) {
            return -ENOMEM;
        }
    }
    g->keys = keys;
    g->cell_bits = WIDE;
    return 0;
}

void groups_free(struct groups *g)
{
    if (g->memory == NULL) {
        return;
    }
    for (uint32_t k = 0; k < g->keys; k++) {
        intern_free(&g->key[k].intern);
        remap_free(&g->key[k].remap, g->memory);
    }
    block_free(&g->record, g->memory);
    block_free(&g->slot, g->memory);
    block_free(&g->cell_group, g->memory);
    block_free(&g->cell_local, g->memory);
    g->count = 0;
    g->slots = 0;
}

// ---- all groups ----------------------------------------------------------------------

// Multiply and fold (as in wyhash): every bit of the keys reaches both halves.
static inline uint64_t mix(uint64_t hash, uint64_t word)
{
    unsigned __int128 p = (unsigned __int128)(hash ^ word ^ 0x9e3779b97f4a7c15U) * 0xd6e8feb86659fd93U;

    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t hash_tuple(const uint64_t *word, uint32_t keys)
{
    uint64_t hash = 0;

    for (uint32_t k = 0; k < keys; k++) {
        hash = mix(hash, word[k]);
    }
    return hash;
}

static int grow(struct groups *g, struct error *err)
{
    uint64_t slots = g->slots == 0 ? SLOTS_MIN : g->slots * 2;
    struct block block = {0};
    int rc = block_reserve_zero(&block, g->memory, slots, sizeof(uint64_t), err);

    if (rc < 0) {
        return rc;
    }
    const uint64_t *old = g->slot.data;
    uint64_t *slot = block.data;

    // In order of the old places, so the new ones are met nearly in order too.
    for (uint64_t i = 0; i < g->slots; i++) {
        uint64_t at = (old[i] >> 32) & (slots - 1);

        if (old[i] != 0) {
            while (slot[at] != 0) {
                at = (at + 1) & (slots - 1);
            }
            slot[at] = old[i];
        }
    }
    block_free(&g->slot, g->memory);
    g->slot = block;
    g->slots = slots;
    return 0;
}

static int add_record(struct groups *g, const uint64_t *word, struct error *err)
{
    int rc;

    if (g->count >= INT32_MAX) {
        return error_set(err, EOVERFLOW, "groupby meets more than 2^31 groups in one partition");
    }
    rc = block_reserve(&g->record, g->memory, (size_t)g->count + 1, g->words * sizeof(uint64_t), err);
    if (rc < 0) {
        return rc;
    }
    uint64_t *record = groups_record(g, g->count);

    for (uint32_t k = 0; k < g->keys; k++) {
        record[k] = word[k];
    }
    memset(record + g->keys, 0, (g->words - g->keys) * sizeof(uint64_t));
    g->count++;
    return 0;
}

int groups_add_single(struct groups *g, struct error *err)
{
    return add_record(g, NULL, err);
}

// GROUP_NONE when there is none yet; *at is then where it goes.
static inline uint32_t probe(const struct groups *g, const uint64_t *word, uint64_t hash, uint64_t *at)
{
    const uint64_t *slot = g->slot.data;
    uint64_t mask = g->slots - 1;
    uint64_t i = (hash >> 32) & mask;

    for (; slot[i] != 0; i = (i + 1) & mask) {
        if ((slot[i] ^ hash) >> 32 == 0) {
            const uint64_t *record = groups_record(g, (uint32_t)slot[i] - 1);
            uint32_t k = 0;

            while (k < g->keys && record[k] == word[k]) {
                k++;
            }
            if (k == g->keys) {
                return (uint32_t)slot[i] - 1;
            }
        }
    }
    *at = i;
    return GROUP_NONE;
}

static int find(struct groups *g, const uint64_t *word, uint64_t hash, uint32_t *out, struct error *err)
{
    uint64_t at = 0;
    uint32_t group = probe(g, word, hash, &at);

    if (group == GROUP_NONE) {
        int rc = add_record(g, word, err);

        if (rc < 0) {
            return rc;
        }
        group = g->count - 1;
        ((uint64_t *)g->slot.data)[at] = (hash & 0xffffffff00000000U) | g->count;
    }
    *out = group;
    return 0;
}

// Room in the hash table for as many new groups; find() then never needs to grow it.
static int reserve(struct groups *g, uint32_t more, struct error *err)
{
    // A table that lies in the cache anyway is kept sparse: a collision is a mispredicted branch.
    while ((uint64_t)g->count + more > g->slots / (g->slots <= SPARSE ? 8 : 2)) {
        int rc = grow(g, err);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

// ---- keys as a few bits ------------------------------------------------------------

static uint32_t bits_for(uint64_t largest)
{
    return largest == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(largest);
}

// The range of an integer key so far, widened by this batch.
static void widen(struct group_key *key, uint32_t rows)
{
    const int64_t *value = key->value;
    uint64_t base = (uint64_t)key->base;
    uint64_t spread = 0;

    if (key->bits == WIDE) {
        return;
    }
    if (key->seen) {
        for (uint32_t j = 0; j < rows; j++) {
            spread |= (uint64_t)value[j] - base;
        }
        if (spread >> key->bits == 0) {
            return;
        }
    }
    int64_t least = key->seen ? key->base : value[0];
    int64_t most = least;

    if (key->seen && key->bits > 0) {
        most = (int64_t)((uint64_t)key->base + ((UINT64_C(1) << key->bits) - 1));
    }
    for (uint32_t j = 0; j < rows; j++) {
        least = value[j] < least ? value[j] : least;
        most = value[j] > most ? value[j] : most;
    }
    uint64_t range = (uint64_t)most - (uint64_t)least;

    key->seen = true;
    key->base = least;
    key->bits = range >> CELL_BITS == 0 ? bits_for(range) : WIDE;
    // Near the end of int64 the last cell would lie beyond it.
    if (key->bits != WIDE && least > INT64_MAX - (1 << CELL_BITS)) {
        key->bits = WIDE;
    }
}

// The bits of all keys together; more than CELL_BITS when they do not fit.
static uint32_t layout(struct groups *g, uint32_t rows, uint32_t *bits, int64_t *base)
{
    uint32_t total = 0;

    for (uint32_t k = 0; k < g->keys; k++) {
        struct group_key *key = &g->key[k];

        base[k] = 0;
        if (key->type == TYPE_BOOL) {
            bits[k] = 1;
        } else if (key->type == TYPE_STRING) {
            bits[k] = key->intern.count > 0 ? bits_for(key->intern.count - 1) : 0;
        } else if (key->type == TYPE_INT64) {
            widen(key, rows);
            bits[k] = key->bits;
            base[k] = key->base;
        } else {
            bits[k] = WIDE;
        }
        total += bits[k];
        if (total > CELL_BITS) {
            return WIDE;
        }
    }
    return total;
}

static int use_layout(struct groups *g, uint32_t total, const uint32_t *bits, const int64_t *base,
                      struct error *err)
{
    bool same = g->cell_bits == total;

    for (uint32_t k = 0; same && k < g->keys; k++) {
        same = g->key_bits[k] == bits[k] && g->key_base[k] == base[k];
    }
    if (same) {
        return 0;
    }
    size_t cells = (size_t)1 << total;
    int rc = block_reserve(&g->cell_group, g->memory, cells, sizeof(uint32_t), err);

    if (rc == 0 && total > LOCAL_BITS) {
        rc = block_reserve_zero(&g->cell_local, g->memory, cells, sizeof(uint16_t), err);
    }
    if (rc < 0) {
        g->cell_bits = WIDE;
        return rc;
    }
    for (size_t c = 0; c < cells; c++) {
        ((uint32_t *)g->cell_group.data)[c] = GROUP_NONE;
    }
    g->cell_bits = total;
    for (uint32_t k = 0; k < g->keys; k++) {
        g->key_bits[k] = bits[k];
        g->key_base[k] = base[k];
    }
    return 0;
}

static void make_cells(struct groups *g, uint32_t rows)
{
    uint16_t *restrict cell = g->cell;
    uint32_t shift = 0;

    for (uint32_t k = 0; k < g->keys; k++) {
        const struct group_key *key = &g->key[k];

        if (key->type == TYPE_INT64) {
            const uint64_t *value = (const uint64_t *)key->value;
            uint64_t base = (uint64_t)key->base;

            if (k == 0) {
                for (uint32_t j = 0; j < rows; j++) {
                    cell[j] = (uint16_t)(value[j] - base);
                }
            } else {
                for (uint32_t j = 0; j < rows; j++) {
                    cell[j] = (uint16_t)(cell[j] | ((value[j] - base) << shift));
                }
            }
        } else if (k == 0) {
            for (uint32_t j = 0; j < rows; j++) {
                cell[j] = (uint16_t)key->id[j];
            }
        } else {
            for (uint32_t j = 0; j < rows; j++) {
                cell[j] = (uint16_t)(cell[j] | (key->id[j] << shift));
            }
        }
        shift += g->key_bits[k];
    }
}

static int find_cell(struct groups *g, uint32_t cell, uint32_t *out, struct error *err)
{
    uint32_t *known = &((uint32_t *)g->cell_group.data)[cell];

    if (*known == GROUP_NONE) {
        uint32_t rest = cell;

        for (uint32_t k = 0; k < g->keys; k++) {
            uint32_t bits = g->key_bits[k];

            g->tuple[k] = (uint64_t)g->key_base[k] + (rest & ((1U << bits) - 1));
            rest >>= bits;
        }
        int rc = reserve(g, 1, err);

        if (rc == 0) {
            rc = find(g, g->tuple, hash_tuple(g->tuple, g->keys), known, err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    *out = *known;
    return 0;
}

// Four counters a number, so that a run of equal ones does not wait for its own store.
static void count_few(const uint16_t *local, uint32_t rows, uint32_t locals, uint32_t *size)
{
    uint32_t count[4][1 << LOCAL_BITS];
    uint32_t j = 0;

    for (int lane = 0; lane < 4; lane++) {
        memset(count[lane], 0, locals * sizeof(uint32_t));
    }
    for (; j + 4 <= rows; j += 4) {
        count[0][local[j]]++;
        count[1][local[j + 1]]++;
        count[2][local[j + 2]]++;
        count[3][local[j + 3]]++;
    }
    for (; j < rows; j++) {
        count[0][local[j]]++;
    }
    for (uint32_t l = 0; l < locals; l++) {
        size[l] = count[0][l] + count[1][l] + count[2][l] + count[3][l];
    }
}

static int assign_few(struct groups *g, struct grouping *out, struct error *err)
{
    out->local = g->cell;
    out->locals = 1U << g->cell_bits;
    count_few(out->local, out->rows, out->locals, g->size);
    for (uint32_t l = 0; l < out->locals; l++) {
        if (g->size[l] > 0) {
            int rc = find_cell(g, l, &g->group[l], err);

            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

static int assign_cells(struct groups *g, struct grouping *out, struct error *err)
{
    uint16_t *number = g->cell_local.data;
    uint32_t locals = 0;
    int rc = 0;

    for (uint32_t j = 0; j < out->rows; j++) {
        uint16_t l = number[g->cell[j]];

        if (l == 0) {
            g->first[locals] = g->cell[j];
            g->size[locals] = 0;
            l = (uint16_t)++locals;
            number[g->cell[j]] = l;
        }
        g->local[j] = (uint16_t)(l - 1);
        g->size[l - 1]++;
    }
    for (uint32_t l = 0; l < locals; l++) {
        number[g->first[l]] = 0;
        if (rc == 0) {
            rc = find_cell(g, g->first[l], &g->group[l], err);
        }
    }
    out->local = g->local;
    out->locals = locals;
    return rc;
}

// ---- any keys ------------------------------------------------------------------------

// Numbers of strings and bools as words too, and each row's hash.
static void hash_rows(struct groups *g, uint32_t rows)
{
    for (uint32_t k = 0; k < g->keys; k++) {
        struct group_key *key = &g->key[k];
        uint64_t *hash = g->hash;

        if (key->type == TYPE_STRING || key->type == TYPE_BOOL) {
            for (uint32_t j = 0; j < rows; j++) {
                key->value_room[j] = key->id[j];
            }
            key->value = key->value_room;
        }
        const int64_t *value = key->value;

        for (uint32_t j = 0; j < rows; j++) {
            hash[j] = mix(k == 0 ? 0 : hash[j], (uint64_t)value[j]);
        }
    }
}

static inline const uint64_t *row_tuple(struct groups *g, uint32_t j)
{
    if (g->keys == 1) {
        return (const uint64_t *)&g->key[0].value[j];
    }
    for (uint32_t k = 0; k < g->keys; k++) {
        g->tuple[k] = (uint64_t)g->key[k].value[j];
    }
    return g->tuple;
}

static bool same_keys(const struct groups *g, uint32_t i, uint32_t j)
{
    for (uint32_t k = 0; k < g->keys; k++) {
        if (g->key[k].value[i] != g->key[k].value[j]) {
            return false;
        }
    }
    return true;
}

// While there are few groups in all, their numbers are the local ones: each row is looked up where
// it will be found, without a branch that depends on what the batch has had so far.
// 1: too many groups by now.
static int assign_known(struct groups *g, struct grouping *out, struct error *err)
{
    int rc = reserve(g, 1, err);

    if (rc < 0) {
        return rc;
    }
    for (uint32_t j = 0; j < out->rows; j++) {
        const uint64_t *tuple = row_tuple(g, j);
        uint64_t at = 0;
        uint32_t group = probe(g, tuple, g->hash[j], &at);

        if (group == GROUP_NONE) {
            if (g->count == 1 << LOCAL_BITS) {
                return 1;
            }
            rc = reserve(g, 1, err);
            if (rc == 0) {
                rc = find(g, tuple, g->hash[j], &group, err);
            }
            if (rc < 0) {
                return rc;
            }
        }
        g->local[j] = (uint16_t)group;
    }
    out->local = g->local;
    out->locals = g->count;
    count_few(out->local, out->rows, out->locals, g->size);
    for (uint32_t l = 0; l < out->locals; l++) {
        g->group[l] = l;
    }
    return 0;
}

static int assign_any(struct groups *g, struct grouping *out, struct error *err)
{
    uint32_t locals = 0;

    hash_rows(g, out->rows);
    if (g->count <= 1 << LOCAL_BITS) {
        int known = assign_known(g, out, err);

        if (known <= 0) {
            return known;
        }
    }
    memset(g->table, 0, TABLE * sizeof(*g->table));
    for (uint32_t j = 0; j < out->rows; j++) {
        uint64_t at = g->hash[j] & (TABLE - 1);
        uint16_t l;

        for (;; at = (at + 1) & (TABLE - 1)) {
            l = g->table[at];
            if (l == 0) {
                g->first[locals] = (uint16_t)j;
                g->size[locals] = 0;
                l = (uint16_t)++locals;
                g->table[at] = l;
                break;
            }
            if (g->hash[g->first[l - 1]] == g->hash[j] && same_keys(g, g->first[l - 1], j)) {
                break;
            }
        }
        g->local[j] = (uint16_t)(l - 1);
        g->size[l - 1]++;
    }
    int rc = reserve(g, locals, err);

    if (rc < 0) {
        return rc;
    }
    const uint64_t *slot = g->slot.data;

    for (uint32_t l = 0; l < locals; l++) {
        if (l + 2 * GROUP_AHEAD < locals) {
            __builtin_prefetch(&slot[(g->hash[g->first[l + 2 * GROUP_AHEAD]] >> 32) & (g->slots - 1)]);
        }
        if (l + GROUP_AHEAD < locals) {
            uint32_t group = (uint32_t)slot[(g->hash[g->first[l + GROUP_AHEAD]] >> 32) & (g->slots - 1)];

            if (group > 0) {
                __builtin_prefetch(groups_record(g, group - 1), 1);
            }
        }
        rc = find(g, row_tuple(g, g->first[l]), g->hash[g->first[l]], &g->group[l], err);
        if (rc < 0) {
            return rc;
        }
    }
    out->local = g->local;
    out->locals = locals;
    return 0;
}

int groups_assign(struct groups *g, const struct batch *batch, struct grouping *out, struct error *err)
{
    uint32_t bits[16];
    int64_t base[16];
    uint32_t total = WIDE;
    int rc;

    keys_choose(g, batch, out);
    out->group = g->group;
    out->size = g->size;
    out->local = g->local;
    out->locals = 0;
    if (g->keys == 0) {
        // g->local is zero and stays so.
        out->locals = 1;
        g->group[0] = 0;
        g->size[0] = out->rows;
        return 0;
    }
    if (out->rows == 0) {
        return 0;
    }
    rc = keys_encode(g, batch, out, err);
    if (rc < 0) {
        return rc;
    }
    if (g->keys <= 16) {
        total = layout(g, out->rows, bits, base);
    }
    if (total > CELL_BITS) {
        return assign_any(g, out, err);
    }
    rc = use_layout(g, total, bits, base, err);
    if (rc < 0) {
        return rc;
    }
    make_cells(g, out->rows);
    return total <= LOCAL_BITS ? assign_few(g, out, err) : assign_cells(g, out, err);
}
