// libdray (uplink, transfer, results, results_message, results_next, dray.c) against a broker and a worker
// that this program plays on a thread of its own.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib/client.h"
#include "client/lib/results.h"
#include "client/lib/transfer.h"
#include "client/lib/uplink.h"
#include "tests/unit/fake_broker.h"

static void test_nobody_answers(void **state)
{
    const struct dray_options options = {.size = sizeof(options), .connect_ms = 150};
    struct dray_error err = {0};
    uint64_t took = UINT64_MAX;
    dray_t *dray = NULL;

    (void)state;
    for (int tries = 0; took >= 1000000; tries++) { // soon, unless the machine was with others
        uint64_t start = monotonic_us();

        assert_true(tries < 5);
        assert_int_equal(dray_connect("tcp://127.0.0.1:9", &options, &dray, &err), -ETIMEDOUT);
        assert_string_equal(
            err.text, "no broker answered at tcp://127.0.0.1:9 within 0.15 s: is dray-broker running there?");
        took = monotonic_us() - start;
    }
    // No name server needs to be asked: that is no name.
    assert_int_equal(dray_connect("tcp://a..b:9", &options, &dray, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, "no broker answered at tcp://a..b:9 within 0.15 s: the broker's "
                                     "host \"a..b\" is not known: "));
    unsetenv("DRAY_BROKER");
    assert_int_equal(dray_connect(NULL, NULL, &dray, &err), -EINVAL);
    assert_true(dray_connect("nonsense", NULL, &dray, &err) < 0);
    assert_null(dray);
}

static void test_refused(void **state)
{
    struct dray_error err = {0};
    dray_t *dray = NULL;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fake *fake = fake_create();

        fake->refuse = i == 0;
        fake->other_protocol = i == 1;
        fake_start(fake);
        assert_int_equal(dray_connect(fake->endpoint, NULL, &dray, &err), -EPROTO);
        assert_non_null(strstr(err.text, i == 0 ? "wrong version" : "another version"));
        fake_destroy(fake);
    }
}

static void take_all(dray_t *dray, const struct fake *fake, dray_job_t job, bool ordered)
{
    struct dray_error err = {0};
    struct dray_event event;
    bool seen[RESULTS_MAX] = {false};
    uint32_t results = 0, notes = 0, progress = 0;
    bool done = false;

    while (!done) {
        int rc = dray_wait(dray, 10000, &err);

        if (rc != 1) {
            fail_msg("%d results, rc %d, %s", (int)results, rc, err.text);
        }
        while (!done && (rc = dray_next(dray, &event, &err)) == 1) {
            assert_int_equal(event.job, job);
            switch (event.type) {
            case DRAY_PARTITION:
                assert_int_equal(event.layer, 1);
                assert_in_range(event.index, 0, fake->results - 1);
                assert_false(seen[event.index]);
                assert_int_equal(event.size, fake->size[event.index]);
                for (size_t i = 0; i < event.size; i++) {
                    if (((const uint8_t *)event.data)[i] != byte_at(event.index, i)) {
                        fail_msg("byte %zu of result %u", i, event.index);
                    }
                }
                if (ordered) {
                    assert_int_equal(event.index, results);
                }
                seen[event.index] = true;
                results++;
                break;
            case DRAY_NOTE:
                notes++;
                assert_int_equal(event.size, 3);
                assert_memory_equal(event.data, "\1\2\3", 3);
                assert_int_equal(results, 0);
                break;
            case DRAY_PROGRESS:
                progress++;
                assert_int_equal(event.tasks, 10);
                assert_string_equal(event.waiting, "nothing");
                break;
            case DRAY_DONE:
                done = true;
                break;
            case DRAY_FAILED:
            case DRAY_CANCELLED:
            default:
                fail_msg("event %d: %s", (int)event.type, event.error.text);
            }
        }
        assert_true(rc >= 0);
    }
    assert_int_equal(results, fake->results);
    assert_int_equal(notes, 1);
    assert_int_equal(progress, 1);
}

