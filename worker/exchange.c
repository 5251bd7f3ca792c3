#include "worker/exchange.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/arena.h"
#include "proto/frame.h"
#include "proto/payload.h"
#include "proto/socket.h"
#include "worker/download.h"
#include "worker/thread.h"

enum {
    TICK_MS = 100,
    STACK_BYTES = 256 << 10,
    FETCH_FRAME_MAX = 4096,
    // Replies that one reader may leave unread.  Readers keep to a window well below it; what goes
    // beyond is dropped.
    UNREAD_PIECES_MAX = 64,
    QUEUE_MESSAGES = 1000,
    TURN_MESSAGES_MAX = 64,
    UNFINISHED_BYTES_MAX = 256 << 10,
};

struct exchange {
    struct exchange_options options;
    struct socket *socket;
    struct loop *loop;
    struct downloads *downloads;
    struct detour *detour;
    struct arena arena;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    bool stopping;
    struct fetch *orders, **orders_end;
    struct fetch *outcomes, **outcomes_end;
    int order_fd, outcome_fd;
    _Atomic uint64_t served;
};

static void ring(int fd)
{
    const uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof(one));

    (void)written; // full: it is readable anyway
}

static void silence(int fd)
{
    uint64_t count;
    ssize_t got = read(fd, &count, sizeof(count));

    (void)got; // nothing there is fine
}

// ---- the serving side -------------------------------------------------------------

static void reply(struct exchange *exchange, const struct message_frame *route, Dray__Piece *piece,
                  struct buffer *payload, const struct error *why)
{
    Dray__Failure failure = DRAY__FAILURE__INIT;
    uint8_t bytes[FRAME_HEADER + ERROR_TEXT_MAX + 128 + 5 * (FRAME_FETCH_MAX + 1)];
    size_t size;

    if (why != NULL) {
        failure.code = why->code;
        failure.text = (char *)(uintptr_t)why->text; // only read
        piece->why = &failure;
    }
    size = frame_size(&piece->base);
    if (size <= sizeof(bytes)) {
        frame_encode(FRAME_PIECE, exchange->options.incarnation, 0, &piece->base, bytes);
        // A reader that is gone or does not read asks again, or does not.
        socket_send(exchange->socket, route->data, route->size, bytes, size, &payload,
                    payload == NULL ? 0 : 1);
    }
}

static void serve(struct exchange *exchange, struct message *message)
{
    const struct message_frame *route = &message->frame[0];
    const Dray__Fetch *fetch;
    Dray__Piece piece = DRAY__PIECE__INIT;
    struct frame frame;
    struct error err = {0};
    struct buffer *payload = NULL;
    uint32_t size[FRAME_FETCH_MAX];

    if (message->frames != 2 || message->frame[1].size > FETCH_FRAME_MAX ||
        frame_decode(message->frame[1].data, message->frame[1].size, FROM_WORKER, &exchange->arena, &frame,
                     &err) != 0 ||
        frame.info->type != FRAME_FETCH) {
        return; // a stranger
    }
    fetch = (const Dray__Fetch *)frame.message;
    if (frame.session != exchange->options.incarnation) {
        error_set(&err, ENOENT, "the worker that held it has ended; this is another process");
    } else {
        encoding_answer(exchange->options.store, fetch, &piece, size, &payload, &err);
    }
    piece.tag = fetch->tag;
    if (payload != NULL) {
        atomic_fetch_add_explicit(&exchange->served, 1, memory_order_relaxed);
    }
    reply(exchange, route, &piece, payload, payload == NULL ? &err : NULL);
    buffer_unref(payload);
}

static void on_readable(void *arg)
{
    struct exchange *exchange = arg;
    struct message message;

    for (int i = 0; i < TURN_MESSAGES_MAX && socket_receive(exchange->socket, &message) == 1; i++) {
        serve(exchange, &message);
        message_fini(&message);
        arena_reset(&exchange->arena);
    }
}

uint64_t exchange_served(const struct exchange *exchange)
{
    return atomic_load_explicit(&exchange->served, memory_order_relaxed);
}

