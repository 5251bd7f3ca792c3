// Which clients read a job.
#include "tests/unit/cpu_time.h"
#include "broker/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { JOBS = 100000, MANY_US = 1000000 };

// One that had very many jobs is gone; it stands in the way of nobody.
static void test_a_client_of_many_jobs(void **state)
{
    struct broker *broker = calloc(1, sizeof(*broker));
    uint64_t begun_us;
    size_t count;

    (void)state;
    assert_non_null(broker);
    for (uint32_t job = 1; job <= JOBS; job++) {
        assert_int_equal(readers_add(broker, job, 7), 0);
        if (job % 10 == 0) {
            assert_int_equal(readers_add(broker, job, 8), 0);
        }
    }
    begun_us = cpu_us();
    readers_forget_client(broker, 7);
    assert_true(cpu_us() - begun_us < CPU_SLOW * MANY_US);
    for (uint32_t job = 1; job <= JOBS; job++) {
        const uint32_t *client = readers_of(broker, job, &count);

        assert_int_equal(count, job % 10 == 0 ? 1 : 0);
        assert_true(count == 0 || *client == 8);
    }
    readers_forget_client(broker, 8);
    assert_int_equal(broker->readers.count, 0);
    readers_fini(broker);
    free(broker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_client_of_many_jobs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
