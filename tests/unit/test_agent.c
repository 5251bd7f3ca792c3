// The agent by itself: one rule a test.  Many agents together are in tests/sim.
#include "worker/core/agent.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/hash.h"
#include "tests/unit/agent_play.h"
#include "tests/unit/cpu_time.h"

static void test_runs_in_order_on_free_threads(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 2, 4);
    layer_one(&play, 0, 10, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 5, 3), 0);
    assert_true(said(&play, "run j1:t0.5"));
    assert_true(said(&play, "run j1:t0.6"));
    assert_int_equal(play.actions.count, 2);
    outcome(&play, AGENT_TASKS_DONE, 0, 6, 1, 2);
    assert_true(said(&play, "report done j1:t0.6"));
    assert_true(said(&play, "run j1:t0.7"));
    outcome(&play, AGENT_TASK_FAILED, 0, 5, 1, 1);
    assert_true(said(&play, "report failed j1:t0.5: broken"));
    outcome(&play, AGENT_TASKS_DONE, 0, 7, 1, 3);
    assert_int_equal(counts(&play).running, 0);
    assert_int_equal(counts(&play).partitions, 2);
    // Asked for again: it is there already.
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 7, 1), 0);
    assert_true(said(&play, "report done j1:t0.7"));
    range(&play, AGENT_RELEASE, 0, 0, 10);
    assert_true(said(&play, "free j1:t0.6-7"));
    end(&play);
}

// What is assigned, stopped or left over from an earlier session: no more of it runs than there is.
static void test_no_more_is_taken_than_there_is(void **state)
{
    const struct agent_resource has[] = {{"gpu", 2}, {"disk", 1}};
    const struct agent_options options = {.threads = 4, .fetches_max = 4, .resources = 2, .resource = has};
    struct agent_event kill = {.type = AGENT_DROP, .u.range = {{1, 0, 0, 1}, 0, true, 0}};
    struct play play;
    struct agent_event event = {.type = AGENT_LAYER, .u.layer = {.job = 1, .tasks = 6}};
    Dray__Resource gpu = DRAY__RESOURCE__INIT;
    Dray__Resource *takes[] = {&gpu};

    (void)state;
    memset(&play, 0, sizeof(play));
    play.agent = agent_create(&options);
    assert_non_null(play.agent);
    agent_actions_init(&play.actions);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    gpu.name = (char[]){"gpu"};
    gpu.amount = 1;
    event.u.layer.resources = 1;
    event.u.layer.resource = takes;
    assert_int_equal(step(&play, event), 0);
    layer_one(&play, 1, 6, 0, DRAY__PATTERN__ONE_TO_ONE, 0, 6);
    layer_one(&play, 2, 2, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 6), 0);
    assert_true(said(&play, "run j1:t0.0"));
    assert_true(said(&play, "run j1:t0.1"));
    assert_int_equal(play.actions.count, 2);
    // What takes nothing goes on beside them; dependents wait in no bundle of theirs.
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 0, 6), 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 2, 0, 1), 0);
    assert_true(said(&play, "run j1:t2.0"));
    // Stopped, but not over.
    assert_int_equal(step(&play, kill), 0);
    assert_true(said(&play, "stop j1:t0.0"));
    assert_int_equal(counts(&play).running, 3);
    outcome(&play, AGENT_TASK_FAILED, 0, 0, 1, 1);
    assert_true(said(&play, "run j1:t0.2"));
    outcome(&play, AGENT_TASKS_DONE, 0, 1, 1, 2);
    assert_true(said(&play, "run j1:t0.3"));
    assert_true(said(&play, "run j1:t1.1"));
    // Another session: what ran still runs, what waits still waits.
    assert_int_equal(range(&play, AGENT_DROP, 1, 2, 4), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_DISCONNECTED}), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    assert_true(said(&play, "go on with j1:t0.2-5"));
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 4, 2), 0);
    assert_int_equal(counts(&play).queued, 2);
    outcome(&play, AGENT_TASKS_DONE, 2, 0, 1, 3);
    assert_int_equal(counts(&play).queued, 2);
    outcome(&play, AGENT_TASKS_DONE, 0, 2, 1, 4);
    assert_true(said(&play, "run j1:t0.4"));
    // Given back while it waits.
    assert_int_equal(range(&play, AGENT_DROP, 0, 5, 1), 0);
    assert_true(said(&play, "give back j1:t0.5"));
    outcome(&play, AGENT_TASKS_DONE, 0, 3, 1, 5);
    outcome(&play, AGENT_TASKS_DONE, 1, 1, 1, 6);
    outcome(&play, AGENT_TASKS_DONE, 0, 4, 1, 7);
    end(&play);
}

