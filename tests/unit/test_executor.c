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

static struct executor *open_executor(uint32_t threads, struct budget *budget)
{
    const struct executor_options options = {.threads = threads, .budget = budget};
    struct executor *executor;
    struct error err = {0};

    assert_int_equal(executor_create(&options, &executor, &err), 0);
    return executor;
}

static struct work *wait_for_outcome(struct executor *executor)
{
    struct pollfd fd = {.fd = executor_fd(executor), .events = POLLIN};
    struct work *work;

    while ((work = executor_take(executor)) == NULL) {
        assert_int_equal(poll(&fd, 1, 60000), 1);
    }
    return work;
}

static void give(struct executor *executor, struct layer *layer, uint32_t index, struct partition *input)
{
    struct work *work = work_create(layer, index, 1, 1);

    assert_non_null(work);
    work->input[0] = partition_ref(input);
    work->input_start[1] = 1;
    executor_run(executor, work);
}

static void test_outcomes_come_back(void **state)
{
    struct budget *budget = budget_create(BUDGET);
    struct executor *executor = open_executor(3, budget);
    struct layers layers = {0};
    uint8_t op[64];
    struct layer *layer = add_layer(&layers, 0, op, pack_take(op));
    struct partition *input = make_table(42);
    bool seen[TASKS] = {false};

    (void)state;
    for (uint32_t i = 0; i < TASKS; i++) {
        give(executor, layer, i, input);
    }
    layers_drop(&layers, 1, 0); // those that run keep it
    for (uint32_t i = 0; i < TASKS; i++) {
        struct work *work = wait_for_outcome(executor);

        assert_int_equal(work->rc, 0);
        assert_false(seen[work->index]);
        seen[work->index] = true;
        assert_int_equal(work->partition->table->rows, 1);
        assert_int_equal(column_int64(&work->partition->table->column[0], 0), 42);
        work_destroy(work);
    }
    assert_null(executor_take(executor));
    partition_unref(input);
    layers_fini(&layers);
    assert_true(executor_destroy(executor));
    assert_int_equal(budget_used(budget), 0);
    budget_destroy(budget);
}

static void test_bad_operation(void **state)
{
    struct budget *budget = budget_create(BUDGET);
    struct executor *executor = open_executor(1, budget);
    struct layers layers = {0};
    struct layer *layer = add_layer(&layers, 0, (const uint8_t *)"\xff\xff", 2);
    struct partition *input = make_table(1);

    (void)state;
    assert_null(layer->op);
    give(executor, layer, 0, input);

    struct work *work = wait_for_outcome(executor);

    assert_true(work->rc < 0);
    assert_true(strlen(work->err.text) > 0);
    work_destroy(work);
    partition_unref(input);
    layers_fini(&layers);
    assert_true(executor_destroy(executor));
    budget_destroy(budget);
}

// Every second one is cancelled while they wait or run; all come back, none twice, and those that
// were not cancelled are done.
static void test_cancel(void **state)
{
    struct budget *budget = budget_create(BUDGET);
    struct executor *executor = open_executor(2, budget);
    struct layers layers = {0};
    uint8_t op[64];
    struct layer *layer = add_layer(&layers, 0, op, pack_take(op));
    struct partition *input = make_table(1);

    (void)state;
    for (uint32_t i = 0; i < TASKS; i++) {
        give(executor, layer, i, input);
        if (i % 2 == 1) {
            executor_cancel(executor, 0, 1, 0, i);
            executor_cancel(executor, 7, 1, 0, i - 1); // of another epoch: not meant
        }
    }
    for (uint32_t i = 0; i < TASKS; i++) {
        struct work *work = wait_for_outcome(executor);

        assert_true(work->rc == 0 || (work->rc == -ECANCELED && work->index % 2 == 1));
        if (work->index % 2 == 0) {
            assert_false(atomic_load(&work->cancelled));
        }
        work_destroy(work);
    }
    // And an executor full of work can be taken down.
    for (uint32_t i = 0; i < TASKS; i++) {
        give(executor, layer, i, input);
    }
    assert_true(executor_destroy(executor));
    partition_unref(input);
    layers_fini(&layers);
    budget_destroy(budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outcomes_come_back),
        cmocka_unit_test(test_bad_operation),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
