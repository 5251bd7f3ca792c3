// The graphs that are measured with: their layers, spelt out by a slow reading of graph.proto of this
// test's own, have the edges that the pattern's definition names, and give the values that are expected.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "bench/plan.h"
#include "bench/random.h"
#include "bench/shape.h"
#include "bench/taskbench.h"
#include "proto/graph.h"

// Whether task `task` of `layer` needs partition `from` of `input`'s layer, as graph.proto says it.
static bool needs(const Dray__Layer *layer, const Dray__Input *input, uint32_t source_tasks, uint32_t task,
                  uint32_t from)
{
    uint64_t k = input->width;

    switch (input->pattern) {
    case DRAY__PATTERN__ONE_TO_ONE:
        assert_int_equal(layer->tasks, source_tasks);
        return from == task;
    case DRAY__PATTERN__FAN_IN:
        return from / k == task;
    case DRAY__PATTERN__ALL:
        return true;
    case DRAY__PATTERN__WINDOW:
        return from + k >= task && from <= task + k;
    case DRAY__PATTERN__LAG:
        return from + k == task;
    case DRAY__PATTERN__EXPLICIT:
        for (uint32_t i = input->offset[task]; i < input->offset[task + 1]; i++) {
            if (input->target[i] == from) {
                return true;
            }
        }
        return false;
    default:
        fail();
        return false;
    }
}

// All values of a plan, task by task; the last layer's are compared, and the edges counted.
static void evaluate(struct plan *plan)
{
    const Dray__Graph *graph = &plan->graph;
    uint64_t **value = calloc(graph->n_layer, sizeof(*value)), edges = 0, tasks = 0, wanted = 0;
    struct error err = {0};
    struct arena arena;
    const Dray__Graph *decoded;
    void *packed;
    size_t size, layers;

    assert_int_equal(graph_check(graph, &err), 0);
    assert_int_equal(plan_pack(plan, 0, &layers, &packed, &size, &err), 0);
    assert_int_equal(layers, graph->n_layer);
    arena_init(&arena, 0);
    assert_int_equal(graph_decode(packed, size, &arena, &decoded, &err), 0);
    arena_fini(&arena);
    free(packed);
    for (uint32_t l = 0; l < graph->n_layer; l++) {
        const Dray__Layer *layer = graph->layer[l];

        value[l] = calloc(layer->tasks, sizeof(uint64_t));
        assert_int_equal(layer->wanted, l >= plan->wanted_from);
        wanted += layer->wanted ? layer->tasks : 0;
        tasks += layer->tasks;
        for (uint32_t i = 0; i < layer->tasks; i++) {
            value[l][i] = 1 + (uint64_t)i;
            for (size_t k = 0; k < layer->n_input; k++) {
                const Dray__Input *input = layer->input[k];
                uint32_t sources = graph->layer[input->layer]->tasks;

                for (uint32_t from = 0; from < sources; from++) {
                    if (needs(layer, input, sources, i, from)) {
                        assert_true(input->layer < l || from < i);
                        value[l][i] += value[input->layer][from];
                        edges++;
                    }
                }
            }
        }
    }
    assert_int_equal(plan->tasks, tasks);
    assert_int_equal(plan->edges, edges);
    assert_int_equal(plan->results, wanted);
    assert_int_equal(plan_place(plan, (uint32_t)graph->n_layer, 0), UINT32_MAX);
    for (uint32_t l = 0; l < graph->n_layer; l++) {
        assert_int_equal(plan_place(plan, l, graph->layer[l]->tasks), UINT32_MAX);
        for (uint32_t i = 0; i < graph->layer[l]->tasks; i++) {
            uint32_t place = plan_place(plan, l, i);

            assert_int_equal(place < plan->results, graph->layer[l]->wanted);
            assert_true(place == UINT32_MAX || plan->expected[place] == value[l][i]);
        }
    }
    for (uint32_t l = 0; l < graph->n_layer; l++) {
        free(value[l]);
    }
    free(value);
}

static void test_shapes(void **state)
{
    static const uint32_t sizes[] = {1, 2, 3, 4, 7, 8, 64, 100, 257};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int shape = 0; shape < 5; shape++) {
            uint32_t n = sizes[i];
            struct plan plan;
            int rc;

            plan_init(&plan);
            rc = shape == 0   ? shape_trivial(&plan, n, NULL)
                 : shape == 1 ? shape_chain(&plan, n, NULL)
                 : shape == 2 ? shape_tree(&plan, n, NULL)
                 : shape == 3 ? shape_stencil(&plan, n, 5, NULL)
                              : shape_explicit(&plan, n, 7, NULL);
            assert_int_equal(rc, 0);
            evaluate(&plan);
            plan_fini(&plan);
        }
    }
}

