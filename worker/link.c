#include "worker/link.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    ATTEMPT_US = 2000000,    // for the handshake; then a new connection is tried
    CONNECTED_US = 10000000, // ... when the other host has answered, so far away that it takes so long
    SAY_AFTER_US = 3000000,  // without an answer
    QUEUE_MESSAGES = 10000,
    CUT_SLACK_US = 1000000,
    LINGER_MS = 100,
    TURN_MESSAGES_MAX = 256,
};

struct link {
    struct loop *loop;
    struct link_options options;
    struct link_handler handler;
    struct socket *socket;
    struct arena arena;
    bool up, over, said;
    bool restart; // the socket is to be replaced, outside of its own callbacks
    uint64_t session, sent, received;
    uint64_t heartbeat_us, timeout_us;
    uint64_t cut_us; // nothing acknowledged for so long, either: the way there is cut
    uint64_t heard_us, beat_us, tick_us;
    uint64_t attempt_us; // this connection was begun
    uint64_t wait_us;    // no new connection before that
    uint64_t alone_us;   // since when there is no broker
};

bool link_is_up(const struct link *link)
{
    return link->up;
}

static void end_for_good(struct link *link, int code, const char *why)
{
    if (!link->over) {
        link->over = true;
        link->handler.over(link->handler.arg, code, why);
    }
}

// ---- out ------------------------------------------------------------------------

static int post(struct link *link, enum frame_type type, const ProtobufCMessage *message,
                struct buffer *const *buffers, size_t count)
{
    uint8_t small[512];
    size_t size = frame_size(message);
    uint8_t *bytes = size <= sizeof(small) ? small : malloc(size);
    int rc;

    if (bytes == NULL) {
        return -ENOMEM;
    }
    frame_encode(type, link->session, link->sent, message, bytes);
    rc = socket_send(link->socket, NULL, 0, bytes, size, buffers, count);
    if (rc == 0) {
        link->sent++;
    }
    if (bytes != small) {
        free(bytes);
    }
    return rc;
}

void link_restart(struct link *link, const char *why)
{
    if (link->restart || link->over) {
        return;
    }
    link->restart = true;
    if (link->up) {
        link->up = false;
        link->alone_us = monotonic_us();
        link->said = true;
        log_write(link->options.log, LEVEL_WARNING,
                  "lost the broker at %s (%s): connecting again, for %.0f s", link->options.broker, why,
                  link->options.reconnect_ms / 1000.0);
        link->handler.down(link->handler.arg);
    } else {
        log_write(link->options.log, LEVEL_DEBUG, "the broker at %s: %s", link->options.broker, why);
    }
}

bool link_send(struct link *link, enum frame_type type, const ProtobufCMessage *message,
               struct buffer *const *buffers, size_t count)
{
    int rc;

    if (!link->up) {
        return false;
    }
    rc = post(link, type, message, buffers, count);
    if (rc != 0) {
        link_restart(link, rc == -EAGAIN ? "it takes no messages" : strerror(-rc));
    }
    return rc == 0;
}

// ---- in -------------------------------------------------------------------------

static int on_welcome(struct link *link, const struct frame *frame, struct error *err)
{
    const Dray__Welcome *welcome = (const Dray__Welcome *)frame->message;

    if (link->up || frame->session != welcome->session || frame->seq != 0 || welcome->heartbeat_ms == 0 ||
        welcome->timeout_ms <= welcome->heartbeat_ms) {
        return error_set(err, EPROTO, "a WELCOME that cannot be");
    }
    link->up = true;
    link->session = welcome->session;
    link->received = 1;
    link->heartbeat_us = (uint64_t)welcome->heartbeat_ms * 1000;
    link->timeout_us = (uint64_t)welcome->timeout_ms * 1000;
    link->cut_us = 2 * link->heartbeat_us + CUT_SLACK_US;
    link->beat_us = link->heard_us;
    log_write(link->options.log, LEVEL_INFO, "connected to the broker at %s as number %" PRIu32,
              link->options.broker, welcome->peer);
    link->handler.up(link->handler.arg, welcome);
    return 0;
}

static int on_refuse(struct link *link, const struct frame *frame, struct error *err)
{
    const Dray__Failure *why = ((const Dray__Refuse *)frame->message)->why;

    switch (why->code) {
    case ENOTCONN:
        link_restart(link, why->text);
        link->wait_us = 0; // it is there: at once
        return 0;
    case EBUSY:
    case ENOMEM:
        log_write(link->options.log, LEVEL_WARNING, "the broker at %s refuses: %s", link->options.broker,
                  why->text);
        link_restart(link, why->text);
        return 0;
    default:
        error_set(err, EPROTO, "the broker at %s refuses: %s", link->options.broker, why->text);
        end_for_good(link, EPROTO, err->text);
        return 0;
    }
}

