// Says on standard error that the broker was lost and is waited for.
#ifndef DRAY_CLIENT_CLI_LOST_H
#define DRAY_CLIENT_CLI_LOST_H

#include <stdbool.h>

#include "client/cli/progress.h"
#include "client/lib/client.h"

struct lost {
    struct progress *progress; // the line that is in the way; NULL: none
    bool quiet;
};

// `lost` is borrowed until dray_close.
void lost_listen(struct lost *lost, dray_t *dray);

#endif
