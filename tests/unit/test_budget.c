// The budget: limits, peak, and threads that take and give at once.
#include "worker/store/budget.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "worker/kernel/memory.h"

static void test_limit(void **state)
{
    struct budget *b = budget_create(100 << 20);
    struct error err = {0};

    (void)state;
    assert_int_equal(budget_take(b, 60 << 20, "a test", &err), 0);
    assert_int_equal(budget_take(b, 41 << 20, "a test", &err), -ENOMEM);
    assert_string_equal(err.text,
                        "a test needs 41.0 MiB more than --memory allows: 60.0 of 100.0 MiB are in use");
    assert_int_equal(budget_used(b), 60 << 20);
    assert_int_equal(budget_take(b, 40 << 20, "a test", NULL), 0);
    assert_int_equal(budget_take(b, 1, "a test", NULL), -ENOMEM);
    assert_int_equal(budget_take(b, UINT64_MAX, "a test", NULL), -ENOMEM);
    assert_int_equal(budget_take(b, 0, "a test", NULL), 0);
    budget_give(b, 100 << 20);
    assert_int_equal(budget_used(b), 0);
    assert_int_equal(budget_peak(b), 100 << 20);
    assert_int_equal(budget_limit(b), 100 << 20);
    budget_destroy(b);
    b = budget_create(0);
    assert_int_equal(budget_take(b, UINT64_MAX, "a test", NULL), 0);
    assert_int_equal(budget_take(b, 1, "a test", NULL), -ENOMEM); // counts no further than 2^64
    budget_destroy(b);
    budget_destroy(NULL);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *take_and_give(void *arg)
{
    struct budget *b = arg;
    uintptr_t taken = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t bytes = 1 + i % 7;

        if (budget_take(b, bytes, "a thread", NULL) == 0) {
            taken++;
            budget_give(b, bytes);
        }
    }
    return (void *)taken;
}

static void test_threads(void **state)
{
    struct budget *b = budget_create(15);
    pthread_t thread[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, take_and_give, b), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *taken;

        assert_int_equal(pthread_join(thread[i], &taken), 0);
        assert_true((uintptr_t)taken > 0);
    }
    assert_int_equal(budget_used(b), 0);
    assert_true(budget_peak(b) >= 7 && budget_peak(b) <= 15);
    budget_destroy(b);
}

static void test_block(void **state)
{
    struct budget *b = budget_create(10000);
    struct memory memory = {.budget = b, .what = "a test"};
    struct block block = {0};
    struct buffer *buffer;

    (void)state;
    assert_int_equal(block_reserve(&block, &memory, 100, 8, NULL), 0);
    assert_true(block.size >= 800 && budget_used(b) == block.size && memory.taken == block.size);
    memset(block.data, 1, 800);
    assert_int_equal(block_reserve_zero(&block, &memory, 1000, 1, NULL), 0);
    assert_int_equal(((unsigned char *)block.data)[799], 1);
    assert_int_equal(((unsigned char *)block.data)[block.size - 1], 0);
    // Refused: as it was.
    size_t size = block.size;

    assert_int_equal(block_reserve(&block, &memory, 20000, 1, NULL), -ENOMEM);
    assert_int_equal(block_reserve(&block, &memory, SIZE_MAX, 8, NULL), -ENOMEM);
    assert_int_equal(block.size, size);
    assert_int_equal(budget_used(b), size);
    buffer = block_finish(&block, &memory, 3);
    assert_int_equal(budget_used(b), 0);
    assert_int_equal(buffer->size, 3);
    assert_int_equal(buffer->data[2], 1);
    assert_int_equal(buffer->data[3], 0); // padded with zeros
    assert_int_equal(buffer->data[63], 0);
    buffer_unref(buffer);
    block_free(&block, &memory);
    budget_destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
