// The helper process of a plugin: loads it, says what it is, then runs batches of calls until nobody speaks
// to it any more.
#ifndef DRAY_WORKER_HOST_CALLER_H
#define DRAY_WORKER_HOST_CALLER_H

#include <stdint.h>

// With the descriptors of channel.h in place.  memory: limit of its private memory in bytes; 0: none.  The
// exit code.
int caller_main(const char *path, uint64_t memory);

#endif
