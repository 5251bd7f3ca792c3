// Casts: part of expr_op.h, and what both parts need.
#ifndef DRAY_WORKER_KERNEL_EXPR_CAST_H
#define DRAY_WORKER_KERNEL_EXPR_CAST_H

#include "worker/kernel/expr_op.h"

// Room for `size` bytes in memo->text; -ENOMEM.
int memo_text(struct memo *memo, size_t size);

#endif
