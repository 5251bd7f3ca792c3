// broker/core/moment.h: workers that die together died of none of their tasks; who kills is found all the
// same.
#include "broker/core/moment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/core/worker.h"
#include "tests/unit/sched_play.h"

enum { MOMENT_US = 1000, ATTEMPTS = 3 };

static void begin(struct play *play)
{
    struct sched_options options;

    sched_options_default(&options);
    options.queue_depth = 1;
    options.moment_us = MOMENT_US;
    assert_int_equal(options.attempts_max, ATTEMPTS);
    play_begin_with(play, &options);
}

static void begin_flat(struct play *play, struct build *build, uint32_t tasks)
{
    begin(play);
    build_init(build);
    build_wanted(build, build_layer(build, tasks));
    submit(play, build);
}

static void join_as(struct play *play, uint32_t worker, uint64_t incarnation)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);

    event.u.joined.worker = worker;
    event.u.joined.threads = 1;
    event.u.joined.shared_files = true;
    event.u.joined.name = "ant";
    event.u.joined.incarnation = incarnation;
    assert_int_equal(step(play, &event), 0);
}

static uint64_t in(const struct play *play, enum task_state state)
{
    struct sched_layer info;

    assert_int_equal(sched_layer_info(play->sched, 1, 0, &info), 0);
    return info.in[state];
}

static const char *waiting(struct play *play)
{
    static struct sched_job info;

    assert_int_equal(sched_job_info(play->sched, 1, &info), 0);
    return info.waiting;
}

static uint32_t tasks_of(const struct play *play, uint32_t worker)
{
    const struct worker *found = worker_find(play->sched, worker);

    return found != NULL ? found->assigned : 0;
}

// What the last step has given it to do; UINT32_MAX: nothing.
static uint32_t given(const struct play *play, uint32_t worker)
{
    const struct sched_action *run = find(play, ACTION_RUN, worker);

    return run != NULL ? run->range.first : UINT32_MAX;
}

// Somebody ends all workers, again and again, a little apart from one another; with many threads, too.
static void test_all_are_killed_again_and_again(void **state)
{
    struct play play;
    struct build build;
    uint32_t worker = 1;

    (void)state;
    begin_flat(&play, &build, 8);
    for (uint32_t round = 0; round < ATTEMPTS; round++) {
        for (uint32_t n = 0; n < 4; n++) {
            join(&play, worker + n, 2, true);
        }
        for (uint32_t n = 0; n < 4; n++) {
            later(&play, MOMENT_US / 4);
            leave(&play, worker++);
        }
        later(&play, 2 * MOMENT_US);
        assert_int_equal(in(&play, TASK_FAILED) + in(&play, TASK_DELAYED), 0);
    }
    join(&play, worker, 16, true);
    assert_int_equal(in(&play, TASK_ASSIGNED), 8);
    done(&play, worker, 1, 0, 0, 8);
    assert_true(said(&play, "c1000: j1 is done"));
    build_fini(&build);
    play_end(&play);
}

// One that kills is set aside after as many deaths as ever, the last of which it dies alone, while others go
// on; that no other worker dies is waited for, and said.
static void test_one_that_kills(void **state)
{
    struct play play;
    struct build build;
    const struct sched_action *ended;

    (void)state;
    begin_flat(&play, &build, 1);
    for (uint32_t worker = 1; worker <= ATTEMPTS + 1; worker++) {
        join(&play, worker, 1, true);
    }
    for (uint32_t worker = 1; worker <= ATTEMPTS; worker++) {
        assert_int_equal(in(&play, TASK_ASSIGNED), 1);
        later(&play, 2 * MOMENT_US);
        for (uint32_t w = 1; w <= ATTEMPTS + 1; w++) { // whoever has it
            if (tasks_of(&play, w) > 0) {
                leave(&play, w);
                break;
            }
        }
    }
    assert_int_equal(in(&play, TASK_DELAYED), 1);
    assert_non_null(strstr(waiting(&play), "whether others die in the same moment is waited for"));
    later(&play, MOMENT_US);
    assert_int_equal(in(&play, TASK_DELAYED), 1);
    later(&play, 1);
    ended = find(&play, ACTION_JOB_ENDED, CLIENT);
    assert_non_null(ended);
    assert_int_equal(ended->code, ENOTRECOVERABLE);
    assert_non_null(strstr(ended->text, "3 workers died while they ran"));
    build_fini(&build);
    play_end(&play);
}

// It kills one worker after the other faster than a moment is over: they have all had it.
static void test_one_that_kills_at_once(void **state)
{
    struct play play;
    struct build build;
    uint32_t deaths = 0;

    (void)state;
    begin_flat(&play, &build, 1);
    for (uint32_t worker = 1; worker <= 8; worker++) {
        join(&play, worker, 1, true);
    }
    for (uint32_t turn = 0; turn < 100 && find(&play, ACTION_JOB_ENDED, CLIENT) == NULL; turn++) {
        for (uint32_t w = 1; w <= 8; w++) {
            if (tasks_of(&play, w) > 0) {
                leave(&play, w);
                deaths++;
                break;
            }
        }
        later(&play, MOMENT_US / 10);
    }
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    assert_int_equal(deaths, ATTEMPTS);
    build_fini(&build);
    play_end(&play);
}

