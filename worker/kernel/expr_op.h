// The operators of expressions on vectors; expr.c has settled the types before.
#ifndef DRAY_WORKER_KERNEL_EXPR_OP_H
#define DRAY_WORKER_KERNEL_EXPR_OP_H

#include "worker/kernel/step.h"

struct operand {
    struct vector vector;
    bool scalar; // one value for all rows; null when validity is set
};

// Where an operator writes: room for a batch of its type.
struct result {
    uint64_t validity[BATCH_ROWS / 64];
    _Alignas(16) unsigned char values[];
};

// What an operator keeps between batches.
struct memo {
    struct arena *arena;
    // DICT compared with a literal: the answer for each entry
    const struct dictionary *dictionary;
    uint8_t *answer;
    uint32_t answers;
    uint32_t room;
    // bytes of strings that the operator makes
    char *text;
    size_t text_size;
};

// Both operands are of `type` (STRING or DICT vectors for STRING).  The kinds are ADD to XOR; *out is filled.
int binary_eval(Dray__ExprKind kind, enum type type, const struct operand *a, const struct operand *b,
                const struct batch *batch, struct result *result, struct memo *memo, struct operand *out,
                struct error *err);
// NEG, NOT, ABS, IS_NULL, NOT_NULL.
int unary_eval(Dray__ExprKind kind, const struct operand *a, const struct batch *batch, struct result *result,
               struct operand *out, struct error *err);
int cast_eval(enum type type, const struct operand *a, const struct batch *batch, struct result *result,
              struct memo *memo, struct operand *out, struct error *err);
// One value to all rows.
void operand_spread(const struct operand *a, uint32_t rows, struct result *result, struct operand *out);

#endif
