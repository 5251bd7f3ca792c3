#include "worker/core/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "worker/core/state.h"

void agent_actions_init(struct agent_actions *actions)
{
    memset(actions, 0, sizeof(*actions));
}

void agent_actions_fini(struct agent_actions *actions)
{
    free(actions->action);
    agent_actions_init(actions);
}

static bool actions_reserve(struct agent *agent, uint64_t count)
{
    struct agent_actions *out = agent->out;

    if (out->capacity - out->count >= count) {
        return true;
    }
    uint64_t capacity = (out->count + count) * 2;
    struct agent_action *grown = NULL;

    if (capacity <= SIZE_MAX / sizeof(*grown)) {
        grown = realloc(out->action, (size_t)capacity * sizeof(*grown));
    }
    if (grown == NULL) {
        return false;
    }
    out->action = grown;
    out->capacity = (size_t)capacity;
    return true;
}

struct agent_action *action_push(struct agent *agent, enum agent_action_type type, struct task_key key)
{
    struct agent_action *action = &agent->out->action[agent->out->count++];

    memset(action, 0, sizeof(*action));
    action->type = type;
    action->key = key;
    return action;
}

struct agent *agent_create(const struct agent_options *options)
{
    struct agent *agent = calloc(1, sizeof(*agent));

    if (agent == NULL) {
        return NULL;
    }
    agent->options = *options;
    if (agent->options.fetches_max == 0) {
        agent->options.fetches_max = 1;
    }
    hash_init(&agent->jobs);
    hash_init(&agent->layers);
    hash_init(&agent->tasks);
    hash_init(&agent->parts);
    arena_init(&agent->arena, 0);
    return agent;
}

static void layer_destroy(struct agent *agent, struct agent_layer *layer)
{
    struct agent_layer **link = &layer->job->layers;

    while (*link != layer) {
        link = &(*link)->next;
    }
    *link = layer->next;
    hash_remove(&agent->layers, &layer->node);
    for (size_t k = 0; k < layer->inputs; k++) {
        dray__input__free_unpacked(layer->input[k], NULL);
    }
    free(layer->input);
    free(layer->input_tasks);
    free(layer);
}

void agent_destroy(struct agent *agent)
{
    struct hash_node *node;

    if (agent == NULL) {
        return;
    }
    while ((node = hash_any(&agent->tasks)) != NULL) {
        task_destroy(agent, hash_entry(node, struct task, node));
    }
    while ((node = hash_any(&agent->parts)) != NULL) {
        part_destroy(agent, hash_entry(node, struct part, node));
    }
    while ((node = hash_any(&agent->layers)) != NULL) {
        layer_destroy(agent, hash_entry(node, struct agent_layer, node));
    }
    while ((node = hash_any(&agent->jobs)) != NULL) {
        hash_remove(&agent->jobs, node);
        free(hash_entry(node, struct agent_job, node));
    }
    hash_fini(&agent->jobs);
    hash_fini(&agent->layers);
    hash_fini(&agent->tasks);
    hash_fini(&agent->parts);
    arena_fini(&agent->arena);
    free(agent->heap);
    free(agent);
}

static struct agent_job *job_find(const struct agent *agent, uint32_t number)
{
    struct hash_node *node = hash_first(&agent->jobs, hash_mix(number));

    return node != NULL ? hash_entry(node, struct agent_job, node) : NULL;
}

static struct agent_layer *layer_find(const struct agent *agent, uint32_t job, uint32_t number)
{
    struct hash_node *node = hash_first(&agent->layers, hash_mix((uint64_t)job << 32 | number));

    return node != NULL ? hash_entry(node, struct agent_layer, node) : NULL;
}

// ---- events from the broker ----------------------------------------------------------------

