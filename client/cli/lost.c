#include "client/cli/lost.h"

#include <inttypes.h>

#include "client/cli/command.h"
#include "client/cli/signals.h"
#include "proto/socket.h"

static void tell(void *arg, const struct client_lost *now)
{
    struct lost *lost = arg;

    lost->back_us = now->why == NULL ? monotonic_us() : 0;
    lost->away = now->why != NULL && now->patience_ms > 0;
    if (lost->quiet) {
        return;
    }
    progress_clear(lost->progress);
    if (now->why != NULL) {
        complain_text("%s; waiting for it, for up to %g s", now->why->text, now->patience_ms / 1000.0);
    } else {
        complain_text("the broker is back after %.1f s%s", now->away_ms / 1000.0,
                      now->anew      ? ", started anew without what it knew"
                      : now->goes_on ? "; the job goes on"
                                     : "");
    }
}

void lost_listen(struct lost *lost, dray_t *dray)
{
    client_on_lost(dray, tell, lost);
}

void lost_tell_job(const struct lost *lost, const dray_t *dray, enum lost_job what, uint32_t job)
{
    bool interrupted = signals_caught() != 0;
    const char *how =
        interrupted ? "interrupted while the broker is away" : "given up while the broker is away";

    if (lost->quiet || dray == NULL || (interrupted ? dray_connected(dray) != 0 : !lost->away)) {
        return;
    }
    progress_clear(lost->progress);
    switch (what) {
    case LOST_NONE:
        complain_text("%s, before there was a job", how);
        break;
    case LOST_UNANSWERED:
        complain_text(
            "%s: whether it has taken the job is not known; `dray jobs` shows it when the broker is back",
            how);
        break;
    case LOST_ATTACHED:
        complain_text(
            "%s, which does not know of it: when it is back it cancels job %" PRIu32
            " after its --orphan-grace (30 s unless it says otherwise), if nobody takes the job over "
            "with `dray wait %" PRIu32 "`",
            how, job, job);
        break;
    case LOST_DETACHED:
        complain_text("%s: job %" PRIu32 " goes on when it is back; `dray wait %" PRIu32
                      "` waits for it, `dray cancel %" PRIu32 "` ends it",
                      how, job, job, job);
        break;
    case LOST_READ:
        complain_text("%s: job %" PRIu32
                      " goes on when it is back, and its results stay; `dray result %" PRIu32 "` prints them",
                      how, job, job);
        break;
    }
}
