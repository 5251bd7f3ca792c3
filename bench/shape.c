#include "bench/shape.h"

#include <errno.h>
#include <stdlib.h>

#include "bench/random.h"

int shape_trivial(struct plan *plan, uint32_t tasks, struct error *err)
{
    int rc;

    plan_layer(plan, tasks, "trivial");
    rc = plan_finish(plan, err);
    for (uint32_t i = 0; rc == 0 && i < tasks; i++) {
        plan->expected[i] = 1 + (uint64_t)i;
    }
    return rc;
}

int shape_chain(struct plan *plan, uint32_t tasks, struct error *err)
{
    Dray__Input *end;
    int rc;

    plan_layer(plan, tasks, "chain");
    plan_input(plan, 0, DRAY__PATTERN__LAG, 1);
    plan_layer(plan, 1, "end of the chain");
    end = plan_explicit(plan, 0, 1);
    plan->edges += tasks - 1;
    rc = plan_finish(plan, err);
    if (rc != 0) {
        return rc;
    }
    end->offset[0] = 0;
    end->offset[1] = 1;
    end->target[0] = tasks - 1;
    plan->expected[0] = 1 + (uint64_t)tasks * ((uint64_t)tasks + 1) / 2;
    return 0;
}

int shape_tree(struct plan *plan, uint32_t leaves, struct error *err)
{
    uint64_t *value = calloc(leaves, sizeof(*value));
    uint32_t count = leaves;
    int rc;

    if (value == NULL) {
        return error_no_memory(err);
    }
    plan_layer(plan, leaves, "leaves");
    for (uint32_t i = 0; i < leaves; i++) {
        value[i] = 1 + (uint64_t)i;
    }
    for (uint32_t level = 0; count > 1; level++) {
        uint32_t next = count / 2 + count % 2;

        plan_layer(plan, next, "pairs");
        plan_input(plan, level, DRAY__PATTERN__FAN_IN, 2);
        for (uint32_t i = 0; i < next; i++) {
            value[i] = 1 + (uint64_t)i + value[2 * i] + (2 * i + 1 < count ? value[2 * i + 1] : 0);
        }
        plan->edges += count;
        count = next;
    }
    rc = plan_finish(plan, err);
    if (rc == 0) {
        plan->expected[0] = value[0];
    }
    free(value);
    return rc;
}

int shape_stencil(struct plan *plan, uint32_t width, uint32_t steps, struct error *err)
{
    uint64_t *row[2] = {calloc(width, sizeof(uint64_t)), calloc(width, sizeof(uint64_t))};
    int rc = row[0] == NULL || row[1] == NULL ? error_no_memory(err) : 0;

    for (uint32_t step = 0; rc == 0 && step < steps; step++) {
        const uint64_t *before = row[step % 2];
        uint64_t *now = row[(step + 1) % 2];

        plan_layer(plan, width, "row");
        if (step > 0) {
            plan_input(plan, step - 1, DRAY__PATTERN__WINDOW, 1);
            plan->edges += 3 * (uint64_t)width - 2;
        }
        for (uint32_t i = 0; i < width; i++) {
            now[i] = 1 + (uint64_t)i;
            if (step > 0) {
                now[i] += (i > 0 ? before[i - 1] : 0) + before[i] + (i + 1 < width ? before[i + 1] : 0);
            }
        }
    }
    if (rc == 0) {
        rc = plan_finish(plan, err);
    }
    for (uint32_t i = 0; rc == 0 && i < width; i++) {
        plan->expected[i] = row[steps % 2][i];
    }
    free(row[0]);
    free(row[1]);
    return rc;
}

enum {
    EDGES = 3,
    LAYER_TASKS = 1 << 20 // of explicit edges: what goes into one message
};

static uint32_t choose(uint64_t *random, uint32_t task, uint32_t target[EDGES])
{
    uint32_t count = task < EDGES ? task : EDGES;

    for (uint32_t i = 0; i < count; i++) {
        bool is_new;

        do {
            target[i] = count < EDGES ? i : random_below(random, task);
            is_new = true;
            for (uint32_t k = 0; k < i; k++) {
                is_new &= target[k] != target[i];
            }
        } while (!is_new);
    }
    return count;
}

static int add_explicit(struct plan *plan, uint32_t tasks, struct error *err)
{
    uint32_t first = tasks < EDGES ? tasks : EDGES;
    // The first tasks have 0, 1 and 2 others before them.
    size_t edges = first * (first - (size_t)1) / 2 + (size_t)EDGES * (tasks - first);

    plan_layer(plan, tasks, "explicit");
    return plan_explicit(plan, (uint32_t)plan->graph.n_layer - 1, edges) == NULL ? error_no_memory(err) : 0;
}

static void fill_explicit(const struct plan *plan, uint32_t number, uint64_t *seed)
{
    const Dray__Layer *layer = plan->graph.layer[number];
    Dray__Input *input = layer->input[0];
    uint64_t *expected = plan->expected + plan_place(plan, number, 0);
    size_t at = 0;

    for (uint32_t i = 0; i < layer->tasks; i++) {
        uint32_t n = choose(seed, i, input->target + at);

        input->offset[i] = (uint32_t)at;
        expected[i] = 1 + (uint64_t)i;
        for (uint32_t k = 0; k < n; k++) {
            expected[i] += expected[input->target[at + k]];
        }
        at += n;
    }
    input->offset[layer->tasks] = (uint32_t)at;
}

int shape_explicit(struct plan *plan, uint32_t tasks, uint64_t seed, struct error *err)
{
    uint32_t left = tasks;
    int rc = 0;

    while (rc == 0 && left > 0) {
        uint32_t some = left < LAYER_TASKS ? left : LAYER_TASKS;

        rc = add_explicit(plan, some, err);
        left -= some;
    }
    if (rc == 0) {
        rc = plan_finish_from(plan, 0, err);
    }
    for (uint32_t l = 0; rc == 0 && l < plan->graph.n_layer; l++) {
        fill_explicit(plan, l, &seed);
    }
    return rc;
}
