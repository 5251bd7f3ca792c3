// broker/core/suspect.h: what may have killed a worker is told from what only ran beside it.
#include "broker/core/suspect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/cpu_time.h"
#include "tests/unit/sched_play.h"

static struct sched_event joined(struct play *play, uint32_t worker, uint32_t threads, const char *name)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);

    event.u.joined.worker = worker;
    event.u.joined.threads = threads;
    event.u.joined.shared_files = true;
    event.u.joined.name = name;
    return event;
}

static void join_as(struct play *play, uint32_t worker, uint64_t incarnation)
{
    struct sched_event event = joined(play, worker, 2, "pair");

    event.u.joined.incarnation = incarnation;
    assert_int_equal(step(play, &event), 0);
}

static void beat(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_STATUS);

    event.u.status.worker = worker;
    event.u.status.rss = 35000000;
    assert_int_equal(step(play, &event), 0);
}

static void submit_two(struct play *play, struct build *build, uint32_t tasks)
{
    struct sched_event event;

    play_begin(play, 1);
    build_init(build);
    build_layer(build, 3);
    build->layer[0]->name = "load";
    build_input(build, build_layer(build, tasks), 0, DRAY__PATTERN__ALL, 0);
    build->layer[1]->name = "crunch";
    build_wanted(build, 1);
    event = event_of(play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(build);
    assert_int_equal(step(play, &event), 0);
}

static struct sched_layer layer_info(const struct play *play, uint32_t layer)
{
    struct sched_layer info;

    assert_int_equal(sched_layer_info(play->sched, 1, layer, &info), 0);
    return info;
}

// Two tasks die together twice; then each has a worker of its own: one dies there, the other is well.
static void test_bystander_is_not_blamed(void **state)
{
    const struct sched_action *ended;
    struct sched_job info;
    struct play play;
    struct build build;

    (void)state;
    submit_two(&play, &build, 2);
    join_as(&play, 1, 0);
    done(&play, 1, 1, 0, 0, 3);
    assert_true(said(&play, "w1: run j1:t1.0-1"));
    join_as(&play, 9, 0); // the partitions are lost with the first, and this one makes them again
    beat(&play, 1);
    leave(&play, 1);
    done(&play, 9, 1, 0, 0, 3);
    assert_true(said(&play, "w9: run j1:t1.0-1"));
    join_as(&play, 2, 0);
    beat(&play, 9);
    leave(&play, 9);
    assert_int_equal(layer_info(&play, 1).in[TASK_DELAYED], 2);
    done(&play, 2, 1, 0, 0, 3);
    // One at a time, on a worker with two threads.
    assert_true(said(&play, "w2: run j1:t1.0"));
    assert_int_equal(layer_info(&play, 1).in[TASK_ASSIGNED], 1);
    assert_int_equal(layer_info(&play, 1).in[TASK_DELAYED], 1);
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    join_as(&play, 3, 0);
    beat(&play, 2);
    leave(&play, 2);
    assert_int_equal(layer_info(&play, 1).in[TASK_FAILED], 1);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    done(&play, 3, 1, 0, 0, 3);
    assert_true(said(&play, "w3: run j1:t1.1"));
    done(&play, 3, 1, 1, 1, 1);
    ended = find(&play, ACTION_JOB_ENDED, CLIENT);
    assert_non_null(ended);
    assert_int_equal(ended->state, JOB_FAILED);
    assert_int_equal(ended->code, ENOTRECOVERABLE);
    assert_string_equal(
        ended->text,
        "3 workers died while they ran task crunch[0], the last of them pair (killed); it is not "
        "tried again\n"
        "    attempt 1: worker pair died (killed), with 35.0 MB of memory, beside task crunch[1]\n"
        "    attempt 2: worker pair died (killed), with 35.0 MB of memory, beside task crunch[1]\n"
        "    attempt 3: worker pair died (killed), with 35.0 MB of memory, alone\n"
        "    it reads all 3 of load: 0 bytes");
    build_fini(&build);
    play_end(&play);
}

// A worker with other work is emptied first: what it has not begun goes elsewhere, what runs is waited for.
static void test_a_worker_is_emptied(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct task_range back = {1, 0, 0, 0};

    (void)state;
    play_begin(&play, 1);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 12));
    submit(&play, &build);
    join_as(&play, 1, 0); // 0-3, of which 0 and 1 run
    join_as(&play, 2, 0); // 4-7
    leave(&play, 1);
    join_as(&play, 3, 0);
    leave(&play, 3);
    // The first two died twice.  The one worker that there is has begun two of its four.
    assert_int_equal(layer_info(&play, 0).in[TASK_DELAYED], 2);
    assert_true(said(&play, "w2: give back j1:t0.4-7"));
    event = event_of(&play, EVENT_TASKS_DROPPED);
    back.first = 6;
    back.count = 2;
    event.u.dropped.worker = 2;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &back;
    assert_int_equal(step(&play, &event), 0);
    assert_null(find(&play, ACTION_RUN, 2));
    done(&play, 2, 1, 0, 4, 1);
    assert_null(find(&play, ACTION_RUN, 2));
    done(&play, 2, 1, 0, 5, 1);
    assert_true(said(&play, "w2: run j1:t0.0"));
    done(&play, 2, 1, 0, 0, 1);
    assert_true(said(&play, "w2: run j1:t0.1"));
    done(&play, 2, 1, 0, 1, 1);
    // And then it is as any other.
    assert_non_null(find(&play, ACTION_RUN, 2));
    assert_int_equal(layer_info(&play, 0).in[TASK_ASSIGNED], 4);
    build_fini(&build);
    play_end(&play);
}

