#include "broker/core/sched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/core/failure.h"
#include "broker/core/handover.h"
#include "broker/core/job.h"
#include "broker/core/lapse.h"
#include "broker/core/lineage.h"
#include "broker/core/moment.h"
#include "broker/core/on.h"
#include "broker/core/outbox.h"
#include "broker/core/placement.h"
#include "broker/core/progress.h"
#include "broker/core/recovery.h"
#include "broker/core/rest.h"
#include "broker/core/state.h"
#include "broker/core/speculate.h"
#include "broker/core/suspect.h"
#include "broker/core/why.h"
#include "broker/core/worker.h"

enum {
    QUEUE_DEPTH = 2,
    ATTEMPTS_MAX = 3,
    STRAGGLER_US = 500000,
};

void sched_options_default(struct sched_options *options)
{
    *options = (struct sched_options){
        .queue_depth = QUEUE_DEPTH,
        .attempts_max = ATTEMPTS_MAX,
        .straggler_us = STRAGGLER_US,
        .progress_us = 100000,
        .tasks_max = UINT64_C(100) * 1000 * 1000,
        .jobs_max = 1000 * 1000,
        .bytes_max = UINT64_C(4) << 30,
    };
}

struct sched *sched_create(const struct sched_options *options)
{
    struct sched *sched = calloc(1, sizeof(*sched));

    if (sched == NULL) {
        return NULL;
    }
    sched->options = *options;
    sched->charge_guess =
        (uint32_t)((WINDOW + (uint64_t)options->queue_depth) / (1 + (uint64_t)options->queue_depth));
    hash_init(&sched->jobs);
    hash_init(&sched->keys);
    hash_init(&sched->workers);
    hash_init(&sched->clients);
    hash_init(&sched->knows);
    hash_init(&sched->demands);
    sched->run = 1;
    arena_init(&sched->arena, 0);
    return sched;
}

static void bury(struct sched *sched)
{
    while (sched->graveyard != NULL) {
        struct job *job = sched->graveyard;

        sched->graveyard = job->dirty_next;
        job_destroy(job);
    }
}

void sched_destroy(struct sched *sched)
{
    struct hash_node *node;

    if (sched == NULL) {
        return;
    }
    bury(sched);
    while ((node = hash_any(&sched->workers)) != NULL) {
        worker_destroy(sched, hash_entry(node, struct worker, node));
    }
    while ((node = hash_any(&sched->jobs)) != NULL) {
        hash_remove(&sched->jobs, node);
        job_destroy(hash_entry(node, struct job, by_number));
    }
    // Forgotten, but their last words could not be written for lack of memory.
    while (sched->dirty != NULL) {
        struct job *job = sched->dirty;

        sched->dirty = job->dirty_next;
        if (job->forgotten) {
            job_destroy(job);
        }
    }
    while ((node = hash_any(&sched->clients)) != NULL) {
        hash_remove(&sched->clients, node);
        free(hash_entry(node, struct client, node));
    }
    recovery_fini(sched);
    handover_fini(sched);
    moment_fini(sched);
    hash_fini(&sched->jobs);
    hash_fini(&sched->keys);
    hash_fini(&sched->workers);
    hash_fini(&sched->clients);
    hash_fini(&sched->knows);
    hash_fini(&sched->demands);
    arena_fini(&sched->arena);
    free(sched->worker);
    free(sched->location);
    free(sched->delay);
    free(sched->trial);
    free(sched);
}

struct layer *range_layer(const struct sched *sched, const struct task_range *range)
{
    struct job *job = job_find(sched, range->job);

    if (job == NULL || !job->has_tasks || range->layer >= job->layers) {
        return NULL;
    }
    struct layer *layer = job->layer[range->layer];

    return range->first <= layer->tasks && range->count <= layer->tasks - range->first ? layer : NULL;
}

static int on_tick(struct sched *sched, const struct sched_event *event)
{
    (void)event;
    progress_tell(sched);
    return 0;
}

