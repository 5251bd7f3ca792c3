// A scheduler that is made anew from what was recorded: its jobs, the workers that come back with what they
// hold, clients that come back too.
#include "broker/core/recovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/sched_play.h"

enum { RECOVER_US = 5000, ORPHAN_US = 1000 };

static void begin(struct play *play)
{
    struct sched_options options;

    sched_options_default(&options);
    options.queue_depth = 2;
    options.records = true;
    options.orphan_us = ORPHAN_US;
    options.recover_us = RECOVER_US;
    play_begin_with(play, &options);
}

static void expect(struct play *play, uint64_t incarnation, const char *name)
{
    struct sched_event event = event_of(play, EVENT_EXPECT);

    event.u.expect.incarnation = incarnation;
    event.u.expect.name = name;
    assert_int_equal(step(play, &event), 0);
}

static void restore_submit(struct play *play, struct build *build, uint32_t number, bool detached)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.number = number;
    event.u.submit.key_lo = number;
    event.u.submit.detached = detached;
    event.u.submit.graph = build_graph(build);
    assert_int_equal(step(play, &event), 0);
}

static void restore_tasks(struct play *play, enum restore_state over, struct task_range range)
{
    struct sched_event event = event_of(play, EVENT_RESTORE_TASKS);

    event.u.restore.over = over;
    event.u.restore.range = range;
    if (over == RESTORE_FAILED) {
        event.u.restore.code = EINVAL;
        event.u.restore.text = "no such column";
        event.u.restore.worker_name = "ant";
    }
    assert_int_equal(step(play, &event), 0);
}

static void restore_job(struct play *play, uint32_t job, enum job_state state, bool given_up)
{
    struct sched_event event = event_of(play, EVENT_RESTORE_JOB);

    event.u.restore.range.job = job;
    event.u.restore.state = state;
    event.u.restore.given_up = given_up;
    event.u.restore.layer_at = event.u.restore.index_at = UINT32_MAX;
    event.u.restore.submitted_us = 5;
    if (state == JOB_FAILED) {
        event.u.restore.code = EINVAL;
        event.u.restore.text = "no such column";
        event.u.restore.layer_at = 0;
        event.u.restore.index_at = 3;
        event.u.restore.worker_name = "ant";
    }
    assert_int_equal(step(play, &event), 0);
    assert_null(find(play, ACTION_RECORD, 0));
}

static void come_back(struct play *play, uint32_t worker, uint64_t incarnation)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);

    event.u.joined.worker = worker;
    event.u.joined.threads = 1;
    event.u.joined.shared_files = true;
    event.u.joined.name = "one";
    event.u.joined.incarnation = incarnation;
    assert_int_equal(step(play, &event), 0);
}

// All that it holds, and what it is still to do.
static void say_all(struct play *play, uint32_t worker, const struct task_range *add, size_t adds,
                    const struct task_range *has, size_t hases)
{
    struct sched_event event = event_of(play, EVENT_HOLDING);
    uint64_t bytes[64] = {0};

    event.u.holding.worker = worker;
    event.u.holding.full = true;
    event.u.holding.add = add;
    event.u.holding.adds = adds;
    event.u.holding.bytes = bytes;
    event.u.holding.has = has;
    event.u.holding.hases = hases;
    assert_int_equal(step(play, &event), 0);
}

static void attach(struct play *play, uint32_t job)
{
    struct sched_event event = event_of(play, EVENT_ATTACH);

    event.u.attach.client = CLIENT;
    event.u.attach.job = job;
    assert_int_equal(step(play, &event), 0);
}

static void free_job(struct play *play, uint32_t job)
{
    struct sched_event event = event_of(play, EVENT_FREE);

    event.u.job.client = CLIENT;
    event.u.job.job = job;
    assert_int_equal(step(play, &event), 0);
}

static const char *waiting(struct play *play, uint32_t job)
{
    static struct sched_job info;

    assert_int_equal(sched_job_info(play->sched, job, &info), 0);
    return info.waiting;
}

