#include "client/lib/uplink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "proto/payload.h"
#include "proto/vital.h"

enum {
    QUEUE_MESSAGES = 10000,
    NAME_MAX_BYTES = 320,
};

static int queue_messages = QUEUE_MESSAGES;

struct uplink {
    struct socket *socket; // NULL: it could not be made anew
    char *endpoint;
    char *name;
    uint64_t incarnation; // ours, the same for all sessions
    uint64_t broker;      // its
    unsigned sessions;
    uint64_t session;
    uint64_t sent;     // seq of the next message out
    uint64_t received; // seq of the next message in
    uint64_t heard_us; // last message from the broker
    uint64_t beat_us;  // last heartbeat to the broker
    unsigned heartbeat_ms;
    unsigned timeout_ms;
    bool welcomed;
    bool unheard; // the connection ended before the first WELCOME
    bool stirred; // something may have come that the file descriptor will not tell of
    uint64_t tick_us;
    struct error end; // why the session is over; code 0: it is not
    bool lost;        // and another one may go on from there
};

// `end` says why.  Before the first WELCOME there is nothing to go on from.
static int lose(struct uplink *uplink)
{
    uplink->lost = uplink->sessions > 0;
    uplink->welcomed = false;
    return -uplink->end.code;
}

static int end_session(const struct uplink *uplink, struct error *err)
{
    if (err != NULL && uplink->end.code != 0) {
        *err = uplink->end;
    }
    return -uplink->end.code;
}

static int send_frame(struct uplink *uplink, enum frame_type type, const ProtobufCMessage *message,
                      struct error *err)
{
    size_t size = frame_size(message);
    uint8_t *bytes;
    int rc;

    if (size > FRAME_HEADER + FRAME_BODY_MAX) { // the broker would drop the connection
        return error_set(err, EMSGSIZE, "%zu MB for the broker at once (%s): at most %zu MB can be",
                         size >> 20, frame_info(type)->name, FRAME_BODY_MAX >> 20);
    }
    bytes = malloc(size);
    if (bytes == NULL) {
        return error_no_memory(err);
    }
    frame_encode(type, uplink->session, uplink->sent, message, bytes);
    uplink->stirred = true;
    rc = socket_send(uplink->socket, NULL, 0, bytes, size, NULL, 0);
    free(bytes);
    if (rc == 0) {
        uplink->sent++;
        return 0;
    }
    return error_set(err, -rc, "cannot send to the broker at %s: %s", uplink->endpoint,
                     rc == -EAGAIN ? "it takes no messages at present" : strerror(-rc));
}

static int say_hello(struct uplink *uplink, struct error *err)
{
    Dray__Hello hello = DRAY__HELLO__INIT;
    char vital[VITAL_HOST_MAX];

    hello.role = DRAY__ROLE__CLIENT;
    hello.protocol = FRAME_PROTOCOL;
    hello.version = (char *)DRAY_VERSION;
    hello.incarnation = uplink->incarnation;
    hello.name = uplink->name;
    hello.has_pid = true;
    hello.pid = (uint32_t)getpid();
    vital_host(vital);
    hello.host = vital;
    return send_frame(uplink, FRAME_HELLO, &hello.base, err);
}

static int connect_socket(struct uplink *uplink, struct error *err)
{
    const struct socket_options options = {
        .frame_bytes_max = FRAME_HEADER + FRAME_BODY_MAX,
        .send_messages_max = queue_messages,
        .receive_messages_max = QUEUE_MESSAGES,
        .reconnect_ms = 2,
        .watch = true,
    };
    int rc;

    uplink->socket = socket_create(SOCKET_DEALER, &options, err);
    if (uplink->socket == NULL) {
        return -err->code;
    }
    rc = socket_connect(uplink->socket, uplink->endpoint, err);
    if (rc == 0) {
        rc = say_hello(uplink, err);
    }
    uplink->heard_us = uplink->tick_us = uplink->beat_us = monotonic_us();
    return rc;
}

