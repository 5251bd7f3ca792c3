// worker/executor.h: tasks go in, outcomes come out, cancelling works at any moment.
#include "worker/executor.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { BUDGET = 64 << 20, TASKS = 200 };

// A layer whose tasks pass an input on, or read a file line by line.
static struct layer *add_layer(struct layers *layers, uint32_t number, const uint8_t *op, size_t size)
{
    Dray__LayerOp message = DRAY__LAYER_OP__INIT;

    message.job = 1;
    message.layer = number;
    message.op.data = (uint8_t *)(uintptr_t)op;
    message.op.len = size;
    message.tasks = TASKS;
    message.name = (char *)"test";
    assert_int_equal(layers_add(layers, &message), 0);
    return layers_get(layers, 1, number);
}

static size_t pack_take(uint8_t out[64])
{
    Dray__Op op = DRAY__OP__INIT;
    Dray__Step step = DRAY__STEP__INIT, *steps[] = {&step};
    Dray__TakeInputs take = DRAY__TAKE_INPUTS__INIT;

    step.take_inputs = &take;
    op.n_step = 1;
    op.step = steps;
    return dray__op__pack(&op, out);
}

static struct partition *make_table(int64_t value)
{
    struct column_builder *builder = column_builder_create(TYPE_INT64);
    struct table *table = table_create(1, 1);

    assert_int_equal(column_builder_int64(builder, value), 0);
    assert_int_equal(column_builder_finish(builder, "n", &table->column[0]), 0);
    column_builder_destroy(builder);
    return partition_from_table(table);
}

struct bench {
    struct budget *budget;
    struct store *store;
    struct executor *executor;
    struct layers layers;
    struct plugins plugins; // none: they know where the helper is
    struct layer *layer;    // takes partition i of layer 9 of its job
    uint32_t bundles;
};

static void open_bench(struct bench *bench, uint32_t threads)
{
    struct executor_options options = {.threads = threads};
    struct error err = {0};
    Dray__LayerOp message = DRAY__LAYER_OP__INIT;
    Dray__Input input = DRAY__INPUT__INIT, *inputs[] = {&input};
    uint32_t input_tasks = TASKS;
    uint8_t op[64];

    memset(bench, 0, sizeof(*bench));
    options.runner.plugins = &bench->plugins;
    bench->plugins.helper = DRAY_CHILD;
    bench->budget = budget_create(BUDGET);
    bench->store = store_create(bench->budget);
    options.runner.budget = bench->budget;
    options.runner.store = bench->store;
    assert_int_equal(executor_create(&options, &bench->executor, &err), 0);
    input.layer = 9;
    input.pattern = DRAY__PATTERN__ONE_TO_ONE;
    message.job = 1;
    message.op.data = op;
    message.op.len = pack_take(op);
    message.tasks = TASKS;
    message.name = (char *)"test";
    message.n_input = message.n_input_tasks = 1;
    message.input = inputs;
    message.input_tasks = &input_tasks;
    assert_int_equal(layers_add(&bench->layers, &message), 0);
    bench->layer = layers_get(&bench->layers, 1, 0);
    for (uint32_t i = 0; i < TASKS; i++) {
        assert_int_equal(
            store_put(bench->store, 0, &(struct store_key){1, 9, i}, make_table(i), NULL, 0, NULL), 0);
    }
}

static void close_bench(struct bench *bench)
{
    layers_fini(&bench->layers);
    assert_true(executor_destroy(bench->executor));
    store_destroy(bench->store);
    assert_int_equal(budget_used(bench->budget), 0);
    budget_destroy(bench->budget);
}

static struct outcomes *wait_for_outcomes(struct executor *executor)
{
    struct pollfd fd = {.fd = executor_fd(executor), .events = POLLIN};
    struct outcomes *outcomes;

    while ((outcomes = executor_take(executor)) == NULL) {
        assert_int_equal(poll(&fd, 1, 60000), 1);
    }
    return outcomes;
}

