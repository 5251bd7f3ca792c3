// Rewrites a plan into one that means the same and costs less.
#ifndef DRAY_CLIENT_PLAN_OPTIMISE_H
#define DRAY_CLIENT_PLAN_OPTIMISE_H

#include "client/plan/node.h"

// The rules, in the order in which they are tried, over and over until none finds anything:
//
//   fold       literals are computed, x & True is x, filter True goes away
//   filters    filters move below projections, sorts and aggregations (by keys alone); neighbours become one
//   heads      heads move below projections; two become one; a sort below becomes a sort with a limit
//   projects   neighbouring projections become one where nothing is computed twice; those that change nothing
//   go columns    every node keeps the columns that are needed above; the scan reads those only
//
// NULL: no memory.
const struct node *optimise(struct arena *arena, const struct node *root);

#endif
