// Options that several commands have, as argp children of theirs; the input of each is what it sets.
#ifndef DRAY_CLIENT_CLI_OPTIONS_H
#define DRAY_CLIENT_CLI_OPTIONS_H

#include <argp.h>
#include <stdbool.h>

#include "client/cli/local_cluster.h"
#include "client/cli/progress.h"

// Their groups in the help: what is the command's own stands between.
enum { GROUP_CLUSTER = 0, GROUP_LOCAL = 1, GROUP_OWN = 2, GROUP_RESULTS = 4, GROUP_REMARKS = 5 };

// A struct cluster_choice *: --broker, --workers, --threads, --memory.
extern const struct argp cluster_choice_argp;
// An enum listing_format *: --format.
extern const struct argp listing_format_argp;
// A struct result_sink_options *: --output, --directory, --format.
extern const struct argp result_sink_argp;
// A struct remarks *: --progress, --quiet.
extern const struct argp remarks_argp;

struct cluster_choice {
    const char *broker; // NULL: a local cluster
    struct local_cluster_options local;
    const char *asked; // the first option that only a local cluster has, as "--workers"; NULL: none was given
};

// An option that only a local cluster has was given.
void cluster_choice_ask(struct cluster_choice *choice, const char *option);
// At the end of the options: without --broker it is that of DRAY_BROKER, unless a local cluster was asked for
// (which is remarked, unless quiet).  What does not go together, or is no address, is a usage error.
void cluster_choice_finish(struct cluster_choice *choice, bool quiet, struct argp_state *state);

struct remarks {
    enum progress_mode progress;
    bool quiet; // errors only
};

#endif
