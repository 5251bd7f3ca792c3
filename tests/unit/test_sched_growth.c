// Jobs that grow, layers that read themselves and other jobs, jobs that are taken over and kept, workers that
// leave.
#include "broker/core/growth.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/random.h"
#include "tests/unit/sched_play.h"

static uint32_t submit_open(struct play *play, struct build *build, uint64_t key, bool open)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);

    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = key;
    event.u.submit.graph = build != NULL ? build_graph(build) : NULL;
    event.u.submit.open = open;
    assert_int_equal(step(play, &event), 0);

    const struct sched_action *accepted = find(play, ACTION_ACCEPTED, CLIENT);

    return accepted != NULL ? accepted->range.job : 0;
}

static void extend(struct play *play, uint32_t job, uint32_t first, struct build *build, bool last)
{
    struct sched_event event = event_of(play, EVENT_EXTEND);

    event.u.extend.client = CLIENT;
    event.u.extend.job = job;
    event.u.extend.first_layer = first;
    event.u.extend.graph = build != NULL ? &build->graph : NULL; // not checked: it goes on from others
    event.u.extend.last = last;
    assert_int_equal(step(play, &event), 0);
}

static void of(struct play *play, enum sched_event_type type, uint32_t client, uint32_t job, bool keep)
{
    struct sched_event event = event_of(play, type);

    if (type == EVENT_ATTACH || type == EVENT_KEEP) {
        event.u.attach.client = client;
        event.u.attach.job = job;
        event.u.attach.keep = keep;
    } else {
        event.u.job.client = client;
        event.u.job.job = job;
    }
    assert_int_equal(step(play, &event), 0);
}

static void leave_politely(struct play *play, uint32_t worker)
{
    struct sched_event event = event_of(play, EVENT_WORKER_LEAVING);

    event.u.left.worker = worker;
    assert_int_equal(step(play, &event), 0);
    // It gives back what it has not started.
    for (size_t k = 0; k < play->actions.count; k++) {
        if (play->actions.action[k].type == ACTION_DROP) {
            const struct task_range range = play->actions.action[k].range;

            event = event_of(play, EVENT_TASKS_DROPPED);
            event.u.dropped.worker = worker;
            event.u.dropped.ranges = 1;
            event.u.dropped.range = &range;
            assert_int_equal(step(play, &event), 0);
            break;
        }
    }
}

static void begin(struct play *play, uint32_t workers)
{
    play_begin(play, 999);
    for (uint32_t w = 1; w <= workers; w++) {
        join(play, w, 1, true);
    }
}

static void test_layers_come_while_it_runs(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    assert_int_equal(submit_open(&play, NULL, 7, true), 1);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    flat(&build, 2);
    extend(&play, 1, 0, &build, false);
    assert_true(said(&play, "w1: learn layer j1:t0"));
    assert_true(said(&play, "w1: run j1:t0.0-1"));
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "c1000: result j1:t0.0 at w1"));
    // A layer that reads the first one, of which half is done.
    build_init(&build);
    build_layer(&build, 2);
    build_input(&build, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);
    build_wanted(&build, 0);
    extend(&play, 1, 1, &build, false);
    build_fini(&build);
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 0, 1, 1);
    assert_true(said(&play, "w1: run j1:t1.1"));
    done(&play, 1, 1, 1, 0, 2);
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    extend(&play, 1, 2, NULL, true);
    assert_true(said(&play, "c1000: j1 is done"));
    play_end(&play);
}

static void test_a_thousand_layers_one_by_one(void **state)
{
    enum { LAYERS = 1000 };
    struct play play;

    (void)state;
    begin(&play, 1);
    submit_open(&play, NULL, 7, true);
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct build build;

        flat(&build, 1);
        extend(&play, 1, l, &build, l == LAYERS - 1);
        build_fini(&build);
        done(&play, 1, 1, l, 0, 1);
    }
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(counts(&play).tasks_done, LAYERS);
    play_end(&play);
}

