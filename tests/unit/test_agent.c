// The agent by itself: one rule a test.  Many agents together are in tests/sim.
#include "worker/core/agent.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/hash.h"

struct play {
    struct agent *agent;
    struct agent_actions actions;
    struct error err;
};

static int step(struct play *play, struct agent_event event)
{
    int rc = agent_step(play->agent, &event, 1, &play->actions, &play->err);

    agent_check(play->agent);
    return rc;
}

static int range(struct play *play, enum agent_event_type type, uint32_t layer, uint32_t first,
                 uint32_t count)
{
    struct agent_event event = {.type = type};

    event.u.range.job = 1;
    event.u.range.layer = layer;
    event.u.range.first = first;
    event.u.range.count = count;
    return step(play, event);
}

static void locate(struct play *play, uint32_t layer, uint32_t index, uint32_t worker)
{
    struct agent_event event = {.type = AGENT_LOCATION};

    event.u.range.job = 1;
    event.u.range.layer = layer;
    event.u.range.first = index;
    event.u.range.count = 1;
    event.u.range.worker = worker;
    assert_int_equal(step(play, event), 0);
}

static void outcome(struct play *play, enum agent_event_type type, uint32_t layer, uint32_t index)
{
    struct agent_event event = {.type = type};

    event.u.task.key = (struct task_key){1, layer, index};
    event.u.task.bytes = 8;
    event.u.task.code = EIO;
    event.u.task.text = "broken";
    assert_int_equal(step(play, event), 0);
}

static void layer_one(struct play *play, uint32_t number, uint32_t tasks, uint32_t source,
                      Dray__Pattern pattern, uint32_t width, uint32_t source_tasks)
{
    struct agent_event event = {.type = AGENT_LAYER};
    Dray__Input input = DRAY__INPUT__INIT;
    Dray__Input *inputs = &input;

    input.layer = source;
    input.pattern = pattern;
    input.has_width = width > 0;
    input.width = width;
    event.u.layer.job = 1;
    event.u.layer.layer = number;
    event.u.layer.tasks = tasks;
    event.u.layer.inputs = source_tasks > 0 ? 1 : 0;
    event.u.layer.input = &inputs;
    event.u.layer.input_tasks = &source_tasks;
    event.u.layer.wanted = true;
    assert_int_equal(step(play, event), 0);
}

static bool said(const struct play *play, const char *what)
{
    bool found = false;

    for (size_t k = 0; k < play->actions.count && !found; k++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);

        assert_non_null(out);
        agent_action_print(&play->actions.action[k], out);
        fclose(out);
        found = strcmp(text, what) == 0;
        free(text);
    }
    return found;
}

static struct agent_counts counts(const struct play *play)
{
    struct agent_counts now;

    agent_counts(play->agent, &now);
    return now;
}

static void begin(struct play *play, uint32_t threads, uint32_t fetches)
{
    struct agent_options options = {threads, fetches};

    memset(play, 0, sizeof(*play));
    play->agent = agent_create(&options);
    assert_non_null(play->agent);
    agent_actions_init(&play->actions);
    assert_int_equal(step(play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
}

// Forgetting the job must leave nothing once what is under way is over.
static void end(struct play *play)
{
    range(play, AGENT_FORGET_JOB, 0, 0, 0);
    assert_int_equal(counts(play).queued, 0);
    assert_int_equal(counts(play).partitions, 0);
    agent_destroy(play->agent);
    agent_actions_fini(&play->actions);
}

static void test_runs_in_order_on_free_threads(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 2, 4);
    layer_one(&play, 0, 10, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 5, 3), 0);
    assert_true(said(&play, "run j1:t0.5"));
    assert_true(said(&play, "run j1:t0.6"));
    assert_int_equal(play.actions.count, 2);
    outcome(&play, AGENT_TASK_DONE, 0, 6);
    assert_true(said(&play, "report done j1:t0.6"));
    assert_true(said(&play, "run j1:t0.7"));
    outcome(&play, AGENT_TASK_FAILED, 0, 5);
    assert_true(said(&play, "report failed j1:t0.5: broken"));
    outcome(&play, AGENT_TASK_DONE, 0, 7);
    assert_int_equal(counts(&play).running, 0);
    assert_int_equal(counts(&play).partitions, 2);
    // Asked for again: it is there already.
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 7, 1), 0);
    assert_true(said(&play, "report done j1:t0.7"));
    range(&play, AGENT_RELEASE, 0, 0, 10);
    assert_true(said(&play, "free j1:t0.6"));
    assert_true(said(&play, "free j1:t0.7"));
    end(&play);
}

