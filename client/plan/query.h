// A script of the expression language, from text to graph, and from results to a
// value.  Knows no sockets: files are looked into by the host's callback, graphs are handed out as bytes,
// partitions and notes are handed in.  A query may need several rounds (a head that wants more blocks, a
// column that turned out wider, a quoted line break across a block border):
//
//   query_create or query_restore -> { query_graph -> submit -> query_note*, query_partition* -> query_round_end }* ->
//   query_shape
#ifndef DRAY_CLIENT_PLAN_QUERY_H
#define DRAY_CLIENT_PLAN_QUERY_H

#include <stdbool.h>
#include <stdio.h>

#include "proto/arena.h"
#include "proto/error.h"
#include "proto/op.pb-c.h"
#include "proto/partition.h"

struct query;

// What the language needs from outside while a script is read.
struct query_host {
    void *context;
    // Runs these probes (read_csv's path, list or glob) on the cluster and appends the files found, in
    // order; waits.  `out` lives in the arena.
    int (*probe)(void *context, const Dray__ProbeCsv *const *probes, size_t count, struct arena *arena,
                 Dray__CsvProbeResult **out, struct error *err);
    const char *working_directory; // for relative paths
};

// err->text may have several lines: message, the script's line, a caret under the word.
int query_create(const char *script, size_t size, const char *script_name, const struct query_host *host,
                 struct query **out, struct error *err);
void query_destroy(struct query *query);

// All that query_graph's next round is made of, for whoever takes its job over: a packed JobNote in the arena.
// -E2BIG: more than a job's note may have.
int query_save(const struct query *query, struct arena *arena, void **note, size_t *size, struct error *err);
// Such a query again; no file is looked into.  -ENOMSG: the note tells of no script; -EBADMSG: of none that can be.
int query_restore(const void *note, size_t size, struct query **out, struct error *err);

// The logical plan before and after optimisation, and the layers.
int query_explain(struct query *query, FILE *out, struct error *err);

// False: the value is known already (a literal, df.columns, df.dtypes): skip the rounds.
bool query_needs_graph(const struct query *query);

// The packed graph of the next round; lives in the arena.
int query_graph(struct query *query, struct arena *arena, void **graph, size_t *size, struct error *err);
int query_note(struct query *query, uint32_t layer, uint32_t index, const void *note, size_t size,
               struct error *err);

// All tasks of the round are done.  1: another round is needed (drop what query_rows gave);
// 0: the value is complete; negative: an error that the notes revealed.
int query_round_end(struct query *query, struct error *err);

// How the value is shaped, for printing.  A LIST or TUPLE is a row with a column for each item.
enum shape_kind { SHAPE_NONE, SHAPE_SCALAR, SHAPE_SERIES, SHAPE_FRAME, SHAPE_LIST, SHAPE_TUPLE };
struct shape {
    enum shape_kind kind;
    uint32_t index_columns;  // the first columns of the table are the index; 0: a RangeIndex from 0
    const char *series_name; // SERIES: "Name: price"; NULL: no name line
    const char *dtype;       // overrides the one shown for a SERIES; NULL: from its column
    bool index_is_names;     // index of column names (df.mean()): no header line for it
    // A SERIES whose rows are of different types, each as text: what each one is; NULL: as its column.
    const enum type *row_type;
};
// Known after query_create; a round that finds wider types may change its names and types, so ask again for
// each.
const struct shape *query_shape(const struct query *query);

// A result partition of the round; *table is what to print for it, in index order of its layer (NULL:
// nothing).  The caller orders partitions by index.
int query_table(struct query *query, uint32_t layer, uint32_t index, const struct partition *partition,
                struct table **table, struct error *err);
// Without a graph: the value.
int query_value(struct query *query, struct table **table, struct error *err);
// Things to tell on standard error at the end ("3 values of column note are not valid UTF-8"); NULL: nothing.
const char *query_remark(const struct query *query);

#endif
