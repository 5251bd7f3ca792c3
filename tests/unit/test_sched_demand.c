// Resources and restrictions: which worker may get a task at all (demand), how many at once, why one waits.
#include "broker/core/sched.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "broker/core/demand.h"
#include "tests/sim/random.h"
#include "tests/unit/sched_play.h"

enum { NAMES_MAX = 4 };

// A worker that has something: labels, resources as name and amount; NULL ends both lists.
struct offer {
    const char *name;
    const char *label[NAMES_MAX];
    struct {
        const char *name;
        uint32_t amount;
    } resource[NAMES_MAX];
};

static void join_with(struct play *play, uint32_t worker, uint32_t threads, const struct offer *offer)
{
    struct sched_event event = event_of(play, EVENT_WORKER_JOINED);
    Dray__Resource resource[NAMES_MAX];
    Dray__Resource *list[NAMES_MAX];
    char *label[NAMES_MAX];

    event.u.joined.worker = worker;
    event.u.joined.threads = threads;
    event.u.joined.shared_files = true;
    event.u.joined.name = offer->name;
    for (size_t k = 0; k < NAMES_MAX && offer->label[k] != NULL; k++) {
        label[event.u.joined.labels++] = (char *)(uintptr_t)offer->label[k];
    }
    for (size_t k = 0; k < NAMES_MAX && offer->resource[k].name != NULL; k++) {
        dray__resource__init(&resource[k]);
        resource[k].name = (char *)(uintptr_t)offer->resource[k].name;
        resource[k].amount = offer->resource[k].amount;
        list[event.u.joined.resources++] = &resource[k];
    }
    event.u.joined.label = label;
    event.u.joined.resource = list;
    assert_int_equal(step(play, &event), 0);
}

static void asks_resource(struct build *build, uint32_t layer, const char *name, uint32_t amount)
{
    Dray__Layer *at = build->layer[layer];
    Dray__Resource *resource = build_alloc(build, 1, sizeof(*resource));

    if (at->resource == NULL) {
        at->resource = build_alloc(build, NAMES_MAX, sizeof(Dray__Resource *));
    }
    dray__resource__init(resource);
    resource->name = (char *)(uintptr_t)name;
    resource->amount = amount;
    at->resource[at->n_resource++] = resource;
}

static void asks_worker(struct build *build, uint32_t layer, const char *name)
{
    Dray__Layer *at = build->layer[layer];

    if (at->worker == NULL) {
        at->worker = build_alloc(build, NAMES_MAX, sizeof(char *));
    }
    at->worker[at->n_worker++] = (char *)(uintptr_t)name;
}

static uint32_t told(const struct play *play, uint32_t worker)
{
    uint32_t count = 0;

    for (size_t k = 0; k < play->actions.count; k++) {
        const struct sched_action *action = &play->actions.action[k];

        count += action->type == ACTION_RUN && action->peer == worker ? action->range.count : 0;
    }
    return count;
}

static const char *layer_waits(const struct play *play, uint32_t layer)
{
    static struct sched_layer info;

    assert_int_equal(sched_layer_info(play->sched, 1, layer, &info), 0);
    return info.waiting;
}

static const char *job_waits(const struct play *play)
{
    static struct sched_job info;

    assert_int_equal(sched_job_info(play->sched, 1, &info), 0);
    return info.waiting;
}

static void test_no_more_at_once_than_there_is(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 2);
    flat(&build, 100);
    asks_resource(&build, 0, "gpu", 2);
    join_with(&play, 1, 8, &(struct offer){.name = "a", .resource = {{"gpu", 5}}});
    join_with(&play, 2, 8, &(struct offer){.name = "b"});
    join_with(&play, 3, 8, &(struct offer){.name = "c", .resource = {{"gpu", 1}}});
    submit(&play, &build);
    assert_int_equal(told(&play, 1), 2);
    assert_int_equal(told(&play, 2) + told(&play, 3), 0);
    // Whatever they last.
    done(&play, 1, 1, 0, 0, 1);
    assert_int_equal(told(&play, 1), 1);
    join_with(&play, 4, 1, &(struct offer){.name = "d", .resource = {{"cpu", 9}, {"gpu", 2}}});
    assert_int_equal(told(&play, 4), 1);
    leave(&play, 1);
    assert_int_equal(counts(&play).tasks_assigned, 1);
    done(&play, 4, 1, 0, 3, 1);
    assert_int_equal(told(&play, 4), 1);
    build_fini(&build);
    play_end(&play);
}

