// What the parts of job_file.h share: schema.c (keys), job_task.c (a task's own), job_params.c (its
// parameters), job_text.c (texts with {names}), job_inputs.c (what it needs), job_file.c (the whole); nobody
// else's business.
#ifndef DRAY_CLIENT_SUBMIT_JOB_STATE_H
#define DRAY_CLIENT_SUBMIT_JOB_STATE_H

#include "client/submit/job_file.h"
#include "proto/op.pb-c.h"

enum field {
    FIELD_NAME,
    FIELD_COMMAND,
    FIELD_SHELL,
    FIELD_CALL,
    FIELD_COUNT,
    FIELD_BUSY,
    FIELD_DATA,
    FIELD_STDIN,
    FIELD_ENV,
    FIELD_CLEAR_ENV,
    FIELD_DIRECTORY,
    FIELD_OUTPUT,
    FIELD_MEMORY,
    FIELD_INPUTS,
    FIELD_AFTER,
    FIELD_ARRAY,
    FIELD_PARAMS,
    FIELD_COMBINE,
    FIELD_RESOURCES,
    FIELD_WORKERS,
    FIELD_PRIORITY,
    FIELD_RETRIES,
    FIELD_RETRY_DELAY,
    FIELD_TIMEOUT,
    FIELD_SPECULATE,
    FIELD_RESULT,
    FIELDS
};

// Which elements of the task that is named.
enum elements {
    ELEMENTS_DEFAULT,
    ELEMENTS_SAME, // of the same index
    ELEMENTS_ALL,
    ELEMENTS_PREVIOUS,   // of the same task, `width` places before
    ELEMENTS_NEIGHBOURS, // from `width` places before to as many behind
    ELEMENTS_GROUPS,     // `width` at a time
    ELEMENTS_LISTED,     // `numbers`, for each task alike
    ELEMENTS_OWN         // a list of its own for each task
};

struct need {
    const struct node *at; // the name of the task
    const struct node *elements_at;
    enum elements elements;
    uint32_t width;
    struct numbers numbers;
    const struct node *own; // a list of lists of indices
    bool is_data;           // false: only `after`
    bool is_stdin;
    const struct node *file; // NULL: named after the task
    uint32_t target;         // once resolved: number of its task in the file
};

struct task {
    const struct node *at; // where its name is
    const struct node *body;
    const struct node *field[FIELDS]; // NULL: not given, by the task or by the defaults
    const struct node *default_env;
    const char *name;
    bool is_array;
    uint32_t count;
    struct numbers indices;
    Dray__Column **column;
    size_t columns;
    struct need *need;
    size_t needs;
    Dray__Layer *layer;
    Dray__Op *op;
    Dray__Command *command; // of the op, or NULL
    const char *plugin;     // of the call, or NULL
    bool used;              // by the inputs of another
    uint32_t number;        // of its layer
    uint8_t mark;           // of the search for cycles
};

struct job_state {
    const struct job_file_host *host;
    struct arena *arena;
    struct document document;
    struct job_file *job;
    const struct node *defaults[FIELDS];
    struct task *task;
    uint32_t tasks;
    uint32_t *by_name; // numbers of tasks
};

#define STATE_ERROR(state, node, err, ...) document_error(&(state)->document, node, err, __VA_ARGS__)

// ---- schema.c: maps with known keys ------------------------------------------------------
struct key {
    const char *name;
    int field;
};
// field[] gets the values of the known keys; an unknown one is an error with the nearest of `keys`.  what: "a
// task". Only fields that are given and not null are set.
int schema_read(const struct job_state *state, const struct node *map, const char *what,
                const struct key *keys, size_t count, const struct node **field, struct error *err);
int schema_task(const struct job_state *state, const struct node *map, const struct node **field,
                struct error *err);
int schema_defaults(const struct job_state *state, const struct node *map, const struct node **field,
                    struct error *err);
// Scalars.  name: of the key, for words.
int read_text(const struct job_state *state, const struct node *node, const char *name, const char **out,
              struct error *err);
int read_bool(const struct job_state *state, const struct node *node, const char *name, bool *out,
              struct error *err);
int read_integer(const struct job_state *state, const struct node *node, const char *name, int64_t least,
                 int64_t most, int64_t *out, struct error *err);
int read_duration_ms(const struct job_state *state, const struct node *node, const char *name, uint32_t *out,
                     struct error *err);
int read_size(const struct job_state *state, const struct node *node, const char *name, uint64_t *out,
              struct error *err);
// A text or a list of texts, as nodes.
struct items {
    struct node *const *item;
    const struct node *single;
    uint32_t count;
};
int read_items(const struct job_state *state, const struct node *node, const char *name, struct items *out,
               struct error *err);
const struct node *items_at(const struct items *items, uint32_t i);

// ---- the parts of a task ------------------------------------------------------------------
int job_params_read(struct job_state *state, struct task *task, struct error *err);
// With `places`, {i} is known as well.
int job_text(const struct job_state *state, const struct task *task, const struct node *node,
             const char *prefix, bool places, ProtobufCBinaryData *out, struct error *err);
int job_text_string(const struct job_state *state, const struct task *task, const struct node *node,
                    bool places, char **out, struct error *err);
int job_task_read(struct job_state *state, struct task *task, struct error *err);
// Needs without their targets; then, when all tasks are known, targets; then, in order of layers, edges.
int job_inputs_read(struct job_state *state, struct task *task, struct error *err);
int job_inputs_resolve(struct job_state *state, struct task *task, struct error *err);
int job_inputs_edges(struct job_state *state, struct task *task, struct error *err);

// A name of a task by its place in the file; NULL: none.
struct task *job_find_task(const struct job_state *state, const char *name);

#endif
