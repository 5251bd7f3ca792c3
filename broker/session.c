#include "broker/session.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "broker/stranger.h"
#include "proto/vital.h"

enum {
    HELLO_BYTES_MAX = 64 << 10,
    ENDPOINTS_MAX = 16,
    ENDPOINT_BYTES_MAX = 300,
    THREADS_MAX = 4096,
    // A process whose connection was cut notices at once and connects anew; a dead one does not.
    COME_BACK_US = 1000000,
    HELD_UP_US = 100000, // later than that is more than a late tick
};

struct sessions {
    struct socket *socket;
    struct peers *peers;
    struct session_options options;
    struct session_handler handler;
    uint64_t incarnation;
    uint64_t tick_us;
    uint64_t beat_us;
    struct strangers strangers;
    bool waiting;   // something is unsent, or a client is full
    uint8_t *bytes; // for encoding
    size_t bytes_max;
};

int sessions_create(struct socket *socket, struct peers *peers, const struct session_options *options,
                    const struct session_handler *handler, struct sessions **out, struct error *err)
{
    struct sessions *sessions = calloc(1, sizeof(*sessions));

    if (sessions == NULL) {
        return error_no_memory(err);
    }
    sessions->socket = socket;
    sessions->peers = peers;
    sessions->options = *options;
    sessions->handler = *handler;
    sessions->tick_us = sessions->beat_us = monotonic_us();
    sessions->incarnation = options->incarnation;
    if (sessions->incarnation == 0 && getrandom(&sessions->incarnation, sizeof(sessions->incarnation), 0) !=
                                          (ssize_t)sizeof(sessions->incarnation)) {
        free(sessions);
        return error_set(err, EIO, "cannot get random bytes: %s", strerror(errno));
    }
    *out = sessions;
    return 0;
}

void sessions_destroy(struct sessions *sessions)
{
    if (sessions != NULL) {
        free(sessions->bytes);
        free(sessions);
    }
}

static const char *role_name(const struct peer *peer)
{
    return peer->role == FROM_WORKER ? "worker" : "client";
}

// ---- out ------------------------------------------------------------------------

static uint8_t *encode(struct sessions *sessions, enum frame_type type, uint64_t session, uint64_t seq,
                       const ProtobufCMessage *message, size_t *size)
{
    *size = frame_size(message);
    if (*size > sessions->bytes_max) {
        uint8_t *bytes = realloc(sessions->bytes, *size);

        if (bytes == NULL) {
            return NULL;
        }
        sessions->bytes = bytes;
        sessions->bytes_max = *size;
    }
    frame_encode(type, session, seq, message, sessions->bytes);
    return sessions->bytes;
}

// One large message is no reason to keep as much for good.
static void trim(struct sessions *sessions)
{
    if (sessions->bytes_max > (size_t)1 << 20) {
        free(sessions->bytes);
        sessions->bytes = NULL;
        sessions->bytes_max = 0;
    }
}

static void forget(struct sessions *sessions, struct peer *peer, enum session_end end, const char *why)
{
    if (peer->gone) {
        return;
    }
    peers_remove(sessions->peers, peer);
    sessions->handler.left(sessions->handler.arg, peer, end, why);
}

static int post(struct sessions *sessions, struct peer *peer, enum frame_type type,
                const ProtobufCMessage *message, struct buffer *const *buffers, size_t count)
{
    size_t size;
    uint8_t *bytes = encode(sessions, type, peer->session, peer->sent, message, &size);
    int rc;

    if (bytes == NULL) {
        return -ENOMEM;
    }
    rc = backlog_post(peer->backlog, sessions->socket, peer->route, peer->route_size, bytes, size, buffers,
                      count);
    if (rc == 0) {
        peer->sent++;
        sessions->waiting = sessions->waiting || backlog_bytes(peer->backlog) > 0;
    }
    trim(sessions);
    return rc;
}

