// Functions of plugins: batches of calls to a warm process, and what to do when it does not survive one.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/dray_task.h"
#include "worker/child/children_state.h"

enum {
    START_SECONDS = 60,
    STARTS_MAX = 3,      // of a process that ends before a call begins
    PLACES = 8,          // inputs that are remembered from the call before
    MAP_ABOVE = 1 << 20, // larger results stay where they are
    FINISH_MS = 1000,
};
#define NS_PER_MS UINT64_C(1000000)

// Where an input of the call before has been put: broadcast inputs are there once a batch.
struct place {
    const struct partition *partition;
    struct channel_value value;
};

struct caller {
    struct children *children;
    const struct plugin *plugin;
    const struct plugin_function *function;
    uint32_t function_at;
    const Dray__Call *call;
    uint32_t timeout_ms;
    struct process *process;
    // the batch that runs: slot i is task[i]
    struct child_task *task;
    size_t count;
    size_t taken; // outcomes so far, in order
    uint64_t input_charge;
    struct place place[PLACES];
    // memory granted to the call that runs for its result
    int own_fd;
    size_t own_slot;
    uint64_t own_size;
    struct error refused; // why it was not granted
    // a process that is to be killed, and because of what
    int ending;
    size_t ending_slot;
    uint64_t grace_ns; // it may end the call by itself until then; 0: no
};

// ---- a process ------------------------------------------------------------------------------

static int start_process(struct caller *caller, struct error *err)
{
    struct children *children = caller->children;
    const struct plugins *plugins = children->options.plugins;
    const struct process_options options = {
        .helper = plugins->helper, .mode = "plugin", .path = caller->plugin->path, .memory = plugins->memory};
    uint64_t deadline = process_now_ns() + START_SECONDS * 1000 * NS_PER_MS;
    struct channel_word word;
    enum process_event event;
    char how[200];
    int rc = process_start(caller->process, &options, err);

    if (rc != 0) {
        return rc;
    }
    do {
        event = process_wait(caller->process, children->wake, deadline, &word);
    } while (event == PROCESS_WOKEN && !child_task_is_cancelled(caller->task));
    if (event == PROCESS_WORD) {
        rc = plugins_hello(caller->process, &word, err);
    } else if (event == PROCESS_WOKEN) {
        rc = error_set(err, ECANCELED, "cancelled");
    } else if (event == PROCESS_TIMEOUT) {
        rc = error_set(err, ETIMEDOUT, "is not ready after %d seconds", START_SECONDS);
    } else {
        rc = EOWNERDEAD;
    }
    if (rc != 0) {
        process_describe(process_end(caller->process, 0), how, sizeof(how));
        if (rc == EOWNERDEAD) {
            rc = error_set(err, EOWNERDEAD, "its process %s before it was ready", how);
        }
        if (rc != -ECANCELED) {
            error_prefix(err, "plugin '%s': ", caller->plugin->name);
            tail_append(&caller->process->tail, err);
        }
    }
    return rc;
}

// ---- putting a batch together ---------------------------------------------------------------

static const ProtobufCBinaryData *argument_of(const struct caller *caller, uint32_t index)
{
    static const ProtobufCBinaryData none;
    const Dray__Call *call = caller->call;

    return call->n_argument == 0 ? &none : &call->argument[call->n_argument == 1 ? 0 : index];
}

static int value_size(const struct partition *p, uint64_t *size, struct error *err)
{
    if (p->kind == PARTITION_TABLE) {
        return partition_encoded_bytes(p, size, err);
    }
    *size = p->bytes->size;
    return 0;
}

// Bytes of input memory that a call takes at most.
static int call_size(const struct caller *caller, const struct child_task *task, uint64_t *out,
                     struct error *err)
{
    const struct kernel_inputs *inputs = &task->inputs;
    uint32_t total = inputs->lists > 0 ? inputs->start[inputs->lists] : 0;
    uint64_t size = channel_pad(argument_of(caller, task->index)->len) + CHANNEL_ALIGN +
                    channel_pad(inputs->lists * sizeof(uint64_t) + total * sizeof(struct channel_value));

    for (uint32_t i = 0; i < total; i++) {
        uint64_t bytes = 0;
        int rc = caller->place[i % PLACES].partition == inputs->partition[i]
                     ? 0
                     : value_size(inputs->partition[i], &bytes, err);

        if (rc != 0) {
            return rc;
        }
        size += channel_pad(bytes);
    }
    *out = size;
    return 0;
}