// Tasks that all kill, on workers that die together and are there again at once: that has an end.
static void test_all_of_them_kill(void **state)
{
    enum { TASKS = 12, WORKERS = 4 };
    struct play play;
    struct build build;
    uint32_t deaths = 0, next = 1, worker[WORKERS];

    (void)state;
    begin_flat(&play, &build, TASKS);
    for (uint32_t n = 0; n < WORKERS; n++) {
        join(&play, worker[n] = next++, 1, true);
    }
    for (uint32_t turn = 0; turn < 1000 && find(&play, ACTION_JOB_ENDED, CLIENT) == NULL; turn++) {
        for (uint32_t n = 0; n < WORKERS; n++) {
            if (tasks_of(&play, worker[n]) > 0) {
                leave(&play, worker[n]);
                deaths++;
                join(&play, worker[n] = next++, 1, true);
            }
        }
        later(&play, MOMENT_US / 3);
    }
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    assert_in_range(deaths, TASKS * ATTEMPTS, 6 * TASKS * ATTEMPTS);
    build_fini(&build);
    play_end(&play);
}

// Two deaths of which it may be guilty, and a third, alone, when a worker that did nothing dies too: it has
// another try, alone again.
static void test_a_verdict_is_taken_back(void **state)
{
    struct play play;
    struct build build;
    const struct sched_action *ended;

    (void)state;
    begin_flat(&play, &build, 1);
    for (uint32_t n = 1; n < ATTEMPTS; n++) {
        join(&play, n, 1, true);
        leave(&play, n);
        later(&play, 2 * MOMENT_US);
    }
    join(&play, 3, 1, true);
    assert_int_equal(given(&play, 3), 0);
    join(&play, 4, 1, true);
    leave(&play, 3);
    assert_int_equal(in(&play, TASK_DELAYED), 1);
    assert_int_equal(given(&play, 4), UINT32_MAX);
    join(&play, 5, 1, true);
    later(&play, MOMENT_US / 2);
    leave(&play, 4);
    assert_int_equal(given(&play, 5), 0);
    later(&play, 2 * MOMENT_US);
    assert_int_equal(in(&play, TASK_ASSIGNED), 1);
    leave(&play, 5); // the only one that there is: nobody else can die
    ended = find(&play, ACTION_JOB_ENDED, CLIENT);
    assert_non_null(ended);
    assert_non_null(strstr(ended->text, "4 workers died while they ran"));
    assert_non_null(strstr(ended->text,
                           "attempt 3: worker other died (killed), with an unknown amount of memory, "
                           "alone, when others died as well\n"));
    build_fini(&build);
    play_end(&play);
}

// The same process, lost twice, is no company.
static void test_one_that_is_lost_twice(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin_flat(&play, &build, 3);
    join_as(&play, 1, 77);
    leave(&play, 1);
    join_as(&play, 2, 77);
    leave(&play, 2);
    assert_int_equal(in(&play, TASK_DELAYED), 1); // twice blamed, so it waits for a worker of its own
    build_fini(&build);
    play_end(&play);
}

// Without moments each death counts, also those that are told together.
static void test_no_moments(void **state)
{
    struct sched_options options;
    struct sched_event event[2];
    struct play play;
    struct build build;

    (void)state;
    sched_options_default(&options);
    options.queue_depth = 1;
    assert_int_equal(options.moment_us, 0);
    play_begin_with(&play, &options);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 4));
    submit(&play, &build);
    for (uint32_t round = 0; round < 2; round++) {
        join(&play, 2 * round + 1, 1, true);
        join(&play, 2 * round + 2, 1, true);
        for (uint32_t n = 0; n < 2; n++) {
            event[n] = event_of(&play, EVENT_WORKER_LEFT);
            event[n].now_us = event[0].now_us;
            event[n].u.left.worker = 2 * round + 1 + n;
        }
        assert_int_equal(sched_step(play.sched, event, 2, &play.actions), 0);
    }
    assert_int_equal(in(&play, TASK_DELAYED), 2);
    build_fini(&build);
    play_end(&play);
}

// Who comes back with a task while the verdict waits takes the blame back; a job that is given up leaves
// nothing.
static void test_while_it_waits(void **state)
{
    const struct task_range has = {1, 0, 0, 1};
    struct sched_event event;
    struct play play;
    struct build build;

    (void)state;
    begin_flat(&play, &build, 1);
    for (uint32_t n = 1; n <= ATTEMPTS; n++) {
        join_as(&play, n, 100 + n);
        if (n == ATTEMPTS) {
            join_as(&play, 9, 109);
        }
        leave(&play, n);
        later(&play, n < ATTEMPTS ? 2 * MOMENT_US : 1);
    }
    assert_int_equal(in(&play, TASK_DELAYED), 1);
    join_as(&play, 5, 100 + ATTEMPTS);
    event = event_of(&play, EVENT_HOLDING);
    event.u.holding.worker = 5;
    event.u.holding.full = true;
    event.u.holding.has = &has;
    event.u.holding.hases = 1;
    assert_int_equal(step(&play, &event), 0);
    later(&play, 2 * MOMENT_US);
    assert_int_equal(in(&play, TASK_FAILED), 0);
    assert_int_equal(in(&play, TASK_ASSIGNED), 1); // alone, once more
    later(&play, 2 * MOMENT_US);
    leave(&play, tasks_of(&play, 5) > 0 ? 5 : 9);
    assert_int_equal(in(&play, TASK_DELAYED), 1);
    of_job(&play, EVENT_CANCEL, CLIENT, NULL);
    later(&play, 2 * MOMENT_US);
    build_fini(&build);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_killed_again_and_again),
        cmocka_unit_test(test_one_that_kills),
        cmocka_unit_test(test_one_that_kills_at_once),
        cmocka_unit_test(test_all_of_them_kill),
        cmocka_unit_test(test_a_verdict_is_taken_back),
        cmocka_unit_test(test_one_that_is_lost_twice),
        cmocka_unit_test(test_while_it_waits),
        cmocka_unit_test(test_no_moments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
