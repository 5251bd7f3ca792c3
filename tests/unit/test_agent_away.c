// The agent while the broker is away, and with partitions of workers that leave.
#include "worker/core/agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/agent_play.h"

// The broker is away: all goes on, nothing is said; then it hears what there is.
static void test_reconnect(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 6, 0, 0, 0, 0);
    layer_one(&play, 1, 6, 0, DRAY__PATTERN__ONE_TO_ONE, 0, 6);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 4), 0);
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assign_with(&play, 1, 4, 0, 7);
    assert_true(said(&play, "fetch j1:t0.4 from w7"));
    assign_with(&play, 1, 5, 0, 7);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_DISCONNECTED}), 0);
    assert_int_equal(play.actions.count, 0);
    outcome(&play, AGENT_TASKS_DONE, 0, 1, 1, 2);
    assert_true(said(&play, "run j1:t0.2"));
    assert_int_equal(play.actions.count, 1);
    // One of the fetches fails: its task is not there any more, and nobody was told.
    fetched(&play, AGENT_FETCHED, 0, 4);
    fetched(&play, AGENT_FETCH_FAILED, 0, 5);
    assert_int_equal(play.actions.count, 0);
    assert_int_equal(counts(&play).queued, 2);
    outcome(&play, AGENT_TASK_FAILED, 0, 2, 1, 3);
    assert_true(said(&play, "run j1:t0.3"));
    assert_int_equal(play.actions.count, 1);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    // The copy is not told of: it goes when its task is over.
    assert_int_equal(play.actions.count, 3);
    assert_true(said(&play, "advertise j1:t0.0-1"));
    assert_true(play.actions.action[0].full);
    assert_true(said(&play, "go on with j1:t0.3"));
    assert_true(said(&play, "go on with j1:t1.4"));
    assert_int_equal(agent_own(play.agent, NULL, NULL), 2);
    assert_int_equal(counts(&play).partitions, 3);
    outcome(&play, AGENT_TASKS_DONE, 0, 3, 1, 4);
    assert_true(said(&play, "report done j1:t0.3"));
    assert_true(said(&play, "run j1:t1.4"));
    outcome(&play, AGENT_TASKS_DONE, 1, 4, 1, 5);
    assert_true(said(&play, "free j1:t0.4"));
    end(&play);
}

// What the last session asked back and did not get is simply gone on with.
static void test_reconnect_after_a_drop(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    play.instant = true;
    layer_one(&play, 0, 6, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 4), 0);
    assert_true(said(&play, "run j1:t0.0-3"));
    assert_int_equal(range(&play, AGENT_DROP, 0, 2, 2), 0);
    assert_true(said(&play, "withdraw j1:t0.2-3"));
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_DISCONNECTED}), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    assert_true(said(&play, "go on with j1:t0.0-3"));
    outcome(&play, AGENT_TASKS_SKIPPED, 0, 2, 2, 0);
    assert_int_equal(play.actions.count, 0);
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 2, 1);
    assert_true(said(&play, "run j1:t0.2-3"));
    outcome(&play, AGENT_TASKS_DONE, 0, 2, 2, 2);
    // A job of which nothing is here is forgotten with the session.
    range(&play, AGENT_RELEASE, 0, 0, 6);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_DISCONNECTED}), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    assert_true(said(&play, "forget the operation of j1:t0.0-5"));
    assert_int_equal(play.actions.count, 1);
    end(&play);
}

// A broker that has not heard yet what is queued here gives it again; meanwhile a copy of it has come.
static void test_given_again_with_a_copy(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 3);
    layer_one(&play, 0, 8, 0, 0, 0, 0);
    layer_one(&play, 1, 8, 0, DRAY__PATTERN__ONE_TO_ONE, 0, 8);
    assign_with(&play, 1, 1, 0, 7);
    assert_true(said(&play, "fetch j1:t0.1 from w7"));
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 3), 0);
    assert_true(said(&play, "run j1:t0.0"));
    fetched(&play, AGENT_FETCHED, 0, 1);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 3), 0);
    assert_true(said(&play, "report done j1:t0.1"));
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assert_false(said(&play, "run j1:t0.1"));
    end(&play);
}

