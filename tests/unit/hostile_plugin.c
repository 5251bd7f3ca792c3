// A plugin that does what plugins do, and what they should not; for test_children_*.c.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/dray_task.h"

static int calls;

static int noop(struct dray_call *call)
{
    (void)call;
    return 0;
}

static int echo(struct dray_call *call)
{
    size_t size;
    const void *data = dray_argument(call, &size);

    return dray_result_bytes(call, data, size);
}

static int number(struct dray_call *call)
{
    return dray_result_uint64(call, dray_index(call));
}

// 1 + index + all numbers of all inputs.
static int sum(struct dray_call *call)
{
    uint64_t total = 1 + (uint64_t)dray_index(call), value;

    for (size_t i = 0; i < dray_inputs(call); i++) {
        for (size_t k = 0; k < dray_partitions(call, i); k++) {
            if (dray_input_uint64(call, i, k, &value) != 0) {
                return dray_fail(call, EINVAL, "input %zu, partition %zu is no number", i, k);
            }
            total += value;
        }
    }
    return dray_result_uint64(call, total);
}

// Sizes of all partitions of all inputs, added, and their last bytes.
static int measure(struct dray_call *call)
{
    uint64_t total = 0;

    for (size_t i = 0; i < dray_inputs(call); i++) {
        for (size_t k = 0; k < dray_partitions(call, i); k++) {
            size_t size;
            const unsigned char *data = dray_input(call, i, k, &size);

            if (data == NULL || (uintptr_t)data % 64 != 0) {
                return dray_fail(call, EINVAL, "input %zu, partition %zu", i, k);
            }
            total += size + (size > 0 ? data[size - 1] : 0U);
        }
    }
    return dray_result_uint64(call, total);
}

static int process(struct dray_call *call)
{
    return dray_result_uint64(call, (uint64_t)getpid());
}

// Without a sanitizer's handler.
static void fall_as_usual(int number)
{
    const struct sigaction usual = {.sa_handler = SIG_DFL};

    sigaction(number, &usual, NULL);
}

static int segfault(struct dray_call *call)
{
    volatile int *nowhere = NULL;
    size_t size;
    const char *which = dray_argument(call, &size);

    // With an argument: for that index alone.
    if (size == 0 || (uint32_t)(which[0] - '0') == dray_index(call)) {
        fputs("about to fall\n", stderr);
        fall_as_usual(SIGSEGV);
        *nowhere = 1;
    }
    return dray_result_uint64(call, (uint64_t)++calls);
}

static int aborts(struct dray_call *call)
{
    (void)call;
    fputs("assertion of mine failed", stderr);
    fall_as_usual(SIGABRT);
    abort();
}

static int exits(struct dray_call *call)
{
    (void)call;
    exit(3);
}

static int loops(struct dray_call *call)
{
    size_t size;
    const char *which = dray_argument(call, &size);
    volatile uint64_t turns = 0;

    while (size == 0 || (uint32_t)(which[0] - '0') == dray_index(call)) {
        turns++;
    }
    return dray_result_uint64(call, (uint64_t)getpid());
}

static int polls(struct dray_call *call)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    size_t size;
    const char *how_many = dray_argument(call, &size);
    uint32_t end = size == 0 ? 1 : (uint32_t)(how_many[0] - '0');

    while (dray_index(call) < end && !dray_cancelled(call)) {
        nanosleep(&moment, NULL);
    }
    return dray_result_uint64(call, (uint64_t)getpid());
}

static int leaks(struct dray_call *call)
{
    enum { BYTES = 64 << 20 };
    char *lost = malloc(BYTES);

    if (lost == NULL) {
        return dray_fail(call, ENOMEM, "no memory");
    }
    memset(lost, 1, BYTES);
    __asm__ volatile("" ::"r"(lost) : "memory");
    return dray_result_uint64(call, (uint64_t)getpid());
}

// A result of as many bytes as the argument says, each the index.
static int fills(struct dray_call *call)
{
    size_t size;
    const void *argument = dray_argument(call, &size);
    uint64_t want = size >= 8 ? dray_load_uint64(argument) : 0;
    void *to = dray_result(call, want);

    if (to == NULL) {
        return -ENOMEM;
    }
    memset(to, (int)dray_index(call), want);
    return 0;
}

// Changes its mind several times.
static int replaces(struct dray_call *call)
{
    memset(dray_result(call, 100000), 1, 100000);
    memset(dray_result(call, 10), 2, 10);
    memset(dray_result(call, 3 << 20), 3, 3 << 20);
    if (dray_result_cut(call, 5) != 0 || dray_result_cut(call, 6) != -EINVAL) {
        return dray_fail(call, EINVAL, "cut");
    }
    return 0;
}

static int chatters(struct dray_call *call)
{
    for (int i = 0; i < 20000; i++) {
        printf("line %d on standard output\n", i);
        fprintf(stderr, "line %d on standard error\n", i);
    }
    return dray_fail(call, EDOM, "enough said by %u", dray_index(call));
}

static int closes(struct dray_call *call)
{
    for (int fd = 0; fd < 64; fd++) {
        close(fd);
    }
    return dray_result_uint64(call, 7);
}

