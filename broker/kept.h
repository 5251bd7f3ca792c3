// Names under which jobs are kept, whatever becomes of their clients.  A job may have several.
#ifndef DRAY_BROKER_KEPT_H
#define DRAY_BROKER_KEPT_H

#include "proto/error.h"
#include "proto/hash.h"

#define KEPT_NAME_MAX 255
#define KEPT_MAX 100000 // names

struct kept_name {
    struct hash_node by_name;
    struct hash_node by_job;
    uint32_t job;
    uint64_t serial; // no other one has it, nor had
    char name[];
};

struct kept {
    struct hash by_name;
    struct hash by_job;
    uint64_t serial; // of the last one
};

void kept_init(struct kept *kept);
void kept_fini(struct kept *kept);
// 1: it is now; 0: it was already, for this job.  -EEXIST: another job has the name; -EINVAL: nothing that
// one could type; -ENOSPC; -ENOMEM.
int kept_add(struct kept *kept, const char *name, uint32_t job, struct error *err);
uint32_t kept_find(const struct kept *kept, const char *name);   // its job; 0: none
uint64_t kept_serial(const struct kept *kept, const char *name); // 0: none
uint32_t kept_remove(struct kept *kept, const char *name);       // the job that had it; 0: none
void kept_forget_job(struct kept *kept, uint32_t job);
// All names of a job: kept_first, then kept_next until NULL.  Newest first.
const struct kept_name *kept_first(const struct kept *kept, uint32_t job);
const struct kept_name *kept_next(const struct kept_name *name);

#endif
