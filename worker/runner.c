#include "worker/runner.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/graph.h"
#include "worker/child/children.h"
#include "worker/kernel/kernel.h"

enum {
    OUTBOX_MAX = 256,
    PUBLISH_NS = 2000000, // outcomes wait so long at most, unless a task does not end
    SLOW_NS = 20000,      // such tasks look at the clock one by one,
    LOOK_EVERY = 16,      // others after so many
    OUTSIDE_MAX = 64,     // tasks that go to another process at once
};

// Results in a row that are not in the store yet.
struct outbox {
    struct layer *layer;
    uint32_t first, count;
    uint8_t size[OUTBOX_MAX];
    uint8_t data[OUTBOX_MAX * STORE_SMALL];
};

struct runner {
    struct runner_options options;
    void *scratch;
    struct children *children;
    struct arena arena;
    struct outbox outbox;
    // The bundle that runs.
    struct bundle *bundle;
    pthread_mutex_t lock; // of the outcomes, and that they go out in order
    struct outcomes *outcomes;
    runner_publish publish;
    void *publish_arg;
    uint64_t published_ns;
    uint64_t mark_ns;     // what ran before is accounted for
    _Atomic uint64_t ran; // written by its own thread alone
    // Inputs of one task.
    size_t inputs_max;
    struct store_key *key;     // of those to be read from the store
    struct store_value *value; // of those
    size_t *place;             // which input each is
    struct kernel_bytes *bytes;
    struct partition **partition;
    uint32_t *start;
    size_t lists_max;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

int runner_create(const struct runner_options *options, struct runner **out, struct error *err)
{
    const struct children_options children = {
        .plugins = options->plugins, .scratch = options->scratch, .budget = options->budget};
    struct runner *runner = calloc(1, sizeof(*runner));
    int rc;

    if (runner == NULL) {
        return error_no_memory(err);
    }
    runner->options = *options;
    pthread_mutex_init(&runner->lock, NULL);
    arena_init(&runner->arena, 0);
    runner->scratch = kernel_scratch_create();
    rc = runner->scratch != NULL ? children_create(&children, &runner->children, err) : error_no_memory(err);
    if (rc < 0) {
        runner_destroy(runner);
        return rc;
    }
    *out = runner;
    return 0;
}

void runner_destroy(struct runner *runner)
{
    if (runner == NULL) {
        return;
    }
    children_destroy(runner->children);
    kernel_scratch_destroy(runner->scratch);
    arena_fini(&runner->arena);
    pthread_mutex_destroy(&runner->lock);
    free(runner->key);
    free(runner->value);
    free(runner->place);
    free(runner->bytes);
    free(runner->partition);
    free(runner->start);
    free(runner);
}

void runner_close(struct runner *runner)
{
    children_destroy(runner->children);
    runner->children = NULL;
}

void runner_wake(struct runner *runner)
{
    children_wake(runner->children);
}

uint64_t runner_ran(const struct runner *runner)
{
    return atomic_load_explicit(&runner->ran, memory_order_relaxed);
}

static void count_runs(struct runner *runner, uint32_t count)
{
    atomic_store_explicit(&runner->ran, runner_ran(runner) + count, memory_order_relaxed);
}

// ---- outcomes ---------------------------------------------------------------------

static void add(struct runner *runner, const struct outcome *outcome)
{
    pthread_mutex_lock(&runner->lock);
    outcomes_add(runner->outcomes, outcome);
    pthread_mutex_unlock(&runner->lock);
}

static void add_failed(struct runner *runner, struct layer *layer, uint32_t index, int code, const char *text)
{
    const struct outcome outcome = {.kind = OUTCOME_FAILED,
                                    .layer = layer,
                                    .first = index,
                                    .count = 1,
                                    .code = code,
                                    .text = strdup(text)};

    add(runner, &outcome);
}

static void add_skipped(struct runner *runner, struct layer *layer, uint32_t index)
{
    const struct outcome outcome = {.kind = OUTCOME_SKIPPED, .layer = layer, .first = index, .count = 1};

    add(runner, &outcome);
}

// The results in the outbox, with the time since the last mark.
static void flush(struct runner *runner)
{
    struct outbox *outbox = &runner->outbox;
    struct outcome outcome = {.kind = OUTCOME_DONE, .layer = outbox->layer, .first = outbox->first};
    struct error err = {0};
    struct store_key key;
    int rc;

    if (outbox->count == 0) {
        return; // and its layer may be gone
    }
    key = (struct store_key){outbox->layer->job, outbox->layer->layer, outbox->first};
    rc = store_put_small(runner->options.store, runner->bundle->epoch, &key, outbox->count, outbox->size,
                         outbox->data, &err);
    if (rc == 0) {
        outcome.count = outbox->count;
        add(runner, &outcome);
    }
    for (uint32_t i = 0; rc != 0 && i < outbox->count; i++) {
        add_failed(runner, outbox->layer, outbox->first + i, -rc, err.text);
    }
    outbox->count = 0;
}

// Since the last time, on account of the tasks of this layer that have ended since: of those that are done,
// or in equal parts of those that failed, when the last one did.
static void account(struct runner *runner, const struct layer *layer, uint64_t now)
{
    uint64_t busy_ns = now - runner->mark_ns;
    struct outcomes *outcomes;
    size_t end, first;

    pthread_mutex_lock(&runner->lock);
    outcomes = runner->outcomes;
    end = outcomes->count;
    while (end > 0 && (outcomes->outcome[end - 1].layer != layer ||
                       outcomes->outcome[end - 1].kind == OUTCOME_SKIPPED)) {
        end--;
    }
    first = end;
    while (first > 0 && outcomes->outcome[first - 1].layer == layer &&
           outcomes->outcome[first - 1].kind == OUTCOME_FAILED && outcomes->outcome[first - 1].busy_ns == 0) {
        first--;
    }
    if (first == end && end > 0 && outcomes->outcome[end - 1].kind == OUTCOME_DONE) {
        outcomes->outcome[end - 1].busy_ns += busy_ns;
    }
    for (size_t i = first; i < end; i++) {
        outcomes->outcome[i].busy_ns = 1 + busy_ns / (end - first);
    }
    pthread_mutex_unlock(&runner->lock);
    runner->mark_ns = now;
}

void runner_publish_now(struct runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    if (runner->outcomes != NULL && runner->outcomes->count > 0) {
        struct outcomes *next = outcomes_create(runner->outcomes->bundle);

        if (next != NULL) {
            runner->publish(runner->publish_arg, runner->outcomes);
            runner->outcomes = next;
        }
    }
    pthread_mutex_unlock(&runner->lock);
}

// After some tasks: what there is goes out once in a while.
static void look_up(struct runner *runner, struct layer *layer)
{
    uint64_t now = now_ns();

    if (now - runner->published_ns > PUBLISH_NS) {
        flush(runner);
        account(runner, layer, now);
        runner_publish_now(runner);
        runner->published_ns = now;
    }
}

// ---- inputs -----------------------------------------------------------------------

static int reserve(struct runner *runner, size_t inputs, size_t lists)
{
    if (lists >= runner->lists_max) {
        uint32_t *start = realloc(runner->start, (lists + 1) * sizeof(*start));

        if (start == NULL) {
            return -ENOMEM;
        }
        runner->start = start;
        runner->lists_max = lists + 1;
    }
    if (inputs <= runner->inputs_max) {
        return 0;
    }
    size_t max = inputs * 2 > 64 ? inputs * 2 : 64;

    free(runner->key);
    free(runner->value);
    free(runner->place);
    free(runner->bytes);
    free(runner->partition);
    runner->key = malloc(max * sizeof(*runner->key));
    runner->value = malloc(max * sizeof(*runner->value));
    runner->place = malloc(max * sizeof(*runner->place));
    runner->bytes = malloc(max * sizeof(*runner->bytes));
    runner->partition = malloc(max * sizeof(*runner->partition));
    if (runner->key == NULL || runner->value == NULL || runner->place == NULL || runner->bytes == NULL ||
        runner->partition == NULL) {
        runner->inputs_max = 0;
        return -ENOMEM;
    }
    runner->inputs_max = max;
    return 0;
}

static int count_inputs(struct runner *runner, const struct layer *layer, uint32_t index, size_t *out)
{
    size_t inputs = 0;

    for (size_t k = 0; k < layer->inputs; k++) {
        inputs += input_needs(layer->input[k], layer->tasks, layer->input_tasks[k], index).count;
    }
    *out = inputs;
    return reserve(runner, inputs, layer->inputs);
}

static const uint8_t *find_in_outbox(const struct outbox *outbox, uint32_t job, uint32_t number,
                                     uint32_t index, size_t *size)
{
    uint32_t at = index - outbox->first;

    if (at >= outbox->count || outbox->layer->layer != number || outbox->layer->job != job) {
        return NULL;
    }
    *size = outbox->size[at];
    return outbox->data + (size_t)at * STORE_SMALL;
}

static void set_bytes(struct kernel_bytes *bytes, const struct store_value *value)
{
    const struct partition *partition = value->partition;

    if (partition == NULL) {
        *bytes = (struct kernel_bytes){value->small, value->size};
    } else if (partition->kind == PARTITION_BYTES) {
        *bytes = (struct kernel_bytes){partition->bytes->data, partition->bytes->size};
    } else {
        *bytes = (struct kernel_bytes){NULL, 0};
    }
}

static void release_values(struct runner *runner, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        partition_unref(runner->value[i].partition);
    }
}

