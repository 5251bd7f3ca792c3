// worker/hello.h: what the options say is in it, and a broker would take it.
#include "worker/hello.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/frame.h"

static void test_bare(void **state)
{
    const struct daemon_options options = {
        .broker = "ipc://b", .name = "w", .threads = 2, .memory = 64 << 20};
    struct arena arena;
    Dray__Hello hello;

    (void)state;
    arena_init(&arena, 0);
    assert_int_equal(hello_make(&options, 7, "ipc://w", &arena, &hello), 0);
    assert_int_equal(hello.role, DRAY__ROLE__WORKER);
    assert_int_equal(hello.incarnation, 7);
    assert_int_equal(hello.threads, 2);
    assert_int_equal(hello.n_endpoint, 1);
    assert_string_equal(hello.endpoint[0], "ipc://w");
    assert_int_equal(hello.n_data_dir + hello.n_label + hello.n_resource, 0);
    arena_fini(&arena);
}

static void test_full(void **state)
{
    static const char *const data_dir[] = {"/a", "/b", NULL};
    static const char *const label[] = {"big", "fast"};
    static const struct agent_resource resource[] = {{"gpu", 2}, {"licence", 1}};
    struct plugin plugin[] = {{.name = "sums"}, {.name = "stats"}};
    const struct plugins plugins = {.plugin = plugin, .count = 2};
    const struct daemon_options options = {.broker = "ipc://b",
                                           .name = "w",
                                           .threads = 1,
                                           .memory = 64 << 20,
                                           .data_dir = data_dir,
                                           .plugins = &plugins,
                                           .label = label,
                                           .labels = 2,
                                           .resource = resource,
                                           .resources = 2};
    struct arena arena;
    Dray__Hello hello;

    (void)state;
    arena_init(&arena, 0);
    assert_int_equal(hello_make(&options, 7, "ipc://w", &arena, &hello), 0);
    assert_int_equal(hello.n_data_dir, 2);
    assert_int_equal(hello.n_label, 4);
    assert_string_equal(hello.label[1], "fast");
    assert_string_equal(hello.label[2], "plugin:sums");
    assert_string_equal(hello.label[3], "plugin:stats");
    assert_int_equal(hello.n_resource, 2);
    assert_string_equal(hello.resource[0]->name, "gpu");
    assert_int_equal(hello.resource[0]->amount, 2);

    size_t size = frame_size(&hello.base);
    uint8_t *bytes = malloc(size);
    struct frame frame;
    struct error err = {0};

    frame_encode(FRAME_HELLO, 0, 0, &hello.base, bytes);
    assert_int_equal(frame_decode(bytes, size, FROM_WORKER | FROM_CLIENT, &arena, &frame, &err), 0);
    free(bytes);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bare),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
