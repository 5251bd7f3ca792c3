// Which FETCHes the broker passes on (broker/core/relays.h).
#include "broker/core/relays.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint32_t next_tag = 1;

static struct relay *fetch(struct relays *relays, struct relay_end *reader, struct relay_end *worker,
                           const struct relay_end *ends)
{
    Dray__Fetch message = DRAY__FETCH__INIT;
    uint32_t also[] = {7, 8};
    struct relay *relay;

    message.tag = next_tag++;
    message.job = 1;
    message.also = also;
    message.n_also = 2;
    relay =
        relays_add(relays, (uint32_t)(reader - ends), reader, (uint32_t)(worker - ends), worker, &message);
    assert_non_null(relay);
    assert_int_equal(relay->also[1], 8);
    return relay;
}

static void expect_nothing(const struct relays *relays, const struct relay_end *ends, size_t count)
{
    assert_int_equal(relays->waiting + relays->under_way, 0);
    assert_null(relays->first);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(ends[i].asks + ends[i].under_way, 0);
        assert_false(ends[i].ready);
        assert_null(ends[i].asked.first);
        assert_null(relays_of_worker(&ends[i]));
    }
}

// Of one worker in order, and few at a time; another one does not wait for it.
static void test_order(void **state)
{
    enum { BUSY, IDLE, READER, ENDS };
    struct relay_end end[ENDS] = {0};
    struct relays relays = {0};
    struct relay *relay, *later;
    uint32_t tag = next_tag;

    (void)state;
    assert_null(relays_next(&relays));
    for (int i = 0; i < RELAYS_TO_WORKER_MAX + 2; i++) {
        fetch(&relays, &end[READER], &end[BUSY], end);
    }
    for (unsigned i = 0; i < RELAYS_TO_WORKER_MAX; i++) {
        relay = relays_next(&relays);
        assert_int_equal(relay->tag, tag + i);
        assert_true(relay->passed);
        assert_int_equal(end[BUSY].under_way, i + 1);
    }
    assert_null(relays_next(&relays));
    later = fetch(&relays, &end[READER], &end[IDLE], end);
    assert_ptr_equal(relays_next(&relays), later);
    assert_int_equal(end[READER].asks, RELAYS_TO_WORKER_MAX + 3);
    // An answer makes room for one more, whichever it is.
    assert_null(relays_find(&end[BUSY], READER, tag + RELAYS_TO_WORKER_MAX));
    assert_null(relays_find(&end[BUSY], BUSY, tag));
    relays_end(&relays, relays_find(&end[BUSY], READER, tag + 3));
    assert_int_equal(relays_next(&relays)->tag, tag + RELAYS_TO_WORKER_MAX);
    assert_null(relays_next(&relays));
    // It goes: those that wait have no answer either.
    for (unsigned n = 0; (relay = relays_of_worker(&end[BUSY])) != NULL; n++) {
        assert_in_range(n, 0, RELAYS_TO_WORKER_MAX);
        relays_end(&relays, relay);
    }
    relays_end(&relays, later);
    expect_nothing(&relays, end, ENDS);
}

static void test_in_turns(void **state)
{
    enum { WORKERS = 3, READER = WORKERS, ENDS };
    struct relay_end end[ENDS] = {0};
    struct relays relays = {0};

    (void)state;
    for (int n = 0; n < 2 * WORKERS; n++) {
        fetch(&relays, &end[READER], &end[n / 2], end);
    }
    for (uint32_t n = 0; n < 2 * WORKERS; n++) {
        assert_int_equal(relays_next(&relays)->worker, n % WORKERS);
    }
    assert_null(relays_next(&relays));
    relays_reader_gone(&relays, &end[READER]);
    for (int n = 0; n < 2 * WORKERS; n++) {
        relays_end(&relays, relays_of_worker(&end[n / 2]));
    }
    expect_nothing(&relays, end, ENDS);
}

// However often a reader goes and comes again: the worker has no more to answer than from one that stays.
static void test_who_comes_and_goes(void **state)
{
    enum { WORKER, ENDS = 100 };
    struct relay_end end[ENDS] = {0};
    struct relays relays = {0};
    unsigned passed = 0;
    struct relay *relay;

    (void)state;
    for (int reader = 1; reader < ENDS; reader++) {
        for (int i = 0; i < RELAYS_OF_READER_MAX; i++) {
            fetch(&relays, &end[reader], &end[WORKER], end);
        }
        while (relays_next(&relays) != NULL) {
            passed++;
        }
        relays_reader_gone(&relays, &end[reader]);
        assert_int_equal(end[reader].asks, 0);
        assert_int_equal(passed, RELAYS_TO_WORKER_MAX);
    }
    assert_int_equal(relays.waiting, 0);
    assert_int_equal(relays.under_way, RELAYS_TO_WORKER_MAX);
    // Their answers are for nobody, and make room.
    relay = fetch(&relays, &end[2], &end[WORKER], end);
    assert_null(relays_next(&relays));
    assert_null(end[WORKER].passed.first->from);
    relays_end(&relays, relays_find(&end[WORKER], 1, end[WORKER].passed.first->tag));
    assert_ptr_equal(relays_next(&relays), relay);
    while ((relay = relays_of_worker(&end[WORKER])) != NULL) {
        relays_end(&relays, relay);
    }
    expect_nothing(&relays, end, ENDS);
}

// Thousands of readers, all of them at a few workers: quadratic work would take hours.
static void test_many(void **state)
{
    enum { WORKERS = 50, ENDS = 5000 };
    struct relay_end *end = calloc(ENDS, sizeof(*end));
    struct relays relays = {0};
    struct relay *relay;
    size_t all = 0, over = 0, most = 0;

    (void)state;
    assert_non_null(end);
    for (size_t i = 0; i < RELAYS_OF_READER_MAX; i++) {
        for (size_t reader = WORKERS; reader < ENDS; reader++, all++) {
            fetch(&relays, &end[reader], &end[(reader + i) % WORKERS], end);
        }
    }
    while (relays.waiting + relays.under_way > 0) {
        while (relays_next(&relays) != NULL) {
            assert_true(relays.under_way <= RELAYS_UNDER_WAY_MAX);
        }
        most = relays.under_way > most ? relays.under_way : most;
        for (size_t worker = 0; worker < WORKERS; worker++) {
            assert_true(end[worker].under_way <= RELAYS_TO_WORKER_MAX);
            if ((relay = relays_of_worker(&end[worker])) != NULL && relay->passed) {
                relays_end(&relays, relay);
                over++;
            }
        }
    }
    assert_int_equal(over, all);
    assert_int_equal(most, RELAYS_UNDER_WAY_MAX);
    expect_nothing(&relays, end, ENDS);
    free(end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_in_turns),
        cmocka_unit_test(test_who_comes_and_goes),
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
