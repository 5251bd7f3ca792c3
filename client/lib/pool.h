// Pools (dray.h): tasks that are submitted one by one leave in layers.
#ifndef DRAY_CLIENT_LIB_POOL_H
#define DRAY_CLIENT_LIB_POOL_H

#include <stdbool.h>

#include "client/include/dray.h"
#include "proto/error.h"

// Sends what the pools of a connection (a list; NULL: none) have gathered, as far as the broker takes
// messages.
int pools_flush(dray_pool_t *pools, struct error *err);
// The same, and waits until it does.
int pools_push(dray_pool_t *pools, struct error *err);
// Something is left to be sent.
bool pools_waiting(const dray_pool_t *pools);
// At the end of the connection; detached pools' tasks are sent.
void pools_destroy(dray_pool_t *pools);

#endif
