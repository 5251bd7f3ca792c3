#include "worker/hello.h"

#include <errno.h>

#include <unistd.h>

#include "proto/frame.h"
#include "proto/vital.h"

// Options are borrowed as they are: protobuf-c only reads them.
static char *borrow(const char *text)
{
    return (char *)(uintptr_t)text;
}

// Those that were given, and one for each plugin.
static int set_labels(const struct daemon_options *options, struct arena *arena, Dray__Hello *hello)
{
    size_t plugins = options->plugins == NULL ? 0 : options->plugins->count;

    hello->label = arena_array(arena, options->labels + plugins + 1, sizeof(char *));
    if (hello->label == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < options->labels; i++) {
        hello->label[hello->n_label++] = borrow(options->label[i]);
    }
    for (size_t i = 0; i < plugins; i++) {
        char *label = arena_printf(arena, "plugin:%s", options->plugins->plugin[i].name);

        if (label == NULL) {
            return -ENOMEM;
        }
        hello->label[hello->n_label++] = label;
    }
    return 0;
}

static int set_resources(const struct daemon_options *options, struct arena *arena, Dray__Hello *hello)
{
    size_t count = options->resources;
    Dray__Resource *resource = arena_array(arena, count + 1, sizeof(*resource));

    hello->resource = arena_array(arena, count + 1, sizeof(*hello->resource));
    if (resource == NULL || hello->resource == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        dray__resource__init(&resource[i]);
        resource[i].name = borrow(options->resource[i].name);
        resource[i].amount = options->resource[i].amount;
        hello->resource[hello->n_resource++] = &resource[i];
    }
    return 0;
}

static int set_endpoint(const char *endpoint, struct arena *arena, Dray__Hello *hello)
{
    hello->endpoint = arena_array(arena, 1, sizeof(char *));
    if (hello->endpoint == NULL) {
        return -ENOMEM;
    }
    hello->endpoint[hello->n_endpoint++] = borrow(endpoint);
    return 0;
}

int hello_make(const struct daemon_options *options, uint64_t incarnation, const char *endpoint,
               struct arena *arena, Dray__Hello *hello)
{
    dray__hello__init(hello);
    hello->role = DRAY__ROLE__WORKER;
    hello->protocol = FRAME_PROTOCOL;
    hello->version = borrow(DRAY_VERSION);
    hello->incarnation = incarnation;
    hello->name = borrow(options->name);
    hello->has_pid = true;
    hello->pid = (uint32_t)getpid();
    hello->has_threads = hello->has_memory = true;
    hello->threads = options->threads;
    hello->memory = options->memory;
    if (options->data_dir != NULL) {
        hello->data_dir = (char **)(uintptr_t)options->data_dir;
        while (options->data_dir[hello->n_data_dir] != NULL) {
            hello->n_data_dir++;
        }
    }
    hello->host = arena_alloc(arena, VITAL_HOST_MAX);
    if (hello->host == NULL) {
        return -ENOMEM;
    }
    vital_host(hello->host);
    if (set_endpoint(endpoint, arena, hello) != 0 || set_labels(options, arena, hello) != 0) {
        return -ENOMEM;
    }
    return set_resources(options, arena, hello);
}
