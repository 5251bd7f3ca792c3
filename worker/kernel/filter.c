#include "worker/kernel/filter.h"

#include <errno.h>

#include "worker/kernel/expr.h"

struct filter {
    struct stage stage;
    struct expr *predicate;
    uint16_t selection[BATCH_ROWS];
};

static int filter_open(struct stage *stage, const Dray__Step *step, const struct schema *in,
                       struct error *err)
{
    struct filter *filter = (struct filter *)stage;
    int rc = expr_open(step->filter->predicate, in, stage->arena, &filter->predicate, err);

    if (rc < 0) {
        return rc;
    }
    stage->schema = *in;
    if (expr_type(filter->predicate) != TYPE_BOOL) {
        return error_set(err, EINVAL, "a filter wants a bool for each row, %s is %s",
                         expr_text(filter->predicate), type_name(expr_type(filter->predicate)));
    }
    return 0;
}

// Branch-free: the next free place is written for every row, and taken when the row counts.
static uint32_t select_rows(const struct batch *batch, const uint8_t *keep, uint16_t *out)
{
    uint32_t n = 0;

    if (batch->selection == NULL) {
        for (uint32_t i = 0; i < batch->rows; i++) {
            out[n] = (uint16_t)i;
            n += keep[i];
        }
    } else {
        for (uint32_t j = 0; j < batch->selected; j++) {
            uint16_t i = batch->selection[j];

            out[n] = i;
            n += keep[i];
        }
    }
    return n;
}

static int filter_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    struct filter *filter = (struct filter *)stage;
    struct batch out = *batch;
    struct vector keep;
    int rc = expr_eval(filter->predicate, batch, &keep, err);

    if (rc < 0) {
        error_prefix(err, "filter: ");
        return rc;
    }
    // A null is false: the byte below it is zero.
    out.selected = select_rows(batch, keep.values, filter->selection);
    out.selection = out.selected == out.rows ? NULL : filter->selection;
    return out.selected > 0 ? stage_push(stage->next, &out, err) : 0;
}

const struct stage_class filter_stage = {
    .name = "filter",
    .open = filter_open,
    .push = filter_push,
    .size = sizeof(struct filter),
};
