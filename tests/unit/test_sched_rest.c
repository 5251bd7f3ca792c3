// broker/core/rest.h: workers whose disk is full.
#include "broker/core/sched.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sched_play.h"

static void fails_for_disk(struct play *play, uint32_t worker, uint32_t index)
{
    struct sched_event event = event_of(play, EVENT_TASK_FAILED);

    event.u.failed.worker = worker;
    event.u.failed.job = 1;
    event.u.failed.index = index;
    event.u.failed.code = ENOSPC;
    event.u.failed.text = "the disk is full";
    assert_int_equal(step(play, &event), 0);
}

// What was dropped was not begun.
static void gives_back(struct play *play, uint32_t worker)
{
    struct task_range dropped[64];
    size_t count = 0;
    struct sched_event event;

    for (size_t k = 0; k < play->actions.count; k++) {
        if (play->actions.action[k].type == ACTION_DROP && play->actions.action[k].peer == worker) {
            dropped[count++] = play->actions.action[k].range;
        }
    }
    event = event_of(play, EVENT_TASKS_DROPPED);
    event.u.dropped.worker = worker;
    event.u.dropped.ranges = count;
    event.u.dropped.range = dropped;
    assert_int_equal(step(play, &event), 0);
}

static void waits_for(struct play *play, const char *text)
{
    struct sched_job job;

    assert_int_equal(sched_job_info(play->sched, 1, &job), 0);
    if (strstr(job.waiting, text) == NULL || (text[0] == '\0' && job.waiting[0] != '\0')) {
        fail_msg("\"%s\" is not in \"%s\"", text, job.waiting);
    }
}

static void tick(struct play *play, uint64_t us)
{
    later(play, us);
}

static void test_others_do_it(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 999);
    build_init(&build);
    flat(&build, 6);
    join(&play, 1, 1, true);
    submit(&play, &build);
    assert_int_equal(counts(&play).tasks_assigned, 6);
    join(&play, 2, 1, true);
    fails_for_disk(&play, 1, 0);
    gives_back(&play, 1);
    assert_non_null(find(&play, ACTION_RUN, 2));
    assert_null(find(&play, ACTION_RUN, 1));
    assert_int_equal(counts(&play).tasks_assigned, 6);
    done(&play, 2, 1, 0, 0, 6);
    assert_true(said(&play, "c1000: j1 is done"));
    // It is no failure of the job's.
    struct sched_job job;

    assert_int_equal(sched_job_info(play.sched, 1, &job), 0);
    assert_int_equal(job.failed, 0);
    leave(&play, 1); // while it rests
    build_fini(&build);
    play_end(&play);
}

static void test_alone_it_is_tried_again(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 999);
    build_init(&build);
    flat(&build, 3);
    join(&play, 1, 1, true);
    submit(&play, &build);
    fails_for_disk(&play, 1, 0);
    gives_back(&play, 1);
    assert_int_equal(counts(&play).tasks_assigned, 0);
    waits_for(&play, "the disk of worker");
    tick(&play, 4900000);
    assert_int_equal(counts(&play).tasks_assigned, 0);
    tick(&play, 200000);
    assert_int_equal(counts(&play).tasks_assigned, 3);
    done(&play, 1, 1, 0, 0, 3);
    assert_true(said(&play, "c1000: j1 is done"));
    build_fini(&build);
    play_end(&play);
}

// The task may be what fills the disks.
static void test_a_task_that_fills_disks_is_set_aside(void **state)
{
    struct play play;
    struct build build;
    int tries = 0;

    (void)state;
    play_begin(&play, 999);
    build_init(&build);
    flat(&build, 1);
    join(&play, 1, 1, true);
    submit(&play, &build);
    while (counts(&play).tasks_assigned == 1) {
        fails_for_disk(&play, 1, 0);
        tries++;
        assert_true(tries < 100);
        if (find(&play, ACTION_JOB_ENDED, CLIENT) == NULL) {
            tick(&play, 5100000);
        }
    }
    assert_in_range(tries, 4, 20);
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->state, JOB_FAILED);
    assert_non_null(strstr(find(&play, ACTION_JOB_ENDED, CLIENT)->text, "the disk is full"));
    build_fini(&build);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_others_do_it),
        cmocka_unit_test(test_alone_it_is_tried_again),
        cmocka_unit_test(test_a_task_that_fills_disks_is_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