static void test_refused_growth_names_the_layer(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    submit_open(&play, NULL, 7, true);
    build_init(&build);
    build_layer(&build, 2);
    build_input(&build, 0, 5, DRAY__PATTERN__ONE_TO_ONE, 0);
    extend(&play, 1, 0, &build, false);
    build_fini(&build);
    const struct sched_action *rejected = find(&play, ACTION_REJECTED, CLIENT);

    assert_non_null(rejected);
    assert_int_equal(rejected->range.job, 1);
    assert_int_equal(rejected->key_lo, 7);
    assert_non_null(strstr(rejected->text, "layer 0"));
    assert_int_equal(find(&play, ACTION_JOB_ENDED, CLIENT)->state, JOB_FAILED);
    // What was on its way meanwhile changes nothing.
    flat(&build, 1);
    extend(&play, 1, 1, &build, true);
    assert_int_equal(play.actions.count, 0);
    build_fini(&build);
    // Layers that do not follow on.
    submit_open(&play, NULL, 8, true);
    flat(&build, 1);
    extend(&play, 2, 3, &build, false);
    assert_non_null(find(&play, ACTION_REJECTED, CLIENT));
    build_fini(&build);
    play_end(&play);
}

// A client whose connection was cut says again what it was not told to be safe.
static void test_layers_that_come_again_are_ignored(void **state)
{
    struct play play;
    struct build build;
    enum job_state job_state = JOB_DONE;
    uint32_t layers = 0;

    (void)state;
    play_begin(&play, 999);
    submit_open(&play, NULL, 8, true);
    for (int i = 0; i < 2; i++) {
        flat(&build, 1);
        extend(&play, 1, 0, &build, false);
        assert_null(find(&play, ACTION_REJECTED, CLIENT));
        build_fini(&build);
    }
    assert_int_equal(sched_job_layers(play.sched, 1, &layers, &job_state), 0);
    assert_int_equal(layers, 1);
    assert_true(job_state <= JOB_RUNNING);
    assert_int_equal(sched_job_of_key(play.sched, 0, 8), 1);
    assert_int_equal(sched_job_of_key(play.sched, 1, 8), 0);
    assert_int_equal(sched_job_layers(play.sched, 2, &layers, &job_state), -ENOENT);
    play_end(&play);
}

// The first message of a client: refused for what it asks for, before any of that is there.
static void test_too_much_is_refused_at_once(void **state)
{
    struct play play;
    struct build build;
    Dray__Input *input;
    uint32_t target = 0;

    (void)state;
    begin(&play, 1);
    // Reverse edges of two thousand million partitions, for one task.
    build_init(&build);
    build_layer(&build, GRAPH_TASKS_MAX - 1);
    build_layer(&build, 1);
    input = build_input(&build, 1, 0, DRAY__PATTERN__EXPLICIT, 1);
    input->n_target = 1;
    input->target = &target;
    submit_open(&play, &build, 7, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "tasks"));
    build_fini(&build);
    // ... within the limit of tasks, of as many inputs as there can be.
    build_init(&build);
    build_layer(&build, 99 * 1000 * 1000);
    build_layer(&build, 1);
    build.layer[1]->input = build_alloc(&build, GRAPH_INPUTS_MAX, sizeof(Dray__Input *));
    for (int k = 0; k < GRAPH_INPUTS_MAX; k++) {
        input = build_input(&build, 1, 0, DRAY__PATTERN__EXPLICIT, 1);
        input->n_target = 1;
        input->target = &target;
    }
    play.sched->options.bytes_max = 300 << 20;
    submit_open(&play, &build, 8, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "MB"));
    play.sched->options.bytes_max = UINT64_C(4) << 30;
    build_fini(&build);
    // All neighbours of all, in another job: each would be asked whether it is wanted.
    flat(&build, 200000);
    assert_true(submit_open(&play, &build, 9, false) > 0);
    build_fini(&build);
    build_init(&build);
    build_layer(&build, 200000);
    input = build_input(&build, 0, 0, DRAY__PATTERN__WINDOW, 150000);
    input->has_job = input->has_job_tasks = true;
    input->job = 1;
    input->job_tasks = 200000;
    submit_open(&play, &build, 10, false);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "dependencies"));
    build_fini(&build);
    play_end(&play);
}