static void test_names_labels_and_plugins(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 0);
    build_init(&build);
    for (uint32_t l = 0; l < 4; l++) {
        build_wanted(&build, build_layer(&build, 100));
    }
    asks_worker(&build, 0, "b");
    asks_worker(&build, 0, "fast");
    asks_worker(&build, 1, "plugin:p");
    asks_worker(&build, 2, "a");
    asks_worker(&build, 2, "plugin:p");
    asks_worker(&build, 2, "b");
    asks_worker(&build, 3, "plugin:p");
    asks_worker(&build, 3, "plugin:q");
    submit(&play, &build);
    assert_string_equal(job_waits(&play), "no workers are connected");
    join_with(&play, 1, 1, &(struct offer){.name = "a"});
    assert_int_equal(told(&play, 1), 0);
    join_with(&play, 2, 1, &(struct offer){.name = "c", .label = {"slow", "fast"}});
    assert_true(said(&play, "w2: run j1:t0.0"));
    join_with(&play, 3, 1, &(struct offer){.name = "d", .label = {"plugin:p"}});
    assert_true(said(&play, "w3: run j1:t1.0"));
    // Either name, and the plugin; both plugins.
    assert_string_equal(layer_waits(&play, 2), "no worker with all of this: named a or b; plugin:p");
    assert_string_equal(layer_waits(&play, 3), "no worker with plugin:p and plugin:q");
    join_with(&play, 4, 2, &(struct offer){.name = "b", .label = {"plugin:p", "x", "plugin:q"}});
    assert_int_equal(told(&play, 4), 2);
    assert_string_equal(layer_waits(&play, 1), "");
    build_fini(&build);
    play_end(&play);
}

static void test_a_layer_that_waits_says_why(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 0);
    build_init(&build);
    for (uint32_t l = 0; l < 3; l++) {
        build_wanted(&build, build_layer(&build, 10));
    }
    asks_resource(&build, 0, "gpu", 2);
    asks_worker(&build, 1, "plugin:none");
    asks_worker(&build, 2, "x");
    asks_worker(&build, 2, "y");
    asks_worker(&build, 2, "z");
    join(&play, 1, 1, true);
    submit(&play, &build);
    assert_string_equal(job_waits(&play), "no worker with resource gpu (2 asked)");
    assert_string_equal(layer_waits(&play, 1), "no worker with plugin:none");
    assert_string_equal(layer_waits(&play, 2), "no worker named x, y or z (nor with such a label)");
    join_with(&play, 2, 1, &(struct offer){.name = "a", .resource = {{"gpu", 1}}});
    assert_string_equal(layer_waits(&play, 0), "no worker with resource gpu (2 asked, largest 1)");
    // A worker may come.
    join_with(&play, 3, 1, &(struct offer){.name = "z", .resource = {{"gpu", 2}}});
    assert_int_equal(told(&play, 3), 1);
    assert_string_equal(job_waits(&play), "");
    build_fini(&build);
    play_end(&play);
}

static void test_all_in_use_is_said(void **state)
{
    struct play play;
    struct build build;
    struct build second;
    struct sched_job info;

    (void)state;
    play_begin(&play, 0);
    flat(&build, 10);
    flat(&second, 10);
    asks_resource(&build, 0, "gpu", 1);
    asks_resource(&second, 0, "gpu", 1);
    join_with(&play, 1, 4, &(struct offer){.name = "a", .resource = {{"gpu", 1}}});
    submit(&play, &build);
    submit_as(&play, &second, 2, CLIENT);
    assert_int_equal(counts(&play).tasks_assigned, 1);
    assert_int_equal(sched_job_info(play.sched, 2, &info), 0);
    assert_string_equal(info.waiting, "all that the workers have of resource gpu is in use");
    build_fini(&build);
    build_fini(&second);
    play_end(&play);
}

// A stuck layer keeps nobody from working; its tasks come first when they can.
static void test_others_go_on(void **state)
{
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 0);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 4));
    build_wanted(&build, build_layer(&build, 100));
    asks_resource(&build, 0, "gpu", 1);
    join_with(&play, 1, 2, &(struct offer){.name = "a", .resource = {{"gpu", 1}}});
    submit(&play, &build);
    assert_true(said(&play, "w1: run j1:t0.0"));
    assert_true(said(&play, "w1: run j1:t1.0"));
    done(&play, 1, 1, 1, 0, 1);
    assert_true(said(&play, "w1: run j1:t1.1"));
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "w1: run j1:t0.1"));
    build_fini(&build);
    play_end(&play);
}