static int put_value(struct caller *caller, uint32_t at, const struct partition *p, size_t *used,
                     struct channel_value *out, struct error *err)
{
    struct place *place = &caller->place[at % PLACES];
    uint8_t *to = caller->process->input + *used;
    uint64_t size;
    int rc = 0;

    if (place->partition == p) {
        *out = place->value;
        return 0;
    }
    rc = value_size(p, &size, err);
    if (rc == 0 && p->kind == PARTITION_TABLE) {
        rc = partition_encode_to(p, to, size, err);
    } else if (rc == 0 && size > 0) {
        memcpy(to, p->bytes->data, size);
    }
    if (rc != 0) {
        return rc;
    }
    *out = (struct channel_value){.kind = (uint64_t)p->kind, .at = *used, .size = size};
    *place = (struct place){.partition = p, .value = *out};
    *used += channel_pad(size);
    return 0;
}

static int put_inputs(struct caller *caller, struct channel_slot *slot, const struct kernel_inputs *inputs,
                      size_t *used, struct error *err)
{
    uint32_t total = inputs->start[inputs->lists];
    uint64_t *count = (uint64_t *)(void *)(caller->process->input + *used);
    struct channel_value *value = (struct channel_value *)(void *)(count + inputs->lists);
    int rc = 0;

    slot->inputs_at = *used;
    slot->lists = (uint32_t)inputs->lists;
    *used += channel_pad(inputs->lists * sizeof(*count) + total * sizeof(*value));
    for (size_t i = 0; i < inputs->lists; i++) {
        count[i] = inputs->start[i + 1] - inputs->start[i];
    }
    for (uint32_t i = 0; i < total && rc == 0; i++) {
        rc = put_value(caller, i, inputs->partition[i], used, &value[i], err);
    }
    return rc;
}

static int put_call(struct caller *caller, size_t number, size_t *used, uint64_t *argument_at,
                    struct error *err)
{
    const struct child_task *task = &caller->task[number];
    const ProtobufCBinaryData *argument = argument_of(caller, task->index);
    struct channel_slot *slot = &caller->process->channel->slot[number];

    slot->function = caller->function_at;
    slot->index = task->index;
    slot->argument_size = argument->len;
    slot->lists = 0;
    // One for all tasks is there once.
    if (caller->call->n_argument > 1 || *argument_at == UINT64_MAX) {
        if (argument->len > 0) {
            memcpy(caller->process->input + *used, argument->data, argument->len);
        }
        *argument_at = *used;
        *used += channel_pad(argument->len);
    }
    slot->argument_at = *argument_at;
    atomic_store_explicit(&slot->started_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->state, child_task_is_cancelled(task) ? SLOT_SKIPPED : SLOT_QUEUED,
                          memory_order_relaxed);
    return task->inputs.lists > 0 ? put_inputs(caller, slot, &task->inputs, used, err) : 0;
}

// Input memory for the first task, whatever it takes; others go along while they fit.
static int reserve_first(struct caller *caller, size_t *size, struct error *err)
{
    uint64_t need;
    int rc = call_size(caller, caller->task, &need, err);

    if (rc == 0 && need > CHANNEL_INPUT) {
        rc = caller->children->options.budget != NULL
                 ? budget_take(caller->children->options.budget, need, "handing its inputs to a plugin", err)
                 : 0;
        caller->input_charge = rc == 0 ? need : 0;
    }
    if (rc == 0) {
        rc = process_reserve(caller->process, need, err);
    }
    *size = need > CHANNEL_INPUT ? need : CHANNEL_INPUT;
    return rc;
}

// Of up to `most` tasks; sets count.  Fails for the first one only.
static int fill_batch(struct caller *caller, size_t most, struct error *err)
{
    size_t size, used = 0;
    uint64_t argument_at = UINT64_MAX, need;
    int rc;

    caller->count = 0;
    caller->taken = 0;
    memset(caller->place, 0, sizeof(caller->place));
    rc = reserve_first(caller, &size, err);
    while (rc == 0 && caller->count < most && caller->count < CHANNEL_SLOTS) {
        if (caller->count > 0 &&
            (call_size(caller, &caller->task[caller->count], &need, NULL) != 0 || need > size - used)) {
            break;
        }
        rc = put_call(caller, caller->count, &used, &argument_at, err);
        if (rc != 0 && caller->count > 0) {
            return 0;
        }
        caller->count += rc == 0;
    }
    return rc;
}

