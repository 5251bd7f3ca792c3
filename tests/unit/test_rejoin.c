// A connection that is lost and comes back (rejoin, extends, results_rejoin, uplink) against a broker that
// this program plays on a thread of its own, which writes down what it hears.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/cpu_time.h"
#include "tests/unit/rejoin_broker.h"

enum { MANY = 500, VERY_MANY = 20000, VERY_MANY_US = 15000000 };

static void test_a_job_goes_on(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    dray_job_t job = submit(dray, false);
    struct dray_error err = {0};
    unsigned notes;

    assert_int_equal(take_all(dray, &notes), TASKS / 2);
    assert_int_equal(notes, 1);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    fake->lost = true;
    // What it may not have heard it hears again; what it tells again comes once.
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again ");
    assert_int_equal(take_all(dray, &notes), 0);
    assert_int_equal(notes, 0);
    assert_int_equal(dray_connected(dray), 1);
    assert_int_equal(dray_cancel(dray, job, &err), 0);
    hears(fake, dray, "CANCEL:1 ");
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again CANCEL:1 ");
    assert_int_equal(dray_release(dray, job, &err), 0);
    hears(fake, dray, "FREE:1 ");
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1 ");
    dray_close(dray);
}

// What was released in a layer that the broker may not have is freed behind it.
static void test_what_is_done_meanwhile(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    dray_job_t job = submit(dray, true);
    const struct dray_future future[] = {{job, 0, 4}, {job, 0, 5}};
    struct dray_error err = {0};
    unsigned notes;

    take_all(dray, &notes);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    fake->mute = fake->lost = true;
    hears(fake, dray, "HELLO ");
    assert_int_equal(dray_connected(dray), 0);
    extend(dray, job, false);
    assert_int_equal(dray_cancel_futures(dray, future, 1, &err), 0);
    assert_int_equal(dray_release_futures(dray, &future[1], 1, &err), 0);
    extend(dray, job, true);
    assert_int_equal(dray_wait(dray, 10, &err), 0);
    fake->mute = false;
    hears(fake, dray, "HELLO FREE:1,0.0+3,0.5+1 ATTACH:1,again EXTEND:1 EXTEND:2,last CANCEL:1,0.4+1 ");
    confirmed(dray, job);
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3,0.5+1 ATTACH:1,again CANCEL:1,0.4+1 ");
    dray_close(dray);
}

static void test_layers_that_were_not_confirmed(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    dray_job_t job = submit(dray, true);

    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    extend(dray, job, false);
    hears(fake, dray, "EXTEND:1 ");
    confirmed(dray, job);
    fake->confirms = false;
    extend(dray, job, false);
    hears(fake, dray, "EXTEND:2 ");
    fake->lost = fake->confirms = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again EXTEND:2 ");
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3");
    dray_close(dray);
}

// That no more come is said until the broker says that it knows: the layers are not all of it.
static void test_the_last_word_is_confirmed_by_itself(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    dray_job_t job = submit(dray, true);
    struct dray_error err = {0};

    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    extend(dray, job, false);
    hears(fake, dray, "EXTEND:1 ");
    confirmed(dray, job);
    fake->confirms = false;
    assert_int_equal(dray_extend_graph(dray, job, NULL, 0, 1, &err), 0);
    hears(fake, dray, "EXTEND:2,none,last ");
    fake->lost = fake->confirms = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again EXTEND:2,none,last FREE:1,1.0+3 ");
    confirmed(dray, job);
    fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3,1.0+3 ATTACH:1,again ");
    assert_int_equal(dray_cancel_futures(dray, &(struct dray_future){job, 0, 4}, 1, &err), 0);
    hears(fake, dray, "CANCEL:1,0.4+1 ");
    dray_close(dray);
}

// A broker that reads nothing for a while: layers for which there was no room go when there is some.
static void test_layers_that_have_no_room(void **state)
{
    struct fake *fake = *state;
    struct dray_error err = {0};
    struct dray_future future = {0};
    dray_t *dray;

    uplink_limit(8);
    dray = connected(fake, 0);
    future.job = submit(dray, true);
    hears(fake, dray, "HELLO SUBMIT:abc ");
    fake->stalls = true;
    for (int full = 0; full < 20;) { // until nothing moves
        int rc = dray_cancel_futures(dray, &future, 1, &err);

        full = rc == -EAGAIN ? full + 1 : 0;
        poll(NULL, 0, rc == -EAGAIN ? 5 : 0);
    }
    extend(dray, future.job, true);
    fake->stalls = false;
    for (int i = 0; i < 2000 && fake->extends == 0; i++) {
        dray_process(dray, &err);
        poll(NULL, 0, 10);
    }
    assert_int_equal(fake->extends, 1);
    assert_int_equal(fake->hellos, 1);
    dray_close(dray);
    uplink_limit(10000);
}

