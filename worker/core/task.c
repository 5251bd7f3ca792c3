// Tasks: their needs, the order in which they run.
#include "worker/core/state.h"

#include <errno.h>
#include <stdlib.h>

static bool comes_before(const struct task *a, const struct task *b)
{
    return a->sequence < b->sequence;
}

static void heap_put(struct agent *agent, uint32_t at, struct task *task)
{
    agent->heap[at] = task;
    task->heap_at = at;
}

static void heap_up(struct agent *agent, uint32_t at, struct task *task)
{
    while (at > 0 && comes_before(task, agent->heap[(at - 1) / 2])) {
        heap_put(agent, at, agent->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(agent, at, task);
}

// Room was made when the task was created.
static void heap_push(struct agent *agent, struct task *task)
{
    heap_up(agent, agent->heap_count++, task);
}

static void heap_remove(struct agent *agent, struct task *task)
{
    uint32_t at = task->heap_at;
    struct task *last = agent->heap[--agent->heap_count];

    if (last == task) {
        return;
    }
    if (at > 0 && comes_before(last, agent->heap[(at - 1) / 2])) {
        heap_up(agent, at, last);
        return;
    }
    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= agent->heap_count) {
            break;
        }
        if (child + 1 < agent->heap_count && comes_before(agent->heap[child + 1], agent->heap[child])) {
            child++;
        }
        if (comes_before(last, agent->heap[child])) {
            break;
        }
        heap_put(agent, at, agent->heap[child]);
        at = child;
    }
    heap_put(agent, at, last);
}

static bool heap_reserve(struct agent *agent)
{
    if (agent->waiting < agent->heap_capacity) {
        return true;
    }
    uint32_t capacity = agent->heap_capacity > 0 ? agent->heap_capacity * 2 : 64;
    struct task **grown = realloc(agent->heap, capacity * sizeof(struct task *));

    if (grown == NULL) {
        return false;
    }
    agent->heap = grown;
    agent->heap_capacity = capacity;
    return true;
}

struct task *task_find(const struct agent *agent, uint32_t job, uint32_t layer, uint32_t index)
{
    struct hash_node *node = hash_first(&agent->tasks, key_hash(job, layer, index));

    for (; node != NULL; node = hash_next(node)) {
        struct task *task = hash_entry(node, struct task, node);

        if (task->key.job == job && task->key.layer == layer && task->key.index == index) {
            return task;
        }
    }
    return NULL;
}

static bool is_waiting(const struct task *task)
{
    return task->state == AGENT_TASK_QUEUED || task->state == AGENT_TASK_READY;
}

static void need_link(struct need *need, struct part *part, struct task *task)
{
    need->part = part;
    need->task = task;
    need->prev = NULL;
    need->next = part->needs;
    if (part->needs != NULL) {
        part->needs->prev = need;
    }
    part->needs = need;
    part->waiting++;
}

static void need_unlink(struct agent *agent, struct need *need)
{
    struct part *part = need->part;

    if (part == NULL) {
        return;
    }
    if (need->prev != NULL) {
        need->prev->next = need->next;
    } else {
        part->needs = need->next;
    }
    if (need->next != NULL) {
        need->next->prev = need->prev;
    }
    part->waiting -= is_waiting(need->task) ? 1 : 0;
    need->part = NULL;
    part_check(agent, part);
}

static void needs_unlink(struct agent *agent, struct task *task)
{
    for (uint32_t n = 0; n < task->needs; n++) {
        need_unlink(agent, &task->need[n]);
    }
}

// Out of the job's list.
static void leave_job(struct task *task)
{
    if (task->layer == NULL) {
        return;
    }
    if (task->job_prev != NULL) {
        task->job_prev->job_next = task->job_next;
    } else {
        task->layer->job->tasks = task->job_next;
    }
    if (task->job_next != NULL) {
        task->job_next->job_prev = task->job_prev;
    }
    task->job_prev = task->job_next = NULL;
    task->layer = NULL;
}

// Takes it out of what waits, or of what runs.
static void leave_state(struct agent *agent, struct task *task)
{
    if (task->state == AGENT_TASK_READY) {
        heap_remove(agent, task);
    }
    if (is_waiting(task)) {
        agent->waiting--;
    } else {
        agent->running--;
    }
}

static bool is_whole(const Dray__Input *input)
{
    return input->pattern == DRAY__PATTERN__ALL || input->pattern == DRAY__PATTERN__BROADCAST;
}

static uint64_t count_needs(const struct agent_layer *layer, uint32_t index)
{
    uint64_t needs = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        needs += input_needs(layer->input[k], layer->tasks, layer->input_tasks[k], index).count;
    }
    return needs;
}

