// proto/monitor.h by way of proto/socket.h, and proto/vital.h.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/monitor.h"
#include "proto/socket.h"
#include "proto/vital.h"

extern char **environ;
static char folder[] = "/tmp/dray-test-monitor-XXXXXX";
static const struct socket_options WATCHED = {.watch = true, .frame_bytes_max = 1 << 20};

static struct socket *make(enum socket_kind kind)
{
    struct error err = {0};
    struct socket *socket = socket_create(kind, &WATCHED, &err);

    assert_non_null(socket);
    return socket;
}

static struct socket *router_at(const char *endpoint)
{
    struct socket *router = make(SOCKET_ROUTER);
    struct error err = {0};

    assert_int_equal(socket_bind(router, endpoint, &err), 0);
    return router;
}

static struct socket *dealer_to(const char *endpoint)
{
    struct socket *dealer = make(SOCKET_DEALER);
    struct error err = {0};

    assert_int_equal(socket_connect(dealer, endpoint, &err), 0);
    return dealer;
}

static void pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

// Waits as a user of socket_fd has to; leaves nothing behind.  Returns the size of frame 1, routing id in
// `route`.
static size_t receive(struct socket *router, uint8_t *route, size_t *route_size)
{
    struct message message;

    for (int i = 0; i < 2000; i++) {
        int rc = socket_receive(router, &message);

        assert_true(rc >= 0);
        if (rc == 1) {
            size_t size = message.frame[1].size;

            *route_size = message.frame[0].size;
            memcpy(route, message.frame[0].data, *route_size);
            message_fini(&message);
            return size;
        }
        pause_ms(5);
    }
    fail_msg("nothing came");
    return 0;
}

// Only by the descriptor that it gives for that.
static int wait_ended(struct socket *socket, uint8_t *route, size_t *size, int timeout_ms)
{
    uint64_t end = monotonic_us() + (uint64_t)timeout_ms * 1000;
    struct pollfd pollfd = {.fd = socket_watch_fd(socket), .events = POLLIN};

    for (;;) {
        if (socket_ended(socket, route, size) == 1) {
            return 1;
        }
        if (monotonic_us() >= end) {
            return 0;
        }
        poll(&pollfd, 1, timeout_ms);
    }
}

static void ends_are_told(const char *endpoint)
{
    struct socket *router = router_at(endpoint);
    struct socket *a = dealer_to(socket_endpoint(router)), *b = dealer_to(socket_endpoint(router));
    uint8_t of_a[SOCKET_ROUTING_ID_MAX], of_b[SOCKET_ROUTING_ID_MAX], ended[SOCKET_ROUTING_ID_MAX];
    size_t a_size, b_size, size;

    assert_int_equal(socket_send(a, NULL, 0, "a", 1, NULL, 0), 0);
    assert_int_equal(receive(router, of_a, &a_size), 1);
    assert_int_equal(socket_send(b, NULL, 0, "bb", 2, NULL, 0), 0);
    assert_int_equal(receive(router, of_b, &b_size), 2);
    assert_int_equal(wait_ended(router, ended, &size, 20), 0);

    socket_destroy(b, 0);
    assert_int_equal(wait_ended(router, ended, &size, 5000), 1);
    assert_int_equal(size, b_size);
    assert_memory_equal(ended, of_b, size);
    assert_int_equal(wait_ended(router, ended, &size, 20), 0);

    // The other side of it: a DEALER whose ROUTER goes.
    socket_destroy(router, 0);
    assert_int_equal(wait_ended(a, ended, &size, 5000), 1);
    socket_destroy(a, 0);
}

static void test_ends_are_told_over_tcp(void **state)
{
    (void)state;
    ends_are_told("tcp://127.0.0.1:*");
}

static void test_ends_are_told_over_ipc(void **state)
{
    char endpoint[128];

    (void)state;
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/ends", folder);
    ends_are_told(endpoint);
}

