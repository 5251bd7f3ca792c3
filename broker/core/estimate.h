// How long tasks last: learnt from those that are done, shared by layers of the same operation.  Private to
// broker/core.
#ifndef DRAY_BROKER_CORE_ESTIMATE_H
#define DRAY_BROKER_CORE_ESTIMATE_H

#include "broker/core/state.h"

// What a task of the layer is taken to last, in CHARGE_NS; at least 1.
uint32_t layer_charge(struct layer *layer);
// So many tasks of it are done that ran for so long altogether.
void layer_learn(struct layer *layer, uint32_t tasks, uint64_t busy_us);

// Something is known of its tasks.
bool layer_is_learnt(const struct layer *layer);

#endif