static char *choose_name(const char *name)
{
    char own[NAME_MAX_BYTES];
    char host[256] = "client";

    if (name == NULL) {
        gethostname(host, sizeof(host) - 1);
        snprintf(own, sizeof(own), "%s-%ld", host, (long)getpid());
        name = own;
    }
    return strndup(name, NAME_MAX_BYTES - 1);
}

int uplink_create(const char *endpoint, const char *name, struct uplink **out, struct error *err)
{
    struct uplink *uplink = calloc(1, sizeof(*uplink));
    struct error unused;
    int rc = -ENOMEM;

    if (err == NULL) {
        err = &unused;
    }
    if (uplink == NULL || (uplink->endpoint = strdup(endpoint)) == NULL ||
        (uplink->name = choose_name(name)) == NULL) {
        error_no_memory(err);
        goto out;
    }
    if (getrandom(&uplink->incarnation, sizeof(uplink->incarnation), 0) !=
        (ssize_t)sizeof(uplink->incarnation)) {
        rc = error_set(err, errno, "cannot get random bytes: %s", strerror(errno));
        goto out;
    }
    sockets_init();
    rc = connect_socket(uplink, err);
    if (rc != 0) {
        goto out;
    }
    *out = uplink;
    uplink = NULL;
out:
    uplink_destroy(uplink, 0);
    return rc;
}

int uplink_renew(struct uplink *uplink, struct error *err)
{
    int rc;

    if (uplink->socket != NULL) {
        socket_destroy(uplink->socket, 0);
        uplink->socket = NULL;
    }
    uplink->welcomed = uplink->lost = uplink->unheard = uplink->stirred = false;
    uplink->session = uplink->sent = uplink->received = 0;
    uplink->end = (struct error){0};
    rc = connect_socket(uplink, err);
    if (rc != 0) {
        uplink->end = *err;
        lose(uplink);
    }
    return rc;
}

void uplink_destroy(struct uplink *uplink, int linger_ms)
{
    if (uplink == NULL) {
        return;
    }
    if (uplink->welcomed && uplink->end.code == 0) {
        Dray__Bye bye = DRAY__BYE__INIT;

        send_frame(uplink, FRAME_BYE, &bye.base, NULL);
    } else {
        linger_ms = 0; // nobody is there to take it
    }
    if (uplink->socket != NULL) {
        socket_destroy(uplink->socket, linger_ms);
    }
    free(uplink->endpoint);
    free(uplink->name);
    free(uplink);
}

const char *uplink_endpoint(const struct uplink *uplink)
{
    return uplink->endpoint;
}

bool uplink_welcomed(const struct uplink *uplink)
{
    return uplink->welcomed;
}

unsigned uplink_heartbeat_ms(const struct uplink *uplink)
{
    return uplink->heartbeat_ms;
}

bool uplink_unheard(const struct uplink *uplink)
{
    return uplink->unheard;
}

bool uplink_lost(const struct uplink *uplink)
{
    return uplink->lost;
}

void uplink_abandon(struct uplink *uplink, const char *why)
{
    error_set(&uplink->end, ENOTCONN, "the connection to the broker at %s was given up: %s", uplink->endpoint,
              why);
    lose(uplink);
}

int uplink_error(const struct uplink *uplink, struct error *err)
{
    return end_session(uplink, err);
}

uint64_t uplink_broker(const struct uplink *uplink)
{
    return uplink->broker;
}

void uplink_limit(int messages)
{
    queue_messages = messages;
}

unsigned uplink_sessions(const struct uplink *uplink)
{
    return uplink->sessions;
}

int uplink_fd(const struct uplink *uplink)
{
    return uplink->socket != NULL ? socket_fd(uplink->socket) : -1;
}

int uplink_watch_fd(const struct uplink *uplink)
{
    return uplink->socket != NULL ? socket_watch_fd(uplink->socket) : -1;
}

