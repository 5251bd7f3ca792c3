// Distinct strings of one column of one task, found by hash.
#ifndef DRAY_WORKER_KERNEL_CSV_DICT_H
#define DRAY_WORKER_KERNEL_CSV_DICT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "proto/error.h"
#include "worker/kernel/batch.h"
#include "worker/kernel/csv_value.h"
#include "worker/store/budget.h"

#define CSV_DICT_MISSING UINT32_MAX  // the code of spellings of a missing value
#define CSV_DICT_KEY 16              // strings up to this size lie in their slot

struct csv_dict_slot {
    uint64_t first, last;  // see struct csv_dict_key
    uint32_t size;         // 0: the slot is empty (the empty string has no slot)
    uint32_t code;
    uint32_t hash;
    uint32_t zero;
};

// What the vector kernels look into first: a string of 1 .. 15 bytes, zeros, its size; one line for each hash.
#define CSV_CACHE_KEY 15
struct csv_cache_line {
    uint8_t key[16];
    uint32_t code;
    uint32_t zero[3];
};

struct csv_dict {
    struct csv_dict_slot *slot;
    uint32_t mask;  // slots - 1
    struct csv_cache_line *cache;  // NULL before csv_dict_cache_grow
    uint32_t cache_mask;           // lines - 1
    uint32_t cache_conflicts;      // lines overwritten since it grew
    struct dictionary dictionary;
    bool any_invalid;   // an entry is not valid UTF-8
    // private
    uint32_t used;        // slots
    uint32_t empty_code;  // of the empty string
    bool has_empty;
    struct string_view *entry;
    uint32_t room;
    uint8_t *invalid;  // by code
    const struct csv_missing *missing;
    struct budget *budget;
    uint64_t taken;
    struct csv_dict_text *text;
};

int csv_dict_init(struct csv_dict *dict, const struct csv_missing *missing, struct budget *budget, struct error *err);
void csv_dict_fini(struct csv_dict *dict);

// The code of a string that may be new; eight bytes before text + size and from text on are readable.  1: the dictionary is full (too many distinct strings to be of use);
// -ENOMEM.
int csv_dict_add(struct csv_dict *dict, const uint8_t *text, size_t size, uint32_t *code, struct error *err);
// Makes the cache, or one twice as large, empty; does nothing when it is as large as is good.
int csv_dict_cache_grow(struct csv_dict *dict, struct error *err);
bool csv_dict_is_invalid(const struct csv_dict *dict, uint32_t code);

// The first and the last eight bytes of a string, overlapping, which are all of it up to CSV_DICT_KEY bytes.  Below
// eight bytes both are the whole string with zeros behind it.
struct csv_dict_key {
    uint64_t first, last;
};

// 1 <= size; the eight bytes before text + size are readable, and eight from text on.
static inline struct csv_dict_key csv_dict_key(const uint8_t *text, uint32_t size)
{
    struct csv_dict_key key;

    memcpy(&key.first, text, 8);
    memcpy(&key.last, text + size - 8, 8);
    // Masks, as a branch here would be guessed wrong every other time.
    uint64_t is_small = -(uint64_t)(size < 8);

    key.last >>= (64 - 8 * size) & (uint32_t)is_small;
    key.first = (key.first & ~is_small) | (key.last & is_small);
    return key;
}

static inline uint32_t csv_dict_hash(struct csv_dict_key key, uint32_t size)
{
    uint64_t x = (key.first + (key.last << 29 | key.last >> 35) + size) * UINT64_C(0xd6e8feb86659fd93);

    return (uint32_t)(x >> 32);
}

// The code of a short string (1 .. CSV_DICT_KEY bytes) that is known already; false: ask csv_dict_add.
static inline bool csv_dict_find(const struct csv_dict_slot *slots, uint32_t mask, const uint8_t *text, uint32_t size,
                                 uint32_t *code)
{
    struct csv_dict_key key = csv_dict_key(text, size);
    const struct csv_dict_slot *slot = &slots[csv_dict_hash(key, size) & mask];

    *code = slot->code;
    return slot->first == key.first && slot->last == key.last && slot->size == size;
}

#endif
