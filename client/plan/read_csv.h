// The function read_csv: its options, the files it finds, the columns they have.
#ifndef DRAY_CLIENT_PLAN_READ_CSV_H
#define DRAY_CLIENT_PLAN_READ_CSV_H

#include "client/plan/method.h"

extern const struct parameter read_csv_parameters[];
int read_csv(struct binder *b, const struct call *call, const struct value **out);

#endif
