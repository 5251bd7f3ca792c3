/* The least that a plugin is: one function, one table.  Copy, rename, go on.
 *
 *   cc -shared -fPIC -O2 $(pkg-config --cflags dray) template.c -o template.so
 *   dray-worker --plugin ./template.so tcp://localhost:8786 */
#include <dray_task.h>

/* Its argument is its result. */
static int hello(struct dray_call *call)
{
    size_t size;
    const void *argument = dray_argument(call, &size);

    if (size == 0) {
        return dray_fail(call, EINVAL, "hello needs an argument; task %u has none",
                         (unsigned)dray_index(call));
    }
    return dray_result_bytes(call, argument, size);
}

static const struct dray_function functions[] = {
    {"hello", hello, 0, "its argument"},
};

const struct dray_plugin dray_plugin = DRAY_PLUGIN("template", "0.1", functions);