// What clients leave with a job that needs no tasks counts as well, and after its tasks have gone.
static void test_notes_count(void **state)
{
    struct play play;
    struct sched_event event;
    uint8_t *note = calloc(1, 1 << 20);
    uint32_t taken = 0;

    (void)state;
    assert_non_null(note);
    begin(&play, 1);
    play.sched->options.bytes_max = 10 << 20;
    for (uint64_t key = 1; key <= 20; key++) {
        event = event_of(&play, EVENT_SUBMIT);
        event.u.submit.client = CLIENT;
        event.u.submit.key_lo = key;
        event.u.submit.open = true;
        event.u.submit.note = note;
        event.u.submit.note_size = 1 << 20;
        assert_int_equal(step(&play, &event), 0);
        taken += find(&play, ACTION_ACCEPTED, CLIENT) != NULL ? 1 : 0;
        of(&play, EVENT_CANCEL, CLIENT, taken, false);
    }
    assert_int_equal(taken, 9);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    assert_true(play.sched->bytes < 9 << 20);
    play_end(&play);
    free(note);
}

static void test_a_chain_in_one_layer(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    build_init(&build);
    build_layer(&build, 4);
    build_input(&build, 0, 0, DRAY__PATTERN__LAG, 1);
    build_layer(&build, 1);
    build_input(&build, 1, 0, DRAY__PATTERN__ALL, 0);
    build_wanted(&build, 1);
    submit(&play, &build);
    build_fini(&build);
    assert_true(said(&play, "w1: run j1:t0.0"));
    for (uint32_t i = 0; i < 3; i++) {
        done(&play, 1, 1, 0, i, 1);
        assert_int_equal(find(&play, ACTION_RUN, 1)->range.first, i + 1);
    }
    done(&play, 1, 1, 0, 3, 1);
    assert_true(said(&play, "w1: run j1:t1.0"));
    // The worker dies: the whole chain is made again, in order.
    join(&play, 2, 1, true);
    leave(&play, 1);
    assert_true(said(&play, "w2: run j1:t0.0"));
    for (uint32_t i = 0; i < 4; i++) {
        done(&play, 2, 1, 0, i, 1);
    }
    done(&play, 2, 1, 1, 0, 1);
    assert_true(said(&play, "c1000: j1 is done"));
    assert_int_equal(counts(&play).recomputed, 4);
    play_end(&play);
}

static void test_what_another_job_made(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    flat(&build, 3);
    submit_as(&play, &build, 1, CLIENT);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 3);
    build_init(&build);
    build_layer(&build, 3);
    Dray__Input *input = build_input(&build, 0, 0, DRAY__PATTERN__ONE_TO_ONE, 0);

    input->has_job = input->has_job_tasks = true;
    input->job = 1;
    input->job_tasks = 3;
    build_wanted(&build, 0);
    submit_as(&play, &build, 2, CLIENT);
    assert_true(said(&play, "c1000: accepted as j2"));
    assert_true(said(&play, "w1: run j2:t0.0-2"));
    // The client has done with the first job: what the second needs stays until it is through.
    of(&play, EVENT_FREE, CLIENT, 1, false);
    assert_int_equal(counts(&play).jobs, 2);
    assert_null(find(&play, ACTION_FORGET_JOB, 1));
    done(&play, 1, 2, 0, 0, 2);
    assert_int_equal(counts(&play).jobs, 2);
    done(&play, 1, 2, 0, 2, 1);
    assert_true(said(&play, "c1000: j2 is done"));
    // All that was wanted of it is released, and it goes with the job that reads it.
    assert_int_equal(counts(&play).partitions, 3);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 0);
    // Nothing to read there any more.
    submit_as(&play, &build, 3, CLIENT);
    assert_non_null(strstr(find(&play, ACTION_REJECTED, CLIENT)->text, "there is no job 1"));
    build_fini(&build);
    play_end(&play);
}

static void test_partitions_of_another_job_are_made_again(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    flat(&build, 1);
    submit_as(&play, &build, 1, CLIENT);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 1);
    build_init(&build);
    build_layer(&build, 1);
    Dray__Input *input = build_input(&build, 0, 0, DRAY__PATTERN__BROADCAST, 0);

    input->has_job = input->has_job_tasks = true;
    input->job = input->job_tasks = 1;
    build_wanted(&build, 0);
    submit_as(&play, &build, 2, CLIENT);
    build_fini(&build);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    join(&play, 2, 1, true);
    leave(&play, 1);
    assert_true(said(&play, "w2: run j1:t0.0"));
    done(&play, 2, 1, 0, 0, 1);
    assert_true(said(&play, "w2: run j2:t0.0"));
    done(&play, 2, 2, 0, 0, 1);
    assert_true(said(&play, "c1000: j2 is done"));
    play_end(&play);
}

