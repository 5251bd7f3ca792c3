#include "client/lib/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/lib/connection.h"
#include "client/lib/draft.h"
#include "client/lib/jobs.h"
#include "proto/graph.h"

enum {
    UNFINISHED_MAX = 1000000,
    SEND_TASKS = 8192,        // so many are sent without being asked, more while the cluster has enough to do
    SEND_TASKS_MAX = 65536,   // but never more
    SEND_BYTES = 1 << 20,     // or so much
    MESSAGE_BYTES = 32 << 20, // of one EXTEND, unless a single layer is larger
    UNSENT_MAX = 16 * SEND_TASKS, // then a submit waits
    SEND_NS = 4000000,            // or what is older, when the next one comes
    SEND_BUSY_NS = 20000000,      // the same while the cluster has enough to do
    RETRY_MS = 5,                 // while the broker takes no messages
    CONFIRM_MS = 10000,           // for its word on what a pool that goes on has sent
    LAYERS_MAX = 16384,           // of a job, before the pool moves on to another one
    MAP_EDGES_MAX = 4 << 20,
    DRAFTS_MAX = 8, // kinds of tasks that come by turns without a layer for each turn
};
#define TASKS_MAX (GRAPH_TASKS_MAX / 2) // of a job

struct dray_pool {
    struct dray_pool *next; // of the connection
    dray_t *dray;
    char *name;
    struct dray_pool_options options;
    uint32_t job;                   // that the next task goes to
    uint64_t job_tasks;             // that it has
    uint32_t layers;                // that it has
    size_t unfinished;              // tasks, kept by results.c
    struct draft draft[DRAFTS_MAX]; // its last layers, in order; beyond `drafts`: memory for others
    uint32_t drafts;
    struct bytes graph; // packed layers that were not sent yet
    uint32_t graph_layers;
    size_t unsent;     // tasks in them and in the drafts
    uint64_t since_ns; // the first of them came
    struct draft_input *input;
    size_t inputs_room;
};

static uint64_t coarse_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

// ---- sending -----------------------------------------------------------------------------------------

static void discard(struct dray_pool *pool)
{
    pool->drafts = 0;
    pool->graph.size = 0;
    pool->graph_layers = 0;
    pool->unsent = 0;
}

// -EAGAIN: the broker takes no messages at present.
static int send_graph(struct dray_pool *pool, bool last, struct error *err)
{
    struct job *job = results_find_job(pool->dray->results, pool->job);
    uint32_t first = pool->layers - pool->graph_layers - pool->drafts;
    int rc;

    if (job == NULL || results_job_ended(job, NULL)) {
        discard(pool); // who waits for them is told of the job's end
        return 0;
    }
    if (pool->graph.size == 0 && !last) {
        return 0;
    }
    rc = results_extend(pool->dray->results, pool->job, first, pool->graph_layers, &pool->graph.data,
                        pool->graph.size, last, false, err);
    if (rc == 0) {
        results_sent(job, pool->layers - pool->drafts);
        pool->graph = (struct bytes){0};
        pool->graph_layers = 0;
        pool->unsent = 0;
        for (uint32_t i = 0; i < pool->drafts; i++) {
            pool->unsent += pool->draft[i].tasks;
        }
        pool->since_ns = 0;
    }
    return rc;
}

// How many tasks the layers have that it reads is known only now.
static void know_sources(const struct dray_pool *pool, struct draft *draft)
{
    for (size_t i = 0; i < draft->slots; i++) {
        const struct dray_future any = {pool->job, draft->slot[i].layer, 0};

        if (draft->slot[i].job == 0 && !draft->slot[i].own) {
            results_layer_tasks(pool->dray->results, &any, &draft->slot[i].tasks, NULL);
        }
    }
}

// The oldest draft joins what is to be sent.
static int close_oldest(struct dray_pool *pool, struct error *err)
{
    struct draft oldest = pool->draft[0];
    int rc;

    know_sources(pool, &pool->draft[0]);
    rc = draft_close(&pool->draft[0], &pool->graph, err);
    if (rc == 0) {
        oldest = pool->draft[0];
        pool->drafts--;
        memmove(&pool->draft[0], &pool->draft[1], pool->drafts * sizeof(oldest));
        pool->draft[pool->drafts] = oldest; // its memory
        pool->graph_layers++;
    }
    return rc;
}