static void test_nothing_is_placed_before_they_are_back(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {3, 0, 0, 4};

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "ant");
    expect(&play, 12, "bee");
    restore_submit(&play, &build, 3, false);
    attach(&play, 3);
    assert_string_equal(waiting(&play, 3), "worker ant and 1 more are expected back, for at most 1 s more");
    come_back(&play, 1, 99); // a new one: is not waited for
    say_all(&play, 1, NULL, 0, NULL, 0);
    come_back(&play, 2, 11);
    assert_null(find(&play, ACTION_RUN, 1));
    say_all(&play, 2, &held, 1, NULL, 0);
    assert_true(said(&play, "c1000: result j3:t0.0-3 at w2"));
    assert_null(find(&play, ACTION_RUN, 1));
    assert_string_equal(waiting(&play, 3), "worker bee is expected back, for at most 1 s more");
    come_back(&play, 3, 12);
    assert_null(find(&play, ACTION_RUN, 1));
    say_all(&play, 3, NULL, 0, NULL, 0);
    assert_int_equal(counts(&play).tasks_assigned, 2);
    assert_int_equal(counts(&play).recomputed, 0);
    free_job(&play, 3);
    build_fini(&build);
    play_end(&play);
}

static void test_waiting_has_an_end(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, true);
    come_back(&play, 1, 12);
    later(&play, RECOVER_US - 10);
    assert_null(find(&play, ACTION_RUN, 1));
    later(&play, 10);
    assert_non_null(find(&play, ACTION_RUN, 1));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

static unsigned gone_workers(const struct play *play, uint64_t *last)
{
    unsigned count = 0;

    for (size_t k = 0; k < play->actions.count; k++) {
        const struct sched_action *action = &play->actions.action[k];

        if (action->type == ACTION_RECORD && action->record == RECORD_WORKER_GONE) {
            *last = action->key_lo;
            count++;
        }
    }
    return count;
}

// Its process was started anew: the one before does not come back.
static void test_worker_of_the_same_name(void **state)
{
    struct play play;
    struct build build;
    uint64_t gone = 0;

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "one");
    expect(&play, 12, "one");
    expect(&play, 13, "two");
    restore_submit(&play, &build, 1, true);
    come_back(&play, 1, 12); // one of them itself
    assert_string_equal(waiting(&play, 1), "worker one and 2 more are expected back, for at most 1 s more");
    say_all(&play, 1, NULL, 0, NULL, 0);
    assert_string_equal(waiting(&play, 1), "worker one and 1 more are expected back, for at most 1 s more");
    come_back(&play, 2, 20);
    assert_int_equal(gone_workers(&play, &gone), 1);
    assert_int_equal(gone, 11);
    assert_string_equal(waiting(&play, 1), "worker two is expected back, for at most 1 s more");
    come_back(&play, 3, 13);
    say_all(&play, 3, NULL, 0, NULL, 0);
    assert_int_equal(counts(&play).tasks_assigned, 6);
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