// Not while it waits for its inputs: others could use it meanwhile.
static void test_no_resource_is_taken_ahead(void **state)
{
    struct play play;
    struct build build;
    struct sched_options options;

    (void)state;
    memset(&play, 0, sizeof(play));
    sched_options_default(&options);
    options.queue_depth = 5;
    options.ahead = true;
    play.sched = sched_create(&options);
    assert_non_null(play.sched);
    sched_actions_init(&play.actions);
    client_event(&play, EVENT_CLIENT_JOINED, CLIENT);
    build_init(&build);
    build_layer(&build, 1);
    for (uint32_t l = 1; l < 4; l++) {
        build_input(&build, build_layer(&build, 1), 0, DRAY__PATTERN__ONE_TO_ONE, 0);
        build_wanted(&build, l);
    }
    asks_resource(&build, 1, "gpu", 1);
    asks_worker(&build, 2, "one");
    asks_worker(&build, 3, "two");
    join_with(&play, 1, 1, &(struct offer){.name = "one", .resource = {{"gpu", 1}}});
    submit(&play, &build);
    assert_true(said(&play, "w1: run j1:t0.0"));
    assert_true(said(&play, "w1: run j1:t2.0"));
    assert_int_equal(counts(&play).tasks_assigned, 2);
    done(&play, 1, 1, 0, 0, 1);
    assert_true(said(&play, "w1: run j1:t1.0"));
    join(&play, 2, 1, true);
    assert_int_equal(told(&play, 2), 1);
    build_fini(&build);
    play_end(&play);
}

static void test_thieves_may_have_what_they_take(void **state)
{
    struct play play;
    struct build build;
    uint32_t drops = 0;

    (void)state;
    play_begin(&play, 2);
    build_init(&build);
    build_wanted(&build, build_layer(&build, 10));
    build_wanted(&build, build_layer(&build, 30));
    asks_worker(&build, 1, "one");
    join(&play, 1, 16, true);
    submit(&play, &build);
    assert_int_equal(told(&play, 1), 40);
    join(&play, 2, 1, true);
    for (size_t k = 0; k < play.actions.count; k++) {
        const struct sched_action *action = &play.actions.action[k];

        assert_true(action->type != ACTION_DROP || action->range.layer == 0);
        drops += action->type == ACTION_DROP ? 1 : 0;
    }
    assert_true(drops > 0);
    build_fini(&build);
    play_end(&play);
}

// ---- against a slow checker -------------------------------------------------------------------------

enum { WORKERS = 5, LAYERS = 8, KINDS = 3, WIDTH = 12 };

static const char *const kind_name[KINDS] = {"gpu", "licence", "disk"};
static const char *const label_name[] = {"fast", "plugin:p", "plugin:q", "w1", "w2", "w3"};
enum { LABEL_KINDS = 6, OWN_LABELS = 3 };

struct truth {
    struct play play;
    struct random random;
    struct build build;
    bool here[WORKERS], leaving[WORKERS];
    uint32_t peer[WORKERS], next_peer;
    bool label[WORKERS][LABEL_KINDS];
    uint32_t amount[WORKERS][KINDS];
    bool asks_label[LAYERS][LABEL_KINDS];
    uint32_t asks[LAYERS][KINDS];
    int at[LAYERS][WIDTH]; // worker that has the task, or -1
    bool made[LAYERS][WIDTH];
};

// As the documentation has it.
static bool may_have(const struct truth *truth, uint32_t w, uint32_t l)
{
    bool named = false;
    bool any = false;

    for (uint32_t k = 0; k < LABEL_KINDS; k++) {
        if (!truth->asks_label[l][k]) {
            continue;
        }
        if (strncmp(label_name[k], "plugin:", 7) == 0) {
            if (!truth->label[w][k]) {
                return false;
            }
        } else {
            any = true;
            named = named || truth->label[w][k];
        }
    }
    for (uint32_t k = 0; k < KINDS; k++) {
        if (truth->asks[l][k] > truth->amount[w][k]) {
            return false;
        }
    }
    return named || !any;
}

