// worker/store/store.h against an array, with the budget's bytes checked after every step.
#include "worker/store/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 40, STEPS = 20000, LIMIT = 200000, OVERHEAD_MAX = 256 };

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static struct partition *make_partition(size_t size)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(size, &data);

    assert_non_null(bytes);
    memset(data, 7, size);
    return partition_from_bytes(bytes);
}

static struct buffer *make_note(void)
{
    uint8_t *data;
    struct buffer *note = buffer_create(3, &data);

    memcpy(data, "abc", 3);
    return note;
}

struct seen {
    unsigned count;
};

static void count_note(void *arg, uint32_t job, uint32_t layer, uint32_t index, struct buffer *note)
{
    (void)job;
    (void)layer;
    (void)index;
    assert_int_equal(note->size, 3);
    ((struct seen *)arg)->count++;
}

static void test_against_array(void **state)
{
    struct budget *budget = budget_create(LIMIT);
    struct store *store = store_create(budget);
    struct {
        bool held, note;
        size_t size;
    } oracle[KEYS] = {0};
    uint64_t seed = 11;
    unsigned refused = 0;

    (void)state;
    for (int step = 0; step < STEPS; step++) {
        uint32_t k = (uint32_t)(next_random(&seed) % KEYS);
        uint32_t job = k % 3, layer = k % 5, index = k;
        unsigned choice = (unsigned)(next_random(&seed) % 8);

        if (choice < 4) {
            size_t size = next_random(&seed) % 12000;
            bool note = next_random(&seed) % 4 == 0;
            uint64_t charged = next_random(&seed) % 3 == 0 ? next_random(&seed) % 9000 : 0;
            uint64_t before = budget_used(budget), bytes = 0;
            struct error err = {0};

            if (charged > 0 && budget_take(budget, charged, "test", NULL) != 0) {
                charged = 0;
            }
            int rc = store_put(store, job, layer, index, make_partition(size), note ? make_note() : NULL, charged,
                               &bytes, &err);

            if (rc == 0) {
                oracle[k].held = true;
                oracle[k].note = note;
                oracle[k].size = size;
                assert_true(bytes >= size);
            } else {
                assert_int_equal(rc, -ENOMEM);
                assert_true(strlen(err.text) > 0);
                assert_int_equal(budget_used(budget), before);
                refused++;
            }
        } else if (choice < 7) {
            store_drop(store, job, layer, index);
            oracle[k].held = false;
        } else {
            struct partition *partition = store_get(store, job, layer, index);
            struct buffer *note = store_note(store, job, layer, index);

            assert_int_equal(partition != NULL, oracle[k].held);
            assert_int_equal(note != NULL, oracle[k].held && oracle[k].note);
            if (partition != NULL) {
                assert_int_equal(partition->bytes->size, oracle[k].size);
            }
            partition_unref(partition);
            buffer_unref(note);
        }

        size_t held = 0, bytes = 0, notes = 0;

        for (uint32_t i = 0; i < KEYS; i++) {
            held += oracle[i].held;
            bytes += oracle[i].held ? oracle[i].size : 0;
            notes += oracle[i].held && oracle[i].note;
        }
        struct store_counts counts = store_counts(store);
        struct seen seen = {0};

        store_notes(store, count_note, &seen);
        assert_int_equal(seen.count, notes);
        assert_int_equal(counts.partitions, held);
        assert_int_equal(counts.bytes, budget_used(budget));
        assert_in_range(counts.bytes, bytes, bytes + held * OVERHEAD_MAX);
        assert_true(counts.bytes <= LIMIT);
    }
    assert_true(refused > 0);
    store_clear(store);
    assert_int_equal(budget_used(budget), 0);
    store_destroy(store);
    budget_destroy(budget);
}

static void test_refusal_names_the_numbers(void **state)
{
    struct budget *budget = budget_create(64 << 20);
    struct store *store = store_create(budget);
    struct error err = {0};
    uint64_t bytes;

    (void)state;
    assert_int_equal(store_put(store, 1, 2, 3, make_partition(65 << 20), NULL, 0, &bytes, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "partition"));
    assert_non_null(strstr(err.text, "64"));
    store_destroy(store);
    budget_destroy(budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_array),
        cmocka_unit_test(test_refusal_names_the_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
