// What a file of tasks became, for people (`dray submit --dry-run`): a line a layer.
#ifndef DRAY_CLIENT_SUBMIT_JOB_DESCRIBE_H
#define DRAY_CLIENT_SUBMIT_JOB_DESCRIBE_H

#include <stdio.h>

#include "client/submit/job_file.h"

// "resize  1000 tasks 0..999  convert {image} out.png  needs split (one to one)"; texts are cut to a line.
int job_describe(const struct job_file *job, FILE *out, struct error *err);

#endif
