// Clients of very many jobs: who is told how they get on, and how often (broker/core/progress.h); they come
// and go.
#include "broker/core/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "proto/socket.h"
#include "tests/unit/cpu_time.h"
#include "tests/unit/sched_play.h"

enum { JOBS = 3000, TICK_US = 50000, TICKS = 20, MOST = 600, VERY_MANY = 30000, VERY_MANY_US = 4000000 };

// How many jobs are told of, each one time in `told`.
static uint32_t tick(struct play *play, uint8_t *told)
{
    struct sched_event event;
    uint32_t count = 0;

    play->now += TICK_US;
    event = event_of(play, EVENT_TICK);
    assert_int_equal(sched_step(play->sched, &event, 1, &play->actions), 0);
    for (size_t i = 0; i < play->actions.count; i++) {
        if (play->actions.action[i].type == ACTION_PROGRESS) {
            told[play->actions.action[i].range.job]++;
            count++;
        }
    }
    return count;
}

// Few are told of as often as can be; very many have their turns.
static void test_very_many_jobs_that_wait(void **state)
{
    uint8_t *told = calloc(JOBS + 1, 1);
    struct build build;
    struct play play;
    uint32_t most = 0;

    (void)state;
    assert_non_null(told);
    play_begin(&play, 2);
    flat(&build, 2);
    submit(&play, &build);
    tick(&play, told);
    tick(&play, told);
    tick(&play, told);
    assert_int_equal(told[1], 1);
    for (uint64_t key = 2; key <= JOBS; key++) {
        submit_as(&play, &build, key, CLIENT);
    }
    memset(told, 0, JOBS + 1);
    for (int i = 0; i < TICKS; i++) {
        uint32_t count = tick(&play, told);

        most = count > most ? count : most;
    }
    assert_in_range(most, 1, MOST);
    for (uint32_t job = 1; job <= JOBS; job++) {
        assert_in_range(told[job], 2, 4);
    }
    sched_check(play.sched);
    build_fini(&build);
    play_end(&play);
    free(told);
}

// One that is over is told of no more, and again when a lost result is made anew.
static void test_a_job_that_is_over(void **state)
{
    struct build build;
    struct play play;
    uint8_t told[2] = {0};

    (void)state;
    play_begin(&play, 2);
    join(&play, 1, 1, true);
    flat(&build, 1);
    submit(&play, &build);
    done(&play, 1, 1, 0, 0, 1);
    assert_int_equal(tick(&play, told) + tick(&play, told) + tick(&play, told), 0);
    leave(&play, 1);
    assert_true(tick(&play, told) + tick(&play, told) + tick(&play, told) > 0);
    sched_check(play.sched);
    build_fini(&build);
    play_end(&play);
}

static void quickly(struct play *play, const struct sched_event *event)
{
    assert_int_equal(sched_step(play->sched, event, 1, &play->actions), 0);
}

// The client of very many jobs is lost, and back, with the latest first.
static void test_very_many_jobs_change_hands(void **state)
{
    struct sched_options options;
    struct build build;
    struct play play;
    uint64_t begun_us;

    (void)state;
    sched_options_default(&options);
    options.orphan_us = 1000 * 1000 * 1000;
    play_begin_with(&play, &options);
    flat(&build, 1);
    begun_us = cpu_us();
    for (uint64_t key = 1; key <= VERY_MANY; key++) {
        struct sched_event event = event_of(&play, EVENT_SUBMIT);

        event.u.submit.client = CLIENT;
        event.u.submit.key_lo = key;
        event.u.submit.graph = build_graph(&build);
        quickly(&play, &event);
    }
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT + 1);
    for (uint32_t job = VERY_MANY; job > 0; job--) {
        struct sched_event event = event_of(&play, EVENT_ATTACH);

        event.u.attach.client = CLIENT + 1;
        event.u.attach.job = job;
        quickly(&play, &event);
    }
    assert_true(cpu_us() - begun_us < CPU_SLOW * VERY_MANY_US);
    join(&play, 1, 1, true);
    assert_non_null(find(&play, ACTION_RUN, 1));
    assert_int_equal(find(&play, ACTION_RUN, 1)->range.job, 1);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT + 1);
    later(&play, 2 * options.orphan_us);
    build_fini(&build);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_very_many_jobs_that_wait),
        cmocka_unit_test(test_a_job_that_is_over),
        cmocka_unit_test(test_very_many_jobs_change_hands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
