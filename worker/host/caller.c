#include "worker/host/caller.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "proto/dray_task.h"
#include "proto/partition.h"
#include "worker/child/channel.h"
#include "worker/host/arrow.h"

enum {
    FUNCTIONS_MAX = 1000,
    NAME_MAX_BYTES = 255,
    TEXT_MAX = 1024,
    MEASURE_NS = 100 * 1000 * 1000, // how often the process looks at its own memory
    EXIT_NO_WORDS = 70,             // the socket is gone or says nonsense
};

struct caller {
    const struct dray_plugin *plugin;
    struct channel *channel;
    uint8_t *input;
    size_t input_size;
    uint64_t memory;
    size_t out_at; // of `out`, taken by results of this batch
    uint64_t measured_ns;
    // inputs of the call that runs, grown as needed
    struct dray_input_list *list;
    struct dray_partition *partition;
    size_t lists_max, partitions_max;
};

// One call.
struct run {
    struct dray_call call; // first
    struct caller *caller;
    uint32_t slot;
    bool has_result;
    uint32_t kind;
    uint64_t at, size; // at CHANNEL_OWN: in `own`
    uint8_t *own;
    size_t own_size;
    struct error err; // text empty: none was given
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void say(const struct channel_word *word)
{
    if (channel_send(CHANNEL_FD_SOCKET, word, NULL, 0) != 0) {
        _exit(EXIT_NO_WORDS);
    }
}

static void hear(struct channel_word *word, int *fds)
{
    if (channel_receive(CHANNEL_FD_SOCKET, word, fds, true) != 1) {
        _exit(EXIT_NO_WORDS);
    }
}

// ---- what a call may ask for --------------------------------------------------------------

static void drop_own(struct run *run)
{
    if (run->own != NULL) {
        munmap(run->own, run->own_size);
    }
    run->own = NULL;
}

static void *ask_for_memory(struct run *run, size_t size)
{
    const struct channel_word want = {.kind = WORD_WANT, .number = run->slot, .size = size};
    struct channel_word grant;
    int fds[CHANNEL_FDS_MAX];
    void *own;

    say(&want);
    hear(&grant, fds);
    if (grant.kind != WORD_GRANT || (grant.code == 0 && fds[0] < 0)) {
        _exit(EXIT_NO_WORDS);
    }
    if (grant.code != 0) {
        error_set(&run->err, grant.code, "a result of %zu bytes does not fit into the worker's memory", size);
        return NULL;
    }
    own = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
    close(fds[0]);
    if (own == MAP_FAILED) {
        error_set(&run->err, ENOMEM, "cannot map a result of %zu bytes: %s", size, strerror(errno));
        return NULL;
    }
    run->own = own;
    run->own_size = size;
    run->at = CHANNEL_OWN;
    return own;
}

static void make_room(struct run *run)
{
    const struct channel_word full = {.kind = WORD_FULL, .number = run->slot};
    struct channel_word room;

    say(&full);
    hear(&room, NULL);
    if (room.kind != WORD_ROOM) {
        _exit(EXIT_NO_WORDS);
    }
    run->caller->out_at = 0;
}

static void *give_result(struct dray_call *call, size_t size)
{
    struct run *run = (struct run *)call;
    struct caller *caller = run->caller;
    void *to;

    drop_own(run);
    run->has_result = false;
    if (size > CHANNEL_SMALL) {
        to = ask_for_memory(run, size);
    } else {
        if (channel_pad(size) > CHANNEL_OUT - caller->out_at) {
            make_room(run);
        }
        run->at = caller->out_at;
        to = caller->channel->out + caller->out_at;
    }
    if (to != NULL) {
        run->has_result = true;
        run->kind = PARTITION_BYTES;
        run->size = size;
    }
    return to;
}

static int cut_result(struct dray_call *call, size_t size)
{
    struct run *run = (struct run *)call;

    if (!run->has_result || run->kind != PARTITION_BYTES || size > run->size) {
        return -EINVAL;
    }
    run->size = size;
    return 0;
}

static int give_table(struct dray_call *call, struct ArrowSchema *schema, struct ArrowArray *array)
{
    struct run *run = (struct run *)call;
    struct table *table = NULL;
    struct partition *partition = NULL;
    uint64_t size = 0;
    uint8_t *to = NULL;
    int rc = arrow_import(schema, array, &table, &run->err);

    if (rc == 0) {
        partition = partition_from_table(table);
        rc = partition == NULL ? error_no_memory(&run->err)
                               : partition_encoded_bytes(partition, &size, &run->err);
    }
    if (rc == 0) {
        to = give_result(call, (size_t)size);
        rc = to == NULL ? -ENOMEM : partition_encode_to(partition, to, size, &run->err);
    }
    if (rc == 0) {
        run->kind = PARTITION_TABLE;
    } else {
        run->has_result = false;
    }
    partition_unref(partition);
    return rc;
}

static int read_table(struct dray_call *call, const struct dray_partition *p, struct ArrowSchema *schema,
                      struct ArrowArray *array)
{
    struct run *run = (struct run *)call;
    struct buffer *bytes = buffer_wrap(p->data, p->size, NULL, NULL);
    struct partition *partition = NULL;
    int rc = bytes == NULL ? error_no_memory(&run->err) : partition_decode(bytes, &partition, &run->err);

