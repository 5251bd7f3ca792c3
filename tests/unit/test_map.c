// proto/map against an array that is searched from end to end.
#include "proto/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { KEYS = 300, STEPS = 200000 };

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static void test_against_array(void **state)
{
    struct map map = {0};
    void *oracle[KEYS] = {0};
    char values[KEYS * 2];
    uint64_t seed = 7;
    size_t count = 0;

    (void)state;
    for (int step = 0; step < STEPS; step++) {
        // Long runs that mostly add and mostly remove, so that it grows and shrinks.
        unsigned bias = step / 5000 % 2 == 0 ? 3 : 1;
        size_t i = next_random(&seed) % KEYS;
        struct map_key key = map_key_task((uint32_t)(i % 3), (uint32_t)(i % 7), (uint32_t)i);

        if (next_random(&seed) % 4 < bias) {
            void *value = &values[i + next_random(&seed) % 2 * KEYS];

            assert_int_equal(map_put(&map, key, value), 0);
            count += oracle[i] == NULL;
            oracle[i] = value;
        } else {
            assert_ptr_equal(map_remove(&map, key), oracle[i]);
            count -= oracle[i] != NULL;
            oracle[i] = NULL;
        }
        assert_int_equal(map.count, count);
        i = next_random(&seed) % KEYS;
        key = map_key_task((uint32_t)(i % 3), (uint32_t)(i % 7), (uint32_t)i);
        assert_ptr_equal(map_get(&map, key), oracle[i]);
        if (step % 1000 == 0) {
            size_t seen = 0, at = 0;
            void *value;

            while ((value = map_next(&map, &at, &key)) != NULL) {
                assert_ptr_equal(value, oracle[(uint32_t)key.lo]);
                seen++;
            }
            assert_int_equal(seen, count);
        }
    }
    map_fini(&map);
}

static void test_empty(void **state)
{
    struct map map = {0};
    size_t at = 0;

    (void)state;
    assert_null(map_get(&map, (struct map_key){1, 2}));
    assert_null(map_remove(&map, (struct map_key){1, 2}));
    assert_null(map_next(&map, &at, NULL));
    map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_array),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
