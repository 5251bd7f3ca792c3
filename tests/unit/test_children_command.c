// worker/child/command.c, worker/child/capture.c, worker/host/spawner.c: commands, well-behaved and not.
#include "tests/unit/children_fixture.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include "worker/child/line.h"
#include "worker/child/scratch.h"
#include "worker/child/tail.h"

enum {
    WORDS_MAX = 8,
    LATE_MS = 20000, // sooner than a minute, which commands sleep that nobody ends
};

struct command_op {
    Dray__Op op;
    Dray__Step step, *steps[1];
    Dray__Command command;
    ProtobufCBinaryData word[WORDS_MAX], env[WORDS_MAX], param[WORDS_MAX];
    Dray__CommandFile file, *files[1];
};

static ProtobufCBinaryData binary(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

// argv ends with NULL; a single text with spaces is for the shell.
static void command_init(struct command_op *o, const char *const *argv)
{
    dray__op__init(&o->op);
    dray__step__init(&o->step);
    dray__command__init(&o->command);
    dray__command_file__init(&o->file);
    o->command.argv = o->word;
    o->command.env = o->env;
    o->command.param = o->param;
    o->files[0] = &o->file;
    o->command.file = o->files;
    for (; argv[o->command.n_argv] != NULL; o->command.n_argv++) {
        o->word[o->command.n_argv] = binary(argv[o->command.n_argv]);
    }
    o->step.command = &o->command;
    o->steps[0] = &o->step;
    o->op.step = o->steps;
    o->op.n_step = 1;
}

static void shell_init(struct command_op *o, const char *text)
{
    command_init(o, (const char *const[]){text, NULL});
    o->command.has_shell = o->command.shell = 1;
}

static void run_op(struct fixture *f, struct command_op *o, uint32_t timeout_ms, size_t count)
{
    children_run(f->children, &o->op, timeout_ms, f->task, count);
}

static void run_shell(struct fixture *f, const char *text, uint32_t timeout_ms, size_t count)
{
    struct command_op o;

    shell_init(&o, text);
    run_op(f, &o, timeout_ms, count);
}

static void assert_text(const struct child_task *task, const char *text)
{
    if (task->rc != 0) {
        fail_msg("task %u: %s", task->index, task->err.text);
    }
    const struct buffer *bytes = task->partition->bytes;

    if (bytes->size != strlen(text) || memcmp(bytes->data, text, bytes->size) != 0) {
        fail_msg("task %u: \"%.*s\" instead of \"%s\"", task->index, (int)bytes->size,
                 (const char *)bytes->data, text);
    }
}

static void test_words(void **state)
{
    struct command_op o;
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    command_init(&o,
                 (const char *const[]){"printf", "%s|", "{index}", "a b", "{{index}", "{other}", "", NULL});
    run_op(&f, &o, 0, 3);
    assert_text(&f.task[0], "0|a b|{index}|{other}||");
    assert_text(&f.task[2], "2|a b|{index}|{other}||");
    assert_true(f.task[2].has_use);
    assert_int_equal(f.task[2].use.exit_code, 0);
    assert_true(f.task[2].use.wall_us > 0 && f.task[2].use.peak_bytes > 0);
    fixture_drop(&f, 3);
    run_shell(&f, "echo $((6 * 7)) | tr 4 5", 0, 1);
    assert_text(&f.task[0], "52\n");
    fixture_drop(&f, 1);
    shell_init(&o, "echo {param}");
    o.param[0] = binary("x");
    o.param[1] = binary("y z");
    o.command.n_param = 2;
    run_op(&f, &o, 0, 2);
    assert_text(&f.task[1], "y z\n");
    fixture_drop(&f, 2);
    fixture_close(&f);
}

static void test_environment(void **state)
{
    struct command_op o;
    struct fixture f;

    (void)state;
    setenv("DRAY_TEST_OURS", "ours", 1);
    fixture_open(&f, 64 << 20, 0);
    shell_init(&o, "echo $DRAY_TEST_OURS $DRAY_TEST_THEIRS");
    o.env[0] = binary("DRAY_TEST_THEIRS=task {index}");
    o.command.n_env = 1;
    run_op(&f, &o, 0, 2);
    assert_text(&f.task[1], "ours task 1\n");
    fixture_drop(&f, 2);
    o.command.has_clear_env = o.command.clear_env = 1;
    run_op(&f, &o, 0, 1);
    assert_text(&f.task[0], "task 0\n");
    fixture_drop(&f, 1);
    // Replaced, not there twice.
    command_init(&o, (const char *const[]){"env", NULL});
    o.env[0] = binary("DRAY_TEST_OURS=theirs");
    o.command.n_env = 1;
    run_op(&f, &o, 0, 1);
    assert_int_equal(f.task[0].rc, 0);
    const char *text = (const char *)f.task[0].partition->bytes->data;
    assert_non_null(strstr(text, "DRAY_TEST_OURS=theirs"));
    assert_null(strstr(text, "DRAY_TEST_OURS=ours"));
    fixture_drop(&f, 1);
    fixture_close(&f);
    unsetenv("DRAY_TEST_OURS");
}

static void test_standard_input(void **state)
{
    static const uint32_t start[] = {0, 2};
    struct partition *list[2] = {bytes_partition("first ", 6), bytes_partition("second", 6)};
    struct command_op o;
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_shell(&f, "cat", 5000, 1); // none: its end at once
    assert_text(&f.task[0], "");
    fixture_drop(&f, 1);
    command_init(&o, (const char *const[]){"cat", NULL});
    o.command.has_stdin = 1;
    o.command.stdin = binary("text {index}");
    run_op(&f, &o, 0, 1);
    assert_text(&f.task[0], "text {index}");
    fixture_drop(&f, 1);
    o.command.has_stdin_template = o.command.stdin_template = 1;
    run_op(&f, &o, 0, 2);
    assert_text(&f.task[1], "text 1");
    fixture_drop(&f, 2);
    o.command.has_stdin = 0;
    o.command.has_stdin_input = 1;
    f.task[0].inputs = (struct kernel_inputs){.partition = list, .start = start, .lists = 1};
    run_op(&f, &o, 0, 1);
    assert_text(&f.task[0], "first second");
    fixture_drop(&f, 1);
    o.command.stdin_input = 1;
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], EINVAL, "command 'cat': there is no input 1: the task has 1");
    partition_unref(list[0]);
    partition_unref(list[1]);
    fixture_close(&f);
}