// 1: they are all there; 0: one is not.  *values of them hold references.
static int gather_bytes(struct runner *runner, const struct layer *layer, uint32_t index, size_t *inputs,
                        size_t *values)
{
    size_t n = 0;
    size_t reads = 0;

    *values = 0;
    if (count_inputs(runner, layer, index, inputs) != 0) {
        return -ENOMEM;
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        const Dray__Input *input = layer->input[k];
        uint32_t job = input->has_job ? input->job : layer->job;
        struct span span = input_needs(input, layer->tasks, layer->input_tasks[k], index);

        for (uint32_t s = 0; s < span.count; s++, n++) {
            struct kernel_bytes *bytes = &runner->bytes[n];

            bytes->data = find_in_outbox(&runner->outbox, job, input->layer, span_at(&span, s), &bytes->size);
            if (bytes->data == NULL) {
                runner->key[reads] = (struct store_key){job, input->layer, span_at(&span, s)};
                runner->place[reads++] = n;
            }
        }
    }
    if (reads > 0 &&
        !store_read(runner->options.store, runner->bundle->epoch, runner->key, reads, runner->value)) {
        return 0;
    }
    for (size_t i = 0; i < reads; i++) {
        set_bytes(&runner->bytes[runner->place[i]], &runner->value[i]);
    }
    *values = reads;
    return 1;
}

