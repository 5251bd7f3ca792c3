#include "client/cli/lost.h"

#include "client/cli/command.h"

static void tell(void *arg, const struct error *why, unsigned patience_ms)
{
    const struct lost *lost = arg;

    if (lost->quiet || why == NULL) {
        return;
    }
    progress_clear(lost->progress);
    complain_text("%s; waiting for it, for up to %g s", why->text, patience_ms / 1000.0);
}

void lost_listen(struct lost *lost, dray_t *dray)
{
    client_on_lost(dray, tell, lost);
}