// ---- orders and outcomes ----------------------------------------------------------

static void on_orders(void *arg, short revents)
{
    struct exchange *exchange = arg;
    struct detour_answer *answer;
    struct fetch *orders;
    bool stopping;

    (void)revents;
    silence(exchange->order_fd);
    pthread_mutex_lock(&exchange->lock);
    stopping = exchange->stopping;
    orders = exchange->orders;
    exchange->orders = NULL;
    exchange->orders_end = &exchange->orders;
    pthread_mutex_unlock(&exchange->lock);
    if (stopping) {
        loop_stop(exchange->loop);
    }
    while (orders != NULL) {
        struct fetch *fetch = orders;

        orders = fetch->next;
        fetch->next = NULL;
        downloads_start(exchange->downloads, fetch);
    }
    while ((answer = detour_take_answer(exchange->detour)) != NULL) {
        if (answer->is_session) {
            downloads_session(exchange->downloads, answer->up);
        } else {
            downloads_piece(exchange->downloads, &answer->message, answer->payload);
        }
        detour_answer_free(answer);
    }
    downloads_ask(exchange->downloads);
}

static void on_done(void *arg, struct fetch *fetch)
{
    struct exchange *exchange = arg;

    fetch->next = NULL;
    pthread_mutex_lock(&exchange->lock);
    *exchange->outcomes_end = fetch;
    exchange->outcomes_end = &fetch->next;
    pthread_mutex_unlock(&exchange->lock);
    ring(exchange->outcome_fd);
}

static int on_ask_broker(void *arg, const Dray__Fetch *message)
{
    struct exchange *exchange = arg;
    int rc = detour_ask(exchange->detour, message);

    ring(exchange->outcome_fd);
    return rc;
}

static void on_tell(void *arg, const char *text)
{
    struct exchange *exchange = arg;

    detour_tell(exchange->detour, text); // without memory it is not said
    ring(exchange->outcome_fd);
}

struct detour_order *exchange_take_order(struct exchange *exchange)
{
    return detour_take_order(exchange->detour);
}

int exchange_answer(struct exchange *exchange, const Dray__Piece *message, struct buffer *payload)
{
    int rc = detour_piece(exchange->detour, message, payload);

    ring(exchange->order_fd);
    return rc;
}

int exchange_session(struct exchange *exchange, bool up)
{
    int rc = detour_session(exchange->detour, up);

    ring(exchange->order_fd);
    return rc;
}

void exchange_fetch(struct exchange *exchange, struct fetch *fetch)
{
    fetch->next = NULL;
    pthread_mutex_lock(&exchange->lock);
    *exchange->orders_end = fetch;
    exchange->orders_end = &fetch->next;
    pthread_mutex_unlock(&exchange->lock);
    ring(exchange->order_fd);
}

int exchange_fd(const struct exchange *exchange)
{
    return exchange->outcome_fd;
}

struct fetch *exchange_take(struct exchange *exchange)
{
    struct fetch *fetch;

    pthread_mutex_lock(&exchange->lock);
    fetch = exchange->outcomes;
    if (fetch != NULL) {
        exchange->outcomes = fetch->next;
        fetch->next = NULL;
    }
    if (exchange->outcomes == NULL) {
        exchange->outcomes_end = &exchange->outcomes;
        silence(exchange->outcome_fd);
    }
    pthread_mutex_unlock(&exchange->lock);
    return fetch;
}

// ---- the thread -------------------------------------------------------------------

static void on_tick(void *arg)
{
    struct exchange *exchange = arg;
    char address[SOCKET_ADDRESS_MAX];

    socket_guard(exchange->socket, address);
    downloads_tick(exchange->downloads);
}

static void *exchange_main(void *arg)
{
    struct exchange *exchange = arg;

    loop_run(exchange->loop);
    // Sockets are closed by the thread that used them.
    downloads_destroy(exchange->downloads);
    exchange->downloads = NULL;
    socket_destroy(exchange->socket, 0);
    exchange->socket = NULL;
    return NULL;
}