// A client that reads slower than it is told things, and one that has caught up.
static void look_at_backlog(struct sessions *sessions, struct peer *peer)
{
    size_t bytes = backlog_bytes(peer->backlog);

    if (!peer->full && bytes > sessions->options.backlog_mark) {
        peer->full = true;
        peer->full_us = monotonic_us();
        peer->full_passed = backlog_passed(peer->backlog);
        log_write(sessions->options.log, LEVEL_INFO,
                  "client %s reads slower than its results come: %zu MB wait for it, the rest is held back",
                  peer->name, bytes >> 20);
        sessions->handler.full(sessions->handler.arg, peer, true);
    } else if (peer->full && bytes < sessions->options.backlog_mark / 2) {
        peer->full = false;
        sessions->handler.full(sessions->handler.arg, peer, false);
    }
}

void sessions_end(struct sessions *sessions, struct peer *peer, int code, const char *why)
{
    Dray__Bye bye = DRAY__BYE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;

    if (peer->gone) {
        return;
    }
    failure.code = code;
    failure.text = (char *)(uintptr_t)why; // only read
    bye.why = &failure;
    post(sessions, peer, FRAME_BYE, &bye.base, NULL, 0);
    log_write(sessions->options.log, LEVEL_WARNING, "%s %s: %s", role_name(peer), peer->name, why);
    forget(sessions, peer, SESSION_LOST, why);
}

static uint64_t timeout_us(const struct sessions *sessions, const struct peer *peer)
{
    return (uint64_t)(peer->role == FROM_WORKER ? sessions->options.worker_timeout_ms
                                                : sessions->options.timeout_ms) *
           1000;
}

// A worker whose connection has ended is lost when its process is dead, or has not connected anew by now.
// A client is at once: the scheduler's patience with its jobs is longer than ours.
static void check_cut(struct sessions *sessions, struct peer *peer, uint64_t now)
{
    uint64_t patience = timeout_us(sessions, peer) < COME_BACK_US ? timeout_us(sessions, peer) : COME_BACK_US;
    bool dead = vital_ended(peer->process);
    const char *why = dead ? "its process has ended" : "the connection is gone";

    if (dead || peer->role == FROM_CLIENT || now - peer->cut_us >= patience) {
        log_write(sessions->options.log, LEVEL_INFO, "%s %s: %s", role_name(peer), peer->name, why);
        forget(sessions, peer, SESSION_LOST, why);
    }
}

static void cut(struct sessions *sessions, struct peer *peer)
{
    if (!peer->gone && peer->cut_us == 0) {
        peer->cut_us = monotonic_us();
        log_write(sessions->options.log, LEVEL_DEBUG, "%s %s: its connection has ended", role_name(peer),
                  peer->name);
        check_cut(sessions, peer, peer->cut_us);
    }
}

void sessions_watch(struct sessions *sessions)
{
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    size_t size;

    while (socket_ended(sessions->socket, route, &size) == 1) {
        struct peer *peer = peers_by_route(sessions->peers, route, size);

        if (peer != NULL) {
            cut(sessions, peer);
        }
    }
}

void sessions_send(struct sessions *sessions, struct peer *peer, enum frame_type type,
                   const ProtobufCMessage *message, struct buffer *const *buffers, size_t count)
{
    struct error why = {0};
    int rc;

    // A session does not outlive its connection: what it says is for nobody.
    if (peer->gone || peer->cut_us != 0) {
        return;
    }
    rc = post(sessions, peer, type, message, buffers, count);
    switch (rc) {
    case 0:
        if (peer->role == FROM_CLIENT && !peer->full) {
            look_at_backlog(sessions, peer);
        }
        return;
    case -EHOSTUNREACH:
        cut(sessions, peer);
        return;
    case -ENOBUFS:
        error_set(&why, ENOBUFS,
                  "too slow: more than %zu MB wait for it (it does not read what it asked for)",
                  sessions->options.backlog_max >> 20);
        break;
    default:
        error_set(&why, -rc, "cannot send %s to it: %s", frame_info(type)->name, strerror(-rc));
        break;
    }
    sessions_end(sessions, peer, why.code, why.text);
}