    if (rc == 0 && partition->kind != PARTITION_TABLE) {
        rc = error_set(&run->err, EINVAL, "an input is not a table");
    }
    if (rc == 0) {
        rc = arrow_export(table_ref(partition->table), schema, array, &run->err);
    }
    partition_unref(partition);
    buffer_unref(bytes);
    return rc;
}

static int fail(struct dray_call *call, int code, const char *format, va_list values)
{
    struct run *run = (struct run *)call;

    run->err.code = code < 0 ? -code : code;
    vsnprintf(run->err.text, sizeof(run->err.text), format, values);
    return -run->err.code;
}

static const struct dray_host host = {
    .abi = DRAY_TASK_ABI,
    .input_table = read_table,
    .result = give_result,
    .result_cut = cut_result,
    .result_table = give_table,
    .set_error = fail,
};

// ---- one call -----------------------------------------------------------------------------

static int grow(void **array, size_t *max, size_t need, size_t size)
{
    void *more;

    if (need <= *max) {
        return 0;
    }
    more = realloc(*array, need * 2 * size);
    if (more == NULL) {
        return -ENOMEM;
    }
    *array = more;
    *max = need * 2;
    return 0;
}

// The worker wrote it: it is as channel.h says.
static int open_inputs(struct caller *caller, const struct channel_slot *slot, struct dray_call *call)
{
    const uint64_t *count = (const uint64_t *)(const void *)(caller->input + slot->inputs_at);
    const struct channel_value *value = (const struct channel_value *)(const void *)(count + slot->lists);
    size_t total = 0, at = 0;

    for (uint32_t i = 0; i < slot->lists; i++) {
        total += count[i];
    }
    if (grow((void **)&caller->list, &caller->lists_max, slot->lists, sizeof(*caller->list)) != 0 ||
        grow((void **)&caller->partition, &caller->partitions_max, total, sizeof(*caller->partition)) != 0) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < slot->lists; i++) {
        caller->list[i] =
            (struct dray_input_list){.partitions = count[i], .partition = caller->partition + at};
        for (uint64_t k = 0; k < count[i]; k++, at++) {
            caller->partition[at] = (struct dray_partition){
                .kind =
                    (enum dray_kind)(value[at].kind == PARTITION_TABLE ? DRAY_KIND_TABLE : DRAY_KIND_BYTES),
                .data = caller->input + value[at].at,
                .size = value[at].size};
        }
    }
    call->input = caller->list;
    call->inputs = slot->lists;
    return 0;
}

static void put_error(struct run *run, struct channel_slot *slot, int rc)
{
    const struct dray_function *function = &run->caller->plugin->function[slot->function];
    int code = rc < 0 ? -rc : rc;
    size_t size;
    char *to;

    drop_own(run);
    if (run->err.text[0] == '\0' || run->err.code != code) {
        struct error given = run->err;

        error_set(&run->err, code,
                  given.text[0] != '\0' ? "%s returned %d; before that: %s" : "%s returned %d",
                  function->name, rc, given.text);
    }
    size = strlen(run->err.text);
    to = give_result(&run->call, size);
    memcpy(to, run->err.text, size);
    slot->code = code > 0 && code < 4096 ? code : EREMOTEIO;
    slot->kind = PARTITION_BYTES;
    slot->at = run->at;
    slot->size = run->size;
}