static void close_batch(struct caller *caller)
{
    if (caller->input_charge > 0) {
        budget_give(caller->children->options.budget, caller->input_charge);
        caller->input_charge = 0;
    }
    if (caller->process->pid != 0) {
        process_trim(caller->process);
    }
}

// ---- taking outcomes ------------------------------------------------------------------------

struct mapping {
    void *data;
    size_t size;
};

static void unmap(void *pointer)
{
    struct mapping *mapping = pointer;

    munmap(mapping->data, mapping->size);
    free(mapping);
}

static int read_all(int fd, uint8_t *to, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(fd, to + done, size - done, (off_t)done);

        if (n <= 0) {
            return n == 0 ? -EIO : -errno;
        }
        done += (size_t)n;
    }
    return 0;
}

// The memory itself, once nobody can write to it any more; NULL: copy it.
static struct buffer *map_own(int fd, size_t size)
{
    struct mapping *mapping;
    struct buffer *buffer;
    void *data;

    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0) {
        return NULL;
    }
    data = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (data == MAP_FAILED) {
        return NULL;
    }
    mapping = malloc(sizeof(*mapping));
    if (mapping == NULL) {
        munmap(data, size);
        return NULL;
    }
    *mapping = (struct mapping){data, size};
    buffer = buffer_wrap(data, size, unmap, mapping);
    if (buffer == NULL) {
        unmap(mapping);
    }
    return buffer;
}

static int take_own(struct caller *caller, uint64_t size, struct buffer **out, struct error *err)
{
    struct buffer *buffer = NULL;
    uint8_t *data;
    int rc = 0;

    if (size >= MAP_ABOVE && size >= caller->own_size / 4 * 3) {
        buffer = map_own(caller->own_fd, size);
    }
    if (buffer == NULL) {
        buffer = buffer_create(size, &data);
        rc = buffer == NULL ? -ENOMEM : read_all(caller->own_fd, data, size);
    }
    close(caller->own_fd);
    caller->own_fd = -1;
    if (rc != 0) {
        buffer_unref(buffer);
        return error_set(err, -rc, "cannot read its result of %llu bytes: %s", (unsigned long long)size,
                         strerror(-rc));
    }
    *out = buffer;
    return 0;
}

static int take_small(struct caller *caller, const struct channel_slot *slot, struct buffer **out,
                      struct error *err)
{
    uint8_t *data;
    struct buffer *buffer;
    int rc = children_take(caller->children, slot->size, "a result of a plugin", err);

    if (rc != 0) {
        return rc;
    }
    buffer = buffer_create(slot->size, &data);
    if (buffer == NULL) {
        return error_no_memory(err);
    }
    memcpy(data, caller->process->channel->out + slot->at, slot->size);
    *out = buffer;
    return 0;
}

static int take_result(struct caller *caller, size_t number, const struct channel_slot *slot,
                       struct partition **out, struct error *err)
{
    struct buffer *buffer = NULL;
    bool own = slot->at == CHANNEL_OWN;
    int rc;

    if ((slot->kind != PARTITION_BYTES && slot->kind != PARTITION_TABLE) ||
        (own ? caller->own_fd < 0 || caller->own_slot != number || slot->size > caller->own_size
             : slot->size > CHANNEL_SMALL || slot->at > CHANNEL_OUT - slot->size)) {
        return error_set(err, EPROTO, "its process has overwritten what it shares with the worker");
    }
    rc = own ? take_own(caller, slot->size, &buffer, err) : take_small(caller, slot, &buffer, err);
    if (rc != 0) {
        return rc;
    }
    if (slot->kind == PARTITION_TABLE) {
        rc = partition_decode(buffer, out, err);
        if (rc == 0 && (*out)->kind != PARTITION_TABLE) {
            partition_unref(*out);
            *out = NULL;
            rc = error_set(err, EPROTO, "its result is not the table that it says it is");
        }
        buffer_unref(buffer);
        return rc;
    }
    *out = partition_from_bytes(buffer);
    return *out != NULL ? 0 : error_no_memory(err);
}