static struct partition *make_partition(const struct store_value *value)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(value->size, &data);

    if (bytes == NULL) {
        return NULL;
    }
    if (value->size > 0) {
        memcpy(data, value->small, value->size);
    }
    return partition_from_bytes(bytes);
}

// The same as partitions, in runner->partition and runner->start.
static int gather_partitions(struct runner *runner, const struct layer *layer, uint32_t index, size_t *inputs)
{
    size_t n = 0;

    if (count_inputs(runner, layer, index, inputs) != 0) {
        return -ENOMEM;
    }
    for (size_t k = 0; k < layer->inputs; k++) {
        const Dray__Input *input = layer->input[k];
        struct span span = input_needs(input, layer->tasks, layer->input_tasks[k], index);

        runner->start[k] = (uint32_t)n;
        for (uint32_t s = 0; s < span.count; s++) {
            runner->key[n++] =
                (struct store_key){input->has_job ? input->job : layer->job, input->layer, span_at(&span, s)};
        }
    }
    runner->start[layer->inputs] = (uint32_t)n;
    if (!store_read(runner->options.store, runner->bundle->epoch, runner->key, n, runner->value)) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        struct store_value *value = &runner->value[i];

        if (value->partition == NULL) {
            value->partition = make_partition(value);
        }
        if (value->partition == NULL) {
            release_values(runner, n);
            return -ENOMEM;
        }
        runner->partition[i] = value->partition;
    }
    return 1;
}

// ---- tasks ------------------------------------------------------------------------

static void begin(struct runner *runner, const struct layer *layer, uint32_t task, struct kernel_env *env)
{
    env->cancelled = &runner->bundle->cancelled[task];
    env->deadline_ns = layer->timeout_ms > 0 ? now_ns() + (uint64_t)layer->timeout_ms * 1000000 : 0;
    env->rows = env->source_bytes = 0;
}

static void fail(struct runner *runner, struct layer *layer, uint32_t index, int rc, const struct error *err)
{
    struct error why = {0};

    if (rc == -ETIMEDOUT && layer->timeout_ms > 0) {
        error_set(&why, ETIMEDOUT, "it took longer than its timeout of %.3g s", layer->timeout_ms / 1000.0);
        err = &why;
    }
    add_failed(runner, layer, index, -rc, err->text[0] != '\0' ? err->text : strerror(-rc));
}

