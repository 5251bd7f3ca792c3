// Partitions of a worker that cannot be reached (worker/detour.h, worker/download_route.c in
// worker/exchange.h): two exchanges in one process that do not find one another, and a broker that this
// program plays between them.
#include "worker/detour.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/exchange_fixture.h"

enum { UNDER_WAY_MAX = 4, DETOUR_BYTES = 256 << 10, PIECE_BYTES = 1 << 20 };

// The linker sends these here (--wrap).
uint64_t __real_monotonic_us(void);
uint64_t __wrap_monotonic_us(void);
struct socket *__real_socket_create(enum socket_kind kind, const struct socket_options *options,
                                    struct error *err);
struct socket *__wrap_socket_create(enum socket_kind kind, const struct socket_options *options,
                                    struct error *err);

static _Atomic uint64_t leapt_us;
static atomic_bool no_sockets;
static atomic_uint refused; // sockets

uint64_t __wrap_monotonic_us(void)
{
    return __real_monotonic_us() + atomic_load(&leapt_us);
}

struct socket *__wrap_socket_create(enum socket_kind kind, const struct socket_options *options,
                                    struct error *err)
{
    if (!atomic_load(&no_sockets)) {
        return __real_socket_create(kind, options, err);
    }
    atomic_fetch_add(&refused, 1);
    error_set(err, EMFILE, "no socket is left");
    return NULL;
}