static int on_connected(struct agent *agent, const struct agent_event *event, struct error *err)
{
    bool full = true;

    (void)event;
    if (!actions_reserve(agent, agent->held)) {
        return error_no_memory(err);
    }
    agent->connected = true;
    for (size_t b = 0; b <= agent->jobs.mask; b++) {
        for (struct hash_node *node = agent->jobs.bucket[b]; node != NULL; node = node->next) {
            struct part *part = hash_entry(node, struct agent_job, node)->part_head;

            for (; part != NULL; part = part->job_next) {
                if (part->held) {
                    struct agent_action *action = action_push(agent, AGENT_ADVERTISE, part->key);

                    action->bytes = part->bytes;
                    action->full = full;
                    full = false;
                }
            }
        }
    }
    return 0;
}

// The broker takes back in its mind what has not started; a later session starts anew.
static int on_disconnected(struct agent *agent, const struct agent_event *event, struct error *err)
{
    (void)event;
    (void)err;
    agent->connected = false;
    for (size_t b = 0; b <= agent->jobs.mask; b++) {
        for (struct hash_node *node = agent->jobs.bucket[b]; node != NULL; node = node->next) {
            struct agent_job *job = hash_entry(node, struct agent_job, node);

            for (struct task *task = job->tasks, *next; task != NULL; task = next) {
                next = task->job_next;
                task->again = false;
                if (task->state == AGENT_TASK_QUEUED || task->state == AGENT_TASK_READY) {
                    task_destroy(agent, task);
                }
            }
            for (struct part *part = job->part_head; part != NULL; part = part->job_next) {
                part->sticky = false;
                part->located = false;
                part_check(agent, part);
            }
        }
    }
    return 0;
}

static Dray__Input *input_copy(const Dray__Input *input)
{
    size_t size = dray__input__get_packed_size(input);
    uint8_t *packed = malloc(size > 0 ? size : 1);
    Dray__Input *copy = NULL;

    if (packed != NULL) {
        dray__input__pack(input, packed);
        copy = dray__input__unpack(NULL, size, packed);
        free(packed);
    }
    return copy;
}

struct agent_job *job_get(struct agent *agent, uint32_t number)
{
    struct agent_job *job = job_find(agent, number);

    if (job == NULL) {
        job = calloc(1, sizeof(*job));
        if (job != NULL) {
            job->number = number;
            hash_add(&agent->jobs, &job->node, hash_mix(number));
        }
    }
    return job;
}

static int check_layer(const struct agent_event *event, struct error *err)
{
    uint64_t tasks = event->u.layer.tasks;

    if (tasks < 1 || tasks > GRAPH_TASKS_MAX || event->u.layer.inputs > GRAPH_INPUTS_MAX) {
        return error_set(err, EPROTO, "the broker sent a layer of %llu tasks and %zu inputs",
                         (unsigned long long)tasks, event->u.layer.inputs);
    }
    for (size_t k = 0; k < event->u.layer.inputs; k++) {
        const Dray__Input *input = event->u.layer.input[k];
        bool own = input_is_own(input, event->u.layer.layer);

        if ((!input->has_job && input->layer > event->u.layer.layer) ||
            (own && event->u.layer.input_tasks[k] != tasks) ||
            input_check(input, event->u.layer.tasks, event->u.layer.input_tasks[k], err) < 0 ||
            (own && input_check_own(input, event->u.layer.tasks, err) < 0)) {
            return error_set(err, EPROTO, "the broker sent layer %u of job %u with an impossible input %zu",
                             event->u.layer.layer, event->u.layer.job, k);
        }
    }
    return 0;
}

static int on_layer(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct agent_layer *layer = layer_find(agent, event->u.layer.job, event->u.layer.layer);
    struct agent_job *job;
    size_t inputs = event->u.layer.inputs;
    int rc = check_layer(event, err);

    if (rc < 0 || layer != NULL) {
        return rc;
    }
    job = job_get(agent, event->u.layer.job);
    layer = job != NULL ? calloc(1, sizeof(*layer)) : NULL;
    if (layer == NULL) {
        return error_no_memory(err);
    }
    layer->job = job;
    layer->number = event->u.layer.layer;
    layer->tasks = event->u.layer.tasks;
    layer->wanted = event->u.layer.wanted;
    layer->next = job->layers;
    job->layers = layer;
    hash_add(&agent->layers, &layer->node, hash_mix((uint64_t)job->number << 32 | layer->number));
    layer->input = calloc(inputs + 1, sizeof(*layer->input));
    layer->input_tasks = calloc(inputs + 1, sizeof(*layer->input_tasks));
    for (size_t k = 0; layer->input != NULL && layer->input_tasks != NULL && k < inputs; k++) {
        layer->input[k] = input_copy(event->u.layer.input[k]);
        if (layer->input[k] == NULL) {
            break;
        }
        layer->input_tasks[k] = event->u.layer.input_tasks[k];
        layer->inputs++;
    }
    if (layer->input == NULL || layer->input_tasks == NULL || layer->inputs < inputs) {
        layer_destroy(agent, layer);
        return error_no_memory(err);
    }
    return 0;
}