static void run_small(struct runner *runner, struct layer *layer, uint32_t index, struct kernel_env *env)
{
    struct outbox *outbox = &runner->outbox;
    struct error err;
    size_t inputs = 0, values = 0, size = 0;
    int rc = layer->inputs > 0 ? gather_bytes(runner, layer, index, &inputs, &values) : 1;

    if (rc == 0) {
        add_skipped(runner, layer, index);
        return;
    }
    if (outbox->count > 0 &&
        (outbox->count == OUTBOX_MAX || outbox->layer != layer || outbox->first + outbox->count != index)) {
        // Inputs may point into it: kernels read them before they write.
        flush(runner);
    }
    err.text[0] = '\0';
    if (rc > 0) {
        count_runs(runner, 1);
        rc = kernel_run_small(layer->op, index, runner->bytes, inputs, env,
                              outbox->data + (size_t)outbox->count * STORE_SMALL, &size, &err);
    }
    release_values(runner, values);
    if (rc < 0) {
        fail(runner, layer, index, rc, &err);
        return;
    }
    if (outbox->count == 0) {
        outbox->layer = layer;
        outbox->first = index;
    }
    outbox->size[outbox->count++] = (uint8_t)size;
}

static bool has_note(const Dray__Note *note)
{
    return note->has_ends_quoted || note->n_widen > 0 || note->has_invalid_utf8 || note->use != NULL;
}

static int pack_note(const Dray__Note *note, struct buffer **out, struct error *err)
{
    uint8_t *bytes;
    struct buffer *buffer;

    if (!has_note(note)) {
        return 0;
    }
    buffer = buffer_create(dray__note__get_packed_size(note), &bytes);
    if (buffer == NULL) {
        return error_no_memory(err);
    }
    dray__note__pack(note, bytes);
    *out = buffer;
    return 0;
}

// Takes over the partition.
static int put_large(struct runner *runner, const struct layer *layer, uint32_t index, uint32_t task,
                     struct partition *partition, const Dray__Note *note, struct error *err)
{
    const struct store_key key = {layer->job, layer->layer, index};
    struct buffer *packed = NULL;
    int rc = pack_note(note, &packed, err);

    if (rc == 0 && atomic_load(&runner->bundle->cancelled[task])) {
        rc = error_set(err, ECANCELED, "cancelled");
    }
    if (rc != 0) {
        buffer_unref(packed);
        partition_unref(partition);
        return rc;
    }
    return store_put(runner->options.store, runner->bundle->epoch, &key, partition, packed, 0, err);
}

static void run_large(struct runner *runner, struct layer *layer, uint32_t index, uint32_t task,
                      struct kernel_env *env)
{
    struct outcome outcome = {.kind = OUTCOME_DONE, .layer = layer, .first = index, .count = 1};
    struct partition *partition = NULL;
    struct error err = {0};
    size_t inputs = 0;
    int rc = layer->op != NULL ? gather_partitions(runner, layer, index, &inputs) : 1;

    if (rc == 0) {
        add_skipped(runner, layer, index);
        return;
    }
    if (layer->op == NULL) {
        err = layer->why;
        rc = -err.code;
    } else if (rc > 0) {
        const struct kernel_inputs in = {runner->partition, runner->start, layer->inputs};

        dray__note__init(&env->note);
        count_runs(runner, 1);
        rc = kernel_run(layer->op, index, &in, env, &partition, &err);
        release_values(runner, inputs);
    }
    if (rc == 0) {
        rc = put_large(runner, layer, index, task, partition, &env->note, &err);
    }
    arena_reset(&runner->arena);
    if (rc < 0) {
        fail(runner, layer, index, rc, &err);
        return;
    }
    outcome.rows = env->rows;
    outcome.source_bytes = env->source_bytes;
    add(runner, &outcome);
}

// ---- tasks in other processes -------------------------------------------------------

// Inputs that stay where they are until the task is over; 1, 0 or negative as gather_partitions.
static int keep_inputs(struct runner *runner, const struct layer *layer, uint32_t index,
                       struct kernel_inputs *out)
{
    size_t inputs = 0;
    int rc = gather_partitions(runner, layer, index, &inputs);

    if (rc <= 0) {
        return rc;
    }
    struct partition **partition = arena_array(&runner->arena, inputs + 1, sizeof(*partition));
    uint32_t *start = arena_array(&runner->arena, layer->inputs + 1, sizeof(*start));

    if (partition == NULL || start == NULL) {
        release_values(runner, inputs);
        return -ENOMEM;
    }
    if (inputs > 0) {
        memcpy(partition, runner->partition, inputs * sizeof(struct partition *));
    }
    memcpy(start, runner->start, (layer->inputs + 1) * sizeof(*start));
    *out = (struct kernel_inputs){partition, start, layer->inputs};
    return 1;
}