// An input of the newest layer: a layer of another job.
static Dray__Input *read_job(struct build *build, uint32_t job, uint32_t layer, uint32_t tasks,
                             Dray__Pattern pattern)
{
    Dray__Input *input = build_input(build, (uint32_t)build->graph.n_layer - 1, layer, pattern, 0);

    input->has_job = input->has_job_tasks = true;
    input->job = job;
    input->job_tasks = tasks;
    return input;
}

// Places of partitions that border on one another by number, of layers with one number, of two jobs.
static void test_places_of_two_jobs_are_told_apart(void **state)
{
    struct play play;
    struct build build;
    const struct sched_action *run;

    (void)state;
    begin(&play, 1);
    flat(&build, 2);
    submit_as(&play, &build, 1, CLIENT);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 2);
    build_init(&build);
    build_layer(&build, 1);
    build_wanted(&build, 0);
    build_layer(&build, 1);
    build_wanted(&build, 1);
    build_input(&build, 1, 0, DRAY__PATTERN__ALL, 0);

    Dray__Input *input = read_job(&build, 1, 0, 2, DRAY__PATTERN__EXPLICIT);
    uint32_t offset[] = {0, 1};
    uint32_t target[] = {1};

    input->n_offset = 2;
    input->offset = offset;
    input->n_target = 1;
    input->target = target;
    submit_as(&play, &build, 2, CLIENT);
    assert_true(said(&play, "w1: run j2:t0.0"));
    done(&play, 1, 2, 0, 0, 1);
    // What needs both is to be done elsewhere.
    leave_politely(&play, 1);
    join(&play, 2, 1, true);
    run = find(&play, ACTION_RUN, 2);
    assert_non_null(run);
    assert_int_equal(run->range.layer, 1);
    assert_int_equal(run->wholes, 1);
    assert_int_equal(run->whole[0].range.job, 2);
    assert_int_equal(run->locations, 1);
    assert_int_equal(run->location[0].range.job, 1);
    assert_int_equal(run->location[0].range.first, 1);
    done(&play, 2, 2, 1, 0, 1);
    build_fini(&build);
    play_end(&play);
}

// Job 1 has layers 0 and 1, job 2 has layer 0: 1.0 -> 2.0 -> 1.1.  `reader`: job 3 reads 2.0.
static void make_ring(struct play *play, bool reader)
{
    struct build build;

    begin(play, 1);
    flat(&build, 3);
    assert_int_equal(submit_open(play, &build, 1, true), 1);
    build_fini(&build);
    done(play, 1, 1, 0, 0, 3);
    for (uint32_t job = 2; job <= 3; job++) {
        build_init(&build);
        build_layer(&build, 3);
        build_wanted(&build, 0);
        if (job == 2 || reader) {
            read_job(&build, job - 1, 0, 3, DRAY__PATTERN__ONE_TO_ONE);
        }
        submit_as(play, &build, job, CLIENT);
        done(play, 1, job, 0, 0, 3);
        build_fini(&build);
    }
    build_init(&build);
    build_layer(&build, 3);
    build_wanted(&build, 0);
    read_job(&build, 2, 0, 3, DRAY__PATTERN__ALL);
    extend(play, 1, 1, &build, true);
    build_fini(&build);
    assert_true(said(play, "w1: run j1:t1.0-2"));
}

// Two jobs that read one another keep one another; when nobody has either, both go.
static void test_jobs_that_need_one_another(void **state)
{
    struct play play;

    (void)state;
    make_ring(&play, false);
    of(&play, EVENT_FREE, CLIENT, 1, false); // in the midst of it
    assert_int_equal(counts(&play).jobs, 3);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 1);
    assert_int_equal(counts(&play).partitions, 3);
    assert_true(said(&play, "w1: forget j1"));
    assert_true(said(&play, "w1: forget j2"));
    play_end(&play);
    // A third one that somebody has keeps both.
    make_ring(&play, true);
    done(&play, 1, 1, 1, 0, 3);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 3);
    // ... and can have made again what is lost.
    leave(&play, 1);
    join(&play, 2, 1, true);
    assert_true(said(&play, "w2: run j1:t0.0-2"));
    done(&play, 2, 1, 0, 0, 3);
    done(&play, 2, 2, 0, 0, 3);
    done(&play, 2, 3, 0, 0, 3);
    of(&play, EVENT_FREE, CLIENT, 3, false);
    assert_int_equal(counts(&play).jobs, 0);
    assert_int_equal(counts(&play).partitions, 0);
    play_end(&play);
    // All of them with their client.
    make_ring(&play, true);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    assert_int_equal(counts(&play).jobs, 0);
    play_end(&play);
}

