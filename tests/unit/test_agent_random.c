// The agent against a broker that assigns whatever is allowed, ahead of time too, takes back, kills,
// releases, loses the connection, and against threads that fail, skip and dawdle.  agent_check after every
// step; every task that was assigned must come to a known end.
#include "worker/core/agent.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/build.h"
#include "tests/sim/random.h"

enum { LAYERS = 6, TASKS = 70, BUNDLES = 64, BUNDLE_KEYS = LAYERS * TASKS, JOB = 3, OTHER = 2 };

enum fate { IDLE, ASSIGNED, DONE };

struct bundle {
    uint32_t number;
    struct task_key key[BUNDLE_KEYS];
    bool withdrawn[BUNDLE_KEYS];
    size_t at, count;
};

struct play {
    struct random random;
    struct build build;
    struct agent *agent;
    struct agent_actions actions;
    uint32_t threads;
    bool connected, leaving;
    // What the broker thinks of each task, what the store has.
    enum fate fate[LAYERS][TASKS];
    bool stored[LAYERS][TASKS], other[TASKS];
    // Its outcome is on its way to the agent: what is freed meanwhile was a copy of the same.
    bool pending[LAYERS][TASKS];
    bool asked[LAYERS][TASKS]; // to be taken over, not answered
    bool welcomed;             // the step is that of CONNECTED
    bool fetching[LAYERS][TASKS];
    bool rotten[LAYERS][TASKS]; // what was stored was damaged, and is not there any more
    struct bundle bundle[BUNDLES];
    struct agent_event later[4 * BUNDLE_KEYS];
    size_t laters;
    unsigned ran;
};

static uint32_t tasks_of(const struct play *play, uint32_t layer)
{
    return play->build.layer[layer]->tasks;
}

static void add_layer(struct play *play, uint32_t number)
{
    struct random *random = &play->random;
    uint32_t before = number > 0 ? tasks_of(play, number - 1) : 0;
    uint32_t kind = number > 0 ? random_below(random, 6) : 0;
    uint32_t width = random_between(random, 1, 3);
    uint32_t tasks = kind == 1 || kind == 2 ? before
                     : kind == 3            ? (before + width) / (width + 1)
                                            : random_between(random, 1, TASKS);

    build_layer(&play->build, tasks);
    if (kind == 1) {
        build_input(&play->build, number, number - 1, DRAY__PATTERN__ONE_TO_ONE, 0);
    } else if (kind == 2) {
        build_input(&play->build, number, number - 1, DRAY__PATTERN__WINDOW, width);
    } else if (kind == 3) {
        build_input(&play->build, number, number - 1, DRAY__PATTERN__FAN_IN, width + 1);
    } else if (kind == 4) {
        build_input(&play->build, number, random_below(random, number), DRAY__PATTERN__ALL, 0);
    }
    if (random_percent(random, 40)) {
        build_input(&play->build, number, number, DRAY__PATTERN__LAG, width);
    }
    if (random_percent(random, 30) && number > 0) {
        Dray__Input *input = build_input(&play->build, number, number - 1, DRAY__PATTERN__EXPLICIT, 0);

        input->offset = build_alloc(&play->build, tasks + 1, sizeof(uint32_t));
        input->target = build_alloc(&play->build, (size_t)tasks * 3, sizeof(uint32_t));
        input->n_offset = tasks + 1;
        for (uint32_t i = 0; i < tasks; i++) {
            input->offset[i] = (uint32_t)input->n_target;
            for (uint32_t n = random_below(random, 4); n > 0; n--) {
                input->target[input->n_target++] = random_below(random, before);
            }
        }
        input->offset[tasks] = (uint32_t)input->n_target;
    }
}

// ---- what the agent does -------------------------------------------------------------------

static void say(struct play *play, struct agent_event event)
{
    assert_true(play->laters < sizeof(play->later) / sizeof(play->later[0]));
    play->later[play->laters++] = event;
}

static void run_bundle(struct play *play, const struct agent_action *action)
{
    struct bundle *bundle = play->bundle;
    uint32_t busy = 1;

    for (int b = 0; b < BUNDLES; b++) {
        busy += play->bundle[b].number != 0;
    }
    assert_true(busy <= play->threads);
    while (bundle->number != 0) {
        bundle++;
    }
    memset(bundle, 0, sizeof(*bundle));
    bundle->number = action->bundle;
    for (size_t r = 0; r < action->u.ranges; r++) {
        const struct agent_range *range = &action->p.range[r];

        for (uint32_t i = 0; i < range->count; i++) {
            bundle->key[bundle->count++] = (struct task_key){range->job, range->layer, range->first + i};
        }
    }
}