// What came before the end is received before it is told: a goodbye, say.
static void test_what_came_is_received_first(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct socket *router = router_at("tcp://127.0.0.1:*");
        struct socket *dealer = dealer_to(socket_endpoint(router));
        uint8_t route[SOCKET_ROUTING_ID_MAX];
        size_t size;
        int count = 1 + round * 7;

        for (int i = 0; i < count; i++) {
            assert_int_equal(socket_send(dealer, NULL, 0, "x", 1, NULL, 0), 0);
        }
        assert_int_equal(receive(router, route, &size), 1);
        socket_destroy(dealer, 1000);
        for (int i = 1; i < count; i++) {
            pause_ms(i == 1 ? 20 : 0); // its end is there as well
            assert_int_equal(socket_ended(router, route, &size), 0);
            assert_int_equal(receive(router, route, &size), 1);
        }
        assert_int_equal(wait_ended(router, route, &size, 5000), 1);
        socket_destroy(router, 0);
    }
}

// ... unless others never stop: then it is told after everybody had their turns.
static void test_busy_others_do_not_hide_an_end(void **state)
{
    struct socket *router = router_at("tcp://127.0.0.1:*");
    struct socket *busy = dealer_to(socket_endpoint(router)), *dead = dealer_to(socket_endpoint(router));
    uint8_t of_dead[SOCKET_ROUTING_ID_MAX], route[SOCKET_ROUTING_ID_MAX];
    size_t dead_size, size = 0;
    uint64_t end = monotonic_us() + 20000000;
    bool told = false;

    (void)state;
    assert_int_equal(socket_send(dead, NULL, 0, "d", 1, NULL, 0), 0);
    receive(router, of_dead, &dead_size);
    socket_destroy(dead, 0);
    for (int i = 0; (i < 20000 || monotonic_us() < end) && !told; i++) {
        struct message message;

        socket_send(busy, NULL, 0, "b", 1, NULL, 0);
        socket_send(busy, NULL, 0, "b", 1, NULL, 0);
        if (socket_receive(router, &message) == 1) {
            message_fini(&message);
        }
        told = i % 100 == 0 && socket_ended(router, route, &size) == 1;
    }
    assert_true(told);
    assert_int_equal(size, dead_size);
    assert_memory_equal(route, of_dead, size);
    socket_destroy(busy, 0);
    socket_destroy(router, 0);
}

// Strangers that come and go leave nothing to be told, and descriptors that are used again mislead nobody.
static void test_strangers_and_reused_descriptors(void **state)
{
    struct socket *router = router_at("tcp://127.0.0.1:*");
    uint8_t route[SOCKET_ROUTING_ID_MAX], ended[SOCKET_ROUTING_ID_MAX];
    size_t size, ended_size;

    (void)state;
    for (int i = 0; i < 30; i++) {
        const char *port = strrchr(socket_endpoint(router), ':') + 1;
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                      .sin_port = htons((uint16_t)strtol(port, NULL, 10))};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct socket *dealer = dealer_to(socket_endpoint(router));

        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        close(fd);
        assert_int_equal(socket_send(dealer, NULL, 0, "x", 1, NULL, 0), 0);
        receive(router, route, &size);
        socket_destroy(dealer, 0);
        assert_int_equal(wait_ended(router, ended, &ended_size, 5000), 1);
        assert_int_equal(ended_size, size);
        assert_memory_equal(ended, route, size);
    }
    assert_int_equal(wait_ended(router, ended, &ended_size, 50), 0);
    socket_destroy(router, 0);
}

