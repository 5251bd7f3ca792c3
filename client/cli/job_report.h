// What `dray jobs` and `dray job` print.
#ifndef DRAY_CLIENT_CLI_JOB_REPORT_H
#define DRAY_CLIENT_CLI_JOB_REPORT_H

#include <stdio.h>

#include "client/cli/job_view.h"
#include "client/cli/listing.h"
#include "proto/wire.pb-c.h"

// width: as listing.h's.
int job_report_all(const Dray__Jobs *jobs, enum listing_format format, size_t width, FILE *out,
                   struct error *err);
int job_report_one(const Dray__JobInfo *job, const struct job_view *view, enum listing_format format,
                   size_t width, FILE *out, struct error *err);

#endif
