// The daemon's inside, shared by its parts: daemon.c (events, actions, what threads report, start and end),
// daemon_message.c (what the broker says), daemon_leave.c (how it goes).
#ifndef DRAY_WORKER_DAEMON_STATE_H
#define DRAY_WORKER_DAEMON_STATE_H

#include "proto/frame.h"
#include "worker/core/agent.h"
#include "worker/daemon.h"
#include "worker/exchange.h"
#include "worker/executor.h"
#include "worker/layer.h"
#include "worker/leave.h"
#include "worker/link.h"
#include "worker/neighbour.h"
#include "worker/report.h"
#include "worker/sources.h"
#include "worker/store/store.h"

struct daemon {
    struct daemon_options options;
    struct loop *loop;
    uint64_t incarnation;
    uint64_t broker_incarnation; // of the last broker; 0: none yet
    uint64_t epoch;              // counts brokers: work for an earlier one is of no interest
    Dray__Hello hello;
    struct arena hello_arena;

    struct budget *budget;
    struct store *store;
    struct exchange *exchange;
    struct executor *executor;
    struct sources *sources;
    struct source_files *files;
    struct link *link;

    struct agent *agent;
    struct agent_actions actions;
    struct layers layers;
    struct neighbours neighbours;
    struct report *report;
    uint64_t relayed; // pieces that others had by way of the broker
    uint64_t damaged; // partitions that were not what they were made

    // Events for the agent's next step, and what they point to.
    struct agent_event *event;
    size_t events, events_max;
    struct arena arena;
    bool stepping;

    struct leave leave;
    uint64_t retire_us; // its lifetime is over then; 0: never
    bool late;          // it left, and that took too long
    bool dismissed;     // the broker has said goodbye
    char *farewell;     // what is lost with it, in words

    int outcome;
    struct error why;
};

// ---- daemon.c

// It cannot go on: stops the loop.
void daemon_give_up(struct daemon *daemon, int code, const char *why);
// For the agent's next step.  NULL: no memory, and it gave up.
struct agent_event *daemon_event(struct daemon *daemon, enum agent_event_type type);
// Steps the agent through the gathered events, and those that its actions make at once.
int daemon_step(struct daemon *daemon, struct error *err);
// Where there is no message to blame.
void daemon_step_alone(struct daemon *daemon);
// Out of the store.
void daemon_drop(struct daemon *daemon, const struct agent_range *range);

// ---- daemon_message.c: of struct link_handler
int daemon_message(void *arg, const struct frame *frame, struct message *frames, struct error *err);

// ---- daemon_leave.c

// As daemon_leave; stops the loop when there is nothing to wait for.
void daemon_retire(struct daemon *daemon, const char *why);
// It ends now: what is lost with that, unless it has been said.
void daemon_say_loss(struct daemon *daemon);
// While it leaves: stops the loop when its time has come.
void daemon_look_at_leaving(struct daemon *daemon);

#endif
