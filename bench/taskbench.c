#include "bench/taskbench.h"

#include <stdlib.h>
#include <string.h>

#include "bench/random.h"

enum {
    RADIX = 5,
    PERIOD = 3,
    FRACTION = 4
}; // random_nearest: neighbours, steps until it repeats, one in so many

const char *const taskbench_name[TASKBENCH_KINDS] = {
    [TASKBENCH_TRIVIAL] = "trivial",
    [TASKBENCH_NO_COMM] = "no_comm",
    [TASKBENCH_STENCIL_1D] = "stencil_1d",
    [TASKBENCH_FFT] = "fft",
    [TASKBENCH_TREE] = "tree",
    [TASKBENCH_RANDOM_NEAREST] = "random_nearest",
    [TASKBENCH_ALL_TO_ALL] = "all_to_all",
};

uint32_t taskbench_width(const struct taskbench *bench, uint32_t step)
{
    if (bench->kind != TASKBENCH_TREE || step >= 32 || (uint64_t)1 << step > bench->width) {
        return bench->width;
    }
    return (uint32_t)1 << step;
}

static uint32_t bits_of(uint32_t n) // least k with 2^k >= n
{
    uint32_t k = 0;

    while (k < 32 && (uint64_t)1 << k < n) {
        k++;
    }
    return k;
}

static uint32_t fft_distance(const struct taskbench *bench, uint32_t step)
{
    uint32_t sets = bits_of(bench->width);

    return sets == 0 ? 0 : (uint32_t)1 << ((step + sets - 1) % sets);
}

static bool random_edge(uint32_t step, uint32_t point, uint32_t other)
{
    uint64_t state = ((uint64_t)(step % PERIOD) << 60) ^ ((uint64_t)point << 30) ^ other;

    return point == other || random_below(&state, FRACTION) == 0;
}

bool taskbench_needs(const struct taskbench *bench, uint32_t step, uint32_t point, uint32_t other)
{
    int64_t distance = (int64_t)other - (int64_t)point;

    if (step == 0 || other >= taskbench_width(bench, step - 1)) {
        return false;
    }
    switch (bench->kind) {
    case TASKBENCH_NO_COMM:
        return distance == 0;
    case TASKBENCH_STENCIL_1D:
        return distance >= -1 && distance <= 1;
    case TASKBENCH_FFT:
        return distance == 0 || llabs(distance) == fft_distance(bench, step);
    case TASKBENCH_TREE:
        return other == point / 2;
    case TASKBENCH_RANDOM_NEAREST:
        return distance >= -(RADIX / 2) && distance <= (RADIX - 1) / 2 && random_edge(step, point, other);
    case TASKBENCH_ALL_TO_ALL:
        return true;
    case TASKBENCH_TRIVIAL:
    case TASKBENCH_KINDS:
    default:
        return false;
    }
}

// Rows of a step in ascending order, from the pattern's few candidates; returns the number of edges.
static size_t fill(const struct taskbench *bench, uint32_t step, uint32_t *offset, uint32_t *target)
{
    uint32_t width = taskbench_width(bench, step), before = taskbench_width(bench, step - 1);
    size_t edges = 0;

    for (uint32_t point = 0; point < width; point++) {
        offset[point] = (uint32_t)edges;
        if (bench->kind == TASKBENCH_TREE) {
            target[edges++] = point / 2;
        } else if (bench->kind == TASKBENCH_FFT) {
            uint32_t distance = fft_distance(bench, step);

            if (distance > 0 && point >= distance) {
                target[edges++] = point - distance;
            }
            target[edges++] = point;
            if (distance > 0 && before - point > distance) {
                target[edges++] = point + distance;
            }
        } else {
            uint32_t first = point < RADIX / 2 ? 0 : point - RADIX / 2;

            for (uint32_t other = first; other < before && other <= point + (RADIX - 1) / 2; other++) {
                if (random_edge(step, point, other)) {
                    target[edges++] = other;
                }
            }
        }
    }
    offset[width] = (uint32_t)edges;
    return edges;
}

static void add_edges(const struct taskbench *bench, struct plan *plan, uint32_t step)
{
    Dray__Input *input;

    switch (bench->kind) {
    case TASKBENCH_NO_COMM:
        plan_input(plan, step - 1, DRAY__PATTERN__ONE_TO_ONE, 0);
        break;
    case TASKBENCH_STENCIL_1D:
        plan_input(plan, step - 1, DRAY__PATTERN__WINDOW, 1);
        break;
    case TASKBENCH_ALL_TO_ALL:
        plan_input(plan, step - 1, DRAY__PATTERN__ALL, 0);
        break;
    case TASKBENCH_FFT:
    case TASKBENCH_TREE:
    case TASKBENCH_RANDOM_NEAREST:
        input = plan_explicit(plan, step - 1, (size_t)RADIX * taskbench_width(bench, step));
        if (input != NULL) {
            plan->edges -= input->n_target;
            input->n_target = fill(bench, step, input->offset, input->target);
        }
        break;
    case TASKBENCH_TRIVIAL:
    case TASKBENCH_KINDS:
    default:
        break;
    }
}

// Nobody needs all results of these patterns' steps, and a broker leaves out what nobody needs: all are
// wanted.
static bool has_loose_ends(enum taskbench_kind kind)
{
    return kind == TASKBENCH_TRIVIAL || kind == TASKBENCH_TREE;
}

// Values and edges by taskbench_needs, which knows nothing of the layers.
static int reckon(const struct taskbench *bench, struct plan *plan, struct error *err)
{
    uint64_t *row[2] = {calloc(bench->width, sizeof(uint64_t)), calloc(bench->width, sizeof(uint64_t))};
    int rc = row[0] == NULL || row[1] == NULL ? error_no_memory(err) : 0;

    for (uint32_t step = 0; rc == 0 && step < bench->steps; step++) {
        uint32_t width = taskbench_width(bench, step),
                 before = step > 0 ? taskbench_width(bench, step - 1) : 0;
        uint64_t *now = row[step % 2];

        for (uint32_t point = 0; point < width; point++) {
            now[point] = 1 + (uint64_t)point;
            for (uint32_t other = 0; other < before; other++) {
                if (taskbench_needs(bench, step, point, other)) {
                    now[point] += row[(step + 1) % 2][other];
                    plan->edges++;
                }
            }
        }
        if (step >= plan->wanted_from) {
            memcpy(plan->expected + plan_place(plan, step, 0), now, width * sizeof(*now));
        }
    }
    free(row[0]);
    free(row[1]);
    return rc;
}

int taskbench_plan(const struct taskbench *bench, struct plan *plan, struct error *err)
{
    int rc;

    plan_busy(plan, bench->iterations, bench->output_bytes);
    for (uint32_t step = 0; step < bench->steps; step++) {
        plan_layer(plan, taskbench_width(bench, step), taskbench_name[bench->kind]);
        if (step > 0) {
            add_edges(bench, plan, step);
        }
    }
    rc = plan_finish_from(plan, has_loose_ends(bench->kind) ? 0 : bench->steps - 1, err);
    return rc == 0 ? reckon(bench, plan, err) : rc;
}
