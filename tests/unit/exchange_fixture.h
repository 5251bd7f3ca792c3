// Two exchanges in one process, each with a store and a budget of its own, and partitions whose bytes follow
// from their numbers.
#ifndef DRAY_TESTS_EXCHANGE_FIXTURE_H
#define DRAY_TESTS_EXCHANGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/socket.h"
#include "worker/exchange.h"

enum { BUDGET = 64 << 20 };

struct side {
    struct budget *budget;
    struct store *store;
    struct exchange *exchange;
    uint64_t incarnation;
};

static char folder[] = "/tmp/dray-exchange-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    sockets_init();
    return mkdtemp(folder) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    sockets_fini();
    return rmdir(folder); // fails when a local socket was left behind
}

// detour: what cannot be reached is asked for by way of the broker.
static void open_side(struct side *side, const char *name, uint64_t incarnation, uint64_t budget, bool detour)
{
    char listen[128];
    struct error err = {0};

    snprintf(listen, sizeof(listen), "ipc://%s/%s", folder, name);
    side->incarnation = incarnation;
    side->budget = budget_create(budget);
    side->store = store_create(side->budget);

    const struct exchange_options options = {.listen = listen,
                                             .incarnation = incarnation,
                                             .store = side->store,
                                             .budget = side->budget,
                                             .detour = detour};

    assert_int_equal(exchange_create(&options, &side->exchange, &err), 0);
}

static void close_side(struct side *side)
{
    exchange_destroy(side->exchange);
    store_destroy(side->store);
    assert_int_equal(budget_used(side->budget), 0);
    budget_destroy(side->budget);
}

static uint8_t byte_at(uint32_t index, size_t i)
{
    return (uint8_t)(i * 7 + i / 255 + index);
}

static void put(struct side *side, uint32_t index, size_t size)
{
    uint8_t *data;
    struct buffer *bytes = buffer_create(size, &data);
    const struct store_key key = {1, 2, index};

    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++) {
        data[i] = byte_at(index, i);
    }
    assert_int_equal(store_put(side->store, 0, &key, partition_from_bytes(bytes), NULL, 0, NULL), 0);
}

static void order_at(struct side *to, const struct side *from, uint32_t index, const char *address)
{
    char *endpoint[] = {(char *)(uintptr_t)address};
    struct fetch *fetch = fetch_create(1, endpoint);

    assert_non_null(fetch);
    fetch->job = 1;
    fetch->layer = 2;
    fetch->index = index;
    fetch->worker = 5;
    fetch->incarnation = from->incarnation;
    exchange_fetch(to->exchange, fetch);
}

#endif
