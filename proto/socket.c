#include "proto/socket.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <czmq.h>

#include "proto/guard.h"
#include "proto/monitor.h"
#include "proto/number.h"

enum {
    FRAME_BYTES_DEFAULT = 64 << 20,
    QUEUE_DEFAULT = 1000,
    RECONNECT_DEFAULT_MS = 10,
    RECONNECT_MAX_MS = 1000,
    SOCKETS_MAX = 4096, // libzmq keeps an array of as many slots
    BACKLOG = 1024,
    // Below this a copy is cheaper than libzmq's shared content and a call from its I/O thread.
    COPY_BELOW = 16 << 10,
    CHUNK_FRAMES = 8,
    ENDPOINT_MAX = 512,
    // ZMTP: flags and a length of 1 byte, or of 8 bytes.
    SHORT_FRAME_MAX = 255,
    SHORT_FRAME_HEAD = 2,
    LONG_FRAME_HEAD = 9,
};

// A path of a local socket that we made.  libzmq leaves it behind.
struct bound_path {
    struct bound_path *next;
    dev_t device;
    ino_t inode;
    char path[];
};

struct socket {
    zsock_t *zsock;
    void *handle; // libzmq's
    enum socket_kind kind;
    int fd;
    char endpoint[ENDPOINT_MAX];
    struct bound_path *paths;
    struct monitor *monitor; // or NULL
    struct guard_limits limits;
};

// The frames of one message.  A frame's bytes may lie inside its zmq_msg_t, so
// these never move; one small malloc serves nearly all messages.
struct chunk {
    struct chunk *next;
    size_t count;
    zmq_msg_t frame[CHUNK_FRAMES];
};

// The process has one ZeroMQ context; czmq aborts when its limits are set while a socket is open.
static pthread_mutex_t context_lock = PTHREAD_MUTEX_INITIALIZER;
static bool context_ready;

void sockets_init(void)
{
    pthread_mutex_lock(&context_lock);
    if (!context_ready) {
        zsys_handler_set(NULL); // before zsys_init, which would take SIGINT and SIGTERM
        zsys_init();
        zsys_set_logstream(NULL);
        zsys_set_max_sockets(SOCKETS_MAX);
        context_ready = true;
    }
    pthread_mutex_unlock(&context_lock);
}

void sockets_fini(void)
{
    pthread_mutex_lock(&context_lock);
    if (context_ready) {
        zsys_set_linger(0);
        zsys_shutdown();
        context_ready = false;
    }
    pthread_mutex_unlock(&context_lock);
}

struct socket *socket_create(enum socket_kind kind, const struct socket_options *options, struct error *err)
{
    struct socket *socket = calloc(1, sizeof(*socket));
    int hwm;