static void test_bundles_grow_with_what_is_learnt(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    play.task_ns = 1000;
    layer_one(&play, 0, 2000, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 2000), 0);
    assert_true(said(&play, "run j1:t0.0"));
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assert_true(said(&play, "run j1:t0.1-8"));
    outcome(&play, AGENT_TASKS_DONE, 0, 1, 8, 2);
    assert_true(said(&play, "run j1:t0.9-72"));
    outcome(&play, AGENT_TASKS_DONE, 0, 9, 64, 3);
    // 1 us a task: 500 of them.
    assert_true(said(&play, "run j1:t0.73-572"));
    // Suddenly slow: believed at once.
    play.task_ns = 400000;
    outcome(&play, AGENT_TASKS_DONE, 0, 73, 500, 4);
    assert_true(said(&play, "run j1:t0.573-576"));
    // A few while they are not long, else one.
    play.task_ns = 1500000;
    outcome(&play, AGENT_TASKS_DONE, 0, 573, 4, 5);
    assert_true(said(&play, "run j1:t0.577-578"));
    play.task_ns = 4000000;
    outcome(&play, AGENT_TASKS_DONE, 0, 577, 2, 6);
    assert_true(said(&play, "run j1:t0.579"));
    end(&play);
}

static void test_all_threads_get_some(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 3, 4);
    play.instant = true;
    layer_one(&play, 0, 2000, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 100), 0);
    assert_true(said(&play, "run j1:t0.0-33"));
    assert_true(said(&play, "run j1:t0.34-66"));
    assert_true(said(&play, "run j1:t0.67-99"));
    end(&play);
}

static void test_chain_is_one_bundle(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    play.instant = true;
    layer_one(&play, 0, 3000, 0, DRAY__PATTERN__LAG, 1, 3000);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 3000), 0);
    assert_true(said(&play, "run j1:t0.0-2999"));
    assert_int_equal(play.actions.count, 1);
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1000, 0);
    assert_true(said(&play, "report done j1:t0.0-999"));
    // One fails: those behind it did not find their input and are given back.
    outcome(&play, AGENT_TASK_FAILED, 0, 1000, 1, 0);
    assert_true(said(&play, "report failed j1:t0.1000: broken"));
    outcome(&play, AGENT_TASKS_SKIPPED, 0, 1001, 1999, 1);
    assert_true(said(&play, "give back j1:t0.1001-2999"));
    assert_int_equal(counts(&play).queued + counts(&play).running, 0);
    end(&play);
}

// Rows of a stencil: each is run when the one before it is, in one bundle.
static void test_stencil_in_a_bundle(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    play.instant = true;
    layer_one(&play, 0, 100, 0, 0, 0, 0);
    layer_one(&play, 1, 100, 0, DRAY__PATTERN__WINDOW, 1, 100);
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range.range = {1, 0, 0, 50}},
        {.type = AGENT_ASSIGN, .u.range.range = {1, 1, 0, 49}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    agent_check(play.agent);
    assert_true(said(&play, "run j1:t0.0-49, j1:t1.0-48"));
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 50, 0);
    outcome(&play, AGENT_TASKS_DONE, 1, 0, 49, 1);
    assert_true(said(&play, "report done j1:t1.0-48"));
    assert_int_equal(counts(&play).partitions, 99);
    end(&play);
}