// More than any pipe holds, in both directions at once; and nobody who reads it.
static void test_large_standard_input(void **state)
{
    static const uint32_t start[] = {0, 1};
    enum { LARGE = 20 << 20 };
    struct command_op o;
    struct fixture f;
    uint8_t *data;
    struct buffer *buffer = buffer_create(LARGE, &data);
    struct partition *large;

    (void)state;
    for (size_t i = 0; i < LARGE; i++) {
        data[i] = (uint8_t)(i * 7 >> 3);
    }
    large = partition_from_bytes(buffer);
    fixture_open(&f, 256 << 20, 0);
    command_init(&o, (const char *const[]){"cat", NULL});
    o.command.has_stdin_input = 1;
    f.task[0].inputs = (struct kernel_inputs){.partition = &large, .start = start, .lists = 1};
    run_op(&f, &o, 20000, 1);
    assert_int_equal(f.task[0].rc, 0);
    assert_int_equal(f.task[0].partition->bytes->size, LARGE);
    assert_memory_equal(f.task[0].partition->bytes->data, data, LARGE);
    assert_int_equal((uintptr_t)f.task[0].partition->bytes->data % 16, 0);
    fixture_drop(&f, 1);
    command_init(&o, (const char *const[]){"true", NULL});
    o.command.has_stdin_input = 1;
    for (int i = 0; i < 20; i++) {
        run_op(&f, &o, 20000, 1);
        assert_text(&f.task[0], "");
        fixture_drop(&f, 1);
    }
    fixture_close(&f);
    partition_unref(large);
}

