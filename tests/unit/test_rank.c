// The ordered set against an array of flags.
#include "broker/core/rank.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/sim/random.h"

enum { NODES = 500 };

static void test_least_from(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random random = {seed};
        struct rank rank = {NULL};
        struct rank_node node[NODES];

        memset(node, 0, sizeof(node));
        for (uint64_t k = 0; k < NODES; k++) {
            node[k].key = k * 3 + (seed << 40);
        }
        for (int step = 0; step < 5000; step++) {
            struct rank_node *one = &node[random_below(&random, NODES)];
            uint64_t from = random_below(&random, NODES * 3 + 5) + (seed << 40);
            struct rank_node *least = NULL;

            if (one->in) {
                rank_remove(&rank, one);
                assert_false(one->in);
            } else {
                rank_add(&rank, one);
                assert_true(one->in);
            }
            for (int k = NODES; k-- > 0;) {
                least = node[k].in && node[k].key >= from ? &node[k] : least;
            }
            assert_ptr_equal(rank_from(&rank, from), least);
        }
    }
}

// Ascending keys do not make a list of it: a hundred thousand take no time.
static void test_many(void **state)
{
    uint64_t count = 100000;
    struct rank_node *node = calloc(count, sizeof(*node));
    struct rank rank = {NULL};

    (void)state;
    assert_non_null(node);
    for (uint64_t k = 0; k < count; k++) {
        node[k].key = k;
        rank_add(&rank, &node[k]);
    }
    for (uint64_t k = 0; k < count; k++) {
        assert_ptr_equal(rank_from(&rank, 0), &node[k]);
        rank_remove(&rank, &node[k]);
    }
    assert_null(rank.root);
    free(node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least_from),
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