// The drafts join what is to be sent.
static int close_drafts(struct dray_pool *pool, struct error *err)
{
    int rc = 0;

    while (rc == 0 && pool->drafts > 0) {
        if (pool->graph.size > 0 && pool->graph.size + draft_size(&pool->draft[0]) > MESSAGE_BYTES) {
            rc = send_graph(pool, false, err);
        }
        if (rc == 0 && pool->drafts > 0) { // sending may have found that the job is over
            rc = close_oldest(pool, err);
        }
    }
    return rc;
}

static int flush(struct dray_pool *pool, bool last, struct error *err)
{
    int rc = close_drafts(pool, err);

    return rc == 0 ? send_graph(pool, last, err) : rc;
}

// Waits while the broker takes no messages.
static int push(struct dray_pool *pool, bool last, struct error *err)
{
    int rc;

    while ((rc = flush(pool, last, err)) == -EAGAIN) {
        rc = connection_take_in(pool->dray, true, err);
        if (rc == 0) {
            rc = connection_wait(pool->dray, connection_deadline(RETRY_MS), false, err);
        }
        if (rc < 0) {
            return rc;
        }
    }
    return rc;
}

int pools_flush(dray_pool_t *pools, struct error *err)
{
    for (; pools != NULL; pools = pools->next) {
        int rc = pools->unsent > 0 ? flush(pools, false, err) : 0;

        if (rc != 0 && rc != -EAGAIN && rc != -ENOMEM) { // those are tried again
            return rc;
        }
    }
    return 0;
}

int pools_push(dray_pool_t *pools, struct error *err)
{
    int rc = 0;

    for (; pools != NULL && rc == 0; pools = pools->next) {
        rc = pools->unsent > 0 ? push(pools, false, err) : 0;
    }
    return rc;
}

bool pools_waiting(const dray_pool_t *pools)
{
    while (pools != NULL && pools->unsent == 0) {
        pools = pools->next;
    }
    return pools != NULL;
}

// ---- opening and closing ---------------------------------------------------------------------------------

static int open_job(struct dray_pool *pool, struct error *err)
{
    const struct dray_submit_options options = {
        .size = sizeof(options),
        .priority = pool->options.priority,
        .detached = pool->options.detached,
        .failures_max = UINT32_MAX,
        .name = pool->name,
        .open = 1,
    };
    uint32_t job;
    int rc = jobs_submit(pool->dray, NULL, (struct dray_bytes){0}, &options, &pool->unfinished, &job, err);

    if (rc == 0) {
        pool->job = job;
        pool->job_tasks = 0;
        pool->layers = 0;
    }
    return rc;
}

static void pool_free(struct dray_pool *pool)
{
    for (uint32_t i = 0; i < DRAFTS_MAX; i++) {
        draft_fini(&pool->draft[i]);
    }
    bytes_fini(&pool->graph);
    free(pool->input);
    free(pool->name);
    free(pool);
}

int dray_pool_open(dray_t *dray, const struct dray_pool_options *given, dray_pool_t **out,
                   struct dray_error *error)
{
    struct dray_pool *pool = calloc(1, sizeof(*pool));
    struct error err = {0};
    int rc;

    if (pool == NULL) {
        return client_error(error_no_memory(&err), &err, error);
    }
    pool->dray = dray;
    if (given != NULL) {
        memcpy(&pool->options, given,
               given->size < sizeof(pool->options) ? given->size : sizeof(pool->options));
    }
    if (pool->options.unfinished_max == 0) {
        pool->options.unfinished_max = UNFINISHED_MAX;
    }
    for (uint32_t i = 0; i < DRAFTS_MAX; i++) {
        draft_init(&pool->draft[i]);
    }
    if (pool->options.name != NULL && (pool->name = strdup(pool->options.name)) == NULL) {
        rc = error_no_memory(&err);
        goto out;
    }
    rc = open_job(pool, &err);
    if (rc != 0) {
        goto out;
    }
    pool->next = dray->pools;
    dray->pools = pool;
    *out = pool;
    pool = NULL;
out:
    if (pool != NULL) {
        pool_free(pool);
    }
    connection_settle(dray);
    return client_error(rc, &err, error);
}