// Its process has ended, as the broker sees: no need to wait any longer.
static void test_who_has_ended_is_not_waited_for(void **state)
{
    struct sched_event event;
    struct play play;
    struct build build;
    uint64_t gone = 0;

    (void)state;
    begin(&play);
    flat(&build, 6);
    expect(&play, 11, "ant");
    expect(&play, 12, "bee");
    restore_submit(&play, &build, 1, true);
    come_back(&play, 1, 12);
    say_all(&play, 1, NULL, 0, NULL, 0);
    assert_null(find(&play, ACTION_RUN, 1));
    event = event_of(&play, EVENT_EXPECT);
    event.u.expect.gone = true;
    event.u.expect.incarnation = 13; // nobody that is waited for
    assert_int_equal(step(&play, &event), 0);
    event.u.expect.incarnation = 12; // it is here
    assert_int_equal(step(&play, &event), 0);
    assert_int_equal(gone_workers(&play, &gone), 0);
    assert_null(find(&play, ACTION_RUN, 1));
    event.u.expect.incarnation = 11;
    assert_int_equal(step(&play, &event), 0);
    assert_int_equal(gone_workers(&play, &gone), 1);
    assert_int_equal(gone, 11);
    assert_non_null(find(&play, ACTION_RUN, 1));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

// Who does not come is not waited for again with each restart; who has come is, though he has not said all.
static void test_who_does_not_come_is_not_waited_for_again(void **state)
{
    struct play play;
    uint64_t gone = 0;

    (void)state;
    begin(&play);
    expect(&play, 11, "ant");
    expect(&play, 12, "bee");
    expect(&play, 13, "cicada");
    come_back(&play, 1, 11);
    say_all(&play, 1, NULL, 0, NULL, 0);
    come_back(&play, 2, 13);
    later(&play, RECOVER_US - 20);
    assert_int_equal(gone_workers(&play, &gone), 0);
    later(&play, 20);
    assert_int_equal(gone_workers(&play, &gone), 1);
    assert_int_equal(gone, 12);
    play_end(&play);
}

static void test_tasks_that_a_worker_still_has(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 1};
    struct task_range has[] = {{1, 0, 1, 2}, {1, 1, 1, 1}, {1, 0, 0, 1}, {2, 0, 0, 4}};

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    attach(&play, 1);
    come_back(&play, 1, 10);
    say_all(&play, 1, &held, 1, NULL, 0);
    come_back(&play, 2, 11);
    say_all(&play, 2, NULL, 0, has, 4);
    assert_true(said(&play, "w2: stop j1:t0.0")); // the other one has made it
    assert_true(said(&play, "w2: forget j2"));    // which is not there any more
    assert_null(find(&play, ACTION_RUN, 2));      // it has enough to do
    assert_true(said(&play, "w1: run j1:t0.3") || said(&play, "w1: run j1:t1.0"));
    assert_true(counts(&play).tasks_assigned >= 4);
    done(&play, 2, 1, 0, 1, 2);
    done(&play, 2, 1, 1, 1, 1);
    assert_true(said(&play, "c1000: result j1:t1.1 at w2"));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

// What it was to get from another one does not come, as that one is gone.
static void test_task_that_comes_to_nothing_is_given_back(void **state)
{
    struct play play;
    struct build build;
    struct task_range has = {1, 1, 0, 1};
    struct sched_event event;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 1);
    build_input(&build, build_layer(&build, 1), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    attach(&play, 1);
    come_back(&play, 1, 11);
    say_all(&play, 1, NULL, 0, &has, 1);
    assert_true(said(&play, "w1: run j1:t0.0"));
    event = event_of(&play, EVENT_TASKS_DROPPED);
    event.u.dropped.worker = 1;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &has;
    assert_int_equal(step(&play, &event), 0);
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

static void test_what_was_over_is_not_run_again(void **state)
{
    struct play play;
    struct build build;
    struct sched_job info;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    restore_submit(&play, &build, 1, false);
    restore_tasks(&play, RESTORE_OVER, (struct task_range){1, 1, 0, 3});
    assert_null(find(&play, ACTION_RECORD, 0));
    attach(&play, 1);
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.done, 6); // with what they had read
    join(&play, 1, 1, true);
    assert_true(said(&play, "w1: run j1:t0.3"));
    assert_int_equal(counts(&play).tasks_assigned, 1);
    done(&play, 1, 1, 0, 3, 1);
    done(&play, 1, 1, 1, 3, 1);
    assert_true(said(&play, "c1000: result j1:t1.3 at w1"));
    assert_true(said(&play, "c1000: j1 is done"));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

// What is held was made of what had been made then: that was done, and counts once when it is needed again.
static void test_what_was_read_had_been_done(void **state)
{
    const struct task_range held[] = {{1, 1, 0, 4}, {1, 2, 0, 1}};
    struct sched_layer layer;
    struct sched_job info;
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_input(&build, build_layer(&build, 1), 0, DRAY__PATTERN__ALL, 0);
    build_wanted(&build, 1);
    build_wanted(&build, 2);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, true);
    restore_job(&play, 1, JOB_DONE, false);
    attach(&play, 1);
    come_back(&play, 1, 11);
    say_all(&play, 1, held, 2, NULL, 0);
    assert_int_equal(sched_layer_info(play.sched, 1, 0, &layer), 0);
    assert_int_equal(layer.in[TASK_IDLE], 0);
    assert_int_equal(layer.in[TASK_RELEASED], 4);
    assert_int_equal(counts(&play).recomputed, 0);
    leave(&play, 1);
    join(&play, 2, 4, true);
    assert_int_equal(counts(&play).tasks_assigned, 4);
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.tasks, 9);
    done(&play, 2, 1, 0, 0, 4);
    assert_int_equal(counts(&play).recomputed, 4);
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

static void test_what_had_failed_stays_failed(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct sched_job info;

    (void)state;
    begin(&play);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, build_layer(&build, 4), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.failures_max = 1;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    restore_tasks(&play, RESTORE_FAILED, (struct task_range){1, 0, 1, 1});
    assert_null(find(&play, ACTION_RECORD, 0));
    attach(&play, 1);
    assert_true(
        said(&play, "c1000: no result j1:t1.1: not run, because task 1 of layer 0 failed: no such column"));
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.failures, 1);
    assert_string_equal(info.failure[0].worker_name, "ant");
    // One more than may: its end had not been recorded.
    restore_tasks(&play, RESTORE_FAILED, (struct task_range){1, 0, 2, 1});
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    assert_non_null(find(&play, ACTION_RECORD, 0));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

static void test_jobs_that_had_ended(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 2};
    struct sched_job info;

    (void)state;
    begin(&play);
    flat(&build, 4);
    restore_submit(&play, &build, 1, true);
    restore_submit(&play, &build, 2, true);
    restore_job(&play, 1, JOB_DONE, false);
    restore_job(&play, 2, JOB_FAILED, false);
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.submitted_us, 5);
    assert_int_equal(info.done, 4); // whatever of it is still there
    come_back(&play, 1, 11);
    say_all(&play, 1, &held, 1, NULL, 0);
    // What is missing of it is made when somebody asks.
    assert_int_equal(counts(&play).partitions, 2);
    assert_int_equal(counts(&play).tasks_assigned, 0);
    attach(&play, 2);
    assert_true(said(&play, "c1000: j2 is failed: no such column (t0.3 at ant)"));
    attach(&play, 1);
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w1"));
    assert_true(said(&play, "w1: run j1:t0.2-3"));
    assert_false(said(&play, "c1000: j1 is done"));
    done(&play, 1, 1, 0, 2, 2);
    assert_true(said(&play, "c1000: j1 is done"));
    free_job(&play, 1);
    free_job(&play, 2);
    build_fini(&build);
    play_end(&play);
}

