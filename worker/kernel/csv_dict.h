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
    uint8_t key[CSV_DICT_KEY];  // the first bytes, zeros behind them
    uint32_t size;
    uint32_t code;
    uint32_t hash;  // 0: the slot is empty
    uint32_t zero;
};

struct csv_dict {
    struct csv_dict_slot *slot;
    uint32_t mask;  // slots - 1
    struct dictionary dictionary;
    bool any_invalid;   // an entry is not valid UTF-8
    // private
    uint32_t used;  // slots
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

// The code of a string that may be new.  1: the dictionary is full (too many distinct strings to be of use);
// -ENOMEM.
int csv_dict_add(struct csv_dict *dict, const uint8_t *text, size_t size, uint32_t *code, struct error *err);
bool csv_dict_is_invalid(const struct csv_dict *dict, uint32_t code);

// Of a string of up to CSV_DICT_KEY bytes, given as two words padded with zeros.
static inline uint32_t csv_dict_hash(uint64_t low, uint64_t high, uint32_t size)
{
    uint64_t x = (low ^ (high * UINT64_C(0x9e3779b97f4a7c15)) ^ size) * UINT64_C(0xd6e8feb86659fd93);

    return (uint32_t)(x >> 32) | 1;
}

#endif