static void test_files(void **state)
{
    static const uint32_t start[] = {0, 2};
    struct partition *list[2] = {bytes_partition("first ", 6), bytes_partition("second", 6)};
    struct command_op o;
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    f.task[0].inputs = (struct kernel_inputs){.partition = list, .start = start, .lists = 1};
    shell_init(&o, "find . -type f | sort; cat in/both");
    o.file.path = (char *)(uintptr_t) "in/both";
    o.command.n_file = 1;
    run_op(&f, &o, 0, 1);
    assert_text(&f.task[0], "./in/both\nfirst second");
    fixture_drop(&f, 1);
    shell_init(&o, "cat in.1 in.0; ls | wc -l | tr -d ' '");
    o.file.path = (char *)(uintptr_t) "in.{i}";
    o.command.n_file = 1;
    run_op(&f, &o, 0, 1);
    assert_text(&f.task[0], "secondfirst 2\n");
    fixture_drop(&f, 1);
    o.file.path = (char *)(uintptr_t) "{param}";
    o.param[0] = binary("../x");
    o.command.n_param = 1;
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], EINVAL, "the path '../x' leaves the working directory");
    o.param[0] = binary("/tmp/x");
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], EINVAL, "is not below the working directory");
    // Results.
    shell_init(&o, "echo noise; mkdir out; printf content > out/result.{index}");
    o.command.output = (char *)(uintptr_t) "out/result.{index}";
    run_op(&f, &o, 0, 1);
    assert_text(&f.task[0], "content");
    fixture_drop(&f, 1);
    shell_init(&o, "echo I forgot it");
    o.command.output = (char *)(uintptr_t) "out";
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], ENOENT,
                 "ended well, but its output file out cannot be read: No such file or directory");
    shell_init(&o, "mkdir out");
    o.command.output = (char *)(uintptr_t) "out";
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], EINVAL, "is not a regular file");
    shell_init(&o, "mkfifo out");
    o.command.output = (char *)(uintptr_t) "out";
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], EINVAL, "is not a regular file");
    partition_unref(list[0]);
    partition_unref(list[1]);
    fixture_close(&f);
}

static void test_directory(void **state)
{
    static const uint32_t start[] = {0, 1};
    char path[] = "/tmp/dray-test-XXXXXX", text[100], gone[200];
    struct partition *one = bytes_partition("1", 1);
    struct command_op o;
    struct stat info;
    struct fixture f;

    (void)state;
    assert_non_null(mkdtemp(path));
    fixture_open(&f, 64 << 20, 0);
    f.task[0].inputs = (struct kernel_inputs){.partition = &one, .start = start, .lists = 1};
    shell_init(&o, "pwd; cat in");
    o.command.directory = path;
    o.file.path = (char *)(uintptr_t) "in";
    o.command.n_file = 1;
    run_op(&f, &o, 0, 1);
    snprintf(text, sizeof(text), "%s\n1", path);
    assert_text(&f.task[0], text);
    fixture_drop(&f, 1);
    assert_int_equal(rmdir(path), 0); // its input file was removed
    o.command.n_file = 0;
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], ENOENT, "cannot go to its working directory /tmp/dray-test-");
    // A scratch folder goes with all that is in it.
    run_shell(&f, "pwd; mkdir -p a/b; echo x > a/b/c; chmod 0 a/b a; ln -s /etc link", 0, 1);
    assert_int_equal(f.task[0].rc, 0);
    snprintf(gone, sizeof(gone), "%.*s", (int)f.task[0].partition->bytes->size - 1,
             (const char *)f.task[0].partition->bytes->data);
    assert_true(lstat(gone, &info) != 0 && errno == ENOENT);
    fixture_drop(&f, 1);
    // One that was left as it was serves the next command; never one that somebody has written to or removed.
    run_shell(&f, "pwd; ls -A", 0, 2);
    assert_int_equal(f.task[0].partition->bytes->size, f.task[1].partition->bytes->size);
    assert_memory_equal(f.task[0].partition->bytes->data, f.task[1].partition->bytes->data,
                        f.task[0].partition->bytes->size);
    snprintf(gone, sizeof(gone), "%.*s/stray", (int)f.task[0].partition->bytes->size - 1,
             (const char *)f.task[0].partition->bytes->data);
    fixture_drop(&f, 2);
    FILE *stray = fopen(gone, "we");

    assert_non_null(stray);
    fclose(stray);
    run_shell(&f, "ls -A", 0, 1);
    assert_text(&f.task[0], "");
    fixture_drop(&f, 1);
    run_shell(&f, "rmdir $PWD; echo {index}", 0, 3);
    assert_text(&f.task[2], "2\n");
    fixture_drop(&f, 2);
    f.task[0].partition = f.task[2].partition;
    fixture_drop(&f, 1);
    partition_unref(one);
    fixture_close(&f);
}