static void refuse(struct sessions *sessions, const void *route, size_t route_size, int code, const char *why)
{
    Dray__Refuse message = DRAY__REFUSE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;
    size_t size;
    uint8_t *bytes;

    failure.code = code;
    failure.text = (char *)(uintptr_t)why; // only read
    message.why = &failure;
    bytes = encode(sessions, FRAME_REFUSE, 0, 0, &message.base, &size);
    if (bytes != NULL) {
        // A stranger that does not read its refusal misses it.
        socket_send(sessions->socket, route, route_size, bytes, size, NULL, 0);
    }
}

void sessions_close(struct sessions *sessions, int code, const char *why)
{
    Dray__Bye bye = DRAY__BYE__INIT;
    Dray__Failure failure = DRAY__FAILURE__INIT;

    failure.code = code;
    failure.text = (char *)(uintptr_t)why; // only read
    bye.why = &failure;
    for (struct peer *peer = sessions->peers->first; peer != NULL; peer = peer->next) {
        post(sessions, peer, FRAME_BYE, &bye.base, NULL, 0);
    }
}

// ---- handshake --------------------------------------------------------------------

static void tell_stranger(struct sessions *sessions, const void *route, size_t route_size, const char *what)
{
    uint64_t unsaid = 0;

    if (strangers_tell(&sessions->strangers, route, route_size, monotonic_us(), &unsaid)) {
        log_write(sessions->options.log, LEVEL_WARNING, "a stranger's message is dropped: %s", what);
        if (unsaid > 0) {
            log_write(sessions->options.log, LEVEL_WARNING, "%" PRIu64 " more strangers were dropped",
                      unsaid);
        }
    }
}

static int check_hello(const Dray__Hello *hello, struct error *err)
{
    if (hello->role != DRAY__ROLE__CLIENT && hello->role != DRAY__ROLE__WORKER) {
        return error_set(err, EINVAL, "HELLO with the unknown role %d", (int)hello->role);
    }
    if (hello->role == DRAY__ROLE__CLIENT) {
        return 0;
    }
    if (!hello->has_threads || hello->threads == 0 || hello->threads > THREADS_MAX) {
        return error_set(err, EINVAL, "HELLO of a worker with %u threads; 1 to %d can be", hello->threads,
                         THREADS_MAX);
    }
    if (hello->n_endpoint > ENDPOINTS_MAX) {
        return error_set(err, EINVAL, "HELLO of a worker with %zu endpoints; at most %d can be",
                         hello->n_endpoint, ENDPOINTS_MAX);
    }
    for (size_t i = 0; i < hello->n_endpoint; i++) {
        if (strlen(hello->endpoint[i]) > ENDPOINT_BYTES_MAX) {
            return error_set(err, EINVAL, "HELLO of a worker with an endpoint of %zu bytes",
                             strlen(hello->endpoint[i]));
        }
    }
    return 0;
}

static void set_name(struct peer *peer, const char *name)
{
    size_t size = name == NULL ? 0 : strnlen(name, PEER_NAME_MAX - 1);

    if (size == 0) {
        peer->name[0] = '?';
        size = 1;
    } else {
        memcpy(peer->name, name, size);
    }
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)peer->name[i];

        if (c < 0x20 || c == 0x7f) {
            peer->name[i] = '?';
        }
    }
}

static int fill_peer(struct peer *peer, const Dray__Hello *hello)
{
    peer->incarnation = hello->incarnation;
    peer->process = vital_watch(hello->host, hello->has_pid ? hello->pid : 0);
    if (peer->process >= 0) {
        peer->pid = hello->pid;
        peer->birth = vital_birth(hello->pid);
    }
    peer->heard_us = monotonic_us();
    peer->sent = 0;
    peer->received = 1; // HELLO was number 0
    set_name(peer, hello->name);
    if (getrandom(&peer->session, sizeof(peer->session), 0) != (ssize_t)sizeof(peer->session)) {
        return -EIO;
    }
    if (peer->session == 0) {
        peer->session = 1;
    }
    if (peer->role == FROM_WORKER) {
        peer->threads = hello->threads;
        peer->memory = hello->memory;
        peer->shared_files = hello->n_data_dir == 0;
        int rc = peer_set_endpoints(peer, hello->endpoint, hello->n_endpoint);

        if (rc == 0) {
            rc = peer_set_labels(peer, hello->label, hello->n_label);
        }
        return rc == 0 ? peer_set_resources(peer, hello->resource, hello->n_resource) : rc;
    }
    return 0;
}

