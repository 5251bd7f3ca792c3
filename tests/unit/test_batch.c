// broker/batch.h: a worker that carries out the messages ends where it would have ended with the
// actions one by one, whatever their order.
#include "broker/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { JOBS = 2, LAYERS = 2, TASKS = 12, ROUNDS = 3000, LEAVER = 5 };

// What a worker makes of it: per task the last thing it was told.
struct worker {
    char told[JOBS][LAYERS][TASKS];
    bool knows[JOBS][LAYERS];
    unsigned messages[64];
    unsigned total;
};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static void tell(struct worker *worker, char what, uint32_t job, uint32_t layer, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        if (what == 'R') {
            assert_true(worker->knows[job][layer]);
        }
        worker->told[job][layer][i] = what;
    }
}

static void forget(struct worker *worker, uint32_t job)
{
    memset(worker->told[job], 'L', sizeof(worker->told[job])); // as good as releasing all
}

static void tell_runs(struct worker *worker, char what, size_t n, Dray__Run *const *run)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(run[i]->n_first, run[i]->n_count);
        for (size_t j = 0; j < run[i]->n_first; j++) {
            tell(worker, what, run[i]->job, run[i]->layer, run[i]->first[j], run[i]->count[j]);
        }
    }
}

static void receive(void *arg, enum frame_type type, ProtobufCMessage *message)
{
    struct worker *worker = arg;

    worker->messages[type]++;
    worker->total++;
    if (type == FRAME_LAYERS) {
        const Dray__Layers *layers = (const Dray__Layers *)message;

        for (size_t i = 0; i < layers->n_layer; i++) {
            worker->knows[layers->layer[i]->job][layers->layer[i]->layer] = true;
        }
    } else if (type == FRAME_ASSIGN) {
        const Dray__Assign *assign = (const Dray__Assign *)message;

        tell_runs(worker, 'R', assign->n_run, assign->run);
    } else if (type == FRAME_DROP) {
        const Dray__Drop *drop = (const Dray__Drop *)message;

        tell_runs(worker, drop->kill ? 'K' : 'D', drop->n_run, drop->run);
    } else if (type == FRAME_COPY) {
        const Dray__Copy *copy = (const Dray__Copy *)message;

        for (size_t i = 0; i < copy->n_location; i++) {
            const Dray__Location *at = copy->location[i];

            for (size_t j = 0; j < at->n_first; j++) {
                assert_int_equal(at->worker[j], LEAVER);
                tell(worker, 'C', at->job, at->layer, at->first[j], at->count[j]);
            }
        }
    } else {
        const Dray__Release *release = (const Dray__Release *)message;

        assert_int_equal(type, FRAME_RELEASE);
        tell_runs(worker, 'L', release->n_run, release->run);
        for (size_t i = 0; i < release->n_job; i++) {
            forget(worker, release->job[i]);
        }
    }
}

static void do_at_once(struct worker *worker, const struct sched_action *action)
{
    const struct task_range *range = &action->range;

    switch (action->type) {
    case ACTION_LAYER:
        worker->knows[range->job][range->layer] = true;
        break;
    case ACTION_FORGET_JOB:
        forget(worker, range->job);
        break;
    default:
        tell(worker,
             action->type == ACTION_RUN    ? 'R'
             : action->type == ACTION_DROP ? (action->kill ? 'K' : 'D')
             : action->type == ACTION_COPY ? 'C'
                                           : 'L',
             range->job, range->layer, range->first, range->count);
        break;
    }
}

static void test_order_is_kept(void **state)
{
    static const enum sched_action_type TYPES[] = {ACTION_RUN,  ACTION_RUN,     ACTION_RUN,        ACTION_DROP,
                                                   ACTION_DROP, ACTION_RELEASE, ACTION_FORGET_JOB, ACTION_COPY};
    struct batch *batch = batch_create();
    Dray__Layer layer = DRAY__LAYER__INIT;
    struct arena arena;
    uint64_t seed = 5;

    (void)state;
    arena_init(&arena, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct worker expected = {0}, got = {0};
        unsigned actions = (unsigned)(next_random(&seed) % 25);

        for (uint32_t job = 0; job < JOBS; job++) {
            for (uint32_t l = 0; l < LAYERS; l++) {
                struct sched_action action = {.type = ACTION_LAYER, .range = {job, l, 0, 0}, .layer = &layer};

                do_at_once(&expected, &action);
                assert_int_equal(batch_add(batch, &action), 0);
            }
        }
        for (unsigned i = 0; i < actions; i++) {
            uint32_t first = (uint32_t)(next_random(&seed) % TASKS);
            struct sched_action action = {
                .type = TYPES[next_random(&seed) % (sizeof(TYPES) / sizeof(TYPES[0]))],
                .range = {(uint32_t)(next_random(&seed) % JOBS), (uint32_t)(next_random(&seed) % LAYERS), first,
                          1 + (uint32_t)(next_random(&seed) % (TASKS - first))},
                .kill = next_random(&seed) % 2 == 0,
                .worker = LEAVER,
            };

            do_at_once(&expected, &action);
            assert_int_equal(batch_add(batch, &action), 0);
        }
        assert_int_equal(batch_emit(batch, &arena, receive, &got), 0);
        assert_memory_equal(got.told, expected.told, sizeof(got.told));
        assert_memory_equal(got.knows, expected.knows, sizeof(got.knows));
        assert_int_equal(got.messages[FRAME_LAYERS], 1);
        assert_true(got.total <= actions + 1);
        arena_reset(&arena);
    }
    batch_destroy(batch);
    arena_fini(&arena);
}

