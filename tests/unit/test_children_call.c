// worker/child/call.c, worker/host/caller.c, worker/host/arrow.c: functions of plugins in their processes,
// well-behaved and not.
#include "tests/unit/children_fixture.h"

#include "proto/dray_task.h"
#include "worker/child/channel.h"
#include "worker/child/process.h"

static void test_results(void **state)
{
    struct fixture f;
    uint64_t first;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_calls(&f, "number", NULL, 0, TASKS_MAX); // several batches
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        assert_int_equal(result_number(&f.task[i]), i);
    }
    fixture_drop(&f, TASKS_MAX);
    run_calls(&f, "noop", NULL, 0, 3);
    assert_int_equal(f.task[2].rc, 0);
    assert_int_equal(f.task[2].partition->bytes->size, 0);
    fixture_drop(&f, 3);
    run_calls(&f, "echo", "hello", 1000, 2);
    assert_int_equal(f.task[1].partition->bytes->size, 5);
    assert_memory_equal(f.task[1].partition->bytes->data, "hello", 5);
    fixture_drop(&f, 2);
    // The same process for all of them.
    run_calls(&f, "process", NULL, 0, 1);
    first = result_number(&f.task[0]);
    fixture_drop(&f, 1);
    run_calls(&f, "process", NULL, 0, 1);
    assert_int_equal(result_number(&f.task[0]), first);
    fixture_drop(&f, 1);
    fixture_close(&f);
}

static void test_own_arguments(void **state)
{
    enum { COUNT = 2000 };
    struct fixture f;
    struct call_op o;
    ProtobufCBinaryData argument[COUNT];
    static char text[COUNT][700];

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    for (int i = 0; i < COUNT; i++) { // more than the input memory takes at once
        argument[i].len = (size_t)snprintf(text[i], sizeof(text[i]), "%0*d", 1 + i % 690, i);
        argument[i].data = (uint8_t *)text[i];
    }
    call_op_init(&o, "echo", argument, COUNT);
    children_run(f.children, &o.op, 0, f.task, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(f.task[i].rc, 0);
        assert_int_equal(f.task[i].partition->bytes->size, argument[i].len);
        assert_memory_equal(f.task[i].partition->bytes->data, text[i], argument[i].len);
    }
    fixture_drop(&f, COUNT);
    fixture_close(&f);
}

static void test_inputs(void **state)
{
    enum { COUNT = 500 };
    static const uint32_t start[] = {0, 1, 3};
    struct fixture f;
    struct partition *common, *own[COUNT], *list[COUNT][3];
    uint64_t value = 1000;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    common = bytes_partition(&value, 8);
    for (uint32_t i = 0; i < COUNT; i++) {
        value = i;
        own[i] = bytes_partition(&value, 8);
        list[i][0] = common;
        list[i][1] = own[i];
        list[i][2] = own[i];
        f.task[i].inputs = (struct kernel_inputs){.partition = list[i], .start = start, .lists = 2};
    }
    run_calls(&f, "sum", NULL, 0, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(result_number(&f.task[i]), 1 + i + 1000 + i + i);
        partition_unref(own[i]);
    }
    partition_unref(common);
    fixture_drop(&f, COUNT);
    fixture_close(&f);
}

static void test_large_inputs(void **state)
{
    static const uint32_t start[] = {0, 1};
    enum { LARGE = 10 << 20 };
    struct fixture f;
    struct partition *large;
    uint8_t *data;
    struct buffer *buffer = buffer_create(LARGE, &data);

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    memset(data, 0, LARGE);
    data[LARGE - 1] = 9;
    large = partition_from_bytes(buffer);
    for (uint32_t i = 0; i < 100; i++) {
        f.task[i].inputs = (struct kernel_inputs){.partition = &large, .start = start, .lists = 1};
    }
    run_calls(&f, "measure", NULL, 0, 100);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(result_number(&f.task[i]), LARGE + 9);
    }
    fixture_drop(&f, 100);
    fixture_close(&f);
    // And where they do not fit.
    fixture_open(&f, 4 << 20, 0);
    f.task[0].inputs = (struct kernel_inputs){.partition = &large, .start = start, .lists = 1};
    run_calls(&f, "measure", NULL, 0, 1);
    assert_error(&f.task[0], ENOMEM,
                 "function 'measure' of plugin 'hostile': handing its inputs to a plugin needs");
    fixture_close(&f);
    partition_unref(large);
}