// A message that is under way shows in the kernel's counts; silence shows as well.
static void test_signs(void **state)
{
    struct socket *router = router_at("tcp://127.0.0.1:*");
    struct socket *dealer = dealer_to(socket_endpoint(router));
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    struct socket_signs signs, later;
    size_t size;
    int tries = 0;

    (void)state;
    assert_int_equal(socket_signs(router, "nobody", 6, &signs), -ENOENT);
    assert_int_equal(socket_send(dealer, NULL, 0, "x", 1, NULL, 0), 0);
    receive(router, route, &size);
    pause_ms(300);
    assert_int_equal(socket_signs(router, route, size, &signs), 0);
    assert_in_range(signs.received_us, 200000, 20000000);
    assert_int_equal(socket_signs(dealer, NULL, 0, &signs), 0);
    assert_in_range(signs.acknowledged_us, 200000, 20000000);
    // What is sent shows, unless nobody had the time for it.
    do {
        assert_true(tries++ < 50);
        assert_int_equal(socket_send(router, route, size, "four", 4, NULL, 0), 0);
        pause_ms(100);
        assert_int_equal(socket_signs(dealer, NULL, 0, &later), 0);
        assert_int_equal(socket_signs(router, route, size, &signs), 0);
    } while (later.received_us >= 200000 || signs.acknowledged_us >= 200000);
    assert_true(signs.delivered > 4);
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static void test_no_signs_over_ipc(void **state)
{
    char endpoint[128];
    struct socket *router, *dealer;
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    struct socket_signs signs;
    size_t size;

    (void)state;
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/signs", folder);
    router = router_at(endpoint);
    dealer = dealer_to(endpoint);
    assert_int_equal(socket_send(dealer, NULL, 0, "x", 1, NULL, 0), 0);
    receive(router, route, &size);
    assert_int_equal(socket_signs(router, route, size, &signs), -ENOENT);
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static void test_unwatched(void **state)
{
    const struct socket_options options = {0};
    struct error err = {0};
    struct socket *socket = socket_create(SOCKET_DEALER, &options, &err);
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    struct socket_signs signs;
    size_t size;

    (void)state;
    assert_int_equal(socket_watch_fd(socket), -1);
    assert_int_equal(socket_ended(socket, route, &size), 0);
    assert_int_equal(socket_signs(socket, NULL, 0, &signs), -ENOENT);
    socket_destroy(socket, 0);
}

static void test_vital(void **state)
{
    char host[VITAL_HOST_MAX];
    char *const argv[] = {"sleep", "60", NULL};
    uint64_t birth;
    pid_t pid;
    int fd, found;

    (void)state;
    vital_host(host);
    assert_true(host[0] != '\0');
    assert_int_equal(vital_watch(NULL, 1), -1);
    assert_int_equal(vital_watch("", 1), -1);
    assert_int_equal(vital_watch("elsewhere:1", (uint32_t)getpid()), -1);
    assert_int_equal(vital_watch(host, 0), -1);
    assert_int_equal(vital_watch(host, UINT32_MAX), -1);
    assert_false(vital_ended(-1));

    assert_int_equal(posix_spawnp(&pid, "sleep", NULL, NULL, argv, environ), 0);
    fd = vital_watch(host, (uint32_t)pid);
    assert_true(fd >= 0);
    assert_false(vital_ended(fd));
    birth = vital_birth((uint32_t)pid);
    assert_true(birth > 0);
    assert_int_equal(vital_birth((uint32_t)pid), birth);
    found = vital_find(host, (uint32_t)pid, birth);
    assert_true(found >= 0);
    close(found);
    found = vital_find(host, (uint32_t)pid, 0);
    assert_true(found >= 0);
    close(found);
    assert_int_equal(vital_find(host, (uint32_t)pid, birth + 1), -ESRCH); // another one with its number
    assert_int_equal(vital_find("elsewhere:1", (uint32_t)pid, birth), -ENOENT);
    assert_int_equal(vital_find(host, 0, 0), -ENOENT);
    kill(pid, SIGKILL);
    for (int i = 0; i < 2000 && !vital_ended(fd); i++) {
        pause_ms(1);
    }
    assert_true(vital_ended(fd)); // and nobody has waited for it
    assert_int_equal(vital_find(host, (uint32_t)pid, birth), -ESRCH);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(vital_ended(fd));
    close(fd);
    assert_int_equal(vital_watch(host, (uint32_t)pid), -1);
    assert_int_equal(vital_find(host, (uint32_t)pid, birth), -ESRCH);
    assert_int_equal(vital_birth((uint32_t)pid), 0);
}

static int set_up(void **state)
{
    (void)state;
    sockets_init();
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    sockets_fini();
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_are_told_over_tcp),
        cmocka_unit_test(test_ends_are_told_over_ipc),
        cmocka_unit_test(test_what_came_is_received_first),
        cmocka_unit_test(test_busy_others_do_not_hide_an_end),
        cmocka_unit_test(test_strangers_and_reused_descriptors),
        cmocka_unit_test(test_signs),
        cmocka_unit_test(test_no_signs_over_ipc),
        cmocka_unit_test(test_unwatched),
        cmocka_unit_test(test_vital),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
