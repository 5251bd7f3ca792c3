// worker/store/store.h against an array, with the budget's bytes checked after every step.
#include "worker/store/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 400, STEPS = 20000, LIMIT = 600000, OVERHEAD_MAX = 4500 };

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

struct oracle {
    bool held, note;
    size_t size;
};

struct seen {
    const struct oracle *oracle;
    uint32_t job, layer;
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

static bool look_at(void *arg, const struct store_item *item)
{
    struct seen *seen = arg;
    const struct oracle *oracle = &seen->oracle[item->index];

    assert_true(oracle->held && item->index % 3 == seen->job && item->index % 5 == seen->layer);
    assert_int_equal(item->partition != NULL ? item->partition->bytes->size : item->small_size, oracle->size);
    assert_int_equal(item->note != NULL, oracle->note);
    seen->count++;
    return true;
}

static bool turn_over(void *arg, const struct store_item *item)
{
    assert_false(item->damaged);
    if (item->note != NULL) {
        ((uint8_t *)(uintptr_t)item->note->data)[1] ^= 16;
        ++*(unsigned *)arg;
    } else {
        ((uint8_t *)(uintptr_t)item->small)[11] ^= 128;
    }
    return true;
}

static struct store_key key_of(uint32_t k)
{
    return (struct store_key){k % 3, k % 5, k};
}

static void test_against_array(void **state)
{
    struct budget *budget = budget_create(LIMIT);
    struct store *store = store_create(budget);
    static struct oracle oracle[KEYS];
    uint64_t seed = 11;
    unsigned refused = 0;

    (void)state;
    for (int step = 0; step < STEPS; step++) {
        uint32_t k = (uint32_t)(next_random(&seed) % KEYS);
        const struct store_key key = key_of(k);
        unsigned choice = (unsigned)(next_random(&seed) % 8);

        if (choice < 4) {
            size_t size = next_random(&seed) % (next_random(&seed) % 2 == 0 ? 50 : 12000);
            bool note = next_random(&seed) % 4 == 0;
            uint64_t charged = next_random(&seed) % 3 == 0 ? next_random(&seed) % 9000 : 0;
            uint64_t before = budget_used(budget);
            struct error err = {0};

            if (charged > 0 && budget_take(budget, charged, "test", NULL) != 0) {
                charged = 0;
            }
            int rc =
                store_put(store, 0, &key, make_partition(size), note ? make_note() : NULL, charged, &err);

            if (rc == 0) {
                oracle[k].held = true;
                oracle[k].note = note;
                oracle[k].size = size;
            } else {
                assert_int_equal(rc, -ENOMEM);
                assert_true(strlen(err.text) > 0);
                assert_int_equal(budget_used(budget), before);
                refused++;
            }
        } else if (choice < 7) {
            store_drop(store, &key, 1);
            oracle[k].held = false;
        } else {
            struct partition *partition = store_get(store, key.job, key.layer, key.index);
            struct store_value value;

            assert_int_equal(partition != NULL, oracle[k].held);
            assert_int_equal(store_read(store, 0, &key, 1, &value), oracle[k].held);
            assert_false(store_read(store, 1, &key, 1, &value)); // of another epoch
            if (partition != NULL) {
                assert_int_equal(partition->bytes->size, oracle[k].size);
                assert_int_equal(value.partition != NULL ? value.partition->bytes->size : value.size,
                                 oracle[k].size);
                assert_true(oracle[k].size == 0 || partition->bytes->data[oracle[k].size - 1] == 7);
                partition_unref(value.partition);
            }
            partition_unref(partition);
        }

        size_t held = 0, bytes = 0, notes = 0;

        for (uint32_t i = 0; i < KEYS; i++) {
            held += oracle[i].held;
            bytes += oracle[i].held ? oracle[i].size : 0;
            notes += oracle[i].held && oracle[i].note;
        }
        struct store_counts counts = store_counts(store);
        struct seen seen = {.oracle = oracle};

        if (step % 100 == 0) {
            store_notes(store, count_note, &seen);
            assert_int_equal(seen.count, notes);
            seen.count = 0;
            for (uint32_t all = 0; all < 15; all++) {
                seen.job = key_of(all).job;
                seen.layer = key_of(all).layer;
                store_visit(store, &(struct store_key){seen.job, seen.layer, 0}, KEYS, look_at, &seen);
            }
            assert_int_equal(seen.count, held);
        }
        assert_int_equal(counts.partitions, held);
        assert_int_equal(counts.bytes, budget_used(budget));
        assert_in_range(counts.bytes, bytes, bytes + held * OVERHEAD_MAX);
        assert_true(counts.bytes <= LIMIT);
    }
    assert_true(refused > 0);
    store_clear(store, 1);
    assert_int_equal(budget_used(budget), 0);
    // Who works for the last epoch puts nothing any more.
    assert_int_equal(store_put(store, 0, &(struct store_key){0, 0, 0}, make_partition(5), NULL, 0, NULL),
                     -ECANCELED);
    assert_int_equal(budget_used(budget), 0);
    store_destroy(store);
    budget_destroy(budget);
}

// Rows of small results, over the borders of pages.
static void test_rows(void **state)
{
    enum { ROW = 300, FIRST = 50 };
    struct budget *budget = budget_create(LIMIT);
    struct store *store = store_create(budget);
    static uint8_t data[ROW * STORE_SMALL];
    static uint8_t size[ROW];
    static struct store_key key[ROW];
    static struct store_value value[ROW];

    (void)state;
    for (uint32_t i = 0; i < ROW; i++) {
        size[i] = (uint8_t)(i % (STORE_SMALL + 1));
        memset(data + i * STORE_SMALL, (int)(i & 0xff), size[i]);
        key[i] = (struct store_key){1, 2, FIRST + i};
    }
    assert_int_equal(store_put_small(store, 0, key, ROW, size, data, NULL), 0);
    assert_int_equal(store_counts(store).partitions, ROW);
    assert_true(store_read(store, 0, key, ROW, value));
    for (uint32_t i = 0; i < ROW; i++) {
        assert_null(value[i].partition);
        assert_int_equal(value[i].size, size[i]);
        assert_memory_equal(value[i].small, data + i * STORE_SMALL, size[i]);
    }
    store_drop(store, &key[100], 50);
    assert_int_equal(store_counts(store).partitions, ROW - 50);
    assert_false(store_read(store, 0, key, ROW, value));
    store_drop(store, &key[0], ROW);
    assert_int_equal(store_counts(store).partitions, 0);
    assert_int_equal(budget_used(budget), 0);
    store_destroy(store);
    budget_destroy(budget);
}

// A bit of what is kept is turned over: nobody reads it any more, and it is told once.
static void test_rot(void **state)
{
    struct budget *budget = budget_create(LIMIT);
    struct store *store = store_create(budget);
    const struct store_key large = {1, 2, 3}, noted = {1, 2, 5}, small = {1, 2, 70};
    struct store_damage damage;
    struct store_value value[2];
    struct partition *partition;
    uint8_t data[STORE_SMALL] = "twelve bytes", size = 12;

    (void)state;
    assert_int_equal(store_put(store, 0, &large, make_partition(5000), NULL, 0, NULL), 0);
    assert_int_equal(store_put(store, 0, &noted, make_partition(5000), make_note(), 0, NULL), 0);
    assert_int_equal(store_put_small(store, 0, &small, 1, &size, data, NULL), 0);
    assert_true(store_read(store, 0, (struct store_key[]){small, large}, 2, value));
    partition_unref(value[1].partition);
    assert_false(store_take_damage(store, &damage));

    partition = store_get(store, 1, 2, 3);
    ((uint8_t *)(uintptr_t)partition->bytes->data)[4321] ^= 1;
    partition->intact_ms -= STORE_TRUST_MS + 50; // as if it had been put so long ago
    partition_unref(partition);
    assert_false(store_read(store, 0, (struct store_key[]){small, large}, 2, value));
    assert_true(store_take_damage(store, &damage));
    assert_int_equal(damage.key.index, 3);
    assert_true(damage.bytes >= 5000);
    assert_false(store_take_damage(store, &damage));
    assert_null(store_get(store, 1, 2, 3));

    assert_true(store_read(store, 0, &small, 1, value));
    store_visit(store, &small, 1, turn_over, NULL);
    assert_false(store_read(store, 0, &small, 1, value));
    assert_true(store_take_damage(store, &damage));
    assert_int_equal(damage.key.index, 70);
    assert_false(store_read(store, 0, &small, 1, value));
    assert_false(store_take_damage(store, &damage));

    unsigned notes = 0;
    struct seen seen = {0};

    store_visit(store, &noted, 1, turn_over, &notes);
    assert_int_equal(notes, 1);
    store_notes(store, count_note, &seen);
    assert_int_equal(seen.count, 0);
    assert_true(store_take_damage(store, &damage));
    assert_int_equal(damage.key.index, 5);
    assert_int_equal(store_counts(store).partitions, 0);
    store_clear(store, 1);
    assert_int_equal(budget_used(budget), 0);
    store_destroy(store);
    budget_destroy(budget);
}

static void test_refusal_names_the_numbers(void **state)
{
    struct budget *budget = budget_create(64 << 20);
    struct store *store = store_create(budget);
    struct error err = {0};
    const struct store_key key = {1, 2, 3};

    (void)state;
    assert_int_equal(store_put(store, 0, &key, make_partition(65 << 20), NULL, 0, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "partition"));
    assert_non_null(strstr(err.text, "64"));
    store_destroy(store);
    budget_destroy(budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_array),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_rot),
        cmocka_unit_test(test_refusal_names_the_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
