// What only wide worlds have: edges within a layer, partitions of other jobs, demands.
#include "tests/sim/plan.h"

#include <string.h>

char plan_resource[PLAN_RESOURCES][8] = {"gpu", "disk"};
char plan_label[PLAN_LABELS][12] = {"x", "y", "plugin:p"};

const struct plan *plan_source(const struct plan *plan, const Dray__Input *input, uint32_t *tasks)
{
    const struct plan *from = input->has_job ? plan->other : plan;

    *tasks = from->build.layer[input->layer]->tasks;
    return from;
}

static void own_input(struct plan *plan, struct random *random, uint32_t layer)
{
    uint32_t tasks = plan->build.layer[layer]->tasks;

    if (random_percent(random, 50)) {
        build_input(&plan->build, layer, layer, DRAY__PATTERN__LAG, random_between(random, 1, 4));
    } else {
        plan_edges(plan, random, layer, build_input(&plan->build, layer, layer, DRAY__PATTERN__EXPLICIT, 0),
                   tasks, true);
    }
}

static void foreign_input(struct plan *plan, struct random *random, uint32_t layer)
{
    const struct build *build = &plan->other->build;
    uint32_t source = random_below(random, (uint32_t)build->graph.n_layer);
    uint32_t tasks = build->layer[source]->tasks;
    Dray__Input *input = build_input(&plan->build, layer, source, DRAY__PATTERN__ALL, 0);

    input->has_job = input->has_job_tasks = true;
    input->job = 1; // until it is submitted
    input->job_tasks = tasks;
    if (tasks == plan->build.layer[layer]->tasks && random_percent(random, 50)) {
        input->pattern = DRAY__PATTERN__ONE_TO_ONE;
    } else if (random_percent(random, 70)) {
        input->pattern = DRAY__PATTERN__EXPLICIT;
        plan_edges(plan, random, layer, input, tasks, false);
    }
}

static void demands(struct plan *plan, struct random *random, uint32_t layer)
{
    Dray__Layer *at = plan->build.layer[layer];

    at->resource = build_alloc(&plan->build, PLAN_RESOURCES, sizeof(Dray__Resource *));
    at->worker = build_alloc(&plan->build, PLAN_LABELS, sizeof(char *));
    for (uint32_t k = 0; k < PLAN_RESOURCES; k++) {
        if (random_percent(random, 30)) {
            Dray__Resource *resource = build_alloc(&plan->build, 1, sizeof(*resource));

            dray__resource__init(resource);
            resource->name = plan_resource[k];
            resource->amount = random_between(random, 1, AMOUNT_MAX);
            at->resource[at->n_resource++] = resource;
        }
    }
    for (uint32_t k = 0; k < PLAN_LABELS; k++) {
        if (random_percent(random, 30)) {
            at->worker[at->n_worker++] = plan_label[k];
        }
    }
}

void plan_widen(struct plan *plan, struct random *random, const struct plan *other)
{
    uint32_t layer = (uint32_t)plan->build.graph.n_layer - 1;

    if (random_percent(random, 20)) {
        own_input(plan, random, layer);
    }
    if (other != NULL && random_percent(random, 30)) {
        foreign_input(plan, random, layer);
    }
    if (random_percent(random, 30)) {
        demands(plan, random, layer);
    }
}