static void reading(struct build *build, uint32_t job)
{
    build_init(build);
    build_layer(build, 2);
    build_input(build, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build->layer[0]->input[0]->has_job = build->layer[0]->input[0]->has_job_tasks = true;
    build->layer[0]->input[0]->job_tasks = 2;
    build->layer[0]->input[0]->job = job;
    build_wanted(build, 0);
}

// It had failed, but what it had made by then another job needs.
static void test_ended_job_is_there_for_others(void **state)
{
    struct play play;
    struct build build, other;
    struct task_range held = {1, 0, 0, 2};

    (void)state;
    begin(&play);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 2));
    build_wanted(&build, build_layer(&build, 5));
    reading(&other, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    restore_submit(&play, &other, 2, false);
    restore_job(&play, 1, JOB_FAILED, true);
    attach(&play, 2);
    come_back(&play, 1, 11);
    say_all(&play, 1, &held, 1, NULL, 0);
    assert_true(said(&play, "w1: run j2:t0.0-1"));
    done(&play, 1, 2, 0, 0, 2);
    assert_true(said(&play, "c1000: j2 is done"));
    free_job(&play, 2);
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&other);
    build_fini(&build);
    play_end(&play);
}

// Nor can it be made anew, when that is lost.
static void test_ended_job_that_others_need_fails_them(void **state)
{
    struct play play;
    struct build build, other;

    (void)state;
    begin(&play);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 2));
    reading(&other, 1);
    expect(&play, 11, "ant");
    restore_submit(&play, &build, 1, false);
    restore_submit(&play, &other, 2, false);
    restore_job(&play, 1, JOB_FAILED, false);
    attach(&play, 2);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    later(&play, RECOVER_US);
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    free_job(&play, 2);
    later(&play, RECOVER_US);
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&other);
    build_fini(&build);
    play_end(&play);
}

// A job that had ended and read one that was forgotten after it.
static void test_ended_job_without_what_it_read(void **state)
{
    struct play play;
    struct build other;

    (void)state;
    begin(&play);
    reading(&other, 1);
    restore_submit(&play, &other, 2, true);
    restore_job(&play, 2, JOB_FAILED, false);
    attach(&play, 2);
    assert_true(said(&play, "c1000: j2 is failed: no such column (t0.3 at ant)"));
    free_job(&play, 2);
    build_fini(&other);
    play_end(&play);
}

