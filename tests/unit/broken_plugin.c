// Plugins that a worker refuses at its start, one for each value of BROKEN; for test_plugins.c.
#include "proto/dray_task.h"

enum { BROKEN_ABI = 1, BROKEN_NAME, BROKEN_FUNCTION, BROKEN_TWICE, BROKEN_CODE, BROKEN_NONE };

static int run(struct dray_call *call)
{
    (void)call;
    return 0;
}

static const struct dray_function functions[] = {
    {BROKEN == BROKEN_FUNCTION ? "with space" : "first", run, 0, NULL},
    {BROKEN == BROKEN_TWICE ? "first" : "second", BROKEN == BROKEN_CODE ? NULL : run, 0, NULL},
};

const struct dray_plugin dray_plugin = {
    .abi = BROKEN == BROKEN_ABI ? 77 : DRAY_TASK_ABI,
    .function_size = sizeof(struct dray_function),
    .name = BROKEN == BROKEN_NAME ? "" : "broken",
    .version = "1",
    .function = functions,
    .functions = BROKEN == BROKEN_NONE ? 0 : 2,
};