static void end_outside(struct runner *runner, struct layer *layer, uint32_t place, struct child_task *task)
{
    struct outcome outcome = {.kind = OUTCOME_DONE, .layer = layer, .first = task->index, .count = 1};
    Dray__Note note = DRAY__NOTE__INIT;

    if (task->rc == 0) {
        note.use = task->has_use ? &task->use : NULL;
        task->rc = put_large(runner, layer, task->index, place, task->partition, &note, &task->err);
    }
    if (task->rc < 0) {
        add_failed(runner, layer, task->index, -task->rc, task->err.text);
    } else {
        add(runner, &outcome);
    }
    for (uint32_t i = 0; i < task->inputs.start[task->inputs.lists]; i++) {
        partition_unref(task->inputs.partition[i]);
    }
}

// The next tasks of a range, from `from` on; how many were looked at.
static uint32_t run_outside(struct runner *runner, const struct bundle_range *range, uint32_t from)
{
    struct layer *layer = range->layer;
    struct child_task task[OUTSIDE_MAX];
    uint32_t place[OUTSIDE_MAX];
    // A command may take long: those before it are told, those behind it can be taken back.
    uint32_t most = layer->op->step[0]->command != NULL ? 1 : OUTSIDE_MAX;
    uint32_t count = 0;
    uint32_t i = from;

    for (; i < range->count && count < most; i++) {
        struct child_task *next = &task[count];
        int rc;

        if (!bundle_start(runner->bundle, range->at + i)) {
            continue;
        }
        memset(next, 0, sizeof(*next));
        next->index = range->first + i;
        next->cancelled = &runner->bundle->cancelled[range->at + i];
        rc = keep_inputs(runner, layer, next->index, &next->inputs);
        if (rc == 0) {
            add_skipped(runner, layer, next->index);
        } else if (rc < 0) {
            fail(runner, layer, next->index, rc, &(struct error){0});
        } else {
            place[count++] = range->at + i;
        }
    }
    count_runs(runner, count);
    children_run(runner->children, layer->op, layer->timeout_ms, task, count);
    for (uint32_t k = 0; k < count; k++) {
        end_outside(runner, layer, place[k], &task[k]);
    }
    arena_reset(&runner->arena);
    return i - from;
}

static void run_range(struct runner *runner, const struct bundle_range *range)
{
    struct layer *layer = range->layer;
    bool outside = layer->size == KERNEL_CHILD;
    bool small = layer->size == KERNEL_SHORT || layer->size == KERNEL_INSTANT;
    bool slow = !small || atomic_load_explicit(&layer->slow, memory_order_relaxed);
    uint64_t begun_ns = runner->mark_ns;
    struct kernel_env env = {
        .budget = runner->options.budget,
        .data_dir = runner->options.data_dir,
        .arena = &runner->arena,
        .scratch = runner->scratch,
    };

    for (uint32_t i = 0; outside && i < range->count;) {
        i += run_outside(runner, range, i);
        look_up(runner, layer);
    }
    for (uint32_t i = 0; !outside && i < range->count; i++) {
        if (!bundle_start(runner->bundle, range->at + i)) {
            continue; // it was said when it was taken back
        }
        begin(runner, layer, range->at + i, &env);
        if (small) {
            run_small(runner, layer, range->first + i, &env);
        } else {
            run_large(runner, layer, range->first + i, range->at + i, &env);
        }
        if (slow) {
            flush(runner); // the next one may take long
        }
        if (slow || i % LOOK_EVERY == LOOK_EVERY - 1) {
            look_up(runner, layer);
        }
    }
    flush(runner);

    uint64_t now = now_ns();

    account(runner, layer, now);
    atomic_store_explicit(&layer->slow, (now - begun_ns) / range->count > SLOW_NS, memory_order_relaxed);
}

void runner_run(struct runner *runner, struct bundle *bundle, runner_publish publish, void *arg)
{
    pthread_mutex_lock(&runner->lock);
    runner->bundle = bundle;
    runner->outcomes = bundle->outcomes;
    bundle->outcomes = NULL;
    runner->publish = publish;
    runner->publish_arg = arg;
    pthread_mutex_unlock(&runner->lock);
    runner->outbox.count = 0;
    runner->published_ns = runner->mark_ns = now_ns();
    for (size_t r = 0; r < bundle->ranges; r++) {
        run_range(runner, &bundle->range[r]);
    }
    runner->bundle = NULL;
    pthread_mutex_lock(&runner->lock);
    runner->outcomes->over = true;
    publish(arg, runner->outcomes);
    runner->outcomes = NULL;
    pthread_mutex_unlock(&runner->lock);
}