bool uplink_ready(struct uplink *uplink)
{
    if (uplink->end.code != 0 || !uplink->stirred) {
        return false;
    }
    uplink->stirred = socket_ready(uplink->socket);
    return uplink->stirred;
}

static int handle_welcome(struct uplink *uplink, const struct frame *frame)
{
    const Dray__Welcome *welcome = (const Dray__Welcome *)frame->message;

    if (uplink->welcomed) {
        return error_set(&uplink->end, EPROTO, "the broker at %s began a second session on one connection",
                         uplink->endpoint);
    }
    if (welcome->heartbeat_ms == 0 || welcome->timeout_ms <= welcome->heartbeat_ms) {
        return error_set(
            &uplink->end, EPROTO,
            "the broker at %s states a heartbeat of %u ms and a timeout of %u ms, which cannot work",
            uplink->endpoint, welcome->heartbeat_ms, welcome->timeout_ms);
    }
    uplink->session = welcome->session;
    uplink->heartbeat_ms = welcome->heartbeat_ms;
    uplink->timeout_ms = welcome->timeout_ms;
    uplink->broker = welcome->incarnation;
    uplink->welcomed = true;
    uplink->sessions++;
    // WELCOME is the first message of its direction, whatever number it carries.
    uplink->received = frame->seq + 1;
    return 0;
}

static int handle_refuse(struct uplink *uplink, const Dray__Refuse *refuse)
{
    int code = refuse->why->code > 0 ? refuse->why->code : EPROTO;

    error_set(&uplink->end, uplink->sessions > 0 ? ENOTCONN : code, "the broker at %s refuses: %s",
              uplink->endpoint, refuse->why->text);
    // It knows no such session, or has no room just now.
    return code == ENOTCONN || code == EBUSY || code == ENOMEM ? lose(uplink) : -uplink->end.code;
}

static int handle_bye(struct uplink *uplink, const Dray__Bye *bye)
{
    error_set(&uplink->end, ENOTCONN, "the broker at %s ended the session%s%s", uplink->endpoint,
              bye->why != NULL ? ": " : "", bye->why != NULL ? bye->why->text : "");
    switch (bye->why != NULL ? bye->why->code : 0) {
    case ERESTART:  // it is about to be back,
    case ETIMEDOUT: // took us for lost,
    case EBUSY:     // or can keep no more of what we say at present
    case ENOMEM:
        return lose(uplink);
    default: // it is gone, or would say the same again
        return -uplink->end.code;
    }
}

// Messages of the session itself.  1: it is not one of them.
static int handle_own(struct uplink *uplink, const struct frame *frame)
{
    switch (frame->info->type) {
    case FRAME_WELCOME:
        return handle_welcome(uplink, frame);
    case FRAME_REFUSE:
        return handle_refuse(uplink, (const Dray__Refuse *)frame->message);
    case FRAME_BYE:
        return handle_bye(uplink, (const Dray__Bye *)frame->message);
    case FRAME_HEARTBEAT:
        return 0;
    default:
        return 1;
    }
}

static int check_order(struct uplink *uplink, const struct frame *frame)
{
    enum frame_type type = frame->info->type;

    if (type == FRAME_WELCOME || type == FRAME_REFUSE || type == FRAME_BYE) {
        return 0;
    }
    if (!uplink->welcomed) {
        return error_set(&uplink->end, EPROTO, "the broker at %s sent %s before its welcome",
                         uplink->endpoint, frame->info->name);
    }
    if (frame->session != uplink->session || frame->seq != uplink->received) {
        error_set(&uplink->end, ENOTCONN,
                  "the connection to the broker at %s lost messages (it was perhaps started anew)",
                  uplink->endpoint);
        return lose(uplink);
    }
    uplink->received++;
    return 0;
}

