#include "worker/bundle.h"

#include <errno.h>
#include <stdlib.h>

struct bundle *bundle_create(uint64_t epoch, uint32_t number, size_t ranges_max)
{
    struct bundle *bundle = calloc(1, sizeof(*bundle));

    if (bundle == NULL) {
        return NULL;
    }
    bundle->epoch = epoch;
    bundle->number = number;
    bundle->ranges_max = ranges_max;
    bundle->range = malloc((ranges_max + 1) * sizeof(*bundle->range));
    bundle->outcomes = outcomes_create(bundle);
    if (bundle->range == NULL || bundle->outcomes == NULL) {
        bundle_destroy(bundle);
        return NULL;
    }
    return bundle;
}

void bundle_destroy(struct bundle *bundle)
{
    if (bundle == NULL) {
        return;
    }
    for (size_t r = 0; r < bundle->ranges; r++) {
        layer_unref(bundle->range[r].layer);
    }
    outcomes_destroy(bundle->outcomes);
    free(bundle->range);
    free(bundle->state);
    free(bundle->cancelled);
    free(bundle);
}

void bundle_add(struct bundle *bundle, struct layer *layer, uint32_t first, uint32_t count)
{
    bundle->range[bundle->ranges++] = (struct bundle_range){layer_ref(layer), first, count, bundle->tasks};
    bundle->tasks += count;
}

int bundle_ready(struct bundle *bundle)
{
    bundle->state = calloc(bundle->tasks + 1, sizeof(*bundle->state));
    bundle->cancelled = calloc(bundle->tasks + 1, sizeof(*bundle->cancelled));
    return bundle->state != NULL && bundle->cancelled != NULL ? 0 : -ENOMEM;
}

bool bundle_start(struct bundle *bundle, uint32_t task)
{
    uint8_t waiting = BUNDLE_WAITING;

    return atomic_compare_exchange_strong_explicit(&bundle->state[task], &waiting, BUNDLE_STARTED,
                                                   memory_order_acq_rel, memory_order_acquire);
}

bool bundle_withdraw(struct bundle *bundle, uint32_t task)
{
    uint8_t waiting = BUNDLE_WAITING;

    return atomic_compare_exchange_strong_explicit(&bundle->state[task], &waiting, BUNDLE_WITHDRAWN,
                                                   memory_order_acq_rel, memory_order_acquire);
}

// ---- outcomes ---------------------------------------------------------------------

struct outcomes *outcomes_create(struct bundle *bundle)
{
    struct outcomes *outcomes = calloc(1, sizeof(*outcomes));

    if (outcomes != NULL) {
        outcomes->bundle = bundle;
    }
    return outcomes;
}

void outcomes_destroy(struct outcomes *outcomes)
{
    if (outcomes == NULL) {
        return;
    }
    for (size_t i = 0; i < outcomes->count; i++) {
        free(outcomes->outcome[i].text);
    }
    free(outcomes->outcome);
    if (outcomes->over) {
        bundle_destroy(outcomes->bundle);
    }
    free(outcomes);
}

int outcomes_add(struct outcomes *outcomes, const struct outcome *outcome)
{
    struct outcome *last = outcomes->count > 0 ? &outcomes->outcome[outcomes->count - 1] : NULL;

    if (last != NULL && outcome->kind != OUTCOME_FAILED && last->kind == outcome->kind &&
        last->layer == outcome->layer && last->first + last->count == outcome->first) {
        last->count += outcome->count;
        last->busy_ns += outcome->busy_ns;
        last->rows += outcome->rows;
        last->source_bytes += outcome->source_bytes;
        return 0;
    }
    if (outcomes->count == outcomes->capacity) {
        size_t capacity = outcomes->capacity == 0 ? 8 : outcomes->capacity * 2;
        struct outcome *grown = realloc(outcomes->outcome, capacity * sizeof(*grown));

        if (grown == NULL) {
            outcomes->lost = true;
            return -ENOMEM;
        }
        outcomes->outcome = grown;
        outcomes->capacity = capacity;
    }
    outcomes->outcome[outcomes->count++] = *outcome;
    return 0;
}