static void test_failures(void **state)
{
    struct command_op o;
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_shell(&f, "echo some; echo a reason >&2; exit 3", 0, 1);
    assert_error(&f.task[0], EREMOTEIO, "ended with exit code 3; standard error ends with:\na reason");
    assert_true(f.task[0].has_use);
    assert_int_equal(f.task[0].use.exit_code, 3);
    run_shell(&f, "echo last words >&2; kill -SEGV $$", 0, 1);
    assert_error(&f.task[0], EOWNERDEAD, "was ended by signal 11 (SIGSEGV, Segmentation fault)");
    assert_non_null(strstr(f.task[0].err.text, "last words"));
    assert_int_equal(f.task[0].use.exit_code, -11);
    command_init(&o, (const char *const[]){"no-such-program", NULL});
    run_op(&f, &o, 0, 2);
    assert_error(&f.task[1], ENOENT,
                 "command 'no-such-program': there is no such program in the worker's PATH");
    command_init(&o, (const char *const[]){"/etc/passwd", NULL});
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], EACCES, "command '/etc/passwd': cannot be executed: Permission denied");
    fixture_close(&f);
}

// What ran for this task stands in its error, not what it was made from.
static void test_failures_show_what_ran(void **state)
{
    const char *const values[] = {"one.csv", "two\twords\n\xff\xc3\xa4"};
    struct command_op o;
    Dray__Column column, *columns[] = {&column};
    ProtobufCBinaryData value[2];
    char many[5001], expected[300];
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    dray__column__init(&column);
    column.name = (char *)(uintptr_t) "name";
    column.each = 1;
    column.n_value = 2;
    column.value = value;
    for (size_t i = 0; i < 2; i++) {
        value[i] = binary(values[i]);
    }
    shell_init(&o, "awk '{{exit 3}' {name} # {index}");
    o.command.n_column = 1;
    o.command.column = columns;
    run_op(&f, &o, 0, 2);
    assert_error(&f.task[0], EREMOTEIO, "command 'awk '{exit 3}' one.csv # 0': ended with exit code");
    assert_error(&f.task[1], EREMOTEIO,
                 "command 'awk '{exit 3}' two\\twords\\n\\xff\xc3\xa4 # 1': ended with exit code");
    assert_null(strstr(f.task[0].err.text, "{name}"));
    command_init(&o, (const char *const[]){"sh", "-c", "exit \"$1\"", "", "{param}", NULL});
    o.param[0] = binary("7");
    o.command.n_param = 1;
    run_op(&f, &o, 0, 1);
    assert_string_equal(f.task[0].err.text,
                        "command 'sh -c \"exit \\\"$1\\\"\" \"\" 7': ended with exit code 7");
    // Not all of what is long, and what it said on standard error all the same.
    memset(many, 'x', sizeof(many));
    many[sizeof(many) - 1] = '\0';
    o.param[0] = binary(many);
    shell_init(&o, "seq 1000 >&2; exit 1 # {param}");
    o.command.n_param = 1;
    run_op(&f, &o, 0, 1);
    snprintf(expected, sizeof(expected), "command 'seq 1000 >&2; exit 1 # %.*s...': ended with exit code 1;",
             LINE_BYTES - (int)strlen("seq 1000 >&2; exit 1 # "), many);
    assert_error(&f.task[0], EREMOTEIO, expected);
    assert_non_null(strstr(f.task[0].err.text, "\n999\n1000"));
    fixture_close(&f);
}

static void test_line(void **state)
{
    struct line line = {0};

    (void)state;
    assert_string_equal(line.text, "");
    line_add_word(&line, "a", 1);
    line_add_word(&line, "b c", 3);
    line_add_word(&line, "\x01\x7f\xc2\x85\\", 5);
    line_add_word(&line, "\0\"\\", 3);
    assert_string_equal(line.text, "a \"b c\" \\x01\\x7f\\xc2\\x85\\ \"\\x00\\\"\\\\\"");
    // All that fits, and never a part of a character or of an escape.
    for (size_t before = LINE_BYTES - 5; before <= LINE_BYTES; before++) {
        char text[LINE_BYTES + 1];

        memset(text, 'x', sizeof(text));
        line = (struct line){0};
        line_add(&line, text, before);
        assert_false(line.cut);
        line_add(&line, "\xe2\x82\xac", 3);
        assert_int_equal(line.cut, before + 3 > LINE_BYTES);
        assert_string_equal(line.text + before, line.cut ? "..." : "\xe2\x82\xac");
        line = (struct line){0};
        line_add(&line, text, before);
        line_add(&line, "\x02y", 2);
        assert_int_equal(line.cut, before + 5 > LINE_BYTES);
        assert_string_equal(line.text + before, before + 4 > LINE_BYTES   ? "..."
                                                : before + 5 > LINE_BYTES ? "\\x02..."
                                                                          : "\\x02y");
        line_add(&line, text, line.cut ? 9 : 0);
        assert_int_equal(line.used, strlen(line.text));
    }
}