static void add_wide(dray_t *dray)
{
    const struct results_job_options options = {.detached = true};
    Dray__Graph graph = DRAY__GRAPH__INIT;
    Dray__Layer layer = DRAY__LAYER__INIT, *layers[] = {&layer};

    layer.tasks = 2 * WIDE_RANGES;
    graph.n_layer = 1;
    graph.layer = layers;
    assert_int_equal(results_add_job(dray->results, WIDE, &graph, &options, NULL), 0);
}

static void free_wide(dray_t *dray, uint32_t from, uint32_t end)
{
    for (uint32_t i = from; i < end; i++) {
        results_release(dray->results, WIDE, 0, 2 * i, 1);
    }
}

static dray_t *connected_wide(const struct fake *fake)
{
    dray_t *dray;

    uplink_limit(8);
    dray = connected(fake, 0);
    add_wide(dray);
    return dray;
}

static void close_wide(dray_t *dray)
{
    dray_close(dray);
    uplink_limit(10000);
}

// It hears of each that was freed, and of no other; of so many at most twice.
static void hears_of_wide(struct fake *fake, dray_t *dray, uint32_t twice)
{
    bool is = false;

    for (int i = 0; i < 1000 && !is; i++) {
        dray_process(dray, NULL);
        pthread_mutex_lock(&fake->lock);
        is = fake->freed_tasks >= WIDE_RANGES;
        pthread_mutex_unlock(&fake->lock);
        poll(NULL, 0, is ? 0 : 5);
    }
    pthread_mutex_lock(&fake->lock);
    assert_int_equal(fake->freed_tasks, WIDE_RANGES);
    assert_in_range(fake->freed_twice, 0, twice);
    for (uint32_t i = 0; i < 2 * WIDE_RANGES; i++) {
        assert_int_equal(fake->freed[i], i % 2 == 0);
    }
    fake->freed_tasks = fake->freed_twice = 0;
    memset(fake->freed, 0, sizeof(fake->freed));
    pthread_mutex_unlock(&fake->lock);
}

// More ranges than are kept for a broker that reads nothing for a while: it hears of all of them when it
// does.
static void test_what_is_freed_has_no_room(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected_wide(fake);

    fake->stalls = true;
    free_wide(dray, WIDE_RANGES / 2, WIDE_RANGES);
    free_wide(dray, 0, WIDE_RANGES / 2 - 1);
    assert_true(results_unflushed(dray->results));
    fake->stalls = false;
    free_wide(dray, WIDE_RANGES / 2 - 1, WIDE_RANGES / 2);
    hears_of_wide(fake, dray, WIDE_RANGES); // what found room before lies among what did not
    assert_int_equal(fake->hellos, 1);
    close_wide(dray);
}

// All is told again on another connection, which has no room for all of it at once either.
static void test_what_is_freed_again_has_no_room(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected_wide(fake);

    free_wide(dray, 0, WIDE_RANGES);
    hears_of_wide(fake, dray, 0);
    fake->stalls_next = fake->lost = true;
    for (int i = 0; i < 1000 && !fake->stalls; i++) {
        dray_process(dray, NULL);
        poll(NULL, 0, 5);
    }
    assert_true(fake->stalls);
    for (int i = 0; i < 40; i++) { // until nothing moves
        dray_process(dray, NULL);
        poll(NULL, 0, 5);
    }
    fake->stalls = false;
    hears_of_wide(fake, dray, 0);
    assert_int_equal(fake->hellos, 2);
    close_wide(dray);
}

static void test_a_submission_without_an_answer(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    unsigned notes;

    fake->ignores_submit = true;
    assert_int_equal(submit(dray, false), 1);
    assert_int_equal(take_all(dray, &notes), TASKS / 2);
    hears(fake, dray, "HELLO SUBMIT:abc HELLO SUBMIT:abc ");
    dray_close(dray);
}

// Results that are told of again are asked for together: one FETCH, not one each.
static void test_what_is_told_again_is_fetched_at_once(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);

    submit(dray, true);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    extend(dray, 1, false);
    hears(fake, dray, "EXTEND:1 ");
    fake->apart = fake->lost = true;
    hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again FETCH:1.0+1+2 ");
    dray_process(dray, NULL);
    pthread_mutex_lock(&fake->lock);
    assert_string_equal(fake->log, "");
    pthread_mutex_unlock(&fake->lock);
    dray_close(dray);
}