static int take_error(struct caller *caller, const struct channel_slot *slot, struct error *err)
{
    int code = slot->code > 0 && slot->code < 4096 ? slot->code : EREMOTEIO;

    if (code == ENOMEM && caller->refused.code != 0) {
        *err = caller->refused;
    } else if (slot->size > CHANNEL_SMALL || slot->at > CHANNEL_OUT - slot->size) {
        error_set(err, EPROTO, "its process has overwritten what it shares with the worker");
    } else {
        error_set(err, code, "%.*s", (int)slot->size, (const char *)caller->process->channel->out + slot->at);
    }
    tail_append(&caller->process->tail, err);
    return -code;
}

static void drop_own(struct caller *caller)
{
    if (caller->own_fd >= 0) {
        close(caller->own_fd);
        children_give(caller->children, caller->own_size);
    }
    caller->own_fd = -1;
}

static void name_error(const struct caller *caller, struct error *err)
{
    error_prefix(err, "function '%s' of plugin '%s': ", caller->function->name, caller->plugin->name);
}

static void take_outcome(struct caller *caller, size_t number, uint32_t state)
{
    const struct channel_slot *shared = &caller->process->channel->slot[number];
    // A copy, so that what is checked is what is used.
    const struct channel_slot slot = {
        .code = shared->code, .kind = shared->kind, .at = shared->at, .size = shared->size};
    struct child_task *task = &caller->task[number];

    if (state == SLOT_SKIPPED) {
        task->rc = error_set(&task->err, ECANCELED, "cancelled");
        return;
    }
    if (slot.code == 0) {
        task->rc = take_result(caller, number, &slot, &task->partition, &task->err);
    } else {
        task->rc = take_error(caller, &slot, &task->err);
    }
    if (task->rc != 0) {
        name_error(caller, &task->err);
    }
    drop_own(caller);
    caller->refused.code = 0;
}

static uint32_t state_of(const struct caller *caller, size_t number)
{
    return atomic_load_explicit(&caller->process->channel->slot[number].state, memory_order_acquire);
}

// In order, as far as they are there.
static void take_outcomes(struct caller *caller)
{
    while (caller->taken < caller->count) {
        uint32_t state = state_of(caller, caller->taken);

        if (state != SLOT_DONE && state != SLOT_SKIPPED) {
            return;
        }
        take_outcome(caller, caller->taken, state);
        caller->taken++;
    }
}

// ---- while a batch runs ---------------------------------------------------------------------

// Memory for a large result: counted before it is there.
static void grant(struct caller *caller, uint64_t size)
{
    struct channel_word word = {.kind = WORD_GRANT, .size = size};
    struct error *err = &caller->refused;
    int fd = -1, rc;

    drop_own(caller);
    rc = size > SIZE_MAX / 4 ? error_set(err, ENOMEM, "a result of %llu bytes", (unsigned long long)size)
                             : children_take(caller->children, size, "its result", err);
    if (rc == 0) {
        fd = memfd_create("dray-result", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, (off_t)size) != 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
            rc = error_set(err, errno, "cannot make memory for its result: %s", strerror(errno));
            children_give(caller->children, size);
        }
    }
    if (rc == 0) {
        caller->own_fd = fd;
        caller->own_size = size;
        caller->own_slot = caller->taken;
        err->code = 0;
        channel_send(caller->process->socket, &word, &fd, 1);
        return;
    }
    if (fd >= 0) {
        close(fd);
    }
    word.code = ENOMEM;
    err->code = ENOMEM;
    channel_send(caller->process->socket, &word, NULL, 0);
}

// False: no word that may come now.
static bool answer(struct caller *caller, const struct channel_word *word)
{
    const struct channel_word room = {.kind = WORD_ROOM};

    take_outcomes(caller);
    switch (word->kind) {
    case WORD_DONE:
        return caller->taken == caller->count;
    case WORD_FULL:
        channel_send(caller->process->socket, &room, NULL, 0);
        return word->number == caller->taken;
    case WORD_WANT:
        if (word->number != caller->taken) {
            return false;
        }
        grant(caller, word->size);
        return true;
    default:
        return false;
    }
}

