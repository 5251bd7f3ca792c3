// Operations: unpack, check, and describe.  The one table of steps; the kernels
// have the other half (worker/kernel/step.h).
#ifndef DRAY_PROTO_OP_H
#define DRAY_PROTO_OP_H

#include <stdbool.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/op.pb-c.h"

enum step_kind {
    STEP_SCAN_CSV, STEP_PROBE_CSV, STEP_QUOTE_CSV, STEP_TAKE_INPUTS,
    STEP_FILTER, STEP_PROJECT, STEP_HEAD, STEP_SORT, STEP_AGGREGATE,
    STEP_COUNT, STEP_BUSY, STEP_DATA, STEP_CALL, STEP_COMMAND,
    STEP_KINDS
};

struct step_info {
    const char *name;   // "scan_csv"
    bool is_source;     // must come first, and nowhere else
    bool is_row_wise;   // one-to-one on batches: may be fused after a source
};
const struct step_info *step_info(enum step_kind kind);
// -1 unless exactly one member is set.
int step_kind(const Dray__Step *step);

// Unpacks and checks: step order, postfix stacks, column numbers as far as they are
// known without a schema, counts, sizes.  Errors name step and field.
int op_decode(const void *data, size_t size, struct arena *arena, const Dray__Op **out,
              struct error *err);
int op_check(const Dray__Op *op, struct error *err);
// Lists with one entry a task (Data, Call, Command) have as many as the layer has tasks.
int op_check_tasks(const Dray__Op *op, uint32_t tasks, struct error *err);
// "scan_csv(sales.csv, 203 blocks) | filter(#1 > 5) | aggregate(partial; key #0; mean #1)"
char *op_describe(const Dray__Op *op, struct arena *arena);

#endif
