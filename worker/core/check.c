// The invariants of state.h, computed anew.
#include "worker/core/agent.h"

#include <stdio.h>
#include <stdlib.h>

#include "worker/core/state.h"

#define MUST(truth)                                                                                          \
    do {                                                                                                     \
        if (!(truth)) {                                                                                      \
            fprintf(stderr, "agent_check line %d: not (%s)\n", __LINE__, #truth);                            \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

static bool is_waiting(const struct task *task)
{
    return task->state == AGENT_TASK_QUEUED || task->state == AGENT_TASK_READY;
}

static void check_task(const struct agent *agent, const struct task *task)
{
    uint32_t missing = 0;

    MUST(task_find(agent, task->key.job, task->key.layer, task->key.index) == task);
    MUST(task->layer != NULL || task->state == AGENT_TASK_STOPPING);
    MUST(!task->again || task->state == AGENT_TASK_STOPPING);
    for (uint32_t n = 0; n < task->needs; n++) {
        MUST(task->need[n].part != NULL || task->layer == NULL);
        missing += task->need[n].part != NULL && !task->need[n].part->held ? 1 : 0;
    }
    if (is_waiting(task)) {
        MUST(task->missing == missing);
        MUST((task->state == AGENT_TASK_READY) == (missing == 0));
    }
    if (task->state == AGENT_TASK_READY) {
        MUST(task->heap_at < agent->heap_count && agent->heap[task->heap_at] == task);
        MUST(task->heap_at == 0 || agent->heap[(task->heap_at - 1) / 2]->sequence < task->sequence);
    }
}

static void check_part(const struct agent *agent, const struct part *part)
{
    uint32_t waiting = 0;

    for (const struct need *need = part->needs; need != NULL; need = need->next) {
        MUST(need->part == part);
        waiting += is_waiting(need->task) ? 1 : 0;
    }
    MUST(part_find(agent, part->key.job, part->key.layer, part->key.index) == part);
    MUST(waiting == part->waiting);
    MUST(!part->own || part->held);
    if (agent->check_head != NULL) {
        return; // the step ran out of memory: the rest is not settled
    }
    MUST(part->in_line == (waiting > 0 && !part->held && !part->fetching));
    MUST(part->held || part->fetching || part->needs != NULL);
    MUST(!part->held || part->own || part->sticky || part->needs != NULL);
    MUST(part->job != NULL || part->fetching);
}

void agent_check(const struct agent *agent)
{
    uint32_t waiting = 0;
    uint32_t running = 0;
    uint32_t ready = 0;
    uint32_t fetching = 0;
    uint64_t held = 0;
    uint64_t copies = 0;

    for (size_t b = 0; b <= agent->tasks.mask; b++) {
        for (struct hash_node *node = agent->tasks.bucket[b]; node != NULL; node = node->next) {
            const struct task *task = hash_entry(node, struct task, node);

            check_task(agent, task);
            waiting += is_waiting(task) ? 1 : 0;
            running += is_waiting(task) ? 0 : 1;
            ready += task->state == AGENT_TASK_READY ? 1 : 0;
        }
    }
    for (size_t b = 0; b <= agent->parts.mask; b++) {
        for (struct hash_node *node = agent->parts.bucket[b]; node != NULL; node = node->next) {
            const struct part *part = hash_entry(node, struct part, node);

            check_part(agent, part);
            fetching += part->fetching ? 1 : 0;
            held += part->held ? 1 : 0;
            copies += part->own ? 0 : 1;
        }
    }
    MUST(waiting == agent->waiting && running == agent->running && ready == agent->heap_count);
    MUST(fetching == agent->fetching && held == agent->held && copies == agent->copies);
    MUST(fetching <= agent->options.fetches_max && running <= agent->options.threads);
}
