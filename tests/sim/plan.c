#include "tests/sim/plan.h"

#include <string.h>

char plan_file[PLAN_FILES][8] = {"a.csv", "b.csv", "c.csv", "d.csv"};

uint64_t plan_begin(uint32_t layer, uint32_t index)
{
    return hash_mix(((uint64_t)layer << 32 | index) + 1) | 1;
}

uint64_t plan_add(uint64_t value, uint64_t input)
{
    return hash_mix(value * 31 + input) | 1;
}

void plan_edges(struct plan *plan, struct random *random, uint32_t layer, Dray__Input *input, uint32_t from,
                bool own)
{
    uint32_t to = plan->build.layer[layer]->tasks;
    uint32_t fan = random_between(random, 0, 4);

    input->offset = build_alloc(&plan->build, to + 1, sizeof(uint32_t));
    input->target = build_alloc(&plan->build, (size_t)to * fan + 1, sizeof(uint32_t));
    input->n_offset = to + 1;
    for (uint32_t i = 0; i < to; i++) {
        input->offset[i] = (uint32_t)input->n_target;
        for (uint32_t n = own && i == 0 ? 0 : random_between(random, 0, fan); n > 0; n--) {
            input->target[input->n_target++] = random_below(random, own ? i : from);
        }
    }
    input->offset[to] = (uint32_t)input->n_target;
    if (input->n_target % 2 == 0) {
        input_list_rows(input, to, build_alloc(&plan->build, 2 * input->n_target + 1, sizeof(uint32_t)));
        input_trim_rows(input);
    }
}

static void input_random(struct plan *plan, struct random *random, uint32_t layer)
{
    uint32_t source = random_percent(random, 70) ? layer - 1 : random_below(random, layer);
    uint32_t from = plan->build.layer[source]->tasks;
    uint32_t to = plan->build.layer[layer]->tasks;
    uint32_t kind = random_below(random, 6);

    if (kind == 0 && from == to) {
        build_input(&plan->build, layer, source, DRAY__PATTERN__ONE_TO_ONE, 0);
    } else if (kind == 1 && from == to) {
        build_input(&plan->build, layer, source, DRAY__PATTERN__WINDOW, random_between(random, 1, 3));
    } else if (kind == 2 && from == 1) {
        build_input(&plan->build, layer, source, DRAY__PATTERN__BROADCAST, 0);
    } else if (kind == 3) {
        build_input(&plan->build, layer, source, DRAY__PATTERN__ALL, 0);
    } else {
        plan_edges(plan, random, layer, build_input(&plan->build, layer, source, DRAY__PATTERN__EXPLICIT, 0),
                   from, false);
    }
}

static void layer_random(struct plan *plan, struct random *random, const struct plan_shape *shape)
{
    uint32_t number = (uint32_t)plan->build.graph.n_layer;
    uint32_t before = number > 0 ? plan->build.layer[number - 1]->tasks : 0;
    uint32_t tasks = random_between(random, 1, shape->tasks_max);
    uint32_t how = number == 0 ? 9 : random_below(random, 6);

    if (how == 0 && before >= 2) {
        uint32_t width = random_between(random, 2, 5);

        tasks = (before + width - 1) / width;
        build_layer(&plan->build, tasks);
        build_input(&plan->build, number, number - 1, DRAY__PATTERN__FAN_IN, width);
    } else {
        build_layer(&plan->build, how < 4 ? before : tasks);
    }
    for (uint32_t n = how < 9 ? random_between(random, 0, 2) : 0; n > 0; n--) {
        input_random(plan, random, number);
    }
    tasks = plan->build.layer[number]->tasks;
    if (shape->sources && (plan->build.layer[number]->n_input == 0 || random_percent(random, 20))) {
        uint32_t first = 0;

        plan->has_sources = true;
        while (first < tasks) {
            uint32_t count = random_between(random, 1, tasks - first);

            build_source(&plan->build, number, plan_file[random_below(random, PLAN_FILES)], first, count);
            first += count;
        }
    }
    if (shape->wide) {
        plan_widen(plan, random, shape->other);
    }
    if (random_percent(random, 15)) {
        build_wanted(&plan->build, number);
    }
}