static int on_bye(struct link *link, const struct frame *frame)
{
    const Dray__Bye *bye = (const Dray__Bye *)frame->message;

    if (bye->why == NULL || bye->why->code == ESHUTDOWN) {
        end_for_good(link, 0, bye->why == NULL ? "it said goodbye" : bye->why->text);
    } else {
        link_restart(link, bye->why->text);
    }
    return 0;
}

static int handle(struct link *link, struct message *message, struct error *err)
{
    struct frame frame;
    int rc = message->frames == 0 ? error_set(err, EBADMSG, "an empty message")
                                  : frame_decode(message->frame[0].data, message->frame[0].size, FROM_BROKER,
                                                 &link->arena, &frame, err);

    if (rc != 0) {
        return rc;
    }
    if (frame.info->type == FRAME_WELCOME) {
        return on_welcome(link, &frame, err);
    }
    if (frame.info->type == FRAME_REFUSE && frame.session == 0) {
        return on_refuse(link, &frame, err);
    }
    if (!link->up || frame.session != link->session) {
        return error_set(err, EPROTO, "%s of another session", frame.info->name);
    }
    if (frame.seq != link->received) {
        return error_set(err, EPROTO,
                         "messages were lost: %s number %" PRIu64 " came where %" PRIu64 " was due",
                         frame.info->name, frame.seq, link->received);
    }
    link->received++;
    switch (frame.info->type) {
    case FRAME_HEARTBEAT:
        return 0;
    case FRAME_BYE:
        return on_bye(link, &frame);
    default:
        return link->handler.received(link->handler.arg, &frame, message, err);
    }
}

static void on_readable(void *arg)
{
    struct link *link = arg;
    struct message message;

    for (int i = 0; i < TURN_MESSAGES_MAX && !link->restart && !link->over; i++) {
        struct error err = {0};

        if (socket_receive(link->socket, &message) != 1) {
            break;
        }
        link->heard_us = monotonic_us();
        if (handle(link, &message, &err) != 0) {
            link_restart(link, err.text);
        }
        message_fini(&message);
        arena_reset(&link->arena);
    }
}

// libzmq would connect anew by itself, and what we say would go to who does not know us.
static void look_for_end(struct link *link)
{
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    size_t size;

    if (link->socket != NULL && socket_ended(link->socket, route, &size) == 1) {
        link_restart(link, "the connection has ended");
    }
}

static void on_watch(void *arg, short revents)
{
    (void)revents;
    look_for_end(arg);
}

// ---- connections ------------------------------------------------------------------

static void disconnect(struct link *link, int linger_ms)
{
    if (link->socket != NULL) {
        loop_remove_socket(link->loop, link->socket);
        loop_remove_fd(link->loop, socket_watch_fd(link->socket));
        socket_destroy(link->socket, linger_ms);
        link->socket = NULL;
    }
}

static int begin(struct link *link, struct error *err)
{
    const struct socket_options options = {
        .frame_bytes_max = FRAME_HEADER + FRAME_BODY_MAX,
        .send_messages_max = QUEUE_MESSAGES,
        .receive_messages_max = QUEUE_MESSAGES,
        .reconnect_ms = 2,
        .watch = true,
    };
    int rc;

    link->socket = socket_create(SOCKET_DEALER, &options, err);
    if (link->socket == NULL) {
        return -err->code;
    }
    rc = socket_connect(link->socket, link->options.broker, err);
    if (rc == 0) {
        rc = loop_add_socket(link->loop, link->socket, on_readable, link);
    }
    if (rc == 0) {
        rc = loop_add_fd(link->loop, socket_watch_fd(link->socket), POLLIN, on_watch, link);
    }
    link->session = link->sent = link->received = 0;
    link->attempt_us = monotonic_us();
    if (rc == 0) {
        rc = post(link, FRAME_HELLO, &link->options.hello->base, NULL, 0);
    }
    if (rc != 0) {
        if (err->code == 0) {
            error_set(err, -rc, "cannot connect to %s: %s", link->options.broker, strerror(-rc));
        }
        disconnect(link, 0);
    }
    return rc;
}

static void begin_again(struct link *link, uint64_t now)
{
    struct error err = {0};

    disconnect(link, 0);
    link->restart = false;
    if (begin(link, &err) != 0) {
        log_write(link->options.log, LEVEL_WARNING, "%s", err.text);
        link->restart = true;
    }
    link->wait_us = now + ATTEMPT_US / 10;
}

// ---- time -----------------------------------------------------------------------

