// The command line client's modules that need no cluster: command.h's values, progress.h,
// output.h, source_text.h.  script_value.h, lost.h, signals.h, reaper.h and local_cluster.h are tested with
// real processes in tests/integration.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/local_cluster.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "client/cli/source_text.h"
#include "client/lang/quantity.h"

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes; // 0: an error
    } cases[] = {
        {"1000", 1000},
        {"256M", 256 << 20},
        {"1G", 1 << 30},
        {"64MB", 64000000},
        {"16MiB", 16 << 20},
        {"1.5k", 1536},
        {"1.5kib", 1536},
        {"2T", 2ULL << 40},
        {"7b", 7},
        {"", 0},
        {"M", 0},
        {"-1", 0},
        {"1X", 0},
        {"1 M", 0},
        {"1e30", 0},
        {"99999999999999T", 0},
        {"0", 0},
        {"inf", 0},
        {"nan", 0},
        {"1MBs", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error err = {0};
        uint64_t bytes = 0;
        int rc = size_parse(cases[i].text, &bytes, &err);

        if (bytes != cases[i].bytes || (rc == 0) != (bytes != 0) || (rc != 0) != (err.code != 0)) {
            fail_msg("\"%s\": %llu, rc %d", cases[i].text, (unsigned long long)bytes, rc);
        }
    }
}

static void test_endpoints_and_counts(void **state)
{
    static const char *const good[] = {"tcp://localhost:8786", "tcp://127.0.0.1:1", "ipc:///a b",
                                       "tcp://[::1]:8786"};
    static const char *const bad[] = {"",
                                      "tcp://",
                                      "tcp://host",
                                      "tcp://host:",
                                      "tcp://host:0",
                                      "tcp://host:65536",
                                      "tcp://host:1x",
                                      "ipc://",
                                      "http://x:1",
                                      "host:8786",
                                      "tcp://:8786"};
    uint32_t n = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(endpoint_check(good[i], NULL), 0);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (endpoint_check(bad[i], NULL) == 0) {
            fail_msg("%s", bad[i]);
        }
    }
    assert_int_equal(count_parse("17", 17, &n, NULL), 0);
    assert_int_equal(n, 17);
    assert_true(count_parse("18", 17, &n, NULL) < 0 && count_parse("0", 17, &n, NULL) < 0);
    assert_true(count_parse("", 17, &n, NULL) < 0 && count_parse("-1", 17, &n, NULL) < 0);
    assert_true(count_parse("1 ", 17, &n, NULL) < 0 && count_parse("99999999999999999999", 17, &n, NULL) < 0);
    assert_int_equal(n, 17);
    assert_int_equal(seconds_parse("1.5", &n, NULL), 0);
    assert_int_equal(n, 1500);
    assert_int_equal(seconds_parse("0", &n, NULL), 0);
    assert_true(seconds_parse("x", &n, NULL) < 0 && seconds_parse("-1", &n, NULL) < 0);
    assert_true(seconds_parse("nan", &n, NULL) < 0 && seconds_parse("", &n, NULL) < 0);
    assert_in_range(local_cluster_processors(), 1, 100000);
}

static void test_progress_line(void **state)
{
    const struct query_progress now = {
        .tasks = 203, .done = 92, .rows = 50600000, .source_bytes = 1460000000, .workers = 2};
    struct query_progress odd = {.tasks = 0, .done = 5, .waiting = "no worker can read x"};
    char line[512];

    (void)state;
    progress_format(&now, 1.0, 120, line, sizeof(line));
    assert_string_equal(
        line, "[###################                     ]  45%  50.6 M rows/s  1.46 GB/s  92/203 tasks  2 workers");
    // Whatever the terminal: it fits, and never ends past the buffer.
    for (unsigned columns = 0; columns < 200; columns++) {
        for (size_t size = 1; size < 200; size += 7) {
            char *exact = malloc(size);

            progress_format(&now, 0.5, columns, exact, size);
            assert_true(strlen(exact) < size);
            assert_true(strlen(exact) < (columns > 0 ? columns : 1));
            progress_format(&odd, 0, columns, exact, size);
            assert_true(strlen(exact) < size);
            free(exact);
        }
    }
}