// Each task of three or more predecessors has three different ones.
static void test_explicit_edges(void **state)
{
    struct plan plan;

    (void)state;
    plan_init(&plan);
    assert_int_equal(shape_explicit(&plan, 1000, 3, NULL), 0);
    assert_int_equal(plan.edges, 0 + 1 + 2 + 3 * 997);
    const Dray__Input *input = plan.graph.layer[0]->input[0];

    for (uint32_t i = 3; i < 1000; i++) {
        const uint32_t *target = input->target + input->offset[i];

        assert_int_equal(input->offset[i + 1] - input->offset[i], 3);
        assert_true(target[0] != target[1] && target[0] != target[2] && target[1] != target[2]);
    }
    plan_fini(&plan);
}

// The definitions once more, as the paper's core library writes them: intervals of the step before.
static bool defined(enum taskbench_kind kind, uint32_t width, uint32_t step, uint32_t point, uint32_t other)
{
    int64_t p = point, q = other, sets = 0, distance;

    while (((int64_t)1 << sets) < width) {
        sets++;
    }
    switch (kind) {
    case TASKBENCH_NO_COMM:
        return q == p;
    case TASKBENCH_STENCIL_1D:
        return q >= (p > 0 ? p - 1 : 0) && q <= (p + 1 < width ? p + 1 : width - 1);
    case TASKBENCH_FFT:
        distance = sets == 0 ? 0 : (int64_t)1 << ((step + sets - 1) % sets);
        return q == p || q == p - distance || q == p + distance;
    case TASKBENCH_TREE:
        return q == p / 2;
    case TASKBENCH_ALL_TO_ALL:
        return true;
    default:
        return false;
    }
}

static void test_taskbench(void **state)
{
    static const uint32_t widths[] = {1, 2, 3, 4, 5, 8, 33, 100};

    (void)state;
    for (int kind = 0; kind < TASKBENCH_KINDS; kind++) {
        for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
            const struct taskbench bench = {
                .kind = (enum taskbench_kind)kind, .width = widths[i], .steps = 9, .output_bytes = 8};
            struct plan plan;

            plan_init(&plan);
            assert_int_equal(taskbench_plan(&bench, &plan, NULL), 0);
            evaluate(&plan);
            assert_int_equal(plan.graph.n_layer, bench.steps);
            for (uint32_t step = 1; step < bench.steps; step++) {
                const Dray__Layer *layer = plan.graph.layer[step];
                uint32_t before = plan.graph.layer[step - 1]->tasks;

                assert_int_equal(layer->tasks,
                                 kind == TASKBENCH_TREE && 1U << step < widths[i] ? 1U << step : widths[i]);
                for (uint32_t p = 0; p < layer->tasks; p++) {
                    for (uint32_t q = 0; q < before; q++) {
                        bool is_edge = layer->n_input > 0 && needs(layer, layer->input[0], before, p, q);

                        assert_int_equal(is_edge, taskbench_needs(&bench, step, p, q));
                        if (kind != TASKBENCH_RANDOM_NEAREST) {
                            assert_int_equal(is_edge, defined(bench.kind, widths[i], step, p, q));
                        } else {
                            assert_true(!is_edge || (q + 2 >= p && q <= p + 2));
                            assert_true(is_edge || p != q);
                        }
                    }
                }
            }
            plan_fini(&plan);
        }
    }
}

// random_nearest: about a quarter of the four neighbours, and the same every third step.
static void test_random_nearest(void **state)
{
    const struct taskbench bench = {
        .kind = TASKBENCH_RANDOM_NEAREST, .width = 1000, .steps = 8, .output_bytes = 8};
    uint32_t edges = 0, same = 0;

    (void)state;
    for (uint32_t p = 2; p < 998; p++) {
        for (uint32_t q = p - 2; q <= p + 2; q++) {
            edges += q != p && taskbench_needs(&bench, 1, p, q);
            assert_int_equal(taskbench_needs(&bench, 1, p, q), taskbench_needs(&bench, 4, p, q));
            same += taskbench_needs(&bench, 1, p, q) == taskbench_needs(&bench, 2, p, q);
        }
    }
    assert_in_range(edges, 996 * 9 / 10, 996 * 11 / 10);
    assert_in_range(same, 996, 996 * 5 * 9 / 10);
}

static void test_random_below(void **state)
{
    uint32_t seen[7] = {0};
    uint64_t random = 5;

    (void)state;
    for (int i = 0; i < 7000; i++) {
        seen[random_below(&random, 7)]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(seen[i], 800, 1200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),       cmocka_unit_test(test_explicit_edges),
        cmocka_unit_test(test_taskbench),    cmocka_unit_test(test_random_nearest),
        cmocka_unit_test(test_random_below),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
