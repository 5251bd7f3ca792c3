// Checks of the steps, one a row of the table in op.c.
#ifndef DRAY_PROTO_OP_STEP_H
#define DRAY_PROTO_OP_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/error.h"

// What is known of the rows that one step hands to the next.
struct step_columns {
    bool known;     // `count` is
    bool bytes;     // there are no rows: the partition is bytes
    uint32_t count; // columns
};

// Each reads its own message of op.proto and changes *columns to what it makes.
int step_check_scan_csv(const void *step, struct step_columns *columns, struct error *err);
int step_check_probe_csv(const void *step, struct step_columns *columns, struct error *err);
int step_check_quote_csv(const void *step, struct step_columns *columns, struct error *err);
int step_check_take_inputs(const void *step, struct step_columns *columns, struct error *err);
int step_check_filter(const void *step, struct step_columns *columns, struct error *err);
int step_check_project(const void *step, struct step_columns *columns, struct error *err);
int step_check_head(const void *step, struct step_columns *columns, struct error *err);
int step_check_sort(const void *step, struct step_columns *columns, struct error *err);
int step_check_aggregate(const void *step, struct step_columns *columns, struct error *err);
// op_task.c: the tasks of a pool, which make bytes by themselves.
int step_check_count(const void *step, struct step_columns *columns, struct error *err);
int step_check_busy(const void *step, struct step_columns *columns, struct error *err);
int step_check_data(const void *step, struct step_columns *columns, struct error *err);
int step_check_call(const void *step, struct step_columns *columns, struct error *err);
int step_check_command(const void *step, struct step_columns *columns, struct error *err);

#endif