static void run_slot(struct caller *caller, uint32_t number, bool timed)
{
    struct channel_slot *slot = &caller->channel->slot[number];
    uint32_t expected = SLOT_QUEUED;
    struct run run; // its text is long: not zeroed as a whole
    int rc = 0;

    run.call = (struct dray_call){.host = &host,
                                  .index = slot->index,
                                  .ticket = number + 1,
                                  .cancelled = (const volatile uint32_t *)&caller->channel->cancelled,
                                  .argument = caller->input + slot->argument_at,
                                  .argument_size = slot->argument_size};
    run.caller = caller;
    run.slot = number;
    run.has_result = false;
    run.own = NULL;
    run.err.code = 0;
    run.err.text[0] = '\0';
    if (timed) {
        atomic_store_explicit(&slot->started_ns, now_ns(), memory_order_relaxed);
    }
    if (!atomic_compare_exchange_strong(&slot->state, &expected, SLOT_RUNNING)) {
        return;
    }
    if (slot->lists > 0) {
        rc = open_inputs(caller, slot, &run.call);
    }
    if (rc == 0) {
        rc = caller->plugin->function[slot->function].run(&run.call);
    }
    if (rc == 0 && !run.has_result) {
        give_result(&run.call, 0);
    }
    if (rc == 0) {
        slot->code = 0;
        slot->kind = run.kind;
        slot->at = run.at;
        slot->size = run.size;
    } else {
        fflush(stdout);
        put_error(&run, slot, rc);
    }
    if (run.at != CHANNEL_OWN) {
        caller->out_at += channel_pad(run.size);
    }
    drop_own(&run);
    atomic_store_explicit(&slot->state, SLOT_DONE, memory_order_release);
}

// ---- batches ------------------------------------------------------------------------------

static void map_input(struct caller *caller, size_t size)
{
    void *moved;

    if (size == caller->input_size) {
        return;
    }
    moved = mremap(caller->input, caller->input_size, size, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) {
        _exit(EXIT_NO_WORDS);
    }
    caller->input = moved;
    caller->input_size = size;
}

// A leak is met by a new process before it meets the limit.
static bool is_large(struct caller *caller)
{
    uint64_t now = now_ns();
    unsigned long long pages, resident, shared;
    bool large = false;
    FILE *file;

    if (caller->memory == 0 || now - caller->measured_ns < MEASURE_NS) {
        return false;
    }
    caller->measured_ns = now;
    file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        large = fscanf(file, "%llu %llu %llu", &pages, &resident, &shared) == 3 &&
                (resident - shared) * (unsigned long long)sysconf(_SC_PAGESIZE) > caller->memory / 4 * 3;
        fclose(file);
    }
    return large;
}

static void run_batch(struct caller *caller, const struct channel_word *word)
{
    struct channel_word done = {.kind = WORD_DONE, .number = word->number};

    map_input(caller, word->size);
    caller->out_at = 0;
    for (uint32_t i = 0; i < word->number; i++) {
        run_slot(caller, i, word->code != 0);
    }
    done.code = is_large(caller);
    say(&done);
}

// ---- the plugin -----------------------------------------------------------------------------

static bool is_name(const char *text)
{
    size_t size = text == NULL ? 0 : strlen(text);

    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
              c == '.' || c == '-')) {
            return false;
        }
    }
    return size > 0 && size <= NAME_MAX_BYTES;
}

static int check_functions(const struct dray_plugin *plugin, struct error *err)
{
    const struct dray_function *function = plugin->function;

    if (function == NULL || plugin->functions < 1 || plugin->functions > FUNCTIONS_MAX) {
        return error_set(err, EINVAL, "it has %zu functions; 1 to %d are possible", plugin->functions,
                         FUNCTIONS_MAX);
    }
    for (size_t i = 0; i < plugin->functions; i++) {
        if (!is_name(function[i].name)) {
            return error_set(
                err, EINVAL,
                "function %zu of its table has no name of letters, digits, _ . and -, at most %d", i,
                NAME_MAX_BYTES);
        }
        if (function[i].run == NULL) {
            return error_set(err, EINVAL, "function '%s' of its table has no code", function[i].name);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(function[k].name, function[i].name) == 0) {
                return error_set(err, EINVAL, "two functions of its table are called '%s'", function[i].name);
            }
        }
    }
    return 0;
}