static struct bundle *make_bundle(struct bench *bench, struct layer *layer, uint32_t first, uint32_t count)
{
    struct bundle *bundle = bundle_create(0, bench->bundles++, 1);

    assert_non_null(bundle);
    bundle_add(bundle, layer, first, count);
    assert_int_equal(bundle_ready(bundle), 0);
    return bundle;
}

// How often each task came back, by kind, until so many bundles are over.
static void gather(struct bench *bench, uint32_t bundles, uint8_t came[TASKS][3])
{
    while (bundles > 0) {
        struct outcomes *outcomes = wait_for_outcomes(bench->executor);

        assert_false(outcomes->lost);
        for (size_t i = 0; i < outcomes->count; i++) {
            const struct outcome *outcome = &outcomes->outcome[i];

            for (uint32_t t = outcome->first; t < outcome->first + outcome->count; t++) {
                came[t][outcome->kind]++;
            }
        }
        bundles -= outcomes->over ? 1 : 0;
        outcomes_destroy(outcomes);
    }
}

static void test_outcomes_come_back(void **state)
{
    static uint8_t came[TASKS][3];
    struct bench bench;

    (void)state;
    memset(came, 0, sizeof(came));
    open_bench(&bench, 3);
    for (uint32_t i = 0; i < TASKS; i += 10) {
        executor_run(bench.executor, make_bundle(&bench, bench.layer, i, 10));
    }
    gather(&bench, TASKS / 10, came);
    for (uint32_t i = 0; i < TASKS; i++) {
        struct partition *partition = store_get(bench.store, 1, 0, i);

        assert_int_equal(came[i][OUTCOME_DONE], 1);
        assert_int_equal(came[i][OUTCOME_FAILED] + came[i][OUTCOME_SKIPPED], 0);
        assert_non_null(partition);
        assert_int_equal(column_int64(&partition->table->column[0], 0), i);
        partition_unref(partition);
    }
    assert_null(executor_take(bench.executor));
    assert_int_equal(executor_ran(bench.executor), TASKS);
    close_bench(&bench);
}

static void test_run_here(void **state)
{
    static uint8_t came[TASKS][3];
    struct bench bench;

    (void)state;
    memset(came, 0, sizeof(came));
    open_bench(&bench, 1);
    store_drop(bench.store, &(struct store_key){1, 9, 5}, 1);
    executor_run_here(bench.executor, make_bundle(&bench, bench.layer, 0, 10));
    gather(&bench, 1, came);
    assert_int_equal(executor_ran(bench.executor), 9);
    for (uint32_t i = 0; i < 10; i++) {
        // One whose input is not there is left out.
        assert_int_equal(came[i][i == 5 ? OUTCOME_SKIPPED : OUTCOME_DONE], 1);
    }
    close_bench(&bench);
}

static void test_bad_operation(void **state)
{
    struct outcomes *outcomes;
    struct bench bench;
    struct layer *layer;

    (void)state;
    open_bench(&bench, 1);
    layer = add_layer(&bench.layers, 3, (const uint8_t *)"\xff\xff", 2);
    assert_null(layer->op);
    executor_run(bench.executor, make_bundle(&bench, layer, 0, 1));
    outcomes = wait_for_outcomes(bench.executor);
    assert_int_equal(outcomes->count, 1);
    assert_int_equal(outcomes->outcome[0].kind, OUTCOME_FAILED);
    assert_true(strlen(outcomes->outcome[0].text) > 0);
    assert_true(outcomes->over);
    outcomes_destroy(outcomes);
    close_bench(&bench);
}