    if (socket == NULL) {
        error_no_memory(err);
        return NULL;
    }
    socket->kind = kind;
    socket->zsock = zsock_new(kind == SOCKET_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (socket->zsock == NULL) {
        error_set(err, errno == 0 ? EMFILE : errno,
                  "cannot make a network socket: %s (limits: %d ZeroMQ sockets, and `ulimit -n`)",
                  zmq_strerror(errno == 0 ? EMFILE : errno), SOCKETS_MAX);
        free(socket);
        return NULL;
    }
    socket->handle = zsock_resolve(socket->zsock);
    zsock_set_linger(socket->zsock, 0);
    hwm = options->send_messages_max;
    zsock_set_sndhwm(socket->zsock, hwm > 0 ? hwm : QUEUE_DEFAULT);
    hwm = options->receive_messages_max;
    zsock_set_rcvhwm(socket->zsock, hwm > 0 ? hwm : QUEUE_DEFAULT);
    zsock_set_reconnect_ivl(socket->zsock,
                            options->reconnect_ms > 0 ? options->reconnect_ms : RECONNECT_DEFAULT_MS);
    zsock_set_reconnect_ivl_max(socket->zsock, RECONNECT_MAX_MS);
    zsock_set_backlog(socket->zsock, BACKLOG);
    if (kind == SOCKET_ROUTER) {
        zsock_set_router_mandatory(socket->zsock, 1);
    }
    // zsock_set_maxmsgsize takes an int.
    int64_t bytes_max =
        options->frame_bytes_max > 0 ? (int64_t)options->frame_bytes_max : (int64_t)FRAME_BYTES_DEFAULT;
    zmq_setsockopt(socket->handle, ZMQ_MAXMSGSIZE, &bytes_max, sizeof(bytes_max));

    size_t size = sizeof(socket->fd);

    if (zmq_getsockopt(socket->handle, ZMQ_FD, &socket->fd, &size) != 0) {
        error_set(err, errno, "cannot make a network socket: %s", zmq_strerror(errno));
        socket_destroy(socket, 0);
        return NULL;
    }
    if (kind == SOCKET_ROUTER && options->unfinished_bytes_max > 0) {
        socket->limits.stranger_bytes = options->unfinished_bytes_max;
        socket->limits.trusted_bytes = options->unfinished_trusted_max > options->unfinished_bytes_max
                                           ? options->unfinished_trusted_max
                                           : options->unfinished_bytes_max;
    }
    if (options->watch || socket->limits.stranger_bytes > 0) {
        socket->monitor = monitor_create(socket->handle, kind == SOCKET_ROUTER, options->watch);
        if (socket->monitor == NULL) {
            error_set(err, errno, "cannot watch a network socket: %s", zmq_strerror(errno));
            socket_destroy(socket, 0);
            return NULL;
        }
    }
    return socket;
}

// Unless somebody else has put a socket of their own there.
static void remove_paths(struct socket *socket)
{
    while (socket->paths != NULL) {
        struct bound_path *bound = socket->paths;
        struct stat st;

        if (lstat(bound->path, &st) == 0 && st.st_dev == bound->device && st.st_ino == bound->inode) {
            unlink(bound->path);
        }
        socket->paths = bound->next;
        free(bound);
    }
}

void socket_destroy(struct socket *socket, int linger_ms)
{
    if (socket != NULL) {
        remove_paths(socket);
        zsock_set_linger(socket->zsock, linger_ms);
        monitor_destroy(socket->monitor);
        zsock_destroy(&socket->zsock);
        free(socket);
    }
}

// ---- endpoints -------------------------------------------------------------------

static const char *ipc_path(const char *endpoint)
{
    return strncmp(endpoint, "ipc://", 6) == 0 ? endpoint + 6 : NULL;
}

static int check_endpoint(const char *endpoint, struct error *err)
{
    const char *path = ipc_path(endpoint);
    const size_t path_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

    if (strlen(endpoint) >= ENDPOINT_MAX) {
        return error_set(err, ENAMETOOLONG, "the address \"%.60s...\" is too long", endpoint);
    }
    if (path != NULL) {
        if (path[0] == '\0') {
            return error_set(err, EINVAL, "\"%s\" names no path: write ipc:///tmp/dray.sock, say", endpoint);
        }
        if (strlen(path) > path_max) {
            return error_set(err, ENAMETOOLONG,
                             "the path of \"%s\" has %zu bytes; the system allows %zu for a local socket: "
                             "choose a shorter folder",
                             endpoint, strlen(path), path_max);
        }
        return 0;
    }
    if (strncmp(endpoint, "tcp://", 6) != 0) {
        return error_set(err, EINVAL, "\"%s\" is no address: expected tcp://HOST:PORT or ipc://PATH",
                         endpoint);
    }
    const char *port = strrchr(endpoint + 6, ':');

    if (port == NULL || port == endpoint + 6 || port[1] == '\0') {
        return error_set(err, EINVAL, "\"%s\" has no host or no port: expected tcp://HOST:PORT", endpoint);
    }
    // libzmq would take 99999 for 34463.
    int64_t number;

    if (strcmp(port, ":*") != 0 &&
        (!number_parse_int64(port + 1, strlen(port + 1), &number) || number < 0 || number > UINT16_MAX)) {
        return error_set(err, EINVAL, "\"%s\" is no valid address: the port is a number up to 65535",
                         endpoint);
    }
    return 0;
}

// libzmq removes whatever lies at the path that it binds: a live socket of somebody
// else as well as a file.
static int check_ipc_free(const char *endpoint, struct error *err)
{
    const char *path = ipc_path(endpoint);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    int fd, rc;

    if (path == NULL || path[0] == '@' || path[0] == '*' || lstat(path, &st) != 0) {
        return 0;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return error_set(err, EEXIST, "cannot listen on %s: a file is there that is no socket", endpoint);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return error_set(err, errno, "cannot listen on %s: %s", endpoint, strerror(errno));
    }
    memcpy(address.sun_path, path, strlen(path));
    rc = connect(fd, (const struct sockaddr *)&address, sizeof(address));
    close(fd);
    if (rc == 0 || errno == EAGAIN) {
        return error_set(err, EADDRINUSE, "cannot listen on %s: another process listens there", endpoint);
    }
    return 0;
}

static const char *bind_error_text(int code)
{
    switch (code) {
    case EADDRINUSE:
        return "another process listens there (choose another port, or end that process)";
    case EACCES:
    case EPERM:
        return "no permission (ports below 1024 and foreign folders need more rights)";
    case EADDRNOTAVAIL:
    case ENODEV:
        return "this machine has no such address or network interface";
    case ENOENT:
        return "its folder does not exist";
    case EINVAL:
        return "it is no valid address: expected tcp://HOST:PORT, tcp://*:PORT or ipc://PATH";
    default:
        return zmq_strerror(code);
    }
}

static void allow_ipv6(struct socket *socket, const char *endpoint)
{
    // Not for names: a name may resolve to ::1 while the broker listens on 127.0.0.1.
    if (strchr(endpoint, '[') != NULL) {
        zsock_set_ipv6(socket->zsock, 1);
    }
}

static void remember_path(struct socket *socket)
{
    const char *path = ipc_path(socket->endpoint);
    struct bound_path *bound;
    struct stat st;

    if (path == NULL || path[0] == '@' || lstat(path, &st) != 0) {
        return;
    }
    bound = malloc(sizeof(*bound) + strlen(path) + 1);
    if (bound != NULL) {
        bound->next = socket->paths;
        bound->device = st.st_dev;
        bound->inode = st.st_ino;
        memcpy(bound->path, path, strlen(path) + 1);
        socket->paths = bound;
    }
}

int socket_bind(struct socket *socket, const char *endpoint, struct error *err)
{
    int rc = check_endpoint(endpoint, err);

    if (rc == 0) {
        rc = check_ipc_free(endpoint, err);
    }
    if (rc != 0) {
        return rc;
    }
    allow_ipv6(socket, endpoint);
    if (zmq_bind(socket->handle, endpoint) != 0) {
        int code = errno;

        return error_set(err, code, "cannot listen on %s: %s", endpoint, bind_error_text(code));
    }
    size_t size = sizeof(socket->endpoint);

    if (zmq_getsockopt(socket->handle, ZMQ_LAST_ENDPOINT, socket->endpoint, &size) != 0) {
        memcpy(socket->endpoint, endpoint, strlen(endpoint) + 1);
    }
    remember_path(socket);
    return 0;
}

int socket_connect(struct socket *socket, const char *endpoint, struct error *err)
{
    int rc = check_endpoint(endpoint, err);

    if (rc != 0) {
        return rc;
    }
    allow_ipv6(socket, endpoint);
    if (zmq_connect(socket->handle, endpoint) != 0) {
        int code = errno;

        return error_set(err, code, "cannot connect to %s: %s", endpoint,
                         code == EINVAL ? "it is no valid address: expected tcp://HOST:PORT or ipc://PATH"
                                        : zmq_strerror(code));
    }
    return 0;
}

const char *socket_endpoint(const struct socket *socket)
{
    return socket->endpoint;
}

// ---- receiving -------------------------------------------------------------------

static zmq_msg_t *next_frame(struct message *message)
{
    struct chunk *chunk = message->private_frames;

    if (chunk == NULL || chunk->count == CHUNK_FRAMES) {
        struct chunk *fresh = malloc(sizeof(*fresh));

        if (fresh == NULL) {
            return NULL;
        }
        fresh->next = chunk;
        fresh->count = 0;
        message->private_frames = fresh;
        chunk = fresh;
    }
    zmq_msg_t *frame = &chunk->frame[chunk->count++];

    zmq_msg_init(frame);
    return frame;
}

static int receive_frame(struct socket *socket, zmq_msg_t *frame)
{
    while (zmq_msg_recv(frame, socket->handle, ZMQ_DONTWAIT) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

static uint64_t wire_bytes(const zmq_msg_t *frame)
{
    size_t size = zmq_msg_size(frame);

    return size + (size > SHORT_FRAME_MAX ? LONG_FRAME_HEAD : SHORT_FRAME_HEAD);
}

// The rest of a message that is of no use.  Returns its bytes on the wire.
static uint64_t skip_frames(struct socket *socket, bool more)
{
    zmq_msg_t frame;
    uint64_t bytes = 0;

    zmq_msg_init(&frame);
    while (more && receive_frame(socket, &frame) == 0) {
        more = zmq_msg_more(&frame) != 0;
        bytes += wire_bytes(&frame);
    }
    zmq_msg_close(&frame);
    return bytes;
}

int socket_receive(struct socket *socket, struct message *message)
{
    bool more = true;
    uint64_t wire = 0; // frame 0 of a ROUTER is not from there
    int rc = 0;

    message->frames = 0;
    message->bytes = 0;
    message->connection = -1;
    message->private_frames = NULL;
    while (more) {
        zmq_msg_t *frame = next_frame(message);

        if (frame == NULL) {
            rc = -ENOMEM; // and the message stays, or loses what was read of it
            wire += skip_frames(socket, message->frames > 0);
            break;
        }
        rc = receive_frame(socket, frame);
        if (rc != 0) {
            break;
        }
        more = zmq_msg_more(frame) != 0;
        message->frame[message->frames].data = zmq_msg_data(frame);
        message->frame[message->frames].size = zmq_msg_size(frame);
        message->bytes += zmq_msg_size(frame);
        message->frames++;
        if (message->frames == 2 && socket->monitor != NULL) {
            message->connection = zmq_msg_get(frame, ZMQ_SRCFD);
        }
        wire += message->frames > 1 ? wire_bytes(frame) : 0;
        if (more && message->frames == SOCKET_FRAMES_MAX) {
            wire += skip_frames(socket, true);
            rc = -EAGAIN;
            break;
        }
    }
    if (socket->monitor != NULL && socket->kind == SOCKET_ROUTER && message->frames > 1) {
        monitor_delivered(socket->monitor, message->connection, message->frame[0].data,
                          message->frame[0].size, wire);
    }
    if (rc != 0) {
        message_fini(message);
        return rc == -EAGAIN ? 0 : rc;
    }
    return 1;
}

static bool is_ready(void *arg)
{
    return socket_ready(arg);
}

size_t socket_guard(struct socket *socket, char address[SOCKET_ADDRESS_MAX])
{
    if (socket->limits.stranger_bytes == 0) {
        return 0;
    }
    monitor_drain(socket->monitor);
    return guard_check(socket->monitor, &socket->limits, is_ready, socket, address, SOCKET_ADDRESS_MAX);
}

void socket_trust(struct socket *socket, const struct message *message)
{
    if (socket->monitor != NULL) {
        guard_trust(socket->monitor, message->connection);
    }
}

int socket_watch_fd(const struct socket *socket)
{
    return socket->monitor == NULL ? -1 : socket->monitor->fd;
}

int socket_ended(struct socket *socket, uint8_t route[SOCKET_ROUTING_ID_MAX], size_t *route_size)
{
    if (socket->monitor == NULL) {
        return 0;
    }
    monitor_drain(socket->monitor);
    return socket->monitor->endings == 0
               ? 0
               : monitor_ended(socket->monitor, !socket_ready(socket), route, route_size);
}

unsigned socket_refusals(struct socket *socket)
{
    if (socket->monitor == NULL) {
        return 0;
    }
    monitor_drain(socket->monitor);
    return socket->monitor->refusals;
}

int socket_signs(struct socket *socket, const void *route, size_t route_size, struct socket_signs *out)
{
    if (socket->monitor == NULL) {
        return -ENOENT;
    }
    monitor_drain(socket->monitor);
    return monitor_signs(socket->monitor, route, route_size, out);
}

void message_fini(struct message *message)
{
    struct chunk *chunk = message->private_frames;

    while (chunk != NULL) {
        struct chunk *next = chunk->next;

        for (size_t i = 0; i < chunk->count; i++) {
            zmq_msg_close(&chunk->frame[i]);
        }
        free(chunk);
        chunk = next;
    }
    message->private_frames = NULL;
    message->frames = 0;
    message->bytes = 0;
}

static zmq_msg_t *message_frame_at(struct message *message, size_t index)
{
    struct chunk *chunk = message->private_frames;

    // The newest chunk comes first.
    for (size_t newer = (message->frames - 1) / CHUNK_FRAMES - index / CHUNK_FRAMES; newer > 0; newer--) {
        chunk = chunk->next;
    }
    return &chunk->frame[index % CHUNK_FRAMES];
}

static void release_frame(void *owner)
{
    zmq_msg_close(owner);
    free(owner);
}

struct buffer *message_take(struct message *message, size_t frame)
{
    const struct message_frame *f = &message->frame[frame];
    struct buffer *buffer;

    if (f->size < COPY_BELOW) {
        uint8_t *data;

        buffer = buffer_create(f->size, &data);
        if (buffer != NULL && f->size > 0) {
            memcpy(data, f->data, f->size);
        }
        return buffer;
    }
    zmq_msg_t *shared = malloc(sizeof(*shared));

    if (shared == NULL) {
        return NULL;
    }
    zmq_msg_init(shared);
    // libzmq's large frames are refcounted: this shares, it does not copy.
    if (zmq_msg_copy(shared, message_frame_at(message, frame)) != 0) {
        release_frame(shared);
        return NULL;
    }
    buffer = buffer_wrap(zmq_msg_data(shared), f->size, release_frame, shared);
    if (buffer == NULL) {
        release_frame(shared);
    }
    return buffer;
}

// ---- sending ---------------------------------------------------------------------

static void unref_sent(void *data, void *hint)
{
    (void)data;
    buffer_unref(hint);
}

static int init_frame(zmq_msg_t *frame, const void *data, size_t size)
{
    if (zmq_msg_init_size(frame, size) != 0) {
        return -ENOMEM;
    }
    if (size > 0) {
        memcpy(zmq_msg_data(frame), data, size);
    }
    return 0;
}

static int init_buffer_frame(zmq_msg_t *frame, struct buffer *buffer)
{
    if (buffer->size < COPY_BELOW) {
        return init_frame(frame, buffer->data, buffer->size);
    }
    // libzmq takes a pointer to what it may write, but only reads.
    if (zmq_msg_init_data(frame, (void *)(uintptr_t)buffer->data, buffer->size, unref_sent,
                          buffer_ref(buffer)) != 0) {
        buffer_unref(buffer);
        return -ENOMEM;
    }
    return 0;
}

// Takes the frame.
static int send_frame(struct socket *socket, zmq_msg_t *frame, bool first, bool more)
{
    bool asked = false;

    while (zmq_msg_send(frame, socket->handle, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0) {
        if (errno == EAGAIN && first && !asked) {
            // libzmq looks only now and then whether the peer has made room; asking for
            // events makes it look.
            asked = true;
            socket_ready(socket);
        } else if (errno != EINTR) {
            int rc = -errno;

            zmq_msg_close(frame);
            return rc;
        }
    }
    return 0;
}

int socket_send(struct socket *socket, const void *route, size_t route_size, const void *frame,
                size_t frame_size, struct buffer *const *buffers, size_t count)
{
    zmq_msg_t head[2];
    zmq_msg_t part;
    int rc;

    if (frame == NULL && count == 0) {
        return -EINVAL;
    }

    // What can fail for lack of memory comes before the first frame leaves, as far as
    // possible: a message cannot be taken back once begun.
    if (frame == NULL) {
        rc = init_buffer_frame(&head[1], buffers[0]);
        buffers++;
        count--;
    } else {
        rc = init_frame(&head[1], frame, frame_size);
    }
    if (rc != 0) {
        return rc;
    }
    if (socket->kind == SOCKET_ROUTER) {
        rc = init_frame(&head[0], route, route_size);
        if (rc == 0) {
            rc = send_frame(socket, &head[0], true, true);
        }
        if (rc != 0) {
            zmq_msg_close(&head[1]);
            return rc;
        }
    }
    rc = send_frame(socket, &head[1], socket->kind == SOCKET_DEALER, count > 0);
    if (rc != 0 && socket->kind == SOCKET_DEALER) {
        return rc;
    }
    // Should the peer go away in between, libzmq still wants the frames to the last one,
    // and drops them; otherwise it would take the next message for the rest of this one.
    for (size_t i = 0; i < count; i++) {
        int part_rc = init_buffer_frame(&part, buffers[i]);

        if (part_rc != 0) {
            zmq_msg_init(&part); // an empty frame: the receiver refuses the message
        }
        int sent = send_frame(socket, &part, false, i + 1 < count);

        part_rc = part_rc != 0 ? part_rc : sent;
        rc = rc != 0 ? rc : part_rc;
    }
    return rc;
}

int socket_fd(const struct socket *socket)
{
    return socket->fd;
}

bool socket_ready(struct socket *socket)
{
    int events = 0;
    size_t size = sizeof(events);

    return zmq_getsockopt(socket->handle, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN) != 0;
}