// Detached and kept jobs go on.
static void end_job(struct dray_pool *pool, struct job *job, uint32_t id)
{
    struct uplink *uplink = pool->dray->uplink;
    Dray__Cancel cancel = DRAY__CANCEL__INIT;
    Dray__Free message = DRAY__FREE__INIT;

    struct error why = {0};

    if (results_job_ended(job, &why) && why.code == EBUSY) {
        // Somebody else has it now.
    } else if (!pool->options.detached && !results_job_kept(job)) {
        cancel.job = message.job = id;
        if (results_job_unfinished(job) > 0 || id == pool->job) {
            uplink_send(uplink, FRAME_CANCEL, &cancel.base, NULL);
        }
        uplink_send(uplink, FRAME_FREE, &message.base, NULL);
        results_farewell(pool->dray->results, id);
    } else {
        results_flush(pool->dray->results, true); // what of it was released
    }
    results_drop_job(pool->dray->results, id);
}

// Of a job that goes on: what it was sent shall be there even if the broker dies now.
static int await_confirmed(struct dray_pool *pool, struct error *err)
{
    uint64_t until = connection_deadline(CONFIRM_MS);
    int rc = 0;

    while (rc == 0) {
        const struct job *job = results_find_job(pool->dray->results, pool->job);

        if (job == NULL || results_job_ended(job, NULL) ||
            !results_unconfirmed(pool->dray->results, pool->job)) {
            return 0;
        }
        rc = connection_take_in(pool->dray, true, err);
        if (rc == 0 && results_unconfirmed(pool->dray->results, pool->job)) {
            rc = connection_wait(pool->dray, until, true, err);
            if (rc == 0) {
                return -ETIMEDOUT;
            }
            rc = rc > 0 ? 0 : rc;
        }
    }
    return rc;
}

static void end_pool(struct dray_pool *pool)
{
    struct job *job = results_find_job(pool->dray->results, pool->job);
    struct error err;
    uint32_t id;

    if (job != NULL && (pool->options.detached || results_job_kept(job))) {
        if (push(pool, true, &err) == 0) {
            await_confirmed(pool, &err);
        }
    }
    while ((job = results_pool_job(pool->dray->results, &pool->unfinished, &id)) != NULL) {
        end_job(pool, job, id);
    }
    pool_free(pool);
}

void dray_pool_close(dray_pool_t *pool)
{
    dray_t *dray;

    if (pool == NULL) {
        return;
    }
    dray = pool->dray;
    for (struct dray_pool **link = &dray->pools; *link != NULL; link = &(*link)->next) {
        if (*link == pool) {
            *link = pool->next;
            break;
        }
    }
    end_pool(pool);
    connection_settle(dray);
}

void pools_destroy(dray_pool_t *pools)
{
    while (pools != NULL) {
        struct dray_pool *next = pools->next;

        end_pool(pools);
        pools = next;
    }
}

dray_job_t dray_pool_job(const dray_pool_t *pool)
{
    return pool->job;
}

size_t dray_pool_unfinished(const dray_pool_t *pool)
{
    return pool->unfinished;
}

int dray_pool_flush(dray_pool_t *pool, struct dray_error *error)
{
    struct error err = {0};
    int rc = push(pool, false, &err);

    connection_settle(pool->dray);
    return client_error(rc, &err, error);
}

// ---- room ---------------------------------------------------------------------------------------------

static int check_job(struct dray_pool *pool, struct error *err)
{
    struct job *job = results_find_job(pool->dray->results, pool->job);
    struct error why = {0};

    if (pool->dray->broken.code != 0) {
        *err = pool->dray->broken;
        return -err->code;
    }
    if (job == NULL) {
        return error_set(err, ENOENT, "the pool's job %u was released", pool->job);
    }
    if (results_job_ended(job, &why)) {
        return error_set(err, why.code, "the pool's job %u is over: %s", pool->job, why.text);
    }
    return 0;
}

// Waits while too many tasks are unfinished; then until some room is there, not for each task anew.
static int wait_for_room(struct dray_pool *pool, struct error *err)
{
    size_t max = pool->options.unfinished_max;
    int rc = 0;

    if (pool->unfinished < max) {
        return 0;
    }
    max -= max / 8;
    while (rc >= 0) {
        rc = connection_take_in(pool->dray, true, err);
        if (rc < 0 || pool->unfinished < max) {
            break;
        }
        rc = connection_wait(pool->dray, UINT64_MAX, false, err);
    }
    connection_settle(pool->dray);
    return rc < 0 ? rc : 0;
}

