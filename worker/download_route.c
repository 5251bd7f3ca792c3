// On which way partitions come: over a connection to the worker that holds them, or by way of the broker.
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"
#include "worker/download_state.h"

enum {
    SILENCE_US = 5000000,   // of who is connected
    UNREACHED_US = 1500000, // a connection takes no longer, a lost packet included
    CUT_US = 2000000,       // nothing of what was said to it was acknowledged
    REFUSALS_MAX = 3,
    IDLE_US = 30000000,         // then a connection is closed
    DIRECT_AGAIN_US = 30000000, // is tried, where there was no way
    RESET_AGAIN_US = 1000000,   // ... and where there was one
};

static void look_for_end(struct source *source);

static void on_watch(void *arg, short revents)
{
    (void)revents;
    look_for_end(arg);
}

// ---- connections ------------------------------------------------------------------

static void on_readable(void *arg);

static void disconnect(struct source *source)
{
    if (source->socket != NULL) {
        loop_remove_fd(source->owner->loop, socket_watch_fd(source->socket));
        loop_remove_socket(source->owner->loop, source->socket);
        socket_destroy(source->socket, 0);
        source->socket = NULL;
    }
    source->under_way = 0; // there are no answers to wait for
}

static int connect_to(struct source *source, const char *endpoint, struct error *err)
{
    const struct socket_options options = {
        .frame_bytes_max = FRAME_PAYLOAD_MAX + 4096,
        .send_messages_max = QUEUE_MESSAGES,
        .receive_messages_max = QUEUE_MESSAGES,
        .reconnect_ms = 5,
        .watch = true,
    };
    struct error unused;
    int rc;

    if (err == NULL) {
        err = &unused;
    }
    source->socket = socket_create(SOCKET_DEALER, &options, err);
    if (source->socket == NULL) {
        return -err->code;
    }
    rc = socket_connect(source->socket, endpoint, err);
    if (rc == 0) {
        rc = loop_add_socket(source->owner->loop, source->socket, on_readable, source);
    }
    if (rc == 0) {
        rc = loop_add_fd(source->owner->loop, socket_watch_fd(source->socket), POLLIN, on_watch, source);
    }
    if (rc != 0) {
        disconnect(source);
    }
    return rc;
}

static int send_direct(struct source *source, const Dray__Fetch *message)
{
    uint8_t bytes[FRAME_HEADER + 128 + 5 * FRAME_FETCH_MAX];
    size_t size = frame_size(&message->base);

    if (size > sizeof(bytes)) {
        return -EMSGSIZE; // it cannot: a few numbers
    }
    frame_encode(FRAME_FETCH, source->incarnation, 0, &message->base, bytes);
    return socket_send(source->socket, NULL, 0, bytes, size, NULL, 0);
}

bool route_send(struct source *source, Dray__Fetch *message)
{
    struct downloads *owner = source->owner;
    uint64_t now;

    if (!source->by_broker) {
        if (send_direct(source, message) != 0) {
            return false;
        }
        source->under_way++;
        return true;
    }
    now = monotonic_us(); // not later than it is asked
    message->has_worker = message->has_incarnation = true;
    message->worker = source->worker;
    message->incarnation = source->incarnation;
    if (errands_full(&owner->errands) || owner->handler.ask_broker(owner->handler.arg, message) != 0) {
        return false;
    }
    errands_add(&owner->errands, message->tag, source, now);
    return true;
}

// ---- by way of the broker -----------------------------------------------------------

// False: there is no such way.
static bool go_by_broker(struct source *source, uint64_t again_us, const char *endpoint, const char *why)
{
    if (source->owner->handler.ask_broker == NULL) {
        return false;
    }
    disconnect(source);
    source->endpoint = 0;
    source->by_broker = true;
    source->said = false;
    source->direct_us = monotonic_us() + again_us;
    snprintf(source->why, sizeof(source->why), "%.150s: %.100s", endpoint, why);
    downloads_ask_again(source);
    downloads_ask_source(source);
    return true;
}

