// Until the scheduler answers these: weak, so that the real ones replace them.
#include <errno.h>

#include "broker/core/sched.h"

__attribute__((weak)) int sched_job_info(const struct sched *sched, uint32_t job, struct sched_job *out)
{
    (void)sched;
    (void)job;
    (void)out;
    return -ENOENT;
}

__attribute__((weak)) int sched_layer_info(const struct sched *sched, uint32_t job, uint32_t layer,
                                           struct sched_layer *out)
{
    (void)sched;
    (void)job;
    (void)layer;
    (void)out;
    return -ENOENT;
}

__attribute__((weak)) size_t sched_jobs(const struct sched *sched, uint32_t after, uint32_t *number, size_t room)
{
    (void)sched;
    (void)after;
    (void)number;
    (void)room;
    return 0;
}
