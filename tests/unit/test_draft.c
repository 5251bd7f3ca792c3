// Layers that are put together from single tasks: what joins, in which order inputs come, and which patterns
// their edges become.
#include "client/lib/draft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/graph.h"
#include "proto/op.h"

enum { BEFORE = 8 };

// Layers of a job, the last of which is the draft.
struct fixture {
    struct draft draft;
    struct bytes graph;
    struct arena arena;
    uint32_t tasks[BEFORE]; // of the layers before the draft
    const Dray__Layer *layer;
    const Dray__Op *op;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    draft_init(&f->draft);
    arena_init(&f->arena, 0);
    for (uint32_t i = 0; i < BEFORE; i++) {
        f->tasks[i] = 1 + 3 * i; // 1, 4, 7, 10, ...
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    draft_fini(&f->draft);
    bytes_fini(&f->graph);
    arena_fini(&f->arena);
    free(f);
    return 0;
}

static const struct dray_task count = {.size = sizeof(count), .kind = DRAY_TASK_COUNT};

static void begin(struct fixture *f, const struct dray_task *task, bool listed)
{
    struct error err = {0};

    if (draft_begin(&f->draft, BEFORE, task, listed, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static struct draft_input of(const struct fixture *f, uint32_t layer, uint32_t index)
{
    return (struct draft_input){0, layer, index, layer < BEFORE ? f->tasks[layer] : 0};
}

static int add(struct fixture *f, const uint32_t (*input)[2], size_t inputs)
{
    struct draft_input in[64];

    for (size_t i = 0; i < inputs; i++) {
        in[i] = of(f, input[i][0], input[i][1]);
    }
    return draft_add(&f->draft, in, inputs, NULL);
}

// What the broker will see.
static void close_it(struct fixture *f)
{
    ProtobufCMessage *message;
    struct error err = {0};

    f->graph.size = 0;
    assert_int_equal(draft_close(&f->draft, &f->graph, &err), 0);
    message =
        protobuf_c_message_unpack(&dray__graph__descriptor, &f->arena.protobuf, f->graph.size, f->graph.data);
    assert_non_null(message);
    assert_int_equal(((Dray__Graph *)message)->n_layer, 1);
    if (graph_check_more((Dray__Graph *)message, BEFORE, f->tasks, &err) != 0) {
        fail_msg("%s", err.text);
    }
    f->layer = ((Dray__Graph *)message)->layer[0];
    if (op_decode(f->layer->op.data, f->layer->op.len, &f->arena, &f->op, &err) != 0 ||
        op_check_tasks(f->op, f->layer->tasks, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_true(f->layer->wanted);
}

static void assert_pattern(const struct fixture *f, size_t input, Dray__Pattern pattern, uint32_t layer,
                           uint32_t width)
{
    assert_true(input < f->layer->n_input);
    assert_int_equal(f->layer->input[input]->pattern, pattern);
    assert_int_equal(f->layer->input[input]->layer, layer);
    assert_int_equal(f->layer->input[input]->width, width);
}

static void test_patterns(void **state)
{
    struct fixture *f = *state;

    begin(f, &count, false);
    for (uint32_t i = 0; i < 10; i++) { // layer 3 has 10
        assert_int_equal(add(f, (const uint32_t[][2]){{3, i}}, 1), 0);
    }
    close_it(f);
    assert_int_equal(f->layer->n_input, 1);
    assert_pattern(f, 0, DRAY__PATTERN__ONE_TO_ONE, 3, 0);

    begin(f, &count, false);
    for (uint32_t i = 0; i < 10; i += 3) {
        assert_int_equal(add(f, (const uint32_t[][2]){{3, i}, {3, i + 1}, {3, i + 2}}, i < 9 ? 3 : 1), 0);
    }
    close_it(f);
    assert_pattern(f, 0, DRAY__PATTERN__FAN_IN, 3, 3);

    begin(f, &count, false);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(add(f, (const uint32_t[][2]){{0, 0}, {1, 0}, {1, 1}, {1, 2}, {1, 3}}, 5), 0);
    }
    close_it(f);
    assert_pattern(f, 0, DRAY__PATTERN__BROADCAST, 0, 0);
    assert_pattern(f, 1, DRAY__PATTERN__ALL, 1, 0);

    begin(f, &count, false);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(add(f, (const uint32_t[][2]){{BEFORE, i - 2}}, i < 2 ? 0 : 1), 0);
    }
    close_it(f);
    assert_pattern(f, 0, DRAY__PATTERN__LAG, BEFORE, 2);

    // Nearly one of them each.
    begin(f, &count, false);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(
            add(f, (const uint32_t[][2]){{3, 9 - i}, {BEFORE, i == 5 ? 3 : i - 1}}, i < 1 ? 1 : 2), 0);
    }
    close_it(f);
    assert_pattern(f, 0, DRAY__PATTERN__EXPLICIT, 3, 1);
    assert_int_equal(f->layer->input[0]->n_offset, 0);
    assert_pattern(f, 1, DRAY__PATTERN__EXPLICIT, BEFORE, 1);
    assert_int_equal(f->layer->input[1]->n_offset, 2); // the first has none, all others one
    assert_int_equal(f->layer->input[1]->target[4], 3);
}

// Inputs of each task come out in its own order, whatever the others have.
static void test_random_inputs_keep_their_order(void **state)
{
    struct fixture *f = *state;

    for (unsigned seed = 1; seed <= 200; seed++) {
        uint32_t tasks = 1 + seed % 40;
        uint32_t wanted[64][8][2];
        size_t inputs[64];
        unsigned random = seed;

        begin(f, &count, false);
        for (uint32_t t = 0; t < tasks; t++) {
            inputs[t] = (size_t)rand_r(&random) % 8;
            for (size_t i = 0; i < inputs[t]; i++) {
                uint32_t layer = (uint32_t)rand_r(&random) % (t > 0 ? BEFORE + 1 : BEFORE);

                wanted[t][i][0] = layer;
                wanted[t][i][1] = (uint32_t)rand_r(&random) % (layer < BEFORE ? f->tasks[layer] : t);
            }
            assert_int_equal(add(f, (const uint32_t(*)[2])wanted[t], inputs[t]), 0);
        }
        close_it(f);
        assert_int_equal(f->layer->tasks, tasks);
        for (uint32_t t = 0; t < tasks; t++) {
            size_t n = 0;

            for (size_t i = 0; i < f->layer->n_input; i++) {
                const Dray__Input *input = f->layer->input[i];
                uint32_t source = input->layer < BEFORE ? f->tasks[input->layer] : tasks;
                struct span span = input_needs(input, tasks, source, t);

                for (uint32_t k = 0; k < span.count; k++, n++) {
                    assert_true(n < inputs[t]);
                    assert_int_equal(input->layer, wanted[t][n][0]);
                    assert_int_equal(span_at(&span, k), wanted[t][n][1]);
                }
            }
            assert_int_equal(n, inputs[t]);
        }
    }
}

static void test_other_jobs(void **state)
{
    struct fixture *f = *state;
    const struct draft_input in[] = {{77, 2, 1, 3}, {0, 1, 2, 4}, {77, 2, 2, 3}};

    begin(f, &count, false);
    assert_int_equal(draft_add(&f->draft, in, 3, NULL), 0);
    close_it(f);
    assert_int_equal(f->layer->n_input, 3);
    assert_int_equal(f->layer->input[0]->job, 77);
    assert_int_equal(f->layer->input[0]->job_tasks, 3);
    assert_false(f->layer->input[1]->has_job);
    assert_int_equal(f->layer->input[2]->target[0], 2);
}

static void test_what_joins(void **state)
{
    struct fixture *f = *state;
    const struct dray_resource gpu[] = {{"gpu", 1}}, gpus[] = {{"gpu", 2}};
    const char *const workers[] = {"a", "b", NULL}, *const worker[] = {"a", NULL};
    const struct dray_task call = {
        .size = sizeof(call),
        .kind = DRAY_TASK_CALL,
        .plugin = "p",
        .function = "f",
        .name = "n",
        .argument = {"x", 1},
        .resource = gpu,
        .resources = 1,
        .worker = workers,
        .retries = 2,
        .timeout_ms = 100,
        .priority = -3,
    };
    struct dray_task other = call;
    char function[] = "f";

    begin(f, &call, true);
    other.argument = (struct dray_bytes){"yy", 2}; // that may differ
    other.function = function;                     // equal, elsewhere
    assert_true(draft_takes(&f->draft, &other));
    function[0] = 'g';
    assert_false(draft_takes(&f->draft, &other));
    other = call;
    other.resource = gpus;
    assert_false(draft_takes(&f->draft, &other));
    other = call;
    other.worker = worker;
    assert_false(draft_takes(&f->draft, &other));
    other = call;
    other.name = NULL;
    assert_false(draft_takes(&f->draft, &other));
    other = call;
    other.timeout_ms = 0;
    assert_false(draft_takes(&f->draft, &other));
    other = call;
    other.argument.data = NULL;
    assert_false(draft_takes(&f->draft, &other));

    assert_int_equal(draft_argument(&f->draft, &call.argument, NULL), 0);
    assert_int_equal(draft_add(&f->draft, NULL, 0, NULL), 0);
    assert_int_equal(draft_argument(&f->draft, &(struct dray_bytes){"", 0}, NULL), 0);
    assert_int_equal(draft_add(&f->draft, NULL, 0, NULL), 0);
    close_it(f);
    assert_int_equal(f->op->step[0]->call->n_argument, 2);
    assert_memory_equal(f->op->step[0]->call->argument[0].data, "x", 1);
    assert_int_equal(f->op->step[0]->call->argument[1].len, 0);
    assert_string_equal(f->layer->name, "n");
    assert_int_equal(f->layer->resource[0]->amount, 1);
    assert_int_equal(f->layer->n_worker, 3);
    assert_string_equal(f->layer->worker[2], "plugin:p"); // which it needs whatever it asks for
    assert_int_equal(f->layer->priority, -3);
    assert_int_equal(f->layer->retries, 2);
    assert_int_equal(f->layer->timeout_ms, 100);
}

static void test_commands(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {"cat", "{param}", NULL}, *const files[] = {NULL, "in.txt"},
                      *const env[] = {"A=b", NULL};
    const struct dray_task task = {
        .size = sizeof(task),
        .kind = DRAY_TASK_COMMAND,
        .argv = argv,
        .env = env,
        .argument = {"p", 1},
        .inputs = 2,
        .input_as_stdin = 1,
        .input_file = files,
        .output = "out",
        .memory = 1 << 20,
    };
    const Dray__Command *command;

    begin(f, &task, true);
    // The place of an input in the task is the number of the layer's input.
    assert_int_equal(draft_argument(&f->draft, &task.argument, NULL), 0);
    assert_int_equal(add(f, (const uint32_t[][2]){{1, 0}, {1, 3}}, 2), 0);
    assert_int_equal(add(f, (const uint32_t[][2]){{1, 0}, {2, 3}}, 2), -ENOSPC);
    assert_int_equal(draft_argument(&f->draft, &task.argument, NULL), 0);
    assert_int_equal(add(f, (const uint32_t[][2]){{1, 2}, {1, 1}}, 2), 0);
    close_it(f);
    command = f->op->step[0]->command;
    assert_int_equal(f->layer->tasks, 2);
    assert_int_equal(f->layer->n_input, 2);
    assert_int_equal(f->layer->input[1]->target[1], 1);
    assert_int_equal(command->n_argv, 2);
    assert_int_equal(command->n_param, 2);
    assert_int_equal(command->n_file, 1);
    assert_int_equal(command->file[0]->input, 1);
    assert_true(command->has_stdin_input);
    assert_int_equal(command->stdin_input, 0);
    assert_string_equal(command->output, "out");
    assert_int_equal(command->memory, 1 << 20);
}

static void test_what_cannot_be(void **state)
{
    struct fixture *f = *state;
    const char *const up[] = {"../x"};
    const char *const argv[] = {"x", NULL};
    struct {
        struct dray_task task;
        const char *word;
    } bad[] = {
        {{.kind = (enum dray_task_kind)99}, "no kind 99"},
        {{.kind = DRAY_TASK_CALL, .function = "f"}, "plugin"},
        {{.kind = DRAY_TASK_COMMAND}, "command"},
        {{.kind = DRAY_TASK_COMMAND, .argv = argv, .output = "/etc/x"}, "below the working directory"},
        {{.kind = DRAY_TASK_COMMAND, .argv = argv, .input_file = up, .inputs = 1},
         "leaves the working directory"},
        {{.kind = DRAY_TASK_BUSY, .output_bytes = 3}, "3 bytes"},
        {{.kind = DRAY_TASK_COUNT, .resource = &(struct dray_resource){"gpu", 0}, .resources = 1}, "gpu"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};

        bad[i].task.size = sizeof(bad[i].task);
        assert_int_equal(draft_begin(&f->draft, BEFORE, &bad[i].task, false, &err), -EINVAL);
        assert_int_equal(err.code, EINVAL);
        if (strstr(err.text, bad[i].word) == NULL) {
            fail_msg("%s", err.text);
        }
    }
}

static void test_many_of_one_input(void **state)
{
    struct fixture *f = *state;
    const struct draft_input one = of(f, 0, 0);
    const struct draft_input some[] = {of(f, 2, 6), of(f, 0, 0)};

    begin(f, &count, false);
    assert_int_equal(draft_add_many(&f->draft, 1000000, &one, 1, NULL), 0);
    assert_true(draft_size(&f->draft) < 4096);
    close_it(f);
    assert_int_equal(f->layer->tasks, 1000000);
    assert_pattern(f, 0, DRAY__PATTERN__BROADCAST, 0, 0);
    assert_true(f->graph.size < 100);

    begin(f, &count, false);
    assert_int_equal(draft_add_many(&f->draft, 100, some, 2, NULL), 0);
    close_it(f);
    assert_pattern(f, 0, DRAY__PATTERN__EXPLICIT, 2, 1);
    assert_pattern(f, 1, DRAY__PATTERN__BROADCAST, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_patterns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random_inputs_keep_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_jobs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_joins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_commands, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_of_one_input, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