// More jobs than there is room for messages: the broker is asked for them in portions, in the one connection.
static void test_more_jobs_than_messages(void **state)
{
    struct fake *fake = *state;
    struct dray_error err = {0};
    dray_t *dray;

    uplink_limit(8);
    dray = connected(fake, 0);
    fake->counts = true;
    for (unsigned i = 0; i < MANY; i++) {
        const struct dray_submit_options options = {.size = sizeof(options), .open = 1};
        dray_job_t job = 0;

        assert_int_equal(dray_submit_graph(dray, NULL, 0, &options, &job, &err), 0);
        assert_int_equal(job, i + 1);
    }
    fake->lost = true;
    for (int i = 0; fake->attaches < MANY && i < 1000; i++) {
        assert_int_equal(dray_wait(dray, 10, &err), 0);
    }
    assert_int_equal(fake->attaches, MANY);
    for (int i = 0; dray_connected(dray) != 1 && i < 1000; i++) {
        assert_int_equal(dray_wait(dray, 10, &err), 0);
    }
    assert_int_equal(dray_connected(dray), 1);
    assert_int_equal(fake->hellos, 2);
    dray_close(dray);
    uplink_limit(10000);
}

static void hear(dray_t *dray, enum frame_type type, ProtobufCMessage *body)
{
    struct frame frame = {.info = frame_info(type), .message = body};
    struct message message = {.frames = 1};

    assert_int_equal(results_handle(dray->results, &frame, &message, NULL), 0);
}

static void gives(dray_t *dray, enum dray_event_type type, dray_job_t job)
{
    struct dray_event event;

    assert_true(results_pending(dray->results));
    assert_int_equal(results_next(dray->results, &event), 1);
    assert_int_equal(event.type, type);
    assert_int_equal(event.job, job);
    assert_int_equal(results_next(dray->results, &event), 0);
    assert_false(results_pending(dray->results));
}

// What comes for one of very many jobs costs nothing for the others.
static void test_very_many_jobs(void **state)
{
    const struct results_job_options options = {.detached = true};
    dray_t *dray = connected(*state, 0);
    uint64_t begun_us = cpu_us();

    for (uint32_t job = 1; job <= VERY_MANY; job++) {
        assert_int_equal(results_add_job(dray->results, job, NULL, &options, NULL), 0);
    }
    assert_int_equal(results_add_job(dray->results, 7, NULL, &options, NULL), -EEXIST);
    for (uint32_t job = 1; job <= VERY_MANY; job++) {
        Dray__Progress progress = DRAY__PROGRESS__INIT;
        Dray__JobEnded ended = DRAY__JOB_ENDED__INIT;

        progress.job = ended.job = job;
        ended.state = DRAY__JOB_STATE__DONE;
        hear(dray, FRAME_PROGRESS, &progress.base);
        gives(dray, DRAY_PROGRESS, job);
        hear(dray, FRAME_JOB_ENDED, &ended.base);
        gives(dray, DRAY_DONE, job);
        results_tick(dray->results);
    }
    for (uint32_t job = 1; job <= VERY_MANY; job++) {
        results_drop_job(dray->results, job);
    }
    assert_false(results_has_job(dray->results, 7));
    assert_true(cpu_us() - begun_us < CPU_SLOW * VERY_MANY_US);
    dray_close(dray);
}

static void fails(dray_t *dray, const char *words)
{
    struct dray_event event = {0};
    struct dray_error err = {0};

    for (int i = 0; event.type != DRAY_FAILED && i < 1000; i++) {
        dray_wait(dray, 50, &err);
        dray_next(dray, &event, &err);
    }
    assert_int_equal(event.type, DRAY_FAILED);
    assert_int_equal(event.error.code, ENOTCONN);
    assert_non_null(strstr(event.error.text, words));
}

static void test_a_broker_that_knows_nothing(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    struct dray_event event;
    struct dray_error err = {0};

    // Without a job there is nothing to be lost.
    fake->incarnation = 6;
    fake->lost = true;
    hears(fake, dray, "HELLO HELLO ");
    submit(dray, false);
    hears(fake, dray, "SUBMIT:abc FREE:1,0.0+3 ");
    fake->incarnation = 7;
    fake->lost = true;
    fails(dray, "was started anew without what it knew");
    assert_int_equal(dray_next(dray, &event, &err), -ENOTCONN);
    assert_int_equal(dray_wait(dray, 10, &err), -ENOTCONN);
    assert_int_equal(dray_connected(dray), -ENOTCONN);
    dray_close(dray);
}