void route_detoured(struct source *source)
{
    struct downloads_handler *handler = &source->owner->handler;
    char text[400];

    if (source->by_broker && !source->said) {
        source->said = true;
        snprintf(text, sizeof(text),
                 "worker %" PRIu32
                 " cannot be reached from here (%s): what it holds comes through the broker, "
                 "which is slow",
                 source->worker, source->why);
        handler->tell(handler->arg, text);
    }
}

// Who was asked has answered.
static void go_direct(struct source *source)
{
    struct downloads_handler *handler = &source->owner->handler;
    char text[160];

    if (source->said) {
        snprintf(text, sizeof(text),
                 "worker %" PRIu32 " can be reached from here again: what it holds comes straight from there",
                 source->worker);
        handler->tell(handler->arg, text);
    }
    source->by_broker = source->said = false;
    source->under_way = 0;
    // What the broker was asked may come twice then: its answers are of no more use.
    downloads_ask_again(source);
    downloads_ask_source(source);
}

static void end_probe(struct source *source, size_t endpoints)
{
    disconnect(source);
    source->endpoint++;
    if (source->endpoint >= endpoints) {
        source->endpoint = 0;
        source->direct_us = monotonic_us() + DIRECT_AGAIN_US;
    }
}

// Is there a way again?  Any answer of who is meant says so, and this one costs nothing: no job is number 0.
static void probe(struct source *source, const struct fetch *fetch, uint64_t now)
{
    Dray__Fetch message = DRAY__FETCH__INIT;

    message.length = 1;
    if (source->endpoint >= fetch->endpoints) {
        source->endpoint = 0;
        source->direct_us = now + DIRECT_AGAIN_US;
    } else if (connect_to(source, fetch->endpoint[source->endpoint], NULL) != 0 ||
               send_direct(source, &message) != 0) {
        end_probe(source, fetch->endpoints);
    } else {
        source->direct_us = now + UNREACHED_US;
    }
}

// ---- what comes -------------------------------------------------------------------

static const char *endpoint_of(const struct source *source)
{
    const struct fetch *fetch = source->download != NULL ? source->download->fetch : NULL;

    return fetch != NULL && source->endpoint < fetch->endpoints ? fetch->endpoint[source->endpoint] : "?";
}

// Who answers is not who was asked.
static void distrust(struct source *source, int code, const char *why)
{
    if (source->by_broker) {
        end_probe(source, source->download != NULL ? source->download->fetch->endpoints : 0);
    } else if (source->download == NULL || source->owner->handler.ask_broker == NULL) {
        downloads_fail_all(source, code, why);
    } else {
        go_by_broker(source, DIRECT_AGAIN_US, endpoint_of(source), why);
    }
}

static void on_message(struct source *source, const struct message *message, struct arena *arena)
{
    struct frame frame;
    struct error err = {0};
    int rc = message->frames == 0 ? -EBADMSG
                                  : frame_decode(message->frame[0].data, message->frame[0].size, FROM_WORKER,
                                                 arena, &frame, &err);

    if (rc != 0 || frame.info->type != FRAME_PIECE) {
        distrust(source, EBADMSG, "what answers at its address is no worker of Dray's");
    } else if (frame.session != source->incarnation) {
        distrust(source, ENOENT, "another process answers at its address");
    } else if (source->by_broker) {
        go_direct(source);
    } else {
        downloads_take(source, (const Dray__Piece *)frame.message,
                       message->frames == 2 ? &message->frame[1] : NULL);
    }
}