static void test_long_bundle_is_cut(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    play.instant = true;
    layer_one(&play, 0, 100, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 100), 0);
    assert_true(said(&play, "run j1:t0.0-99"));
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
    assert_int_equal(play.actions.count, 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
    assert_true(said(&play, "withdraw what is left of bundle 1"));
    outcome(&play, AGENT_TASKS_SKIPPED, 0, 2, 98, 0);
    assert_int_equal(counts(&play).queued, 98);
    assert_int_equal(counts(&play).running, 2);
    end(&play);
}

// A task waits for one that is queued here; when that is taken away it is given back by itself.
static void test_given_back_with_its_maker(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 4, 0, 0, 0, 0);
    layer_one(&play, 1, 4, 0, DRAY__PATTERN__ONE_TO_ONE, 0, 4);
    layer_one(&play, 2, 4, 1, DRAY__PATTERN__ONE_TO_ONE, 0, 4);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 3), 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 0, 3), 0);
    assert_int_equal(play.actions.count, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 2, 1, 2), 0);
    assert_int_equal(range(&play, AGENT_DROP, 0, 1, 1), 0);
    assert_true(said(&play, "give back j1:t0.1"));
    assert_true(said(&play, "give back j1:t1.1"));
    assert_true(said(&play, "give back j1:t2.1"));
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assert_true(said(&play, "run j1:t0.2"));
    // It failed: the rest of its chain as well.
    outcome(&play, AGENT_TASK_FAILED, 0, 2, 1, 2);
    assert_true(said(&play, "give back j1:t1.2"));
    assert_true(said(&play, "give back j1:t2.2"));
    assert_true(said(&play, "run j1:t1.0"));
    end(&play);
}

static void test_fetches_and_frees_copies(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 1);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__FAN_IN, 2, 4);
    locate(&play, 0, 0, 7);
    assert_int_equal(play.actions.count, 0);
    struct agent_event events[] = {
        {.type = AGENT_LOCATION, .u.range = {{1, 0, 0, 2}, 7, false, 0}},
        {.type = AGENT_ASSIGN, .u.range.range = {1, 1, 0, 1}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    assert_true(said(&play, "fetch j1:t0.0 from w7"));
    assert_int_equal(play.actions.count, 1);
    fetched(&play, AGENT_FETCHED, 0, 0);
    assert_true(said(&play, "fetch j1:t0.1 from w7"));
    fetched(&play, AGENT_FETCHED, 0, 1);
    assert_true(said(&play, "run j1:t1.0"));
    outcome(&play, AGENT_TASKS_DONE, 1, 0, 1, 1);
    assert_true(said(&play, "free j1:t0.0-1"));
    assert_int_equal(counts(&play).partitions, 1);
    end(&play);
}

// Layer 1 over layer 0, which is with w7.
static void assign_remote(struct play *play, uint32_t tasks, uint32_t width)
{
    layer_one(play, 1, tasks, 0, width > 1 ? DRAY__PATTERN__FAN_IN : DRAY__PATTERN__ONE_TO_ONE,
              width > 1 ? width : 0, tasks * width);

    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range.range = {1, 1, 0, tasks}},
        {.type = AGENT_LOCATION, .u.range = {{1, 0, 0, tasks * width}, 7, false, 0}},
    };
    assert_int_equal(agent_step(play->agent, events, 2, &play->actions, NULL), 0);
    agent_check(play->agent);
}

static void test_memory_comes_back(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 3);
    assign_remote(&play, 6, 1);
    assert_int_equal(counts(&play).fetching, 3);
    fetched(&play, AGENT_FETCHED, 0, 0);
    assert_true(said(&play, "run j1:t1.0"));
    assert_true(said(&play, "fetch j1:t0.3 from w7"));
    no_memory(&play, 0, 1);
    no_memory(&play, 0, 2);
    no_memory(&play, 0, 3);
    assert_int_equal(play.actions.count, 0);
    assert_int_equal(counts(&play).queued, 5);
    // A task is over, and what it needed goes: one fetch tries whether that is enough.
    outcome(&play, AGENT_TASKS_DONE, 1, 0, 1, 1);
    assert_true(said(&play, "free j1:t0.0"));
    assert_true(said(&play, "fetch j1:t0.1 from w7"));
    assert_int_equal(counts(&play).fetching, 1);
    fetched(&play, AGENT_FETCHED, 0, 1);
    assert_true(said(&play, "run j1:t1.1"));
    assert_int_equal(counts(&play).fetching, 2);
    fetched(&play, AGENT_FETCHED, 0, 2);
    assert_int_equal(counts(&play).fetching, 3);
    // Without news it is tried again after a while.
    no_memory(&play, 0, 3);
    no_memory(&play, 0, 4);
    no_memory(&play, 0, 5);
    for (int tick = 1; tick < 4; tick++) {
        assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
        assert_int_equal(counts(&play).fetching, 0);
    }
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
    assert_int_equal(counts(&play).fetching, 1);
    end(&play);
}

