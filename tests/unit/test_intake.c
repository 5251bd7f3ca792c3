// SUBMIT and EXTEND as events.
#include "broker/intake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/op.pb-c.h"

// A packed graph of one layer whose operation counts, made in the turn as if it had come in a message.
static ProtobufCBinaryData pack_graph(struct turn *turn, uint32_t tasks)
{
    Dray__Op op = DRAY__OP__INIT;
    Dray__Step step = DRAY__STEP__INIT;
    Dray__Step *steps[] = {&step};
    Dray__Count count = DRAY__COUNT__INIT;
    Dray__Layer layer = DRAY__LAYER__INIT;
    Dray__Layer *layers[] = {&layer};
    Dray__Graph graph = DRAY__GRAPH__INIT;
    ProtobufCBinaryData packed;

    step.count = &count;
    op.n_step = 1;
    op.step = steps;
    layer.tasks = tasks;
    layer.op.len = dray__op__get_packed_size(&op);
    layer.op.data = arena_alloc(&turn->arena, layer.op.len + 1);
    assert_non_null(layer.op.data);
    dray__op__pack(&op, layer.op.data);
    graph.n_layer = 1;
    graph.layer = layers;
    packed.len = dray__graph__get_packed_size(&graph);
    packed.data = arena_alloc(&turn->arena, packed.len + 1);
    assert_non_null(packed.data);
    dray__graph__pack(&graph, packed.data);
    return packed;
}

static void test_submit(void **state)
{
    Dray__Submit submit = DRAY__SUBMIT__INIT;
    struct sched_event *event = NULL;
    struct error err = {0};
    struct turn turn;

    (void)state;
    turn_init(&turn);
    submit.key_hi = 3;
    submit.key_lo = 4;
    submit.graph = pack_graph(&turn, 5);
    submit.detached = true;
    submit.priority = -2;
    submit.name = (char *)(uintptr_t) "a job";
    assert_int_equal(intake_submit(&turn, &submit, &event, &err), 0);
    assert_int_equal(turn.events, 1);
    assert_ptr_equal(event, &turn.event[0]);
    assert_int_equal(event->type, EVENT_SUBMIT);
    assert_int_equal(event->u.submit.client, 0);
    assert_int_equal(event->u.submit.key_lo, 4);
    assert_int_equal(event->u.submit.graph->layer[0]->tasks, 5);
    assert_non_null(event->u.submit.arena);
    assert_true(event->u.submit.detached);
    assert_int_equal(event->u.submit.priority, -2);
    turn_fini(&turn);
}

static void test_what_is_no_graph_leaves_no_event(void **state)
{
    Dray__Submit submit = DRAY__SUBMIT__INIT;
    Dray__Extend extend = DRAY__EXTEND__INIT;
    struct sched_event *event = NULL;
    struct error err = {0};
    struct turn turn;
    uint8_t noise[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0x77};

    (void)state;
    turn_init(&turn);
    submit.graph.data = noise;
    submit.graph.len = sizeof(noise);
    assert_true(intake_submit(&turn, &submit, &event, &err) < 0);
    assert_true(err.text[0] != '\0');
    extend.has_graph = true;
    extend.graph = submit.graph;
    assert_true(intake_extend(&turn, &extend, &event, &err) < 0);
    submit.graph = pack_graph(&turn, 5);
    submit.has_note = true;
    submit.note.data = noise;
    submit.note.len = (1 << 20) + 1; // refused for that before anybody looks at it
    assert_int_equal(intake_submit(&turn, &submit, &event, &err), -EMSGSIZE);
    assert_non_null(strstr(err.text, "note"));
    assert_int_equal(turn.events, 0);
    assert_null(event);
    turn_fini(&turn);
}

static void test_extend(void **state)
{
    Dray__Extend extend = DRAY__EXTEND__INIT;
    struct sched_event *event = NULL;
    struct error err = {0};
    struct turn turn;

    (void)state;
    turn_init(&turn);
    extend.job = 9;
    extend.first_layer = 3;
    extend.has_last = extend.last = true;
    assert_int_equal(intake_extend(&turn, &extend, &event, &err), 0);
    assert_null(event->u.extend.graph);
    assert_true(event->u.extend.last);
    extend.has_graph = true;
    extend.graph = pack_graph(&turn, 6);
    assert_int_equal(intake_extend(&turn, &extend, &event, &err), 0);
    assert_int_equal(event->u.extend.job, 9);
    assert_int_equal(event->u.extend.first_layer, 3);
    assert_int_equal(event->u.extend.graph->layer[0]->tasks, 6);
    turn_fini(&turn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit),
        cmocka_unit_test(test_what_is_no_graph_leaves_no_event),
        cmocka_unit_test(test_extend),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