// Tasks are taken back while they wait or run; all come back once, and those that were let alone are done.
static void test_withdraw(void **state)
{
    static uint8_t came[TASKS][3];
    struct bench bench;

    (void)state;
    memset(came, 0, sizeof(came));
    open_bench(&bench, 2);
    for (uint32_t i = 0; i < TASKS; i += 4) {
        executor_run(bench.executor, make_bundle(&bench, bench.layer, i, 4));
        executor_withdraw(bench.executor, 0, 1, 0, i + 1, 1, i % 8 == 0);
        executor_withdraw(bench.executor, 7, 1, 0, i, 4, true); // of another epoch: not meant
        if (i % 16 == 12) {
            executor_cut(bench.executor, 0, bench.bundles - 1);
        }
    }
    gather(&bench, TASKS / 4, came);
    for (uint32_t i = 0; i < TASKS; i++) {
        bool asked = i % 4 == 1 || i % 16 >= 12;

        assert_int_equal(came[i][OUTCOME_DONE] + came[i][OUTCOME_FAILED] + came[i][OUTCOME_SKIPPED], 1);
        assert_true(asked || came[i][OUTCOME_DONE] == 1);
    }
    // And an executor full of work can be taken down.
    for (uint32_t i = 0; i < TASKS; i += 4) {
        executor_run(bench.executor, make_bundle(&bench, bench.layer, i, 4));
    }
    close_bench(&bench);
}

static size_t pack_busy(uint8_t out[64], uint64_t nanoseconds)
{
    Dray__Op op = DRAY__OP__INIT;
    Dray__Step step = DRAY__STEP__INIT, *steps[] = {&step};
    Dray__Busy busy = DRAY__BUSY__INIT;

    busy.has_nanoseconds = true;
    busy.nanoseconds = nanoseconds;
    step.busy = &busy;
    op.n_step = 1;
    op.step = steps;
    return dray__op__pack(&op, out);
}

// What a bundle has done does not wait for its task that takes long, once it is asked.
static void test_done_before_a_long_task(void **state)
{
    static uint8_t came[TASKS][3];
    struct bench bench;
    struct bundle *bundle;
    struct layer *busy;
    uint8_t op[64];
    int done = 0, skipped = 0;

    (void)state;
    memset(came, 0, sizeof(came));
    open_bench(&bench, 1);
    busy = add_layer(&bench.layers, 4, op, pack_busy(op, 60000000000U));
    bundle = bundle_create(0, 17, 2);
    bundle_add(bundle, bench.layer, 0, 5);
    bundle_add(bundle, busy, 0, 2);
    assert_int_equal(bundle_ready(bundle), 0);
    executor_run(bench.executor, bundle);
    while (executor_ran(bench.executor) < 6) {
        poll(NULL, 0, 1);
    }
    executor_cut(bench.executor, 0, 17);
    while (done < 5 || skipped < 1) {
        struct outcomes *outcomes = wait_for_outcomes(bench.executor);

        for (size_t i = 0; i < outcomes->count; i++) {
            done += outcomes->outcome[i].kind == OUTCOME_DONE ? (int)outcomes->outcome[i].count : 0;
            skipped += outcomes->outcome[i].kind == OUTCOME_SKIPPED;
        }
        assert_false(outcomes->over);
        outcomes_destroy(outcomes);
    }
    executor_withdraw(bench.executor, 0, 1, 4, 0, 1, true);
    gather(&bench, 1, came);
    assert_int_equal(came[0][OUTCOME_FAILED], 1);
    close_bench(&bench);
}

// What ends a range of large results asks nothing of the layer of small ones before, which is gone.
static void test_layer_gone_between_bundles(void **state)
{
    static uint8_t came[TASKS][3];
    struct bench bench;
    struct layer *small;
    uint8_t op[64];

    (void)state;
    memset(came, 0, sizeof(came));
    open_bench(&bench, 1);
    small = add_layer(&bench.layers, 4, op, pack_busy(op, 1));
    executor_run(bench.executor, make_bundle(&bench, small, 0, 10));
    gather(&bench, 1, came);
    layers_drop(&bench.layers, 1, 4);
    executor_run(bench.executor, make_bundle(&bench, bench.layer, 10, 3));
    gather(&bench, 1, came);
    for (uint32_t i = 0; i < 13; i++) {
        assert_int_equal(came[i][OUTCOME_DONE], 1);
    }
    close_bench(&bench);
}