// Two tasks with half of their inputs each, and nothing runs.
static void test_copies_make_room(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    assign_remote(&play, 2, 2);
    fetched(&play, AGENT_FETCHED, 0, 0);
    fetched(&play, AGENT_FETCHED, 0, 2);
    no_memory(&play, 0, 3);
    assert_int_equal(play.actions.count, 0);
    no_memory(&play, 0, 1);
    assert_true(said(&play, "free j1:t0.2"));
    assert_true(said(&play, "fetch j1:t0.1 from w7"));
    assert_int_equal(play.actions.count, 2);
    fetched(&play, AGENT_FETCHED, 0, 1);
    assert_true(said(&play, "run j1:t1.0"));
    // The other one's turn.
    assert_true(said(&play, "fetch j1:t0.2 from w7"));
    assert_true(said(&play, "fetch j1:t0.3 from w7"));
    end(&play);
}

static void test_no_room_for_one_task(void **state)
{
    struct play play;
    int ticks = 0, fetches = 0;

    (void)state;
    begin(&play, 1, 4);
    assign_remote(&play, 1, 2);
    fetched(&play, AGENT_FETCHED, 0, 0);
    no_memory(&play, 0, 1);
    while (!said(&play, "report failed j1:t1.0: no room")) {
        assert_in_range(++ticks, 1, 200);
        assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
        if (said(&play, "fetch j1:t0.1 from w7")) {
            fetches++;
            no_memory(&play, 0, 1);
        }
    }
    assert_int_equal(ticks, 100);
    assert_int_equal(fetches, 25);
    assert_int_equal(counts(&play).partitions + counts(&play).queued + counts(&play).fetching, 0);
    end(&play);
}

static void test_missing_input_is_reported(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__FAN_IN, 2, 4);
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 0, 1), 0);
    assert_true(said(&play, "report failed j1:t1.0, no j1:t0.0 at w0"));
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range.range = {1, 1, 1, 1}},
        {.type = AGENT_LOCATION, .u.range = {{1, 0, 2, 2}, 7, false, 0}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    fetched(&play, AGENT_FETCH_FAILED, 0, 3);
    assert_true(said(&play, "report failed j1:t1.1, no j1:t0.3 at w7"));
    // What comes for nobody goes at once.
    fetched(&play, AGENT_FETCHED, 0, 2);
    assert_true(said(&play, "free j1:t0.2"));
    assert_int_equal(counts(&play).partitions, 0);
    end(&play);
}

// What was made here and is damaged is told as gone, and the tasks that wait for it go back; a copy comes
// again.
static void test_damaged_partitions(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 4, 0, 0, 0, 0);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__FAN_IN, 2, 4);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 2), 0);
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    outcome(&play, AGENT_TASKS_DONE, 0, 1, 1, 2);
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 0, 1), 0);
    assert_true(said(&play, "run j1:t1.0"));
    assert_int_equal(range(&play, AGENT_LOST, 0, 1, 1), 0);
    assert_true(said(&play, "report gone j1:t0.1"));
    outcome(&play, AGENT_TASKS_SKIPPED, 1, 0, 1, 3);
    assert_true(said(&play, "report failed j1:t1.0, no j1:t0.1 at w0"));
    assert_int_equal(counts(&play).partitions, 1);
    // A copy.
    struct agent_event events[] = {
        {.type = AGENT_LOCATION, .u.range = {{1, 0, 2, 2}, 7, false, 0}},
        {.type = AGENT_ASSIGN, .u.range.range = {1, 1, 1, 1}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    fetched(&play, AGENT_FETCHED, 0, 2);
    assert_int_equal(range(&play, AGENT_LOST, 0, 2, 1), 0);
    assert_true(said(&play, "fetch j1:t0.2 from w7"));
    assert_false(said(&play, "report gone j1:t0.2"));
    fetched(&play, AGENT_FETCHED, 0, 3);
    fetched(&play, AGENT_FETCHED, 0, 2);
    assert_true(said(&play, "run j1:t1.1"));
    outcome(&play, AGENT_TASKS_DONE, 1, 1, 1, 4);
    // Damaged before its making was heard of.
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 3, 1), 0);
    assert_int_equal(range(&play, AGENT_LOST, 0, 3, 1), 0);
    outcome(&play, AGENT_TASKS_DONE, 0, 3, 1, 5);
    assert_true(said(&play, "report done j1:t0.3"));
    assert_true(said(&play, "report gone j1:t0.3"));
    end(&play);
}