static int start_thread(struct exchange *exchange)
{
    int rc = thread_start(&exchange->thread, STACK_BYTES, exchange_main, exchange);

    exchange->started = rc == 0;
    return rc;
}

static int open_parts(struct exchange *exchange, struct error *err)
{
    const struct socket_options options = {
        .frame_bytes_max = FETCH_FRAME_MAX,
        .send_messages_max = UNREAD_PIECES_MAX,
        .receive_messages_max = QUEUE_MESSAGES,
        .unfinished_bytes_max = UNFINISHED_BYTES_MAX,
    };
    const struct downloads_handler handler = {exchange, on_done,
                                              exchange->options.detour ? on_ask_broker : NULL, on_tell};
    int rc;

    exchange->loop = loop_create();
    exchange->detour = detour_create();
    exchange->order_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    exchange->outcome_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (exchange->loop == NULL || exchange->detour == NULL || exchange->order_fd < 0 ||
        exchange->outcome_fd < 0) {
        return error_no_memory(err);
    }
    exchange->downloads = downloads_create(exchange->loop, exchange->options.budget, &handler);
    if (exchange->downloads == NULL) {
        return error_no_memory(err);
    }
    exchange->socket = socket_create(SOCKET_ROUTER, &options, err);
    if (exchange->socket == NULL) {
        return -err->code;
    }
    rc = socket_bind(exchange->socket, exchange->options.listen, err);
    if (rc != 0) {
        return rc;
    }
    if (loop_add_socket(exchange->loop, exchange->socket, on_readable, exchange) != 0 ||
        loop_add_fd(exchange->loop, exchange->order_fd, POLLIN, on_orders, exchange) != 0 ||
        loop_add_timer(exchange->loop, TICK_MS, on_tick, exchange) != 0) {
        return error_no_memory(err);
    }
    rc = start_thread(exchange);
    return rc == 0 ? 0 : error_set(err, -rc, "cannot start a thread: %s", strerror(-rc));
}

int exchange_create(const struct exchange_options *options, struct exchange **out, struct error *err)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    int rc;

    if (exchange == NULL) {
        return error_no_memory(err);
    }
    exchange->options = *options;
    exchange->order_fd = exchange->outcome_fd = -1;
    exchange->orders_end = &exchange->orders;
    exchange->outcomes_end = &exchange->outcomes;
    arena_init(&exchange->arena, (size_t)1 << 20);
    pthread_mutex_init(&exchange->lock, NULL);
    rc = open_parts(exchange, err);
    if (rc != 0) {
        exchange_destroy(exchange);
        return rc;
    }
    *out = exchange;
    return 0;
}

static void destroy_list(struct exchange *exchange, struct fetch *fetch)
{
    while (fetch != NULL) {
        struct fetch *next = fetch->next;

        fetch_destroy(fetch, exchange->options.budget);
        fetch = next;
    }
}

void exchange_destroy(struct exchange *exchange)
{
    if (exchange == NULL) {
        return;
    }
    if (exchange->started) {
        pthread_mutex_lock(&exchange->lock);
        exchange->stopping = true;
        pthread_mutex_unlock(&exchange->lock);
        ring(exchange->order_fd);
        pthread_join(exchange->thread, NULL);
    }
    downloads_destroy(exchange->downloads);
    socket_destroy(exchange->socket, 0);
    loop_destroy(exchange->loop);
    detour_destroy(exchange->detour);
    destroy_list(exchange, exchange->orders);
    destroy_list(exchange, exchange->outcomes);
    if (exchange->order_fd >= 0) {
        close(exchange->order_fd);
    }
    if (exchange->outcome_fd >= 0) {
        close(exchange->outcome_fd);
    }
    arena_fini(&exchange->arena);
    pthread_mutex_destroy(&exchange->lock);
    free(exchange);
}

const char *exchange_endpoint(const struct exchange *exchange)
{
    return socket_endpoint(exchange->socket);
}
