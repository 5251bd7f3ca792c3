// worker/neighbour.h: what was told last of each worker.
#include "worker/neighbour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void tell(struct neighbours *neighbours, uint32_t worker, uint64_t incarnation, size_t endpoints)
{
    char text[2][32];
    char *endpoint[2] = {text[0], text[1]};
    Dray__Peer peer = DRAY__PEER__INIT;

    for (size_t i = 0; i < endpoints; i++) {
        snprintf(text[i], sizeof(text[i]), "tcp://host-%u:%zu", worker, i);
    }
    peer.worker = worker;
    peer.incarnation = incarnation;
    peer.n_endpoint = endpoints;
    peer.endpoint = endpoint;
    assert_int_equal(neighbours_add(neighbours, &peer), 0);
}

static void test_last_word_counts(void **state)
{
    struct neighbours neighbours = {0};
    const struct neighbour *one;

    (void)state;
    assert_null(neighbours_find(&neighbours, 3));
    for (uint32_t worker = 1; worker <= 300; worker++) {
        tell(&neighbours, worker, worker * 10, worker % 3);
    }
    tell(&neighbours, 3, 7, 2);
    one = neighbours_find(&neighbours, 3);
    assert_non_null(one);
    assert_true(one->incarnation == 7 && one->endpoints == 2);
    assert_string_equal(one->endpoint[1], "tcp://host-3:1");
    one = neighbours_find(&neighbours, 299);
    assert_true(one != NULL && one->incarnation == 2990 && one->endpoints == 299 % 3);
    assert_null(neighbours_find(&neighbours, 301));
    neighbours_fini(&neighbours);
    assert_null(neighbours_find(&neighbours, 3));
    neighbours_fini(&neighbours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_word_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