static int link_needs(struct agent *agent, struct task *task)
{
    struct agent_layer *layer = task->layer;
    uint32_t n = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        const Dray__Input *input = layer->input[k];
        struct span span = input_needs(input, layer->tasks, layer->input_tasks[k], task->key.index);
        struct agent_job *job = input->has_job ? job_get(agent, input->job) : layer->job;

        if (job == NULL) {
            return -ENOMEM;
        }
        for (uint32_t s = 0; s < span.count; s++, n++) {
            struct task_key key = {job->number, input->layer, span_at(&span, s)};
            struct part *part = part_get(agent, job, key);

            if (part == NULL) {
                return -ENOMEM;
            }
            need_link(&task->need[n], part, task);
            task->missing += part->held ? 0 : 1;
            part->sticky = part->sticky || (is_whole(input) && !part->own);
            part_check(agent, part);
        }
    }
    return 0;
}

int task_create(struct agent *agent, struct agent_layer *layer, uint32_t index)
{
    uint64_t needs = count_needs(layer, index);
    struct task *task = NULL;

    if (needs <= GRAPH_NEEDS_MAX && heap_reserve(agent)) {
        task = calloc(1, sizeof(*task) + needs * sizeof(struct need));
    }
    if (task == NULL) {
        return -ENOMEM;
    }
    task->spare = calloc(1, sizeof(*task->spare));
    if (task->spare == NULL) {
        free(task);
        return -ENOMEM;
    }
    task->key = (struct task_key){layer->job->number, layer->number, index};
    task->layer = layer;
    task->needs = (uint32_t)needs;
    task->sequence = agent->sequence++;
    task->job_next = layer->job->tasks;
    if (task->job_next != NULL) {
        task->job_next->job_prev = task;
    }
    layer->job->tasks = task;
    hash_add(&agent->tasks, &task->node, key_hash(task->key.job, task->key.layer, index));
    agent->waiting++;
    if (link_needs(agent, task) < 0) {
        task_destroy(agent, task);
        return -ENOMEM;
    }
    if (task->missing == 0) {
        task->state = AGENT_TASK_READY;
        heap_push(agent, task);
    }
    return 0;
}

void task_destroy(struct agent *agent, struct task *task)
{
    needs_unlink(agent, task);
    leave_state(agent, task);
    leave_job(task);
    hash_remove(&agent->tasks, &task->node);
    free(task->spare);
    free(task);
}

void task_orphan(struct agent *agent, struct task *task)
{
    needs_unlink(agent, task);
    leave_job(task);
    task->state = AGENT_TASK_STOPPING;
    task->again = false;
}

void task_found(struct agent *agent, struct task *task)
{
    if (task->state == AGENT_TASK_QUEUED && --task->missing == 0) {
        task->state = AGENT_TASK_READY;
        heap_push(agent, task);
    }
}

void task_missed(struct agent *agent, struct task *task)
{
    if (!is_waiting(task)) {
        return;
    }
    if (task->state == AGENT_TASK_READY) {
        heap_remove(agent, task);
        task->state = AGENT_TASK_QUEUED;
    }
    task->missing++;
}

void task_restart(struct agent *agent, struct task *task)
{
    task->state = AGENT_TASK_QUEUED;
    task->again = false;
    task->missing = 0;
    agent->running--;
    agent->waiting++;
    for (uint32_t n = 0; n < task->needs; n++) {
        struct part *part = task->need[n].part;

        part->waiting++;
        task->missing += part->held ? 0 : 1;
        part_check(agent, part);
    }
    if (task->missing == 0) {
        task->state = AGENT_TASK_READY;
        heap_push(agent, task);
    }
}

static bool task_run(struct agent *agent, struct task *task)
{
    const struct agent_layer *layer = task->layer;
    struct task_key *input = arena_array(&agent->arena, task->needs, sizeof(*input));
    uint32_t *start = arena_array(&agent->arena, layer->inputs + 1, sizeof(*start));
    uint32_t n = 0;

    if (input == NULL || start == NULL) {
        return false;
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        start[k] = n;
        n += input_needs(layer->input[k], layer->tasks, layer->input_tasks[k], task->key.index).count;
    }
    start[layer->inputs] = n;
    for (n = 0; n < task->needs; n++) {
        input[n] = task->need[n].part->key;
        task->need[n].part->waiting--;
    }
    struct agent_action *action = action_push(agent, AGENT_RUN, task->key);

    action->input = input;
    action->inputs = task->needs;
    action->input_start = start;
    action->input_lists = layer->inputs;
    heap_remove(agent, task);
    agent->waiting--;
    agent->running++;
    task->state = AGENT_TASK_RUNNING;
    return true;
}

void tasks_run(struct agent *agent)
{
    while (agent->heap_count > 0 && agent->running < agent->options.threads) {
        if (!task_run(agent, agent->heap[0])) {
            break;
        }
    }
}
