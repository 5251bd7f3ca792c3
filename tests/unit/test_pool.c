// Pools and futures (pool, draft, gather, futures, jobs, connection, results_batch, results_fetch) against a
// broker that this program plays on a thread of its own: it runs Count and Data tasks at once and tells the
// results in batches, in some order, along or at a worker.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/include/dray.h"
#include "client/lib/client.h"
#include "client/lib/gather.h"
#include "client/lib/pool.h"
#include "client/lib/results.h"
#include "tests/unit/pool_fixture.h"

enum { LONG_MS = 60000 }; // for what comes, however busy the machine is

static dray_t *connected(const struct fake *fake)
{
    struct dray_error err = {0};
    dray_t *dray = NULL;

    if (dray_connect(fake->endpoint, NULL, &dray, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return dray;
}

static dray_pool_t *opened(dray_t *dray, const struct dray_pool_options *options)
{
    struct dray_error err = {0};
    dray_pool_t *pool = NULL;

    if (dray_pool_open(dray, options, &pool, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return pool;
}

static const struct dray_task count = {.size = sizeof(count), .kind = DRAY_TASK_COUNT};

static struct dray_future submit(dray_pool_t *pool, const struct dray_future *input, size_t inputs)
{
    struct dray_task task = count;
    struct dray_error err = {0};
    struct dray_future out;

    task.input = input;
    task.inputs = inputs;
    if (dray_submit(pool, &task, &out, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return out;
}

static uint64_t value_of(struct dray_bytes bytes)
{
    uint64_t value = 0;

    assert_int_equal(bytes.size, sizeof(value));
    memcpy(&value, bytes.data, sizeof(value));
    return value;
}

static uint64_t gather_one(dray_t *dray, struct dray_future future)
{
    struct dray_gathered all;
    struct dray_error err = {0};
    uint64_t value;

    if (dray_gather(dray, &future, 1, LONG_MS, &all, &err) != 0) {
        fail_msg("%s", err.text);
    }
    value = value_of(all.value[0]);
    dray_gathered_free(&all);
    return value;
}

// ---- tests -----------------------------------------------------------------------------------------

static void test_submit_and_gather(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_future future[1000], left_out;
    struct dray_gathered all;
    struct dray_error err = {0};
    struct dray_event event;

    for (uint32_t i = 0; i < 1000; i++) {
        future[i] = submit(pool, NULL, 0);
        assert_int_equal(future[i].job, dray_pool_job(pool));
        // Neighbours, unless what there was has been sent because of its age.
        assert_true(i == 0 ||
                    (future[i].layer == future[i - 1].layer && future[i].index == future[i - 1].index + 1) ||
                    (future[i].layer == future[i - 1].layer + 1 && future[i].index == 0));
    }
    assert_true(future[999].layer < 100);
    assert_true(dray_pool_unfinished(pool) > 0);
    // In the order of the arguments, and one of them twice.
    for (uint32_t i = 0; i < 500; i++) {
        struct dray_future swap = future[i];

        future[i] = future[999 - i];
        future[999 - i] = swap;
    }
    left_out = future[17];
    future[17] = future[401];
    if (dray_gather(dray, future, 1000, LONG_MS, &all, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(all.count, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(value_of(all.value[i]), 1 + future[i].index);
    }
    dray_gathered_free(&all);
    assert_int_equal(dray_pool_unfinished(pool), 1000 - 1000);
    // What was gathered is not given again, but for the one that was not in the list.
    while (dray_next(dray, &event, &err) == 1) {
        assert_int_equal(event.type, DRAY_PARTITION);
        assert_int_equal(event.layer, left_out.layer);
        assert_int_equal(event.index, left_out.index);
    }
    // A second time it is fetched.
    fake->fetches = 0;
    assert_int_equal(gather_one(dray, future[3]), 1 + future[3].index);
    assert_int_equal(fake->fetches, 1);
    assert_int_equal(dray_release_futures(dray, future, 1000, &err), 0);
    assert_int_equal(dray_gather(dray, &future[0], 1, 0, &all, &err), -ENOENT);
    assert_non_null(strstr(err.text, "released"));
    assert_int_equal(dray_future_done(dray, &future[0]), -ENOENT);
    dray_process(dray, &err);
    for (int i = 0; i < 500 && fake->freed < 999; i++) {
        dray_wait(dray, 2, NULL);
    }
    assert_int_equal(fake->freed, 999);
    dray_pool_close(pool);
    dray_close(dray);
}

static void test_dependencies(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL), *other = opened(dray, NULL);
    struct dray_future chain = {0}, leaf[64];
    uint64_t expected = 0;

    // A chain that several messages carry.
    for (uint32_t i = 0; i < 30000; i++) {
        chain = submit(pool, i == 0 ? NULL : &chain, i == 0 ? 0 : 1);
        expected += 1 + chain.index;
    }
    assert_int_equal(gather_one(dray, chain), expected);
    assert_true(fake->extends > 1);
    // A tree.
    expected = 0;
    for (uint32_t i = 0; i < 64; i++) {
        leaf[i] = submit(pool, NULL, 0);
        expected += 1 + leaf[i].index;
    }
    for (uint32_t n = 32; n > 0; n /= 2) {
        for (uint32_t i = 0; i < n; i++) {
            leaf[i] = submit(pool, &leaf[2 * i], 2);
            expected += 1 + leaf[i].index;
        }
    }
    assert_int_equal(gather_one(dray, leaf[0]), expected);
    // Of another pool, not sent yet; and one that is unknown.
    leaf[0] = submit(pool, NULL, 0);
    leaf[1] = submit(other, leaf, 1);
    assert_int_equal(gather_one(dray, leaf[1]), 2 + leaf[0].index + leaf[1].index);
    dray_pool_close(pool);
    struct dray_task task = count;
    struct dray_error err = {0};

    task.input = leaf;
    task.inputs = 1;
    assert_int_equal(dray_submit(other, &task, &leaf[3], &err), -ENOENT);
    assert_non_null(strstr(err.text, "input 0"));
    leaf[2] = submit(other, &leaf[1], 1); // the pool is none the worse
    assert_true(gather_one(dray, leaf[2]) > 0);
    dray_pool_close(other);
    dray_close(dray);
}

// Kinds of tasks by turns go to the layers that there are, as long as what they read is in layers before.
static void test_kinds(void **state)
{
    static const char *const kind[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    enum { N = 12000, KINDS = sizeof(kind) / sizeof(kind[0]) };
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_future *future = malloc(N * sizeof(*future));
    uint64_t *value = calloc(N, sizeof(*value));
    struct dray_error err = {0};
    struct dray_gathered all;
    unsigned random = 5, leaps = 0;

    // A loop: three layers, but for what the clock sends in between.
    for (uint32_t i = 0; i < 300; i++) {
        struct dray_task task = count;

        task.name = kind[i % 3];
        task.input = i % 3 > 0 ? &future[i - 1] : NULL;
        task.inputs = i % 3 > 0;
        assert_int_equal(dray_submit(pool, &task, &future[i], &err), 0);
        if (i >= 3 && future[i].layer > future[i - 3].layer + 2) { // the clock's doing
            leaps++;
        }
        assert_true(i % 3 == 0 || future[i].layer > future[i - 1].layer);
        value[i] = 1 + future[i].index + (i % 3 > 0 ? value[i - 1] : 0);
    }
    assert_true(future[299].layer < 150 && leaps < 100);
    for (uint32_t i = 300; i < N; i++) {
        struct dray_task task = count;
        struct dray_future input[3];

        task.name = kind[(uint32_t)rand_r(&random) % (1 + i % KINDS)];
        task.input = input;
        task.inputs = (size_t)rand_r(&random) % 4;
        for (size_t k = 0; k < task.inputs; k++) {
            uint32_t back = 1 + (uint32_t)rand_r(&random) % (i % 2 == 0 ? 20 : i);

            input[k] = future[i - back];
            value[i] += value[i - back];
        }
        assert_int_equal(dray_submit(pool, &task, &future[i], &err), 0);
        value[i] += 1 + (uint64_t)future[i].index;
        if (i % 1000 == 0) {
            struct dray_future map;

            assert_int_equal(dray_map(pool, &task, NULL, 3, &map, &err), 0);
            assert_true(map.layer > future[i].layer && map.index == 0);
        }
    }
    assert_int_equal(dray_gather(dray, future, N, LONG_MS, &all, &err), 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_true(value_of(all.value[i]) == value[i]);
    }
    dray_gathered_free(&all);
    free(future);
    free(value);
    dray_pool_close(pool);
    dray_close(dray);
}

// Each needs tasks of the other that were not sent when they were named.
static void test_two_pools(void **state)
{
    enum { N = 3000 };
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool[2] = {opened(dray, NULL), opened(dray, NULL)};
    struct dray_future all[N];
    struct dray_error err = {0};
    struct dray_gathered got;
    uint64_t value[N];
    unsigned random = 4;

    for (uint32_t i = 0; i < N; i++) {
        struct dray_future input[3];
        uint32_t inputs = i < 3 ? 0 : (uint32_t)rand_r(&random) % 4;

        value[i] = 1;
        for (uint32_t k = 0; k < inputs; k++) {
            uint32_t from = i - 1 - (uint32_t)rand_r(&random) % (i < 20 ? i : 20);

            input[k] = all[from];
            value[i] += value[from];
        }
        all[i] = submit(pool[rand_r(&random) / 64 % 2], input, inputs);
        value[i] += all[i].index; // wraps, as theirs
    }
    assert_int_equal(dray_gather(dray, all, N, LONG_MS, &got, &err), 0);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(value_of(got.value[i]), value[i]);
    }
    dray_gathered_free(&got);
    dray_pool_close(pool[0]);
    dray_pool_close(pool[1]);
    dray_close(dray);
}

static void test_map_and_scatter(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_error err = {0};
    struct dray_gathered all;
    struct dray_future data, map, each, *in = malloc(200 * sizeof(*in)), out[100];
    struct dray_bytes value[100];
    uint64_t number[100];
    struct dray_task task = count;

    number[0] = 1000;
    assert_int_equal(dray_scatter(pool, &number[0], 8, &data, &err), 0);
    number[0] = 5; // it was copied
    task.input = &data;
    task.inputs = 1;
    assert_int_equal(dray_map(pool, &task, NULL, 100, &map, &err), 0);
    assert_int_equal(map.index, 0);
    for (uint32_t i = 0; i < 100; i++) {
        in[2 * i] = (struct dray_future){map.job, map.layer, 99 - i};
        in[2 * i + 1] = data;
    }
    task.input = in;
    task.inputs = 2;
    task.input_each = 1;
    assert_int_equal(dray_map(pool, &task, NULL, 100, &each, &err), 0);
    for (uint32_t i = 0; i < 100; i++) {
        out[i] = (struct dray_future){each.job, each.layer, i};
    }
    assert_int_equal(dray_gather(dray, out, 100, LONG_MS, &all, &err), 0);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(value_of(all.value[i]), 1 + i + (1 + 99 - i + 1000) + 1000);
    }
    dray_gathered_free(&all);
    // Values of its own for each.
    task = (struct dray_task){.size = sizeof(task), .kind = DRAY_TASK_DATA};
    for (uint32_t i = 0; i < 100; i++) {
        number[i] = i * i;
        value[i] = (struct dray_bytes){&number[i], 8};
    }
    assert_int_equal(dray_map(pool, &task, value, 100, &map, &err), 0);
    map.index = 9;
    assert_int_equal(gather_one(dray, map), 81);
    // What does not go.
    assert_int_equal(dray_map(pool, &task, NULL, 5, &map, &err), -EINVAL);
    assert_int_equal(dray_map(pool, &count, NULL, 0, &map, &err), -EINVAL);
    assert_int_equal(dray_map(pool, &count, value, DRAY_MAP_MAX + 1, &map, &err), -E2BIG);
    assert_int_equal(dray_scatter(pool, value, DRAY_ARGUMENT_BYTES_MAX + 1, &map, &err), -E2BIG);
    task = (struct dray_task){.size = sizeof(task), .kind = DRAY_TASK_CALL, .function = "f"};
    assert_int_equal(dray_map(pool, &task, NULL, 5, &map, &err), -EINVAL);
    map = submit(pool, NULL, 0);
    assert_int_equal(gather_one(dray, map), 1 + map.index);
    free(in);
    dray_pool_close(pool);
    dray_close(dray);
}

static void as_completed(struct fake *fake, bool scattered, bool remote, bool twice)
{
    enum { N = 20000 };
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_error err = {0};
    struct dray_event event;
    bool *seen = calloc(N, 1);
    struct dray_future map;
    size_t n = 0;
    int rc;

    fake->scattered = scattered;
    fake->remote = remote;
    fake->twice = twice;
    assert_int_equal(dray_map(pool, &count, NULL, N, &map, &err), 0);
    while (n < N) {
        assert_int_equal(dray_wait(dray, LONG_MS, &err), 1);
        while ((rc = dray_next(dray, &event, &err)) == 1) {
            assert_int_equal(event.type, DRAY_PARTITION);
            assert_int_equal(event.layer, map.layer);
            assert_false(seen[event.index]);
            seen[event.index] = true;
            if (remote) {
                assert_null(event.data);
                assert_int_equal(event.size, 8);
            } else {
                assert_int_equal(value_of(event.value), 1 + event.index);
                assert_int_equal(event.size, 24);
            }
            n++;
        }
        assert_int_equal(rc, 0);
    }
    assert_int_equal(dray_pool_unfinished(pool), 0);
    assert_int_equal(dray_wait(dray, 20, &err), 0);
    map.index = N / 3;
    assert_int_equal(dray_future_done(dray, &map), 1);
    assert_int_equal(gather_one(dray, map), 1 + map.index);
    free(seen);
    dray_pool_close(pool);
    dray_close(dray);
}

static void test_as_completed(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        void *own;

        set_up(&own);
        as_completed(own, i & 1, i & 2, i & 4);
        tear_down(&own);
    }
}

static void test_large_results_are_gathered(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_future future[300];
    struct dray_error err = {0};
    struct dray_gathered all;

    fake->remote = true;
    for (uint32_t i = 0; i < 300; i++) {
        future[i] = submit(pool, NULL, 0);
    }
    assert_int_equal(dray_gather(dray, future, 300, LONG_MS, &all, &err), 0);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(value_of(all.value[i]), 1 + future[i].index); // Count, in however many layers
    }
    assert_int_equal(fake->fetches, 300);
    dray_gathered_free(&all);
    // Its worker has lost it: made again, told anew, and fetched then.
    fake->lose_worker = true;
    assert_int_equal(gather_one(dray, future[7]), 1 + future[7].index);
    dray_pool_close(pool);
    dray_close(dray);
}

static void test_failures(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_task task = count;
    struct dray_error err = {0};
    struct dray_gathered all = {0};
    struct dray_future good, bad, both[2];
    struct dray_event event;
    int failed = 0, rc;

    good = submit(pool, NULL, 0);
    task.name = "fail";
    assert_int_equal(dray_map(pool, &task, NULL, 10, &bad, &err), 0);
    bad.index = 4;
    both[0] = good;
    both[1] = bad;
    assert_int_equal(dray_gather(dray, both, 2, LONG_MS, &all, &err), -EDOM);
    assert_int_equal(err.code, EDOM);
    assert_non_null(strstr(err.text, "task 4 of layer 1 of job 1 failed: it is unhappy on worker w"));
    assert_null(all.value);
    // Again, from what is remembered.
    assert_int_equal(dray_gather(dray, &bad, 1, LONG_MS, &all, &err), -EDOM);
    assert_non_null(strstr(err.text, "it is unhappy"));
    assert_int_equal(dray_future_done(dray, &bad), 1);
    while ((rc = dray_next(dray, &event, &err)) == 1) {
        if (event.type == DRAY_TASK_FAILED) {
            assert_int_equal(event.error.code, EDOM);
            assert_string_equal(event.error.text, "it is unhappy on worker w");
            failed++;
        }
    }
    assert_int_equal(failed, 9);
    assert_int_equal(gather_one(dray, good), 1);
    assert_int_equal(dray_pool_unfinished(pool), 0);
    dray_pool_close(pool);
    dray_close(dray);
}

static void test_cancel_and_time(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_error err = {0};
    struct dray_gathered all;
    struct dray_future future[10];

    fake->hold = true;
    for (uint32_t i = 0; i < 10; i++) {
        future[i] = submit(pool, NULL, 0);
    }
    assert_int_equal(dray_future_done(dray, &future[2]), 0);
    assert_int_equal(dray_gather(dray, future, 10, 30, &all, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, "10 of 10 results"));
    assert_int_equal(dray_cancel_futures(dray, &future[2], 3, &err), 0);
    assert_int_equal(dray_gather(dray, future, 10, LONG_MS, &all, &err), -ECANCELED);
    assert_non_null(strstr(err.text, "task 2 of layer 0"));
    assert_int_equal(fake->cancelled, 3);
    assert_int_equal(dray_pool_unfinished(pool), 7);
    // Released while it runs: it counts no more, and nothing comes of it.
    assert_int_equal(dray_release_futures(dray, &future[9], 1, &err), 0);
    assert_int_equal(dray_pool_unfinished(pool), 6);
    fake->hold = false;
    assert_int_equal(gather_one(dray, future[8]), 9);
    assert_int_equal(dray_pool_unfinished(pool), 0);
    dray_pool_close(pool);
    dray_close(dray);
}

static void test_unfinished_max(void **state)
{
    struct fake *fake = *state;
    const struct dray_pool_options options = {.size = sizeof(options), .unfinished_max = 100};
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, &options);
    size_t most = 0;

    for (uint32_t i = 0; i < 5000; i++) {
        submit(pool, NULL, 0);
        most = most > dray_pool_unfinished(pool) ? most : dray_pool_unfinished(pool);
    }
    assert_in_range(most, 1, 100);
    dray_pool_close(pool);
    dray_close(dray);
    assert_true(fake->extends < 1000); // not one message a task
}

// Results that nobody takes are only told of when they fill their room.
static void test_memory_is_bounded(void **state)
{
    enum { N = 300000 };
    struct fake *fake = *state;
    const struct dray_options options = {.size = sizeof(options), .result_bytes_max = 1 << 20};
    struct dray_error err = {0};
    struct dray_event event;
    dray_pool_t *pool;
    size_t events = 0, here = 0;
    dray_t *dray;

    assert_int_equal(dray_connect(fake->endpoint, &options, &dray, &err), 0);
    pool = opened(
        dray, &(struct dray_pool_options){.size = sizeof(struct dray_pool_options), .unfinished_max = 20000});
    for (uint32_t i = 0; i < N; i++) {
        submit(pool, NULL, 0);
    }
    while (events < N) {
        assert_int_equal(dray_wait(dray, LONG_MS, &err), 1);
        while (dray_next(dray, &event, &err) == 1) {
            events++;
            here += event.data != NULL;
        }
    }
    assert_true(here >= (1 << 20) / 24 / 2);
    assert_true(here < N / 2);
    dray_pool_close(pool);
    dray_close(dray);
}

// The pool's job takes so many layers; then comes another, and what is over and released is forgotten.
static void test_moves_on(void **state)
{
    enum { N = 16384 + 100 };
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_future *future = malloc(N * sizeof(*future));
    struct dray_task task = count;
    struct dray_error err = {0};
    char name[16];

    for (uint32_t i = 0; i < N; i++) {
        task.input = i > 0 ? &future[i - 1] : NULL;
        task.inputs = i > 0 ? 1 : 0;
        snprintf(name, sizeof(name), "%u", i); // each another layer
        task.name = name;
        assert_int_equal(dray_submit(pool, &task, &future[i], &err), 0);
    }
    assert_int_equal(future[0].job, 1);
    assert_int_equal(future[N - 1].job, 2);
    assert_int_equal(gather_one(dray, future[N - 1]), N);
    assert_int_equal(gather_one(dray, future[10]), 11);
    assert_int_equal(fake->lasts, 1);
    assert_int_equal(dray_release_futures(dray, future, N - 100, &err), 0);
    for (int i = 0; i < 500 && fake->jobs_freed == 0; i++) {
        dray_wait(dray, 2, NULL);
        for (struct dray_event event; dray_next(dray, &event, NULL) == 1;) {
            assert_int_not_equal(event.type, DRAY_DONE);
        }
    }
    assert_int_equal(fake->jobs_freed, 1);
    assert_int_equal(dray_future_done(dray, &future[10]), -ENOENT);
    assert_int_equal(gather_one(dray, future[N - 2]), N - 1);
    free(future);
    dray_pool_close(pool);
    dray_close(dray);
}

static void test_refused(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_task task = count;
    struct dray_error err = {0};
    struct dray_gathered all;
    struct dray_event event;
    struct dray_future future;

    fake->refuse_extend = true;
    future = submit(pool, NULL, 0);
    assert_int_equal(dray_gather(dray, &future, 1, LONG_MS, &all, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "no room for more tasks"));
    assert_int_equal(dray_submit(pool, &task, &future, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "the pool's job 1 is over"));
    assert_int_equal(dray_next(dray, &event, &err), 1);
    assert_int_equal(event.type, DRAY_FAILED);
    assert_int_equal(dray_pool_unfinished(pool), 0);
    dray_pool_close(pool);
    dray_close(dray);
}

static void wait_for(atomic_uint *counter, unsigned value)
{
    for (int i = 0; i < 10000 && *counter < value; i++) {
        poll(NULL, 0, 2);
    }
    assert_int_equal(*counter, value);
}

// Ranges that overlap cannot be of an honest broker.
static void test_hostile_ranges(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_error err = {0};
    struct dray_event event;
    struct dray_future map;
    int rc;

    fake->nested = true;
    assert_int_equal(dray_map(pool, &count, NULL, 10, &map, &err), 0);
    do {
        rc = dray_wait(dray, LONG_MS, &err);
        while (rc == 1 && (rc = dray_next(dray, &event, &err)) == 1) {
            assert_int_equal(event.type, DRAY_PARTITION);
            assert_int_equal(value_of(event.value), 1 + event.index);
        }
    } while (rc >= 0);
    assert_int_equal(rc, -EPROTO);
    assert_non_null(strstr(err.text, "twice"));
    dray_pool_close(pool);
    dray_close(dray);
}

static void test_close(void **state)
{
    struct fake *fake = *state;
    const struct dray_pool_options detached = {.size = sizeof(detached), .detached = 1};
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct dray_error err = {0};

    fake->hold = true;
    submit(pool, NULL, 0);
    assert_int_equal(dray_pool_flush(pool, &err), 0);
    dray_pool_close(pool);
    wait_for(&fake->jobs_freed, 1);
    assert_int_equal(fake->jobs_cancelled, 1);
    // A detached pool's tasks are sent and go on.
    pool = opened(dray, &detached);
    submit(pool, NULL, 0);
    dray_pool_close(pool);
    wait_for(&fake->lasts, 1);
    // A kept one's as well.
    pool = opened(dray, NULL);
    submit(pool, NULL, 0);
    assert_int_equal(dray_keep(dray, dray_pool_job(pool), "name", &err), 0);
    dray_pool_close(pool);
    wait_for(&fake->lasts, 2);
    assert_int_equal(fake->jobs_cancelled, 1);
    assert_int_equal(fake->jobs_freed, 1);
    dray_pool_close(NULL);
    // One that is open when the connection ends.
    pool = opened(dray, NULL);
    submit(pool, NULL, 0);
    dray_close(dray);
}

static void test_kept(void **state)
{
    struct fake *fake = *state;
    const struct client_attach look = {.kept = "sales", .look = true};
    dray_t *dray = connected(fake);
    dray_pool_t *pool = opened(dray, NULL);
    struct error err = {0};
    struct dray_error error = {0};
    const Dray__Attached *attached;
    const Dray__Jobs *jobs;
    struct dray_event event;
    struct dray_future map, future;
    struct arena arena;
    dray_job_t job = 0;
    int results = 0;

    arena_init(&arena, 0);
    assert_int_equal(dray_map(pool, &count, NULL, 5, &map, &error), 0);
    map.index = 4;
    gather_one(dray, map);
    assert_int_equal(dray_keep(dray, map.job, "sales", &error), 0);
    assert_int_equal(client_attach(dray, &look, &arena, &attached, &err), 0);
    assert_int_equal(attached->layer[0]->tasks, 5);
    assert_int_equal(dray_attach(dray, 0, "apples", &job, &error), -ENOENT);
    assert_string_equal(error.text, "there is no such job");
    dray_pool_close(pool);
    // Its results come, and serve as inputs.
    assert_int_equal(dray_attach(dray, 0, "sales", &job, &error), 0);
    assert_int_equal(job, 1);
    for (int i = 0; i < 1000 && results < 5; i++) {
        dray_wait(dray, 10, NULL);
        while (dray_next(dray, &event, &error) == 1) {
            assert_int_equal(event.type, DRAY_PARTITION);
            assert_int_equal(value_of(event.value), 1 + event.index);
            results++;
        }
    }
    assert_int_equal(results, 5);
    pool = opened(dray, NULL);
    future = submit(pool, &map, 1);
    assert_int_equal(gather_one(dray, future), 6);
    assert_int_equal(gather_one(dray, map), 5);
    assert_int_equal(fake->freed, 0); // others may want them
    assert_int_equal(dray_unkeep(dray, "sale", &error), -ENOENT);
    assert_int_equal(dray_unkeep(dray, "sales", &error), 0);
    assert_int_equal(client_jobs(dray, 0, &arena, &jobs, &err), 0);
    assert_int_equal(client_jobs(dray, 9, &arena, &jobs, &err), -ENOENT);
    arena_fini(&arena);
    dray_pool_close(pool);
    dray_close(dray);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_submit_and_gather, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dependencies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kinds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_pools, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_map_and_scatter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_as_completed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_results_are_gathered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel_and_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unfinished_max, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_moves_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_ranges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