// Overwrites what the process shares with the worker: outcomes of calls, results.
static int scribbles(struct dray_call *call)
{
    unsigned char *at = dray_result(call, 64);

    memset(at, 0xFF, 64);
    memset((char *)(uintptr_t)call->cancelled, 0xFF, 4096);
    return 0;
}

static int returns(struct dray_call *call)
{
    (void)call;
    return 5;
}

static int is_table(struct dray_call *call)
{
    struct ArrowSchema schema;
    struct ArrowArray array;
    int rc = dray_input_table(call, 0, 0, &schema, &array);

    return rc == 0 ? dray_result_table(call, &schema, &array) : dray_fail(call, -rc, "input 0 is no table");
}

// Column 0 of the input doubled, as a table of its own.
static void release_schema(struct ArrowSchema *schema)
{
    schema->release = NULL;
}

static void release_array(struct ArrowArray *array)
{
    for (int64_t i = 0; i < array->n_children; i++) {
        array->children[i]->release(array->children[i]);
    }
    free(array->private_data);
    array->release = NULL;
}

static int doubles(struct dray_call *call)
{
    static struct ArrowSchema children[1], *list[1] = {&children[0]};
    static struct ArrowArray arrays[1], *array_list[1] = {&arrays[0]};
    static const void *buffers[2], *none[1];
    struct ArrowSchema in_schema,
        schema = {.format = "+s", .name = "", .n_children = 1, .children = list, .release = release_schema};
    struct ArrowArray in, array;
    int rc = dray_input_table(call, 0, 0, &in_schema, &in);
    int64_t *values;

    if (rc != 0) {
        return dray_fail(call, -rc, "no table");
    }
    values = malloc((size_t)in.length * 8 + 8);
    for (int64_t i = 0; i < in.length; i++) {
        values[i] = 2 * ((const int64_t *)in.children[0]->buffers[1])[i];
    }
    buffers[1] = values;
    children[0] = (struct ArrowSchema){.format = "l", .name = "twice", .release = release_schema};
    arrays[0] = (struct ArrowArray){.length = in.length,
                                    .n_buffers = 2,
                                    .buffers = buffers,
                                    .private_data = values,
                                    .release = release_array};
    array = (struct ArrowArray){.length = in.length,
                                .n_buffers = 1,
                                .buffers = none,
                                .n_children = 1,
                                .children = array_list,
                                .release = release_array};
    in.release(&in);
    in_schema.release(&in_schema);
    return dray_result_table(call, &schema, &array);
}

static int arrays(struct dray_call *call)
{
    const uint64_t shape[2] = {3, 4};
    struct dray_array in;
    double *out;
    int rc = dray_input_array(call, 0, 0, &in);

    if (rc != 0 || in.type != DRAY_TYPE_FLOAT64 || in.elements != 12) {
        return dray_fail(call, EINVAL, "not an array of 12 numbers");
    }
    out = dray_result_array(call, DRAY_TYPE_FLOAT64, 2, shape);
    for (int i = 0; i < 12 && out != NULL; i++) {
        out[i] = ((const double *)in.data)[i] + 1;
    }
    return out != NULL ? 0 : -errno;
}

// A process of its own that goes on, in the same group.
static int daemons(struct dray_call *call)
{
    pid_t pid = vfork();

    if (pid == 0) {
        execl("/bin/sleep", "sleep", "300", (char *)NULL);
        _exit(1);
    }
    return dray_result_uint64(call, (uint64_t)pid);
}

// The worker itself.
static int murders(struct dray_call *call)
{
    (void)call;
    kill(getppid(), SIGKILL);
    sleep(10);
    return 0;
}

static int init(struct dray_call *call)
{
    const char *how = getenv("DRAY_TEST_INIT");

    if (how != NULL && strcmp(how, "fail") == 0) {
        return dray_fail(call, EACCES, "no licence %d", 42);
    }
    if (how != NULL && strcmp(how, "crash") == 0) {
        fputs("init falls\n", stderr);
        raise(SIGKILL);
    }
    return 0;
}

static void finish(void)
{
    const char *path = getenv("DRAY_TEST_FINISH");
    int fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

    if (fd >= 0) {
        ssize_t written = write(fd, "finished\n", 9);

        (void)written;
        close(fd);
    }
}

static const struct dray_function functions[] = {
    {"noop", noop, 0, "nothing"},    {"echo", echo, 0, NULL},           {"number", number, 0, NULL},
    {"sum", sum, 0, NULL},           {"measure", measure, 0, NULL},     {"process", process, 0, NULL},
    {"segfault", segfault, 0, NULL}, {"abort", aborts, 0, NULL},        {"exit", exits, 0, NULL},
    {"loop", loops, 0, NULL},        {"poll", polls, DRAY_POLLS, NULL}, {"leak", leaks, 0, NULL},
    {"fill", fills, 0, NULL},        {"replace", replaces, 0, NULL},    {"chatter", chatters, 0, NULL},
    {"close", closes, 0, NULL},      {"scribble", scribbles, 0, NULL},  {"return", returns, 0, NULL},
    {"table", is_table, 0, NULL},    {"double", doubles, 0, NULL},      {"array", arrays, 0, NULL},
    {"daemon", daemons, 0, NULL},    {"murder", murders, 0, NULL},
};

const struct dray_plugin dray_plugin = DRAY_PLUGIN_WITH("hostile", "1.0", functions, init, finish);
