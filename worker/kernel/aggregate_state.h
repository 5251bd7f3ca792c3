// What a group remembers: accumulators, each of one to three words in the group's record.
#ifndef DRAY_WORKER_KERNEL_AGGREGATE_STATE_H
#define DRAY_WORKER_KERNEL_AGGREGATE_STATE_H

#include "worker/kernel/aggregate_sum.h"

enum accumulator_kind {
    ACC_SIZE,      // rows
    ACC_COUNT,     // values
    ACC_INT_SUM,   // low, high: 128 bits
    ACC_FLOAT_SUM, // sum, compensation
    ACC_SQUARES,   // mean, squared distances, count
    ACC_LEAST,     // value, 1 once there is one; of strings: where, size | room << 32
    ACC_GREATEST,
    ACC_FIRST,
    ACC_LAST,
};

#define STATE_NONE UINT32_MAX

struct accumulator {
    enum accumulator_kind kind;
    enum type type;    // of the input
    uint32_t column;   // of the batch: its input
    uint32_t at;       // first word in the record
    uint32_t state[3]; // when combining: the batch's columns with its words, or STATE_NONE
};

static inline uint32_t accumulator_words(enum accumulator_kind kind)
{
    return kind == ACC_SIZE || kind == ACC_COUNT ? 1 : kind == ACC_SQUARES ? 3 : 2;
}

struct states {
    struct groups groups;
    struct heap heap; // strings of ACC_LEAST to ACC_LAST
    uint32_t count;
    struct accumulator *accumulator;
    struct state_room *room;
};

// Room for batches; -ENOMEM.
int states_init(struct states *s, struct arena *arena, struct memory *memory, struct error *err);
void states_free(struct states *s);
// Rows into the accumulators.
int states_update(struct states *s, const struct batch *batch, const struct grouping *g, struct error *err);
// States of partitions into the accumulators, row by row.
int states_merge(struct states *s, const struct batch *batch, const struct grouping *g, struct error *err);

// Neumaier's sum: (sum, compensation) += value.  An infinite sum keeps its compensation as it was.
static inline void compensated_add(double *sum, double *compensation, double value)
{
    double t = *sum + value;

    if (t - t == 0.0) {
        double big = __builtin_fabs(*sum) >= __builtin_fabs(value) ? *sum : value;
        double small = __builtin_fabs(*sum) >= __builtin_fabs(value) ? value : *sum;

        *compensation += (big - t) + small;
    }
    *sum = t;
}

// Values as int64 words in the order of the values, NaN excepted; its own inverse.
static inline int64_t real_order(int64_t bits)
{
    return bits ^ (int64_t)((uint64_t)(bits >> 63) >> 1);
}

static inline double word_real(uint64_t word)
{
    double value;

    __builtin_memcpy(&value, &word, sizeof(value));
    return value;
}
static inline uint64_t real_word(double value)
{
    uint64_t word;

    __builtin_memcpy(&word, &value, sizeof(word));
    return word;
}

#endif