// The pool's job is full: it gets its end, and another one takes the next tasks.
static int move_on(struct dray_pool *pool, struct error *err)
{
    uint32_t full = pool->job;
    int rc = push(pool, true, err);

    if (rc == 0) {
        rc = open_job(pool, err);
    }
    if (rc == 0) {
        results_close_job(pool->dray->results, full);
    }
    return rc;
}

// A layer behind all others.  alone: what was drafted before is closed.
static int begin(struct dray_pool *pool, const struct dray_task *task, bool listed, size_t tasks, bool alone,
                 struct error *err)
{
    int rc = alone || pool->drafts == DRAFTS_MAX ? close_drafts(pool, err) : 0;

    if (rc == -EAGAIN) {
        rc = push(pool, false, err);
    }
    if (rc == 0 && (pool->layers >= LAYERS_MAX || pool->job_tasks + tasks > TASKS_MAX)) {
        rc = move_on(pool, err);
    }
    if (rc == 0) {
        rc = draft_begin(&pool->draft[pool->drafts], pool->layers, task, listed, err);
    }
    if (rc == 0) {
        struct job *job = results_find_job(pool->dray->results, pool->job);

        rc = job != NULL ? results_begin_layer(job, err)
                         : error_set(err, ENOENT, "the pool's job %u was released", pool->job);
    }
    if (rc == 0) {
        pool->drafts++;
        pool->layers++;
    }
    return rc;
}

static struct draft *newest(struct dray_pool *pool)
{
    return &pool->draft[pool->drafts - 1];
}

// The last layer, of which nobody was told a task.
static void drop_layer(struct dray_pool *pool)
{
    pool->drafts--;
    pool->layers--;
    results_cut_layers(pool->dray->results, pool->job, pool->layers);
}

// ---- inputs ---------------------------------------------------------------------------------------------

// The broker must know what other pools have of them first.  To be called while nothing is half done here:
// waiting for the broker, this pool's own draft may be sent as well.
static int send_inputs(const struct dray_pool *pool, const struct dray_future *future, size_t count,
                       struct error *err)
{
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++) {
        struct dray_pool *other = pool->dray->pools;

        if (future[i].job == pool->job || !results_unsent(pool->dray->results, &future[i])) {
            continue;
        }
        while (other != NULL && other->job != future[i].job) {
            other = other->next;
        }
        rc = other != NULL ? push(other, false, err) : 0;
    }
    return rc;
}

static int resolve(struct dray_pool *pool, const struct dray_future *future, size_t count, struct error *err)
{
    if (count > pool->inputs_room) {
        struct draft_input *grown = realloc(pool->input, count * sizeof(*grown));

        if (grown == NULL) {
            return error_no_memory(err);
        }
        pool->input = grown;
        pool->inputs_room = count;
    }
    for (size_t i = 0; i < count; i++) {
        struct draft_input *input = &pool->input[i];
        int rc = results_layer_tasks(pool->dray->results, &future[i], &input->tasks, err);

        if (rc != 0) {
            error_prefix(err, "input %zu: ", i);
            return rc;
        }
        input->job = future[i].job == pool->job ? 0 : future[i].job;
        input->layer = future[i].layer;
        input->index = future[i].index;
    }
    return 0;
}

// ---- submitting
// ---------------------------------------------------------------------------------------------

// Of an older version of the header, or the same.
static const struct dray_task *whole_task(const struct dray_task *given, struct dray_task *copy)
{
    if (given->size == sizeof(*given)) {
        return given;
    }
    memset(copy, 0, sizeof(*copy));
    memcpy(copy, given, given->size < sizeof(*copy) ? given->size : sizeof(*copy));
    return copy;
}

static void count_tasks(struct dray_pool *pool, uint32_t layer, uint32_t tasks)
{
    results_grow_layer(results_find_job(pool->dray->results, pool->job), layer, tasks);
    pool->job_tasks += tasks;
    pool->unsent += tasks;
}

