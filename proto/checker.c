#include "proto/checker.h"

#include <errno.h>
#include <string.h>

#include "proto/frame_check.h"
#include "proto/graph.h"

enum { CODE_MAX = 4095 };

int checker_name(const struct checker *k, const char *what, const char *name)
{
    if (name != NULL && strlen(name) > FRAME_NAME_MAX) {
        return error_set(k->err, EBADMSG, "%s is longer than %d bytes", what, FRAME_NAME_MAX);
    }
    return 0;
}

int checker_failure(const struct checker *k, const Dray__Failure *why)
{
    if (why == NULL) {
        return 0;
    }
    if (why->code < 0 || why->code > CODE_MAX) {
        return error_set(k->err, EBADMSG, "its error has the code %d", why->code);
    }
    return checker_name(k, "the text of its error", why->text);
}

int checker_endpoints(const struct checker *k, char *const *endpoint, size_t count)
{
    if (count > FRAME_ENDPOINTS_MAX) {
        return error_set(k->err, EBADMSG, "it has %zu endpoints", count);
    }
    for (size_t i = 0; i < count; i++) {
        int rc = checker_name(k, "an endpoint", endpoint[i]);

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

int checker_files(const struct checker *k, Dray__SourceFile *const *file, size_t count)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = checker_name(k, "the name of a file", file[i]->name);
        if (rc == 0) {
            rc = checker_name(k, "the path of a file", file[i]->path);
        }
    }
    return rc;
}

int checker_task(const struct checker *k, uint32_t layer, uint32_t index)
{
    if (layer >= GRAPH_LAYERS_MAX || index >= GRAPH_TASKS_MAX) {
        return error_set(k->err, EBADMSG, "there can be no task %u of layer %u", index, layer);
    }
    return 0;
}

// Tasks [first[i], first[i] + count[i]) of a layer; *sum, when asked for, gets how many.
int checker_ranges(struct checker *k, uint32_t layer, size_t n_first, const uint32_t *first, size_t n_count,
                   const uint32_t *count, uint64_t *sum)
{
    uint64_t tasks = 0;

    if (layer >= GRAPH_LAYERS_MAX) {
        return error_set(k->err, EBADMSG, "there can be no layer %u", layer);
    }
    if (n_first != n_count) {
        return error_set(k->err, EBADMSG, "layer %u has %zu range starts and %zu range lengths", layer,
                         n_first, n_count);
    }
    for (size_t i = 0; i < n_first; i++) {
        if (count[i] == 0 || first[i] > GRAPH_TASKS_MAX || count[i] > GRAPH_TASKS_MAX - first[i]) {
            return error_set(k->err, EBADMSG, "layer %u cannot have %u tasks from %u on", layer, count[i],
                             first[i]);
        }
        tasks += count[i];
    }
    k->tasks += tasks; // at most 2^24 ranges of 2^31 tasks
    if (k->tasks > GRAPH_TASKS_MAX) {
        return error_set(k->err, EBADMSG, "it names %llu tasks or more", (unsigned long long)k->tasks);
    }
    if (sum != NULL) {
        *sum = tasks;
    }
    return 0;
}

int checker_runs(struct checker *k, Dray__Run *const *run, size_t count)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        const Dray__Run *r = run[i];

        rc = checker_ranges(k, r->layer, r->n_first, r->first, r->n_count, r->count, NULL);
    }
    return rc;
}

int checker_strings(const struct checker *k, const char *what, char *const *text, size_t count)
{
    int rc = 0;

    if (count > FRAME_STRINGS_MAX) {
        return error_set(k->err, EBADMSG, "%zu times %s", count, what);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = checker_name(k, what, text[i]);
    }
    return rc;
}

int checker_resources(const struct checker *k, Dray__Resource *const *resource, size_t count)
{
    int rc = 0;

    if (count > GRAPH_RESOURCES_MAX) {
        return error_set(k->err, EBADMSG, "it has %zu resources", count);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = checker_name(k, "the name of a resource", resource[i]->name);
    }
    return rc;
}