static void test_job(void **state)
{
    (void)state;
    // Random ways, sizes and orders: what comes out is the same.
    for (unsigned seed = 1; seed <= 8; seed++) {
        struct fake *fake = fake_create();
        struct dray_error err = {0};
        bool ordered = seed % 2 == 0;
        unsigned random = seed;
        dray_job_t job = 0;
        dray_t *dray;

        fake->results = 1 + seed * 3;
        for (uint32_t i = 0; i < fake->results; i++) {
            uint32_t swap = (uint32_t)rand_r(&random) % (i + 1);

            fake->order[i] = fake->order[swap];
            fake->order[swap] = i;
            fake->way[i] = (enum way)(rand_r(&random) % WAYS);
            fake->size[i] = 16 + (size_t)rand_r(&random) % 5000;
            if (fake->way[i] != WAY_INLINE && rand_r(&random) % 4 == 0) {
                fake->size[i] = 1000000 + (size_t)rand_r(&random) % 3000000;
            }
        }
        fake->bad_checksum = seed == 5;
        for (uint32_t i = 0; fake->bad_checksum && i < fake->results; i++) {
            // A lost one would go back to the worker that cannot be trusted.
            fake->way[i] = fake->way[i] == WAY_LOST ? WAY_WORKER : fake->way[i];
        }
        fake_start(fake);
        dray = connected(fake);
        assert_int_equal(submit(dray, fake, ordered, &job, &err), 0);
        assert_int_equal(job, JOB);
        take_all(dray, fake, job, ordered);
        dray_process(dray, NULL);
        for (int i = 0; i < 1000 && fake->freed < fake->results; i++) {
            dray_wait(dray, 2, NULL);
        }
        assert_int_equal(fake->freed, fake->results);
        assert_int_equal(dray_release(dray, job, NULL), 0);
        dray_close(dray);
        fake_destroy(fake);
    }
}

static bool readable(const dray_t *dray, int timeout_ms)
{
    struct pollfd fd = {.fd = dray_fd(dray), .events = POLLIN};

    return poll(&fd, 1, timeout_ms) == 1;
}

static void test_descriptor_is_level_triggered(void **state)
{
    struct fake *fake = fake_create();
    struct dray_error err = {0};
    struct dray_event event;
    dray_job_t job;
    dray_t *dray;
    int events = 0;

    (void)state;
    fake->results = 20;
    fake->heartbeat_ms = 60000;
    fake->timeout_ms = 120000;
    fake_start(fake);
    dray = connected(fake);
    assert_false(readable(dray, 50));
    assert_int_equal(submit(dray, fake, false, &job, &err), 0);
    poll(NULL, 0, 100); // all has come, in whatever call it was noticed
    assert_true(readable(dray, 20000));
    assert_true(readable(dray, 0));
    // Never more than one event a turn, and the loop must not fall asleep.
    for (bool done = false; !done;) {
        assert_true(readable(dray, 20000));
        assert_int_equal(dray_process(dray, &err), 0);
        if (dray_next(dray, &event, &err) == 1) {
            events++;
            done = event.type == DRAY_DONE;
        }
    }
    assert_int_equal(events, 20 + 1 + 1 + 1);
    assert_int_equal(dray_process(dray, &err), 0);
    if (readable(dray, 100)) { // the broker is still to be told what was read
        assert_int_equal(dray_process(dray, &err), 0);
    }
    assert_false(readable(dray, 100));
    assert_int_equal(dray_next(dray, &event, &err), 0);
    assert_int_equal(dray_wait(dray, 10, &err), 0);
    dray_close(dray);
    fake_destroy(fake);
}

static void test_memory_is_bounded(void **state)
{
    struct fake *fake = fake_create();
    struct dray_error err = {0};
    dray_job_t job;
    dray_t *dray;
    unsigned before;
    int rounds = 0;

    (void)state;
    fake->results = 40; // of 4 MB: 160 MB
    for (uint32_t i = 0; i < fake->results; i++) {
        fake->way[i] = WAY_WORKER;
        fake->size[i] = 4 << 20;
    }
    fake_start(fake);
    dray = connected(fake);
    assert_int_equal(submit(dray, fake, true, &job, &err), 0);
    // The user takes nothing: fetching stops at 64 MB, and goes on when there is room.
    do {
        before = fake->fetches_worker;
        for (int i = 0; i < 30; i++) {
            assert_int_equal(dray_process(dray, &err), 0);
            poll(NULL, 0, 10);
        }
    } while (fake->fetches_worker != before || (fake->fetches_worker < 4 * 12 && ++rounds < 30));
    assert_in_range(fake->fetches_worker + fake->fetches_broker, 4 * 12, 4 * 17);
    take_all(dray, fake, job, true);
    assert_true(fake->fetches_worker + fake->fetches_broker >= 4 * 40);
    dray_close(dray);
    fake_destroy(fake);
}

static void test_broker_falls_silent(void **state)
{
    struct fake *fake = fake_create();
    struct dray_error err = {0};
    struct dray_event event;
    dray_t *dray;
    uint64_t start;

    (void)state;
    fake->heartbeat_ms = 50;
    fake->timeout_ms = 300;
    fake->silent = fake->once = true;
    fake_start(fake);
    start = monotonic_us();
    dray = connected(fake);
    assert_int_equal(dray_wait(dray, 20000, &err), -ENOTCONN);
    assert_non_null(strstr(err.text, "has not been heard of"));
    assert_in_range(monotonic_us() - start, 200000, 10000000);
    assert_int_equal(dray_process(dray, &err), -ENOTCONN);
    assert_int_equal(dray_next(dray, &event, &err), -ENOTCONN);
    assert_true(readable(dray, 0)); // there is something to tell
    dray_close(dray);
    fake_destroy(fake);
}

