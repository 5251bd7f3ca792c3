// Whose turn it is: priorities, first come first served, shares of clients in figures (share, placement).
#include "broker/core/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/core/share.h"
#include "tests/sim/random.h"
#include "tests/unit/sched_cluster.h"

// How much of the work of these jobs was the first one's, in percent.
static uint32_t percent(const struct cluster *c, uint32_t job, uint32_t first, uint32_t last)
{
    uint64_t all = 0;

    for (uint32_t j = first; j <= last; j++) {
        all += c->run_us[j];
    }
    return (uint32_t)(100 * c->run_us[job] / all);
}

static void test_two_clients_get_half_each(void **state)
{
    static const uint64_t task_us[][2] = {
        {1000, 1000}, {10, 10}, {100, 5000}, {20, 300000}, {400000, 400000}};

    (void)state;
    for (size_t k = 0; k < sizeof(task_us) / sizeof(task_us[0]); k++) {
        struct cluster c;
        uint64_t longest = task_us[k][1] > 1000 ? task_us[k][1] : 1000;

        cluster_begin(&c, 4, 2);
        bring(&c, CLIENT, (uint32_t)(400 * longest / task_us[k][0]), task_us[k][0], 0);
        until(&c, 10 * longest);
        // The second comes when the first is well under way.
        c.run_us[1] = 0;
        bring(&c, CLIENT + 1, (uint32_t)(400 * longest / task_us[k][1]), task_us[k][1], 0);
        until(&c, 90 * longest);
        assert_in_range(percent(&c, 1, 1, 2), 44, 56);
        cluster_end(&c, 2);
    }
}

static void test_three_clients_get_a_third_each(void **state)
{
    struct cluster c;

    (void)state;
    cluster_begin(&c, 4, 3);
    // The number of jobs does not count.
    for (uint32_t n = 0; n < 20; n++) {
        bring(&c, CLIENT, 5000, 1000, 0);
    }
    bring(&c, CLIENT + 1, 100000, 500, 0);
    bring(&c, CLIENT + 2, 100000, 2000, 0);
    until(&c, 1000000);
    c.run_us[1] += c.run_us[2] + c.run_us[3];
    c.run_us[20] = c.run_us[1];
    assert_in_range(percent(&c, 20, 20, 22), 30, 37);
    assert_in_range(percent(&c, 21, 20, 22), 30, 37);
    assert_in_range(percent(&c, 22, 20, 22), 30, 37);
    cluster_end(&c, 3);
}

static void test_a_tiny_job_does_not_wait_behind_a_million_tasks(void **state)
{
    struct cluster c;
    uint64_t came;
    uint32_t tiny;

    (void)state;
    cluster_begin(&c, 4, 2);
    bring(&c, CLIENT, 1000000, 1000, 0);
    until(&c, 200000);
    came = c.now;
    tiny = bring(&c, CLIENT + 1, 4, 1000, 0);
    until_over(&c, tiny);
    // What is in the queues before it (4.2 ms), and itself.
    assert_true(c.over_at[tiny] - came <= 8000);
    // The same client's second job waits for its first.
    bring(&c, CLIENT, 1, 1000, 0);
    until(&c, 400000);
    assert_int_equal(c.left[3], 1);
    cluster_end(&c, 2);
}

// Nor behind long ones that are in the queues already: only behind what runs.
static void test_who_comes_first_does_not_wait_for_what_is_queued(void **state)
{
    (void)state;
    for (int32_t priority = 0; priority < 2; priority++) {
        struct cluster c;
        uint32_t second;

        cluster_begin(&c, 4, 2);
        // Nothing is known of them, so that three are with each worker; and then two.
        bring(&c, CLIENT, 1000, 1000000, 0);
        c.now = 500000;
        second = bring(&c, priority > 0 ? CLIENT : CLIENT + 1, 4, 1000000, priority);
        until_over(&c, second);
        // At 1 s the first are over, and it is known how long they last; the next ones have begun.
        assert_true(c.over_at[second] <= 3000000);
        until(&c, 10000000);
        second = bring(&c, priority > 0 ? CLIENT : CLIENT + 1, 4, 1000000, priority);
        c.run_us[1] = 0;
        until_over(&c, second);
        assert_true(c.over_at[second] - 10000000 <= 2000000);
        assert_true(c.drops <= 12);
        // What was taken back is done all the same, once.
        until(&c, 30000000);
        assert_true(c.drops <= 12);
        cluster_end(&c, 2);
    }
}

// Two with long tasks do not take places from one another.
static void test_places_are_not_fought_for(void **state)
{
    struct cluster c;

    (void)state;
    cluster_begin(&c, 4, 2);
    bring(&c, CLIENT, 1000, 1000000, 0);
    bring(&c, CLIENT + 1, 1000, 700000, 0);
    until(&c, 100000000);
    assert_in_range(percent(&c, 1, 1, 2), 45, 55);
    assert_true(c.drops <= 20);
    cluster_end(&c, 2);
}

static void test_what_was_not_used_is_not_saved(void **state)
{
    struct cluster c;

    (void)state;
    cluster_begin(&c, 2, 2);
    bring(&c, CLIENT, 1000000, 1000, 0);
    bring(&c, CLIENT + 1, 10, 1000, 0);
    until(&c, 1000000);
    assert_int_equal(c.left[2], 0);
    bring(&c, CLIENT + 1, 1000000, 1000, 0);
    c.run_us[1] = 0;
    until(&c, 1200000);
    assert_in_range(percent(&c, 3, 1, 3), 44, 56);
    // Nor is what was had alone a debt.
    c.run_us[1] = c.run_us[3] = 0;
    until(&c, 1400000);
    assert_in_range(percent(&c, 1, 1, 3), 44, 56);
    cluster_end(&c, 2);
}

