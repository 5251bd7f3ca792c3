// Ranges of tasks out of messages.
#include "broker/ranges.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static Dray__Run *make_run(struct arena *arena, uint32_t layer, size_t n, uint32_t *first, uint32_t *count)
{
    Dray__Run *run = arena_alloc(arena, sizeof(*run));

    dray__run__init(run);
    run->job = 3;
    run->layer = layer;
    run->n_first = run->n_count = n;
    run->first = first;
    run->count = count;
    return run;
}

static void test_runs(void **state)
{
    uint32_t first[] = {50, 0, 10}, count[] = {5, 10, 40}, second[] = {0};
    struct arena arena;
    struct ranges ranges;
    struct error err = {0};

    (void)state;
    arena_init(&arena, 0);
    Dray__Run *run[] = {make_run(&arena, 1, 3, first, count), make_run(&arena, 0, 1, second, count)};

    assert_int_equal(ranges_from_runs(&ranges, run, 2, &arena, &err), 0);
    assert_int_equal(ranges.count, 4);
    assert_int_equal(ranges.tasks, 60);
    assert_int_equal(ranges_from_runs(&ranges, run, 0, &arena, &err), 0);
    assert_int_equal(ranges.count, 0);
    // A few bytes can name the same tasks again and again.
    count[0] = 1;
    first[0] = 49;
    assert_int_equal(ranges_from_runs(&ranges, run, 2, &arena, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "task 49 of layer 1 is named twice"));
    first[0] = 0;
    assert_int_equal(ranges_from_runs(&ranges, run, 2, &arena, &err), -EBADMSG);
    arena_fini(&arena);
}

static void test_many_ranges(void **state)
{
    enum { N = 200000 };
    struct arena arena;
    struct ranges ranges;

    (void)state;
    arena_init(&arena, 0);
    uint32_t *first = arena_array(&arena, N, sizeof(*first)), *count = arena_array(&arena, N, sizeof(*count));

    for (uint32_t i = 0; i < N; i++) {
        first[i] = 3 * (i * 7 % N); // 7 and N have no common factor
        count[i] = 2;
    }
    Dray__Run *run = make_run(&arena, 0, N, first, count);

    assert_int_equal(ranges_from_runs(&ranges, &run, 1, &arena, NULL), 0);
    assert_int_equal(ranges.count, N);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(ranges.range[i].first, 3 * i);
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),
        cmocka_unit_test(test_many_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
