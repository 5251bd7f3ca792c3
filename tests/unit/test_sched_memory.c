// What a task takes of the broker, and what is too large for where it is kept.
#include "broker/core/growth.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/sched_play.h"

static void done_with(struct play *play, uint32_t layer, uint32_t first, uint32_t count,
                      const uint64_t *bytes)
{
    struct sched_event event = event_of(play, EVENT_TASKS_DONE);
    struct task_range range = {1, layer, first, count};

    event.u.done.worker = 1;
    event.u.done.ranges = 1;
    event.u.done.range = &range;
    event.u.done.bytes = bytes;
    assert_int_equal(step(play, &event), 0);
}

static void test_large_partitions_are_told_exactly(void **state)
{
    const uint64_t bytes[] = {UINT32_MAX - 1, UINT32_MAX, UINT64_C(1) << 40, 0, UINT64_MAX};
    struct play play;
    struct build build;
    struct sched_job info;
    const struct sched_action *result;

    (void)state;
    play_begin(&play, 9);
    join(&play, 1, 1, true);
    flat(&build, 5);
    submit(&play, &build);
    done_with(&play, 0, 0, 4, bytes);
    result = find(&play, ACTION_RESULT, CLIENT);
    assert_non_null(result);
    assert_int_equal(result->range.count, 4);
    for (int i = 0; i < 4; i++) {
        assert_true(result->sizes[i] == bytes[i]);
    }
    assert_int_equal(sched_job_info(play.sched, 1, &info), 0);
    assert_true(sched_job_bytes(play.sched, info.job) == bytes[0] + bytes[1] + bytes[2]);
    // Lost, and made again a little smaller.
    holds(&play, 1, false, NULL, 0, &(struct task_range){1, 0, 2, 1}, 1);
    done_with(&play, 0, 2, 1, &(uint64_t){12});
    assert_true(find(&play, ACTION_RESULT, CLIENT)->sizes[0] == 12);
    done_with(&play, 0, 4, 1, &bytes[4]);
    assert_true(find(&play, ACTION_RESULT, CLIENT)->sizes[0] == bytes[4]);
    build_fini(&build);
    play_end(&play);
}

// `tasks` of them, each of which needs partition 0.
static void readers(struct build *build, uint32_t tasks)
{
    uint32_t layer = build_layer(build, tasks);
    Dray__Input *input = build_input(build, layer, 0, DRAY__PATTERN__EXPLICIT, 1);

    input->n_target = tasks;
    input->target = build_alloc(build, tasks, sizeof(uint32_t));
    memset(input->target, 0, tasks * sizeof(uint32_t));
    build_wanted(build, layer);
}

static void add_readers(struct play *play, uint32_t first, uint32_t tasks, bool last)
{
    struct sched_event event = event_of(play, EVENT_EXTEND);
    struct build build;

    build_init(&build);
    readers(&build, tasks);
    event.u.extend.client = CLIENT;
    event.u.extend.job = 1;
    event.u.extend.first_layer = first;
    event.u.extend.graph = &build.graph;
    event.u.extend.last = last;
    assert_int_equal(step(play, &event), 0);
    build_fini(&build);
}

// All that is handed out is done.
static void work_off(struct play *play)
{
    struct task_range todo[64];
    size_t count = 0;

    do {
        if (count > 0) {
            count--;
            done(play, 1, 1, todo[count].layer, todo[count].first, todo[count].count);
        }
        for (size_t k = 0; k < play->actions.count; k++) {
            if (play->actions.action[k].type == ACTION_RUN) {
                assert_true(count < 64);
                todo[count++] = play->actions.action[k].range;
            }
        }
    } while (count > 0);
}

static void test_more_readers_than_sixteen_bits_count(void **state)
{
    struct sched_event event;
    struct play play;
    struct build build;

    (void)state;
    play_begin(&play, 60000);
    build_init(&build);
    build_layer(&build, 2);
    readers(&build, 40000);
    event = event_of(&play, EVENT_SUBMIT);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = build_graph(&build);
    event.u.submit.open = true;
    assert_int_equal(step(&play, &event), 0);
    add_readers(&play, 2, 40000, false); // more than were thought of
    add_readers(&play, 3, 70000, true);  // and from the start
    join(&play, 1, 1, true);
    done(&play, 1, 1, 0, 0, 1);
    assert_int_equal(counts(&play).tasks_ready + counts(&play).tasks_assigned, 150000);
    work_off(&play);
    assert_int_equal(counts(&play).tasks_done, 150001);
    assert_int_equal(counts(&play).partitions,
                     150000); // partition 0 has gone, and partition 1 was never needed
    build_fini(&build);
    play_end(&play);
}

static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

// Bytes a task that the scheduler keeps of a graph that was handed over.
static double taken(struct play *play, struct build *build, size_t before, uint32_t tasks)
{
    struct sched_event event = event_of(play, EVENT_SUBMIT);
    Dray__Graph *graph = build_alloc(build, 1, sizeof(*graph));

    *graph = build->graph;
    graph->layer = arena_copy(&build->arena, build->layer, sizeof(Dray__Layer *) * graph->n_layer);
    event.u.submit.client = CLIENT;
    event.u.submit.key_lo = 1;
    event.u.submit.graph = graph;
    event.u.submit.arena = &build->arena;
    assert_int_equal(sched_step(play->sched, &event, 1, &play->actions), 0);
    assert_int_equal(build->arena.used, 0);
    return (double)(allocated() - before) / tasks;
}

static void test_bytes_of_a_waiting_task(void **state)
{
    enum { TASKS = 200000, EDGES = 3 };
    struct play play;
    struct build build;
    size_t before = allocated();
    Dray__Input *input;
    double bytes;

    (void)state;
    free(malloc(1 << 20));
    if (before == 0) {
        skip(); // another allocator
    }
    play_begin(&play, 9);
    before = allocated();
    flat(&build, TASKS);
    arena_alloc(&build.arena, 1 << 16); // so that it is handed over
    bytes = taken(&play, &build, before, TASKS);
    print_message("independent: %.1f bytes\n", bytes);
    assert_true(bytes < 10);
    play_end(&play);

    play_begin(&play, 9);
    before = allocated();
    build_init(&build);
    build_layer(&build, TASKS);
    build_wanted(&build, 0);
    input = build_input(&build, 0, 0, DRAY__PATTERN__EXPLICIT, EDGES);
    input->n_offset = EDGES + 1;
    input->offset = build_alloc(&build, EDGES + 1, sizeof(uint32_t));
    memset(input->offset, 0, input->n_offset * sizeof(uint32_t));
    input->n_target = EDGES * (TASKS - EDGES);
    input->target = build_alloc(&build, input->n_target, sizeof(uint32_t));
    for (uint32_t e = 0; e < input->n_target; e++) {
        input->target[e] = (uint32_t)((e * UINT64_C(2654435761)) % (EDGES + e / EDGES));
    }
    bytes = taken(&play, &build, before, TASKS);
    print_message("with three explicit edges: %.1f bytes\n", bytes);
    assert_true(bytes < 40);
    sched_check(play.sched);
    play_end(&play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_partitions_are_told_exactly),
        cmocka_unit_test(test_more_readers_than_sixteen_bits_count),
        cmocka_unit_test(test_bytes_of_a_waiting_task),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