// Who comes back with its tasks has not died of them.
static void test_who_comes_back_was_not_dead(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 1);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 1));
    submit(&play, &build);
    for (uint32_t worker = 1; worker < 8; worker++) {
        struct sched_event event;
        const struct task_range has = {1, 0, 0, 1};

        join_as(&play, worker, 77);
        event = event_of(&play, EVENT_HOLDING);
        event.u.holding.worker = worker;
        event.u.holding.full = true;
        event.u.holding.hases = worker > 1 ? 1 : 0;
        event.u.holding.has = &has;
        assert_int_equal(step(&play, &event), 0);
        if (worker < 7) {
            leave(&play, worker);
            assert_int_equal(layer_info(&play, 0).in[TASK_READY], 1);
        }
    }
    done(&play, 7, 1, 0, 0, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    build_fini(&build);
    play_end(&play);
}

enum { KILLER = 50, SHORT = 100, BATCH = 16 };

// What the worker was given with the last step.
static void hear(const struct play *play, uint32_t worker, bool *has)
{
    for (size_t k = 0; k < play->actions.count; k++) {
        const struct sched_action *action = &play->actions.action[k];

        for (uint32_t i = 0; action->type == ACTION_RUN && action->peer == worker && i < action->range.count;
             i++) {
            has[action->range.first + i] = true;
        }
    }
}

static void done_short(struct play *play, uint32_t worker, const uint32_t *task, uint32_t count)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DONE);
    struct task_range range[BATCH];
    const uint64_t bytes[BATCH] = {0};

    for (uint32_t n = 0; n < count; n++) {
        range[n] = (struct task_range){1, 0, task[n], 1};
    }
    event.u.done.worker = worker;
    event.u.done.ranges = count;
    event.u.done.range = range;
    event.u.done.bytes = bytes;
    event.u.done.busy_us = count;
    assert_int_equal(step(play, &event), 0);
}

// Short tasks, of which many are done before anything is said of them: those that may have run have a worker
// of their own before one is set aside, and only the one that kills is.
static void test_one_of_many_short_ones(void **state)
{
    const struct sched_action *ended = NULL;
    bool has[SHORT] = {false};
    struct play play;
    struct build build;
    uint32_t worker = 1, deaths = 0;

    (void)state;
    play_begin(&play, 1);
    build_init(&build);
    build_wanted(&build, build_layer(&build, SHORT));
    submit(&play, &build);
    join_as(&play, worker, 0);
    for (int turn = 0; turn < 500 && ended == NULL; turn++) {
        uint32_t task[BATCH], count = 0;
        bool dies = false;

        hear(&play, worker, has);
        for (uint32_t i = 0; i < SHORT && count < BATCH; i++) {
            if (has[i]) {
                task[count++] = i;
                dies = dies || i == KILLER;
            }
        }
        if (count == 0) {
            later(&play, 1000);
        } else if (dies) {
            memset(has, 0, sizeof(has));
            deaths++;
            leave(&play, worker);
            ended = find(&play, ACTION_JOB_ENDED, CLIENT);
            if (ended == NULL) {
                join_as(&play, ++worker, 0);
            }
        } else {
            for (uint32_t n = 0; n < count; n++) {
                has[task[n]] = false;
            }
            done_short(&play, worker, task, count);
        }
        ended = ended == NULL ? find(&play, ACTION_JOB_ENDED, CLIENT) : ended;
    }
    assert_non_null(ended);
    assert_int_equal(ended->state, JOB_FAILED);
    assert_int_equal(ended->index_at, KILLER);
    assert_int_equal(ended->done, SHORT - 1);
    assert_int_equal(deaths, 3);
    build_fini(&build);
    play_end(&play);
}

enum { MANY = 100 }; // more than one placement looks at, and as many threads

static void join_wide(struct play *play, uint32_t worker)
{
    struct sched_event event = joined(play, worker, MANY, "wide");

    assert_int_equal(step(play, &event), 0);
}

// What the worker is given is done until nothing more comes; how many tasks, never two at a time.
static uint32_t run_alone(struct play *play, uint32_t worker)
{
    const struct sched_action *run;
    uint32_t count = 0;

    while ((run = find(play, ACTION_RUN, worker)) != NULL) {
        const struct task_range range = run->range;

        assert_int_equal(range.count, 1);
        assert_int_equal(counts(play).tasks_assigned, 1);
        count++;
        done(play, worker, range.job, range.layer, range.first, 1);
    }
    return count;
}