static int copy(struct play *play, uint32_t layer, uint32_t first, uint32_t count, uint32_t worker)
{
    struct agent_event event = {.type = AGENT_COPY};

    event.u.range.range = (struct agent_range){1, layer, first, count};
    event.u.range.worker = worker;
    return step(play, event);
}

// Partitions of a worker that leaves.
static void test_takes_over(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 3);
    layer_one(&play, 0, 8, 0, 0, 0, 0);
    layer_one(&play, 1, 8, 0, DRAY__PATTERN__ONE_TO_ONE, 0, 8);
    assert_int_equal(copy(&play, 0, 0, 4, 7), 0);
    assert_true(said(&play, "fetch j1:t0.0 from w7"));
    assert_int_equal(counts(&play).fetching, 3);
    fetched(&play, AGENT_FETCHED, 0, 0);
    assert_true(said(&play, "advertise j1:t0.0"));
    assert_false(play.actions.action[0].full);
    assert_int_equal(agent_own(play.agent, NULL, NULL), 1);
    // It could not be had; there is no room, which is no reason for a shortage.
    fetched(&play, AGENT_FETCH_FAILED, 0, 1);
    assert_true(said(&play, "decline j1:t0.1"));
    no_memory(&play, 0, 2);
    assert_true(said(&play, "decline j1:t0.2"));
    // Released on its way: said, too, and thrown away when it comes.
    range(&play, AGENT_RELEASE, 0, 3, 1);
    assert_true(said(&play, "decline j1:t0.3"));
    fetched(&play, AGENT_FETCHED, 0, 3);
    assert_true(said(&play, "free j1:t0.3"));
    // What is a copy for a task already stays for good; what is its own is said again.
    assign_with(&play, 1, 4, 0, 7);
    fetched(&play, AGENT_FETCHED, 0, 4);
    assert_true(said(&play, "run j1:t1.4"));
    assert_int_equal(copy(&play, 0, 4, 1, 7), 0);
    assert_true(said(&play, "advertise j1:t0.4"));
    assert_int_equal(copy(&play, 0, 0, 1, 7), 0);
    assert_true(said(&play, "advertise j1:t0.0"));
    // What is made here is not fetched as well.
    assert_int_equal(copy(&play, 1, 4, 1, 7), 0);
    assert_true(said(&play, "decline j1:t1.4"));
    assert_int_equal(copy(&play, 0, 5, 1, 7), 0);
    assert_true(said(&play, "fetch j1:t0.5 from w7"));
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 5, 1), 0);
    assert_true(said(&play, "decline j1:t0.5"));
    fetched(&play, AGENT_FETCH_FAILED, 0, 5);
    outcome(&play, AGENT_TASKS_DONE, 1, 4, 1, 1);
    assert_int_equal(agent_own(play.agent, NULL, NULL), 3);
    outcome(&play, AGENT_TASKS_DONE, 0, 5, 1, 2);
    // One that leaves itself takes nothing over.
    assert_int_equal(copy(&play, 0, 6, 1, 7), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_LEAVING}), 0);
    assert_true(said(&play, "decline j1:t0.6"));
    fetched(&play, AGENT_FETCHED, 0, 6);
    assert_true(said(&play, "free j1:t0.6"));
    assert_int_equal(copy(&play, 0, 7, 1, 7), 0);
    assert_true(said(&play, "decline j1:t0.7"));
    assert_int_equal(copy(&play, 5, 0, 1, 7), -EPROTO);
    end(&play);
}