static void test_whole_inputs_stay(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__BROADCAST, 0, 1);
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range.range = {1, 1, 0, 1}},
        {.type = AGENT_LOCATION, .u.range = {{1, 0, 0, 1}, 7, false, 0}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    fetched(&play, AGENT_FETCHED, 0, 0);
    outcome(&play, AGENT_TASKS_DONE, 1, 0, 1, 1);
    assert_int_equal(counts(&play).partitions, 2);
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 1, 1), 0);
    assert_true(said(&play, "run j1:t1.1"));
    outcome(&play, AGENT_TASKS_DONE, 1, 1, 1, 2);
    range(&play, AGENT_RELEASE, 0, 0, 1);
    assert_true(said(&play, "free j1:t0.0"));
    assert_int_equal(counts(&play).partitions, 2);
    end(&play);
}

// An input of another job: fetched, reported with its job when it cannot be had, and gone with its readers.
static void test_inputs_of_other_jobs(void **state)
{
    struct play play;
    struct agent_event event = {.type = AGENT_LAYER};
    Dray__Input input = DRAY__INPUT__INIT;
    Dray__Input *inputs = &input;
    uint32_t tasks = 3;

    (void)state;
    begin(&play, 1, 4);
    input.layer = 5;
    input.pattern = DRAY__PATTERN__ALL;
    input.has_job = input.has_job_tasks = true;
    input.job = 9;
    input.job_tasks = 3;
    event.u.layer.job = 1;
    event.u.layer.tasks = 2;
    event.u.layer.inputs = 1;
    event.u.layer.input = &inputs;
    event.u.layer.input_tasks = &tasks;
    assert_int_equal(step(&play, event), 0);
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range.range = {1, 0, 0, 1}},
        {.type = AGENT_LOCATION, .u.range = {{9, 5, 0, 2}, 7, false, 0}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    assert_true(said(&play, "report failed j1:t0.0, no j9:t5.2 at w0"));
    events[1].u.range.range.count = 3;
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    assert_true(said(&play, "fetch j9:t5.0 from w7"));
    for (uint32_t i = 0; i < 3; i++) {
        struct agent_event got = {.type = AGENT_FETCHED, .u.task.key = {9, 5, i}};

        assert_int_equal(step(&play, got), 0);
    }
    assert_true(said(&play, "run j1:t0.0"));
    assert_int_equal(counts(&play).partitions, 3);
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    range(&play, AGENT_FORGET_JOB, 0, 0, 0);
    assert_true(said(&play, "free j9:t5.0-2"));
    end(&play);
}

static void test_drop_and_kill(void **state)
{
    struct play play;
    struct agent_event kill = {.type = AGENT_DROP, .u.range = {{1, 0, 0, 4}, 0, true, 0}};

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 4, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 4), 0);
    assert_int_equal(range(&play, AGENT_DROP, 0, 0, 3), 0);
    assert_true(said(&play, "give back j1:t0.1-2"));
    assert_true(said(&play, "withdraw j1:t0.0"));
    assert_int_equal(play.actions.count, 2);
    assert_int_equal(step(&play, kill), 0);
    assert_true(said(&play, "stop j1:t0.0"));
    assert_true(said(&play, "give back j1:t0.3"));
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assert_true(said(&play, "free j1:t0.0"));
    assert_int_equal(counts(&play).partitions, 0);
    // Stopped, asked for again, and failed because it was stopped: it runs again.
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 1, 1), 0);
    assert_int_equal(step(&play, kill), 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 1, 1), 0);
    outcome(&play, AGENT_TASK_FAILED, 0, 1, 1, 2);
    assert_true(said(&play, "run j1:t0.1"));
    end(&play);
}

