// A function that does as good as nothing, so that what is measured is the call.
#include "proto/dray_task.h"

// 1 + its index, as the built-in Count makes it.
static int count(struct dray_call *call)
{
    return dray_result_uint64(call, 1 + (uint64_t)dray_index(call));
}

static const struct dray_function functions[] = {{"count", count, 0, "1 + the task's index"}};
const struct dray_plugin dray_plugin = DRAY_PLUGIN("bench", "1", functions);