// Sends what is enough or old enough, and takes in what has come meanwhile.  Where the cluster is behind
// anyway, larger layers are cheaper for all: tasks that depend on many layers most of all.
static int send_some(struct dray_pool *pool, struct error *err)
{
    size_t sent = pool->unfinished > pool->unsent ? pool->unfinished - pool->unsent : 0;
    size_t enough = sent / 2 > SEND_TASKS ? sent / 2 : SEND_TASKS;
    size_t bytes = pool->graph.size;
    uint64_t now = coarse_ns();
    int rc;

    if (pool->since_ns == 0) {
        pool->since_ns = now;
    }
    enough = enough < SEND_TASKS_MAX ? enough : SEND_TASKS_MAX;
    for (uint32_t i = 0; i < pool->drafts; i++) {
        bytes += pool->draft[i].argument.size;
    }
    if (pool->unsent < enough && bytes < SEND_BYTES &&
        now - pool->since_ns < (sent > SEND_TASKS ? SEND_BUSY_NS : SEND_NS)) {
        return 0;
    }
    rc = connection_take_in(pool->dray, false, err);
    if (rc == 0 && pool->unsent >= UNSENT_MAX) { // the broker takes no messages
        rc = push(pool, false, err);
    }
    connection_settle(pool->dray);
    return rc;
}

// The last draft that takes it and that is behind all it reads; NULL: none.
static struct draft *find_draft(struct dray_pool *pool, const struct dray_task *task)
{
    uint32_t first = 0, oldest = pool->layers - pool->drafts;

    for (size_t i = 0; i < task->inputs; i++) {
        if (task->input[i].job == pool->job && task->input[i].layer > oldest + first &&
            task->input[i].layer < pool->layers) {
            first = task->input[i].layer - oldest;
        }
    }
    for (uint32_t i = pool->drafts; i-- > first;) {
        if (draft_takes(&pool->draft[i], task)) {
            return &pool->draft[i];
        }
    }
    return NULL;
}

static int add_task(struct dray_pool *pool, const struct dray_task *task, struct draft **to,
                    struct error *err)
{
    bool listed = task->kind == DRAY_TASK_DATA || task->argument.data != NULL;
    struct draft *draft = NULL;
    int rc = send_inputs(pool, task->input, task->inputs, err);

    if (rc == 0 && (draft = find_draft(pool, task)) == NULL) {
        rc = begin(pool, task, listed, 1, false, err);
        draft = rc == 0 ? newest(pool) : NULL;
    }
    if (rc == 0) {
        rc = resolve(pool, task->input, task->inputs, err);
    }
    for (int attempt = 0; rc == 0; attempt++) {
        size_t before = draft->argument.size;

        rc = listed ? draft_argument(draft, &task->argument, err) : 0;
        if (rc == 0) {
            rc = draft_add(draft, pool->input, task->inputs, err);
        }
        if (rc == 0) {
            *to = draft;
            return 0;
        }
        draft->argument.size = before;
        if (rc == -ENOSPC && attempt == 0 && draft->tasks > 0) {
            rc = begin(pool, task, listed, 1, false, err);
            if (rc == 0) { // what was the draft's own is of another layer now, and perhaps of another job
                draft = newest(pool);
                rc = resolve(pool, task->input, task->inputs, err);
            }
        } else if (rc == -ENOSPC) {
            rc = error_set(err, E2BIG, "a task with %zu inputs from too many layers", task->inputs);
        }
    }
    if (pool->drafts > 0 && newest(pool)->tasks == 0) {
        drop_layer(pool);
    }
    return rc;
}

int dray_submit(dray_pool_t *pool, const struct dray_task *given, struct dray_future *out,
                struct dray_error *error)
{
    struct dray_task copy;
    const struct dray_task *task = whole_task(given, &copy);
    struct draft *draft = NULL;
    struct error err;
    int rc = 0;

    err.code = 0;
    err.text[0] = '\0';
    if (task->argument.size > DRAY_ARGUMENT_BYTES_MAX) {
        rc = error_set(&err, E2BIG, "an argument of %zu bytes: at most %zu go with a task",
                       task->argument.size, DRAY_ARGUMENT_BYTES_MAX);
    }
    if (rc == 0) {
        rc = wait_for_room(pool, &err);
    }
    if (rc == 0) {
        rc = check_job(pool, &err);
    }
    if (rc == 0) {
        rc = add_task(pool, task, &draft, &err);
    }
    if (rc == 0) {
        out->job = pool->job;
        out->layer = draft->layer;
        out->index = draft->tasks - 1;
        count_tasks(pool, draft->layer, 1);
        send_some(pool, &err); // the task is there; what is wrong will be told by the next call
        return 0;
    }
    return client_error(rc, &err, error);
}

