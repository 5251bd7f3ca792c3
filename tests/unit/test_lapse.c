// Jobs whose time runs out: clients that are lost, results that nobody looks at.
#include "broker/core/lapse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/sched_play.h"

enum { ORPHAN_US = 30000, TTL_US = 500000 };

static void begin(struct play *play)
{
    struct sched_options options;

    sched_options_default(&options);
    options.orphan_us = ORPHAN_US;
    options.ttl_us = TTL_US;
    play_begin_with(play, &options);
}

static void bring(struct play *play, struct build *build, uint64_t key, bool detached)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = key;
    event.u.submit.detached = detached;
    event.u.submit.graph = build_graph(build);
    assert_int_equal(step(play, &event), 0);
}

static void attach(struct play *play, uint32_t client, uint32_t job)
{
    struct sched_event event = event_of(play, EVENT_ATTACH);

    event.u.attach.client = client;
    event.u.attach.job = job;
    assert_int_equal(step(play, &event), 0);
}

static void keep(struct play *play, uint32_t job, bool yes)
{
    struct sched_event event = event_of(play, EVENT_KEEP);

    event.u.attach.client = CLIENT;
    event.u.attach.job = job;
    event.u.attach.keep = yes;
    assert_int_equal(step(play, &event), 0);
}

static void test_lost_client_has_time_to_come_back(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 4);
    join(&play, 1, 1, true);
    bring(&play, &build, 1, false);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    done(&play, 1, 1, 0, 0, 4); // it goes on
    later(&play, ORPHAN_US - 10);
    assert_int_equal(counts(&play).jobs, 1);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT + 1);
    attach(&play, CLIENT + 1, 1);
    assert_true(said(&play, "c1001: result j1:t0.0-3 at w1"));
    assert_true(said(&play, "c1001: j1 is done"));
    later(&play, 2 * ORPHAN_US);
    assert_int_equal(counts(&play).jobs, 1);
    // Lost once more, and for good.
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT + 1);
    later(&play, ORPHAN_US - 1);
    assert_int_equal(counts(&play).jobs, 1);
    later(&play, 1);
    assert_true(said(&play, "w1: forget j1"));
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&build);
    play_end(&play);
}

static void test_goodbye_gives_up_at_once(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 4);
    bring(&play, &build, 1, false);
    bring(&play, &build, 2, true);
    leave_in_peace(&play, CLIENT);
    assert_int_equal(counts(&play).jobs, 1);
    later(&play, 10 * TTL_US); // the detached one has not ended
    assert_int_equal(counts(&play).jobs, 1);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    attach(&play, CLIENT, 2);
    of_job(&play, EVENT_FREE, CLIENT, NULL);
    assert_int_equal(counts(&play).jobs, 1); // that was the other one
    struct sched_event event = event_of(&play, EVENT_FREE);

    event.u.job.client = CLIENT;
    event.u.job.job = 2;
    assert_int_equal(step(&play, &event), 0);
    build_fini(&build);
    play_end(&play);
}

static void test_results_lapse_after_the_last_look(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 4);
    join(&play, 1, 1, true);
    bring(&play, &build, 1, true);
    leave_in_peace(&play, CLIENT);
    later(&play, 2 * TTL_US);
    done(&play, 1, 1, 0, 0, 4);
    later(&play, TTL_US - 10);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    attach(&play, CLIENT, 1);
    later(&play, 2 * TTL_US);
    assert_int_equal(counts(&play).jobs, 1);
    leave_in_peace(&play, CLIENT);
    later(&play, TTL_US - 1);
    assert_int_equal(counts(&play).partitions, 4);
    later(&play, 1);
    assert_int_equal(counts(&play).jobs, 0);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    build_fini(&build);
    play_end(&play);
}

static void test_kept_jobs_do_not_lapse(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 4);
    join(&play, 1, 1, true);
    bring(&play, &build, 1, false);
    bring(&play, &build, 2, true);
    keep(&play, 1, true);
    keep(&play, 2, true);
    done(&play, 1, 1, 0, 0, 4);
    done(&play, 1, 2, 0, 0, 4);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    later(&play, 2 * TTL_US);
    assert_int_equal(counts(&play).jobs, 2);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    keep(&play, 1, false); // was never detached: nobody has it
    assert_int_equal(counts(&play).jobs, 1);
    keep(&play, 2, false);
    later(&play, TTL_US - 1);
    assert_int_equal(counts(&play).jobs, 1);
    later(&play, 1);
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&build);
    play_end(&play);
}

// Detached, and more was to come, but nobody is left who would bring it.
static void test_growing_job_that_nobody_has(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 4);
    join(&play, 1, 1, true);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.detached = event.u.submit.open = true;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    later(&play, 2 * TTL_US); // there is something left to do
    assert_int_equal(counts(&play).jobs, 1);
    done(&play, 1, 1, 0, 0, 4);
    later(&play, TTL_US - 1);
    assert_int_equal(counts(&play).jobs, 1);
    later(&play, 1);
    assert_int_equal(counts(&play).jobs, 0);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    build_fini(&build);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lost_client_has_time_to_come_back),
        cmocka_unit_test(test_goodbye_gives_up_at_once),
        cmocka_unit_test(test_results_lapse_after_the_last_look),
        cmocka_unit_test(test_kept_jobs_do_not_lapse),
        cmocka_unit_test(test_growing_job_that_nobody_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
