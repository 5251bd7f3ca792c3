// SUBMIT and EXTEND as events, whether a client or the journal says them.
#ifndef DRAY_BROKER_INTAKE_H
#define DRAY_BROKER_INTAKE_H

#include "broker/turn.h"
#include "proto/error.h"
#include "proto/wire.pb-c.h"

// The event is the turn's last.  The packed graph in the message is gone afterwards.  Negative: refused in
// these words, and there is no event.
int intake_submit(struct turn *turn, const Dray__Submit *submit, struct sched_event **out, struct error *err);
int intake_extend(struct turn *turn, const Dray__Extend *extend, struct sched_event **out, struct error *err);

#endif