static void run_fill(struct fixture *f, uint64_t size, size_t count)
{
    struct call_op o;
    uint8_t bytes[8];
    ProtobufCBinaryData argument = {.len = 8, .data = bytes};

    dray_store_uint64(bytes, size);
    call_op_init(&o, "fill", &argument, 1);
    children_run(f->children, &o.op, 0, f->task, count);
}

static void assert_filled(const struct child_task *task, size_t size)
{
    const struct buffer *bytes;

    if (task->rc != 0) {
        fail_msg("%s", task->err.text);
    }
    bytes = task->partition->bytes;
    assert_int_equal(bytes->size, size);
    assert_int_equal((uintptr_t)bytes->data % 64, 0);
    for (size_t i = 0; i<size; i += size> 5000 ? 4093 : 1) {
        assert_int_equal(bytes->data[i], (uint8_t)task->index);
    }
}

static void test_result_sizes(void **state)
{
    static const uint64_t size[] = {
        0, 1, 63, 64, 65, 4096, 60000, CHANNEL_SMALL, CHANNEL_SMALL + 1, 1 << 20, 5 << 20};
    struct fixture f;

    (void)state;
    fixture_open(&f, 512 << 20, 0);
    for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
        size_t count = size[i] > 100000 ? 20 : 200; // those of 60,000 fill the shared memory several times

        run_fill(&f, size[i], count);
        for (size_t k = 0; k < count; k++) {
            assert_filled(&f.task[k], size[i]);
        }
        fixture_drop(&f, count);
    }
    run_calls(&f, "replace", NULL, 0, 2);
    assert_int_equal(f.task[1].rc, 0);
    assert_int_equal(f.task[1].partition->bytes->size, 5);
    assert_memory_equal(f.task[1].partition->bytes->data, "\3\3\3\3\3", 5);
    fixture_drop(&f, 2);
    fixture_close(&f);
}

// Refused before the memory is there; tasks behind it are served.
static void test_result_does_not_fit(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 16 << 20, 0);
    run_fill(&f, UINT64_C(2) << 30, 2);
    assert_error(&f.task[0], ENOMEM,
                 "function 'fill' of plugin 'hostile': its result needs 2048.0 MiB more than");
    assert_error(&f.task[1], ENOMEM, "its result needs");
    run_fill(&f, UINT64_MAX / 2, 1);
    assert_error(&f.task[0], ENOMEM, "a result of");
    run_fill(&f, 10 << 20, 1);
    assert_filled(&f.task[0], 10 << 20);
    fixture_drop(&f, 1);
    fixture_close(&f);
}

static void test_errors(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_calls(&f, "chatter", NULL, 0, 2);
    assert_error(&f.task[0], EDOM,
                 "function 'chatter' of plugin 'hostile': enough said by 0; standard error ends with:\n");
    assert_non_null(strstr(f.task[1].err.text, "line 19999 on standard error"));
    run_calls(&f, "return", NULL, 0, 1);
    assert_error(&f.task[0], 5, "return returned 5");
    run_calls(&f, "table", NULL, 0, 1);
    assert_error(&f.task[0], ENOENT, "input 0 is no table");
    run_calls(&f, "nothing", NULL, 0, 2);
    assert_error(&f.task[1], ENOENT, "plugin 'hostile' 1.0 has no function 'nothing'; it has noop, echo,");
    fixture_close(&f);
}

// A crash costs its own attempt; those behind it run in a new process.
static void test_crash(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_calls(&f, "segfault", "3", 0, 10);
    for (uint32_t i = 0; i < 10; i++) {
        if (i == 3) {
            assert_error(&f.task[i], EOWNERDEAD,
                         "its process was ended by signal 11 (SIGSEGV, Segmentation fault)");
            assert_non_null(strstr(f.task[i].err.text, "about to fall"));
        } else {
            assert_int_equal(result_number(&f.task[i]), i < 3 ? i + 1 : i - 3);
        }
    }
    fixture_drop(&f, 10);
    run_calls(&f, "abort", NULL, 0, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_error(&f.task[i], EOWNERDEAD, "signal 6 (SIGABRT, Aborted)");
        assert_non_null(strstr(f.task[i].err.text, "assertion of mine failed"));
    }
    run_calls(&f, "exit", NULL, 0, 2);
    assert_error(&f.task[1], EOWNERDEAD, "its process ended with exit code 3");
    run_calls(&f, "number", NULL, 0, 1);
    assert_int_equal(result_number(&f.task[0]), 0);
    fixture_drop(&f, 1);
    fixture_close(&f);
}