static void test_orphans_have_as_long_as_workers(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 4);
    restore_submit(&play, &build, 1, false);
    later(&play, RECOVER_US - 1);
    assert_int_equal(counts(&play).jobs, 1);
    later(&play, 1);
    assert_int_equal(counts(&play).jobs, 0);
    assert_true(said(&play, "record: j1 is forgotten"));
    build_fini(&build);
    play_end(&play);
}

static void extend(struct play *play, uint32_t client, const Dray__Graph *graph, uint32_t first, bool last)
{
    struct sched_event event = event_of(play, EVENT_EXTEND);

    event.u.extend.client = client;
    event.u.extend.job = 1;
    event.u.extend.first_layer = first;
    event.u.extend.graph = graph;
    event.u.extend.last = last;
    assert_int_equal(step(play, &event), 0);
}

static Dray__Graph slice(struct build *build, uint32_t first, uint32_t count)
{
    Dray__Graph graph = DRAY__GRAPH__INIT;

    graph.n_layer = count;
    graph.layer = build->layer + first;
    return graph;
}

// A client does not know which of its layers have come.
static void test_layers_that_are_sent_again(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    Dray__Graph first, more, all;
    struct sched_job info;

    (void)state;
    begin(&play);
    build_init(&build);
    for (uint32_t l = 0; l < 4; l++) {
        build_wanted(&build, build_layer(&build, 1));
    }
    first = slice(&build, 0, 1);
    more = slice(&build, 1, 1);
    all = slice(&build, 1, 3);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.open = true;
    event.u.submit.graph = &first;
    assert_int_equal(step(&play, &event), 0);
    extend(&play, 0, &more, 1, false);
    attach(&play, 1);
    extend(&play, CLIENT, &more, 1, false); // was there
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.layers, 2);
    extend(&play, CLIENT, &all, 1, true); // one of three was
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_int_equal(info.layers, 4);
    extend(&play, CLIENT, &all, 1, true); // has got its last one
    assert_null(find(&play, ACTION_REJECTED, CLIENT));
    assert_null(find(&play, ACTION_REJECTED, CLIENT));
    join(&play, 1, 4, true);
    for (uint32_t l = 0; l < 4; l++) {
        done(&play, 1, 1, l, 0, 1);
    }
    assert_true(said(&play, "c1000: j1 is done"));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

static void test_layers_of_another_client(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    Dray__Graph first, more, other;

    (void)state;
    begin(&play);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 1));
    build_wanted(&build, build_layer(&build, 1));
    build_wanted(&build, build_layer(&build, 2));
    first = slice(&build, 0, 1);
    more = slice(&build, 1, 1);
    other = slice(&build, 2, 1);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.open = true;
    event.u.submit.graph = &first;
    assert_int_equal(step(&play, &event), 0);
    attach(&play, 1);
    extend(&play, CLIENT, &more, 1, false);
    extend(&play, CLIENT, &other, 1, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "another client"));
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

static void test_job_that_was_detached(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 4);
    restore_submit(&play, &build, 1, false);
    event = event_of(&play, EVENT_ATTACH);
    event.u.attach.job = 1;
    event.u.attach.detach = true;
    assert_int_equal(step(&play, &event), 0);
    later(&play, 2 * RECOVER_US);
    assert_int_equal(counts(&play).jobs, 1);
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

// What it was done with is not there.
static void test_done_without_its_last_layers(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 4);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.number = 1;
    event.u.submit.open = true;
    event.u.submit.graph = build_graph(&build);
    assert_int_equal(step(&play, &event), 0);
    event = event_of(&play, EVENT_RESTORE_JOB);
    event.u.restore.range.job = 1;
    event.u.restore.state = JOB_DONE;
    assert_int_equal(step(&play, &event), 0);
    attach(&play, 1);
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->code, EIO);
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

