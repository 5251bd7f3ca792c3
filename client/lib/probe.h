// The job that looks into a script's source files: which tasks it needs, and what
// their answers are together.
#ifndef DRAY_CLIENT_LIB_PROBE_H
#define DRAY_CLIENT_LIB_PROBE_H

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/op.pb-c.h"
#include "proto/partition.h"
#include "proto/wire.pb-c.h"

struct probe_plan;

// Everything lives in the arena.
int probe_plan_create(struct arena *arena, struct probe_plan **out, struct error *err);
// One task for the pattern itself, by a worker that sees all files, and one for each
// file that workers have in folders of their own.  `sources` NULL: all workers see all files.
// The probe is borrowed until probe_plan_graph.
int probe_plan_add(struct probe_plan *plan, const Dray__ProbeCsv *probe, const Dray__Sources *sources,
                   struct error *err);
int probe_plan_graph(struct probe_plan *plan, void **graph, size_t *size, struct error *err);
// The partition of a layer's one task.
int probe_plan_take(struct probe_plan *plan, uint32_t layer, const struct partition *partition,
                    struct error *err);
// Files in the order of the probes, each once.
int probe_plan_result(struct probe_plan *plan, Dray__CsvProbeResult **out, struct error *err);

// -ENOENT: names the file and the workers that were asked.
int probe_not_found(const Dray__ProbeCsv *probe, const Dray__Sources *sources, struct error *err);

#endif
