#include "worker/child/children.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "worker/child/children_state.h"
#include "worker/child/scratch.h"

enum { FINISH_MS = 500 };

int children_create(const struct children_options *options, struct children **out, struct error *err)
{
    struct children *children = calloc(1, sizeof(*children));
    size_t plugins = options->plugins != NULL ? options->plugins->count : 0;

    if (children == NULL) {
        return error_no_memory(err);
    }
    children->options = *options;
    arena_init(&children->arena, 0);
    children->plugin_process = calloc(plugins + 1, sizeof(*children->plugin_process));
    children->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    children->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (children->plugin_process == NULL || children->wake < 0 || children->null < 0) {
        int code = children->plugin_process == NULL ? ENOMEM : errno;

        children_destroy(children);
        return error_set(err, code, "cannot get ready for child processes: %s", strerror(code));
    }
    *out = children;
    return 0;
}

void children_destroy(struct children *children)
{
    const uint64_t deadline = process_now_ns() + FINISH_MS * UINT64_C(1000000);
    size_t plugins;

    if (children == NULL) {
        return;
    }
    plugins = children->options.plugins != NULL ? children->options.plugins->count : 0;
    // All of them at once: those that are slow to end do not add up.
    for (size_t i = 0; children->plugin_process != NULL && i < plugins; i++) {
        process_say_goodbye(&children->plugin_process[i]);
    }
    process_say_goodbye(&children->spawner);
    for (size_t i = 0; children->plugin_process != NULL && i < plugins; i++) {
        process_end(&children->plugin_process[i], process_ms_left(deadline));
    }
    // It removes the folder as it ends; here should it be unable to.
    process_end(&children->spawner, process_ms_left(deadline));
    if (children->scratch != NULL) {
        scratch_remove(children->scratch);
    }
    free(children->scratch);
    free(children->plugin_process);
    if (children->wake >= 0) {
        close(children->wake);
    }
    if (children->null >= 0) {
        close(children->null);
    }
    arena_fini(&children->arena);
    free(children);
}

int children_take(struct children *children, uint64_t bytes, const char *what, struct error *err)
{
    int rc = children->options.budget != NULL ? budget_take(children->options.budget, bytes, what, err) : 0;

    if (rc == 0) {
        children->taken += bytes;
    }
    return rc;
}

void children_give(struct children *children, uint64_t bytes)
{
    children->taken -= bytes;
    if (children->options.budget != NULL) {
        budget_give(children->options.budget, bytes);
    }
}

void children_run(struct children *children, const Dray__Op *op, uint32_t timeout_ms, struct child_task *task,
                  size_t count)
{
    const Dray__Step *step = op->step[0];

    for (size_t i = 0; i < count; i++) {
        task[i].rc = 0;
        task[i].err.code = 0;
        task[i].err.text[0] = '\0';
        task[i].partition = NULL;
        task[i].has_use = false;
    }
    if (step->call != NULL) {
        call_run(children, step->call, timeout_ms, task, count);
    }
    for (size_t i = 0; i < count && step->call == NULL; i++) {
        if (step->command == NULL) {
            task[i].rc = error_set(&task[i].err, EINVAL, "not an operation for a child process");
        } else {
            command_run(children, step->command, timeout_ms, &task[i]);
        }
    }
    children_give(children, children->taken);
}

void children_wake(struct children *children)
{
    const uint64_t one = 1;
    ssize_t written = write(children->wake, &one, sizeof(one));

    (void)written; // it cannot be full
}
