#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/arena.h"
#include "tests/unit/generate.h"

// Many pieces of random sizes: aligned, apart from each other, all there until the reset.
static void test_pieces(void **state)
{
    (void)state;
    enum { PIECES = 300 };
    struct arena a;
    uint8_t *piece[PIECES];
    size_t size[PIECES];

    arena_init(&a, 0);
    for (uint64_t seed = 0; seed < 50; seed++) {
        uint64_t r = seed;
        size_t total = 0;

        for (int i = 0; i < PIECES; i++) {
            size[i] = random_below(&r, 20) == 0 ? random_below(&r, 300000) : random_below(&r, 100);
            piece[i] = arena_alloc(&a, size[i]);
            assert_non_null(piece[i]);
            assert_int_equal((uintptr_t)piece[i] % 16, 0);
            memset(piece[i], i, size[i]);
            total += size[i];
        }
        for (int i = 0; i < PIECES; i++) {
            for (size_t k = 0; k < size[i]; k++) {
                assert_int_equal(piece[i][k], (uint8_t)i);
            }
        }
        assert_true(a.used >= total && a.used <= total + 16 * PIECES);
        arena_reset(&a);
        assert_int_equal(a.used, 0);
    }
    arena_fini(&a);
    arena_fini(&a); // again is fine
}

static void test_limit(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 1000);
    assert_non_null(arena_alloc(&a, 900));
    assert_null(arena_alloc(&a, 101));
    assert_non_null(arena_alloc(&a, 80));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 1000 - 1000 % 16));
    assert_null(arena_alloc(&a, 1000));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 8));
    arena_fini(&a);
    arena_init(&a, 0);
    assert_null(arena_array(&a, SIZE_MAX / 4, 8));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_non_null(arena_array(&a, 0, 8));
    arena_fini(&a);
}

static void test_copies(void **state)
{
    (void)state;
    struct arena a;
    char text[] = "hello";
    char big[5000];

    arena_init(&a, 0);
    memset(big, 'y', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';

    char *copy = arena_strdup(&a, text);
    char *part = arena_strndup(&a, text, 2);
    char *bytes = arena_copy(&a, text, 3);
    char *zero = arena_zalloc(&a, 100);
    char *printed = arena_printf(&a, "%s-%d", big, 42);

    text[0] = 'X';
    assert_string_equal(copy, "hello");
    assert_string_equal(part, "he");
    assert_memory_equal(bytes, "hel", 3);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(zero[i], 0);
    }
    assert_int_equal(strlen(printed), 5002);
    assert_string_equal(printed + 4999, "-42");
    assert_non_null(arena_copy(&a, NULL, 0));
    arena_fini(&a);
}

static void test_large_pieces_go_alone(void **state)
{
    (void)state;
    struct arena a;
    char *small, *large, *other;

    arena_init(&a, 0);
    large = arena_alloc(&a, 1 << 20); // the first is no piece of its own
    assert_non_null(large);
    arena_drop(&a, large);
    assert_int_equal(a.used, 1 << 20);
    small = arena_strdup(&a, "small");
    large = arena_alloc(&a, 1 << 20);
    other = arena_alloc(&a, 3 << 20);
    assert_true(small != NULL && large != NULL && other != NULL);
    memset(large, 1, 1 << 20);
    memset(other, 2, 3 << 20);
    // What is small goes on where it was.
    assert_ptr_equal(arena_alloc(&a, 16), small + 16);
    arena_drop(&a, large);
    assert_int_equal(a.used, (4 << 20) + 32);
    arena_drop(&a, small);
    arena_drop(&a, other + 1);
    arena_drop(&a, NULL);
    assert_int_equal(a.used, (4 << 20) + 32);
    assert_string_equal(small, "small");
    assert_int_equal(other[(3 << 20) - 1], 2);
    arena_reset(&a);
    arena_fini(&a);
}

static void test_protobuf(void **state)
{
    (void)state;
    struct arena a;

    arena_init(&a, 0);

    char *x = a.protobuf.alloc(a.protobuf.allocator_data, 10);

    assert_non_null(x);
    memcpy(x, "123456789", 10);
    a.protobuf.free(a.protobuf.allocator_data, x);
    assert_string_equal(x, "123456789"); // lives on until the arena goes
    assert_true(a.used >= 10);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),   cmocka_unit_test(test_limit),
        cmocka_unit_test(test_copies),   cmocka_unit_test(test_large_pieces_go_alone),
        cmocka_unit_test(test_protobuf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