// A scan that goes on: run, release, run, release on different tasks is two messages.
static void test_one_message_of_each_kind(void **state)
{
    struct batch *batch = batch_create();
    struct worker got = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, 0);
    got.knows[0][0] = got.knows[0][1] = true;
    for (uint32_t i = 0; i < TASKS; i++) {
        struct sched_action release = {.type = ACTION_RELEASE, .range = {0, 0, i, 1}};
        struct sched_action run = {.type = ACTION_RUN, .range = {0, 1, i, 1}};

        assert_int_equal(batch_add(batch, &release), 0);
        assert_int_equal(batch_add(batch, &run), 0);
    }
    assert_int_equal(batch_emit(batch, &arena, receive, &got), 0);
    assert_int_equal(got.messages[FRAME_ASSIGN], 1);
    assert_int_equal(got.messages[FRAME_RELEASE], 1);
    assert_int_equal(got.total, 2);
    batch_destroy(batch);
    arena_fini(&arena);
}

static void check_locations(void *arg, enum frame_type type, ProtobufCMessage *message)
{
    const Dray__Assign *assign = (const Dray__Assign *)message;

    assert_int_equal(type, FRAME_ASSIGN);
    assert_int_equal(assign->n_run, 1);
    assert_int_equal(assign->run[0]->n_first, 1);
    assert_int_equal(assign->run[0]->count[0], TASKS);
    // Partitions 0 to 11 of layer 0 at worker 9, told twelve times over, and one at worker 8.
    assert_int_equal(assign->n_location, 2);
    assert_int_equal(assign->location[0]->n_first, 1);
    assert_int_equal(assign->location[0]->count[0], TASKS);
    assert_int_equal(assign->location[0]->worker[0], 9);
    assert_int_equal(assign->location[1]->n_first, 1);
    assert_int_equal(assign->location[1]->worker[0], 8);
    *(bool *)arg = true;
}

static void test_locations_are_merged(void **state)
{
    struct batch *batch = batch_create();
    struct arena arena;
    bool seen = false;

    (void)state;
    arena_init(&arena, 0);
    for (uint32_t i = 0; i < TASKS; i++) {
        struct sched_location locations[] = {{{0, 0, i, 1}, 9}, {{0, 0, 0, 1}, 9}, {{0, 1, 0, 1}, 8}};
        struct sched_action run = {
            .type = ACTION_RUN, .range = {0, 2, i, 1}, .location = locations, .locations = 3};

        assert_int_equal(batch_add(batch, &run), 0);
    }
    assert_int_equal(batch_emit(batch, &arena, check_locations, &seen), 0);
    assert_true(seen);
    batch_destroy(batch);
    arena_fini(&arena);
}

static void measure(void *arg, enum frame_type type, ProtobufCMessage *message)
{
    size_t *largest = arg;
    size_t size = frame_size(message);

    assert_int_equal(type, FRAME_LAYERS);
    *largest = size > *largest ? size : *largest;
}

// Long names and lists of tasks count for the size of a message.
static void test_layers_fit(void **state)
{
    enum { MANY = 10000, NAME = 4000, ROWS = 1000 };
    static char name[NAME + 1];
    static uint32_t rows[ROWS];
    Dray__Input input = DRAY__INPUT__INIT;
    Dray__Input *inputs[] = {&input};
    uint32_t input_tasks[] = {1};
    Dray__Layer layer = DRAY__LAYER__INIT;
    struct batch *batch = batch_create();
    struct arena arena;
    size_t largest = 0;

    (void)state;
    arena_init(&arena, 0);
    memset(name, 'n', NAME);
    input.n_task = ROWS;
    input.task = rows;
    layer.name = name;
    layer.input = inputs;
    layer.n_input = 1;
    for (uint32_t l = 0; l < MANY; l++) {
        struct sched_action action = {.type = ACTION_LAYER, .range = {1, l, 0, 0}, .layer = &layer};

        action.input_tasks = input_tasks;
        assert_int_equal(batch_add(batch, &action), 0);
    }
    assert_int_equal(batch_emit(batch, &arena, measure, &largest), 0);
    assert_true(largest > 0 && largest < 17 << 20);
    batch_destroy(batch);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_kept),
        cmocka_unit_test(test_one_message_of_each_kind),
        cmocka_unit_test(test_locations_are_merged),
        cmocka_unit_test(test_layers_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