static void test_timeout(void **state)
{
    struct fixture f;
    uint32_t in_time = 0;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    for (int i = 0; i < LONG_ENOUGH; i++) {
        char text[100];

        run_calls(&f, "loop", "1", LONG_ENOUGH_MS[i], 4);
        snprintf(text, sizeof(text), "function 'loop' of plugin 'hostile': did not end within %u ms",
                 LONG_ENOUGH_MS[i]);
        assert_error(&f.task[1], ETIMEDOUT, text);
        if (i + 1 == LONG_ENOUGH || (f.task[0].rc == 0 && f.task[2].rc == 0 && f.task[3].rc == 0)) {
            break;
        }
        fixture_drop(&f, 4);
    }
    assert_int_not_equal(result_number(&f.task[0]), result_number(&f.task[2]));
    assert_int_equal(result_number(&f.task[2]), result_number(&f.task[3]));
    fixture_drop(&f, 4);
    // Many that are short do not add up.
    for (int tries = 0; in_time < TASKS_MAX; tries++) {
        assert_true(tries < 10);
        run_calls(&f, "number", NULL, 50, TASKS_MAX);
        for (in_time = 0; in_time < TASKS_MAX && f.task[in_time].rc == 0; in_time++) {
            assert_int_equal(result_number(&f.task[in_time]), in_time);
        }
        fixture_drop(&f, TASKS_MAX);
    }
    fixture_close(&f);
}

// `poll` so many times, with a limit of time or (0) cancelled from outside; whether it kept its process.  A child
// that is held up when it is asked to end is ended like one that does not listen: then it is tried again.
static bool keeps_its_process(struct fixture *f, uint32_t timeout_ms)
{
    for (int tries = 0; tries < 5; tries++) {
        struct canceller c = {.f = f, .at = 0, .count = 1, .after_ms = 100};
        uint64_t process;
        bool kept;

        run_calls(f, "process", NULL, 0, 1);
        process = result_number(&f->task[0]);
        fixture_drop(f, 1);
        if (timeout_ms == 0) {
            canceller_start(&c);
        }
        run_calls(f, "poll", NULL, timeout_ms, 2);
        if (timeout_ms == 0) {
            pthread_join(c.thread, NULL);
        }
        kept = f->task[1].rc == 0 && result_number(&f->task[1]) == process;
        fixture_drop(f, 2);
        if (kept) {
            return true;
        }
    }
    return false;
}

static void test_cancel(void **state)
{
    struct fixture f;
    bool while_it_ran = false;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    for (int i = 0; i < LONG_ENOUGH && !while_it_ran; i++) {
        struct canceller c = {.f = &f, .at = 1, .count = 1, .after_ms = LONG_ENOUGH_MS[i]};

        atomic_store(&f.cancelled[0], true); // before it starts
        atomic_store(&f.cancelled[3], true);
        canceller_start(&c);
        run_calls(&f, "loop", "1", 0, 5);
        pthread_join(c.thread, NULL);
        assert_error(&f.task[0], ECANCELED, "cancelled");
        assert_error(&f.task[1], ECANCELED, "cancelled");
        assert_error(&f.task[3], ECANCELED, "cancelled");
        assert_int_equal(result_number(&f.task[2]), result_number(&f.task[4]));
        while_it_ran = is_error(&f.task[1], ECANCELED, "cancelled while it ran");
        fixture_drop(&f, 5);
    }
    assert_true(while_it_ran);
    // One that listens keeps its process, also when its time is up.
    assert_true(keeps_its_process(&f, 0));
    assert_true(keeps_its_process(&f, 50));
    fixture_close(&f);
}