static void pick_task(struct plan *plan, struct random *random, uint32_t *layer, uint32_t *index)
{
    uint32_t l = random_below(random, (uint32_t)plan->graph->n_layer);
    uint32_t i = random_below(random, plan->graph->layer[l]->tasks);

    if (plan->needed[l][i]) {
        *layer = l;
        *index = i;
    }
}

static void poison_random(struct plan *plan, struct random *random)
{
    static const uint32_t most[] = {0, 1, 3, UINT32_MAX};

    plan->failures_max = most[random_below(random, 4)];
    for (uint32_t n = random_between(random, 1, 4); n > 0; n--) {
        uint32_t l = UINT32_MAX;
        uint32_t i = 0;

        pick_task(plan, random, &l, &i);
        if (l != UINT32_MAX) {
            plan->fails[l][i] = FAILS_ALWAYS;
            plan->has_poison = true;
        }
    }
}

static void doom(struct plan *plan)
{
    for (uint32_t l = 0; l < plan->graph->n_layer; l++) {
        const Dray__Layer *layer = plan->graph->layer[l];

        for (uint32_t i = 0; i < layer->tasks; i++) {
            plan->doomed[l][i] = plan->fails[l][i] == FAILS_ALWAYS;
            for (size_t k = 0; k < layer->n_input; k++) {
                uint32_t tasks;
                const struct plan *from = plan_source(plan, layer->input[k], &tasks);
                struct span span = input_needs(layer->input[k], layer->tasks, tasks, i);

                for (uint32_t n = 0; n < span.count; n++) {
                    plan->doomed[l][i] =
                        plan->doomed[l][i] || from->doomed[layer->input[k]->layer][span_at(&span, n)];
                }
            }
        }
    }
}

// Attempts that fail, no more of them than are made up for.
static void retries_random(struct plan *plan, struct random *random)
{
    for (uint32_t l = 0; l < plan->graph->n_layer; l++) {
        Dray__Layer *layer = plan->graph->layer[l];

        if (!random_percent(random, 15)) {
            continue;
        }
        layer->has_retries = layer->has_retry_delay_ms = 1;
        layer->retries = random_between(random, 1, 3);
        layer->retry_delay_ms = random_percent(random, 50) ? 0 : random_between(random, 1, 8);
        for (uint32_t i = 0; i < layer->tasks; i++) {
            plan->fails[l][i] =
                random_percent(random, 25) ? (uint8_t)random_between(random, 1, layer->retries) : 0;
        }
    }
}

void plan_random(struct plan *plan, struct random *random, const struct plan_shape *shape)
{
    uint32_t layers = random_between(random, 1, shape->layers_max);

    memset(plan, 0, sizeof(*plan));
    plan->other = shape->other;
    build_init(&plan->build);
    for (uint32_t l = 0; l < layers; l++) {
        layer_random(plan, random, shape);
    }
    if (random_percent(random, 95)) {
        build_wanted(&plan->build, layers - 1);
    }
    plan->detached = random_percent(random, shape->wide ? 60 : 30);
    plan->priority = random_percent(random, 20) ? (int32_t)random_below(random, 3) - 1 : 0;
    if (shape->wide && random_percent(random, 40)) {
        plan->piece = random_between(random, 1, layers);
    }
    plan_finish(plan);
    retries_random(plan, random);
    if (shape->poison && random_percent(random, 50)) {
        poison_random(plan, random);
    }
    doom(plan);
    if (shape->killer && random_percent(random, 50)) {
        pick_task(plan, random, &plan->killer_layer, &plan->killer_index);
    }
}

