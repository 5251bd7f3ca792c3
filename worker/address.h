// Where a worker's exchange listens when nobody has said.
#ifndef DRAY_WORKER_ADDRESS_H
#define DRAY_WORKER_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

#define ADDRESS_MAX 512

// ipc: a name of its own in the broker's folder.  tcp: any port of the address that this
// machine uses on its way to the broker.
int address_choose(const char *broker, uint64_t incarnation, char out[ADDRESS_MAX], struct error *err);

#endif