static int load(struct caller *caller, const char *path, struct error *err)
{
    const struct dray_plugin *plugin;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (handle == NULL) {
        return error_set(err, ENOEXEC, "it cannot be loaded: %s", dlerror());
    }
    plugin = dlsym(handle, "dray_plugin");
    if (plugin == NULL) {
        return error_set(err, ENOEXEC, "it does not export dray_plugin (see dray_task.h)");
    }
    if (plugin->abi != DRAY_TASK_ABI || plugin->function_size != sizeof(struct dray_function)) {
        return error_set(
            err, ENOEXEC,
            "it was built with version %u of dray_task.h, this worker has version %d: build it again",
            plugin->abi, DRAY_TASK_ABI);
    }
    if (!is_name(plugin->name)) {
        return error_set(err, EINVAL, "its name is not made of letters, digits, _ . and -, at most %d",
                         NAME_MAX_BYTES);
    }
    if (plugin->version == NULL || strlen(plugin->version) > NAME_MAX_BYTES) {
        return error_set(err, EINVAL, "its version is missing or longer than %d bytes", NAME_MAX_BYTES);
    }
    caller->plugin = plugin;
    return check_functions(plugin, err);
}

static int start_plugin(struct caller *caller, struct error *err)
{
    static const uint32_t never;
    struct run run = {.call = {.host = &host, .ticket = 1, .cancelled = &never, .argument = caller->input},
                      .caller = caller};
    int rc = caller->plugin->init != NULL ? caller->plugin->init(&run.call) : 0;

    if (rc != 0) {
        fflush(stdout);
        error_set(err, rc < 0 ? -rc : rc, "its init says: %s",
                  run.err.text[0] != '\0' ? run.err.text : "(nothing; it returned an error)");
    }
    return rc;
}

static void put_string(uint8_t *out, size_t *used, const char *text)
{
    size_t size = strlen(text) + 1;

    memcpy(out + *used, text, size);
    *used += size;
}

// Name, version, then name and flags of each function: 1,000 of them always fit.
static size_t describe(const struct dray_plugin *plugin, uint8_t *out)
{
    size_t used = 0;
    char flags[16];

    put_string(out, &used, plugin->name);
    put_string(out, &used, plugin->version);
    for (size_t i = 0; i < plugin->functions; i++) {
        snprintf(flags, sizeof(flags), "%u", plugin->function[i].flags);
        put_string(out, &used, plugin->function[i].name);
        put_string(out, &used, flags);
    }
    return used;
}

// Private memory: what is only reserved, mapped from files or shared does not count.
static void limit_memory(uint64_t memory)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const struct rlimit limit = {.rlim_cur = memory, .rlim_max = memory};

    if (memory != 0) {
        setrlimit(RLIMIT_DATA, &limit);
    }
#else
    (void)memory;
#endif
}

int caller_main(const char *path, uint64_t memory)
{
    struct caller caller = {.memory = memory, .input_size = CHANNEL_INPUT};
    struct channel_word word = {.kind = WORD_HELLO, .number = CHANNEL_VERSION};
    struct error err = {0};
    void *channel =
        mmap(NULL, sizeof(struct channel), PROT_READ | PROT_WRITE, MAP_SHARED, CHANNEL_FD_MEMORY, 0);
    void *input = mmap(NULL, CHANNEL_INPUT, PROT_READ | PROT_WRITE, MAP_SHARED, CHANNEL_FD_INPUT, 0);
    int rc;

    if (channel == MAP_FAILED || input == MAP_FAILED) {
        return EXIT_NO_WORDS;
    }
    caller.channel = channel;
    caller.input = input;
    limit_memory(memory);
    setvbuf(stdout, NULL, _IOLBF, 0);
    rc = load(&caller, path, &err);
    if (rc == 0) {
        rc = start_plugin(&caller, &err);
    }
    if (rc == 0) {
        word.size = describe(caller.plugin, caller.channel->out);
    } else {
        word.code = err.code > 0 ? err.code : EINVAL;
        word.size = strlen(err.text);
        memcpy(caller.channel->out, err.text, word.size);
    }
    say(&word);
    // The end of the socket is the end in peace.
    while (rc == 0 && channel_receive(CHANNEL_FD_SOCKET, &word, NULL, true) == 1) {
        if (word.kind != WORD_RUN) {
            return EXIT_NO_WORDS;
        }
        run_batch(&caller, &word);
    }
    if (rc == 0 && caller.plugin->finish != NULL) {
        caller.plugin->finish();
    }
    return 0;
}