// What a bundle has not begun can be had back; what it has goes on.
static void test_drop_from_a_bundle(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    play.instant = true;
    layer_one(&play, 0, 100, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 100), 0);
    assert_int_equal(range(&play, AGENT_DROP, 0, 50, 50), 0);
    assert_true(said(&play, "withdraw j1:t0.50-99"));
    outcome(&play, AGENT_TASKS_SKIPPED, 0, 60, 40, 0);
    assert_true(said(&play, "give back j1:t0.60-99"));
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 60, 1);
    assert_true(said(&play, "report done j1:t0.0-59"));
    assert_int_equal(counts(&play).queued + counts(&play).running, 0);
    end(&play);
}

static void test_leaving(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 8, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 4), 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_LEAVING}), 0);
    assert_true(said(&play, "give back j1:t0.1-3"));
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 4, 2), 0);
    assert_true(said(&play, "give back j1:t0.4-5"));
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assert_true(said(&play, "report done j1:t0.0"));
    assert_int_equal(counts(&play).queued + counts(&play).running, 0);
    end(&play);
}

static void test_forget_while_busy(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 1, 0, 0, 0, 0);
    layer_one(&play, 2, 4, 0, 0, 0, 0);
    layer_one(&play, 3, 2, 2, DRAY__PATTERN__FAN_IN, 2, 4);
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range.range = {1, 0, 0, 1}},
        {.type = AGENT_ASSIGN, .u.range.range = {1, 3, 1, 1}},
        {.type = AGENT_LOCATION, .u.range = {{1, 2, 2, 2}, 7, false, 0}},
    };
    assert_int_equal(agent_step(play.agent, events, 3, &play.actions, NULL), 0);
    range(&play, AGENT_FORGET_JOB, 0, 0, 0);
    assert_true(said(&play, "stop j1:t0.0"));
    assert_int_equal(counts(&play).fetching, 2);
    fetched(&play, AGENT_FETCHED, 2, 2);
    assert_true(said(&play, "free j1:t2.2"));
    fetched(&play, AGENT_FETCH_FAILED, 2, 3);
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assert_true(said(&play, "free j1:t0.0"));
    assert_int_equal(counts(&play).fetching, 0);
    assert_int_equal(counts(&play).running, 0);
    end(&play);
}

static void test_impossible_requests(void **state)
{
    struct play play;
    struct agent_event event = {.type = AGENT_LAYER};
    Dray__Input input = DRAY__INPUT__INIT;
    Dray__Input *inputs = &input;
    uint32_t tasks = 5;

    (void)state;
    begin(&play, 1, 4);
    assert_int_equal(range(&play, AGENT_ASSIGN, 3, 0, 1), -EPROTO);
    layer_one(&play, 3, 4, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 3, 2, 3), -EPROTO);
    assert_int_equal(range(&play, AGENT_ASSIGN, 3, 4, UINT32_MAX), -EPROTO);
    event.u.layer.job = 1;
    event.u.layer.layer = 4;
    assert_int_equal(step(&play, event), -EPROTO);
    event.u.layer.tasks = 5;
    event.u.layer.inputs = 1;
    event.u.layer.input = &inputs;
    event.u.layer.input_tasks = &tasks;
    input.layer = 3;
    input.pattern = DRAY__PATTERN__ONE_TO_ONE;
    assert_int_equal(step(&play, event), -EPROTO); // layer 3 has 4
    input.layer = 4;
    assert_int_equal(step(&play, event), -EPROTO); // of its own, but not LAG
    range(&play, AGENT_RELEASE, 9, 0, UINT32_MAX);
    range(&play, AGENT_DROP, 9, 0, UINT32_MAX);
    range(&play, AGENT_RELEASE, 3, UINT32_MAX, UINT32_MAX);
    end(&play);
}

