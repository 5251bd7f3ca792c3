#include "proto/op.h"

#include <errno.h>
#include <string.h>

#include "proto/graph.h"
#include "proto/op_step.h"
#include "proto/schema.h"
#include "proto/table.h"

enum { STEPS_MAX = 256 };

// One row a step: what it is, its member of Step, its check.
struct entry {
    struct step_info info;
    size_t member; // offset of the pointer in Dray__Step
    int (*check)(const void *step, struct step_columns *columns, struct error *err);
};

static const struct entry entries[STEP_KINDS] = {
    [STEP_SCAN_CSV] = {{"scan_csv", true, false}, offsetof(Dray__Step, scan_csv), step_check_scan_csv},
    [STEP_PROBE_CSV] = {{"probe_csv", true, false}, offsetof(Dray__Step, probe_csv), step_check_probe_csv},
    [STEP_QUOTE_CSV] = {{"quote_csv", true, false}, offsetof(Dray__Step, quote_csv), step_check_quote_csv},
    [STEP_TAKE_INPUTS] = {{"take_inputs", true, false},
                          offsetof(Dray__Step, take_inputs),
                          step_check_take_inputs},
    [STEP_FILTER] = {{"filter", false, true}, offsetof(Dray__Step, filter), step_check_filter},
    [STEP_PROJECT] = {{"project", false, true}, offsetof(Dray__Step, project), step_check_project},
    [STEP_HEAD] = {{"head", false, false}, offsetof(Dray__Step, head), step_check_head},
    [STEP_SORT] = {{"sort", false, false}, offsetof(Dray__Step, sort), step_check_sort},
    [STEP_AGGREGATE] = {{"aggregate", false, false}, offsetof(Dray__Step, aggregate), step_check_aggregate},
    [STEP_COUNT] = {{"count", true, false}, offsetof(Dray__Step, count), step_check_count},
    [STEP_BUSY] = {{"busy", true, false}, offsetof(Dray__Step, busy), step_check_busy},
    [STEP_DATA] = {{"data", true, false}, offsetof(Dray__Step, data), step_check_data},
    [STEP_CALL] = {{"call", true, false}, offsetof(Dray__Step, call), step_check_call},
    [STEP_COMMAND] = {{"command", true, false}, offsetof(Dray__Step, command), step_check_command},
};

const struct step_info *step_info(enum step_kind kind)
{
    return &entries[kind].info;
}

static const void *member(const Dray__Step *step, enum step_kind kind)
{
    const void *value;

    memcpy(&value, (const char *)step + entries[kind].member, sizeof(value));
    return value;
}

int step_kind(const Dray__Step *step)
{
    int found = -1;

    for (int kind = 0; kind < STEP_KINDS; kind++) {
        if (member(step, (enum step_kind)kind) != NULL) {
            if (found >= 0) {
                return -1;
            }
            found = kind;
        }
    }
    return found;
}

static int check_step(const Dray__Op *op, size_t at, struct step_columns *columns, struct error *err)
{
    int kind = step_kind(op->step[at]);

    if (kind < 0) {
        return error_set(err, EBADMSG, "step %zu of an operation is not exactly one of the known steps", at);
    }
    const struct entry *entry = &entries[kind];
    int rc;

    if (entry->info.is_source != (at == 0)) {
        rc = error_set(err, EBADMSG,
                       at == 0 ? "the first step must make or take rows" : "it can only come first");
    } else if (columns->bytes) {
        rc = error_set(err, EBADMSG, "the step before it makes bytes, not rows");
    } else {
        rc = entry->check(member(op->step[at], (enum step_kind)kind), columns, err);
    }
    if (rc < 0) {
        error_prefix(err, "step %zu (%s) of an operation: ", at, entry->info.name);
    }
    return rc;
}

int op_check(const Dray__Op *op, struct error *err)
{
    struct step_columns columns = {.known = false, .count = 0};
    int rc = 0;

    if (op->n_step < 1 || op->n_step > STEPS_MAX) {
        return error_set(err, EBADMSG, "an operation has %zu steps, it can have 1 to %d", op->n_step,
                         STEPS_MAX);
    }
    for (size_t i = 0; i < op->n_step && rc == 0; i++) {
        rc = check_step(op, i, &columns, err);
    }
    return rc;
}

int op_decode(const void *data, size_t size, struct arena *arena, const Dray__Op **out, struct error *err)
{
    ProtobufCMessage *message;
    int rc = schema_unpack(&dray__op__descriptor, data, size, arena, &message, err);

    if (rc < 0) {
        return rc;
    }
    const Dray__Op *op = (const Dray__Op *)message;

    rc = op_check(op, err);
    if (rc < 0) {
        return rc;
    }
    *out = op;
    return 0;
}
