// Whether a process of the same host is alive, for who is not its parent.
#ifndef DRAY_PROTO_VITAL_H
#define DRAY_PROTO_VITAL_H

#include <stdbool.h>
#include <stdint.h>

#define VITAL_HOST_MAX 96

// Names the host as it runs, and the namespace of process numbers that this process sees: processes that say
// the same can be watched by one another.  "": not known.
void vital_host(char host[VITAL_HOST_MAX]);
// A file descriptor for vital_ended, the caller's to close.  -1: the process says that it is elsewhere (or
// nothing at all), or has ended already.  What it says is not proven: use it for nothing that matters to
// others.
int vital_watch(const char *host, uint32_t pid);
bool vital_ended(int fd);
// What tells a process of this host from a later one with its number; 0: not known.
uint64_t vital_birth(uint32_t pid);
// As vital_watch, of one that was met before.  -ESRCH: it has ended since, whoever has its number now.
// -ENOENT: it was elsewhere, or nothing can be said of it.
int vital_find(const char *host, uint32_t pid, uint64_t birth);

#endif