static void leap(unsigned seconds)
{
    atomic_fetch_add(&leapt_us, seconds * 1000000ULL);
}

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
    uint32_t largest; // of what was asked for
    bool away;        // it says nothing
    bool keeps;       // ... of the partition with number 0
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
        broker->largest = order->message.length > broker->largest ? order->message.length : broker->largest;
        assert_true(broker->under_way < sizeof(broker->order) / sizeof(broker->order[0]));
        broker->order[broker->under_way++] = order;
        broker->most = broker->under_way > broker->most ? broker->under_way : broker->most;
    }
    while (broker->under_way > 0) {
        order = broker->order[--broker->under_way];
        if (!broker->away && !(broker->keeps && order->message.index == 0)) {
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

// ---- a worker that is cut off ----------------------------------------------------------------------

// One that answers so many FETCHes, takes some more, and is gone.
static void play_worker(const struct side *holder, struct socket *socket, unsigned answers, unsigned takes)
{
    struct arena arena;

    arena_init(&arena, 1 << 20);
    for (unsigned n = 0; n < answers + takes; n++) {
        struct pollfd fd = {.fd = socket_fd(socket), .events = POLLIN};
        uint8_t bytes[FRAME_HEADER + 128];
        uint32_t size[FRAME_FETCH_MAX];
        struct buffer *payload = NULL;
        Dray__Piece piece = DRAY__PIECE__INIT;
        struct message message;
        struct frame frame;
        struct error err = {0};

        while (socket_receive(socket, &message) != 1) {
            poll(&fd, 1, 20);
        }
        assert_int_equal(message.frames, 2);
        assert_int_equal(
            frame_decode(message.frame[1].data, message.frame[1].size, FROM_WORKER, &arena, &frame, &err), 0);
        assert_int_equal(((const Dray__Fetch *)frame.message)->length, PIECE_BYTES);
        if (n < answers) {
            assert_int_equal(encoding_answer(holder->store, (const Dray__Fetch *)frame.message, &piece, size,
                                             &payload, &err),
                             0);
            assert_true(frame_size(&piece.base) <= sizeof(bytes));
            frame_encode(FRAME_PIECE, holder->incarnation, 0, &piece.base, bytes);
            assert_int_equal(socket_send(socket, message.frame[0].data, message.frame[0].size, bytes,
                                         frame_size(&piece.base), &payload, 1),
                             0);
            buffer_unref(payload);
        }
        message_fini(&message);
        arena_reset(&arena);
    }
    arena_fini(&arena);
    socket_destroy(socket, 1000);
}

// Pieces that were asked for directly are asked for again in the sizes of the other way.
static void test_cut_off_in_the_middle(void **state)
{
    static const size_t SIZES[] = {(9 << 20) + 1};
    const struct socket_options options = {0};
    struct side a, b;
    struct broker broker = {.reader = &b, .holder = &a};
    struct socket *socket;
    struct error err = {0};
    char address[128];

    (void)state;
    open_detouring(&a, "a", 111);
    open_detouring(&b, "b", 222);
    put(&a, 0, SIZES[0]);
    snprintf(address, sizeof(address), "ipc://%s/cut", folder);
    socket = socket_create(SOCKET_ROUTER, &options, &err);
    assert_non_null(socket);
    assert_int_equal(socket_bind(socket, address, &err), 0);
    order(&b, &a, 0, address);
    play_worker(&a, socket, 2, 4);
    expect(&broker, SIZES);
    assert_int_equal(broker.largest, DETOUR_BYTES);
    assert_in_range(broker.most, 1, UNDER_WAY_MAX);
    // Nothing comes twice: 2 MB of it had come.
    assert_in_range(broker.asked, (7 << 20) / DETOUR_BYTES, (7 << 20) / DETOUR_BYTES + 8);
    close_side(&b);
    close_side(&a);
}

// ---- time ------------------------------------------------------------------------------------------

static void wait_until_asked(struct broker *broker, unsigned asked)
{
    struct pollfd fd = {.fd = exchange_fd(broker->reader->exchange), .events = POLLIN};

    while (broker->asked < asked) {
        assert_int_equal(poll(&fd, 1, 60000), 1);
        assert_null(exchange_take(broker->reader->exchange));
        play(broker);
    }
}

// What is never answered has an end of its own, and the others do not.
static void test_each_waits_for_itself(void **state)
{
    static const size_t SIZES[] = {3 << 20, 1000, 1000, 1000};
    struct side a, b;
    struct broker broker = {.reader = &b, .holder = &a, .keeps = true};
    struct fetch *fetch;

    (void)state;
    open_detouring(&a, "a", 111);
    open_detouring(&b, "b", 222);
    for (uint32_t i = 0; i < 4; i++) {
        put(&a, i, SIZES[i]);
    }
    order(&b, &a, 0, NULL);
    wait_until_asked(&broker, 1);
    leap(200);
    order(&b, &a, 1, NULL);
    expect(&broker, SIZES);
    // One of which the answer will be late, and one that is answered before it.
    broker.away = true;
    order(&b, &a, 2, NULL);
    wait_until_asked(&broker, 3);
    broker.away = false;
    leap(110);
    fetch = wait_for_outcome(&broker);
    assert_int_equal(fetch->index, 0);
    assert_int_equal(fetch->rc, -ETIMEDOUT);
    assert_non_null(strstr(fetch->err.text, "300 s"));
    fetch_destroy(fetch, b.budget);
    order(&b, &a, 3, NULL);
    expect(&broker, SIZES);
    leap(200);
    fetch = wait_for_outcome(&broker);
    assert_int_equal(fetch->index, 2);
    assert_int_equal(fetch->rc, -ETIMEDOUT);
    fetch_destroy(fetch, b.budget);
    close_side(&b);
    close_side(&a);
}

// It is tried again later whether there is a direct way, and that needs a socket.
static void test_no_socket_for_a_probe(void **state)
{
    static const size_t SIZES[] = {1000, 2000, 3000};
    struct side a, b;
    struct broker broker = {.reader = &b, .holder = &a, .away = true};

    (void)state;
    open_detouring(&a, "a", 111);
    open_detouring(&b, "b", 222);
    for (uint32_t i = 0; i < 3; i++) {
        put(&a, i, SIZES[i]);
    }
    order(&b, &a, 0, NULL);
    wait_until_asked(&broker, 1);
    atomic_store(&no_sockets, true);
    leap(31);
    while (atomic_load(&refused) == 0) {
        poll(NULL, 0, 10);
    }
    // It goes on by way of the broker, and there is one later.
    broker.away = false;
    order(&b, &a, 1, NULL);
    expect(&broker, SIZES);
    atomic_store(&no_sockets, false);
    leap(31);
    order(&b, &a, 2, exchange_endpoint(a.exchange));
    expect(&broker, SIZES);
    close_side(&b);
    close_side(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_way_of_the_broker),       cmocka_unit_test(test_the_session_ends),
        cmocka_unit_test(test_only_who_cannot_be_reached), cmocka_unit_test(test_cut_off_in_the_middle),
        cmocka_unit_test(test_each_waits_for_itself),      cmocka_unit_test(test_no_socket_for_a_probe),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