static void welcome(struct sessions *sessions, const void *route, size_t route_size, const Dray__Hello *hello)
{
    Dray__Welcome message = DRAY__WELCOME__INIT;
    enum frame_sender role = hello->role == DRAY__ROLE__WORKER ? FROM_WORKER : FROM_CLIENT;
    struct peer *before = peers_by_incarnation(sessions->peers, hello->incarnation);
    struct peer *peer;
    struct error err = {0};
    int rc;

    if (sessions->peers->count >= PEERS_MAX) {
        refuse(sessions, route, route_size, EBUSY,
               "this broker has as many peers as it takes: try again later");
        return;
    }
    // The same process on a new connection: its old session is over, whatever we believed.
    if (before != NULL) {
        forget(sessions, before, SESSION_ANEW, "it connected anew");
    }
    peer = peers_add(sessions->peers, role, route, route_size, sessions->options.backlog_max);
    if (peer == NULL || fill_peer(peer, hello) != 0) {
        refuse(sessions, route, route_size, ENOMEM, "this broker is out of memory: try again later");
        if (peer != NULL) {
            peers_remove(sessions->peers, peer);
        }
        return;
    }
    message.session = peer->session;
    message.incarnation = sessions->incarnation;
    message.peer = peer->number;
    message.heartbeat_ms = sessions->options.heartbeat_ms;
    message.timeout_ms = sessions->options.timeout_ms;
    rc = post(sessions, peer, FRAME_WELCOME, &message.base, NULL, 0);
    if (rc == 0) {
        rc = sessions->handler.joined(sessions->handler.arg, peer, hello, &err);
        if (rc != 0) {
            refuse(sessions, route, route_size, -rc, err.text);
        }
    }
    if (rc != 0) {
        peers_remove(sessions->peers, peer);
        return;
    }
    log_write(sessions->options.log, LEVEL_INFO, "%s %s is number %" PRIu32, role_name(peer), peer->name,
              peer->number);
}

static void refuse_version(struct sessions *sessions, const void *route, size_t route_size, unsigned protocol,
                           const char *version)
{
    struct error why = {0};

    error_set(
        &why, EPROTO,
        "this broker is Dray %s (protocol %d), the other side is %s%s (protocol %u): use the same version "
        "on both sides",
        DRAY_VERSION, FRAME_PROTOCOL, version == NULL ? "another version" : "Dray ",
        version == NULL ? "" : version, protocol);
    refuse(sessions, route, route_size, EPROTO, why.text);
    tell_stranger(sessions, route, route_size, why.text);
}

// A message from a routing id that has no session.
static void meet_stranger(struct sessions *sessions, const struct message *message, struct arena *arena)
{
    const struct message_frame *route = &message->frame[0];
    const struct message_frame *head = &message->frame[1];
    const struct frame_info *info;
    struct frame frame;
    struct error err = {0};
    int rc;

    if (message->frames < 2 || head->size < FRAME_HEADER || memcmp(head->data, "DRAY", 4) != 0) {
        tell_stranger(sessions, route->data, route->size, "it is not of Dray's protocol");
        return;
    }
    info = frame_info(head->data[5]);
    if (head->data[4] == FRAME_PROTOCOL && info != NULL && info->type != FRAME_HELLO) {
        // Most likely a peer of the broker that was here before this one.
        refuse(sessions, route->data, route->size, ENOTCONN,
               "this broker knows no such session (it was started anew, or heard nothing for too long)");
        return;
    }
    if (message->frames != 2 || head->size > HELLO_BYTES_MAX) {
        tell_stranger(sessions, route->data, route->size, "it is too large for a HELLO");
        return;
    }
    rc = frame_decode(head->data, head->size, FROM_CLIENT, arena, &frame, &err);
    if (rc == -EPROTO) {
        refuse_version(sessions, route->data, route->size, head->data[4], NULL);
        return;
    }
    if (rc != 0 || frame.info->type != FRAME_HELLO || frame.session != 0 || frame.seq != 0) {
        tell_stranger(sessions, route->data, route->size, rc != 0 ? err.text : "it is no HELLO");
        return;
    }

    const Dray__Hello *hello = (const Dray__Hello *)frame.message;

    if (hello->protocol != FRAME_PROTOCOL) {
        refuse_version(sessions, route->data, route->size, hello->protocol, hello->version);
    } else if (check_hello(hello, &err) != 0) {
        refuse(sessions, route->data, route->size, EINVAL, err.text);
        tell_stranger(sessions, route->data, route->size, err.text);
    } else {
        socket_trust(sessions->socket, message);
        welcome(sessions, route->data, route->size, hello);
    }
}