static void test_fetches_and_frees_copies(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 1);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__FAN_IN, 2, 4);
    locate(&play, 0, 0, 7);
    assert_int_equal(play.actions.count, 0);
    struct agent_event events[] = {
        {.type = AGENT_LOCATION, .u.range = {1, 0, 0, 2, 7, false}},
        {.type = AGENT_ASSIGN, .u.range = {1, 1, 0, 1, 0, false}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    assert_true(said(&play, "fetch j1:t0.0 from w7"));
    assert_int_equal(play.actions.count, 1);
    outcome(&play, AGENT_FETCHED, 0, 0);
    assert_true(said(&play, "fetch j1:t0.1 from w7"));
    outcome(&play, AGENT_FETCHED, 0, 1);
    assert_true(said(&play, "run j1:t1.0"));
    assert_int_equal(play.actions.action[0].inputs, 2);
    assert_int_equal(play.actions.action[0].input_start[1], 2);
    outcome(&play, AGENT_TASK_DONE, 1, 0);
    assert_true(said(&play, "free j1:t0.0"));
    assert_true(said(&play, "free j1:t0.1"));
    assert_int_equal(counts(&play).partitions, 1);
    end(&play);
}

static void test_missing_input_is_reported(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__FAN_IN, 2, 4);
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 0, 1), 0);
    assert_true(said(&play, "report failed j1:t1.0, no j1:t0.0 at w0"));
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range = {1, 1, 1, 1, 0, false}},
        {.type = AGENT_LOCATION, .u.range = {1, 0, 2, 2, 7, false}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    outcome(&play, AGENT_FETCH_FAILED, 0, 3);
    assert_true(said(&play, "report failed j1:t1.1, no j1:t0.3 at w7"));
    // What comes for nobody goes at once.
    outcome(&play, AGENT_FETCHED, 0, 2);
    assert_true(said(&play, "free j1:t0.2"));
    assert_int_equal(counts(&play).partitions, 0);
    end(&play);
}

static void test_whole_inputs_stay(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__BROADCAST, 0, 1);
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range = {1, 1, 0, 1, 0, false}},
        {.type = AGENT_LOCATION, .u.range = {1, 0, 0, 1, 7, false}},
    };
    assert_int_equal(agent_step(play.agent, events, 2, &play.actions, NULL), 0);
    outcome(&play, AGENT_FETCHED, 0, 0);
    outcome(&play, AGENT_TASK_DONE, 1, 0);
    assert_int_equal(counts(&play).partitions, 2);
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 1, 1), 0);
    assert_true(said(&play, "run j1:t1.1"));
    outcome(&play, AGENT_TASK_DONE, 1, 1);
    range(&play, AGENT_RELEASE, 0, 0, 1);
    assert_true(said(&play, "free j1:t0.0"));
    assert_int_equal(counts(&play).partitions, 2);
    end(&play);
}

static void test_drop_and_kill(void **state)
{
    struct play play;
    struct agent_event kill = {.type = AGENT_DROP, .u.range = {1, 0, 0, 4, 0, true}};

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 4, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 4), 0);
    assert_int_equal(range(&play, AGENT_DROP, 0, 0, 3), 0);
    assert_true(said(&play, "give back j1:t0.1"));
    assert_true(said(&play, "give back j1:t0.2"));
    assert_int_equal(play.actions.count, 2);
    assert_int_equal(step(&play, kill), 0);
    assert_true(said(&play, "stop j1:t0.0"));
    assert_true(said(&play, "give back j1:t0.3"));
    outcome(&play, AGENT_TASK_DONE, 0, 0);
    assert_true(said(&play, "free j1:t0.0"));
    assert_int_equal(counts(&play).partitions, 0);
    // Stopped, asked for again, and failed because it was stopped: it runs again.
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 1, 1), 0);
    assert_int_equal(step(&play, kill), 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 1, 1), 0);
    outcome(&play, AGENT_TASK_FAILED, 0, 1);
    assert_true(said(&play, "run j1:t0.1"));
    end(&play);
}