static void mark_needs(struct plan *plan, uint32_t l, uint32_t i)
{
    const Dray__Layer *layer = plan->graph->layer[l];

    for (size_t k = 0; k < layer->n_input; k++) {
        uint32_t tasks;
        const struct plan *from = plan_source(plan, layer->input[k], &tasks);
        struct span span = input_needs(layer->input[k], layer->tasks, tasks, i);

        for (uint32_t n = 0; from == plan && n < span.count; n++) {
            plan->needed[layer->input[k]->layer][span_at(&span, n)] = true;
        }
    }
}

static void compute_value(struct plan *plan, uint32_t l, uint32_t i)
{
    const Dray__Layer *layer = plan->graph->layer[l];
    uint64_t value = plan_begin(l, i);

    for (size_t k = 0; k < layer->n_input; k++) {
        uint32_t tasks;
        const struct plan *from = plan_source(plan, layer->input[k], &tasks);
        struct span span = input_needs(layer->input[k], layer->tasks, tasks, i);

        for (uint32_t n = 0; n < span.count; n++) {
            value = plan_add(value, from->value[layer->input[k]->layer][span_at(&span, n)]);
        }
    }
    plan->value[l][i] = value;
}

static void *zeros(struct plan *plan, size_t count, size_t size)
{
    return memset(build_alloc(&plan->build, count, size), 0, count * size);
}

void plan_finish(struct plan *plan)
{
    uint32_t layers = (uint32_t)plan->build.graph.n_layer;
    bool any_wanted = false;

    plan->graph = build_graph(&plan->build);
    plan->killer_layer = UINT32_MAX;
    plan->value = zeros(plan, layers, sizeof(uint64_t *));
    plan->needed = zeros(plan, layers, sizeof(bool *));
    plan->runs = zeros(plan, layers, sizeof(uint32_t *));
    plan->said = zeros(plan, layers, sizeof(bool *));
    plan->got = zeros(plan, layers, sizeof(bool *));
    plan->freed = zeros(plan, layers, sizeof(bool *));
    plan->fails = zeros(plan, layers, sizeof(uint8_t *));
    plan->failed = zeros(plan, layers, sizeof(uint8_t *));
    plan->doomed = zeros(plan, layers, sizeof(bool *));
    for (uint32_t l = 0; l < layers; l++) {
        uint32_t tasks = plan->graph->layer[l]->tasks;

        plan->value[l] = zeros(plan, tasks, sizeof(uint64_t));
        plan->needed[l] = zeros(plan, tasks, sizeof(bool));
        plan->runs[l] = zeros(plan, tasks, sizeof(uint32_t));
        plan->said[l] = zeros(plan, tasks, sizeof(bool));
        plan->got[l] = zeros(plan, tasks, sizeof(bool));
        plan->freed[l] = zeros(plan, tasks, sizeof(bool));
        plan->fails[l] = zeros(plan, tasks, sizeof(uint8_t));
        plan->failed[l] = zeros(plan, tasks, sizeof(uint8_t));
        plan->doomed[l] = zeros(plan, tasks, sizeof(bool));
        any_wanted = any_wanted || plan->graph->layer[l]->wanted;
        for (uint32_t i = 0; i < tasks; i++) {
            compute_value(plan, l, i);
        }
    }
    for (uint32_t l = layers; l-- > 0;) {
        bool goal = plan->graph->layer[l]->wanted;

        if (!any_wanted) {
            goal = true;
            for (uint32_t m = l + 1; m < layers; m++) {
                for (size_t k = 0; k < plan->graph->layer[m]->n_input; k++) {
                    goal = goal && (plan->graph->layer[m]->input[k]->has_job ||
                                    plan->graph->layer[m]->input[k]->layer != l);
                }
            }
        }
        // Its own later tasks may need earlier ones.
        for (uint32_t i = plan->graph->layer[l]->tasks; i-- > 0;) {
            plan->needed[l][i] = plan->needed[l][i] || goal;
            if (plan->needed[l][i]) {
                mark_needs(plan, l, i);
            }
        }
    }
}

void plan_fini(struct plan *plan)
{
    build_fini(&plan->build);
}
