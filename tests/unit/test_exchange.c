// worker/exchange.h with worker/download.h and worker/encoding.h: two exchanges in one process, partitions of
// many sizes from one to the other, and what goes wrong.
#include "worker/exchange.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/socket.h"
#include "tests/unit/exchange_fixture.h"
#include "worker/download.h"

static void order(struct side *to, const struct side *from, uint32_t index, const char *address)
{
    order_at(to, from, index, address != NULL ? address : exchange_endpoint(from->exchange));
}

static struct fetch *wait_for_outcome(struct side *side)
{
    struct pollfd fd = {.fd = exchange_fd(side->exchange), .events = POLLIN};
    struct fetch *fetch;

    while ((fetch = exchange_take(side->exchange)) == NULL) {
        assert_int_equal(poll(&fd, 1, 60000), 1);
    }
    return fetch;
}

static void test_all_sizes_arrive(void **state)
{
    static const size_t SIZES[] = {0,       1,       100,          4096, (1 << 20) - 16, (1 << 20) - 15,
                                   1 << 20, 3 << 20, (9 << 20) + 1};
    enum { N = sizeof(SIZES) / sizeof(SIZES[0]) };
    struct side a, b;

    (void)state;
    open_side(&a, "a", 111, BUDGET, false);
    open_side(&b, "b", 222, BUDGET, false);
    for (uint32_t i = 0; i < N; i++) {
        put(&a, i, SIZES[i]);
    }
    for (uint32_t i = 0; i < N; i++) {
        order(&b, &a, i, NULL);
    }
    for (uint32_t i = 0; i < N; i++) {
        struct fetch *fetch = wait_for_outcome(&b);

        assert_int_equal(fetch->rc, 0);
        assert_int_equal(fetch->partition->bytes->size, SIZES[fetch->index]);
        assert_true(fetch->charged >= SIZES[fetch->index]);
        for (size_t k = 0; k < SIZES[fetch->index]; k++) {
            if (fetch->partition->bytes->data[k] != byte_at(fetch->index, k)) {
                fail_msg("byte %zu of partition %u is wrong", k, fetch->index);
            }
        }
        fetch_destroy(fetch, b.budget);
    }
    close_side(&b);
    close_side(&a);
}

static void expect_failure(struct side *side, int code, const char *word)
{
    struct fetch *fetch = wait_for_outcome(side);

    assert_int_equal(fetch->rc, -code);
    if (strstr(fetch->err.text, word) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", fetch->err.text, word);
    }
    fetch_destroy(fetch, side->budget);
}

static void test_what_cannot_be_had(void **state)
{
    struct side a, b, impostor;

    (void)state;
    open_side(&a, "a", 111, BUDGET, false);
    open_side(&b, "b", 222, BUDGET, false);
    impostor = a;
    impostor.incarnation = 333;
    put(&a, 1, 1000);
    order(&b, &a, 9, NULL);
    expect_failure(&b, ENOENT, "not held");
    order(&b, &impostor, 1, NULL);
    expect_failure(&b, ENOENT, "another process");
    // And the connection is as good as before.
    order(&b, &a, 1, NULL);

    struct fetch *fetch = wait_for_outcome(&b);

    assert_int_equal(fetch->rc, 0);
    fetch_destroy(fetch, b.budget);
    order(&b, &a, 1, "nonsense");

    // Known by its incarnation, it is connected already.
    fetch = wait_for_outcome(&b);
    assert_int_equal(fetch->rc, 0);
    fetch_destroy(fetch, b.budget);
    close_side(&b);
    close_side(&a);
}

static void test_reader_without_memory(void **state)
{
    struct side a, b;

    (void)state;
    open_side(&a, "a", 111, BUDGET, false);
    open_side(&b, "b", 222, 1 << 20, false);
    put(&a, 1, 5 << 20);
    order(&b, &a, 1, NULL);
    expect_failure(&b, ENOMEM, "partition");
    close_side(&b);
    close_side(&a);
}

// What fills a worker's memory can be sent all the same.
static void test_sender_without_memory(void **state)
{
    struct side a, b;
    struct fetch *fetch;

    (void)state;
    open_side(&a, "a", 111, (9 << 20) + 4096, false);
    open_side(&b, "b", 222, BUDGET, false);
    put(&a, 1, 9 << 20);
    order(&b, &a, 1, NULL);
    fetch = wait_for_outcome(&b);
    assert_int_equal(fetch->rc, 0);
    assert_int_equal(fetch->partition->bytes->size, 9 << 20);
    fetch_destroy(fetch, b.budget);
    close_side(&b);
    close_side(&a);
}

static void test_nobody_there(void **state)
{
    struct side a, b;
    char nowhere[128];
    uint64_t begin = monotonic_us();

    (void)state;
    snprintf(nowhere, sizeof(nowhere), "ipc://%s/nobody", folder);
    open_side(&a, "a", 111, BUDGET, false);
    open_side(&b, "b", 222, BUDGET, false);
    order(&b, &a, 1, nowhere);
    expect_failure(&b, ECONNREFUSED, "nobody listens there");
    assert_in_range(monotonic_us() - begin, 0, 4000000); // not by silence
    order(&b, &a, 1, nowhere);                           // is under way when it is destroyed
    close_side(&b);
    close_side(&a);
}

