// Arithmetic of a script's literals, as Python does it but in 64 bits.
#ifndef DRAY_CLIENT_PLAN_LITERAL_H
#define DRAY_CLIENT_PLAN_LITERAL_H

#include "client/plan/bind.h"

// Both are literals (NONE to STRING).
int literal_binary(struct binder *b, Dray__ExprKind kind, const struct value *left, const struct value *right,
                   struct place at, const struct value **out);
int literal_unary(struct binder *b, Dray__ExprKind kind, const struct value *operand, struct place at,
                  const struct value **out);

#endif
