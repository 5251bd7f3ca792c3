// What ends the executables' loops, and the signals that their threads never see.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "proto/stopper.h"
#include "worker/thread.h"

static void test_signal(void **state)
{
    const struct log log = {.program = "test", .level = LEVEL_WARNING};
    struct stopper stopper;

    (void)state;
    assert_int_equal(stopper_init(&stopper, &log, -1, NULL), 0);
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    assert_int_equal(loop_run(stopper.loop), 0);
    assert_false(stopper.cut);
    stopper_fini(&stopper);
}

static bool leave(void *arg)
{
    ++*(int *)arg;
    kill(getpid(), SIGTERM);
    return true;
}

static bool stay(void *arg)
{
    ++*(int *)arg;
    return false;
}

// The first signal asks to leave, the second ends it; who has nothing to do ends at the first.
static void test_leave(void **state)
{
    const struct log log = {.program = "test", .level = LEVEL_WARNING};
    struct stopper stopper;
    int asked = 0;

    (void)state;
    for (int k = 0; k < 2; k++) {
        asked = 0;
        assert_int_equal(stopper_init(&stopper, &log, -1, NULL), 0);
        stopper.leave = k == 0 ? leave : stay;
        stopper.arg = &asked;
        assert_int_equal(kill(getpid(), SIGTERM), 0);
        assert_int_equal(loop_run(stopper.loop), 0);
        assert_int_equal(asked, 1);
        assert_int_equal(stopper.leaving, k == 0);
        stopper_fini(&stopper);
    }
}

static void test_lifeline(void **state)
{
    const struct log log = {.program = "test", .level = LEVEL_WARNING};
    struct stopper stopper;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(stopper_init(&stopper, &log, ends[0], NULL), 0);
    close(ends[1]);
    assert_int_equal(loop_run(stopper.loop), 0);
    assert_true(stopper.cut);
    stopper_fini(&stopper);
    close(ends[0]);
}

static void *signals_here(void *arg)
{
    pthread_sigmask(SIG_SETMASK, NULL, arg);
    return NULL;
}

static void test_thread(void **state)
{
    sigset_t inside, outside;
    pthread_t thread;

    (void)state;
    assert_int_equal(thread_start(&thread, 256 << 10, signals_here, &inside), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(sigismember(&inside, SIGUSR1));
    pthread_sigmask(SIG_SETMASK, NULL, &outside);
    assert_false(sigismember(&outside, SIGUSR1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_leave),
        cmocka_unit_test(test_lifeline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
