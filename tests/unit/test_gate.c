// Turns that wait for the journal: in order, and nobody behind them is overtaken by himself.
#include "broker/gate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "broker/state.h"

// An event of a peer in this turn of the loop; with a ticket when the journal is to have it first.
static uint64_t say(struct gate *gate, uint32_t client, uint64_t ticket)
{
    uint64_t number = 0;
    struct turn *turn = gate_turn(gate, &number);
    struct sched_event *event;

    assert_non_null(turn);
    event = turn_add(turn, EVENT_CLIENT_JOINED);
    assert_non_null(event);
    event->u.client.client = client;
    if (ticket != 0) {
        gate_wait(gate, ticket);
    }
    return number;
}

static void expect(struct gate *gate, int code, size_t events, uint32_t client)
{
    struct gated *gated = gate_next(gate);

    assert_non_null(gated);
    assert_int_equal(gated->code, code);
    assert_int_equal(gated->turn.events, events);
    assert_int_equal(gated->turn.event[0].u.client.client, client);
    gate_done(gate, gated);
}

static void test_in_order(void **state)
{
    struct gate gate;
    uint64_t one, two, three;

    (void)state;
    gate_init(&gate);
    assert_true(gate_is_empty(&gate));
    assert_false(gate_holds(&gate, 0));
    one = say(&gate, 1, 5);
    assert_true(gate_holds(&gate, one));
    assert_int_equal(say(&gate, 2, 6), one); // the same turn of the loop
    gate_seal(&gate);
    two = say(&gate, 1, 0); // waits for its own
    gate_seal(&gate);
    three = say(&gate, 3, 7);
    gate_seal(&gate);
    gate_seal(&gate);
    assert_null(gate_next(&gate));
    gate_settle(&gate, 5, 0, "");
    assert_null(gate_next(&gate)); // its other half is not there
    gate_settle(&gate, 6, 0, "");
    expect(&gate, 0, 2, 1);
    assert_false(gate_holds(&gate, one));
    assert_true(gate_holds(&gate, two));
    expect(&gate, 0, 1, 1);
    assert_null(gate_next(&gate));
    assert_true(gate_holds(&gate, three));
    gate_settle(&gate, 7, 0, "");
    expect(&gate, 0, 1, 3);
    assert_false(gate_holds(&gate, three));
    assert_true(gate_is_empty(&gate));
    gate_fini(&gate);
}

static void test_what_could_not_be_written(void **state)
{
    struct gate gate;
    struct gated *gated;

    (void)state;
    gate_init(&gate);
    say(&gate, 1, 1);
    gate_seal(&gate);
    say(&gate, 2, 2);
    gate_seal(&gate);
    say(&gate, 3, 3);
    gate_seal(&gate);
    gate_settle(&gate, 1, 0, "");
    gate_settle(&gate, 2, ENOSPC, "no room at all");
    gate_settle(&gate, 3, 0, "");
    expect(&gate, 0, 1, 1);
    gated = gate_next(&gate);
    assert_non_null(gated);
    assert_int_equal(gated->code, ENOSPC);
    assert_string_equal(gated->text, "no room at all");
    gate_done(&gate, gated);
    expect(&gate, 0, 1, 3);
    // Used again, and clean.
    say(&gate, 4, 0);
    gate_seal(&gate);
    expect(&gate, 0, 1, 4);
    say(&gate, 5, 9);
    gate_seal(&gate);
    gate_fini(&gate); // with somebody at it
}

// What is said of a peer that waits is said in order, also when that is not in one turn of the loop.
static void test_what_is_said_of_a_peer_is_in_order(void **state)
{
    struct broker broker = {0};
    struct peer peer = {.role = FROM_CLIENT, .number = 7};
    struct gated *gated;

    (void)state;
    gate_init(&broker.gate);
    turn_init(&broker.turn[0]);
    peer.gated = say(&broker.gate, 7, 1);
    gate_seal(&broker.gate);
    say(&broker.gate, 8, 2);
    dispatch_full(&broker, &peer, true);
    gate_seal(&broker.gate);
    gate_settle(&broker.gate, 1, 0, "");
    expect(&broker.gate, 0, 1, 7);
    dispatch_full(&broker, &peer, false); // with the other one, behind it
    assert_int_equal(broker.turn[0].events, 0);
    gate_seal(&broker.gate);
    gate_settle(&broker.gate, 2, 0, "");
    gated = gate_next(&broker.gate);
    assert_non_null(gated);
    assert_int_equal(gated->turn.events, 3);
    assert_true(gated->turn.event[1].u.client.full);
    assert_false(gated->turn.event[2].u.client.full);
    gate_done(&broker.gate, gated);
    assert_false(gate_holds(&broker.gate, peer.gated));
    turn_fini(&broker.turn[0]);
    gate_fini(&broker.gate);
}

// What need not be written goes with what waits: a disk that stalls costs no turn for each of the loop's.
static void test_behind_what_waits(void **state)
{
    struct gate gate;
    uint64_t one, number = 0;
    struct turn *turn;

    (void)state;
    gate_init(&gate);
    one = say(&gate, 1, 5);
    turn = gate_turn_behind(&gate, &number); // it is open
    assert_true(gate_is_open(&gate, turn));
    assert_int_equal(number, one);
    gate_seal(&gate);
    assert_false(gate_is_open(&gate, turn));
    for (int i = 0; i < 1000; i++) {
        assert_ptr_equal(gate_turn_behind(&gate, &number), turn);
        assert_int_equal(number, one);
        assert_non_null(turn_add(turn, EVENT_CLIENT_LEFT));
        gate_seal(&gate);
    }
    // Behind what must be written after it.
    assert_true(say(&gate, 2, 6) > one);
    assert_ptr_not_equal(gate_turn_behind(&gate, &number), turn);
    assert_true(number > one);
    gate_seal(&gate);
    gate_settle(&gate, 6, 0, "");
    expect(&gate, 0, 1001, 1);
    expect(&gate, 0, 1, 2);
    assert_true(gate_is_empty(&gate));
    turn = gate_turn_behind(&gate, &number); // nothing waits
    assert_true(gate_is_open(&gate, turn));
    gate_fini(&gate);
}

static void test_bytes_are_somebodys(void **state)
{
    struct gate gate;
    size_t mine = 0, yours = 0, before;

    (void)state;
    gate_init(&gate);
    say(&gate, 1, 5);
    gate_charge(&gate, &mine, 1000);
    assert_true(mine > 1000); // a turn is dear by itself
    before = mine;
    gate_charge(&gate, &yours, 70);
    assert_int_equal(yours, 70);
    gate_charge(&gate, &mine, 20);
    gate_charge(&gate, &mine, 3);
    assert_int_equal(mine, before + 23);
    gate_seal(&gate);
    say(&gate, 2, 6);
    gate_charge(&gate, &yours, 10);
    assert_int_equal(gate.bytes, mine + yours);
    gate_seal(&gate);
    gate_settle(&gate, 5, 0, "");
    expect(&gate, 0, 1, 1);
    assert_int_equal(mine, 0);
    assert_true(yours > 10);
    assert_int_equal(gate.bytes, yours);
    gate_settle(&gate, 6, ENOSPC, "full");
    expect(&gate, ENOSPC, 1, 2);
    assert_int_equal(yours, 0);
    assert_int_equal(gate.bytes, 0);
    gate_fini(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_what_could_not_be_written),
        cmocka_unit_test(test_what_is_said_of_a_peer_is_in_order),
        cmocka_unit_test(test_behind_what_waits),
        cmocka_unit_test(test_bytes_are_somebodys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