static int check_map(const struct dray_task *task, const struct dray_bytes *argument, size_t count,
                     struct error *err)
{
    uint64_t bytes = argument == NULL ? task->argument.size : 0;
    uint64_t edges = task->inputs > 0 ? (uint64_t)count * (task->inputs + 1) : 0;

    if (count < 1 || count > TASKS_MAX) {
        return error_set(err, EINVAL, "%zu tasks: there can be 1 to %u", count, TASKS_MAX);
    }
    if (argument != NULL && count > DRAY_MAP_MAX) {
        return error_set(err, E2BIG, "%zu arguments in one call: at most %zu", count, DRAY_MAP_MAX);
    }
    for (size_t i = 0; argument != NULL && i < count; i++) {
        bytes += argument[i].size;
    }
    if (bytes > DRAY_ARGUMENT_BYTES_MAX) {
        return error_set(err, E2BIG, "arguments of %llu bytes in one call: at most %zu",
                         (unsigned long long)bytes, DRAY_ARGUMENT_BYTES_MAX);
    }
    if (task->kind == DRAY_TASK_DATA && argument == NULL && task->argument.data == NULL) {
        return error_set(err, EINVAL, "data without a value");
    }
    if (edges > MAP_EDGES_MAX && (task->input_each || task->inputs > 1)) {
        return error_set(err, E2BIG, "%zu tasks with %zu inputs each in one call: too many, use several",
                         count, task->inputs);
    }
    return 0;
}

// In a layer of its own, which is there.
static int add_map(struct dray_pool *pool, const struct dray_task *task, const struct dray_bytes *argument,
                   size_t count, struct error *err)
{
    size_t inputs = task->input_each ? task->inputs * count : task->inputs;
    bool shared = argument == NULL && task->argument.data != NULL;
    struct draft *draft = newest(pool);
    int rc = resolve(pool, task->input, inputs, err);

    for (size_t i = 0; rc == 0 && argument != NULL && i < count; i++) {
        rc = draft_argument(draft, &argument[i], err);
    }
    if (rc == 0 && shared) {
        rc = draft_argument(draft, &task->argument, err);
    }
    if (rc == 0 && (task->inputs == 0 || !task->input_each)) {
        rc = draft_add_many(draft, (uint32_t)count, pool->input, task->inputs, err);
    }
    for (size_t i = 0; rc == 0 && task->inputs > 0 && task->input_each && i < count; i++) {
        rc = draft_add(draft, pool->input + i * task->inputs, task->inputs, err);
    }
    return rc == -ENOSPC
               ? error_set(err, E2BIG, "tasks whose inputs come from too many layers: use several calls")
               : rc;
}

int dray_map(dray_pool_t *pool, const struct dray_task *given, const struct dray_bytes *argument,
             size_t count, struct dray_future *out, struct dray_error *error)
{
    struct dray_task copy;
    const struct dray_task *task = whole_task(given, &copy);
    struct error err = {0};
    int rc = check_map(task, argument, count, &err);

    if (rc == 0) {
        rc = wait_for_room(pool, &err);
    }
    if (rc == 0) {
        rc = check_job(pool, &err);
    }
    if (rc == 0) {
        rc = send_inputs(pool, task->input, task->input_each ? task->inputs * count : task->inputs, &err);
    }
    if (rc == 0) {
        rc = begin(pool, task, argument != NULL || task->argument.data != NULL, count, true, &err);
    }
    if (rc == 0) {
        rc = add_map(pool, task, argument, count, &err);
        if (rc != 0) {
            drop_layer(pool);
        }
    }
    if (rc == 0) {
        *out = (struct dray_future){pool->job, newest(pool)->layer, 0};
        count_tasks(pool, out->layer, (uint32_t)count);
        close_drafts(pool, &err); // no other joins it; without memory, with the next flush
        send_some(pool, &err);
    }
    return client_error(rc, &err, error);
}

int dray_scatter(dray_pool_t *pool, const void *data, size_t size, struct dray_future *out,
                 struct dray_error *error)
{
    const struct dray_task task = {
        .size = sizeof(task),
        .kind = DRAY_TASK_DATA,
        .argument = {data, size},
    };

    return dray_submit(pool, &task, out, error);
}
