// Workers that were there before a restart: where the journal says that they run, and whether they do.
#include "broker/absent.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

static pid_t sleeper(void)
{
    char *const argv[] = {"sleep", "60", NULL};
    pid_t pid;

    assert_int_equal(posix_spawnp(&pid, "sleep", NULL, NULL, argv, environ), 0);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_the_name_is_found(void **state)
{
    char body[ABSENT_BODY_MAX], name[PEER_NAME_MAX];
    size_t size = absent_describe("ant", 17, 18, body);

    (void)state;
    assert_int_equal(absent_name(body, size), 3);
    assert_int_equal(absent_name("ant", 3), 3); // of journals of old
    assert_int_equal(absent_name("", 0), 0);
    assert_int_equal(absent_name("a\nb", 3), 3);
    assert_int_equal(absent_name("a b\nhost\n1 2", 12), 3);
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    size = absent_describe(name, UINT32_MAX, UINT64_MAX, body);
    assert_true(size < sizeof(body));
    assert_int_equal(absent_name(body, size), sizeof(name) - 1);
}

static void test_of_whom_nothing_is_known(void **state)
{
    static const char *const bodies[] = {
        "", "ant", "ant\nelsewhere:7\n1 2", "ant\nelsewhere:7", "\n\n", "ant\n\n1 1", "a\nb\nc", "\n\n\n\n",
    };
    struct absents absents = {.until_us = 100};
    char long_one[400], host[VITAL_HOST_MAX], body[ABSENT_BODY_MAX];
    uint64_t incarnation;

    (void)state;
    for (size_t k = 0; k < sizeof(bodies) / sizeof(bodies[0]); k++) {
        assert_int_equal(absents_add(&absents, k, bodies[k], strlen(bodies[k])), 0);
    }
    memset(long_one, 'x', sizeof(long_one));
    long_one[3] = long_one[300] = '\n';
    assert_int_equal(absents_add(&absents, 9, long_one, sizeof(long_one)), 0);
    long_one[300] = 'x';
    long_one[20] = '\n';
    assert_int_equal(absents_add(&absents, 9, long_one, sizeof(long_one)), 0);
    vital_host(host);
    for (int k = 0; k < 3; k++) {
        snprintf(body, sizeof(body), "ant\n%s\n%s", host, k == 0 ? "x" : k == 1 ? "1" : "0 0");
        assert_int_equal(absents_add(&absents, 9, body, strlen(body)), 0);
    }
    assert_int_equal(absents.count, 0);
    assert_false(absents_ended(&absents, 1, &incarnation));
    absents_fini(&absents);
}

static void test_who_has_ended(void **state)
{
    struct absents absents = {.until_us = 100};
    char body[ABSENT_BODY_MAX];
    pid_t one = sleeper(), two = sleeper();
    size_t size = absent_describe("one", (uint32_t)one, vital_birth((uint32_t)one), body);
    uint64_t incarnation = 0;

    (void)state;
    assert_int_equal(absents_add(&absents, 11, body, size), 0);
    // A later process with its number.
    size = absent_describe("old", (uint32_t)one, vital_birth((uint32_t)one) - 1, body);
    assert_int_equal(absents_add(&absents, 12, body, size), 1);
    size = absent_describe("two", (uint32_t)two, vital_birth((uint32_t)two), body);
    assert_int_equal(absents_add(&absents, 13, body, size), 0);
    assert_false(absents_ended(&absents, 1, &incarnation));
    end(one);
    assert_true(absents_ended(&absents, 1, &incarnation));
    assert_int_equal(incarnation, 11);
    assert_false(absents_ended(&absents, 1, &incarnation));
    // Nobody waits any longer.
    end(two);
    assert_false(absents_ended(&absents, 101, &incarnation));
    assert_int_equal(absents.count, 0);
    assert_int_equal(absents_add(&absents, 13, body, size), 1);
    absents_fini(&absents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_name_is_found),
        cmocka_unit_test(test_of_whom_nothing_is_known),
        cmocka_unit_test(test_who_has_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
