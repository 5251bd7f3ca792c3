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
static int add_input(uint32_t number, const uint8_t *data, size_t size, uint64_t *sum, struct error *err)
{
    if (data == NULL || size < VALUE_BYTES) {
        return error_set(err, EINVAL, "input %u is not a number: bytes, %d or more of them", number,
                         VALUE_BYTES);
    }
    *sum += load_value(data);
    return 0;
}

static int sum_small(uint32_t index, const struct kernel_bytes *input, size_t inputs, uint64_t *out,
                     struct error *err)
{
    int rc = 0;

    *out = 1 + (uint64_t)index;
    for (size_t i = 0; rc == 0 && i < inputs; i++) {
        rc = add_input((uint32_t)i, input[i].data, input[i].size, out, err);
    }
    return rc;
}

static int sum_inputs(uint32_t index, const struct kernel_inputs *inputs, uint64_t *out, struct error *err)
{
    uint32_t count = inputs->lists > 0 ? inputs->start[inputs->lists] : 0;
    int rc = 0;

    *out = 1 + (uint64_t)index;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        const struct partition *p = inputs->partition[i];
        bool bytes = p->kind == PARTITION_BYTES;

        rc = add_input(i, bytes ? p->bytes->data : NULL, bytes ? p->bytes->size : 0, out, err);
    }
    return rc;
}

static void fill(uint8_t *data, uint64_t value, size_t size)
{
    for (size_t at = 0; at + VALUE_BYTES <= size; at += VALUE_BYTES) {
        store_value(data + at, value);
    }
    memset(data + (size & ~(size_t)(VALUE_BYTES - 1)), 0, size % VALUE_BYTES);
}

static int make_value(uint64_t value, size_t size, struct partition **out, struct error *err)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(size, &data);

    if (bytes == NULL) {
        return error_no_memory(err);
    }
    fill(data, value, size);
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

static int find_data(const Dray__Data *data, uint32_t index, const ProtobufCBinaryData **out,
                     struct error *err)
{
    if (data->n_value > 1 && index >= data->n_value) {
        return error_set(err, EINVAL, "there are %zu values", data->n_value);
    }
    *out = &data->value[data->n_value > 1 ? index : 0];
    return 0;
}

static int make_data(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                     struct kernel_env *env, struct arena *arena, struct partition **out, struct error *err)
{
    const ProtobufCBinaryData *value = NULL;
    struct buffer *bytes;
    uint8_t *at;
    int rc = find_data(step->data, index, &value, err);

    (void)inputs;
    (void)env;
    (void)arena;
    if (rc != 0) {
        return rc;
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

// ---- without partitions -------------------------------------------------------------

enum kernel_size kernel_size(const Dray__Op *op)
{
    const Dray__Step *step = op->n_step > 0 ? op->step[0] : NULL;

    if (step != NULL && (step->call != NULL || step->command != NULL)) {
        return KERNEL_CHILD;
    }
    if (step == NULL || op->n_step != 1) {
        return KERNEL_LARGE;
    }
    if (step->count != NULL) {
        return KERNEL_INSTANT;
    }
    if (step->busy != NULL) {
        return step->busy->output_bytes <= KERNEL_SMALL ? KERNEL_SHORT : KERNEL_LARGE;
    }
    for (size_t i = 0; step->data != NULL && i < step->data->n_value; i++) {
        if (step->data->value[i].len > KERNEL_SMALL) {
            return KERNEL_LARGE;
        }
    }
    return step->data != NULL && step->data->n_value > 0 ? KERNEL_INSTANT : KERNEL_LARGE;
}

int kernel_run_small(const Dray__Op *op, uint32_t index, const struct kernel_bytes *input, size_t inputs,
                     struct kernel_env *env, uint8_t *out, size_t *size, struct error *err)
{
    const Dray__Step *step = op->step[0];
    const ProtobufCBinaryData *data = NULL;
    uint64_t value = 0;
    int rc;

    if (step->data != NULL) {
        rc = find_data(step->data, index, &data, err);
        if (rc == 0) {
            *size = data->len;
            if (data->len > 0) {
                memcpy(out, data->data, data->len);
            }
        }
        return rc;
    }
    rc = sum_small(index, input, inputs, &value, err);
    if (rc == 0 && step->busy != NULL) {
        rc = keep_busy(step->busy, env, err);
    }
    if (rc == 0) {
        *size = step->busy != NULL ? (size_t)step->busy->output_bytes : VALUE_BYTES;
        fill(out, value, *size);
    }
    return rc;
}

const struct maker_class count_maker = {.name = "count", .make = make_count};
const struct maker_class busy_maker = {.name = "busy", .make = make_busy};
const struct maker_class data_maker = {.name = "data", .make = make_data};