// One that was given up and is there for another only, and that fails in the same moment as that one.
static void test_a_hidden_job_that_fails_is_forgotten(void **state)
{
    static const char *const name[] = {"a.csv"};
    struct play play;
    struct build first;
    struct build second;
    struct build more;
    struct sched_event event;

    (void)state;
    play_begin(&play, 999);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT + 1);
    flat(&first, 1);
    build_source(&first, 0, (char[]){"d.csv"}, 0, 1);
    submit_as(&play, &first, 1, CLIENT + 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));
    read_job(&second, 1, 0, 1, DRAY__PATTERN__ALL);
    assert_int_equal(submit_open(&play, &second, 2, true), 2);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT + 1);
    assert_int_equal(counts(&play).jobs, 2);
    flat(&more, 1);
    build_source(&more, 0, (char[]){"d.csv"}, 0, 1);
    extend(&play, 2, 1, &more, true);
    join(&play, 1, 1, false);
    event = event_of(&play, EVENT_SOURCES);
    event.u.sources.worker = 1;
    event.u.sources.count = 1;
    event.u.sources.name = event.u.sources.path = name;
    assert_int_equal(step(&play, &event), 0);
    assert_non_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    assert_int_equal(counts(&play).jobs, 1);
    build_fini(&first);
    build_fini(&second);
    build_fini(&more);
    play_end(&play);
}

static void test_an_open_job_is_given_up(void **state)
{
    struct play play;
    struct build first;
    struct build second;
    struct sched_event event;

    (void)state;
    begin(&play, 1);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT + 1);
    flat(&first, 1);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT + 1;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(&first);
    event.u.submit.open = true;
    assert_int_equal(step(&play, &event), 0);
    done(&play, 1, 1, 0, 0, 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));
    read_job(&second, 1, 0, 1, DRAY__PATTERN__ALL);
    submit_as(&play, &second, 2, CLIENT);
    // Nothing of it is left to do: it is done, though nobody said that no more layers come.
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT + 1);
    assert_int_equal(counts(&play).jobs, 2);
    done(&play, 1, 2, 0, 0, 1);
    of(&play, EVENT_FREE, CLIENT, 2, false);
    assert_int_equal(counts(&play).jobs, 0);
    build_fini(&first);
    build_fini(&second);
    play_end(&play);
}

// A job and the one that reads it are given up with one step: so are the copies.
static void test_copies_go_with_both_jobs(void **state)
{
    struct play play;
    struct build first;
    struct build second;
    struct sched_event both[2];

    (void)state;
    begin(&play, 1);
    join(&play, 2, 1, true);
    flat(&first, 1);
    submit_as(&play, &first, 1, CLIENT);
    done(&play, 1, 1, 0, 0, 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));
    read_job(&second, 1, 0, 1, DRAY__PATTERN__ALL);
    leave_politely(&play, 1);
    submit_as(&play, &second, 2, CLIENT);
    assert_int_equal(find(&play, ACTION_RUN, 2)->range.job, 2);
    done(&play, 2, 2, 0, 0, 1);
    for (uint32_t k = 0; k < 2; k++) {
        both[k] = event_of(&play, EVENT_FREE);
        both[k].u.job.client = CLIENT;
        both[k].u.job.job = k + 1;
    }
    assert_int_equal(sched_step(play.sched, both, 2, &play.actions), 0);
    assert_true(said(&play, "w2: release j1:t0.0"));
    build_fini(&first);
    build_fini(&second);
    play_end(&play);
}