static bool is_in(const struct agent_range *range, const struct task_key *key)
{
    return range->layer == key->layer && key->index - range->first < range->count;
}

static void skipped(struct play *play, const struct task_key *key)
{
    struct agent_event event = {.type = AGENT_TASKS_SKIPPED};

    event.u.range.range = (struct agent_range){key->job, key->layer, key->index, 1};
    say(play, event);
}

static void withdraw(struct play *play, const struct agent_action *action)
{
    for (int b = 0; b < BUNDLES; b++) {
        struct bundle *bundle = &play->bundle[b];

        if (bundle->number == 0 || (action->type == AGENT_CUT && bundle->number != action->bundle)) {
            continue;
        }
        // The one at `at` runs.
        for (size_t k = bundle->at + 1; k < bundle->count; k++) {
            if (!bundle->withdrawn[k] &&
                (action->type == AGENT_CUT || is_in(&action->u.range, &bundle->key[k]))) {
                bundle->withdrawn[k] = true;
                skipped(play, &bundle->key[k]);
            }
        }
    }
}

static bool *slot(struct play *play, uint32_t job, uint32_t layer, uint32_t index)
{
    return job == JOB ? &play->stored[layer][index] : &play->other[index];
}

static void each(struct play *play, const struct agent_action *action)
{
    const struct agent_range *range = &action->u.range;

    for (uint32_t i = range->first; i < range->first + range->count; i++) {
        switch (action->type) {
        case AGENT_FREE:
            if (range->job == JOB && play->rotten[range->layer][i]) {
                break; // it is not there any more
            }
            assert_true(*slot(play, range->job, range->layer, i));
            *slot(play, range->job, range->layer, i) = range->job == JOB && play->pending[range->layer][i];
            break;
        case AGENT_REPORT_DONE:
            assert_true(play->rotten[range->layer][i] || play->stored[range->layer][i]);
            play->fate[range->layer][i] = DONE;
            break;
        case AGENT_REPORT_GONE:
            play->fate[range->layer][i] = IDLE;
            break;
        case AGENT_REPORT_DROPPED:
            assert_int_not_equal(play->fate[range->layer][i], DONE);
            play->fate[range->layer][i] = IDLE;
            break;
        case AGENT_HAS:
            assert_true(play->welcomed);
            play->fate[range->layer][i] = ASSIGNED;
            break;
        case AGENT_DECLINE:
            assert_true(play->asked[range->layer][i]);
            play->asked[range->layer][i] = false;
            break;
        default:
            assert_true(*slot(play, range->job, range->layer, i));
            assert_true(play->welcomed || play->asked[range->layer][i]);
            play->asked[range->layer][i] = false;
            break;
        }
    }
}

static void act(struct play *play, const struct agent_action *action)
{
    switch (action->type) {
    case AGENT_RUN:
        run_bundle(play, action);
        break;
    case AGENT_WITHDRAW:
    case AGENT_CUT:
    case AGENT_CANCEL:
        withdraw(play, action);
        break;
    case AGENT_FETCH:
        if (action->u.key.job == JOB) {
            play->fetching[action->u.key.layer][action->u.key.index] = true;
        } else {
            struct agent_event got = {.type = AGENT_FETCHED, .u.task.key = action->u.key};

            play->other[action->u.key.index] = true;
            say(play, got);
        }
        break;
    case AGENT_REPORT_FAILED:
        assert_true(play->connected);
        play->fate[action->u.key.layer][action->u.key.index] = IDLE;
        break;
    case AGENT_FREE_LAYER:
        break;
    default:
        assert_true(play->connected || action->type == AGENT_FREE);
        each(play, action);
        break;
    }
}

static void step(struct play *play, const struct agent_event *event)
{
    play->welcomed = event->type == AGENT_CONNECTED;
    assert_int_equal(agent_step(play->agent, event, 1, &play->actions, NULL), 0);
    agent_check(play->agent);
    for (size_t k = 0; k < play->actions.count; k++) {
        act(play, &play->actions.action[k]);
    }
}

static void range_event(struct play *play, enum agent_event_type type, bool kill)
{
    struct agent_event event = {.type = type};
    uint32_t layer = random_below(&play->random, LAYERS);
    uint32_t first = random_below(&play->random, tasks_of(play, layer));
    uint32_t count = random_between(&play->random, 1, tasks_of(play, layer) - first);

    event.u.range.range = (struct agent_range){JOB, layer, first, count};
    event.u.range.kill = kill;
    for (uint32_t i = first; i < first + count; i++) {
        if (type == AGENT_COPY) {
            play->asked[layer][i] = true;
        } else if (type == AGENT_ASSIGN) {
            play->fate[layer][i] = ASSIGNED;
        } else if (kill && play->fate[layer][i] == ASSIGNED) {
            play->fate[layer][i] = IDLE;
        } else if (type == AGENT_RELEASE && play->fate[layer][i] == DONE) {
            play->fate[layer][i] = IDLE;
        }
    }
    step(play, &event);
}

