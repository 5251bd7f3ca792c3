// Jobs and layers: told ones, and those that told ones read.
#include <errno.h>
#include <stdlib.h>

#include "worker/core/state.h"

struct agent_job *agent_job_find(const struct agent *agent, uint32_t number)
{
    struct hash_node *node = hash_first(&agent->jobs, hash_mix(number));

    return node != NULL ? hash_entry(node, struct agent_job, node) : NULL;
}

static struct agent_job *job_get(struct agent *agent, uint32_t number)
{
    struct agent_job *job = agent_job_find(agent, number);

    if (job == NULL) {
        job = calloc(1, sizeof(*job));
        if (job != NULL) {
            job->number = number;
            hash_add(&agent->jobs, &job->node, hash_mix(number));
        }
    }
    return job;
}

static void job_destroy(struct agent *agent, struct agent_job *job)
{
    hash_remove(&agent->jobs, &job->node);
    free(job);
}

// The hash is one to one.
static uint64_t layer_hash(uint32_t job, uint32_t number)
{
    return hash_mix((uint64_t)job << 32 | number);
}

struct agent_layer *layer_find(const struct agent *agent, uint32_t job, uint32_t number)
{
    struct hash_node *node = hash_first(&agent->layers, layer_hash(job, number));

    return node != NULL ? hash_entry(node, struct agent_layer, node) : NULL;
}

static struct agent_layer *layer_get(struct agent *agent, uint32_t job_number, uint32_t number,
                                     uint32_t tasks)
{
    struct agent_layer *layer = layer_find(agent, job_number, number);
    struct agent_job *job;

    if (layer != NULL) {
        return layer;
    }
    job = job_get(agent, job_number);
    layer = job != NULL ? calloc(1, sizeof(*layer)) : NULL;
    if (layer != NULL) {
        layer->blocks = (tasks - 1) / BLOCK_CELLS + 1;
        layer->block = calloc(layer->blocks, sizeof(struct block *));
    }
    if (layer == NULL || layer->block == NULL) {
        free(layer);
        if (job != NULL && job->layers == NULL) {
            job_destroy(agent, job);
        }
        return NULL;
    }
    layer->job = job;
    layer->number = number;
    layer->tasks = tasks;
    layer->next = job->layers;
    job->layers = layer;
    hash_add(&agent->layers, &layer->node, layer_hash(job_number, number));
    return layer;
}

static void unlink_input(struct link *link)
{
    if (link->source == NULL) {
        return;
    }
    if (link->prev != NULL) {
        link->prev->next = link->next;
    } else {
        link->source->users = link->next;
    }
    if (link->next != NULL) {
        link->next->prev = link->prev;
    }
    link->source = NULL;
    link->prev = link->next = NULL;
}

static void forget_inputs(struct agent_layer *layer)
{
    for (size_t k = 0; k < layer->inputs; k++) {
        unlink_input(&layer->input[k]);
        edge_index_destroy(layer->input[k].reverse);
        if (layer->input[k].input != NULL) {
            dray__input__free_unpacked(layer->input[k].input, NULL);
        }
    }
    free(layer->input);
    free(layer->takes);
    layer->input = NULL;
    layer->takes = NULL;
    layer->inputs = 0;
    layer->told = false;
}

// Nothing is said of what it held: see layer_clear.
static void layer_destroy(struct agent *agent, struct agent_layer *layer)
{
    struct agent_job *job = layer->job;
    struct agent_layer **at = &job->layers;

    while (*at != layer) {
        at = &(*at)->next;
    }
    *at = layer->next;
    hash_remove(&agent->layers, &layer->node);
    forget_inputs(layer);
    for (uint32_t b = 0; b < layer->blocks; b++) {
        if (layer->block[b] != NULL) {
            block_destroy(layer->block[b]);
        }
    }
    free(layer->block);
    free(layer);
    if (job->layers == NULL) {
        job_destroy(agent, job);
    }
}

void layers_destroy(struct agent *agent)
{
    struct hash_node *node;

    // First all links: a layer may outlive its source here.
    for (size_t b = 0; b <= agent->layers.mask; b++) {
        for (node = agent->layers.bucket[b]; node != NULL; node = node->next) {
            forget_inputs(hash_entry(node, struct agent_layer, node));
        }
    }
    while ((node = hash_any(&agent->layers)) != NULL) {
        layer_destroy(agent, hash_entry(node, struct agent_layer, node));
    }
}

// ---- learning ----------------------------------------------------------------------------

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

static int check_input(const struct agent *agent, const struct agent_event *event, size_t k,
                       struct error *err)
{
    const Dray__Input *input = event->u.layer.input[k];
    uint32_t tasks = event->u.layer.input_tasks[k];
    bool own = input_is_own(input, event->u.layer.layer);
    const struct agent_layer *source =
        layer_find(agent, input->has_job ? input->job : event->u.layer.job, input->layer);

