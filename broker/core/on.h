// Handlers of events, parted by who speaks: on_worker.c, on_client.c.  -ENOMEM: the event that
// met it has been undone.  Private to broker/core.
#ifndef DRAY_BROKER_CORE_ON_H
#define DRAY_BROKER_CORE_ON_H

#include "broker/core/state.h"

// The layer of a range from a peer; NULL when job, layer or range is not there.
struct layer *range_layer(const struct sched *sched, const struct task_range *range);

int on_worker_joined(struct sched *sched, const struct sched_event *event);
int on_worker_left(struct sched *sched, const struct sched_event *event);
int on_worker_status(struct sched *sched, const struct sched_event *event);
int on_sources(struct sched *sched, const struct sched_event *event);
int on_holding(struct sched *sched, const struct sched_event *event);
int on_tasks_done(struct sched *sched, const struct sched_event *event);
int on_task_failed(struct sched *sched, const struct sched_event *event);
int on_tasks_dropped(struct sched *sched, const struct sched_event *event);
int on_worker_leaving(struct sched *sched, const struct sched_event *event);
int on_result_lost(struct sched *sched, const struct sched_event *event);

int on_client_joined(struct sched *sched, const struct sched_event *event);
int on_client_left(struct sched *sched, const struct sched_event *event);
int on_submit(struct sched *sched, const struct sched_event *event);
int on_cancel(struct sched *sched, const struct sched_event *event);
int on_free(struct sched *sched, const struct sched_event *event);
int on_extend(struct sched *sched, const struct sched_event *event);
int on_attach(struct sched *sched, const struct sched_event *event);
int on_keep(struct sched *sched, const struct sched_event *event);
int on_expect(struct sched *sched, const struct sched_event *event);
int on_restore_tasks(struct sched *sched, const struct sched_event *event);
int on_restore_job(struct sched *sched, const struct sched_event *event);
int on_client_full(struct sched *sched, const struct sched_event *event);

#endif
