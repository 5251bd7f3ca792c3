// worker/sources.h: a tree with links in circles, unreadable corners and changes.
#include "worker/sources.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/dray-sources-XXXXXX";

static char *below(const char *name)
{
    static char path[2][256];
    static int turn;

    turn ^= 1;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
    return path[turn];
}

static void touch(const char *name)
{
    FILE *file = fopen(below(name), "w");

    assert_non_null(file);
    fclose(file);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    static const char *const FILES[] = {"x/b.csv",  "x/y/c.csv", "x/y/up",  "x/self", "a.csv",
                                        "link.csv", "dangling",  "new.csv", "pipe"};
    static const char *const FOLDERS[] = {"x/y", "x", ""};
    int rc = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(FILES) / sizeof(FILES[0]); i++) {
        unlink(below(FILES[i]));
    }
    for (size_t i = 0; i < sizeof(FOLDERS) / sizeof(FOLDERS[0]); i++) {
        rc |= rmdir(below(FOLDERS[i]));
    }
    return rc;
}

static bool has(const struct source_files *files, const char *name)
{
    for (size_t i = 0; i < files->count; i++) {
        if (strcmp(files->name[i], name) == 0) {
            size_t path = strlen(files->path[i]), tail = strlen(name);

            assert_int_equal(files->path[i][0], '/');
            assert_string_equal(files->path[i] + path - tail, name);
            return true;
        }
    }
    return false;
}

static void test_walk(void **state)
{
    const char *dirs[] = {folder, NULL};
    struct source_files *files;

    (void)state;
    assert_int_equal(mkdir(below("x"), 0700), 0);
    assert_int_equal(mkdir(below("x/y"), 0700), 0);
    touch("a.csv");
    touch("x/b.csv");
    touch("x/y/c.csv");
    assert_int_equal(symlink("..", below("x/y/up")), 0);
    assert_int_equal(symlink(".", below("x/self")), 0);
    assert_int_equal(symlink("a.csv", below("link.csv")), 0);
    assert_int_equal(symlink("nowhere", below("dangling")), 0);
    assert_int_equal(mkfifo(below("pipe"), 0600), 0);
    assert_int_equal(source_files_walk(dirs, &files, NULL), 0);
    assert_true(has(files, "a.csv"));
    assert_true(has(files, "x/b.csv"));
    assert_true(has(files, "x/y/c.csv"));
    assert_true(has(files, "link.csv"));
    assert_int_equal(files->count, 4);
    source_files_destroy(files);
}

static void test_no_folder(void **state)
{
    const char *none[] = {below("none"), NULL}, *file[] = {below("a.csv"), NULL};
    struct source_files *files = NULL;
    struct error err = {0};

    (void)state;
    assert_int_equal(source_files_walk(none, &files, &err), -ENOENT);
    assert_non_null(strstr(err.text, "none"));
    assert_int_equal(source_files_walk(file, &files, &err), -ENOTDIR);
    assert_null(files);
}

static void test_changes_are_told(void **state)
{
    const char *dirs[] = {folder, NULL};
    struct sources *sources;
    struct source_files *files;
    struct error err = {0};

    (void)state;
    assert_int_equal(sources_create(dirs, 20, &sources, &err), 0);

    struct pollfd fd = {.fd = sources_fd(sources), .events = POLLIN};

    files = sources_take(sources);
    assert_non_null(files);
    source_files_destroy(files);
    assert_null(sources_take(sources));
    assert_int_equal(poll(&fd, 1, 100), 0);
    touch("new.csv");
    assert_int_equal(poll(&fd, 1, 10000), 1);
    files = sources_take(sources);
    assert_true(has(files, "new.csv"));
    source_files_destroy(files);
    unlink(below("new.csv"));
    assert_int_equal(poll(&fd, 1, 10000), 1);
    sources_destroy(sources);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_no_folder),
        cmocka_unit_test(test_changes_are_told),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