    if ((!input->has_job && input->layer > event->u.layer.layer) || tasks < 1 || tasks > GRAPH_TASKS_MAX ||
        (own && tasks != event->u.layer.tasks) || (!own && input->pattern == DRAY__PATTERN__LAG) ||
        (source != NULL && source->tasks != tasks)) {
        return error_set(err, EPROTO, "input %zu is layer %u of %u tasks", k, input->layer, tasks);
    }
    if (input_check(input, event->u.layer.tasks, tasks, err) < 0 ||
        (own && input_check_own(input, tasks, err) < 0)) {
        return -EPROTO;
    }
    return 0;
}

static int check_layer(const struct agent *agent, const struct agent_event *event, struct error *err)
{
    uint64_t tasks = event->u.layer.tasks;

    if (tasks < 1 || tasks > GRAPH_TASKS_MAX || event->u.layer.inputs > GRAPH_INPUTS_MAX) {
        return error_set(err, EPROTO, "the broker sent a layer of %llu tasks and %zu inputs",
                         (unsigned long long)tasks, event->u.layer.inputs);
    }
    for (size_t k = 0; k < event->u.layer.inputs; k++) {
        struct error why = {0};

        if (check_input(agent, event, k, &why) < 0) {
            return error_set(err, EPROTO,
                             "the broker sent layer %u of job %u with an impossible input %zu: %s",
                             event->u.layer.layer, event->u.layer.job, k, why.text);
        }
    }
    return 0;
}

static int link_input(struct agent *agent, struct agent_layer *layer, struct link *link,
                      const Dray__Input *input, uint32_t tasks)
{
    struct agent_layer *source =
        layer_get(agent, input->has_job ? input->job : layer->job->number, input->layer, tasks);

    link->layer = layer;
    link->input = source != NULL ? input_copy(input) : NULL;
    if (link->input == NULL) {
        return -ENOMEM;
    }
    if (input->pattern == DRAY__PATTERN__EXPLICIT) {
        link->reverse = edge_index_create(link->input, layer->tasks, tasks);
        if (link->reverse == NULL) {
            return -ENOMEM;
        }
    }
    link->source = source;
    link->next = source->users;
    if (source->users != NULL) {
        source->users->prev = link;
    }
    source->users = link;
    return 0;
}

void layers_tidy(struct agent *agent)
{
    agent->strangers = false;
    for (size_t b = 0; b <= agent->layers.mask; b++) {
        struct hash_node *next;

        for (struct hash_node *node = agent->layers.bucket[b]; node != NULL; node = next) {
            struct agent_layer *layer = hash_entry(node, struct agent_layer, node);
            bool empty = !layer->told && layer->users == NULL;

            next = node->next;
            for (uint32_t k = 0; empty && k < layer->blocks; k++) {
                empty = layer->block[k] == NULL;
            }
            if (empty) {
                layer_destroy(agent, layer);
            }
        }
    }
}

int agent_layer_learn(struct agent *agent, const struct agent_event *event, struct error *err)
{
    struct agent_layer *layer = layer_find(agent, event->u.layer.job, event->u.layer.layer);
    size_t inputs = event->u.layer.inputs;
    int rc = check_layer(agent, event, err);

    if (layer != NULL) {
        layer->job->stale = false;
    }
    if (rc < 0 || (layer != NULL && layer->told)) {
        return rc;
    }
    if (layer != NULL && layer->tasks != event->u.layer.tasks) {
        return error_set(err, EPROTO, "the broker sent layer %u of job %u with %u tasks, which had %u",
                         layer->number, layer->job->number, event->u.layer.tasks, layer->tasks);
    }
    layer = layer_get(agent, event->u.layer.job, event->u.layer.layer, event->u.layer.tasks);
    if (layer == NULL) {
        return error_no_memory(err);
    }
    layer->job->stale = false;
    layer->input = calloc(inputs + 1, sizeof(*layer->input));
    rc = layer->input == NULL ? -ENOMEM : 0;
    for (size_t k = 0; rc == 0 && k < inputs; k++) {
        layer->inputs++;
        rc = link_input(agent, layer, &layer->input[k], event->u.layer.input[k],
                        event->u.layer.input_tasks[k]);
    }
    rc = rc == 0 ? layer_asks(agent, layer, event) : rc;
    if (rc < 0) {
        forget_inputs(layer);
        layers_tidy(agent);
        return error_no_memory(err);
    }
    layer->told = true;
    layer->ns = event->u.layer.instant ? INSTANT_NS : 0;
    layer->bundle_max = event->u.layer.instant ? BUNDLE_TASKS : 1;
    return 0;
}

