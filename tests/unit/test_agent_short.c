// The agent with little memory: copies for one task are in the way of another's; and what it remembers of
// partitions that it has lost.
#include "worker/core/agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/agent_play.h"

enum { ROOM = 4, HERE_MAX = 64 };

// A layer of one task that reads all three of layer `remote`, and maybe the one of layer `local`.
static void layer_of_three(struct play *play, uint32_t number, uint32_t remote, const uint32_t *local)
{
    struct agent_event event = {.type = AGENT_LAYER};
    Dray__Input input[2] = {DRAY__INPUT__INIT, DRAY__INPUT__INIT};
    Dray__Input *inputs[] = {&input[0], &input[1]};
    const uint32_t tasks[] = {3, 1};

    input[0].layer = remote;
    input[0].pattern = DRAY__PATTERN__FAN_IN;
    input[0].has_width = true;
    input[0].width = 3;
    input[1].layer = local != NULL ? *local : 0;
    input[1].pattern = DRAY__PATTERN__ONE_TO_ONE;
    event.u.layer.job = 1;
    event.u.layer.layer = number;
    event.u.layer.tasks = 1;
    event.u.layer.inputs = local != NULL ? 2 : 1;
    event.u.layer.input = inputs;
    event.u.layer.input_tasks = tasks;
    assert_int_equal(step(play, event), 0);
}

// A store with room for four copies, by layer.
struct shelf {
    struct task_key fetch[HERE_MAX];
    size_t fetches;
    uint32_t copies, bundle;
    bool ran[8];
};

static void obey(const struct play *play, struct shelf *shelf)
{
    for (size_t k = 0; k < play->actions.count; k++) {
        const struct agent_action *action = &play->actions.action[k];

        if (action->type == AGENT_FETCH) {
            assert_in_range(shelf->fetches, 0, HERE_MAX - 1);
            shelf->fetch[shelf->fetches++] = action->u.key;
        } else if (action->type == AGENT_FREE && action->u.range.layer < 2) {
            shelf->copies -= action->u.range.count;
        } else if (action->type == AGENT_RUN) {
            shelf->bundle = action->bundle;
            shelf->ran[action->p.range[0].layer] = true;
        }
    }
}

// The older of two tasks waits for the younger one, and both read three from elsewhere: what the older one
// has must make room, and must not take that again before the younger one has run.
static void test_the_younger_first(void **state)
{
    const uint32_t younger = 2;
    struct agent_event events[] = {
        {.type = AGENT_ASSIGN, .u.range.range = {1, 3, 0, 1}},
        {.type = AGENT_ASSIGN, .u.range.range = {1, 2, 0, 1}},
        {.type = AGENT_LOCATION, .u.range = {{1, 0, 0, 3}, 7, false, 0}},
        {.type = AGENT_LOCATION, .u.range = {{1, 1, 0, 3}, 7, false, 0}},
    };
    struct shelf shelf = {0};
    struct play play;

    (void)state;
    begin(&play, 1, 8);
    layer_of_three(&play, 2, 1, NULL);
    layer_of_three(&play, 3, 0, &younger);
    assert_int_equal(agent_step(play.agent, events, 4, &play.actions, NULL), 0);
    obey(&play, &shelf);
    for (int turn = 0; turn < 200 && !shelf.ran[2]; turn++) {
        struct task_key key;

        if (shelf.fetches == 0) {
            assert_int_equal(step(&play, (struct agent_event){.type = AGENT_TICK}), 0);
            obey(&play, &shelf);
            continue;
        }
        key = shelf.fetch[--shelf.fetches]; // who asked last is answered first
        if (shelf.copies < ROOM) {
            shelf.copies++;
            fetched(&play, AGENT_FETCHED, key.layer, key.index);
        } else {
            no_memory(&play, key.layer, key.index);
        }
        obey(&play, &shelf);
    }
    assert_true(shelf.ran[2]);
    end(&play);
}

// A partition is lost, is to be made again and then not: a task that had it when it was given does not come
// back as one that was given too early, which the broker would not take for an answer to anything.
static void test_what_was_lost_is_remembered(void **state)
{
    struct play play;

    (void)state;
    begin(&play, 1, 4);
    layer_one(&play, 0, 2, 0, 0, 0, 0);
    layer_one(&play, 1, 2, 0, DRAY__PATTERN__ONE_TO_ONE, 0, 2);
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 1), 0);
    outcome(&play, AGENT_TASKS_DONE, 0, 0, 1, 1);
    assert_int_equal(range(&play, AGENT_ASSIGN, 1, 0, 1), 0);
    assert_true(said(&play, "run j1:t1.0"));
    assert_int_equal(range(&play, AGENT_LOST, 0, 0, 1), 0);
    assert_true(said(&play, "report gone j1:t0.0"));
    assert_int_equal(range(&play, AGENT_ASSIGN, 0, 0, 1), 0);
    assert_int_equal(range(&play, AGENT_DROP, 0, 0, 1), 0);
    assert_true(said(&play, "give back j1:t0.0"));
    outcome(&play, AGENT_TASKS_SKIPPED, 1, 0, 1, 2);
    assert_true(said(&play, "report failed j1:t1.0, no j1:t0.0 at w0"));
    end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_younger_first),
        cmocka_unit_test(test_what_was_lost_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