static void beat(struct link *link, uint64_t now)
{
    Dray__Heartbeat message = DRAY__HEARTBEAT__INIT;

    if (now - link->beat_us < link->heartbeat_us) {
        return;
    }
    link->beat_us = now;
    message.time_us = now;
    link->handler.heartbeat(link->handler.arg, &message);
    link_send(link, FRAME_HEARTBEAT, &message.base, NULL, 0);
}

// Nothing was heard for a while.  What comes of a large message on a slow link is a sign of life; and where
// the broker's host does not even acknowledge our heartbeats, nothing will come.
static void look_for_signs(struct link *link, uint64_t now)
{
    struct socket_signs signs;

    if (socket_signs(link->socket, NULL, 0, &signs) != 0) {
        return;
    }
    if (signs.received_us < now - link->heard_us) {
        link->heard_us = now - signs.received_us;
    }
    if (now - link->heard_us > link->cut_us && signs.acknowledged_us > link->cut_us) {
        struct error why;

        error_set(&why, ETIMEDOUT, "its host has not been heard of for %.1f s",
                  (double)signs.acknowledged_us / 1e6);
        link_restart(link, why.text);
    }
}

static void tick_up(struct link *link, uint64_t now)
{
    look_for_end(link);
    // Were we stopped ourselves, then the broker could not be heard.
    if (now - link->tick_us > link->timeout_us / 2 && now - link->heard_us > link->timeout_us / 2) {
        link->heard_us = now - link->timeout_us / 2;
    }
    if (now > link->heard_us &&
        now - link->heard_us > (link->cut_us < link->timeout_us ? link->cut_us : link->timeout_us)) {
        look_for_signs(link, now);
    }
    if (link->restart) {
        return;
    }
    if (now > link->heard_us && now - link->heard_us > link->timeout_us) {
        struct error why;

        error_set(&why, ETIMEDOUT, "not heard of for %.1f s", (double)(now - link->heard_us) / 1e6);
        link_restart(link, why.text);
    } else {
        beat(link, now);
    }
}

static uint64_t attempt_us(const struct link *link)
{
    struct socket_signs signs;

    return socket_signs(link->socket, NULL, 0, &signs) == 0 ? CONNECTED_US : ATTEMPT_US;
}

static void tick_down(struct link *link, uint64_t now)
{
    look_for_end(link);
    uint64_t alone = now - link->alone_us;
    struct error why;

    if (alone > (uint64_t)link->options.reconnect_ms * 1000) {
        error_set(
            &why, ETIMEDOUT,
            "no answer from a broker at %s for %.1f s: giving up (is it running, and is this its address?)",
            link->options.broker, (double)alone / 1e6);
        end_for_good(link, ETIMEDOUT, why.text);
        return;
    }
    if (!link->said && alone > SAY_AFTER_US) {
        link->said = true;
        log_write(link->options.log, LEVEL_INFO, "no answer from a broker at %s yet: trying for %.0f s",
                  link->options.broker, link->options.reconnect_ms / 1000.0);
    }
    if (!link->restart && now - link->attempt_us > attempt_us(link)) {
        link->restart = true;
    }
    if (link->restart && now >= link->wait_us) {
        begin_again(link, now);
    }
}

void link_tick(struct link *link)
{
    uint64_t now = monotonic_us();

    if (link->over) {
        return;
    }
    if (link->up) {
        tick_up(link, now);
    } else {
        tick_down(link, now);
    }
    link->tick_us = now;
}

int link_create(struct loop *loop, const struct link_options *options, const struct link_handler *handler,
                struct link **out, struct error *err)
{
    struct link *link = calloc(1, sizeof(*link));
    int rc;

    if (link == NULL) {
        return error_no_memory(err);
    }
    link->loop = loop;
    link->options = *options;
    link->handler = *handler;
    link->tick_us = link->alone_us = monotonic_us();
    arena_init(&link->arena, (size_t)1 << 30);
    rc = begin(link, err);
    if (rc != 0) {
        link_destroy(link, false, NULL);
        return rc;
    }
    *out = link;
    return 0;
}

void link_destroy(struct link *link, bool goodbye, const char *why)
{
    Dray__Bye bye = DRAY__BYE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;

    if (link == NULL) {
        return;
    }
    if (why != NULL) {
        failure.code = EIO;
        failure.text = (char *)(uintptr_t)why; // only read
        bye.why = &failure;
    }
    if (goodbye && link->up && !link->over) {
        post(link, FRAME_BYE, &bye.base, NULL, 0);
        disconnect(link, LINGER_MS);
    } else {
        disconnect(link, 0);
    }
    arena_fini(&link->arena);
    free(link);
}