static size_t pack_command(uint8_t out[64], const char *text)
{
    Dray__Op op = DRAY__OP__INIT;
    Dray__Step step = DRAY__STEP__INIT, *steps[] = {&step};
    Dray__Command command = DRAY__COMMAND__INIT;
    ProtobufCBinaryData word = {strlen(text), (uint8_t *)(uintptr_t)text};

    command.has_shell = command.shell = true;
    command.argv = &word;
    command.n_argv = 1;
    step.command = &command;
    op.n_step = 1;
    op.step = steps;
    assert_true(dray__op__get_packed_size(&op) <= 64);
    return dray__op__pack(&op, out);
}

// Commands likewise: those before the one that takes long are told, those behind it go back.
static void test_commands_around_a_long_one(void **state)
{
    static uint8_t came[TASKS][3];
    struct bench bench;
    struct bundle *bundle;
    struct layer *layer;
    uint8_t op[64];
    int done = 0, skipped = 0;

    (void)state;
    memset(came, 0, sizeof(came));
    open_bench(&bench, 1);
    layer = add_layer(&bench.layers, 4, op, pack_command(op, "test {index} != 1 || sleep 60"));
    bundle = bundle_create(0, 17, 1);
    bundle_add(bundle, layer, 0, 4);
    assert_int_equal(bundle_ready(bundle), 0);
    executor_run(bench.executor, bundle);
    while (executor_ran(bench.executor) < 2) {
        poll(NULL, 0, 1);
    }
    executor_cut(bench.executor, 0, 17);
    for (int rounds = 0; done < 1 || skipped < 2; rounds++) {
        struct outcomes *outcomes = executor_take(bench.executor);

        assert_true(rounds < 10000);
        poll(NULL, 0, outcomes == NULL ? 1 : 0);
        for (size_t i = 0; outcomes != NULL && i < outcomes->count; i++) {
            const struct outcome *outcome = &outcomes->outcome[i];

            done += outcome->kind == OUTCOME_DONE ? (int)outcome->count : 0;
            skipped += outcome->kind == OUTCOME_SKIPPED ? (int)outcome->count : 0;
        }
        outcomes_destroy(outcomes);
    }
    executor_withdraw(bench.executor, 0, 1, 4, 1, 1, true);
    gather(&bench, 1, came);
    assert_int_equal(came[1][OUTCOME_FAILED], 1);
    close_bench(&bench);
}

static void test_timeout(void **state)
{
    struct outcomes *outcomes;
    struct bench bench;
    struct layer *busy;
    uint8_t op[64];

    (void)state;
    open_bench(&bench, 1);
    busy = add_layer(&bench.layers, 4, op, pack_busy(op, 60000000000U));
    busy->timeout_ms = 50;
    executor_run(bench.executor, make_bundle(&bench, busy, 0, 1));
    outcomes = wait_for_outcomes(bench.executor);
    assert_int_equal(outcomes->count, 1);
    assert_int_equal(outcomes->outcome[0].kind, OUTCOME_FAILED);
    assert_int_equal(outcomes->outcome[0].code, ETIMEDOUT);
    assert_string_equal(outcomes->outcome[0].text, "it took longer than its timeout of 0.05 s");
    outcomes_destroy(outcomes);
    close_bench(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes_come_back),
        cmocka_unit_test(test_bad_operation),
        cmocka_unit_test(test_run_here),
        cmocka_unit_test(test_withdraw),
        cmocka_unit_test(test_done_before_a_long_task),
        cmocka_unit_test(test_layer_gone_between_bundles),
        cmocka_unit_test(test_commands_around_a_long_one),
        cmocka_unit_test(test_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
