// The edges of a draft: slots of arrays while it grows (draft_add, draft_add_many: draft.h), patterns where they
// have one when it is closed.
#ifndef DRAY_CLIENT_LIB_DRAFT_INPUTS_H
#define DRAY_CLIENT_LIB_DRAFT_INPUTS_H

#include "client/lib/draft.h"
#include "proto/graph.pb-c.h"

// Numbers that draft_make_inputs needs room for.
size_t draft_lists_room(const struct draft *draft);
// One a slot; they borrow the draft's arrays and `lists`.  -ENOMEM.
int draft_make_inputs(struct draft *draft, Dray__Input *input, uint32_t *lists);

#endif