static void locate(struct play *play)
{
    struct agent_event event = {.type = AGENT_LOCATION};
    uint32_t layer = random_below(&play->random, LAYERS);

    event.u.range.range = (struct agent_range){JOB, layer, 0, tasks_of(play, layer)};
    event.u.range.worker = 9;
    step(play, &event);
}

// ---- what threads and the exchange do ----------------------------------------------------------

static bool has_inputs(const struct play *play, const struct task_key *key)
{
    const Dray__Layer *layer = play->build.layer[key->layer];

    for (size_t k = 0; k < layer->n_input; k++) {
        const Dray__Input *input = layer->input[k];
        struct span span = input_needs(input, layer->tasks, tasks_of(play, input->layer), key->index);

        for (uint32_t s = 0; s < span.count; s++) {
            if (!play->stored[input->layer][span_at(&span, s)]) {
                return false;
            }
        }
    }
    return true;
}

static void run_on(struct play *play, struct bundle *bundle)
{
    struct agent_event event = {.type = AGENT_BUNDLE_OVER, .u.bundle = bundle->number};

    while (bundle->at < bundle->count && bundle->withdrawn[bundle->at]) {
        bundle->at++;
    }
    if (bundle->at == bundle->count) {
        bundle->number = 0;
        say(play, event);
        return;
    }
    struct task_key *key = &bundle->key[bundle->at++];

    if (!has_inputs(play, key)) {
        skipped(play, key);
    } else if (random_percent(&play->random, 4)) {
        event.type = AGENT_TASK_FAILED;
        event.u.task.key = *key;
        event.u.task.code = EIO;
        event.u.task.text = "chance";
        say(play, event);
    } else {
        event.type = AGENT_TASKS_DONE;
        event.u.range.range = (struct agent_range){key->job, key->layer, key->index, 1};
        event.u.range.busy_ns = 100 + random_below(&play->random, 3) * 5000;
        play->stored[key->layer][key->index] = true;
        play->rotten[key->layer][key->index] = false;
        play->pending[key->layer][key->index] = true;
        play->ran++;
        say(play, event);
    }
}

static void threads_go_on(struct play *play)
{
    for (int b = 0; b < BUNDLES; b++) {
        for (uint32_t n = random_below(&play->random, 8); n > 0 && play->bundle[b].number != 0; n--) {
            run_on(play, &play->bundle[b]);
        }
    }
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t i = 0; i < tasks_of(play, l); i++) {
            struct agent_event event = {.type = AGENT_FETCH_FAILED, .u.task.key = {JOB, l, i}};

            if (!play->fetching[l][i] || random_percent(&play->random, 60)) {
                continue;
            }
            play->fetching[l][i] = false;
            if (random_percent(&play->random, 70)) {
                event.type = AGENT_FETCHED;
                play->stored[l][i] = true;
                play->rotten[l][i] = false;
            } else if (random_percent(&play->random, 50)) {
                event.u.task.code = ENOMEM;
            }
            step(play, &event);
        }
    }
}

// Partitions are damaged, and that is found out: the agent hears of it before all else.
static void rot(struct play *play)
{
    struct agent_event event = {.type = AGENT_LOST};
    uint32_t layer = random_below(&play->random, LAYERS);

    for (uint32_t i = random_below(&play->random, TASKS); i < tasks_of(play, layer); i++) {
        if (play->stored[layer][i]) {
            play->stored[layer][i] = false;
            play->rotten[layer][i] = true;
            event.u.range.range = (struct agent_range){JOB, layer, i, 1};
            step(play, &event);
        }
    }
}

// Some of it, and in the end all.
static void agent_hears(struct play *play, bool all)
{
    while (play->laters > 0 && (all || random_percent(&play->random, 80))) {
        struct agent_event event = play->later[0];

        memmove(play->later, play->later + 1, --play->laters * sizeof(play->later[0]));
        if (event.type == AGENT_TASKS_DONE) {
            play->pending[event.u.range.range.layer][event.u.range.range.first] = false;
        }
        step(play, &event);
    }
}

