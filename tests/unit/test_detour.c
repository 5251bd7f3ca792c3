// Partitions of a worker that cannot be reached (worker/detour.h, worker/download_route.c in
// worker/exchange.h): two exchanges in one process that do not find one another, and a broker that this
// program plays between them.
#include "worker/detour.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/exchange_fixture.h"

enum { UNDER_WAY_MAX = 4 };

static void open_detouring(struct side *side, const char *name, uint64_t incarnation)
{
    open_side(side, name, incarnation, BUDGET, true);
    assert_int_equal(exchange_session(side->exchange, true), 0);
}

// At an address where nobody listens, unless another one is given.
static void order(struct side *to, const struct side *from, uint32_t index, const char *address)
{
    char nowhere[128];

    snprintf(nowhere, sizeof(nowhere), "ipc://%s/nobody", folder);
    order_at(to, from, index, address != NULL ? address : nowhere);
}

// ---- the broker ------------------------------------------------------------------------------------

struct broker {
    struct side *reader, *holder;
    unsigned asked, told, under_way, most;
    bool away; // it says nothing
    struct detour_order *order[64];
};

static void answer(struct broker *broker, const struct detour_order *order)
{
    Dray__Piece piece = DRAY__PIECE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;
    struct error why = {0};
    struct buffer *payload = NULL;
    uint32_t size[FRAME_FETCH_MAX];

    if (encoding_answer(broker->holder->store, &order->message, &piece, size, &payload, &why) != 0) {
        failure.code = why.code;
        failure.text = why.text;
        piece.why = &failure;
    }
    assert_int_equal(exchange_answer(broker->reader->exchange, &piece, payload), 0);
    buffer_unref(payload);
}

// Takes what it is asked, then answers all of it, the last first.
static void play(struct broker *broker)
{
    struct detour_order *order;

    while ((order = exchange_take_order(broker->reader->exchange)) != NULL) {
        if (order->text != NULL) {
            broker->told++;
            assert_non_null(strstr(order->text, "worker 5"));
            detour_order_free(order);
            continue;
        }
        assert_int_equal(order->message.worker, 5);
        assert_true(order->message.incarnation == broker->holder->incarnation);
        broker->asked++;
        assert_true(broker->under_way < sizeof(broker->order) / sizeof(broker->order[0]));
        broker->order[broker->under_way++] = order;
        broker->most = broker->under_way > broker->most ? broker->under_way : broker->most;
    }
    while (broker->under_way > 0) {
        order = broker->order[--broker->under_way];
        if (!broker->away) {
            answer(broker, order);
        }
        detour_order_free(order);
    }
}

static struct fetch *wait_for_outcome(struct broker *broker)
{
    struct pollfd fd = {.fd = exchange_fd(broker->reader->exchange), .events = POLLIN};
    struct fetch *fetch;

    while ((fetch = exchange_take(broker->reader->exchange)) == NULL) {
        play(broker);
        assert_int_equal(poll(&fd, 1, 60000), 1);
    }
    return fetch;
}

static void expect(struct broker *broker, const size_t *sizes)
{
    struct fetch *fetch = wait_for_outcome(broker);
    size_t size = sizes[fetch->index];

    if (fetch->rc != 0) {
        fail_msg("%s", fetch->err.text);
    }
    assert_int_equal(fetch->partition->bytes->size, size);
    for (size_t k = 0; k < size; k++) {
        if (fetch->partition->bytes->data[k] != byte_at(fetch->index, k)) {
            fail_msg("byte %zu of partition %u is wrong", k, fetch->index);
        }
    }
    fetch_destroy(fetch, broker->reader->budget);
}

// ---- tests -----------------------------------------------------------------------------------------

static void test_by_way_of_the_broker(void **state)
{
    static const size_t SIZES[] = {
        0,       1,       100,           4096, (256 << 10) - 16, (256 << 10) - 15, (256 << 10),
        1 << 20, 3 << 20, (9 << 20) + 1, 77};
    enum { N = sizeof(SIZES) / sizeof(SIZES[0]) };
    struct side a, b;
    struct broker broker = {.reader = &b, .holder = &a};
    struct fetch *fetch;

    (void)state;
    open_detouring(&a, "a", 111);
    open_detouring(&b, "b", 222);
    for (uint32_t i = 0; i < N; i++) {
        put(&a, i, SIZES[i]);
        order(&b, &a, i, NULL);
    }
    for (uint32_t i = 0; i < N; i++) {
        expect(&broker, SIZES);
    }
    // Few at a time, in small pieces, and it is told once.
    assert_in_range(broker.most, 1, UNDER_WAY_MAX);
    assert_in_range(broker.asked, (13 << 20) / (256 << 10), 200);
    assert_int_equal(broker.told, 1);
    // What is not there is said as by the worker itself.
    order(&b, &a, 99, NULL);
    fetch = wait_for_outcome(&broker);
    assert_int_equal(fetch->rc, -ENOENT);
    assert_non_null(strstr(fetch->err.text, "not held here"));
    fetch_destroy(fetch, b.budget);
    close_side(&b);
    close_side(&a);
}

// Its answers are lost with the session, and what it was asked is asked again in the next one.
static void test_the_session_ends(void **state)
{
    static const size_t SIZES[] = {1000, 2 << 20};
    struct side a, b;
    struct broker broker = {.reader = &b, .holder = &a, .away = true};
    struct pollfd fd = {.events = POLLIN};

    (void)state;
    open_detouring(&a, "a", 111);
    open_detouring(&b, "b", 222);
    fd.fd = exchange_fd(b.exchange);
    for (uint32_t i = 0; i < 2; i++) {
        put(&a, i, SIZES[i]);
        order(&b, &a, i, NULL);
    }
    while (broker.asked == 0) {
        assert_int_equal(poll(&fd, 1, 60000), 1);
        assert_null(exchange_take(b.exchange)); // reads what the descriptor has as well
        play(&broker);
    }
    assert_int_equal(exchange_session(b.exchange, false), 0);
    poll(NULL, 0, 50);
    play(&broker); // what was on its way
    broker.away = false;
    broker.asked = 0;
    assert_int_equal(exchange_session(b.exchange, true), 0);
    expect(&broker, SIZES);
    expect(&broker, SIZES);
    assert_true(broker.asked > 0);
    close_side(&b);
    close_side(&a);
}

// Another worker behind the same broker is reached as ever.
static void test_only_who_cannot_be_reached(void **state)
{
    static const size_t SIZES[] = {1000, 1000};
    struct side a, b, c;
    struct broker broker = {.reader = &b, .holder = &a};

    (void)state;
    open_detouring(&a, "a", 111);
    open_detouring(&b, "b", 222);
    open_detouring(&c, "c", 333);
    put(&a, 0, SIZES[0]);
    put(&c, 1, SIZES[1]);
    order(&b, &a, 0, NULL);
    order(&b, &c, 1, exchange_endpoint(c.exchange));
    expect(&broker, SIZES);
    expect(&broker, SIZES);
    assert_int_equal(broker.asked, 1);
    close_side(&c);
    close_side(&b);
    close_side(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_way_of_the_broker),
        cmocka_unit_test(test_the_session_ends),
        cmocka_unit_test(test_only_who_cannot_be_reached),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