// A job for its effect ends where its own layers end, whoever else reads it.
static void test_another_job_reads_its_end(void **state)
{
    struct play play;
    struct build first;
    struct build second;
    uint32_t offset[] = {0, 0};

    (void)state;
    begin(&play, 1);
    build_init(&first);
    build_layer(&first, 3);
    assert_int_equal(submit_open(&play, &first, 1, true), 1);
    build_init(&second);
    build_wanted(&second, build_layer(&second, 1));

    Dray__Input *input = read_job(&second, 1, 0, 3, DRAY__PATTERN__EXPLICIT);

    input->n_offset = 2;
    input->offset = offset;
    submit_as(&play, &second, 2, CLIENT);
    extend(&play, 1, 1, NULL, true);
    assert_true(said(&play, "w1: run j1:t0.0-2"));
    build_fini(&first);
    build_fini(&second);
    play_end(&play);
}

static void test_kept_and_taken_over(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    begin(&play, 1);
    flat(&build, 2);
    submit(&play, &build);
    build_fini(&build);
    done(&play, 1, 1, 0, 0, 2);
    of(&play, EVENT_KEEP, CLIENT, 1, true);
    of(&play, EVENT_FREE, CLIENT, 1, false);
    client_event(&play, EVENT_CLIENT_LEFT, CLIENT);
    assert_int_equal(counts(&play).partitions, 2);
    client_event(&play, EVENT_CLIENT_JOINED, 1001);
    of(&play, EVENT_ATTACH, 1001, 1, false);
    assert_true(said(&play, "c1001: result j1:t0.0-1 at w1"));
    assert_true(said(&play, "c1001: j1 is done"));
    // Who had it is told; who asks again is not.
    of(&play, EVENT_ATTACH, 1001, 1, false);
    assert_null(find(&play, ACTION_REJECTED, 1001));
    client_event(&play, EVENT_CLIENT_JOINED, 1002);
    of(&play, EVENT_ATTACH, 1002, 1, false);
    assert_true(said(&play, "c1001: rejected: another client has taken over this job"));
    assert_int_equal(find(&play, ACTION_REJECTED, 1001)->range.job, 1);
    client_event(&play, EVENT_CLIENT_LEFT, 1002);
    client_event(&play, EVENT_CLIENT_LEFT, 1001);
    assert_int_equal(counts(&play).jobs, 1);
    of(&play, EVENT_KEEP, CLIENT, 1, false);
    assert_int_equal(counts(&play).jobs, 0);
    assert_true(said(&play, "w1: forget j1"));
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    play_end(&play);
}

static void test_a_client_without_room_waits(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;

    (void)state;
    begin(&play, 1);
    flat(&build, 2);
    submit(&play, &build);
    build_fini(&build);
    event = event_of(&play, EVENT_CLIENT_FULL);
    event.u.client.client = CLIENT;
    event.u.client.full = true;
    assert_int_equal(step(&play, &event), 0);
    done(&play, 1, 1, 0, 0, 2);
    assert_null(find(&play, ACTION_RESULT, CLIENT));
    assert_null(find(&play, ACTION_JOB_ENDED, CLIENT));
    event.u.client.full = false;
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "c1000: result j1:t0.0-1 at w1"));
    assert_true(said(&play, "c1000: j1 is done"));
    play_end(&play);
}

static void test_a_leaving_worker_gets_no_more(void **state)
{
    struct play play;
    struct build build;
    struct sched_event event;
    struct task_range back = {1, 0, 1, 3};

    (void)state;
    begin(&play, 1);
    flat(&build, 4);
    submit(&play, &build);
    build_fini(&build);
    event = event_of(&play, EVENT_WORKER_LEAVING);
    event.u.left.worker = 1;
    assert_int_equal(step(&play, &event), 0);
    assert_true(said(&play, "w1: give back j1:t0.0-3"));
    event = event_of(&play, EVENT_TASKS_DROPPED);
    event.u.dropped.worker = 1;
    event.u.dropped.ranges = 1;
    event.u.dropped.range = &back;
    assert_int_equal(step(&play, &event), 0);
    assert_null(find(&play, ACTION_RUN, 1));
    join(&play, 2, 1, true);
    assert_true(said(&play, "w2: run j1:t0.1-3"));
    done(&play, 1, 1, 0, 0, 1);
    assert_null(find(&play, ACTION_RUN, 1));
    done(&play, 2, 1, 0, 1, 3);
    assert_true(said(&play, "c1000: j1 is done"));
    play_end(&play);
}

