// What the tasks of a round said, and whether another round is needed: a column that does not
// fit its type, a block that began inside quotes, a head that wants more blocks.
#ifndef DRAY_CLIENT_PLAN_ROUNDS_H
#define DRAY_CLIENT_PLAN_ROUNDS_H

#include "client/plan/bind.h"
#include "client/plan/lower.h"
#include "proto/graph.pb-c.h"
#include "proto/partition.h"

struct rounds;

struct rounds *rounds_create(void);
void rounds_destroy(struct rounds *rounds);

// The round to come only finds out where quotes open and close.
bool rounds_in_quotes(const struct rounds *rounds);
void rounds_options(const struct rounds *rounds, struct lower_options *out);

// What rounds before this one found out, to and from a note.  -ENOMEM; -EBADMSG: it cannot be.
int rounds_save(const struct rounds *rounds, struct arena *arena, Dray__ScriptNote *note);
int rounds_restore(struct rounds *rounds, const Dray__ScriptNote *note);

// `plan` is borrowed until rounds_end.
void rounds_begin(struct rounds *rounds, const struct lowered *plan);
int rounds_note(struct rounds *rounds, uint32_t block, const Dray__Note *note, struct error *err);
int rounds_quotes(struct rounds *rounds, uint32_t block, const struct partition *partition,
                  struct error *err);
int rounds_count(struct rounds *rounds, const struct table *table, struct error *err);
void rounds_rows(struct rounds *rounds, uint64_t rows); // of the result

// 1: plan and run again; new types are added to `learnt`.  0: the value is complete.
int rounds_end(struct rounds *rounds, struct learnt *learnt, struct error *err);
const char *rounds_remark(const struct rounds *rounds); // NULL: nothing

#endif