static void report_done(struct agent *agent, struct task_key key, uint64_t bytes, bool wanted)
{
    struct agent_action *action = action_push(agent, AGENT_REPORT_DONE, key);

    action->bytes = bytes;
    action->wanted = wanted;
}

static int assign_one(struct agent *agent, struct agent_layer *layer, uint32_t index, struct error *err)
{
    struct part *part = part_find(agent, layer->job->number, layer->number, index);
    struct task *task = task_find(agent, layer->job->number, layer->number, index);

    if (part != NULL && part->held) {
        if (!actions_reserve(agent, 1)) {
            return error_no_memory(err);
        }
        // The broker does not know, or this was a copy: it is ours to keep now.
        part_hold(agent, part, part->bytes, true);
        report_done(agent, part->key, part->bytes, layer->wanted);
        return 0;
    }
    if (task != NULL && task->layer != layer) {
        return error_set(err, EPROTO,
                         "the broker assigned task %u of job %u, layer %u, a job that it had ended", index,
                         layer->job->number, layer->number);
    }
    if (task != NULL) {
        task->again = task->state == AGENT_TASK_STOPPING;
        return 0;
    }
    return task_create(agent, layer, index) < 0 ? error_no_memory(err) : 0;
}

static int on_assign(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct agent_layer *layer = layer_find(agent, event->u.range.job, event->u.range.layer);
    uint32_t first = event->u.range.first;
    uint32_t count = event->u.range.count;
    size_t actions = agent->out->count;
    uint64_t sequence = agent->sequence;

    if (layer == NULL || first > layer->tasks || count > layer->tasks - first) {
        return error_set(err, EPROTO,
                         "the broker assigned tasks %u to %llu of job %u, layer %u, which is not known",
                         first, (unsigned long long)first + count, event->u.range.job, event->u.range.layer);
    }
    for (uint32_t i = first; i < first + count; i++) {
        int rc = assign_one(agent, layer, i, err);

        if (rc < 0) {
            for (uint32_t u = first; u < i; u++) {
                struct task *task = task_find(agent, layer->job->number, layer->number, u);

                if (task != NULL && task->sequence >= sequence) {
                    task_destroy(agent, task);
                }
            }
            agent->out->count = actions;
            return rc;
        }
    }
    return 0;
}

static int on_location(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct agent_job *job = job_find(agent, event->u.range.job);

    for (uint64_t n = 0; job != NULL && n < event->u.range.count; n++) {
        struct task_key key = {job->number, event->u.range.layer, (uint32_t)(event->u.range.first + n)};
        struct part *part = part_get(agent, job, key);

        if (part == NULL) {
            return error_no_memory(err);
        }
        part->located = true;
        part->location = event->u.range.worker;
        part_check(agent, part);
    }
    return 0;
}

static void drop_one(struct agent *agent, struct task *task, bool kill)
{
    if (task->state == AGENT_TASK_QUEUED || task->state == AGENT_TASK_READY) {
        action_push(agent, AGENT_REPORT_DROPPED, task->key);
        task_destroy(agent, task);
    } else if (kill && task->state == AGENT_TASK_RUNNING) {
        task->state = AGENT_TASK_STOPPING;
        action_push(agent, AGENT_CANCEL, task->key);
    } else if (kill) {
        task->again = false;
    }
}

