// Says on standard error that the broker was lost and is waited for, that it is back, and what becomes of a
// job whose command is interrupted in between.
#ifndef DRAY_CLIENT_CLI_LOST_H
#define DRAY_CLIENT_CLI_LOST_H

#include <stdbool.h>

#include "client/cli/progress.h"
#include "client/lib/client.h"

struct lost {
    struct progress *progress; // the line that is in the way; NULL: none
    bool quiet;
    bool away;        // it was lost, and is not back
    uint64_t back_us; // when a broker that was lost came back last; 0: it was not, or is away
};

// `lost` is borrowed until dray_close.
void lost_listen(struct lost *lost, dray_t *dray);

enum lost_job {
    LOST_NONE,       // it had not come to that
    LOST_UNANSWERED, // it was being submitted
    LOST_ATTACHED,   // it goes with its client
    LOST_DETACHED,   // it goes on
    LOST_READ,       // the same, and its results were being read
};
// To be called when a command ends with an error: nothing, unless a signal ended it while the broker was
// looked for, or it was looked for in vain.
void lost_tell_job(const struct lost *lost, const dray_t *dray, enum lost_job what, uint32_t job);

#endif
