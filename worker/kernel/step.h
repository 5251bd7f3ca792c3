// Steps of a pipeline: rows are pushed from the source through each step into a
// sink that makes the partition.  One table row a step kind (step.c).
#ifndef DRAY_WORKER_KERNEL_STEP_H
#define DRAY_WORKER_KERNEL_STEP_H

#include "worker/kernel/batch.h"
#include "worker/kernel/kernel.h"

// Column names and types as they leave a step.  FLOAT64 etc.; STRING columns may come as DICT vectors.
struct schema {
    uint32_t columns;
    const char **name;
    enum type *type;
};

struct stage {
    const struct stage_class *class;
    struct stage *next; // NULL for the last
    struct kernel_env *env;
    struct arena *arena;  // lives as long as the task
    struct schema schema; // of what it pushes, set by open
};

// 1 from push: wants no more rows (head), the source stops early; 0: go on; negative: errno.
struct stage_class {
    const char *name;
    // Checks column numbers and types against `in` and sets stage->schema.
    int (*open)(struct stage *stage, const Dray__Step *step, const struct schema *in, struct error *err);
    int (*push)(struct stage *stage, const struct batch *batch, struct error *err);
    // No more rows: push what is left to next.  Called once, also after an early stop.
    int (*finish)(struct stage *stage, struct error *err);
    void (*close)(struct stage *stage); // always, also after a failed open; NULL is fine
    size_t size;                        // of the struct that embeds struct stage first
};

// A source drives the pipeline: opens its schema, then pushes batches into `next`.
struct source_class {
    const char *name;
    int (*schema)(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                  struct kernel_env *env, struct arena *arena, struct schema *out, struct error *err);
    int (*run)(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
               struct kernel_env *env, struct arena *arena, struct stage *next, struct error *err);
};

// A first step that makes its partition (bytes) by itself instead of pushing rows; the only step
// of its operation.
struct maker_class {
    const char *name;
    int (*make)(const Dray__Step *step, uint32_t index, const struct kernel_inputs *inputs,
                struct kernel_env *env, struct arena *arena, struct partition **out, struct error *err);
};

extern const struct source_class csv_scan_source; // csv_scan.c
extern const struct maker_class csv_probe_maker;  // csv_probe.c
extern const struct maker_class csv_quote_maker;  // csv_quote.c
extern const struct maker_class count_maker, busy_maker, data_maker; // pool.c

// What kernel_scratch_create allocates, zeroed: one slot for each module that keeps buffers
// between the tasks of a thread.  kernel_scratch_destroy calls each slot's destroy.
struct csv_scratch;
struct kernel_scratch {
    struct csv_scratch *csv; // made by the first scan; NULL before
};
void csv_scratch_destroy(struct csv_scratch *scratch); // NULL is fine

// How a step kind runs: exactly one is set; none for what runs in child processes.
struct step_class {
    const struct source_class *source;
    const struct maker_class *maker;
    const struct stage_class *stage;
};
const struct step_class *step_class(enum step_kind kind);

// Room for `columns` names and types; -ENOMEM.
int schema_create(struct schema *schema, uint32_t columns, struct arena *arena);

// -ECANCELED once the task was cancelled, -ETIMEDOUT beyond its deadline; for every batch or block.
int kernel_cancelled(const struct kernel_env *env, struct error *err);

static inline int stage_push(struct stage *next, const struct batch *batch, struct error *err)
{
    return next->class->push(next, batch, err);
}

#endif