static void on_readable(void *arg)
{
    struct source *source = arg;
    struct message message;
    struct arena arena;

    arena_init(&arena, (size_t)1 << 20);
    while (source->socket != NULL && socket_receive(source->socket, &message) == 1) {
        on_message(source, &message, &arena);
        downloads_ask_source(source);
        message_fini(&message);
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

// ---- begin and end ------------------------------------------------------------------

static struct source *find_source(struct downloads *downloads, const struct fetch *fetch)
{
    struct source *source = downloads->source;

    while (source != NULL && source->incarnation != fetch->incarnation) {
        source = source->next;
    }
    return source;
}

static struct source *add_source(struct downloads *downloads, const struct fetch *fetch)
{
    struct source *source = calloc(1, sizeof(*source));

    if (source != NULL) {
        source->owner = downloads;
        source->incarnation = fetch->incarnation;
        source->next = downloads->source;
        downloads->source = source;
    }
    return source;
}

// A way for its first partition.
static int open_route(struct source *source, const struct fetch *fetch, struct error *err)
{
    int rc = error_set(err, EHOSTUNREACH, "it cannot be reached by other workers");

    if (source->by_broker || source->socket != NULL) {
        return 0;
    }
    for (source->endpoint = 0; source->endpoint < fetch->endpoints; source->endpoint++) {
        rc = connect_to(source, fetch->endpoint[source->endpoint], err);
        if (rc == 0) {
            return 0;
        }
    }
    return go_by_broker(source, DIRECT_AGAIN_US, fetch->endpoints > 0 ? fetch->endpoint[0] : "no address",
                        err->text)
               ? 0
               : rc;
}

static void refuse(struct downloads *downloads, struct fetch *fetch, int rc)
{
    fetch->rc = rc;
    downloads->handler.done(downloads->handler.arg, fetch);
}

void downloads_start(struct downloads *downloads, struct fetch *fetch)
{
    struct source *source = find_source(downloads, fetch);
    struct download *download = calloc(1, sizeof(*download));
    struct download **end;
    int rc;

    if (source == NULL) {
        source = add_source(downloads, fetch);
    }
    if (source == NULL || download == NULL) {
        free(download);
        refuse(downloads, fetch, error_no_memory(&fetch->err));
        return;
    }
    rc = open_route(source, fetch, &fetch->err);
    if (rc != 0) {
        free(download);
        refuse(downloads, fetch, rc);
        return;
    }
    fetch->err = (struct error){0};
    source->worker = fetch->worker; // it has another number when it comes back
    download->fetch = fetch;
    download->heard_us = source->used_us = monotonic_us();
    for (end = &source->download; *end != NULL;) {
        end = &(*end)->next;
    }
    *end = download;
}

struct downloads *downloads_create(struct loop *loop, struct budget *budget,
                                   const struct downloads_handler *handler)
{
    struct downloads *downloads = calloc(1, sizeof(*downloads));

    if (downloads != NULL) {
        *downloads = (struct downloads){.loop = loop, .budget = budget, .handler = *handler, .next_tag = 1};
    }
    return downloads;
}

static void destroy_source(struct downloads *downloads, struct source *source)
{
    disconnect(source);
    errands_disown(&downloads->errands, source);
    free(source);
}

void downloads_destroy(struct downloads *downloads)
{
    if (downloads == NULL) {
        return;
    }
    while (downloads->source != NULL) {
        struct source *source = downloads->source;

        downloads_fail_all(source, ECANCELED, "the worker stops");
        downloads->source = source->next;
        destroy_source(downloads, source);
    }
    free(downloads);
}

// ---- time -------------------------------------------------------------------------

// There is no (more) way over this connection.
static void give_up(struct source *source, uint64_t again_us, int code, const char *why)
{
    if (!go_by_broker(source, again_us, endpoint_of(source), why)) {
        downloads_fail_all(source, code, why);
        disconnect(source);
    }
}

// Everything that is under way is asked for anew, at its next address.
static bool try_next_endpoint(struct source *source)
{
    const struct fetch *fetch = source->download->fetch;

    while (source->endpoint + 1 < fetch->endpoints) {
        disconnect(source);
        source->endpoint++;
        if (connect_to(source, fetch->endpoint[source->endpoint], NULL) == 0) {
            downloads_ask_again(source);
            downloads_ask_source(source);
            return true;
        }
    }
    return false;
}

// A worker that was killed ends its connections, and nobody listens where it did.  It does not come back as
// the process that was asked, so nothing is waited for: the broker knows whether it is there.
static void look_for_end(struct source *source)
{
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    size_t size;
    bool ended = source->socket != NULL && socket_ended(source->socket, route, &size) == 1;

    if (source->socket == NULL || (!ended && socket_refusals(source->socket) < REFUSALS_MAX)) {
        return;
    }
    if (source->by_broker) {
        end_probe(source, source->download != NULL ? source->download->fetch->endpoints : 0);
    } else if (source->download == NULL) {
        disconnect(source);
    } else if (ended) {
        give_up(source, RESET_AGAIN_US, ECONNRESET, "the connection has ended");
    } else if (!try_next_endpoint(source)) {
        give_up(source, DIRECT_AGAIN_US, ECONNREFUSED, "nobody listens there any more");
    }
}

// Whether somebody who has said nothing for so long is still to be waited for.  Bytes of a large piece on a
// slow link are no silence; where there is no connection, or nothing is acknowledged, nothing will come.
// NULL: he is.
static const char *silence(const struct source *source, uint64_t silent_us)
{
    struct socket_signs signs = {0};
    int rc;

    if (silent_us <= UNREACHED_US) {
        return NULL;
    }
    rc = socket_signs(source->socket, NULL, 0, &signs);
    if (rc == -ENOENT) {
        return "no connection";
    }
    if (rc == 0 && signs.received_us < silent_us) {
        silent_us = signs.received_us;
    }
    if (rc == 0 && silent_us > CUT_US && signs.acknowledged_us > CUT_US) {
        return "its host does not answer any more";
    }
    return silent_us > SILENCE_US ? "it does not answer" : NULL;
}

static void check_silence(struct source *source, uint64_t now)
{
    struct download *next;

    look_for_end(source);
    for (struct download *download = source->download;
         download != NULL && !source->by_broker && source->socket != NULL; download = next) {
        uint64_t silent_us = now > download->heard_us ? now - download->heard_us : 0;
        const char *why = download->asked == 0 ? NULL : silence(source, silent_us);

        next = download->next;
        if (why == NULL) {
            continue;
        }
        if (download->total == 0 && try_next_endpoint(source)) {
            return;
        }
        if (go_by_broker(source, DIRECT_AGAIN_US, endpoint_of(source), why)) {
            return;
        }
        if (silent_us > SILENCE_US) {
            struct error err;

            source->under_way = 0; // there are no answers to wait for
            error_set(&err, ETIMEDOUT, "no bytes came from %s for %d s", endpoint_of(source),
                      SILENCE_US / 1000000);
            downloads_fail(source, download, ETIMEDOUT, err.text);
        }
    }
}

static void check_detour(struct source *source, uint64_t now)
{
    const struct download *first;

    look_for_end(source);
    first = source->download;
    if (!source->by_broker || first == NULL || now < source->direct_us) {
        return;
    }
    if (source->socket != NULL) {
        end_probe(source, first->fetch->endpoints); // no answer
    }
    if (now >= source->direct_us) {
        probe(source, first->fetch, now);
    }
}

// The broker answers for who is silent, if it is there.
static void drop_late(struct downloads *downloads, uint64_t now)
{
    struct errand late;

    while (errands_take_late(&downloads->errands, now, &late)) {
        if (late.whose != NULL) {
            downloads_fail_asked(late.whose, late.tag, ETIMEDOUT,
                                 "no bytes came by way of the broker for 300 s");
        }
    }
}

void downloads_tick(struct downloads *downloads)
{
    uint64_t now = monotonic_us();
    struct source **link = &downloads->source;

    drop_late(downloads, now);
    while (*link != NULL) {
        struct source *source = *link;

        if (source->by_broker) {
            check_detour(source, now);
        } else {
            check_silence(source, now);
        }
        if (source->download != NULL) {
            source->used_us = now;
        }
        downloads_ask_source(source);
        if (source->download == NULL && now > source->used_us && now - source->used_us > IDLE_US) {
            *link = source->next;
            destroy_source(downloads, source);
        } else {
            link = &source->next;
        }
    }
}
