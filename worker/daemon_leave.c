// How a worker goes: it takes no more tasks, finishes what runs, waits until others have what it alone holds.
#include <inttypes.h>
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

// How it came that nobody has it, in words that stand before and behind what it is.
static void explain(const struct daemon *daemon, bool late, char before[64], char behind[400])
{
    double grace = daemon->options.grace_ms / 1000.0;
    const char *broker = daemon->options.broker;

    snprintf(before, 64, late ? "no other worker took" : "ending with");
    behind[0] = '\0';
    if (late && link_is_up(daemon->link)) {
        snprintf(behind, 400, " within %.3g s", grace);
    } else if (late) {
        snprintf(behind, 400, " within %.3g s, as the broker at %.300s is away", grace, broker);
    } else if (!link_is_up(daemon->link)) {
        snprintf(behind, 400, ", while the broker at %.300s is away", broker);
    }
}

static void say_loss(struct daemon *daemon, bool late)
{
    struct loss loss = {.daemon = daemon};
    char what[160], before[64], behind[400];

    if (daemon->farewell != NULL || agent_own(daemon->agent, count_loss, &loss) == 0) {
        return;
    }
    leave_describe(&loss.sum, what, sizeof(what));
    explain(daemon, late, before, behind);
    if (asprintf(&daemon->farewell, "%s %s%s: what is needed of that is made again", before, what, behind) <
        0) {
        daemon->farewell = NULL;
        return;
    }
    log_write(daemon->options.log, LEVEL_WARNING, "%s", daemon->farewell);
}

void daemon_say_loss(struct daemon *daemon)
{
    struct agent_counts counts;

    agent_counts(daemon->agent, &counts);
    if (counts.running > 0 && !daemon->late) {
        log_write(daemon->options.log, LEVEL_WARNING, "ending what still runs: %" PRIu32 " task%s",
                  counts.running, counts.running == 1 ? "" : "s");
    }
    say_loss(daemon, daemon->late);
}

// Its time is over: says what is lost.
static void leave_late(struct daemon *daemon)
{
    struct agent_counts counts;

    agent_counts(daemon->agent, &counts);
    if (counts.running > 0) {
        log_write(daemon->options.log, LEVEL_WARNING, "%.3g s are over: ending what still runs",
                  daemon->options.grace_ms / 1000.0);
    }
    daemon->late = true;
    say_loss(daemon, true);
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