static void test_limits(void **state)
{
    struct command_op o;
    struct fixture f;
    uint64_t begin;
    bool cleaned_up = false;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    begin = now_ms();
    run_shell(&f, "sleep 60", 100, 1);
    assert_error(&f.task[0], ETIMEDOUT, "command 'sleep 60': did not end within 100 ms");
    assert_true(now_ms() - begin < LATE_MS);
    // One that does not listen, with children of its own.
    begin = now_ms();
    run_shell(&f, "trap '' TERM; sleep 60 & sleep 60; sleep 60; sleep 60", 100, 1);
    assert_error(&f.task[0], ETIMEDOUT, "did not end within 100 ms");
    assert_true(now_ms() - begin < LATE_MS);
    // A signal gives it the time to clean up (once it has said that it wants to).
    for (int i = 0; i < LONG_ENOUGH && !cleaned_up; i++) {
        run_shell(&f, "trap 'echo cleaned up >&2; exit 1' TERM; sleep 60 & wait", LONG_ENOUGH_MS[i], 1);
        cleaned_up = is_error(&f.task[0], ETIMEDOUT, "cleaned up");
    }
    assert_true(cleaned_up);
    shell_init(&o, "exec python3 -c 'x = bytearray(1 << 30)'");
    o.command.has_memory = 1;
    o.command.memory = 200 << 20;
    run_op(&f, &o, 0, 1);
    assert_error(&f.task[0], EREMOTEIO, "(it may take 200 MiB of address space)");
    assert_non_null(strstr(f.task[0].err.text, "MemoryError"));
    fixture_close(&f);
}

static void test_cancel(void **state)
{
    struct fixture f;
    uint64_t begin = now_ms();
    bool while_it_ran = false;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    for (int i = 0; i < LONG_ENOUGH && !while_it_ran; i++) {
        struct canceller c = {.f = &f, .at = 0, .count = 1, .after_ms = LONG_ENOUGH_MS[i]};

        atomic_store(&f.cancelled[1], true);
        canceller_start(&c);
        run_shell(&f, "test {index} = 2 || sleep 60", 0, 3);
        pthread_join(c.thread, NULL);
        assert_error(&f.task[0], ECANCELED, "cancelled");
        assert_error(&f.task[1], ECANCELED, "cancelled");
        assert_text(&f.task[2], "");
        while_it_ran = is_error(&f.task[0], ECANCELED, "cancelled while it ran");
        fixture_drop(&f, 3);
    }
    assert_true(while_it_ran);
    assert_true(now_ms() - begin < LATE_MS);
    fixture_close(&f);
}

static void test_huge_output(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 128 << 20, 0);
    run_shell(&f, "head -c 40000000 /dev/zero", 0, 1);
    assert_int_equal(f.task[0].rc, 0);
    assert_int_equal(f.task[0].partition->bytes->size, 40000000);
    fixture_drop(&f, 1);
    run_shell(&f, "cat /dev/zero", 20000, 1);
    assert_error(&f.task[0], ENOMEM, "command 'cat /dev/zero': its standard output needs");
    // Standard error is read and forgotten but for its end.
    run_shell(&f, "head -c 40000000 /dev/zero >&2; echo end >&2; exit 1", 20000, 1);
    assert_error(&f.task[0], EREMOTEIO, "end");
    fixture_close(&f);
}

static void wait_gone(long pid)
{
    char path[64], line[300];

    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    for (int i = 0; i < 2000; i++) {
        FILE *file = fopen(path, "re");
        bool gone = file == NULL || fgets(line, sizeof(line), file) == NULL || strstr(line, ") Z") != NULL;

        if (file != NULL) {
            fclose(file);
        }
        if (gone) {
            return;
        }
        pause_ms(10);
    }
    fail_msg("process %ld is still there", pid);
}

// What a command leaves behind in its group ends with it, and does not hold up its end.
static void test_left_behind(void **state)
{
    struct fixture f;
    uint64_t begin = now_ms();
    long pid;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_shell(&f, "sleep 60 & echo $!", 0, 1);
    assert_int_equal(f.task[0].rc, 0);
    assert_true(now_ms() - begin < LATE_MS);
    pid = strtol((const char *)f.task[0].partition->bytes->data, NULL, 10);
    assert_true(pid > 1);
    fixture_drop(&f, 1);
    wait_gone(pid);
    fixture_close(&f);
}