static int on_drop(struct agent *agent, const struct agent_event *event, struct error *err)
{
    uint64_t first = event->u.range.first;
    uint64_t end = first + event->u.range.count;
    struct agent_job *job = job_find(agent, event->u.range.job);

    if (!actions_reserve(agent, agent->tasks.count)) {
        return error_no_memory(err);
    }
    if (event->u.range.count <= agent->tasks.count) {
        for (uint64_t i = first; i < end; i++) {
            struct task *task = task_find(agent, event->u.range.job, event->u.range.layer, (uint32_t)i);

            if (task != NULL) {
                drop_one(agent, task, event->u.range.kill);
            }
        }
        return 0;
    }
    for (struct task *task = job != NULL ? job->tasks : NULL, *next; task != NULL; task = next) {
        next = task->job_next;
        if (task->key.layer == event->u.range.layer && task->key.index >= first && task->key.index < end) {
            drop_one(agent, task, event->u.range.kill);
        }
    }
    return 0;
}

static int on_release(struct agent *agent, const struct agent_event *event, struct error *err)
{
    uint64_t first = event->u.range.first;
    uint64_t count = event->u.range.count;
    struct agent_job *job = job_find(agent, event->u.range.job);

    if (!actions_reserve(agent, count < agent->parts.count ? count : agent->parts.count)) {
        return error_no_memory(err);
    }
    if (count <= agent->parts.count) {
        for (uint64_t i = first; i < first + count; i++) {
            struct part *part = part_find(agent, event->u.range.job, event->u.range.layer, (uint32_t)i);

            if (part != NULL) {
                part_drop(agent, part);
            }
        }
        return 0;
    }
    for (struct part *part = job != NULL ? job->part_head : NULL; part != NULL; part = part->job_next) {
        if (part->key.layer == event->u.range.layer && part->key.index >= first &&
            part->key.index - first < count) {
            part_drop(agent, part);
        }
    }
    return 0;
}

static int on_forget_job(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct agent_job *job = job_find(agent, event->u.range.job);

    if (job == NULL) {
        return 0;
    }
    if (!actions_reserve(agent, agent->tasks.count + agent->parts.count + agent->layers.count)) {
        return error_no_memory(err);
    }
    while (job->tasks != NULL) {
        struct task *task = job->tasks;

        if (task->state == AGENT_TASK_QUEUED || task->state == AGENT_TASK_READY) {
            task_destroy(agent, task);
            continue;
        }
        if (task->state == AGENT_TASK_RUNNING) {
            action_push(agent, AGENT_CANCEL, task->key);
        }
        task_orphan(agent, task);
    }
    for (struct part *part = job->part_head, *next; part != NULL; part = next) {
        next = part->job_next;
        part_drop(agent, part);
        if (!part->fetching) {
            part_destroy(agent, part);
        } else {
            // Freed when it arrives.
            part->located = false;
            part->job = NULL;
            part->job_prev = part->job_next = NULL;
        }
    }
    while (job->layers != NULL) {
        action_push(agent, AGENT_FREE_LAYER, (struct task_key){job->number, job->layers->number, 0});
        layer_destroy(agent, job->layers);
    }
    hash_remove(&agent->jobs, &job->node);
    free(job);
    return 0;
}

// ---- events from the worker itself ------------------------------------------------------------

static int on_fetched(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct task_key key = event->u.task.key;
    struct part *part = part_find(agent, key.job, key.layer, key.index);

    if (!actions_reserve(agent, 1)) {
        return error_no_memory(err);
    }
    if (part == NULL || !part->fetching) {
        action_push(agent, AGENT_FREE, key);
        return 0;
    }
    part->fetching = false;
    agent->fetching--;
    part->sticky = part->sticky && part->job != NULL;
    if (!part->held) {
        part_hold(agent, part, event->u.task.bytes, false);
    }
    part_check(agent, part);
    return 0;
}

static int on_fetch_failed(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct task_key key = event->u.task.key;
    struct part *part = part_find(agent, key.job, key.layer, key.index);

    (void)err;
    if (part != NULL && part->fetching) {
        part->fetching = false;
        agent->fetching--;
        // Another place may have been named meanwhile.
        part->located = part->located && part->location != part->fetch_from;
        part_check(agent, part);
    }
    return 0;
}

