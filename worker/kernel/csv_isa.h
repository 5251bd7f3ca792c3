// The scanner's kernels for the instruction set of this machine.
#ifndef DRAY_WORKER_KERNEL_CSV_ISA_H
#define DRAY_WORKER_KERNEL_CSV_ISA_H

#include "worker/kernel/csv_cells.h"
#include "worker/kernel/csv_index.h"

struct csv_isa {
    const char *name;  // "baseline", "avx2", "avx512"
    csv_index_fn *index;
    csv_convert_fn *int64;
    csv_convert_fn *float64;
    csv_encode_fn *encode;
};

// The best one that the machine has; DRAY_ISA in the environment names a lesser one (tests).  Never NULL.
const struct csv_isa *csv_isa_choose(void);

#endif
