// worker/child/plugins.c: what a worker says of plugins at its start, good ones and broken ones.
#include "tests/unit/children_fixture.h"

static int create(const char *const *path, struct plugins **out, struct error *err)
{
    const struct plugins_options options = {.path = path, .helper = DRAY_CHILD};

    return plugins_create(&options, out, err);
}

static void expect_refusal(const char *path, int code, const char *text)
{
    const char *const paths[] = {path, NULL};
    struct plugins *plugins = NULL;
    struct error err = {0};
    int rc = create(paths, &plugins, &err);

    if (rc != -code || strstr(err.text, text) == NULL || strncmp(err.text, "plugin ", 7) != 0 ||
        strstr(err.text, path) == NULL) {
        fail_msg("%s: %d, \"%s\" instead of %d, \"%s\"", path, rc, err.text, -code, text);
    }
    assert_null(plugins);
}

static void test_described(void **state)
{
    const char *const paths[] = {DRAY_TEST_PLUGIN, NULL};
    struct plugins *plugins;
    struct error err = {0};
    size_t plugin = 9, function = 9;

    (void)state;
    assert_int_equal(create(paths, &plugins, &err), 0);
    assert_int_equal(plugins->count, 1);
    assert_string_equal(plugins->plugin[0].name, "hostile");
    assert_string_equal(plugins->plugin[0].version, "1.0");
    assert_int_equal(plugins_find(plugins, "hostile", "echo", &plugin, &function, &err), 0);
    assert_int_equal(plugin, 0);
    assert_string_equal(plugins->plugin[0].function[function].name, "echo");
    assert_int_equal(plugins_find(plugins, "hostile", "ech", &plugin, &function, &err), -ENOENT);
    assert_int_equal(plugins_find(plugins, "friendly", "echo", &plugin, &function, &err), -ENOENT);
    assert_non_null(strstr(err.text, "no plugin 'friendly' (it has hostile): start it with --plugin"));
    assert_int_equal(plugins_find(NULL, "friendly", "echo", &plugin, &function, &err), -ENOENT);
    assert_non_null(strstr(err.text, "(none at all)"));
    plugins_destroy(plugins);
    assert_int_equal(count_processes(), 0);
}

static void test_no_plugin(void **state)
{
    char path[] = "/tmp/dray-test-XXXXXX";
    int fd = mkstemp(path);

    (void)state;
    assert_int_equal(write(fd, "no shared object\n", 17), 17);
    close(fd);
    expect_refusal(path, ENOEXEC, "it cannot be loaded: ");
    unlink(path);
    expect_refusal(path, ENOENT, "No such file or directory");
    expect_refusal(DRAY_TEST_OTHER, ENOEXEC, "it does not export dray_plugin (see dray_task.h)");
}

static void test_broken(void **state)
{
    static const struct {
        const char *name;
        int code;
        const char *text;
    } broken[] = {
        {"1", ENOEXEC,
         "it was built with version 77 of dray_task.h, this worker has version 1: build it again"},
        {"2", EINVAL, "its name is not made of letters"},
        {"3", EINVAL, "function 0 of its table has no name of letters"},
        {"4", EINVAL, "two functions of its table are called 'first'"},
        {"5", EINVAL, "function 'second' of its table has no code"},
        {"6", EINVAL, "it has 0 functions; 1 to 1000 are possible"},
    };
    char path[500];

    (void)state;
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        snprintf(path, sizeof(path), "%s/broken_plugin_%s.so", DRAY_TEST_FOLDER, broken[i].name);
        expect_refusal(path, broken[i].code, broken[i].text);
    }
    assert_int_equal(count_processes(), 0);
}

static void test_init(void **state)
{
    (void)state;
    setenv("DRAY_TEST_INIT", "fail", 1);
    expect_refusal(DRAY_TEST_PLUGIN, EACCES, "its init says: no licence 42");
    setenv("DRAY_TEST_INIT", "crash", 1);
    expect_refusal(DRAY_TEST_PLUGIN, EOWNERDEAD,
                   "its process was ended by signal 9 (SIGKILL, Killed) while it was loaded");
    unsetenv("DRAY_TEST_INIT");
}

static void test_same_name(void **state)
{
    const char *const paths[] = {DRAY_TEST_PLUGIN, DRAY_TEST_PLUGIN, NULL};
    struct plugins *plugins;
    struct error err = {0};

    (void)state;
    assert_int_equal(create(paths, &plugins, &err), -EEXIST);
    assert_non_null(strstr(err.text, "it is called 'hostile', as "));
}

static void test_no_helper(void **state)
{
    const char *const paths[] = {DRAY_TEST_PLUGIN, NULL};
    const struct plugins_options options = {.path = paths, .helper = "/nowhere/dray-child"};
    struct plugins *plugins;
    struct error err = {0};

    (void)state;
    assert_int_equal(plugins_create(&options, &plugins, &err), -ENOENT);
    assert_non_null(strstr(err.text, "cannot start /nowhere/dray-child: No such file or directory"));
    assert_int_equal(count_processes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_described), cmocka_unit_test(test_no_plugin), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_init),      cmocka_unit_test(test_same_name), cmocka_unit_test(test_no_helper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