static void test_higher_priority_comes_first(void **state)
{
    struct cluster c;

    (void)state;
    cluster_begin(&c, 4, 2);
    bring(&c, CLIENT, 10000, 1000, 0);
    until(&c, 100000);
    bring(&c, CLIENT + 1, 1000, 1000, 1);
    bring(&c, CLIENT, 1000, 1000, 2);
    bring(&c, CLIENT + 1, 1000, 1000, -1);
    c.run_us[1] = 0;
    until_over(&c, 3);
    // What was in the queues went on, and nothing else.
    assert_true(c.run_us[1] <= 4 * 5000);
    assert_true(c.run_us[2] <= 4 * 5000);
    until_over(&c, 2);
    assert_true(c.run_us[1] <= 4 * 10000);
    until_over(&c, 1);
    assert_true(c.run_us[4] <= 4 * 5000);
    until_over(&c, 4);
    cluster_end(&c, 2);
}

static void test_jobs_of_one_client_in_order(void **state)
{
    struct cluster c;

    (void)state;
    cluster_begin(&c, 4, 1);
    for (uint32_t n = 0; n < 5; n++) {
        bring(&c, CLIENT, 200, 1000, 0);
    }
    for (uint32_t j = 1; j <= 5; j++) {
        until_over(&c, j);
        // The next ones have begun at most.
        assert_true(j == 5 || c.left[j + 1] > 180);
    }
    cluster_end(&c, 1);
}

static void test_layers_by_priority(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 0);
    build_init(&build);
    for (uint32_t l = 0; l < 3; l++) {
        build_wanted(&build, build_layer(&build, 4));
        build.layer[l]->has_priority = true;
        build.layer[l]->priority = l == 1 ? 5 : l == 2 ? -5 : 0;
    }
    submit(&play, &build);
    join(&play, 1, 1, true);
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 1, 0, 1);
    join(&play, 2, 3, true);
    assert_true(said(&play, "w2: run j1:t1.2-3"));
    assert_true(said(&play, "w2: run j1:t0.0"));
    build_fini(&build);
    play_end(&play);
}

// Clients come and go, jobs are taken over: sched_check, and in the end nothing is left.
static void test_jobs_change_hands(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct random random = {seed * 0x9e3779b97f4a7c15U};
        struct cluster c;
        bool here[4] = {true, true, true, true};

        cluster_begin(&c, 3, 4);
        for (uint32_t turn = 0; turn < 400; turn++) {
            uint32_t n = random_below(&random, 4);
            uint32_t what = random_below(&random, 100);
            struct sched_event event = event_of(&c.play, EVENT_ATTACH);

            if (what < 5 && c.jobs < 20 && here[n]) {
                event.type = EVENT_SUBMIT;
                flat(&c.build[c.jobs++], 200);
                event.u.submit.client = CLIENT + n;
                event.u.submit.key_lo = c.jobs;
                event.u.submit.graph = build_graph(&c.build[c.jobs - 1]);
                event.u.submit.priority = (int32_t)random_below(&random, 3) - 1;
                event.u.submit.detached = true;
                c.task_us[c.jobs] = 1 + random_below(&random, 3000);
                c.left[c.jobs] = 200;
                cluster_step(&c, &event);
            } else if (what < 10 && here[n] && c.jobs > 0) {
                event.u.attach.client = CLIENT + n;
                event.u.attach.job = random_between(&random, 1, c.jobs);
                cluster_step(&c, &event);
            } else if (what < 15) {
                event.type = here[n] ? EVENT_CLIENT_LEFT : EVENT_CLIENT_JOINED;
                event.u.client.client = CLIENT + n;
                here[n] = !here[n];
                cluster_step(&c, &event);
            } else if (c.machine[1].count + c.machine[2].count + c.machine[3].count > 0) {
                one_over(&c);
            }
            sched_check(c.play.sched);
        }
        for (uint32_t j = 1; j <= c.jobs; j++) {
            struct sched_event event = event_of(&c.play, EVENT_KEEP);

            // All jobs are taken by one who stays, so that they go with him.
            event.type = EVENT_FREE;
            event.u.job.job = j;
            for (uint32_t n = 0; n < 4; n++) {
                event.u.job.client = CLIENT + n;
                cluster_step(&c, &event);
            }
        }
        if (!here[0]) {
            client_event(&c.play, EVENT_CLIENT_JOINED, CLIENT);
        }
        cluster_end(&c, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_clients_get_half_each),
        cmocka_unit_test(test_three_clients_get_a_third_each),
        cmocka_unit_test(test_a_tiny_job_does_not_wait_behind_a_million_tasks),
        cmocka_unit_test(test_who_comes_first_does_not_wait_for_what_is_queued),
        cmocka_unit_test(test_places_are_not_fought_for),
        cmocka_unit_test(test_what_was_not_used_is_not_saved),
        cmocka_unit_test(test_higher_priority_comes_first),
        cmocka_unit_test(test_jobs_of_one_client_in_order),
        cmocka_unit_test(test_layers_by_priority),
        cmocka_unit_test(test_jobs_change_hands),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