void layer_measure(struct agent_layer *layer, uint32_t tasks, uint64_t busy_ns)
{
    uint64_t ns = busy_ns / tasks;

    if (busy_ns == 0) {
        return;
    }
    ns = ns > 0 ? ns : 1;
    // What became slower is believed at once.
    layer->ns = layer->ns == 0 || ns > 2 * layer->ns ? ns : (3 * layer->ns + ns) / 4;
    if (layer->bundle_max < BUNDLE_TASKS) {
        layer->bundle_max *= BUNDLE_GROWTH;
    }
}

// ---- forgetting --------------------------------------------------------------------------

static bool layer_clear(struct agent *agent, struct agent_layer *layer)
{
    for (uint32_t b = 0; b < layer->blocks; b++) {
        struct block *block = layer->block[b];

        if (block == NULL) {
            continue;
        }
        if (!actions_reserve(agent, BLOCK_CELLS)) {
            return false;
        }
        tasks_leave(agent, block, block->queued | block->ready);
        action_mask(agent, AGENT_CANCEL, block, block->running & ~block->stopping);
        tasks_over(agent, block, block->running);
        copies_forget(agent, block); // nobody asks any more
        parts_drop(agent, block, block->held);
        agent->orphans += popcount(block->fetching);
        block->fetching = 0;
        block_leave_line(agent, block, block->line);
        block->located = 0;
        block_check(agent, block, bits(0, block->cells));
    }
    return true;
}

// Nothing points to its blocks any more.
static void leave_checks(struct agent *agent, const struct agent_job *job)
{
    struct block **at = &agent->checks;

    while (*at != NULL) {
        struct block *block = *at;

        if (block->layer->job == job && block->layer->users == NULL) {
            *at = block->check_next;
            block->in_checks = false;
        } else {
            at = &block->check_next;
        }
    }
}

int agent_job_forget(struct agent *agent, struct agent_job *job)
{
    struct agent_layer *next;
    size_t layers = 0;

    for (struct agent_layer *layer = job->layers; layer != NULL; layer = layer->next) {
        if (!layer_clear(agent, layer)) {
            return -ENOMEM;
        }
        layers++;
    }
    if (!actions_reserve(agent, layers)) {
        return -ENOMEM;
    }
    for (struct agent_layer *layer = job->layers; layer != NULL; layer = layer->next) {
        if (layer->told) {
            action_push(agent, AGENT_FREE_LAYER)->u.range =
                (struct agent_range){job->number, layer->number, 0, layer->tasks};
        }
        for (size_t k = 0; k < layer->inputs; k++) {
            struct agent_layer *source = layer->input[k].source;

            // Copies that its tasks might have needed.
            for (uint32_t b = 0; source->job != job && b < source->blocks; b++) {
                if (source->block[b] != NULL) {
                    block_check(agent, source->block[b], bits(0, source->block[b]->cells));
                }
            }
            agent->strangers = agent->strangers || source->job != job;
        }
        forget_inputs(layer);
    }
    // Tasks of other jobs may read it all the same.
    leave_checks(agent, job);
    for (struct agent_layer *layer = job->layers; layer != NULL; layer = next) {
        next = layer->next;
        if (layer->users == NULL) {
            layer_destroy(agent, layer); // the last one takes the job along
        }
    }
    return 0;
}

static bool is_read_by_others(const struct agent_layer *layer)
{
    const struct link *link = layer->users;

    while (link != NULL && link->layer->job == layer->job) {
        link = link->next;
    }
    return link != NULL;
}

// Is anything of it here, but copies that nobody else reads?
static bool job_is_empty(const struct agent_job *job)
{
    for (const struct agent_layer *layer = job->layers; layer != NULL; layer = layer->next) {
        bool read = is_read_by_others(layer);

        for (uint32_t b = 0; b < layer->blocks; b++) {
            const struct block *block = layer->block[b];

            if (block != NULL && (read || (block->queued | block->ready | block->running | block->own |
                                           block->copying | block->fetching) != 0)) {
                return false;
            }
        }
    }
    return true;
}

void jobs_age(struct agent *agent)
{
    for (size_t b = 0; b <= agent->jobs.mask; b++) {
        for (struct hash_node *node = agent->jobs.bucket[b]; node != NULL; node = node->next) {
            hash_entry(node, struct agent_job, node)->stale = true;
            agent->stale = true;
        }
    }
}

int jobs_tidy(struct agent *agent)
{
    bool left = false;

    for (size_t b = 0; agent->stale && b <= agent->jobs.mask; b++) {
        struct hash_node *next;

        for (struct hash_node *node = agent->jobs.bucket[b]; node != NULL; node = next) {
            struct agent_job *job = hash_entry(node, struct agent_job, node);

            next = node->next;
            if (job->stale && job_is_empty(job)) {
                if (agent_job_forget(agent, job) < 0) {
                    return -ENOMEM;
                }
            } else {
                left = left || job->stale;
            }
        }
    }
    agent->stale = left;
    return 0;
}