static void test_what_there_is_to_say(void **state)
{
    struct play play;
    struct build build;
    struct sched_job job;
    struct sched_layer layer;
    uint32_t number[4];

    (void)state;
    play_begin(&play, 2);
    flat(&build, 5);
    build.layer[0]->name = "load";
    submit(&play, &build);
    build_fini(&build);
    assert_int_equal(sched_jobs(play.sched, 0, number, 4), 1);
    assert_int_equal(number[0], 1);
    assert_int_equal(sched_jobs(play.sched, 1, number, 4), 0);
    assert_int_equal(sched_job_info(play.sched, 1, &job), 0);
    assert_int_equal(job.tasks, 5);
    assert_string_equal(job.waiting, "no workers are connected");
    assert_int_equal(sched_layer_info(play.sched, 1, 0, &layer), 0);
    assert_string_equal(layer.name, "load");
    assert_int_equal(layer.in[2], 5);
    assert_int_equal(sched_layer_info(play.sched, 1, 1, &layer), -ENOENT);
    assert_int_equal(sched_job_info(play.sched, 2, &job), -ENOENT);
    play_end(&play);
}

// ---- random jobs that grow -----------------------------------------------------------------------

enum { RANDOM_LAYERS = 12, RANDOM_TASKS = 9, RANDOM_WORKERS = 3, RANGES = 4096 };

struct game {
    struct play play;
    struct random random;
    struct task_range given[RANDOM_WORKERS + 1][RANGES]; // to each worker, in order
    size_t gives[RANDOM_WORKERS + 1];
    uint32_t tasks[2][RANDOM_LAYERS]; // of each job's layers
    uint32_t layers[2];
    bool ended[2];
    bool here[RANDOM_WORKERS + 1];
};

static void listen(struct game *game)
{
    for (size_t k = 0; k < game->play.actions.count; k++) {
        const struct sched_action *action = &game->play.actions.action[k];

        if (action->type == ACTION_RUN) {
            assert_true(game->gives[action->peer] < RANGES);
            game->given[action->peer][game->gives[action->peer]++] = action->range;
        } else if (action->type == ACTION_JOB_ENDED) {
            assert_int_equal(action->state, JOB_DONE);
            game->ended[action->range.job - 1] = true;
        } else {
            assert_int_not_equal(action->type, ACTION_REJECTED);
        }
    }
}

static void add_input(struct game *game, struct build *build, uint32_t job, uint32_t first, uint32_t l,
                      uint32_t tasks)
{
    uint32_t number = first + l;
    bool foreign = job == 1 && game->layers[0] > 0 && random_percent(&game->random, 30);
    uint32_t source = foreign       ? random_below(&game->random, game->layers[0])
                      : number == 0 ? 0
                                    : random_below(&game->random, number + 1);
    bool own = !foreign && source == number;
    uint32_t have = foreign ? game->tasks[0][source] : own ? tasks : game->tasks[job][source];
    Dray__Input *input;

    if (own && random_percent(&game->random, 50)) {
        build_input(build, l, source, DRAY__PATTERN__LAG, 1 + random_below(&game->random, 3));
        return;
    }
    if (!own && random_percent(&game->random, 30)) {
        input = build_input(build, l, source, DRAY__PATTERN__ALL, 0);
    } else {
        bool sparse = random_percent(&game->random, 50);

        input = build_input(build, l, source, DRAY__PATTERN__EXPLICIT, 0);
        input->n_offset = tasks + 1;
        input->offset = build_alloc(build, tasks + 1, sizeof(uint32_t));
        input->target = build_alloc(build, (size_t)tasks * 3, sizeof(uint32_t));
        input->offset[0] = 0;
        for (uint32_t i = 0; i < tasks; i++) {
            uint32_t n = sparse && random_below(&game->random, 4) > 0 ? 0 : random_below(&game->random, 4);
            uint32_t most = own ? i : have;

            for (uint32_t e = 0; most > 0 && e < n; e++) {
                input->target[input->n_target++] = random_below(&game->random, most);
            }
            input->offset[i + 1] = (uint32_t)input->n_target;
        }
        input_list_rows(input, tasks, build_alloc(build, 2 * input->n_target + 1, sizeof(uint32_t)));
        if (random_percent(&game->random, 50)) {
            input_trim_rows(input);
        }
    }
    if (foreign) {
        input->has_job = input->has_job_tasks = true;
        input->job = 1;
        input->job_tasks = have;
    }
}

