// What a script's value is once it has run: which plan makes it, how results become the
// table that is printed.
#ifndef DRAY_CLIENT_PLAN_ANSWER_H
#define DRAY_CLIENT_PLAN_ANSWER_H

#include "client/plan/bind.h"
#include "client/plan/query.h"

// One item of a list or a row: known, or a column of the plan's single row.
struct cell {
    const struct value *literal; // NULL: a column
    uint32_t column;
    const char *name; // in the index of a row
};

struct answer {
    struct shape shape;
    const struct node *plan; // NULL: known without running anything
    bool across;             // the plan's one row is turned into the cells
    struct cell *cell;
    uint32_t cells;
    const struct frame *dtypes; // known: names and types of its columns
};

int answer_create(struct binder *b, const struct value *value, struct answer *out);
// *out is a reference of its own, or NULL for nothing to print.
int answer_table(const struct answer *answer, struct table *result, struct table **out, struct error *err);
// Without a plan.
int answer_known(const struct answer *answer, struct table **out, struct error *err);

#endif
