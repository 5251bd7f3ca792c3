#include "worker/kernel/head.h"

struct head {
    struct stage stage;
    uint64_t left;
};

static int head_open(struct stage *stage, const Dray__Step *step, const struct schema *in, struct error *err)
{
    (void)err;
    ((struct head *)stage)->left = step->head->rows;
    stage->schema = *in;
    return 0;
}

static int head_push(struct stage *stage, const struct batch *batch, struct error *err)
{
    struct head *head = (struct head *)stage;
    struct batch cut = *batch;
    int rc = 0;

    if (cut.selected > head->left) {
        cut.selected = (uint32_t)head->left;
        if (cut.selection == NULL) {
            cut.rows = cut.selected;
        }
    }
    head->left -= cut.selected;
    if (cut.selected > 0) {
        rc = stage_push(stage->next, &cut, err);
    }
    return rc == 0 && head->left == 0 ? 1 : rc;
}

const struct stage_class head_stage = {
    .name = "head",
    .open = head_open,
    .push = head_push,
    .size = sizeof(struct head),
};
