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

enum { MB = 1 << 20, ONE_MAX = 128 * MB, ALL_MAX = 512 * MB };

static void broker_begin(struct broker *broker)
{
    *broker = (struct broker){0};
    gate_init(&broker->gate);
    turn_init(&broker->turn[0]);
    broker->into = &broker->turn[0];
}

static void broker_end(struct broker *broker)
{
    turn_fini(&broker->turn[0]);
    gate_fini(&broker->gate);
}

// Something waits, and so much with it.
static void fill(struct gate *gate, size_t *account, size_t bytes)
{
    say(gate, 1, 5);
    gate_charge(gate, account, 0); // what a turn takes by itself
    gate_charge(gate, account, bytes - gate->bytes);
    gate_seal(gate);
    assert_int_equal(gate->bytes, bytes);
}

static void expect_refusal(const struct broker *broker, enum frame_sender role, size_t bytes,
                           const char *words)
{
    struct error err = {0};

    assert_int_equal(dispatch_check_gated(broker, role, bytes, &err), -EBUSY);
    assert_int_equal(err.code, EBUSY);
    if (strstr(err.text, words) == NULL) {
        fail_msg("\"%s\" instead of \"%s\"", err.text, words);
    }
}

// How much of one may wait; less of a client when very much of all does.
static void test_limits(void **state)
{
    struct broker broker;
    size_t others = 0, more = 0;

    (void)state;
    broker_begin(&broker);
    assert_int_equal(dispatch_check_gated(&broker, FROM_CLIENT, ONE_MAX, NULL), 0);
    assert_int_equal(dispatch_check_gated(&broker, FROM_WORKER, ONE_MAX, NULL), 0);
    fill(&broker.gate, &others, ALL_MAX);
    assert_int_equal(dispatch_check_gated(&broker, FROM_CLIENT, ONE_MAX, NULL), 0);
    expect_refusal(&broker, FROM_CLIENT, ONE_MAX + MB,
                   "while the disk of its journal is slow: 129 MB of it, and 512 MB of all, wait");
    expect_refusal(&broker, FROM_WORKER, ONE_MAX + 1, "128 MB of it, and 512 MB of all");
    say(&broker.gate, 2, 6);
    gate_charge(&broker.gate, &more, 1);
    gate_seal(&broker.gate);
    assert_int_equal(dispatch_check_gated(&broker, FROM_CLIENT, MB, NULL), 0);
    expect_refusal(&broker, FROM_CLIENT, MB + 1, "1 MB of it, and 512 MB of all");
    assert_int_equal(dispatch_check_gated(&broker, FROM_WORKER, ONE_MAX, NULL), 0);
    // What is through does not count.
    gate_settle(&broker.gate, 5, 0, "");
    expect(&broker.gate, 0, 1, 1);
    assert_int_equal(others, 0);
    assert_int_equal(dispatch_check_gated(&broker, FROM_CLIENT, ONE_MAX, NULL), 0);
    broker_end(&broker);
}

// Whether it is taken in; with an event then, and without one otherwise.
static bool joins(struct broker *broker, struct peer *peer)
{
    size_t before = broker->turn[0].events;
    struct error err = {0};
    int rc = dispatch_joined(broker, peer, &err);

    assert_int_equal(broker->turn[0].events, before + (rc == 0 && peer->gated == 0));
    if (rc != 0) {
        assert_int_equal(rc, -EBUSY);
        assert_int_equal(err.code, EBUSY);
        assert_string_equal(err.text, "the disk of this broker's journal is slow: try again later");
    }
    return rc == 0;
}

// New clients wait while very much of all waits, workers do not.
static void test_who_joins_while_much_waits(void **state)
{
    struct peer client = {.role = FROM_CLIENT, .number = 2, .incarnation = 2};
    struct peer worker = {.role = FROM_WORKER, .number = 3, .incarnation = 3};
    struct broker broker;
    size_t others = 0, more = 0;

    (void)state;
    broker_begin(&broker);
    fill(&broker.gate, &others, ALL_MAX);
    assert_true(joins(&broker, &client));
    say(&broker.gate, 2, 6);
    gate_charge(&broker.gate, &more, 1);
    gate_seal(&broker.gate);
    assert_false(joins(&broker, &client));
    assert_true(joins(&broker, &worker));
    gate_settle(&broker.gate, 5, 0, "");
    expect(&broker.gate, 0, 1, 1);
    assert_true(joins(&broker, &client));
    broker_end(&broker);
}

// A process that was cut off for what waits of it comes back when less does, behind the rest; others do not
// wait for that.
static void test_who_comes_back_while_its_own_waits(void **state)
{
    struct broker broker;
    struct gated *gated;
    struct peer old = {.role = FROM_CLIENT, .number = 2, .incarnation = 7, .gone = true};
    struct peer again = {.role = FROM_CLIENT, .number = 3, .incarnation = 7};
    struct peer other = {.role = FROM_CLIENT, .number = 4, .incarnation = 8};

    (void)state;
    broker_begin(&broker);
    broker.peers.gone = &old;
    old.gated = say(&broker.gate, 1, 5);
    gate_charge(&broker.gate, &old.gated_bytes, ONE_MAX);
    gate_seal(&broker.gate);
    say(&broker.gate, 2, 6);
    gate_seal(&broker.gate);
    assert_true(old.gated_bytes > ONE_MAX);
    assert_false(joins(&broker, &again));
    again.role = FROM_WORKER;
    assert_false(joins(&broker, &again));
    again.role = FROM_CLIENT;
    assert_true(joins(&broker, &other));
    // One that stays below: its end and its return are one order.
    old.gated_bytes = ONE_MAX;
    assert_int_equal(dispatch_joined(&broker, &again, NULL), 0);
    assert_true(again.gated > old.gated);
    gate_settle(&broker.gate, 6, 0, "");
    old.gated_bytes = broker.gate.bytes; // as it was charged
    expect(&broker.gate, 0, 1, 1);
    assert_int_equal(old.gated_bytes, 0);
    gated = gate_next(&broker.gate);
    assert_non_null(gated);
    assert_int_equal(gated->turn.events, 2);
    assert_int_equal(gated->turn.event[1].u.client.client, again.number);
    gate_done(&broker.gate, gated);
    broker_end(&broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_what_could_not_be_written),
        cmocka_unit_test(test_what_is_said_of_a_peer_is_in_order),
        cmocka_unit_test(test_behind_what_waits),
        cmocka_unit_test(test_bytes_are_somebodys),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_who_joins_while_much_waits),
        cmocka_unit_test(test_who_comes_back_while_its_own_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