// ---- output ------------------------------------------------------------------------------

static char *slurp(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1000);

    if (file == NULL) {
        free(text);
        return NULL;
    }
    (void)!fread(text, 1, 999, file);
    fclose(file);
    return text;
}

static void expect_file(const char *path, const char *content)
{
    char *text = slurp(path);

    assert_non_null(text);
    assert_string_equal(text, content);
    free(text);
}

static void test_output_file(void **state)
{
    char directory[] = "/tmp/dray-test-XXXXXX", path[64], link[64];
    struct output *output = NULL;
    struct error err = {0};
    struct stat info;
    FILE *stream;

    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/a b", directory);
    snprintf(link, sizeof(link), "%s/link", directory);

    // Given up: nothing is there.
    assert_int_equal(output_create(path, &output, &err), 0);
    assert_int_equal(output_begin(output, &stream, &err), 0);
    fputs("half", stream);
    fflush(stream);
    assert_int_not_equal(access(path, F_OK), 0);
    output_destroy(output);
    assert_int_not_equal(access(path, F_OK), 0);

    // A second round begins anew.
    assert_int_equal(output_create(path, &output, &err), 0);
    assert_int_equal(output_begin(output, &stream, &err), 0);
    fputs("a longer first round", stream);
    assert_int_equal(output_begin(output, &stream, &err), 0);
    fputs("second", stream);
    assert_int_equal(output_commit(output, &err), 0);
    output_destroy(output);
    expect_file(path, "second");

    // An old file stays until the new one is whole; its mode and a link to it stay as well.
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink("a b", link), 0);
    assert_int_equal(output_create(link, &output, &err), 0);
    assert_int_equal(output_begin(output, &stream, &err), 0);
    fputs("third", stream);
    fflush(stream);
    expect_file(path, "second");
    assert_int_equal(output_commit(output, &err), 0);
    output_destroy(output);
    expect_file(path, "third");
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    unlink(link);
    unlink(path);
    assert_int_equal(rmdir(directory), 0); // nothing else was left
}

static void test_output_errors(void **state)
{
    struct output *output = NULL;
    struct error err = {0};
    FILE *stream;

    (void)state;
    assert_int_equal(output_create("/no/such/folder/x", &output, &err), -ENOENT);
    assert_string_equal(err.text, "cannot write /no/such/folder/x: No such file or directory");
    assert_int_equal(output_create("/tmp", &output, &err), -EISDIR);
    assert_int_equal(output_create("/tmp/nothing/", &output, &err) < 0, 1);
    assert_null(output);
    // Not a file: written through.
    assert_int_equal(output_create("/dev/full", &output, &err), 0);
    assert_int_equal(output_begin(output, &stream, &err), 0);
    fputs("x", stream);
    assert_int_equal(output_commit(output, &err), -ENOSPC);
    output_destroy(output);
    assert_int_equal(output_create("/dev/null", &output, &err), 0);
    assert_int_equal(output_begin(output, &stream, &err), 0);
    fputs("x", stream);
    assert_int_equal(output_commit(output, &err), 0);
    output_destroy(output);
}

static void test_source_text(void **state)
{
    char path[] = "/tmp/dray-test-XXXXXX";
    struct source_text text = {0};
    struct error err = {0};
    int fd = mkstemp(path);

    (void)state;
    assert_int_equal(source_text_read("1 + 2", &text, &err), 0);
    assert_string_equal(text.text, "1 + 2");
    source_text_fini(&text);
    assert_int_equal(source_text_read("missing.dray", &text, &err), -ENOENT);
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(write(fd, "df\n", 3), 3);
    }
    assert_int_equal(source_text_read(path, &text, &err), 0);
    assert_int_equal(text.size, 9000);
    assert_memory_equal(text.text + 8994, "df\ndf\n", 6);
    source_text_fini(&text);
    close(fd);
    unlink(path);
    assert_int_equal(source_text_read("", &text, &err), 0);
    source_text_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),         cmocka_unit_test(test_endpoints_and_counts),
        cmocka_unit_test(test_progress_line), cmocka_unit_test(test_output_file),
        cmocka_unit_test(test_output_errors), cmocka_unit_test(test_source_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