// One to three more layers, all of which the client wants.
static void grow(struct game *game, uint32_t job)
{
    struct build build;
    uint32_t first = game->layers[job];
    uint32_t more = 1 + random_below(&game->random, 3);

    build_init(&build);
    for (uint32_t l = 0; l < more; l++) {
        uint32_t tasks = 1 + random_below(&game->random, RANDOM_TASKS);

        build_layer(&build, tasks);
        game->tasks[job][first + l] = tasks;
        for (uint32_t k = random_below(&game->random, 6); k > 0; k--) {
            add_input(game, &build, job, first, l, tasks);
        }
        build_wanted(&build, l);
    }
    extend(&game->play, job + 1, first, &build, false);
    game->layers[job] += more;
    listen(game);
    build_fini(&build);
}

static void work(struct game *game, uint32_t worker)
{
    struct task_range range;

    if (game->gives[worker] == 0) {
        return;
    }
    range = game->given[worker][0];
    memmove(game->given[worker], game->given[worker] + 1, --game->gives[worker] * sizeof(range));
    done(&game->play, worker, range.job, range.layer, range.first, range.count);
    listen(game);
}

static void die(struct game *game, uint32_t worker)
{
    leave(&game->play, worker);
    listen(game);
    game->gives[worker] = 0;
    join(&game->play, worker, 1, true);
    listen(game);
}

static void play_game(uint64_t seed, bool ahead)
{
    struct game *game = calloc(1, sizeof(*game));
    struct sched_options options;
    int rounds = 0;

    assert_non_null(game);
    game->random.state = seed;
    sched_options_default(&options);
    options.ahead = ahead;
    options.attempts_max = UINT32_MAX;
    game->play.sched = sched_create(&options);
    sched_actions_init(&game->play.actions);
    client_event(&game->play, EVENT_CLIENT_JOINED, CLIENT);
    for (uint32_t w = 1; w <= RANDOM_WORKERS; w++) {
        join(&game->play, w, 1, true);
    }
    assert_int_equal(submit_open(&game->play, NULL, 1, true), 1);
    assert_int_equal(submit_open(&game->play, NULL, 2, true), 2);
    while (!game->ended[0] || !game->ended[1]) {
        uint32_t dice = random_below(&game->random, 100);
        uint32_t worker = 1 + random_below(&game->random, RANDOM_WORKERS);
        uint32_t job = random_below(&game->random, 2);

        assert_true(rounds++ < 100000);
        if (dice < 10 && game->layers[job] + 3 <= RANDOM_LAYERS) {
            grow(game, job);
        } else if (dice < 12 && game->layers[job] + 3 > RANDOM_LAYERS) {
            extend(&game->play, job + 1, game->layers[job], NULL, true);
            listen(game);
        } else if (dice < 14) {
            die(game, worker);
        } else {
            work(game, worker);
        }
    }
    play_end(&game->play);
    free(game);
}

static void test_random_growth(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 600; seed++) {
        play_game(seed, seed % 2 == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_that_come_again_are_ignored),
        cmocka_unit_test(test_layers_come_while_it_runs),
        cmocka_unit_test(test_a_thousand_layers_one_by_one),
        cmocka_unit_test(test_refused_growth_names_the_layer),
        cmocka_unit_test(test_too_much_is_refused_at_once),
        cmocka_unit_test(test_notes_count),
        cmocka_unit_test(test_a_chain_in_one_layer),
        cmocka_unit_test(test_what_another_job_made),
        cmocka_unit_test(test_partitions_of_another_job_are_made_again),
        cmocka_unit_test(test_places_of_two_jobs_are_told_apart),
        cmocka_unit_test(test_jobs_that_need_one_another),
        cmocka_unit_test(test_a_hidden_job_that_fails_is_forgotten),

        cmocka_unit_test(test_an_open_job_is_given_up),
        cmocka_unit_test(test_copies_go_with_both_jobs),
        cmocka_unit_test(test_another_job_reads_its_end),
        cmocka_unit_test(test_kept_and_taken_over),
        cmocka_unit_test(test_a_client_without_room_waits),
        cmocka_unit_test(test_a_leaving_worker_gets_no_more),
        cmocka_unit_test(test_what_there_is_to_say),
        cmocka_unit_test(test_random_growth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