// One that was ended and listened takes nothing from those behind it: their time is up as well, and they can be
// cancelled.
static void test_several_to_be_ended(void **state)
{
    struct fixture f;
    bool listened = false;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    for (int tries = 0; !listened; tries++) { // in time, see keeps_its_process
        assert_true(tries < 5);
        run_calls(&f, "poll", "3", 50, 4);
        listened = f.task[0].rc == 0 && f.task[3].rc == 0 &&
                   result_number(&f.task[0]) == result_number(&f.task[3]);
        fixture_drop(&f, 4);
    }
    listened = false;
    for (int tries = 0; !listened; tries++) {
        struct canceller c = {.f = &f, .at = 1, .count = 2, .after_ms = 20}; // while the first one runs

        assert_true(tries < 5);
        canceller_start(&c);
        run_calls(&f, "poll", "1", 0, 3);
        pthread_join(c.thread, NULL);
        assert_error(&f.task[1], ECANCELED, "cancelled");
        listened = f.task[0].rc == 0;
        fixture_drop(&f, 3);
    }
    fixture_close(&f);
}

// The limit of memory meets a leak, or the process is replaced before that.
static void test_leak(void **state)
{
    struct fixture f;
    size_t failed = 0;

    (void)state;
    if (SANITIZED) {
        skip();
    }
    fixture_open(&f, 64 << 20, 256 << 20);
    run_calls(&f, "leak", NULL, 0, 10);
    for (uint32_t i = 0; i < 10; i++) {
        failed += f.task[i].rc != 0;
        if (f.task[i].rc != 0) {
            assert_error(&f.task[i], ENOMEM, "no memory");
        }
    }
    assert_true(failed > 0);
    fixture_drop(&f, 10);
    for (int i = 0; i < 10; i++) {
        pause_ms(110);
        run_calls(&f, "leak", NULL, 0, 1);
        result_number(&f.task[0]);
        fixture_drop(&f, 1);
    }
    fixture_close(&f);
}

static void test_descriptors_closed(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_calls(&f, "close", NULL, 0, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(result_number(&f.task[i]), 7);
    }
    fixture_drop(&f, 3);
    run_calls(&f, "number", NULL, 0, 2);
    assert_int_equal(result_number(&f.task[1]), 1);
    fixture_drop(&f, 2);
    fixture_close(&f);
}

// What it may do to the memory that it shares, the worker stays whole.
static void test_scribble(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_calls(&f, "scribble", NULL, 0, 20);
    fixture_drop(&f, 20);
    run_calls(&f, "number", NULL, 0, 2);
    assert_int_equal(result_number(&f.task[1]), 1);
    fixture_drop(&f, 2);
    fixture_close(&f);
}

static struct partition *make_table(void)
{
    struct column_builder *builder[4];
    struct table *table = table_create(4, 5);
    static const enum type TYPES[] = {TYPE_INT64, TYPE_STRING, TYPE_BOOL, TYPE_FLOAT64};

    for (int i = 0; i < 4; i++) {
        builder[i] = column_builder_create(TYPES[i]);
    }
    for (int row = 0; row < 5; row++) {
        column_builder_int64(builder[0], row * 10);
        row == 2 ? column_builder_null(builder[1]) : column_builder_string(builder[1], "abcdef", (size_t)row);
        column_builder_bool(builder[2], row % 2 == 0);
        row == 4 ? column_builder_null(builder[3]) : column_builder_float64(builder[3], row / 2.0);
    }
    for (int i = 0; i < 4; i++) {
        column_builder_finish(builder[i], (const char *[]){"n", "s", "b", "f"}[i], &table->column[i]);
        column_builder_destroy(builder[i]);
    }
    return partition_from_table(table);
}