static void check_amounts(const struct truth *truth)
{
    for (uint32_t w = 0; w < WORKERS; w++) {
        uint32_t taken[KINDS] = {0};

        for (uint32_t l = 0; l < LAYERS; l++) {
            for (uint32_t i = 0; i < WIDTH; i++) {
                for (uint32_t k = 0; k < KINDS; k++) {
                    taken[k] += truth->at[l][i] == (int)w ? truth->asks[l][k] : 0;
                }
            }
        }
        for (uint32_t k = 0; k < KINDS; k++) {
            assert_true(taken[k] <= truth->amount[w][k]);
        }
    }
}

static uint32_t worker_of(const struct truth *truth, uint32_t peer)
{
    uint32_t w = 0;

    while (!truth->here[w] || truth->peer[w] != peer) {
        w++;
        assert_true(w < WORKERS);
    }
    return w;
}

// All tasks are either asked back and given, or stay.
static void obey(struct truth *truth)
{
    struct play *play = &truth->play;
    struct task_range back[64];
    uint32_t from[64];
    uint32_t backs = 0;

    for (size_t k = 0; k < play->actions.count; k++) {
        const struct sched_action *action = &play->actions.action[k];
        uint32_t l = action->range.layer;

        if (action->type == ACTION_RUN) {
            uint32_t w = worker_of(truth, action->peer);

            assert_true(may_have(truth, w, l) && !truth->leaving[w]);
            for (uint32_t n = 0; n < action->range.count; n++) {
                assert_int_equal(truth->at[l][action->range.first + n], -1);
                truth->at[l][action->range.first + n] = (int)w;
            }
        } else if (action->type == ACTION_DROP && backs < 64) {
            from[backs] = action->peer;
            back[backs++] = action->range;
        }
    }
    check_amounts(truth);
    for (uint32_t b = 0; b < backs; b++) {
        struct sched_event event = event_of(play, EVENT_TASKS_DROPPED);

        for (uint32_t n = 0; n < back[b].count; n++) {
            truth->at[back[b].layer][back[b].first + n] = -1;
        }
        event.u.dropped.worker = from[b];
        event.u.dropped.ranges = 1;
        event.u.dropped.range = &back[b];
        assert_int_equal(step(play, &event), 0);
        obey(truth);
    }
}

static void truth_join(struct truth *truth, uint32_t w)
{
    struct offer offer = {.name = "w0"};
    uint32_t labels = 0;
    uint32_t resources = 0;
    bool own = false;

    for (uint32_t k = 0; k < LABEL_KINDS; k++) {
        truth->label[w][k] = k < OWN_LABELS && random_percent(&truth->random, 50);
        if (truth->label[w][k]) {
            offer.label[labels++] = label_name[k];
        } else if (k >= OWN_LABELS && !own && random_percent(&truth->random, 30)) {
            own = truth->label[w][k] = true;
            offer.name = label_name[k];
        }
    }
    for (uint32_t k = 0; k < KINDS; k++) {
        truth->amount[w][k] = random_below(&truth->random, 4);
        if (truth->amount[w][k] > 0) {
            offer.resource[resources].name = kind_name[k];
            offer.resource[resources++].amount = truth->amount[w][k];
        }
    }
    truth->here[w] = true;
    truth->leaving[w] = false;
    truth->peer[w] = truth->next_peer++;
    join_with(&truth->play, truth->peer[w], random_between(&truth->random, 1, 4), &offer);
    obey(truth);
}

static void truth_leave(struct truth *truth, uint32_t w)
{
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t i = 0; i < WIDTH; i++) {
            truth->at[l][i] = truth->at[l][i] == (int)w ? -1 : truth->at[l][i];
        }
    }
    truth->here[w] = false;
    leave(&truth->play, truth->peer[w]);
    memset(truth->amount[w], 0, sizeof(truth->amount[w]));
    obey(truth);
}

static void truth_done(struct truth *truth)
{
    uint32_t l = random_below(&truth->random, LAYERS);
    uint32_t from = random_below(&truth->random, WIDTH);

    for (uint32_t n = 0; n < WIDTH; n++) {
        uint32_t i = (from + n) % WIDTH;
        int w = truth->at[l][i];
        bool inputs = w >= 0;

        // In the order of the inputs, as a worker would.
        for (size_t k = 0; inputs && k < truth->build.layer[l]->n_input; k++) {
            uint32_t source = truth->build.layer[l]->input[k]->layer;

            inputs = truth->at[source][i] != w;
        }
        if (inputs) {
            truth->at[l][i] = -1;
            truth->made[l][i] = true;
            done(&truth->play, truth->peer[w], 1, l, i, 1);
            obey(truth);
            return;
        }
    }
}