int uplink_receive(struct uplink *uplink, struct arena *arena, struct frame *frame, struct message *message,
                   struct error *err)
{
    for (;;) {
        int rc;

        if (uplink->end.code != 0) {
            return end_session(uplink, err);
        }
        rc = socket_receive(uplink->socket, message);
        uplink->stirred = rc != 0;
        if (rc == 0) {
            return 0;
        }
        if (rc < 0) {
            error_set(&uplink->end, ENOTCONN, "cannot receive from the broker at %s: %s", uplink->endpoint,
                      strerror(-rc));
            lose(uplink);
            continue;
        }
        uplink->heard_us = monotonic_us();
        if (message->frames == 0) {
            message_fini(message);
            continue;
        }
        rc = frame_decode(message->frame[0].data, message->frame[0].size, FROM_BROKER, arena, frame, err);
        if (rc == -EPROTO) {
            error_set(&uplink->end, EPROTO, "what answers at %s speaks another version of Dray's protocol",
                      uplink->endpoint);
        } else if (rc != 0) {
            error_set(&uplink->end, EPROTO,
                      "what answers at %s is not a Dray broker that this client understands",
                      uplink->endpoint);
        } else if (check_order(uplink, frame) == 0 && handle_own(uplink, frame) == 1) {
            return 1;
        }
        message_fini(message);
    }
}

int uplink_send(struct uplink *uplink, enum frame_type type, const ProtobufCMessage *message,
                struct error *err)
{
    if (uplink->end.code != 0 && !uplink->lost) {
        return end_session(uplink, err);
    }
    if (!uplink->welcomed || uplink->lost) {
        return error_set(err, uplink->sessions > 0 ? EAGAIN : ENOTCONN,
                         "the broker at %s has not answered yet", uplink->endpoint);
    }
    return send_frame(uplink, type, message, err);
}

void uplink_excuse(struct uplink *uplink)
{
    uplink->heard_us = monotonic_us();
}

// Whether the broker's bytes come, if no whole message does: a large one takes its time on a slow link.
static void look_for_signs(struct uplink *uplink, uint64_t now)
{
    struct socket_signs signs;

    if (socket_signs(uplink->socket, NULL, 0, &signs) == 0 && signs.received_us < now - uplink->heard_us) {
        uplink->heard_us = now - signs.received_us;
    }
}

int uplink_tick(struct uplink *uplink, struct error *err)
{
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    size_t route_size;
    uint64_t now = monotonic_us();
    uint64_t timeout = (uint64_t)uplink->timeout_ms * 1000;
    uint64_t since_tick = now - uplink->tick_us;

    if (uplink->end.code != 0) {
        return end_session(uplink, err);
    }
    uplink->tick_us = now;
    // Another connection under our feet would be of no use: what was to come through this one is lost.
    if (socket_ended(uplink->socket, route, &route_size) == 1) {
        if (uplink->sessions == 0) {
            uplink->unheard = true;
            return 0;
        }
        error_set(&uplink->end, ENOTCONN, "the broker at %s is gone: the connection has ended",
                  uplink->endpoint);
        lose(uplink);
        return end_session(uplink, err);
    }
    if (!uplink->welcomed) {
        return 0;
    }
    // A process that was itself stopped (Ctrl-Z, a laptop asleep) has heard nothing
    // and should look into its mailbox before it blames the broker.
    if (since_tick > timeout / 2) {
        uplink->heard_us = now - timeout / 2;
    }
    if (now - uplink->heard_us > timeout) {
        look_for_signs(uplink, now);
    }
    if (now - uplink->heard_us > timeout) {
        error_set(&uplink->end, ENOTCONN, "the broker at %s has not been heard of for %.1f s",
                  uplink->endpoint, (double)(now - uplink->heard_us) / 1e6);
        lose(uplink);
        return end_session(uplink, err);
    }
    if (now - uplink->beat_us >= (uint64_t)uplink->heartbeat_ms * 1000) {
        Dray__Heartbeat beat = DRAY__HEARTBEAT__INIT;

        beat.time_us = now;
        // A full queue is no reason to stop: the broker's silence decides.
        send_frame(uplink, FRAME_HEARTBEAT, &beat.base, NULL);
        uplink->beat_us = now;
    }
    return 0;
}
