// Workers with so little memory that copies of partitions are in each other's way: there is room for what any
// one task needs, and for little more.  So no task may fail for want of it.
#include "tests/sim/world.h"

static uint32_t needs_of(const struct plan *plan, uint32_t layer, uint32_t index)
{
    const Dray__Layer *of = plan->graph->layer[layer];
    uint32_t count = 0;

    for (size_t k = 0; k < of->n_input; k++) {
        uint32_t tasks;

        plan_source(plan, of->input[k], &tasks);
        count += input_needs(of->input[k], of->tasks, tasks, index).count;
    }
    return count;
}

void tight_begin(struct world *world)
{
    uint32_t most = 1;

    for (uint32_t p = 0; p < world->plans; p++) {
        const struct plan *plan = &world->plan[p];

        for (uint32_t l = 0; l < plan->graph->n_layer; l++) {
            for (uint32_t i = 0; i < plan->graph->layer[l]->tasks; i++) {
                uint32_t needs = needs_of(plan, l, i);

                most = needs > most ? needs : most;
            }
        }
    }
    world->room = most + random_below(&world->random, 4);
}

bool host_has_room(const struct world *world, const struct host *host)
{
    uint64_t own = agent_own(host->agent, NULL, NULL);

    return world->room == 0 || host->store.count < own + world->room;
}