static void truth_begin(struct truth *truth, uint64_t seed)
{
    struct sched_options options;

    memset(truth, 0, sizeof(*truth));
    memset(truth->at, -1, sizeof(truth->at));
    truth->random.state = seed * 0x9e3779b97f4a7c15U;
    truth->next_peer = 1;
    sched_options_default(&options);
    options.queue_depth = random_below(&truth->random, 4);
    options.ahead = random_percent(&truth->random, 60);
    options.attempts_max = 1000000;
    truth->play.sched = sched_create(&options);
    assert_non_null(truth->play.sched);
    sched_actions_init(&truth->play.actions);
    client_event(&truth->play, EVENT_CLIENT_JOINED, CLIENT);
    build_init(&truth->build);
    for (uint32_t l = 0; l < LAYERS; l++) {
        build_wanted(&truth->build, build_layer(&truth->build, WIDTH));
        if (l > 0 && random_percent(&truth->random, 60)) {
            build_input(&truth->build, l, random_below(&truth->random, l), DRAY__PATTERN__ONE_TO_ONE, 0);
        }
        for (uint32_t k = 0, labels = 0; k < LABEL_KINDS && labels < NAMES_MAX; k++) {
            if (random_percent(&truth->random, 15)) {
                truth->asks_label[l][k] = true;
                labels++;
                asks_worker(&truth->build, l, label_name[k]);
            }
        }
        for (uint32_t k = 0; k < KINDS; k++) {
            truth->asks[l][k] = random_percent(&truth->random, 25) ? random_between(&truth->random, 1, 3) : 0;
            if (truth->asks[l][k] > 0) {
                asks_resource(&truth->build, l, kind_name[k], truth->asks[l][k]);
            }
        }
    }
    submit(&truth->play, &truth->build);
}

// What is ready and has a worker with all that it needs free is not left lying: there is a worker for which
// the queue of any length would do.
static void check_idle(const struct truth *truth)
{
    for (uint32_t w = 0; w < WORKERS; w++) {
        bool idle = truth->here[w] && !truth->leaving[w];

        for (uint32_t l = 0; l < LAYERS; l++) {
            for (uint32_t i = 0; i < WIDTH; i++) {
                idle = idle && truth->at[l][i] != (int)w;
            }
        }
        for (uint32_t l = 0; idle && l < LAYERS; l++) {
            struct sched_layer info;

            assert_int_equal(sched_layer_info(truth->play.sched, 1, l, &info), 0);
            assert_true(info.in[2] == 0 || !may_have(truth, w, l)); // ready
        }
    }
}

static void test_random_against_a_slow_checker(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct truth truth;

        truth_begin(&truth, seed);
        for (uint32_t turn = 0; turn < 300; turn++) {
            uint32_t w = random_below(&truth.random, WORKERS);
            uint32_t what = random_below(&truth.random, 100);

            if (what < 5 && !truth.here[w]) {
                truth_join(&truth, w);
            } else if (what < 7 && truth.here[w]) {
                truth_leave(&truth, w);
            } else if (what < 8 && truth.here[w] && !truth.leaving[w]) {
                struct sched_event event = event_of(&truth.play, EVENT_WORKER_LEAVING);

                truth.leaving[w] = true;
                event.u.left.worker = truth.peer[w];
                assert_int_equal(step(&truth.play, &event), 0);
                obey(&truth);
            } else if (what >= 8) {
                truth_done(&truth);
            }
            check_idle(&truth);
        }
        build_fini(&truth.build);
        play_end(&truth.play);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_more_at_once_than_there_is),
        cmocka_unit_test(test_names_labels_and_plugins),
        cmocka_unit_test(test_a_layer_that_waits_says_why),
        cmocka_unit_test(test_all_in_use_is_said),
        cmocka_unit_test(test_others_go_on),
        cmocka_unit_test(test_no_resource_is_taken_ahead),
        cmocka_unit_test(test_thieves_may_have_what_they_take),
        cmocka_unit_test(test_random_against_a_slow_checker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