// Ends the call that runs, by asking where the function says that it listens.
static void end_call(struct caller *caller, size_t number, int why)
{
    caller->ending = why;
    caller->ending_slot = number;
    if ((caller->function->flags & DRAY_POLLS) != 0) {
        atomic_store(&caller->process->channel->cancelled, (uint32_t)number + 1);
        caller->grace_ns = process_now_ns() + GRACE_MS * NS_PER_MS;
    }
}

// What was cancelled: skipped, or to be ended.
static void look_at_cancelled(struct caller *caller)
{
    for (size_t i = caller->taken; i < caller->count; i++) {
        uint32_t expected = SLOT_QUEUED;

        if (!child_task_is_cancelled(&caller->task[i])) {
            continue;
        }
        atomic_compare_exchange_strong(&caller->process->channel->slot[i].state, &expected, SLOT_SKIPPED);
        if (expected == SLOT_RUNNING && caller->ending == 0) {
            end_call(caller, i, ECANCELED);
        }
    }
}

// The call that was to be ended has come to its end: those behind it have their own time, and may have been
// cancelled meanwhile.
static void look_at_ended(struct caller *caller)
{
    while (caller->ending != 0 && state_of(caller, caller->ending_slot) != SLOT_RUNNING) {
        caller->ending = 0;
        caller->grace_ns = 0;
        look_at_cancelled(caller);
    }
}

// When the call that runs has had its time; 0: it has no limit.
static uint64_t time_limit(const struct caller *caller)
{
    uint64_t started = process_now_ns();

    if (caller->timeout_ms == 0 || caller->ending != 0) {
        return 0;
    }
    for (size_t i = caller->taken; i < caller->count; i++) {
        if (state_of(caller, i) == SLOT_RUNNING) {
            started =
                atomic_load_explicit(&caller->process->channel->slot[i].started_ns, memory_order_relaxed);
        }
    }
    return started + caller->timeout_ms * NS_PER_MS;
}

static void look_at_time(struct caller *caller)
{
    uint64_t now = process_now_ns();

    for (size_t i = caller->taken; i < caller->count; i++) {
        uint64_t started =
            atomic_load_explicit(&caller->process->channel->slot[i].started_ns, memory_order_relaxed);

        if (state_of(caller, i) == SLOT_RUNNING && started + caller->timeout_ms * NS_PER_MS <= now) {
            end_call(caller, i, ETIMEDOUT);
            return;
        }
    }
}

// True: all outcomes are there.  False: the process is to be ended.
static bool wait_for_batch(struct caller *caller)
{
    struct channel_word word;

    for (;;) {
        uint64_t limit;

        look_at_ended(caller);
        limit = time_limit(caller);
        // One that is to be ended and was not asked nicely, or had its time for that.
        if (caller->ending != 0 && state_of(caller, caller->ending_slot) == SLOT_RUNNING &&
            caller->grace_ns <= process_now_ns()) {
            return false;
        }
        if (caller->ending != 0 && caller->grace_ns == 0) {
            continue; // it has just ended
        }
        switch (process_wait(caller->process, caller->children->wake,
                             caller->grace_ns != 0 ? caller->grace_ns : limit, &word)) {
        case PROCESS_WORD:
            if (!answer(caller, &word)) {
                return false;
            }
            if (word.kind == WORD_DONE) {
                if (word.code != 0) {
                    process_end(caller->process, FINISH_MS);
                }
                return true;
            }
            break;
        case PROCESS_WOKEN:
            look_at_cancelled(caller);
            break;
        case PROCESS_TIMEOUT:
            if (caller->ending == 0) {
                look_at_time(caller);
            } else {
                caller->grace_ns = caller->grace_ns <= process_now_ns() ? 0 : caller->grace_ns;
            }
            break;
        case PROCESS_ENDED:
            return false;
        }
    }
}

