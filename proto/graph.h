// A checked graph and its computed edges.
#ifndef DRAY_PROTO_GRAPH_H
#define DRAY_PROTO_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/graph.pb-c.h"

#define GRAPH_LAYERS_MAX 65536
#define GRAPH_TASKS_MAX 0x7fffffffU         // in a layer, and in all of a graph
#define GRAPH_INPUTS_MAX 4096               // of a layer
#define GRAPH_RESOURCES_MAX 64              // of a layer, of a worker
#define GRAPH_WORKERS_MAX 4096              // names that restrict a layer
#define GRAPH_NEEDS_MAX 0x7fffffffU         // partitions that one task needs, over all its inputs
#define GRAPH_EDGES_MAX ((uint64_t)1 << 36) // of a graph, computed ones included

// Unpacks into the arena and checks every count and index; names the layer and
// task in the error.
int graph_decode(const void *data, size_t size, struct arena *arena, const Dray__Graph **out,
                 struct error *err);
int graph_check(const Dray__Graph *graph, struct error *err);
// The same for layers that are numbered on from `first`: inputs may name the layers before them as
// well, whose sizes are tasks[0 .. first).
int graph_check_more(const Dray__Graph *graph, uint32_t first, const uint32_t *tasks, struct error *err);
// An input of the layer's own: tasks of lower index in the same layer (LAG, EXPLICIT).
static inline bool input_is_own(const Dray__Input *input, uint32_t layer)
{
    return !input->has_job && input->layer == layer;
}
// One input of a layer of `tasks` tasks that names a layer of `source_tasks`: its pattern
// fits the two and, if EXPLICIT, its rows ascend and its targets exist.  That the targets of an
// input of its own are lower is input_check_own's.
int input_check_own(const Dray__Input *input, uint32_t tasks, struct error *err);
int input_check(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks, struct error *err);

// The partitions that a task needs from one input, or the tasks that need a
// partition: either a contiguous range or a list.
struct span {
    uint32_t first;
    uint32_t count;
    const uint32_t *list; // NULL: first, first + 1, ...
};
static inline uint32_t span_at(const struct span *s, uint32_t i)
{
    return s->list != NULL ? s->list[i] : s->first + i;
}

// `tasks` is the number of tasks of the layer that has the input, `source_tasks`
// of the layer that it names.
struct span input_needs(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks, uint32_t task);
// The reverse; for EXPLICIT `reverse` must be given.
struct edge_index; // reverse edges of one EXPLICIT input
struct span input_dependents(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks,
                             const struct edge_index *reverse, uint32_t partition);
// Leaves out the offsets of the rows at the end that are of one length: their tasks then take 4 bytes less.
void input_trim_rows(Dray__Input *input);
// Leaves out the rows that are empty, where most are, of rows that have offsets, all of them; room for
// 2 * n_target + 1 numbers in `room`, which becomes part of the input.
void input_list_rows(Dray__Input *input, uint32_t tasks, uint32_t *room);
// Explicit rows that are listed: most of the layer's tasks need nothing of this input.
static inline bool input_is_sparse(const Dray__Input *input)
{
    return input->n_task > 0;
}
// The task of a row, of explicit edges.
static inline uint32_t input_row_task(const Dray__Input *input, uint32_t row)
{
    return input->n_task > 0 ? input->task[row] : row;
}
static inline uint32_t input_rows(const Dray__Input *input, uint32_t tasks)
{
    return input->n_task > 0 ? (uint32_t)input->n_task : tasks;
}
// The targets of a row.
struct span input_row(const Dray__Input *input, uint32_t row);
struct edge_index *edge_index_create(const Dray__Input *input, uint32_t tasks, uint32_t source_tasks);
void edge_index_destroy(struct edge_index *index);
// The tasks that need one partition, at most.
uint32_t edge_index_most(const struct edge_index *index);

#endif
