#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/buffer.h"

static void test_create(void **state)
{
    (void)state;
    for (size_t size = 0; size < 300; size++) {
        uint8_t *data = NULL;
        struct buffer *b = buffer_create(size, &data);

        assert_non_null(b);
        assert_ptr_equal(b->data, data);
        assert_int_equal(b->size, size);
        assert_int_equal((uintptr_t)data % 64, 0);
        memset(data, 0xff, size);
        for (size_t i = size; i % 64 != 0; i++) {
            assert_int_equal(data[i], 0); // may be read, is zero
        }
        buffer_unref(b);
    }
    uint8_t *data = NULL;

    assert_null(buffer_create(SIZE_MAX, &data));
    assert_null(buffer_create(SIZE_MAX / 2 + 1, &data));
    assert_null(data);
}

static void count_release(void *owner)
{
    ++*(int *)owner;
}

static void test_references(void **state)
{
    (void)state;
    int released = 0;
    struct buffer *b = buffer_wrap("hello", 5, count_release, &released);
    struct buffer *slice = buffer_slice(b, 1, 3);
    struct buffer *again = buffer_slice(slice, 1, 2);

    assert_ptr_equal(buffer_ref(b), b);
    buffer_unref(b);
    buffer_unref(b);
    assert_int_equal(released, 0); // the slices keep it
    assert_memory_equal(slice->data, "ell", 3);
    buffer_unref(slice);
    assert_int_equal(again->size, 2);
    assert_memory_equal(again->data, "ll", 2);
    assert_int_equal(released, 0);
    buffer_unref(again);
    assert_int_equal(released, 1);
    b = buffer_wrap("static", 6, NULL, NULL);
    buffer_unref(b);
    buffer_unref(NULL);
    assert_null(buffer_ref(NULL));
}

static void *hammer(void *arg)
{
    struct buffer *b = arg;

    for (int i = 0; i < 20000; i++) {
        struct buffer *slice = buffer_slice(b, (size_t)i % 5, 1);

        buffer_ref(b);
        buffer_unref(slice);
        buffer_unref(b);
    }
    buffer_unref(b);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    int released = 0;
    struct buffer *b = buffer_wrap("hello", 5, count_release, &released);
    pthread_t thread[3];

    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, hammer, buffer_ref(b)), 0);
    }
    buffer_unref(b);
    for (int i = 0; i < 3; i++) {
        pthread_join(thread[i], NULL);
    }
    assert_int_equal(released, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