struct number {
    struct hash_node node;
    uint64_t value;
};

// The table under both cores against a plain array.
static void test_hash(void **state)
{
    enum { COUNT = 3000, VALUES = 500 };
    struct number *number = calloc(COUNT, sizeof(*number));
    uint64_t seed = 7;
    size_t inside = 0;
    struct hash hash;

    (void)state;
    assert_non_null(number);
    hash_init(&hash);
    for (int k = 0; k < 20000; k++) {
        struct number *n = &number[(seed = hash_mix(seed + 1)) % COUNT];

        if (n->value != 0) {
            hash_remove(&hash, &n->node);
            n->value = 0;
            inside--;
        } else {
            n->value = 1 + seed / COUNT % VALUES;
            hash_add(&hash, &n->node, n->value);
            inside++;
        }
    }
    assert_int_equal(hash.count, inside);
    for (uint64_t value = 1; value <= VALUES; value++) {
        size_t expected = 0;
        size_t found = 0;

        for (int n = 0; n < COUNT; n++) {
            expected += number[n].value == value ? 1 : 0;
        }
        for (struct hash_node *node = hash_first(&hash, value); node != NULL; node = hash_next(node)) {
            assert_int_equal(hash_entry(node, struct number, node)->value, value);
            found++;
        }
        assert_int_equal(found, expected);
    }
    for (struct hash_node *node; (node = hash_any(&hash)) != NULL;) {
        hash_remove(&hash, node);
        inside--;
    }
    assert_int_equal(inside, 0);
    hash_fini(&hash);
    free(number);
}

// To tear a large one down costs no look at all its buckets for each node; what is added meanwhile is found.
static void test_hash_is_torn_down(void **state)
{
    enum { COUNT = 300000, AGAIN = 1000, US = 3000000 };
    struct number *number = calloc(COUNT + AGAIN, sizeof(*number));
    size_t added = 0, taken = 0;
    struct hash_node *node;
    struct hash hash;
    uint64_t begun_us;

    (void)state;
    assert_non_null(number);
    hash_init(&hash);
    assert_null(hash_any(&hash));
    while (added < COUNT) {
        hash_add(&hash, &number[added].node, hash_mix(added));
        added++;
    }
    begun_us = cpu_us();
    while ((node = hash_any(&hash)) != NULL) {
        hash_remove(&hash, node);
        taken++;
        if (added < COUNT + AGAIN && taken % 7 == 0) {
            hash_add(&hash, &number[added].node, hash_mix(added));
            added++;
        }
    }
    assert_int_equal(taken, COUNT + AGAIN);
    assert_true(cpu_us() - begun_us < CPU_SLOW * US);
    hash_fini(&hash);
    free(number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_in_order_on_free_threads),
        cmocka_unit_test(test_no_more_is_taken_than_there_is),
        cmocka_unit_test(test_bundles_grow_with_what_is_learnt),
        cmocka_unit_test(test_all_threads_get_some),
        cmocka_unit_test(test_chain_is_one_bundle),
        cmocka_unit_test(test_stencil_in_a_bundle),
        cmocka_unit_test(test_long_bundle_is_cut),
        cmocka_unit_test(test_given_back_with_its_maker),
        cmocka_unit_test(test_fetches_and_frees_copies),
        cmocka_unit_test(test_memory_comes_back),
        cmocka_unit_test(test_copies_make_room),
        cmocka_unit_test(test_no_room_for_one_task),
        cmocka_unit_test(test_missing_input_is_reported),
        cmocka_unit_test(test_damaged_partitions),
        cmocka_unit_test(test_whole_inputs_stay),
        cmocka_unit_test(test_inputs_of_other_jobs),
        cmocka_unit_test(test_drop_and_kill),
        cmocka_unit_test(test_drop_from_a_bundle),
        cmocka_unit_test(test_leaving),
        cmocka_unit_test(test_forget_while_busy),
        cmocka_unit_test(test_impossible_requests),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_hash_is_torn_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