static void test_tables(void **state)
{
    static const uint32_t start[] = {0, 1};
    struct fixture f;
    struct partition *table = make_table();
    struct buffer *before, *after;
    struct error err = {0};

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    for (uint32_t i = 0; i < 3; i++) {
        f.task[i].inputs = (struct kernel_inputs){.partition = &table, .start = start, .lists = 1};
    }
    run_calls(&f, "table", NULL, 0, 3);
    assert_int_equal(f.task[2].rc, 0);
    assert_int_equal(partition_encode(table, &before, &err), 0);
    assert_int_equal(partition_encode(f.task[2].partition, &after, &err), 0);
    assert_int_equal(before->size, after->size);
    assert_memory_equal(before->data, after->data, before->size);
    buffer_unref(before);
    buffer_unref(after);
    fixture_drop(&f, 3);
    run_calls(&f, "double", NULL, 0, 1);
    if (f.task[0].rc != 0) {
        fail_msg("%s", f.task[0].err.text);
    }
    assert_int_equal(f.task[0].partition->kind, PARTITION_TABLE);
    assert_string_equal(f.task[0].partition->table->column[0].name, "twice");
    assert_int_equal(column_int64(&f.task[0].partition->table->column[0], 4), 80);
    fixture_drop(&f, 1);
    partition_unref(table);
    fixture_close(&f);
}

static void test_arrays(void **state)
{
    static const uint32_t start[] = {0, 1};
    const uint64_t shape[2] = {4, 3};
    uint64_t elements;
    size_t size = dray_array_size(DRAY_TYPE_FLOAT64, 2, shape, &elements);
    char *bytes = calloc(1, size);
    double *values = dray_array_write(bytes, DRAY_TYPE_FLOAT64, 2, shape);
    struct partition *input;
    struct dray_array out = {0};
    struct fixture f;

    (void)state;
    assert_int_equal(size, 64 + 96);
    for (int i = 0; i < 12; i++) {
        values[i] = i;
    }
    input = bytes_partition(bytes, size);
    free(bytes);
    fixture_open(&f, 64 << 20, 0);
    f.task[0].inputs = (struct kernel_inputs){.partition = &input, .start = start, .lists = 1};
    run_calls(&f, "array", NULL, 0, 1);
    assert_int_equal(f.task[0].rc, 0);
    assert_int_equal(
        dray_array_read(f.task[0].partition->bytes->data, f.task[0].partition->bytes->size, &out), 0);
    assert_int_equal(out.dims, 2);
    assert_int_equal(out.shape[0], 3);
    assert_true(((const double *)out.data)[11] == 12.0);
    fixture_drop(&f, 1);
    partition_unref(input);
    fixture_close(&f);
}

// What it starts ends with it; what it makes at its end is made.
static void test_end(void **state)
{
    struct fixture f;
    char path[] = "/tmp/dray-finish-XXXXXX", text[64] = "";
    pid_t pid;
    int fd = mkstemp(path);

    (void)state;
    setenv("DRAY_TEST_FINISH", path, 1);
    fixture_open(&f, 64 << 20, 0);
    assert_true(read(fd, text, sizeof(text)) > 0); // of the process that only said what it is
    run_calls(&f, "daemon", NULL, 0, 1);
    pid = (pid_t)result_number(&f.task[0]);
    assert_int_equal(kill(pid, 0), 0);
    fixture_drop(&f, 1);
    fixture_close(&f);
    assert_true(read(fd, text, sizeof(text)) > 0);
    assert_memory_equal(text, "finished\n", 9);
    for (int i = 0; i < 200 && kill(pid, 0) == 0; i++) {
        char status[64], line[300] = "";
        FILE *file;

        snprintf(status, sizeof(status), "/proc/%d/stat", (int)pid);
        file = fopen(status, "re");
        if (file == NULL || fgets(line, sizeof(line), file) == NULL || strstr(line, ") Z") != NULL) {
            pid = -1; // a zombie of init's
        }
        if (file != NULL) {
            fclose(file);
        }
        if (pid == -1) {
            break;
        }
        pause_ms(10);
    }
    assert_true(pid == -1 || kill(pid, 0) != 0);
    unsetenv("DRAY_TEST_FINISH");
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),      cmocka_unit_test(test_own_arguments),
        cmocka_unit_test(test_inputs),       cmocka_unit_test(test_large_inputs),
        cmocka_unit_test(test_result_sizes), cmocka_unit_test(test_result_does_not_fit),
        cmocka_unit_test(test_errors),       cmocka_unit_test(test_crash),
        cmocka_unit_test(test_timeout),      cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_several_to_be_ended),
        cmocka_unit_test(test_leak),         cmocka_unit_test(test_descriptors_closed),
        cmocka_unit_test(test_scribble),     cmocka_unit_test(test_tables),
        cmocka_unit_test(test_arrays),       cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
