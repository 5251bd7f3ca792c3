// How a worker goes: it takes no more tasks, finishes what runs, waits until others have what it alone holds.
#include <stdio.h>
#include <stdlib.h>

#include "worker/daemon_state.h"

static bool add_bytes(void *arg, const struct store_item *item)
{
    *(uint64_t *)arg += item->bytes;
    return true;
}

struct loss {
    struct daemon *daemon;
    struct leave_loss sum;
};

static void count_loss(void *arg, const struct agent_range *range)
{
    struct loss *loss = arg;
    const struct store_key key = {range->job, range->layer, range->first};
    uint64_t bytes = 0;

    store_visit(loss->daemon->store, &key, range->count, add_bytes, &bytes);
    leave_count(&loss->sum, range, bytes);
}

// Its time is over: says what is lost.
static void leave_late(struct daemon *daemon)
{
    double grace = daemon->options.grace_ms / 1000.0;
    struct loss loss = {.daemon = daemon};
    struct agent_counts counts;
    char what[160];

    agent_counts(daemon->agent, &counts);
    if (counts.running > 0) {
        log_write(daemon->options.log, LEVEL_WARNING, "%.3g s are over: ending what still runs", grace);
    }
    if (agent_own(daemon->agent, count_loss, &loss) > 0) {
        leave_describe(&loss.sum, what, sizeof(what));
        free(daemon->farewell);
        if (asprintf(&daemon->farewell, "no other worker took %s within %.3g s: what is needed of that is made again",
                     what, grace) < 0) {
            daemon->farewell = NULL;
        } else {
            log_write(daemon->options.log, LEVEL_WARNING, "%s", daemon->farewell);
        }
    }
    loop_stop(daemon->loop);
}

void daemon_look_at_leaving(struct daemon *daemon)
{
    struct agent_counts counts;
    struct agent_range range;
    uint64_t now = monotonic_us();

    while (leave_due(&daemon->leave, now, &range)) {
        daemon_drop(daemon, &range);
    }
    agent_counts(daemon->agent, &counts);
    switch (leave_look(&daemon->leave, now, counts.running, agent_own(daemon->agent, NULL, NULL),
                       exchange_served(daemon->exchange) + daemon->relayed)) {
    case LEAVE_GO:
        loop_stop(daemon->loop);
        break;
    case LEAVE_LATE:
        leave_late(daemon);
        break;
    case LEAVE_STAY:
        break;
    }
}

bool daemon_leave(struct daemon *daemon)
{
    Dray__Leaving message = DRAY__LEAVING__INIT;
    struct agent_counts counts;

    if (daemon->leave.under_way) {
        return true;
    }
    agent_counts(daemon->agent, &counts);
    if (daemon->options.grace_ms == 0 ||
        (counts.running == 0 && agent_own(daemon->agent, NULL, NULL) == 0 && counts.queued == 0)) {
        return false;
    }
    // A broker that is away hears it when it is back.
    if (link_is_up(daemon->link)) {
        link_send(daemon->link, FRAME_LEAVING, &message.base, NULL, 0);
    }
    leave_begin(&daemon->leave, monotonic_us(), (uint64_t)daemon->options.grace_ms * 1000);
    daemon_event(daemon, AGENT_LEAVING);
    daemon_step_alone(daemon);
    return true;
}

void daemon_retire(struct daemon *daemon, const char *why)
{
    if (daemon->leave.under_way) {
        return;
    }
    log_write(daemon->options.log, LEVEL_INFO, "%s: leaving", why);
    if (!daemon_leave(daemon)) {
        loop_stop(daemon->loop);
    }
}
