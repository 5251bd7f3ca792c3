// What the agent has to tell the broker, gathered over a turn and sent as few messages.
#ifndef DRAY_WORKER_REPORT_H
#define DRAY_WORKER_REPORT_H

#include "proto/arena.h"
#include "worker/core/agent.h"
#include "worker/layer.h"
#include "worker/link.h"
#include "worker/store/store.h"

struct report;

struct report *report_create(void);
void report_destroy(struct report *report);
// REPORT_DONE, REPORT_DROPPED, REPORT_GONE, ADVERTISE, HAS or DECLINE.  -ENOMEM.
int report_add(struct report *report, const struct agent_action *action);
// REPORT_FAILED; the names are for people.  -ENOMEM.
int report_failed(struct report *report, const struct agent_action *action, const char *layer,
                  const char *worker);
// The next ADVERTISE is a full one, even when nothing is held.
void report_full(struct report *report);
// LEAVING, behind the next ADVERTISE.
void report_leaving(struct report *report);
// What was gathered for a session that is over.
void report_clear(struct report *report);
// Sends all; wanted partitions that are small travel along.  Progress of the layers goes with their
// tasks.
void report_send(struct report *report, struct link *link, struct store *store, const struct layers *layers);
// Notes of all that the store holds, for a broker that may have missed them.
void report_notes(struct link *link, struct store *store);

#endif