static void test_pieces(void **state)
{
    struct side a;
    struct buffer *frame = NULL;
    struct error err = {0};
    uint64_t total = 0, checksum = 0;

    (void)state;
    open_side(&a, "a", 111, BUDGET, false);
    put(&a, 1, 1000);
    assert_int_equal(encoding_piece(a.store, 1, 2, 7, 0, 100, &frame, &total, &checksum, &err), -ENOENT);
    assert_int_equal(encoding_piece(a.store, 1, 2, 1, 0, UINT32_MAX, &frame, &total, &checksum, &err),
                     -EINVAL);
    assert_int_equal(encoding_piece(a.store, 1, 2, 1, UINT64_MAX, 1, &frame, &total, &checksum, &err),
                     -EINVAL);
    assert_null(frame);
    assert_int_equal(encoding_piece(a.store, 1, 2, 1, 0, 100, &frame, &total, &checksum, &err), 0);
    assert_true(total >= 1000);
    buffer_unref(frame);
    assert_int_equal(encoding_piece(a.store, 1, 2, 1, 100, 1 << 20, &frame, &total, &checksum, &err), 0);
    buffer_unref(frame);
    assert_int_equal(budget_used(a.budget), store_counts(a.store).bytes);
    close_side(&a);
}

static void turn_over(struct side *side, uint32_t index, size_t byte)
{
    struct partition *partition = store_get(side->store, 1, 2, index);

    assert_non_null(partition);
    ((uint8_t *)(uintptr_t)partition->bytes->data)[byte] ^= 4;
    partition_unref(partition);
    partition_unref(store_get(side->store, 1, 2, index)); // the store's lock orders it before what its threads read
}

// What is damaged where it is kept does not arrive, whole or in pieces, and is not kept any more.
static void test_damaged_where_it_is_kept(void **state)
{
    struct side a, b;
    struct store_damage damage;
    struct buffer *frame = NULL;
    struct error err = {0};
    uint64_t total = 0, checksum = 0, later;

    (void)state;
    open_side(&a, "a", 111, BUDGET, false);
    open_side(&b, "b", 222, BUDGET, false);
    put(&a, 1, 1000);
    put(&a, 2, 1000);
    put(&a, 3, 3 << 20);
    turn_over(&a, 2, 999);
    turn_over(&a, 3, (2 << 20) + 5);
    for (uint32_t i = 1; i <= 3; i++) {
        order(&b, &a, i, NULL);
    }
    for (uint32_t i = 1; i <= 3; i++) {
        struct fetch *fetch = wait_for_outcome(&b);

        assert_int_equal(fetch->rc, fetch->index == 1 ? 0 : -ENOENT);
        fetch_destroy(fetch, b.budget);
    }
    assert_true(store_take_damage(a.store, &damage) && store_take_damage(a.store, &damage));
    assert_false(store_take_damage(a.store, &damage));
    assert_int_equal(store_counts(a.store).partitions, 1);
    // Between its first piece and the others: the reader has the checksum.
    put(&a, 4, 3 << 20);
    assert_int_equal(encoding_piece(a.store, 1, 2, 4, 0, 1 << 20, &frame, &total, &checksum, &err), 0);
    buffer_unref(frame);
    turn_over(&a, 4, (2 << 20) + 5);
    assert_int_equal(encoding_piece(a.store, 1, 2, 4, 2 << 20, 1 << 20, &frame, &total, &later, &err), 0);
    buffer_unref(frame);
    assert_true(later == checksum);
    assert_int_equal(encoding_piece(a.store, 1, 2, 4, 0, 1 << 20, &frame, &total, &later, &err), -ENOENT);
    assert_non_null(strstr(err.text, "damaged"));
    close_side(&b);
    close_side(&a);
}

// Neighbours are asked for together: small and large ones, ones that are not there, in several orders.
static void test_neighbours(void **state)
{
    enum { N = 3000 };
    static size_t size[N];
    unsigned random = 11;
    uint32_t seen = 0;
    struct side a, b;

    (void)state;
    open_side(&a, "a", 111, BUDGET, false);
    open_side(&b, "b", 222, BUDGET, false);
    for (uint32_t i = 0; i < N; i++) {
        int kind = rand_r(&random) % 400;

        size[i] = kind == 0  ? 3000000 + (size_t)rand_r(&random) % 9
                  : kind < 4 ? (size_t)rand_r(&random) % 1100000
                             : (size_t)rand_r(&random) % 64;
        if (kind < 20 && kind > 9) {
            size[i] = SIZE_MAX; // missing
        } else {
            put(&a, i, size[i]);
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        order(&b, &a, i < N / 2 ? i : N + N / 2 - 1 - i, NULL);
    }
    for (; seen < N; seen++) {
        struct fetch *fetch = wait_for_outcome(&b);

        assert_int_equal(fetch->rc, size[fetch->index] == SIZE_MAX ? -ENOENT : 0);
        if (fetch->rc == 0) {
            assert_int_equal(fetch->partition->bytes->size, size[fetch->index]);
            for (size_t k = 0; k < size[fetch->index]; k += 1 + k / 1000) {
                assert_int_equal(fetch->partition->bytes->data[k], byte_at(fetch->index, k));
            }
        } else {
            assert_non_null(strstr(fetch->err.text, "is not held here"));
        }
        size[fetch->index] = SIZE_MAX - 1; // each once
        fetch_destroy(fetch, b.budget);
    }
    close_side(&b);
    close_side(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_sizes_arrive),
        cmocka_unit_test(test_what_cannot_be_had),
        cmocka_unit_test(test_reader_without_memory),
        cmocka_unit_test(test_sender_without_memory),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_damaged_where_it_is_kept),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