// Kept and given back before: its client was there then, and may come back.
static void test_names_that_were_given_back(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 4);
    restore_submit(&play, &build, 1, false);
    for (int keep = 1; keep >= 0; keep--) {
        struct sched_event event = event_of(&play, EVENT_KEEP);

        event.u.attach.job = 1;
        event.u.attach.keep = keep == 1;
        assert_int_equal(step(&play, &event), 0);
    }
    assert_int_equal(counts(&play).jobs, 1);
    attach(&play, 1);
    later(&play, 2 * RECOVER_US);
    assert_int_equal(counts(&play).jobs, 1);
    free_job(&play, 1);
    attach(&play, 1);
    assert_true(said(&play, "c1000: rejected: there is no job 1 (it may have ended and been forgotten)"));
    build_fini(&build);
    play_end(&play);
}

// A result of it was lost, and could not be made again: it has two ends, of which the last one counts.
static void test_job_that_failed_after_it_was_done(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play);
    flat(&build, 4);
    restore_submit(&play, &build, 1, true);
    restore_job(&play, 1, JOB_DONE, false);
    restore_job(&play, 1, JOB_FAILED, false);
    attach(&play, 1);
    assert_true(said(&play, "c1000: j1 is failed: no such column (t0.3 at ant)"));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

// A link was cut and is healed: what was done meanwhile counts, whoever was given it since.
static void test_done_while_it_was_away(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 2};

    (void)state;
    begin(&play);
    flat(&build, 3);
    join(&play, 1, 1, true);
    submit(&play, &build);
    leave(&play, 1);
    join(&play, 2, 1, true);
    assert_true(said(&play, "w2: run j1:t0.0-2"));
    come_back(&play, 3, 11);
    say_all(&play, 3, &held, 1, NULL, 0);
    assert_true(said(&play, "w2: stop j1:t0.0-1"));
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w3"));
    done(&play, 2, 1, 0, 0, 1); // too late to stop
    assert_true(said(&play, "w2: release j1:t0.0"));
    assert_int_equal(counts(&play).partitions, 2);
    done(&play, 2, 1, 0, 2, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

static void test_owner_that_leaves_hands_over(void **state)
{
    struct play play;
    struct build build;
    struct task_range held = {1, 0, 0, 4};
    struct sched_event event;

    (void)state;
    begin(&play);
    flat(&build, 4);
    join(&play, 1, 4, true);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 4);
    join(&play, 2, 4, true);
    holds(&play, 2, false, &held, 1, NULL, 0);
    assert_true(said(&play, "w2: release j1:t0.0-3")); // the first one keeps them
    event = event_of(&play, EVENT_WORKER_LEAVING);
    event.u.left.worker = 1;
    assert_int_equal(step(&play, &event), 0);
    holds(&play, 2, false, &held, 1, NULL, 0);
    assert_true(said(&play, "c1000: result j1:t0.0-3 at w2"));
    leave(&play, 1);
    assert_int_equal(counts(&play).partitions, 4);
    assert_int_equal(sched_worker_partitions(play.sched, 2), 4);
    free_job(&play, 1);
    build_fini(&build);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_placed_before_they_are_back),
        cmocka_unit_test(test_waiting_has_an_end),
        cmocka_unit_test(test_worker_of_the_same_name),
        cmocka_unit_test(test_who_has_ended_is_not_waited_for),
        cmocka_unit_test(test_who_does_not_come_is_not_waited_for_again),
        cmocka_unit_test(test_tasks_that_a_worker_still_has),
        cmocka_unit_test(test_task_that_comes_to_nothing_is_given_back),
        cmocka_unit_test(test_what_was_over_is_not_run_again),
        cmocka_unit_test(test_what_was_read_had_been_done),
        cmocka_unit_test(test_what_had_failed_stays_failed),
        cmocka_unit_test(test_jobs_that_had_ended),
        cmocka_unit_test(test_ended_job_is_there_for_others),
        cmocka_unit_test(test_ended_job_that_others_need_fails_them),
        cmocka_unit_test(test_ended_job_without_what_it_read),
        cmocka_unit_test(test_orphans_have_as_long_as_workers),
        cmocka_unit_test(test_layers_that_are_sent_again),
        cmocka_unit_test(test_layers_of_another_client),
        cmocka_unit_test(test_job_that_was_detached),
        cmocka_unit_test(test_done_without_its_last_layers),
        cmocka_unit_test(test_names_that_were_given_back),
        cmocka_unit_test(test_job_that_failed_after_it_was_done),
        cmocka_unit_test(test_done_while_it_was_away),
        cmocka_unit_test(test_owner_that_leaves_hands_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
