#include "worker/kernel/step.h"

#include <errno.h>

#include "worker/kernel/aggregate.h"
#include "worker/kernel/filter.h"
#include "worker/kernel/head.h"
#include "worker/kernel/project.h"
#include "worker/kernel/sort.h"
#include "worker/kernel/take.h"

static const struct step_class table[STEP_KINDS] = {
    [STEP_SCAN_CSV] = {.source = &csv_scan_source},
    [STEP_PROBE_CSV] = {.maker = &csv_probe_maker},
    [STEP_QUOTE_CSV] = {.maker = &csv_quote_maker},
    [STEP_TAKE_INPUTS] = {.source = &take_inputs_source},
    [STEP_FILTER] = {.stage = &filter_stage},
    [STEP_PROJECT] = {.stage = &project_stage},
    [STEP_HEAD] = {.stage = &head_stage},
    [STEP_SORT] = {.stage = &sort_stage},
    [STEP_AGGREGATE] = {.stage = &aggregate_stage},
    [STEP_COUNT] = {.maker = &count_maker},
    [STEP_BUSY] = {.maker = &busy_maker},
    [STEP_DATA] = {.maker = &data_maker},
};

const struct step_class *step_class(enum step_kind kind)
{
    return &table[kind];
}

int schema_create(struct schema *schema, uint32_t columns, struct arena *arena)
{
    const char **name = arena_array(arena, columns, sizeof(*name));
    enum type *type = arena_array(arena, columns, sizeof(*type));

    if (name == NULL || type == NULL) {
        return -ENOMEM;
    }
    schema->columns = columns;
    schema->name = name;
    schema->type = type;
    return 0;
}