// ---- in -------------------------------------------------------------------------

static int handle(struct sessions *sessions, struct peer *peer, struct message *message, struct arena *arena,
                  struct error *err)
{
    struct frame frame;
    int rc = frame_decode(message->frame[1].data, message->frame[1].size, peer->role, arena, &frame, err);

    if (rc != 0) {
        return rc;
    }
    if (frame.info->type == FRAME_HELLO) {
        return error_set(err, EPROTO, "a second HELLO on one connection");
    }
    if (frame.session != peer->session || frame.seq != peer->received) {
        return error_set(err, EPROTO,
                         "messages were lost: %s number %" PRIu64 " came where %" PRIu64 " was due",
                         frame.info->name, frame.seq, peer->received);
    }
    peer->received++;
    if (frame.info->type == FRAME_BYE) {
        const Dray__Bye *bye = (const Dray__Bye *)frame.message;

        log_write(sessions->options.log, LEVEL_INFO, "%s %s says goodbye%s%s", role_name(peer), peer->name,
                  bye->why != NULL ? ": " : "", bye->why != NULL ? bye->why->text : "");
        forget(sessions, peer, SESSION_BYE, "it said goodbye");
        return 0;
    }
    return sessions->handler.received(sessions->handler.arg, peer, &frame, message, err);
}

// Of a message that may be anything; 0: none.
static unsigned type_of(const struct message *message)
{
    return message->frames > 1 && message->frame[1].size >= FRAME_HEADER ? message->frame[1].data[5] : 0;
}

bool sessions_receive(struct sessions *sessions)
{
    struct message message;
    struct arena *arena;
    struct peer *peer;
    struct error err = {0};
    int rc = socket_receive(sessions->socket, &message);

    if (rc <= 0) {
        return false;
    }
    if (message.frames < 1) {
        message_fini(&message);
        return true;
    }
    peer = peers_by_route(sessions->peers, message.frame[0].data, message.frame[0].size);
    arena = sessions->handler.begun(sessions->handler.arg, peer, type_of(&message));
    if (arena == NULL) {
        if (peer != NULL) {
            sessions_end(sessions, peer, ENOMEM, "the broker has no memory for its messages");
        }
    } else if (peer == NULL) {
        meet_stranger(sessions, &message, arena);
    } else {
        peer->heard_us = monotonic_us();
        rc = message.frames < 2 ? error_set(&err, EBADMSG, "an empty message")
                                : handle(sessions, peer, &message, arena, &err);
        if (rc != 0) {
            sessions_end(sessions, peer, -rc, err.text);
        }
    }
    message_fini(&message);
    return true;
}

// ---- time -----------------------------------------------------------------------

// A large message takes its time on a slow link: that its bytes come is a sign of life.
static bool is_heard(struct sessions *sessions, struct peer *peer, uint64_t now, uint64_t timeout)
{
    struct socket_signs signs;

    if (socket_signs(sessions->socket, peer->route, peer->route_size, &signs) != 0 ||
        signs.received_us > timeout) {
        return false;
    }
    peer->heard_us = now - signs.received_us;
    return true;
}

