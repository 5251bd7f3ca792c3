// How people see a job's tasks: TASK or TASK.INDEX, by the names of its layers and the indices of its file.
#ifndef DRAY_CLIENT_CLI_JOB_VIEW_H
#define DRAY_CLIENT_CLI_JOB_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/lib/client.h"
#include "client/submit/job_file.h"
#include "client/submit/numbers.h"
#include "proto/wire.pb-c.h"

enum { JOB_LABEL_MAX = 256 };

struct job_view_layer {
    const char *name; // NULL: its number
    uint32_t tasks;
    bool wanted;
    bool is_array;
    struct numbers indices;
};

struct job_view {
    uint32_t job;
    struct job_view_layer *layer;
    uint32_t layers;
};

// Both live in the arena.
int job_view_from_file(const struct job_file *file, uint32_t job, struct arena *arena, struct job_view *out,
                       struct error *err);
// A note that is no JobNote is ignored: others may submit jobs as well.
int job_view_from_attached(const Dray__Attached *attached, struct arena *arena, struct job_view *out,
                           struct error *err);
// What job_view_from_attached will want to know; NULL data when there is nothing to say.
int job_view_note(const struct job_file *file, struct arena *arena, struct dray_bytes *out,
                  struct error *err);

// "resize.17", of at most JOB_LABEL_MAX bytes.
void job_view_label(const struct job_view *view, uint32_t layer, uint32_t index, char out[JOB_LABEL_MAX]);
// What the broker says of a failed task begins with the task, by its index: what comes after that, which begins with
// "on worker"; NULL: the text is another one.
const char *job_view_reason(const struct job_view *view, uint32_t layer, uint32_t index, const char *text);
// What the broker says of a job: "resize, task 16 on worker w: ..." as "resize.17 on worker w: ...".  Another one, or
// the given text when it names none; without memory too.
const char *job_view_text(const struct job_view *view, const char *text, struct arena *arena);
// "resize", "resize.17", "resize.3..9", "4.0" as ranges, in order; appended in the arena.  -ENOENT: there is
// no such task.
struct job_ranges {
    struct client_range *range;
    size_t count;
};
int job_view_select(const struct job_view *view, const char *text, struct arena *arena,
                    struct job_ranges *ranges, struct error *err);
// All tasks of a layer.
int job_view_add_layer(const struct job_view *view, uint32_t layer, struct arena *arena,
                       struct job_ranges *ranges, struct error *err);

#endif