static void test_heartbeats_keep_it_alive(void **state)
{
    struct fake *fake;
    struct dray_error err = {0};
    struct arena arena;
    const Dray__Cluster *cluster;
    dray_t *dray;
    int tries = 0, rc;

    (void)state;
    for (;;) {
        fake = fake_create();
        fake->heartbeat_ms = 50;
        fake->timeout_ms = 250;
        fake->once = true;
        fake_start(fake);
        dray = connected(fake);
        rc = dray_wait(dray, 800, &err);
        if (rc == 0 || ++tries == 10) {
            break;
        }
        // The thread that says them was held up.
        assert_int_equal(rc, -ENOTCONN);
        dray_close(dray);
        fake_destroy(fake);
    }
    assert_int_equal(rc, 0);
    arena_init(&arena, 0);
    assert_int_equal(client_cluster(dray, &arena, &cluster, (struct error *)&err), 0);
    assert_int_equal(cluster->n_worker, 1);
    assert_string_equal(cluster->worker[0]->name, "w");
    arena_fini(&arena);
    dray_close(dray);
    fake_destroy(fake);
}

// A tick that is noticed late leaves nothing readable that nobody takes.
static void test_late_ticks_keep_nobody_busy(void **state)
{
    struct fake *fake = fake_create();
    struct dray_error err = {0};
    dray_t *dray;
    uint64_t start;
    int turns = 0;

    (void)state;
    fake->heartbeat_ms = 100;
    fake->timeout_ms = 20000;
    fake_start(fake);
    dray = connected(fake);
    poll(NULL, 0, 170);
    start = monotonic_us();
    while (monotonic_us() - start < 300000 || (turns == 0 && monotonic_us() - start < 20000000)) {
        assert_int_equal(dray_process(dray, &err), 0);
        turns += readable(dray, 50);
    }
    assert_in_range(turns, 1, 40);
    dray_close(dray);
    fake_destroy(fake);
}

static void test_nonsense_ends_the_session(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fake *fake = fake_create();
        struct dray_error err = {0};
        struct dray_event event;
        dray_job_t job;
        dray_t *dray;
        int rc;

        fake->results = 2;
        fake->gap = fake->once = i == 0;
        fake->foreign_result = i == 1;
        fake_start(fake);
        dray = connected(fake);
        rc = submit(dray, fake, false, &job, &err);
        while (rc == 0) {
            rc = dray_wait(dray, 3000, &err);
            assert_int_not_equal(rc, 0);
            rc = dray_process(dray, &err);
            while (dray_next(dray, &event, NULL) == 1) {
                assert_int_not_equal(event.type, i == 0 ? DRAY_PARTITION : DRAY_FAILED);
            }
        }
        assert_true(rc == -ENOTCONN || rc == -EPROTO);
        assert_true(strlen(err.text) > 10);
        assert_true(dray_cancel(dray, job, &err) != 0 || i == 1);
        dray_close(dray);
        fake_destroy(fake);
    }
}

static void test_failed_job(void **state)
{
    struct fake *fake = fake_create();
    struct dray_error err = {0};
    struct dray_event event = {0};
    dray_job_t job;
    dray_t *dray;

    (void)state;
    fake->fail = true;
    fake_start(fake);
    dray = connected(fake);
    assert_int_equal(submit(dray, fake, false, &job, &err), 0);
    while (event.type != DRAY_FAILED) {
        assert_int_equal(dray_wait(dray, 3000, &err), 1);
        while (event.type != DRAY_FAILED && dray_next(dray, &event, &err) == 1) {
        }
    }
    assert_int_equal(event.error.code, EDOM);
    assert_string_equal(event.error.text, "task 3 is unhappy");
    assert_int_equal(event.index, 3);
    assert_int_equal(dray_next(dray, &event, &err), 0);
    dray_close(dray);
    fake_destroy(fake);
}

static void test_bad_graph_is_not_sent(void **state)
{
    struct fake *fake = fake_create();
    struct dray_error err = {0};
    dray_job_t job = 5;
    dray_t *dray;

    (void)state;
    fake_start(fake);
    dray = connected(fake);
    assert_true(dray_submit_graph(dray, "\xff\xff\xff", 3, NULL, &job, &err) < 0);
    assert_int_equal(job, 5);
    assert_int_equal(dray_cancel(dray, 12345, &err), 0);
    dray_close(dray);
    fake_destroy(fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_answers),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_job),
        cmocka_unit_test(test_descriptor_is_level_triggered),
        cmocka_unit_test(test_memory_is_bounded),
        cmocka_unit_test(test_broker_falls_silent),
        cmocka_unit_test(test_heartbeats_keep_it_alive),
        cmocka_unit_test(test_late_ticks_keep_nobody_busy),
        cmocka_unit_test(test_nonsense_ends_the_session),
        cmocka_unit_test(test_failed_job),
        cmocka_unit_test(test_bad_graph_is_not_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
