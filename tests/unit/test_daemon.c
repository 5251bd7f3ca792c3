// worker/daemon.h and worker/address.h without a broker: what goes wrong is said, and nothing stays behind.
#include "worker/daemon.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/address.h"

static char folder[] = "/tmp/dray-daemon-XXXXXX";
static const struct log QUIET = {.program = "test", .level = LEVEL_ERROR};

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

static struct daemon_options options_for(const char *broker)
{
    return (struct daemon_options){
        .broker = broker, .name = "w", .threads = 2, .memory = 64 << 20, .reconnect_ms = 300, .log = &QUIET};
}

static void test_no_broker(void **state)
{
    char broker[128];
    struct loop *loop = loop_create();
    struct daemon *daemon = NULL;
    struct error err = {0};

    (void)state;
    snprintf(broker, sizeof(broker), "ipc://%s/b", folder);

    struct daemon_options options = options_for(broker);

    assert_int_equal(daemon_create(&options, loop, &daemon, &err), 0);
    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(daemon_outcome(daemon, &err), -ETIMEDOUT);
    assert_non_null(strstr(err.text, broker));
    assert_true(daemon_destroy(daemon, true));
    loop_destroy(loop);
}

static void expect_refusal(const struct daemon_options *options, const char *word)
{
    struct loop *loop = loop_create();
    struct daemon *daemon = NULL;
    struct error err = {0};

    assert_true(daemon_create(options, loop, &daemon, &err) < 0);
    assert_null(daemon);
    if (strstr(err.text, word) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
    }
    loop_destroy(loop);
}

static void test_wrong_options(void **state)
{
    const char *data_dir[] = {"/nowhere/at/all", NULL};
    struct daemon_options options = options_for("nonsense");
    char broker[128];

    (void)state;
    snprintf(broker, sizeof(broker), "ipc://%s/b", folder);
    expect_refusal(&options, "nonsense");
    options = options_for("tcp://no.such.host.invalid:1");
    expect_refusal(&options, "no.such.host.invalid");
    options = options_for(broker);
    options.data_dir = data_dir;
    expect_refusal(&options, "/nowhere/at/all");
    options = options_for(broker);
    options.listen = "ipc:///nowhere/at/all";
    expect_refusal(&options, "/nowhere/at/all");
}

static void test_addresses(void **state)
{
    char out[ADDRESS_MAX];
    struct error err = {0};

    (void)state;
    assert_int_equal(address_choose("ipc:///tmp/here/b", 0x1234567890abcdefU, out, &err), 0);
    assert_string_equal(out, "ipc:///tmp/here/w-90abcdef");
    assert_int_equal(address_choose("ipc://b", 1, out, &err), 0);
    assert_string_equal(out, "ipc://w-00000001");
    assert_int_equal(address_choose("tcp://127.0.0.1:8786", 1, out, &err), 0);
    assert_string_equal(out, "tcp://127.0.0.1:*");
    assert_true(address_choose("tcp://:", 1, out, &err) < 0);
    assert_true(address_choose("udp://127.0.0.1:1", 1, out, &err) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_broker),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