static int (*const handlers[])(struct sched *, const struct sched_event *) = {
    [EVENT_TICK] = on_tick,
    [EVENT_WORKER_JOINED] = on_worker_joined,
    [EVENT_WORKER_LEFT] = on_worker_left,
    [EVENT_WORKER_STATUS] = on_worker_status,
    [EVENT_SOURCES] = on_sources,
    [EVENT_HOLDING] = on_holding,
    [EVENT_TASKS_DONE] = on_tasks_done,
    [EVENT_TASK_FAILED] = on_task_failed,
    [EVENT_TASKS_DROPPED] = on_tasks_dropped,
    [EVENT_CLIENT_JOINED] = on_client_joined,
    [EVENT_CLIENT_LEFT] = on_client_left,
    [EVENT_SUBMIT] = on_submit,
    [EVENT_CANCEL] = on_cancel,
    [EVENT_FREE] = on_free,
    [EVENT_RESULT_LOST] = on_result_lost,
    [EVENT_EXTEND] = on_extend,
    [EVENT_ATTACH] = on_attach,
    [EVENT_KEEP] = on_keep,
    [EVENT_WORKER_LEAVING] = on_worker_leaving,
    [EVENT_CLIENT_FULL] = on_client_full,
    [EVENT_EXPECT] = on_expect,
    [EVENT_RESTORE_TASKS] = on_restore_tasks,
    [EVENT_RESTORE_JOB] = on_restore_job,
};

// What comes first when a broker has read all that it had written down.
static bool ends_restoring(enum sched_event_type type)
{
    return type == EVENT_TICK || type == EVENT_WORKER_JOINED || type == EVENT_CLIENT_JOINED;
}

int sched_step(struct sched *sched, const struct sched_event *events, size_t count,
               struct sched_actions *actions)
{
    int rc = 0;

    bury(sched);
    arena_reset(&sched->arena);
    actions->count = 0;
    sched->locations = 0;
    sched->steps++;
    sched->out = actions;
    for (size_t k = 0; k < count; k++) {
        int one;

        sched->now_us = events[k].now_us;
        delays_fire(sched);
        moment_fire(sched);
        rests_fire(sched);
        lapses_fire(sched);
        recovery_fire(sched);
        if (sched->repeats > 0 && ends_restoring(events[k].type)) {
            jobs_forget_repeats(sched);
        }
        sched->restoring = events[k].type >= EVENT_RESTORE_TASKS;
        one = handlers[events[k].type](sched, &events[k]);
        lineage_settle(sched);
        sched->restoring = false;
        rc = one < 0 ? one : rc;
    }
    if (!recovery_holds(sched)) {
        if (sched->check_sources) {
            placement_check_sources(sched);
            lineage_settle(sched);
        }
        twins_follow(sched);
        suspects_place(sched);
        placement_run(sched);
        speculate_run(sched);
    }
    handover_run(sched);
    outbox_flush(sched);
    sched->out = NULL;
    return rc;
}

void sched_counts(const struct sched *sched, struct sched_counts *counts)
{
    *counts = (struct sched_counts){
        .jobs = sched->job_count,
        .tasks = sched->tasks,
        .tasks_ready = sched->in[TASK_READY],
        .tasks_assigned = sched->in[TASK_ASSIGNED],
        .tasks_done = sched->in[TASK_HELD] + sched->in[TASK_RELEASED],
        .partitions = sched->in[TASK_HELD],
        .recomputed = sched->recomputed,
        .handed_over = sched->handed_over,
        .second_runs = sched->second_runs,
        .transitions = sched->transitions,
        .workers = sched->worker_count,
        .clients = (uint32_t)sched->clients.count,
    };
}

uint64_t sched_worker_partitions(const struct sched *sched, uint32_t peer)
{
    const struct worker *worker = worker_find(sched, peer);

    return worker != NULL ? worker->partitions : 0;
}