static void test_a_job_that_is_gone(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);

    submit(dray, false);
    fake->forgets_job = fake->lost = true;
    fails(dray, "there is no such job");
    assert_int_equal(dray_connected(dray), 1);
    dray_close(dray);
}

enum { PATIENCE_MS = 1500 }; // it is back sooner, the first time

static void count_told(void *arg, const struct client_lost *now)
{
    unsigned *told = arg;

    assert_int_equal(now->patience_ms, PATIENCE_MS);
    assert_false(now->goes_on); // there is no job
    told[now->why == NULL]++;
}

static void test_patience_ends(void **state)
{
    struct fake *fake = *state;
    dray_t *dray = connected(fake, PATIENCE_MS);
    struct dray_error err = {0};
    unsigned told[2] = {0};
    uint64_t start;

    client_on_lost(dray, count_told, told);
    fake->lost = true;
    hears(fake, dray, "HELLO HELLO ");
    for (int i = 0; i < 1000 && told[1] == 0; i++) {
        assert_int_equal(dray_wait(dray, 5, &err), 0);
    }
    assert_true(told[0] == 1 && told[1] == 1);
    fake->mute = fake->lost = true;
    start = monotonic_us();
    assert_int_equal(dray_wait(dray, 20000, &err), -ENOTCONN);
    assert_in_range(monotonic_us() - start, PATIENCE_MS * 900, 10000000);
    assert_non_null(strstr(err.text, "did not answer again within 1.5 s"));
    assert_true(told[0] == 2 && told[1] == 1);
    dray_close(dray);
}

// What passes is waited for: a restart, silence, a journal that is slow, no memory.  What does not ends all.
static void test_a_broker_that_ends_the_session(void **state)
{
    static const int passing[] = {ERESTART, ETIMEDOUT, EBUSY, ENOMEM};
    struct fake *fake = *state;
    dray_t *dray = connected(fake, 0);
    struct dray_error err = {0};
    unsigned notes;
    int rc = 0;

    submit(dray, true);
    take_all(dray, &notes);
    hears(fake, dray, "HELLO SUBMIT:abc FREE:1,0.0+3 ");
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++) {
        fake->ends = passing[i];
        hears(fake, dray, "HELLO FREE:1,0.0+3 ATTACH:1,again ");
    }
    fake->ends = ENOBUFS;
    for (int i = 0; i < 1000 && rc >= 0; i++) {
        rc = dray_wait(dray, 5, &err);
    }
    assert_int_equal(rc, -ENOTCONN);
    assert_non_null(strstr(err.text, "that is enough"));
    dray_close(dray);
}

// The first HELLO of all is lost with a broker that dies of it.
static void test_the_first_hello_is_said_again(void **state)
{
    struct fake *fake = *state;
    uint64_t start = monotonic_us();
    dray_t *dray;

    fake->dies = fake->mute = true;
    dray = connected(fake, 300);
    assert_in_range(monotonic_us() - start, 0, 4900000); // connecting has five seconds
    assert_in_range(fake->hellos, 2, 5);
    dray_close(dray);
}

static void test_words_of_the_environment(void **state)
{
    const struct fake *fake = *state;
    struct dray_error err = {0};
    dray_t *dray = NULL;

    setenv("DRAY_RECONNECT", "soon", 1);
    assert_int_equal(dray_connect(fake->endpoint, NULL, &dray, &err), -EINVAL);
    assert_non_null(strstr(err.text, "soon"));
    setenv("DRAY_RECONNECT", "0", 1);
    dray = connected(fake, 0);
    ((struct fake *)(uintptr_t)fake)->lost = true;
    assert_int_equal(dray_wait(dray, 20000, &err), -ENOTCONN);
    dray_close(dray);
    unsetenv("DRAY_RECONNECT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_job_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_done_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_layers_that_were_not_confirmed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_last_word_is_confirmed_by_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_layers_that_have_no_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_freed_has_no_room, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_freed_again_has_no_room, set_up_narrow, tear_down),
        cmocka_unit_test_setup_teardown(test_a_submission_without_an_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_told_again_is_fetched_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_more_jobs_than_messages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_very_many_jobs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_broker_that_knows_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_job_that_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_patience_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_broker_that_ends_the_session, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_first_hello_is_said_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_words_of_the_environment, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