static void check_silence(struct sessions *sessions, uint64_t now)
{
    for (struct peer *peer = sessions->peers->first; peer != NULL; peer = peer->next) {
        struct error why = {0};
        uint64_t timeout = timeout_us(sessions, peer);
        // Were we stopped ourselves, then nobody could be heard: everybody gets half the time again.
        bool slept = now - sessions->tick_us > timeout / 2;

        if (peer->gone) {
            continue;
        }
        if (peer->cut_us != 0) {
            check_cut(sessions, peer, now);
            continue;
        }
        if (slept && now - peer->heard_us > timeout / 2) {
            peer->heard_us = now - timeout / 2;
        }
        if (now > peer->heard_us && now - peer->heard_us > timeout &&
            !is_heard(sessions, peer, now, timeout)) {
            error_set(&why, ETIMEDOUT, "not heard of for %.1f s", (double)(now - peer->heard_us) / 1e6);
            sessions_end(sessions, peer, ETIMEDOUT, why.text);
        }
    }
}

void sessions_flush(struct sessions *sessions)
{
    if (!sessions->waiting) {
        return;
    }
    sessions->waiting = false;
    for (struct peer *peer = sessions->peers->first; peer != NULL; peer = peer->next) {
        if (!peer->gone && peer->cut_us == 0 &&
            backlog_flush(peer->backlog, sessions->socket, peer->route, peer->route_size) == -EHOSTUNREACH) {
            cut(sessions, peer);
        } else if (peer->full && !peer->gone) {
            look_at_backlog(sessions, peer);
        }
        sessions->waiting = sessions->waiting || (!peer->gone && peer->cut_us == 0 &&
                                                  (peer->full || backlog_bytes(peer->backlog) > 0));
    }
}

// Bytes that have arrived at its host.  What of a large message has gone out is not seen otherwise.
static uint64_t delivered(struct sessions *sessions, const struct peer *peer)
{
    struct socket_signs signs;

    return socket_signs(sessions->socket, peer->route, peer->route_size, &signs) == 0 ? signs.delivered : 0;
}

static void check_stalled(struct sessions *sessions, uint64_t now)
{
    uint64_t stalled = (uint64_t)sessions->options.stalled_ms * 1000;
    bool slept = now - sessions->tick_us > stalled / 2 + HELD_UP_US;

    for (struct peer *peer = sessions->peers->first; peer != NULL; peer = peer->next) {
        struct error why = {0};
        uint64_t passed;

        if (!peer->full || peer->gone || peer->cut_us != 0) {
            continue;
        }
        passed = backlog_passed(peer->backlog) + delivered(sessions, peer);
        if (slept && now > peer->full_us && now - peer->full_us > stalled / 2) {
            peer->full_us = now - stalled / 2; // as in check_silence: nothing could pass
        }
        if (passed != peer->full_passed) {
            peer->full_passed = passed;
            peer->full_us = now;
        } else if (now > peer->full_us && now - peer->full_us > stalled) {
            error_set(&why, ENOBUFS, "too slow: it has read nothing for %.1f s, and %zu MB wait for it",
                      (double)(now - peer->full_us) / 1e6, backlog_bytes(peer->backlog) >> 20);
            sessions_end(sessions, peer, ENOBUFS, why.text);
        }
    }
}

static void cut_endless(struct sessions *sessions)
{
    char address[SOCKET_ADDRESS_MAX];
    struct error why = {0};

    if (socket_guard(sessions->socket, address) > 0) {
        error_set(&why, EMSGSIZE, "one without an end, from %s, which is disconnected", address);
        tell_stranger(sessions, address, strlen(address), why.text);
    }
}

void sessions_tick(struct sessions *sessions)
{
    uint64_t now = monotonic_us();
    Dray__Heartbeat message = DRAY__HEARTBEAT__INIT;

    cut_endless(sessions);
    sessions_watch(sessions);
    check_silence(sessions, now);
    check_stalled(sessions, now);
    sessions->tick_us = now;
    if (now - sessions->beat_us < (uint64_t)sessions->options.heartbeat_ms * 1000) {
        return;
    }
    sessions->beat_us = now;
    message.time_us = now;
    for (struct peer *peer = sessions->peers->first; peer != NULL; peer = peer->next) {
        sessions_send(sessions, peer, FRAME_HEARTBEAT, &message.base, NULL, 0);
    }
}
