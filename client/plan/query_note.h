// A query as the note of its job: what query_save and query_restore of query.h share with query.c.
#ifndef DRAY_CLIENT_PLAN_QUERY_NOTE_H
#define DRAY_CLIENT_PLAN_QUERY_NOTE_H

#include "client/lang/ast.h"
#include "client/plan/bind.h"
#include "client/plan/rounds.h"

// A packed JobNote.  -E2BIG.
int query_note_pack(const struct script *script, const char *directory, const struct learnt *learnt,
                    const struct rounds *rounds, struct arena *arena, void **out, size_t *size,
                    struct error *err);
// Into the arena.  -ENOMSG: it tells of no script; -EBADMSG.
int query_note_unpack(const void *note, size_t size, struct arena *arena, const Dray__ScriptNote **out,
                      struct error *err);
// learnt->arena is set.
int query_note_learnt(const Dray__ScriptNote *note, struct learnt *learnt, struct error *err);

#endif