static void tell_layers(struct play *play)
{
    for (uint32_t l = 0; l < LAYERS; l++) {
        const Dray__Layer *layer = play->build.layer[l];
        struct agent_event event = {.type = AGENT_LAYER};
        uint32_t tasks[BUILD_INPUTS];

        for (size_t k = 0; k < layer->n_input; k++) {
            tasks[k] = tasks_of(play, layer->input[k]->layer);
        }
        event.u.layer.job = JOB;
        event.u.layer.layer = l;
        event.u.layer.tasks = layer->tasks;
        event.u.layer.inputs = layer->n_input;
        event.u.layer.input = layer->input;
        event.u.layer.input_tasks = tasks;
        event.u.layer.instant = random_percent(&play->random, 50);
        step(play, &event);
    }
}

static bool any_asked(const struct play *play)
{
    bool any = false;

    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t i = 0; i < TASKS; i++) {
            any = any || play->asked[l][i];
        }
    }
    return any;
}

// Nothing may be left waiting: each task that the broker gave is done, given back, or failed.
static void all_are_settled(struct play *play)
{
    struct agent_counts counts;

    for (int n = 0; n < 10000; n++) {
        agent_counts(play->agent, &counts);
        if (counts.queued + counts.running + counts.fetching == 0 && play->laters == 0 && !any_asked(play)) {
            break;
        }
        threads_go_on(play);
        agent_hears(play, true);
        step(play, &(struct agent_event){.type = AGENT_TICK});
    }
    assert_int_equal(counts.queued + counts.running + counts.fetching, 0);
    for (uint32_t l = 0; l < LAYERS && play->connected; l++) {
        for (uint32_t i = 0; i < tasks_of(play, l); i++) {
            assert_int_not_equal(play->fate[l][i], ASSIGNED);
            assert_false(play->asked[l][i]);
        }
    }
}

static void one_life(uint64_t seed, unsigned *ran)
{
    struct play *play = calloc(1, sizeof(*play));
    struct agent_event event = {.type = AGENT_CONNECTED};

    assert_non_null(play);
    play->random.state = seed * 77777;
    play->threads = random_between(&play->random, 1, 4);
    struct agent_options options = {.threads = play->threads,
                                    .fetches_max = random_between(&play->random, 1, 8)};

    build_init(&play->build);
    for (uint32_t l = 0; l < LAYERS; l++) {
        add_layer(play, l);
    }
    build_graph(&play->build);
    play->agent = agent_create(&options);
    play->connected = true;
    step(play, &event);
    tell_layers(play);
    for (int n = 0; n < 200; n++) {
        uint32_t what = random_below(&play->random, 100);

        if (what < 45) {
            range_event(play, AGENT_ASSIGN, false);
        } else if (what < 60) {
            range_event(play, AGENT_DROP, what < 50);
        } else if (what < 70) {
            range_event(play, AGENT_RELEASE, false);
        } else if (what < 80) {
            locate(play);
        } else if (what < 85) {
            event.type = AGENT_TICK;
            step(play, &event);
        } else if (what == 85) {
            event.type = play->connected ? AGENT_DISCONNECTED : AGENT_CONNECTED;
            play->connected = !play->connected;
            if (!play->connected) {
                memset(play->fate, 0, sizeof(play->fate));
                memset(play->asked, 0, sizeof(play->asked));
            }
            step(play, &event);
            if (!play->connected) {
                // It goes on meanwhile, to the end or not, and what it has then it says.
                if (random_percent(&play->random, 50)) {
                    all_are_settled(play);
                } else {
                    threads_go_on(play);
                    agent_hears(play, false);
                }
                event.type = AGENT_CONNECTED;
                play->connected = true;
                step(play, &event);
                tell_layers(play);
            }
        } else if (what == 86 && n > 150) {
            event.type = AGENT_LEAVING;
            step(play, &event);
        } else if (what == 87) {
            all_are_settled(play);
        } else if (what < 91) {
            rot(play);
        } else if (what < 95) {
            range_event(play, AGENT_COPY, false);
        }
        threads_go_on(play);
        agent_hears(play, false);
    }
    all_are_settled(play);
    event.type = AGENT_FORGET_JOB;
    event.u.range.range = (struct agent_range){JOB, 0, 0, 0};
    step(play, &event);
    agent_hears(play, true);
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t i = 0; i < TASKS; i++) {
            assert_false(play->stored[l][i]);
        }
    }
    *ran += play->ran;
    agent_destroy(play->agent);
    agent_actions_fini(&play->actions);
    build_fini(&play->build);
    free(play);
}

static void test_random_lives(void **state)
{
    unsigned ran = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        one_life(seed, &ran);
    }
    assert_true(ran > 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
