// Tasks that need a few partitions of many layers: what is looked at is what they need, not what there is.
#include "broker/core/links.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/core/growth.h"
#include "broker/core/job.h"
#include "tests/unit/sched_play.h"

enum { LAYERS = 200, TASKS = 50, ROW = 3 };

static uint64_t target_of(uint32_t layer, uint32_t i, uint32_t n)
{
    return hash_mix(((uint64_t)layer * TASKS + i) * ROW + n) % ((uint64_t)layer * TASKS);
}

// A layer whose tasks need three random partitions of all the layers before; how many rows its inputs have.
static uint64_t far_layer(struct build *build, uint32_t number)
{
    uint32_t layer = build_layer(build, TASKS);
    uint64_t rows = 0;

    build->layer[layer]->input = build_alloc(build, (size_t)number + 1, sizeof(Dray__Input *));
    for (uint32_t source = 0; source < number; source++) {
        uint32_t *offset = build_alloc(build, TASKS + 1, sizeof(*offset));
        uint32_t *target = build_alloc(build, TASKS * ROW, sizeof(*target));
        Dray__Input *input;

        offset[0] = 0;
        for (uint32_t i = 0; i < TASKS; i++) {
            offset[i + 1] = offset[i];
            for (uint32_t n = 0; n < ROW; n++) {
                if (target_of(number, i, n) / TASKS == source) {
                    target[offset[i + 1]++] = (uint32_t)(target_of(number, i, n) % TASKS);
                }
            }
            rows += offset[i + 1] > offset[i] ? 1 : 0;
        }
        if (offset[TASKS] == 0) {
            continue;
        }
        input = build_input(build, layer, source, DRAY__PATTERN__EXPLICIT, 0);
        input->n_offset = TASKS + 1;
        input->offset = offset;
        input->n_target = offset[TASKS];
        input->target = target;
        input_list_rows(input, TASKS, build_alloc(build, 2 * input->n_target + 1, sizeof(uint32_t)));
        input_trim_rows(input);
    }
    build_wanted(build, layer);
    return rows;
}

static void test_work_is_that_of_the_edges(void **state)
{
    struct play play;
    struct sched_event event;
    uint64_t rows = 0, looked = 0, needed = 0, read = 0, steps = 0;

    (void)state;
    play_begin(&play, 9);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.open = true;
    assert_int_equal(step(&play, &event), 0);
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct build build;

        build_init(&build);
        rows += far_layer(&build, l);
        event = event_of(&play, EVENT_EXTEND);
        event.u.extend.client = CLIENT;
        event.u.extend.job = 1;
        event.u.extend.first_layer = l;
        event.u.extend.graph = &build.graph;
        event.u.extend.last = l == LAYERS - 1;
        assert_int_equal(sched_step(play.sched, &event, 1, &play.actions), 0);
        assert_null(find(&play, ACTION_REJECTED, CLIENT));
        build_fini(&build);
    }
    sched_check(play.sched);
    struct job *job = job_find(play.sched, 1);

    assert_int_equal(job->layers, LAYERS);
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (uint32_t i = 0; i < TASKS; i++) {
            struct needs needs = needs_of(job->layer[l], i);
            struct readers readers = readers_of(job->layer[l], i);

            while (needs_next(&needs) != NULL) {
                looked++;
                needed += needs.span.count;
            }
            while (readers_next(&readers) != NULL) {
                read += readers.span.count;
                steps++;
            }
        }
    }
    // Each of 10,000 tasks has up to 199 inputs, and each partition as many layers that read it.
    assert_true(job->layer[LAYERS - 1]->inputs > 90);
    assert_int_equal(needed, (uint64_t)(LAYERS - 1) * TASKS * ROW);
    assert_int_equal(read, needed);
    // Each row and each edge once, but for the first few layers, of whose inputs most tasks need something.
    assert_true(looked <= rows + 20 * TASKS);
    assert_true(steps <= read + 20 * TASKS);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_work_is_that_of_the_edges)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