// A task that waits for memory goes before what is taken over; a lost broker takes all of that back.
static void test_taking_over_makes_way(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 1);
    layer_one(&play, 0, 8, 0, 0, 0, 0);
    layer_one(&play, 1, 8, 0, DRAY__PATTERN__ONE_TO_ONE, 0, 8);
    assign_with(&play, 1, 0, 0, 7);
    assert_int_equal(copy(&play, 0, 1, 2, 7), 0);
    no_memory(&play, 0, 0);
    assert_int_equal(play.actions.count, 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
    assert_true(said(&play, "decline j1:t0.1-2"));
    for (int k = 0; k < 4; k++) {
        assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
    }
    assert_int_equal(counts(&play).fetching, 1);
    fetched(&play, AGENT_FETCHED, 0, 0);
    assert_int_equal(copy(&play, 0, 3, 2, 7), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_DISCONNECTED}), 0);
    fetched(&play, AGENT_FETCHED, 0, 3);
    assert_true(said(&play, "free j1:t0.3"));
    assert_int_equal(play.actions.count, 1);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    assert_true(said(&play, "go on with j1:t1.0"));
    assert_int_equal(play.actions.count, 1);
    outcome(&play, AGENT_TASKS_DONE, 1, 0, 1, 1);
    end(&play);
}

// A layer of one task; of_one: that reads both partitions of the first layer of job 1.
static void layer_of(struct play *play, uint32_t job, uint32_t number, bool of_one)
{
    struct agent_event event = {.type = AGENT_LAYER};
    Dray__Input input = DRAY__INPUT__INIT;
    Dray__Input *inputs = &input;
    const uint32_t tasks = 2;

    input.has_job = true;
    input.job = 1;
    input.pattern = DRAY__PATTERN__ALL;
    event.u.layer.job = job;
    event.u.layer.layer = number;
    event.u.layer.tasks = 1;
    event.u.layer.inputs = of_one ? 1 : 0;
    event.u.layer.input = &inputs;
    event.u.layer.input_tasks = &tasks;
    assert_int_equal(step(play, event), 0);
}

static void one(struct play *play, enum agent_event_type type, uint32_t job, uint32_t layer)
{
    struct agent_event event = {.type = type};

    event.u.range.range = (struct agent_range){job, layer, 0, 1};
    assert_int_equal(step(play, event), 0);
}

static void run_one(struct play *play, uint32_t job, uint32_t layer, uint32_t bundle)
{
    struct agent_event over = {.type = AGENT_BUNDLE_OVER, .u.bundle = bundle};

    one(play, AGENT_TASKS_DONE, job, layer);
    assert_int_equal(step(play, over), 0);
}

// Job 2 is of an earlier session, and the broker knows nothing more of it: what it reads is not kept for it.
static void test_nobody_knows_that_it_read(void **state)
{
    const struct agent_event given[] = {
        {.type = AGENT_LOCATION, .u.range = {{1, 0, 0, 2}, 7, false, 0}},
        {.type = AGENT_ASSIGN, .u.range.range = {3, 0, 0, 1}},
    };
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_of(&play, 2, 0, false);
    layer_of(&play, 2, 1, true);
    one(&play, AGENT_ASSIGN, 2, 0);
    run_one(&play, 2, 0, 1);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_DISCONNECTED}), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    assert_true(said(&play, "advertise j2:t0.0"));
    one(&play, AGENT_RELEASE, 2, 0);
    layer_of(&play, 3, 0, true);
    assert_int_equal(agent_step(play.agent, given, 2, &play.actions, NULL), 0);
    fetched(&play, AGENT_FETCHED, 0, 0);
    fetched(&play, AGENT_FETCHED, 0, 1);
    assert_true(said(&play, "run j3:t0.0"));
    run_one(&play, 3, 0, 2);
    one(&play, AGENT_FORGET_JOB, 3, 0);
    assert_int_equal(counts(&play).partitions, 0);
    assert_true(said(&play, "free j1:t0.0-1"));
    end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_reconnect_after_a_drop),
        cmocka_unit_test(test_given_again_with_a_copy),
        cmocka_unit_test(test_takes_over),
        cmocka_unit_test(test_taking_over_makes_way),
        cmocka_unit_test(test_nobody_knows_that_it_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
