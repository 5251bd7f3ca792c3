// Amounts of resources: what runs at once takes no more than there is, whatever was assigned.
#include <stdlib.h>
#include <string.h>

#include "worker/core/state.h"

int stocks_create(struct agent *agent)
{
    size_t count = agent->options.resources;

    agent->stock = calloc(count + 1, sizeof(*agent->stock));
    agent->slot_takes = calloc(count * agent->options.threads + 1, sizeof(*agent->slot_takes));
    if (agent->stock == NULL || agent->slot_takes == NULL) {
        return -1;
    }
    for (size_t k = 0; k < count; k++) {
        agent->stock[k].name = strdup(agent->options.resource[k].name);
        agent->stock[k].amount = agent->stock[k].left = agent->options.resource[k].amount;
        if (agent->stock[k].name == NULL) {
            return -1;
        }
    }
    return 0;
}

void stocks_destroy(struct agent *agent)
{
    for (size_t k = 0; agent->stock != NULL && k < agent->options.resources; k++) {
        free(agent->stock[k].name);
    }
    free(agent->stock);
    free(agent->slot_takes);
}

// What there is not, or not so much of, the broker does not ask for: if it does, all there is will do.
int layer_asks(const struct agent *agent, struct agent_layer *layer, const struct agent_event *event)
{
    size_t stocks = agent->options.resources;

    if (event->u.layer.resources == 0 || stocks == 0) {
        return 0;
    }
    layer->takes = calloc(stocks, sizeof(*layer->takes));
    if (layer->takes == NULL) {
        return -1;
    }
    for (size_t k = 0; k < stocks; k++) {
        const struct stock *stock = &agent->stock[k];
        uint64_t amount = 0;

        for (size_t r = 0; r < event->u.layer.resources; r++) {
            const Dray__Resource *resource = event->u.layer.resource[r];

            amount += strcmp(resource->name, stock->name) == 0 ? resource->amount : 0;
        }
        layer->takes[k] = amount < stock->amount ? (uint32_t)amount : stock->amount;
    }
    return 0;
}

bool stocks_suffice(const struct agent *agent, const struct agent_layer *layer)
{
    for (size_t k = 0; layer->takes != NULL && k < agent->options.resources; k++) {
        if (layer->takes[k] > agent->stock[k].left) {
            return false;
        }
    }
    return true;
}

void stocks_take(struct agent *agent, const struct agent_layer *layer, uint32_t slot)
{
    uint32_t *takes = agent->slot_takes + slot * agent->options.resources;

    for (size_t k = 0; layer->takes != NULL && k < agent->options.resources; k++) {
        takes[k] = layer->takes[k];
        agent->stock[k].left -= takes[k];
    }
}

void stocks_give(struct agent *agent, uint32_t slot)
{
    uint32_t *takes = agent->slot_takes + slot * agent->options.resources;

    for (size_t k = 0; k < agent->options.resources; k++) {
        if (takes[k] > 0) {
            agent->stock[k].left += takes[k];
            takes[k] = 0;
            order_unpark(agent);
        }
    }
}
