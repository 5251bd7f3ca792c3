// Expressions over the columns of a batch (op.proto's Expr), compiled once, then evaluated batch
// by batch on whole vectors.
//
// What op.proto leaves open, decided as pandas does unless noted:
// - bool with a number counts as int64; bool + bool is OR, bool * bool is AND, other arithmetic
//   of two bools is an error; AND / OR / XOR / NOT of int64 work on the bits.
// - int64 // 0 and int64 % 0 are null (pandas turns the whole column into float64 with inf or
//   nan, which depends on values and so cannot be typed before running); float64 divided by 0 is inf or nan.
// - int64 ** int64 with a negative exponent is an error when a row has one.
// - a NaN that arithmetic makes stays a value: IS_NULL says true, aggregates skip it.
// - AND / OR / NOT take a null for false before they start: NOT null is true.
// - CAST float64 to int64 cuts towards zero; NaN gives null, infinities and numbers beyond int64 are errors.
//   CAST string to a number is an error for text that is none; null stays null always.
#ifndef DRAY_WORKER_KERNEL_EXPR_H
#define DRAY_WORKER_KERNEL_EXPR_H

#include "worker/kernel/step.h"

struct expr;

// The expression lives in the arena; `in` and the message must outlive it.  Errors say what was combined with
// what.
int expr_open(const Dray__Expr *message, const struct schema *in, struct arena *arena, struct expr **out,
              struct error *err);
enum type expr_type(const struct expr *expr);
// "float64 column 'price'", "int64 5", "a bool expression".
const char *expr_text(const struct expr *expr);
// All rows of the batch get a value, those outside the selection an arbitrary one.  The vector is
// valid until the next call or as long as the batch, whichever ends first.
int expr_eval(struct expr *expr, const struct batch *batch, struct vector *out, struct error *err);

#endif