static void test_use(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_shell(&f, "true", 0, 1);
    assert_true(f.task[0].use.peak_bytes < 20 << 20); // its own, not ours
    fixture_drop(&f, 1);
    run_shell(
        &f,
        "exec python3 -c 'x = b\"1\" * (100 << 20)\nwhile __import__(\"time\").process_time() < 0.2: pass'",
        0, 1);
    assert_int_equal(f.task[0].rc, 0);
    assert_true(f.task[0].use.peak_bytes > 100 << 20);
    assert_true(f.task[0].use.cpu_us >= 200000 && f.task[0].use.wall_us >= 200000);
    fixture_drop(&f, 1);
    fixture_close(&f);
}

// The helper goes (somebody kills it): that attempt is lost, the next has a new one.
static void test_helper_killed(void **state)
{
    struct fixture f;
    long helper;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_shell(&f, "test {index} != 1 || kill -9 $PPID; sleep 0.05; echo {index}", 10000, 3);
    assert_text(&f.task[0], "0\n");
    assert_error(&f.task[1], EOWNERDEAD, "the process that starts commands has ended");
    assert_text(&f.task[2], "2\n");
    fixture_drop(&f, 3);
    // When there is nothing to do no attempt is lost.
    run_shell(&f,
              "setsid sh -c \": > there; while kill -0 $$; do sleep 0.05; done; sleep 0.2; kill -9 $PPID\" "
              "< /dev/null > /dev/null 2>&1 & until test -e there; do sleep 0.02; done; echo $PPID",
              10000, 1);
    assert_int_equal(f.task[0].rc, 0);
    helper = strtol((const char *)f.task[0].partition->bytes->data, NULL, 10);
    assert_true(helper > 1);
    fixture_drop(&f, 1);
    wait_gone(helper);
    run_shell(&f, "echo {index}", 10000, 2);
    assert_text(&f.task[1], "1\n");
    fixture_drop(&f, 2);
    fixture_close(&f);
}

static void test_many(void **state)
{
    struct command_op o;
    struct fixture f;

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    command_init(&o, (const char *const[]){"/bin/true", NULL});
    run_op(&f, &o, 0, 300);
    for (uint32_t i = 0; i < 300; i++) {
        assert_text(&f.task[i], "");
    }
    fixture_drop(&f, 300);
    fixture_close(&f);
}

static void test_tail(void **state)
{
    struct tail tail = {0};
    struct error err = {0};
    char text[20], many[10000];

    (void)state;
    tail_add(&tail, "\n one\ttwo\r\nthree\x01 \n", 19);
    tail_text(&tail, text, sizeof(text));
    assert_string_equal(text, "one two\nthree?");
    memset(many, 'x', sizeof(many));
    tail_add(&tail, many, sizeof(many));
    tail_add(&tail, "the end", 7);
    tail_text(&tail, text, 9);
    assert_string_equal(text, "xthe end");
    tail_clear(&tail);
    error_set(&err, EIO, "it failed");
    tail_append(&tail, &err);
    assert_string_equal(err.text, "it failed");
    tail_add(&tail, "because", 7);
    tail_append(&tail, &err);
    assert_string_equal(err.text, "it failed; standard error ends with:\nbecause");
}

// Output without end, by several that write faster than anybody reads: its time is looked at all the same;
// and what goes on writing when the command is over (it has left the group) does not keep us.
static void test_output_without_end(void **state)
{
    struct fixture f;
    uint64_t begin = now_ms();

    (void)state;
    fixture_open(&f, 64 << 20, 0);
    run_shell(&f, "yes >&2 & yes >&2 & yes >&2 & wait", 300, 1);
    assert_error(&f.task[0], ETIMEDOUT, "did not end within 300 ms");
    fixture_drop(&f, 1);
    run_shell(&f, "setsid timeout 30 sh -c 'yes & yes & yes' >&2 & sleep 0.1; echo done", 0, 1);
    assert_text(&f.task[0], "done\n");
    assert_true(now_ms() - begin < LATE_MS);
    fixture_drop(&f, 1);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_output_without_end),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_standard_input),
        cmocka_unit_test(test_large_standard_input),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_failures_show_what_ran),
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_huge_output),
        cmocka_unit_test(test_left_behind),
        cmocka_unit_test(test_use),
        cmocka_unit_test(test_helper_killed),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