// Tasks on trial that need what others on trial make, which came to that later than they did.
static void test_those_in_need_do_not_bar_the_way(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 1);
    build_init(&build);
    build_layer(&build, MANY);
    build_input(&build, build_layer(&build, MANY), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 1);
    submit(&play, &build);
    for (uint32_t worker = 1; worker <= 4; worker++) {
        join_wide(&play, worker);
        if (worker <= 2) { // the second layer dies with the first two
            done(&play, worker, 1, 0, 0, MANY);
        }
        leave(&play, worker);
        assert_int_equal(layer_info(&play, 1).in[TASK_DELAYED], worker >= 2 ? MANY : 0);
    }
    assert_int_equal(layer_info(&play, 0).in[TASK_DELAYED], MANY); // the first one with the others
    join_wide(&play, 5);
    assert_int_equal(run_alone(&play, 5), 2 * MANY);
    assert_true(said(&play, "c1000: j1 is done"));
    build_fini(&build);
    play_end(&play);
}

// Many that nobody can have any more do not keep the one of another job from its trial.
static void test_those_that_nobody_can_have_do_not_either(void **state)
{
    char *name[] = {(char *)(uintptr_t) "wide"};
    struct play play;
    struct build picky, plain;

    (void)state;
    play_begin(&play, 1);
    flat(&picky, MANY);
    picky.layer[0]->n_worker = 1;
    picky.layer[0]->worker = name;
    submit_as(&play, &picky, 1, CLIENT);
    for (uint32_t worker = 1; worker <= 2; worker++) {
        join_wide(&play, worker);
        leave(&play, worker);
    }
    assert_int_equal(layer_info(&play, 0).in[TASK_DELAYED], MANY);
    flat(&plain, 1);
    submit_as(&play, &plain, 2, CLIENT);
    for (uint32_t worker = 3; worker <= 4; worker++) {
        join_as(&play, worker, 0);
        leave(&play, worker);
    }
    join_as(&play, 5, 0);
    assert_true(said(&play, "w5: run j2:t0.0"));
    done(&play, 5, 2, 0, 0, 1);
    assert_true(said(&play, "c1000: j2 is done"));
    join_wide(&play, 6);
    assert_int_equal(run_alone(&play, 6), MANY);
    assert_true(said(&play, "c1000: j1 is done"));
    build_fini(&picky);
    build_fini(&plain);
    play_end(&play);
}

enum {
    CREW = 180,
    CREW_THREADS = 4096,
    VERY_MANY = 300000,     // of which each worker takes 8192 and is taken to have run half
    VERY_MANY_US = 8000000, // of processor time; less than one is enough
    APART_US = 60000000,
};

// Without a look at every task, as `step` does.
static void step_quickly(struct play *play, struct sched_event *event, uint64_t us)
{
    event->now_us = play->now += us;
    assert_int_equal(sched_step(play->sched, event, 1, &play->actions), 0);
}

static void join_crew(struct play *play, uint32_t worker)
{
    struct sched_event event = joined(play, worker, CREW_THREADS, "crew");

    step_quickly(play, &event, 0);
}

static void leave_crew(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_LEFT);

    event.u.left.worker = worker;
    event.u.left.why = "killed";
    step_quickly(play, &event, APART_US);
}

static void done_quickly(struct play *play, uint32_t worker, struct task_range range)
{
    static const uint64_t bytes = 0;
    struct sched_event event = event_of(play, EVENT_TASKS_DONE);

    event.u.done.worker = worker;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = &bytes;
    step_quickly(play, &event, 1);
}

// Each has its trial, in order; those that come, and those that were given, do not cost the others anything.
static void test_very_many(void **state)
{
    uint64_t begun_us = cpu_us(), suspects;
    uint32_t next = 0;
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 1);
    flat(&build, VERY_MANY);
    submit(&play, &build);
    for (uint32_t worker = 1; worker <= CREW; worker++) {
        join_crew(&play, worker);
    }
    for (uint32_t worker = 1; worker <= CREW; worker++) {
        leave_crew(&play, worker);
    }
    sched_check(play.sched);
    suspects = layer_info(&play, 0).in[TASK_DELAYED];
    assert_true(suspects > VERY_MANY / 4 * 3);
    join_crew(&play, CREW + 1);
    for (uint64_t n = 0; n < suspects; n++) {
        const struct sched_action *run = find(&play, ACTION_RUN, CREW + 1);

        assert_non_null(run);
        assert_int_equal(run->range.count, 1);
        assert_true(run->range.first >= next);
        next = run->range.first + 1;
        done_quickly(&play, CREW + 1, run->range);
    }
    sched_check(play.sched);
    assert_int_equal(layer_info(&play, 0).in[TASK_DELAYED], 0);
    assert_true(cpu_us() - begun_us < CPU_SLOW * VERY_MANY_US);
    build_fini(&build);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bystander_is_not_blamed),
        cmocka_unit_test(test_a_worker_is_emptied),
        cmocka_unit_test(test_who_comes_back_was_not_dead),
        cmocka_unit_test(test_one_of_many_short_ones),
        cmocka_unit_test(test_those_in_need_do_not_bar_the_way),
        cmocka_unit_test(test_those_that_nobody_can_have_do_not_either),
        cmocka_unit_test(test_very_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
