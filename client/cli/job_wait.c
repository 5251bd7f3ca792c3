#include "client/cli/job_wait.h"

#include <errno.h>
#include <inttypes.h>

#include "client/cli/command.h"
#include "client/cli/job_view.h"

enum { FIRST_MS = 5, LONGEST_MS = 250 };

const char *job_state_name(Dray__JobState state)
{
    switch (state) {
    case DRAY__JOB_STATE__QUEUED:
        return "queued";
    case DRAY__JOB_STATE__RUNNING:
        return "running";
    case DRAY__JOB_STATE__DONE:
        return "done";
    case DRAY__JOB_STATE__FAILED:
        return "failed";
    case DRAY__JOB_STATE__CANCELLED:
        return "cancelled";
    default:
        return "unknown";
    }
}

// Its tasks by the names that its file has for them.
static const char *reason(const struct job_wait *wait, const Dray__JobInfo *info, struct arena *arena)
{
    const struct client_attach how = {.job = info->job, .look = true};
    const Dray__Attached *attached;
    struct job_view view;
    struct error err;

    return client_attach(wait->session->dray, &how, arena, &attached, &err) == 0 &&
                   job_view_from_attached(attached, arena, &view, &err) == 0
               ? job_view_text(&view, info->why->text, arena)
               : info->why->text;
}

static void tell_end(const struct job_wait *wait, const Dray__JobInfo *info, struct arena *arena)
{
    if (info->why != NULL) {
        complain_text("job %u %s: %s", info->job,
                      info->state == DRAY__JOB_STATE__CANCELLED ? "was cancelled" : "failed",
                      reason(wait, info, arena));
    } else if (!wait->quiet || info->failed > 0) {
        complain_text("job %u: %" PRIu64 " task%s done, %" PRIu64 " failed", info->job, info->done,
                      info->done == 1 ? "" : "s", info->failed);
    }
}

static void tell_progress(const struct job_wait *wait, const Dray__JobInfo *info, bool *told)
{
    const struct query_progress now = {.tasks = info->tasks,
                                       .done = info->done,
                                       .failed = info->failed,
                                       .workers = WORKERS_UNKNOWN,
                                       .waiting = info->waiting};

    progress_show(wait->progress, &now);
    if (info->waiting != NULL && !*told && !wait->quiet && !progress_is_on(wait->progress)) {
        complain_text("job %u is waiting: %s", info->job, info->waiting);
        *told = true;
    }
}

// What comes meanwhile is of no interest here.
static int pause_for(dray_t *dray, int ms, struct error *err)
{
    struct dray_error error;
    struct dray_event event;
    int rc = client_wait(dray, ms, err);

    while (rc > 0 && dray_next(dray, &event, &error) == 1) {
    }
    return rc < 0 ? rc : 0;
}

int job_wait_run(const struct job_wait *wait, uint32_t job, bool *good, struct error *err)
{
    struct arena arena;
    bool told = false, adopted = false;
    int ms = FIRST_MS;
    int rc;

    arena_init(&arena, 0);
    for (;;) {
        const Dray__JobInfo *info;

        arena_reset(&arena);
        rc = client_job(wait->session->dray, job, &arena, &info, err);
        if (rc != 0) {
            break;
        }
        if (info->state > DRAY__JOB_STATE__RUNNING) {
            progress_clear(wait->progress);
            tell_end(wait, info, &arena);
            *good = info->state == DRAY__JOB_STATE__DONE && info->failed == 0;
            break;
        }
        tell_progress(wait, info, &told);
        // Its client was lost: it would be given up soon.
        if (!adopted && info->client == NULL && !info->detached && info->n_kept == 0) {
            rc = client_adopt(wait->session->dray, job, err);
            if (rc != 0) {
                break;
            }
            adopted = true;
            progress_clear(wait->progress);
            if (!wait->quiet) {
                complain_text("job %u has lost its client: it goes on by itself now", job);
            }
        }
        rc = pause_for(wait->session->dray, ms, err);
        if (rc != 0) {
            break;
        }
        ms = ms * 2 < LONGEST_MS ? ms * 2 : LONGEST_MS;
    }
    progress_clear(wait->progress);
    arena_fini(&arena);
    return rc;
}
