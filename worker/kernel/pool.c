// The built-in tasks of a pool: count, busy, data.
#include "worker/kernel/step.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { VALUE_BYTES = 8, LANES = 8, ROUNDS = 8, CHECK_EVERY = 4096 };

static uint64_t load_value(const uint8_t *at)
{
    uint64_t value = 0;

    for (int i = 0; i < VALUE_BYTES; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static void store_value(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < VALUE_BYTES; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

// 1 + index + the sum of the inputs' values.
static int sum_inputs(uint32_t index, const struct kernel_inputs *inputs, uint64_t *out, struct error *err)
{
    uint64_t sum = 1 + (uint64_t)index;
    uint32_t count = inputs->lists > 0 ? inputs->start[inputs->lists] : 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct partition *p = inputs->partition[i];

        if (p->kind != PARTITION_BYTES || p->bytes->size < VALUE_BYTES) {
            return error_set(err, EINVAL, "input %u is not a number: bytes, %d or more of them", i, VALUE_BYTES);
        }
        sum += load_value(p->bytes->data);
    }
    *out = sum;
    return 0;
}

static int make_value(uint64_t value, size_t size, struct partition **out, struct error *err)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(size, &data);

    if (bytes == NULL) {
        return error_no_memory(err);
    }
    for (size_t at = 0; at + VALUE_BYTES <= size; at += VALUE_BYTES) {
        store_value(data + at, value);
    }
    memset(data + (size & ~(size_t)(VALUE_BYTES - 1)), 0, size % VALUE_BYTES);
    *out = partition_from_bytes(bytes);
    return *out != NULL ? 0 : error_no_memory(err);
}

static int make_count(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                      struct kernel_env *env, struct arena *arena, struct partition **out, struct error *err)
{
    uint64_t value;
    int rc = sum_inputs(index, inputs, &value, err);

    (void)step;
    (void)env;
    (void)arena;
    return rc == 0 ? make_value(value, VALUE_BYTES, out, err) : rc;
}

// Task Bench's compute-bound kernel: per iteration 64 dependent-by-lane multiply-adds.
static void compute(double lane[LANES])
{
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < LANES; i++) {
            lane[i] = lane[i] * 0.9999999 + 1e-7;
        }
    }
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static int keep_busy(const Dray__Busy *busy, const struct kernel_env *env, struct error *err)
{
    double lane[LANES] = {1, 2, 3, 4, 5, 6, 7, 8};
    volatile double sink;
    uint64_t end = busy->has_nanoseconds ? now_ns() + busy->nanoseconds : 0;
    int rc = 0;

    for (uint64_t i = 0; rc == 0 && (busy->has_nanoseconds ? now_ns() < end : i < busy->iterations); i++) {
        compute(lane);
        rc = i % CHECK_EVERY == CHECK_EVERY - 1 ? kernel_cancelled(env, err) : 0;
    }
    for (int i = 0; i < LANES; i++) {
        sink = lane[i];
        (void)sink;
    }
    return rc;
}

static int make_busy(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                     struct kernel_env *env, struct arena *arena, struct partition **out, struct error *err)
{
    uint64_t value;
    int rc = sum_inputs(index, inputs, &value, err);

    (void)arena;
    if (rc == 0) {
        rc = keep_busy(step->busy, env, err);
    }
    return rc == 0 ? make_value(value, (size_t)step->busy->output_bytes, out, err) : rc;
}

static int make_data(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                     struct kernel_env *env, struct arena *arena, struct partition **out, struct error *err)
{
    const Dray__Data *data = step->data;
    const ProtobufCBinaryData *value = &data->value[data->n_value > 1 ? index : 0];
    struct buffer *bytes;
    uint8_t *at;

    (void)inputs;
    (void)env;
    (void)arena;
    if (data->n_value > 1 && index >= data->n_value) {
        return error_set(err, EINVAL, "there are %zu values", data->n_value);
    }
    bytes = buffer_create(value->len, &at);
    if (bytes == NULL) {
        return error_no_memory(err);
    }
    if (value->len > 0) {
        memcpy(at, value->data, value->len);
    }
    *out = partition_from_bytes(bytes);
    return *out != NULL ? 0 : error_no_memory(err);
}

const struct maker_class count_maker = {.name = "count", .make = make_count};
const struct maker_class busy_maker = {.name = "busy", .make = make_busy};
const struct maker_class data_maker = {.name = "data", .make = make_data};
