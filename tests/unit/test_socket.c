#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/socket.h"

static char folder[] = "/tmp/dray-test-socket-XXXXXX";
static const struct socket_options options = {.frame_bytes_max = 1 << 20};

static struct socket *make(enum socket_kind kind, const struct socket_options *o)
{
    struct error err;
    struct socket *socket = socket_create(kind, o, &err);

    assert_non_null(socket);
    return socket;
}

// Waits as a user of ZMQ_FD has to.
static bool receive(struct socket *socket, struct message *message, int timeout_ms)
{
    uint64_t end = monotonic_us() + (uint64_t)timeout_ms * 1000;

    for (;;) {
        int rc = socket_receive(socket, message);

        assert_true(rc >= 0);
        if (rc == 1) {
            return true;
        }
        uint64_t now = monotonic_us();

        if (now >= end) {
            return false;
        }
        if (!socket_ready(socket)) {
            struct pollfd p = {.fd = socket_fd(socket), .events = POLLIN};

            poll(&p, 1, (int)((end - now) / 1000) + 1);
        }
    }
}

static void bind_connect(const char *endpoint, struct socket **router, struct socket **dealer)
{
    struct error err = {0};

    *router = make(SOCKET_ROUTER, &options);
    *dealer = make(SOCKET_DEALER, &options);
    if (socket_bind(*router, endpoint, &err) != 0 ||
        socket_connect(*dealer, socket_endpoint(*router), &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void ipc_endpoint(char out[128], const char *name)
{
    snprintf(out, 128, "ipc://%s/%s", folder, name);
}

// Messages of seeded shapes go there and come back, byte for byte, in order.
static void round_trips(const char *endpoint)
{
    struct socket *router, *dealer;
    struct message message, reply;
    unsigned seed = 7;

    bind_connect(endpoint, &router, &dealer);
    for (int i = 0; i < 200; i++) {
        struct buffer *buffers[40];
        uint8_t frame[64];
        size_t frame_size = (size_t)(rand_r(&seed) % 64),
               count = (size_t)(rand_r(&seed) % (i % 10 == 0 ? 40 : 4));

        for (size_t k = 0; k < frame_size; k++) {
            frame[k] = (uint8_t)rand_r(&seed);
        }
        for (size_t b = 0; b < count; b++) {
            uint8_t *data;
            size_t size = (size_t)(rand_r(&seed) % (b % 3 == 0 ? 100000 : 200));

            buffers[b] = buffer_create(size, &data);
            memset(data, rand_r(&seed), size);
        }
        assert_int_equal(socket_send(dealer, NULL, 0, frame, frame_size, buffers, count), 0);
        assert_true(receive(router, &message, 5000));
        assert_int_equal(message.frames, count + 2);
        assert_int_equal(message.frame[1].size, frame_size);
        assert_memory_equal(message.frame[1].data, frame, frame_size);
        // Back by what was received.
        struct buffer *taken[40];

        for (size_t b = 0; b < count; b++) {
            taken[b] = message_take(&message, b + 2);
            assert_non_null(taken[b]);
        }
        assert_int_equal(socket_send(router, message.frame[0].data, message.frame[0].size, frame, frame_size,
                                     taken, count),
                         0);
        message_fini(&message);
        assert_true(receive(dealer, &reply, 5000));
        assert_int_equal(reply.frames, count + 1);
        for (size_t b = 0; b < count; b++) {
            // taken[] outlives its message.
            assert_int_equal(taken[b]->size, buffers[b]->size);
            assert_memory_equal(taken[b]->data, buffers[b]->data, buffers[b]->size);
            assert_int_equal(reply.frame[b + 1].size, buffers[b]->size);
            assert_memory_equal(reply.frame[b + 1].data, buffers[b]->data, buffers[b]->size);
            buffer_unref(taken[b]);
            buffer_unref(buffers[b]);
        }
        message_fini(&reply);
    }
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static void test_ipc(void **state)
{
    char endpoint[128];

    (void)state;
    ipc_endpoint(endpoint, "trips");
    round_trips(endpoint);
}

static void test_tcp(void **state)
{
    (void)state;
    round_trips("tcp://127.0.0.1:*");
}

static void test_port_is_told(void **state)
{
    struct socket *router = make(SOCKET_ROUTER, &options);
    struct error err;
    unsigned port = 0;

    (void)state;
    assert_int_equal(socket_bind(router, "tcp://127.0.0.1:0", &err), 0);
    assert_int_equal(sscanf(socket_endpoint(router), "tcp://127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    socket_destroy(router, 0);
}

static void test_many_messages(void **state)
{
    enum { MESSAGES = 20000 };
    struct socket *router, *dealer;
    struct message message;
    int sent = 0, received = 0;

    (void)state;
    bind_connect("tcp://127.0.0.1:*", &router, &dealer);
    while (received < MESSAGES) {
        while (sent < MESSAGES) {
            int rc = socket_send(dealer, NULL, 0, &sent, sizeof(sent), NULL, 0);

            if (rc == -EAGAIN) {
                break;
            }
            assert_int_equal(rc, 0);
            sent++;
        }
        assert_true(receive(router, &message, 5000));
        do {
            assert_int_equal(message.frames, 2);
            assert_memory_equal(message.frame[1].data, &received, sizeof(received));
            received++;
            message_fini(&message);
        } while (socket_receive(router, &message) == 1);
    }
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

// A queue that nobody empties says so at its mark instead of blocking or growing.
static void test_full_queue(void **state)
{
    static const struct socket_options small = {.send_messages_max = 10, .receive_messages_max = 10};
    struct socket *dealer = make(SOCKET_DEALER, &small);
    struct error err;
    int sent = 0, rc;

    (void)state;
    assert_int_equal(socket_connect(dealer, "tcp://127.0.0.1:1", &err), 0);
    while ((rc = socket_send(dealer, NULL, 0, "x", 1, NULL, 0)) == 0) {
        assert_true(++sent <= 10);
    }
    assert_int_equal(rc, -EAGAIN);
    socket_destroy(dealer, 0);
}

static void test_oversized_frame_costs_the_connection(void **state)
{
    static const struct socket_options unlimited = {.frame_bytes_max = 1 << 24, .reconnect_ms = 600000};
    struct socket *router = make(SOCKET_ROUTER, &options), *dealer = make(SOCKET_DEALER, &unlimited);
    struct socket *honest = make(SOCKET_DEALER, &options);
    struct message message;
    struct error err;
    uint8_t *data, route[SOCKET_ROUTING_ID_MAX];
    size_t route_size;
    int rc = 0;
    struct buffer *big = buffer_create(options.frame_bytes_max + 1, &data);

    (void)state;
    memset(data, 1, big->size);
    assert_int_equal(socket_bind(router, "tcp://127.0.0.1:*", &err), 0);
    assert_int_equal(socket_connect(dealer, socket_endpoint(router), &err), 0);
    assert_int_equal(socket_connect(honest, socket_endpoint(router), &err), 0);
    assert_int_equal(socket_send(dealer, NULL, 0, "hello", 5, NULL, 0), 0);
    assert_true(receive(router, &message, 5000));
    route_size = message.frame[0].size;
    memcpy(route, message.frame[0].data, route_size);
    message_fini(&message);

    assert_int_equal(socket_send(dealer, NULL, 0, "big", 3, &big, 1), 0);
    assert_false(receive(router, &message, 200));
    // Gone: the router knows no such peer any more.
    for (int i = 0; i < 1000 && rc != -EHOSTUNREACH; i++) {
        rc = socket_send(router, route, route_size, "x", 1, NULL, 0);
        poll(NULL, 0, 10);
    }
    assert_int_equal(rc, -EHOSTUNREACH);
    // And serves the others.
    assert_int_equal(socket_send(honest, NULL, 0, "ok", 2, NULL, 0), 0);
    assert_true(receive(router, &message, 5000));
    assert_memory_equal(message.frame[1].data, "ok", 2);
    message_fini(&message);
    buffer_unref(big);
    socket_destroy(honest, 0);
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static void test_gone_peer(void **state)
{
    struct socket *router, *dealer;
    struct message message;
    char endpoint[128], route[SOCKET_ROUTING_ID_MAX];
    int rc = 0;

    (void)state;
    ipc_endpoint(endpoint, "gone");
    bind_connect(endpoint, &router, &dealer);
    assert_int_equal(socket_send(router, "nobody", 6, "x", 1, NULL, 0), -EHOSTUNREACH);
    assert_int_equal(socket_send(dealer, NULL, 0, "x", 1, NULL, 0), 0);
    assert_true(receive(router, &message, 5000));
    size_t route_size = message.frame[0].size;

    memcpy(route, message.frame[0].data, route_size);
    message_fini(&message);
    assert_int_equal(socket_send(router, route, route_size, "x", 1, NULL, 0), 0);
    socket_destroy(dealer, 0);
    for (int i = 0; i < 1000 && rc != -EHOSTUNREACH; i++) {
        rc = socket_send(router, route, route_size, "x", 1, NULL, 0);
        poll(NULL, 0, 10);
    }
    assert_int_equal(rc, -EHOSTUNREACH);
    // What is meant for the others after it is not taken for its rest.
    socket_destroy(router, 0);
}

static void test_too_many_frames(void **state)
{
    struct socket *router, *dealer;
    struct message message;
    struct buffer *buffers[SOCKET_FRAMES_MAX];
    uint8_t *data;

    (void)state;
    bind_connect("tcp://127.0.0.1:*", &router, &dealer);
    buffers[0] = buffer_create(3, &data);
    memcpy(data, "abc", 3);
    for (size_t i = 1; i < SOCKET_FRAMES_MAX; i++) {
        buffers[i] = buffers[0];
    }
    // id + frame + buffers: the most that fits, then one more, then a small one.
    assert_int_equal(socket_send(dealer, NULL, 0, "1", 1, buffers, SOCKET_FRAMES_MAX - 2), 0);
    assert_int_equal(socket_send(dealer, NULL, 0, "2", 1, buffers, SOCKET_FRAMES_MAX - 1), 0);
    assert_int_equal(socket_send(dealer, NULL, 0, "3", 1, NULL, 0), 0);
    assert_true(receive(router, &message, 5000));
    assert_int_equal(message.frames, SOCKET_FRAMES_MAX);
    for (size_t i = 2; i < SOCKET_FRAMES_MAX; i++) {
        assert_int_equal(message.frame[i].size, 3);
        assert_memory_equal(message.frame[i].data, "abc", 3);
    }
    message_fini(&message);
    assert_true(receive(router, &message, 5000));
    assert_int_equal(message.frames, 2);
    assert_memory_equal(message.frame[1].data, "3", 1);
    message_fini(&message);
    buffer_unref(buffers[0]);
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static atomic_int releases;

static void count_release(void *owner)
{
    free(owner);
    atomic_fetch_add(&releases, 1);
}

// Every buffer that was handed over comes back, sent or not.
static void test_buffers_are_released(void **state)
{
    struct socket *router, *dealer;
    struct message message;
    int made = 0;

    (void)state;
    bind_connect("tcp://127.0.0.1:*", &router, &dealer);
    for (int i = 0; i < 20; i++) {
        size_t size = i % 2 == 0 ? 100000 : 100;
        void *bytes = calloc(1, size);
        struct buffer *buffer = buffer_wrap(bytes, size, count_release, bytes);

        made++;
        if (i % 3 == 0) {
            assert_int_equal(socket_send(router, "nobody", 6, "x", 1, &buffer, 1), -EHOSTUNREACH);
        } else {
            assert_int_equal(socket_send(dealer, NULL, 0, "x", 1, &buffer, 1), 0);
            assert_true(receive(router, &message, 5000));
            message_fini(&message);
        }
        buffer_unref(buffer);
    }
    for (int i = 0; i < 500 && atomic_load(&releases) != made; i++) {
        poll(NULL, 0, 10);
    }
    assert_int_equal(atomic_load(&releases), made);
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static void test_strangers(void **state)
{
    struct socket *router = make(SOCKET_ROUTER, &options), *dealer = make(SOCKET_DEALER, &options);
    struct message message;
    struct error err;
    unsigned port = 0, seed = 3;
    bool heard;

    (void)state;
    assert_int_equal(socket_bind(router, "tcp://127.0.0.1:*", &err), 0);
    assert_int_equal(sscanf(socket_endpoint(router), "tcp://127.0.0.1:%u", &port), 1);
    for (int i = 0; i < 20; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        uint8_t noise[300];

        inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        for (size_t k = 0; k < sizeof(noise); k++) {
            noise[k] = (uint8_t)rand_r(&seed);
        }
        if (i % 2 == 0) {
            memcpy(noise, "\xff\0\0\0\0\0\0\0\x01\x7f\x03", 11);
        }
        send(fd, noise, sizeof(noise), MSG_NOSIGNAL);
        close(fd);
    }
    assert_int_equal(socket_connect(dealer, socket_endpoint(router), &err), 0);
    assert_int_equal(socket_send(dealer, NULL, 0, "ok", 2, NULL, 0), 0);
    // Noise may be a message of ZMTP 1.0, which has no handshake.
    do {
        assert_true(receive(router, &message, 5000));
        heard = message.frames == 2 && message.frame[1].size == 2 &&
                memcmp(message.frame[1].data, "ok", 2) == 0;
        message_fini(&message);
    } while (!heard);
    socket_destroy(dealer, 0);
    socket_destroy(router, 0);
}

static void bind_fails(const char *endpoint, int code, const char *word)
{
    struct socket *router = make(SOCKET_ROUTER, &options);
    struct error err = {0};

    assert_int_equal(socket_bind(router, endpoint, &err), -code);
    assert_int_equal(err.code, code);
    if (strstr(err.text, word) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", err.text, word);
    }
    socket_destroy(router, 0);
}

static void test_bind_errors(void **state)
{
    struct socket *router = make(SOCKET_ROUTER, &options), *again;
    struct error err;
    char endpoint[128], path[128], longest[256];

    (void)state;
    assert_int_equal(socket_bind(router, "tcp://127.0.0.1:*", &err), 0);
    bind_fails(socket_endpoint(router), EADDRINUSE, "another process listens there");
    socket_destroy(router, 0);

    router = make(SOCKET_ROUTER, &options);
    ipc_endpoint(endpoint, "used");
    assert_int_equal(socket_bind(router, endpoint, &err), 0);
    bind_fails(endpoint, EADDRINUSE, "another process listens there");
    socket_destroy(router, 0);
    // What a dead process left behind is no obstacle.
    struct sockaddr_un_path {
        sa_family_t family;
        char path[108];
    } left = {.family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(left.path, sizeof(left.path), "%s/left", folder);
    assert_int_equal(bind(fd, (struct sockaddr *)&left, sizeof(left)), 0);
    close(fd);
    again = make(SOCKET_ROUTER, &options);
    ipc_endpoint(endpoint, "left");
    assert_int_equal(socket_bind(again, endpoint, &err), 0);
    socket_destroy(again, 0);

    // A file is not removed.
    snprintf(path, sizeof(path), "%s/file", folder);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    ipc_endpoint(endpoint, "file");
    bind_fails(endpoint, EEXIST, "no socket");
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);

    ipc_endpoint(endpoint, "none/socket");
    bind_fails(endpoint, ENOENT, "folder does not exist");
    memset(longest, 'x', sizeof(longest));
    memcpy(longest, "ipc:///tmp/", 11);
    longest[6 + 108] = '\0';
    bind_fails(longest, ENAMETOOLONG, "107");
    bind_fails("tcp://203.0.113.7:0", EADDRNOTAVAIL, "no such address");
    bind_fails("http://x", EINVAL, "tcp://HOST:PORT");
    bind_fails("tcp://127.0.0.1", EINVAL, "no port");
    bind_fails("ipc://", EINVAL, "no path");
    bind_fails("tcp://127.0.0.1:99999", EINVAL, "valid");
    assert_int_equal(socket_bind(again = make(SOCKET_ROUTER, &options), "nonsense", NULL), -EINVAL);
    socket_destroy(again, 0);
}

static void test_connect_errors(void **state)
{
    struct socket *dealer = make(SOCKET_DEALER, &options);
    struct error err;

    (void)state;
    assert_int_equal(socket_connect(dealer, "tcp://127.0.0.1", &err), -EINVAL);
    assert_int_equal(socket_connect(dealer, "udp://127.0.0.1:1", &err), -EINVAL);
    assert_int_equal(socket_connect(dealer, "tcp://127.0.0.1:x", &err), -EINVAL);
    socket_destroy(dealer, 0);
}

// The dealer was there first; its words wait for the router.
static void test_connect_before_bind(void **state)
{
    uint64_t took = UINT64_MAX;

    (void)state;
    for (int tries = 0; took >= 1000000; tries++) { // soon, unless the machine was with others
        struct socket *router = make(SOCKET_ROUTER, &options), *dealer = make(SOCKET_DEALER, &options);
        struct message message;
        struct error err;
        char endpoint[128];
        uint64_t start;

        assert_true(tries < 5);
        ipc_endpoint(endpoint, "later");
        assert_int_equal(socket_connect(dealer, endpoint, &err), 0);
        assert_int_equal(socket_send(dealer, NULL, 0, "x", 1, NULL, 0), 0);
        poll(NULL, 0, 30);
        assert_int_equal(socket_bind(router, endpoint, &err), 0);
        start = monotonic_us();
        assert_true(receive(router, &message, 20000));
        took = monotonic_us() - start;
        message_fini(&message);
        socket_destroy(dealer, 0);
        socket_destroy(router, 0);
    }
}

static int setup(void **state)
{
    (void)state;
    sockets_init();
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    DIR *dir = opendir(folder);

    (void)state;
    sockets_fini();
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipc),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_port_is_told),
        cmocka_unit_test(test_many_messages),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_oversized_frame_costs_the_connection),
        cmocka_unit_test(test_gone_peer),
        cmocka_unit_test(test_too_many_frames),
        cmocka_unit_test(test_buffers_are_released),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_bind_errors),
        cmocka_unit_test(test_connect_errors),
        cmocka_unit_test(test_connect_before_bind),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
