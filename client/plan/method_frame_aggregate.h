// Aggregations of a table: handlers of the rows in method_frame.c's table.
#ifndef DRAY_CLIENT_PLAN_METHOD_FRAME_AGGREGATE_H
#define DRAY_CLIENT_PLAN_METHOD_FRAME_AGGREGATE_H

#include "client/plan/method.h"

int frame_reduce(struct binder *b, const struct call *call, const struct value **out); // detail: the AggFn
int frame_agg(struct binder *b, const struct call *call, const struct value **out);
int frame_groupby(struct binder *b, const struct call *call, const struct value **out);

#endif