// The process is gone or goes: whose fault is it?  Returns false when no call had begun.
static bool settle(struct caller *caller)
{
    size_t running = caller->count;
    struct child_task *task;
    uint64_t memory = caller->children->options.plugins->memory;
    bool speechless = false;
    char how[200];

    if (caller->ending == 0) {
        // Its socket is gone: so is the process, or it has closed what is not its own and ends after the call
        // that runs.
        struct pollfd fd = {.fd = caller->process->pidfd, .events = POLLIN};

        speechless = poll(&fd, 1, GRACE_MS) == 0;
    }
    kill(-caller->process->pid, SIGKILL);
    // What was done before it ended counts.
    take_outcomes(caller);
    if (caller->taken < caller->count && state_of(caller, caller->taken) == SLOT_RUNNING) {
        running = caller->taken;
    }
    process_describe(process_end(caller->process, 0), how, sizeof(how));
    drop_own(caller);
    if (running == caller->count) {
        return caller->taken > 0;
    }
    if (caller->ending != 0 && caller->ending_slot != running) {
        return true; // killed because of another one: once more
    }
    task = &caller->task[running];
    if (caller->ending == ECANCELED) {
        task->rc = error_set(&task->err, ECANCELED, "cancelled while it ran");
    } else if (caller->ending == ETIMEDOUT) {
        task->rc = error_set(&task->err, ETIMEDOUT, "did not end within %u ms", caller->timeout_ms);
    } else if (speechless) {
        task->rc = error_set(
            &task->err, EPROTO,
            "its process has closed file descriptors that are not its own, or overwritten what it shares "
            "with the worker, and was ended");
    } else {
        task->rc = error_set(&task->err, EOWNERDEAD, "its process %s", how);
        if (memory != 0 && caller->process->peak_bytes > memory / 4 * 3) {
            error_set(&task->err, EOWNERDEAD, "its process %s (it may take %.0f MiB: --plugin-memory)", how,
                      (double)memory / (1024 * 1024));
        }
    }
    tail_append(&caller->process->tail, &task->err);
    name_error(caller, &task->err);
    caller->taken++;
    return true;
}

static int send_batch(struct caller *caller)
{
    const struct channel_word run = {.kind = WORD_RUN,
                                     .code = caller->timeout_ms != 0,
                                     .number = caller->count,
                                     .size = caller->process->input_size};

    caller->ending = 0;
    caller->grace_ns = 0;
    caller->refused.code = 0;
    atomic_store_explicit(&caller->process->channel->cancelled, 0, memory_order_relaxed);
    tail_clear(&caller->process->tail);
    return channel_send(caller->process->socket, &run, NULL, 0);
}

// ---- all of them ----------------------------------------------------------------------------

static void fail_task(struct child_task *task, const struct error *err)
{
    task->err = *err;
    task->rc = -err->code;
}

// Runs some of the first tasks of caller->task and returns of how many the outcome is there.
static size_t run_some(struct caller *caller, size_t most, unsigned *starts)
{
    struct error err = {0};
    int rc = 0;

    if (child_task_is_cancelled(caller->task)) {
        error_set(&err, ECANCELED, "cancelled");
        fail_task(caller->task, &err);
        return 1;
    }
    if (caller->process->pid == 0) {
        rc = start_process(caller, &err);
    }
    if (rc == 0) {
        rc = fill_batch(caller, most, &err);
        if (rc != 0) {
            name_error(caller, &err);
        }
    }
    if (rc != 0) {
        close_batch(caller);
        fail_task(caller->task, &err);
        return 1;
    }
    if (send_batch(caller) == 0 && wait_for_batch(caller)) {
        *starts = 0;
    } else if (settle(caller)) {
        *starts = 0;
    } else if (++*starts >= STARTS_MAX) {
        error_set(&err, EOWNERDEAD, "plugin '%s': its process ended %u times before a call began",
                  caller->plugin->name, *starts);
        tail_append(&caller->process->tail, &err);
        fail_task(caller->task, &err);
        caller->taken = 1;
    }
    close_batch(caller);
    return caller->taken;
}

void call_run(struct children *children, const Dray__Call *call, uint32_t timeout_ms, struct child_task *task,
              size_t count)
{
    struct caller caller = {.children = children, .call = call, .timeout_ms = timeout_ms, .own_fd = -1};
    struct error err = {0};
    size_t plugin_at, function_at;
    unsigned starts = 0;

    if (plugins_find(children->options.plugins, call->plugin, call->function, &plugin_at, &function_at,
                     &err) != 0) {
        for (size_t i = 0; i < count; i++) {
            fail_task(&task[i], &err);
        }
        return;
    }
    caller.plugin = &children->options.plugins->plugin[plugin_at];
    caller.function = &caller.plugin->function[function_at];
    caller.function_at = (uint32_t)function_at;
    caller.process = &children->plugin_process[plugin_at];
    for (size_t at = 0; at < count;) {
        caller.task = task + at;
        at += run_some(&caller, count - at, &starts);
    }
}