static int on_task_done(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct task_key key = event->u.task.key;
    struct task *task = task_find(agent, key.job, key.layer, key.index);

    if (!actions_reserve(agent, 1)) {
        return error_no_memory(err);
    }
    if (task == NULL || (task->state != AGENT_TASK_RUNNING && task->state != AGENT_TASK_STOPPING)) {
        return 0;
    }
    if (task->state == AGENT_TASK_STOPPING && !task->again) {
        struct part *part = part_find(agent, key.job, key.layer, key.index);

        // A copy of it may have come while it was being stopped.
        if (part == NULL || !part->held) {
            action_push(agent, AGENT_FREE, key);
        }
    } else {
        struct part *part = part_find(agent, key.job, key.layer, key.index);

        if (part == NULL) {
            part = task->spare;
            task->spare = NULL;
            part_enter(agent, task->layer->job, key, part);
        }
        part_hold(agent, part, event->u.task.bytes, true);
        if (agent->connected) {
            report_done(agent, key, event->u.task.bytes, task->layer->wanted);
        }
    }
    task_destroy(agent, task);
    return 0;
}

static int on_task_failed(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct task_key key = event->u.task.key;
    struct task *task = task_find(agent, key.job, key.layer, key.index);

    if (!actions_reserve(agent, 1)) {
        return error_no_memory(err);
    }
    if (task == NULL || (task->state != AGENT_TASK_RUNNING && task->state != AGENT_TASK_STOPPING)) {
        return 0;
    }
    if (task->state == AGENT_TASK_STOPPING && task->again) {
        task_restart(agent, task);
        return 0;
    }
    if (task->state == AGENT_TASK_RUNNING && agent->connected) {
        struct agent_action *action = action_push(agent, AGENT_REPORT_FAILED, key);
        char *text = arena_strdup(&agent->arena, event->u.task.text != NULL ? event->u.task.text : "");

        action->code = event->u.task.code;
        action->text = text != NULL ? text : "the task failed; there was no memory to say why";
    }
    task_destroy(agent, task);
    return 0;
}

static int (*const handlers[])(struct agent *, const struct agent_event *, struct error *) = {
    [AGENT_CONNECTED] = on_connected, [AGENT_DISCONNECTED] = on_disconnected,
    [AGENT_LAYER] = on_layer,         [AGENT_ASSIGN] = on_assign,
    [AGENT_LOCATION] = on_location,   [AGENT_DROP] = on_drop,
    [AGENT_RELEASE] = on_release,     [AGENT_FORGET_JOB] = on_forget_job,
    [AGENT_FETCHED] = on_fetched,     [AGENT_FETCH_FAILED] = on_fetch_failed,
    [AGENT_TASK_DONE] = on_task_done, [AGENT_TASK_FAILED] = on_task_failed,
};

int agent_step(struct agent *agent, const struct agent_event *events, size_t count,
               struct agent_actions *actions, struct error *err)
{
    int rc = 0;

    arena_reset(&agent->arena);
    actions->count = 0;
    actions->events_taken = 0;
    agent->out = actions;
    for (size_t k = 0; rc == 0 && k < count; k++) {
        rc = handlers[events[k].type](agent, &events[k], err);
        actions->events_taken += rc == 0 ? 1 : 0;
    }
    // Each part is freed or fetched once, each task reported or run once.  Without room for
    // that it is left for the next step.
    if (actions_reserve(agent, 2 * (agent->copies + agent->tasks.count))) {
        parts_settle(agent);
        tasks_run(agent);
        parts_fetch(agent);
    } else if (rc == 0) {
        rc = error_no_memory(err);
    }
    agent->out = NULL;
    return rc;
}

void agent_counts(const struct agent *agent, struct agent_counts *counts)
{
    *counts = (struct agent_counts){
        .queued = agent->waiting,
        .running = agent->running,
        .fetching = agent->fetching,
        .partitions = agent->held,
    };
}
