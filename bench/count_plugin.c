// A function that does as good as nothing, so that what is measured is the call.
#include "proto/dray_task.h"

// 1 + its index, as the built-in Count makes it.
static int count(struct dray_call *call)
{
    return dray_result_uint64(call, 1 + (uint64_t)dray_index(call));
}

// The compute kernel of Busy (worker/kernel/pool.c), for peers that call it by its name.
__attribute__((visibility("default"))) void bench_compute(uint64_t iterations);

void bench_compute(uint64_t iterations)
{
    double lane[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    volatile double sink;

    for (uint64_t i = 0; i < iterations; i++) {
        for (int round = 0; round < 8; round++) {
            for (int k = 0; k < 8; k++) {
                lane[k] = lane[k] * 0.9999999 + 1e-7;
            }
        }
    }
    for (int k = 0; k < 8; k++) {
        sink = lane[k];
        (void)sink;
    }
}

static const struct dray_function functions[] = {{"count", count, 0, "1 + the task's index"}};
const struct dray_plugin dray_plugin = DRAY_PLUGIN("bench", "1", functions);
