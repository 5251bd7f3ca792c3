#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/socket.h"

struct watch {
    struct socket *socket; // NULL: a plain file descriptor
    int fd;                // -1: removed
    short events;
    bool ready; // a socket that had something before the wait
    void (*socket_ready)(void *arg);
    void (*fd_ready)(void *arg, short revents);
    void *arg;
};

struct timer {
    uint64_t interval_us;
    uint64_t due_us;
    void (*due)(void *arg);
    void *arg;
};

// Callbacks may add and remove: arrays grow at their end, removed watches are only
// marked, and nobody keeps a pointer into them across a callback.
struct loop {
    struct watch *watch;
    struct pollfd *poll; // as many as watches
    size_t watches, watches_max;
    struct timer *timer;
    size_t timers, timers_max;
    void (*turn)(void *arg);
    void *turn_arg;
    bool has_removed;
    bool stopped;
};

uint64_t monotonic_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

struct loop *loop_create(void)
{
    return calloc(1, sizeof(struct loop));
}

void loop_destroy(struct loop *loop)
{
    if (loop != NULL) {
        free(loop->watch);
        free(loop->poll);
        free(loop->timer);
        free(loop);
    }
}

static int add_watch(struct loop *loop, const struct watch *watch)
{
    if (loop->watches == loop->watches_max) {
        size_t max = loop->watches_max == 0 ? 8 : 2 * loop->watches_max;
        struct watch *watches = realloc(loop->watch, max * sizeof(*watches));

        if (watches == NULL) {
            return -ENOMEM;
        }
        loop->watch = watches;

        struct pollfd *polls = realloc(loop->poll, max * sizeof(*polls));

        if (polls == NULL) {
            return -ENOMEM;
        }
        loop->poll = polls;
        loop->watches_max = max;
    }
    loop->poll[loop->watches].revents = 0;
    loop->watch[loop->watches++] = *watch;
    return 0;
}

int loop_add_socket(struct loop *loop, struct socket *socket, void (*ready)(void *arg), void *arg)
{
    return add_watch(
        loop,
        &(struct watch){
            .socket = socket, .fd = socket_fd(socket), .events = POLLIN, .socket_ready = ready, .arg = arg});
}

int loop_add_fd(struct loop *loop, int fd, short events, void (*ready)(void *arg, short revents), void *arg)
{
    if (fd < 0) {
        return -EBADF;
    }
    return add_watch(loop, &(struct watch){.fd = fd, .events = events, .fd_ready = ready, .arg = arg});
}

static void remove_watch(struct loop *loop, const struct socket *socket, int fd)
{
    for (size_t i = 0; i < loop->watches; i++) {
        if (loop->watch[i].fd >= 0 && loop->watch[i].socket == socket && loop->watch[i].fd == fd) {
            loop->watch[i].fd = -1;
            loop->watch[i].socket = NULL;
            loop->has_removed = true;
        }
    }
}

void loop_remove_socket(struct loop *loop, struct socket *socket)
{
    remove_watch(loop, socket, socket_fd(socket));
}

void loop_remove_fd(struct loop *loop, int fd)
{
    remove_watch(loop, NULL, fd);
}

int loop_add_timer(struct loop *loop, unsigned interval_ms, void (*due)(void *arg), void *arg)
{
    if (loop->timers == loop->timers_max) {
        size_t max = loop->timers_max == 0 ? 4 : 2 * loop->timers_max;
        struct timer *timers = realloc(loop->timer, max * sizeof(*timers));

        if (timers == NULL) {
            return -ENOMEM;
        }
        loop->timer = timers;
        loop->timers_max = max;
    }
    struct timer *timer = &loop->timer[loop->timers++];

    timer->interval_us = (uint64_t)(interval_ms > 0 ? interval_ms : 1) * 1000;
    timer->due_us = monotonic_us() + timer->interval_us;
    timer->due = due;
    timer->arg = arg;
    return 0;
}

void loop_set_turn(struct loop *loop, void (*turn)(void *arg), void *arg)
{
    loop->turn = turn;
    loop->turn_arg = arg;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

static void forget_removed(struct loop *loop)
{
    size_t kept = 0;

    for (size_t i = 0; i < loop->watches; i++) {
        if (loop->watch[i].fd >= 0) {
            loop->watch[kept++] = loop->watch[i];
        }
    }
    loop->watches = kept;
    loop->has_removed = false;
}

// Milliseconds until a timer is due, rounded up; -1: no timer.
static int wait_ms(const struct loop *loop)
{
    uint64_t now = monotonic_us(), next = UINT64_MAX;

    for (size_t i = 0; i < loop->timers; i++) {
        next = loop->timer[i].due_us < next ? loop->timer[i].due_us : next;
    }
    if (next == UINT64_MAX) {
        return -1;
    }
    if (next <= now) {
        return 0;
    }
    return next - now > 3600000000U ? 3600000 : (int)((next - now + 999) / 1000);
}

// What libzmq has read on its own behalf while we sent makes no new edge on ZMQ_FD,
// so the sockets themselves are asked before every wait.
static bool any_socket_ready(struct loop *loop)
{
    bool any = false;

    for (size_t i = 0; i < loop->watches; i++) {
        struct watch *watch = &loop->watch[i];

        watch->ready = watch->socket != NULL && socket_ready(watch->socket);
        any = any || watch->ready;
    }
    return any;
}

static int wait_for_events(struct loop *loop)
{
    for (size_t i = 0; i < loop->watches; i++) {
        loop->poll[i] = (struct pollfd){.fd = loop->watch[i].fd, .events = loop->watch[i].events};
    }
    int timeout = any_socket_ready(loop) ? 0 : wait_ms(loop);

    if (poll(loop->poll, loop->watches, timeout) < 0) {
        if (errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
        for (size_t i = 0; i < loop->watches; i++) {
            loop->poll[i].revents = 0;
        }
    }
    return 0;
}

static void serve_watches(struct loop *loop)
{
    size_t count = loop->watches; // what callbacks add has its turn after the next wait

    for (size_t i = 0; i < count; i++) {
        const struct watch *watch = &loop->watch[i];

        if (watch->fd < 0) {
            continue;
        }
        if (watch->socket != NULL) {
            // Asking libzmq costs system calls, so only a socket of which something was seen is looked at (what
            // came in since then without an edge is found before the next wait); receiving finds out the rest.
            if (watch->ready || loop->poll[i].revents != 0) {
                watch->socket_ready(watch->arg);
            }
        } else if (loop->poll[i].revents != 0) {
            watch->fd_ready(watch->arg, loop->poll[i].revents);
        }
    }
}

static void serve_timers(struct loop *loop)
{
    uint64_t now = monotonic_us();
    size_t count = loop->timers;

    for (size_t i = 0; i < count; i++) {
        struct timer *timer = &loop->timer[i];

        if (timer->due_us <= now) {
            timer->due_us = now + timer->interval_us;
            timer->due(timer->arg);
        }
    }
}

int loop_run(struct loop *loop)
{
    int rc = 0;

    loop->stopped = false;
    while (!loop->stopped) {
        if (loop->has_removed) {
            forget_removed(loop);
        }
        rc = wait_for_events(loop);
        if (rc != 0) {
            break;
        }
        serve_watches(loop);
        serve_timers(loop);
        if (loop->turn != NULL) {
            loop->turn(loop->turn_arg);
        }
    }
    return rc;
}