static void test_reconnect(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 4, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 4), 0);
    outcome(&play, AGENT_TASK_DONE, 0, 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_DISCONNECTED}), 0);
    assert_int_equal(counts(&play).queued, 0);
    assert_int_equal(counts(&play).running, 1);
    outcome(&play, AGENT_TASK_DONE, 0, 1);
    assert_int_equal(play.actions.count, 0);
    assert_int_equal(step(&play, (struct agent_event){.type = AGENT_CONNECTED}), 0);
    assert_int_equal(play.actions.count, 2);
    assert_true(said(&play, "advertise j1:t0.0"));
    assert_true(said(&play, "advertise j1:t0.1"));
    assert_true(play.actions.action[0].full);
    assert_false(play.actions.action[1].full);
    end(&play);
}

static void test_forget_while_busy(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 1, 0, 0, 0, 0);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__FAN_IN, 2, 4);
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range = {1, 0, 0, 1, 0, false}},
        {.type = AGENT_ASSIGN, .u.range = {1, 1, 1, 1, 0, false}},
        {.type = AGENT_LOCATION, .u.range = {1, 0, 2, 2, 7, false}},
    };
    assert_int_equal(agent_step(play.agent, events, 3, &play.actions, NULL), 0);
    range(&play, AGENT_FORGET_JOB, 0, 0, 0);
    assert_true(said(&play, "stop j1:t0.0"));
    assert_int_equal(counts(&play).running, 1);
    assert_int_equal(counts(&play).fetching, 2);
    outcome(&play, AGENT_FETCHED, 0, 2);
    outcome(&play, AGENT_FETCH_FAILED, 0, 3);
    outcome(&play, AGENT_TASK_DONE, 0, 0);
    assert_true(said(&play, "free j1:t0.0"));
    assert_int_equal(counts(&play).fetching, 0);
    assert_int_equal(counts(&play).running, 0);
    end(&play);
}

static void test_impossible_requests(void **state)
{
    struct play play;
    struct agent_event event = {.type = AGENT_LAYER};

    (void)state;
    begin(&play, 1, 4);
    assert_int_equal(range(&play, AGENT_ASSIGN, 3, 0, 1), -EPROTO);
    layer_one(&play, 3, 4, 0, 0, 0, 0);
    assert_int_equal(range(&play, AGENT_ASSIGN, 3, 2, 3), -EPROTO);
    assert_int_equal(range(&play, AGENT_ASSIGN, 3, 4, UINT32_MAX), -EPROTO);
    event.u.layer.job = 1;
    event.u.layer.layer = 4;
    assert_int_equal(step(&play, event), -EPROTO);
    range(&play, AGENT_RELEASE, 9, 0, UINT32_MAX);
    range(&play, AGENT_DROP, 9, 0, UINT32_MAX);
    end(&play);
}

struct number {
    struct hash_node node;
    uint64_t value;
};

// The table under both cores against a plain array.
static void test_hash(void **state)
{
    enum { COUNT = 3000, VALUES = 500 };
    struct number *number = calloc(COUNT, sizeof(*number));
    uint64_t seed = 7;
    size_t inside = 0;
    struct hash hash;

    (void)state;
    assert_non_null(number);
    hash_init(&hash);
    for (int k = 0; k < 20000; k++) {
        struct number *n = &number[(seed = hash_mix(seed + 1)) % COUNT];

        if (n->value != 0) {
            hash_remove(&hash, &n->node);
            n->value = 0;
            inside--;
        } else {
            n->value = 1 + seed / COUNT % VALUES;
            hash_add(&hash, &n->node, n->value);
            inside++;
        }
    }
    assert_int_equal(hash.count, inside);
    for (uint64_t value = 1; value <= VALUES; value++) {
        size_t expected = 0;
        size_t found = 0;

        for (int n = 0; n < COUNT; n++) {
            expected += number[n].value == value ? 1 : 0;
        }
        for (struct hash_node *node = hash_first(&hash, value); node != NULL; node = hash_next(node)) {
            assert_int_equal(hash_entry(node, struct number, node)->value, value);
            found++;
        }
        assert_int_equal(found, expected);
    }
    for (struct hash_node *node; (node = hash_any(&hash)) != NULL;) {
        hash_remove(&hash, node);
        inside--;
    }
    assert_int_equal(inside, 0);
    hash_fini(&hash);
    free(number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_in_order_on_free_threads),
        cmocka_unit_test(test_fetches_and_frees_copies),
        cmocka_unit_test(test_missing_input_is_reported),
        cmocka_unit_test(test_whole_inputs_stay),
        cmocka_unit_test(test_drop_and_kill),
        cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_forget_while_busy),
        cmocka_unit_test(test_impossible_requests),
        cmocka_unit_test(test_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
