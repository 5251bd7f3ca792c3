#include "worker/download.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/payload.h"

enum {
    PIECE_BYTES = 1 << 20,
    WINDOW = 4,        // pieces of one partition under way
    SOURCE_WINDOW = 8, // messages to one worker that it has not answered
    BEGUN_MAX = 8,     // partitions from one worker of which a part is here
    SILENCE_US = 5000000,
    REFUSALS_MAX = 3,
    IDLE_US = 30000000, // then a connection is closed
    QUEUE_MESSAGES = 1000,
};

struct piece {
    bool used;
    bool waits; // it could not be asked for yet
    uint32_t tag;
    uint32_t length;
    uint64_t offset;
};

struct download {
    struct download *next;
    struct fetch *fetch;
    bool begun;
    struct piece piece[WINDOW];
    uint64_t total;    // 0: not known yet
    bool has_checksum; // of the whole
    uint64_t checksum;
    uint32_t position; // among those that were asked for with the same message
    uint64_t asked;
    uint64_t got;
    uint64_t heard_us;
    struct buffer *buffer;
    uint8_t *data;
};

// A connection to one worker process.
struct source {
    struct source *next;
    struct downloads *owner;
    uint32_t worker;
    uint64_t incarnation;
    struct socket *socket;
    size_t endpoint; // which of the fetch's it is connected to
    struct download *download;
    unsigned under_way; // messages that it has not answered
    unsigned begun;     // downloads of which the size is known
    uint64_t used_us;
};

struct downloads {
    struct loop *loop;
    struct budget *budget;
    void (*done)(void *arg, struct fetch *fetch);
    void *arg;
    struct source *source;
    uint32_t next_tag;
};

// ---- fetch ------------------------------------------------------------------------

struct fetch *fetch_create(size_t endpoints, char *const *endpoint)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (fetch == NULL || (fetch->endpoint = calloc(endpoints + 1, sizeof(char *))) == NULL) {
        free(fetch);
        return NULL;
    }
    for (size_t i = 0; i < endpoints; i++) {
        fetch->endpoint[i] = strdup(endpoint[i]);
        if (fetch->endpoint[i] == NULL) {
            fetch_destroy(fetch, NULL);
            return NULL;
        }
        fetch->endpoints++;
    }
    return fetch;
}

void fetch_destroy(struct fetch *fetch, struct budget *budget)
{
    if (fetch == NULL) {
        return;
    }
    for (size_t i = 0; i < fetch->endpoints; i++) {
        free(fetch->endpoint[i]);
    }
    free(fetch->endpoint);
    partition_unref(fetch->partition);
    if (fetch->charged > 0) {
        budget_give(budget, fetch->charged);
    }
    free(fetch);
}

// ---- the end of a download --------------------------------------------------------

static void unlink_download(struct source *source, struct download *download)
{
    struct download **link = &source->download;

    while (*link != download) {
        link = &(*link)->next;
    }
    *link = download->next;
}

static void finish(struct source *source, struct download *download, int rc)
{
    struct downloads *owner = source->owner;
    struct fetch *fetch = download->fetch;

    unlink_download(source, download);
    source->begun -= download->begun;
    fetch->rc = rc;
    if (rc != 0 && download->total > 0) {
        budget_give(owner->budget, download->total);
    } else if (rc == 0) {
        fetch->charged = download->total;
    }
    buffer_unref(download->buffer);
    free(download);
    owner->done(owner->arg, fetch);
}

static void fail_all(struct source *source, int code, const char *why)
{
    while (source->download != NULL) {
        struct download *download = source->download;

        error_set(&download->fetch->err, code, "%s", why);
        finish(source, download, -code);
    }
}

// ---- asking -----------------------------------------------------------------------

static void ask(struct source *source, const struct download *download, struct piece *piece, uint32_t *also,
                uint32_t n_also)
{
    Dray__Fetch message = DRAY__FETCH__INIT;
    uint8_t bytes[FRAME_HEADER + 128 + 5 * FRAME_FETCH_MAX];
    size_t size;

    piece->tag = source->owner->next_tag++;
    message.tag = piece->tag;
    message.job = download->fetch->job;
    message.layer = download->fetch->layer;
    message.index = download->fetch->index;
    message.offset = piece->offset;
    message.length = piece->length;
    message.also = also;
    message.n_also = n_also;
    size = frame_size(&message.base);
    if (size > sizeof(bytes)) {
        return; // it cannot: a few numbers
    }
    frame_encode(FRAME_FETCH, source->incarnation, 0, &message.base, bytes);
    piece->waits = socket_send(source->socket, NULL, 0, bytes, size, NULL, 0) != 0;
}

static void ask_more(struct source *source, struct download *download)
{
    for (int i = 0; i < WINDOW; i++) {
        struct piece *piece = &download->piece[i];

        if (source->under_way == SOURCE_WINDOW) {
            return;
        }
        if (piece->used) {
            continue;
        }
        if (download->asked >= download->total) {
            return;
        }
        *piece = (struct piece){.used = true, .offset = download->asked, .length = PIECE_BYTES};
        download->asked += PIECE_BYTES;
        source->under_way++;
        ask(source, download, piece, NULL, 0);
    }
}

// With those behind it that are of the same layer and were not asked for either: what does not come with the
// answer is asked for again.  Before its size is known one piece is enough.
static bool ask_first(struct source *source, struct download *download)
{
    struct piece piece = {.used = true, .length = PIECE_BYTES};
    struct download *next = download->next;
    uint32_t also[FRAME_FETCH_MAX], n = 0;

    while (n + 1 < FRAME_FETCH_MAX && next != NULL && next->asked == 0 &&
           next->fetch->job == download->fetch->job && next->fetch->layer == download->fetch->layer) {
        also[n++] = next->fetch->index;
        next = next->next;
    }
    ask(source, download, &piece, also, n);
    if (piece.waits) {
        return false;
    }
    source->under_way++;
    n = 0;
    for (struct download *one = download; one != next; one = one->next) {
        one->piece[0] = piece;
        one->asked = piece.length;
        one->position = n++;
        one->heard_us = monotonic_us();
    }
    return true;
}

// The oldest first: what is nearly complete gets the window.
static void ask_all(struct source *source)
{
    for (struct download *download = source->download; download != NULL && source->under_way < SOURCE_WINDOW;
         download = download->next) {
        if (download->total > 0) {
            ask_more(source, download);
        } else if (download->asked == 0 && source->begun < BEGUN_MAX && !ask_first(source, download)) {
            return; // with the next answer or tick
        }
    }
}

void downloads_ask(struct downloads *downloads)
{
    for (struct source *source = downloads->source; source != NULL; source = source->next) {
        ask_all(source);
    }
}

// ---- receiving --------------------------------------------------------------------

// What comes ahead of its task leaves room for those that run.
static int check_room(const struct budget *budget, const struct fetch *fetch, uint64_t bytes,
                      struct error *err)
{
    uint64_t limit = budget_limit(budget) / 4 * 3;
    uint64_t used = budget_used(budget);

    if (!fetch->ahead || limit == 0 || (used <= limit && bytes <= limit - used)) {
        return 0;
    }
    return error_set(err, ENOMEM,
                     "not enough memory for a partition of %" PRIu64
                     " bytes from another worker, while tasks "
                     "run: %" PRIu64 " of %" PRIu64 " bytes are in use",
                     bytes, used, budget_limit(budget));
}

static int learn_total(struct source *source, struct download *download, uint64_t total)
{
    struct error *err = &download->fetch->err;
    int rc;

    if (download->total > 0) {
        return total == download->total
                   ? 0
                   : error_set(err, EBADMSG, "the size of a partition changed on the way");
    }
    if (total == 0 || total > SIZE_MAX / 2) {
        return error_set(err, EBADMSG, "a partition of %" PRIu64 " bytes cannot be", total);
    }
    rc = check_room(source->owner->budget, download->fetch, total, err);
    if (rc == 0) {
        rc = budget_take(source->owner->budget, total, "a partition from another worker", err);
    }
    if (rc != 0) {
        return rc;
    }
    download->total = total;
    download->begun = true;
    source->begun++;
    download->buffer = buffer_create((size_t)total, &download->data);
    return download->buffer == NULL ? error_no_memory(err) : 0;
}

static int take_bytes(struct source *source, struct download *download, const struct piece *piece,
                      const Dray__Piece *message, const struct message_frame *payload)
{
    struct error *err = &download->fetch->err;
    struct buffer *raw;
    uint64_t expected;
    int rc = learn_total(source, download, message->total);

    if (rc == 0 && message->has_checksum) {
        download->has_checksum = true;
        download->checksum = message->checksum;
    }
    if (rc == 0) {
        rc = payload_decode(payload->data, payload->size, &raw, err);
        download->fetch->damaged = rc == -EBADMSG;
    }
    if (rc != 0) {
        return rc;
    }
    expected = download->total - piece->offset;
    expected = expected < piece->length ? expected : piece->length;
    if (piece->offset >= download->total || raw->size != expected) {
        rc = error_set(err, EBADMSG, "a piece of %zu bytes came where %" PRIu64 " were asked for", raw->size,
                       expected);
    } else {
        memcpy(download->data + piece->offset, raw->data, raw->size);
        download->got += raw->size;
    }
    buffer_unref(raw);
    return rc;
}

// All of it is here.  What was damaged where it was kept is so in every byte that was sent well.
static int open_whole(struct download *download)
{
    struct fetch *fetch = download->fetch;
    struct partition *partition = NULL;
    int rc = partition_decode(download->buffer, &partition, &fetch->err);

    if (rc == 0) {
        rc = partition_seal(partition, &fetch->err);
    }
    if (rc == 0 && download->has_checksum && partition->checksum != download->checksum) {
        rc = error_set(&fetch->err, EBADMSG, "its checksum is wrong: it was damaged there or on the way");
    }
    fetch->damaged = rc == -EBADMSG;
    if (rc == 0) {
        fetch->partition = partition;
    } else {
        partition_unref(partition);
    }
    return rc;
}

// What came of a piece.
static void advance(struct source *source, struct download *download, int rc)
{
    if (rc == 0 && download->got == download->total) {
        rc = open_whole(download);
        finish(source, download, rc);
    } else if (rc != 0) {
        finish(source, download, rc);
    }
}

static void on_piece(struct source *source, struct download *download, struct piece *piece,
                     const Dray__Piece *message, const struct message *frames)
{
    struct error *err = &download->fetch->err;
    int rc;

    download->heard_us = monotonic_us();
    if (message->why != NULL) {
        int code = message->why->code > 0 && message->why->code < 4096 ? message->why->code : EIO;

        finish(source, download, error_set(err, code, "%s", message->why->text));
        return;
    }
    rc = frames->frames == 2 ? take_bytes(source, download, piece, message, &frames->frame[1])
                             : error_set(err, EBADMSG, "a piece came without its bytes");
    piece->used = false;
    advance(source, download, rc);
}

static void take_whole(struct source *source, struct download *download, const uint8_t *bytes, uint64_t size)
{
    struct error *err = &download->fetch->err;
    int rc = download->total > 0 ? error_set(err, EBADMSG, "a piece came as a whole")
                                 : learn_total(source, download, size);

    if (rc == 0) {
        memcpy(download->data, bytes, (size_t)size);
        download->got = size;
    }
    advance(source, download, rc);
}

static bool is_asked(const struct download *download, uint32_t tag)
{
    return download->piece[0].used && !download->piece[0].waits && download->piece[0].tag == tag;
}

// Whole partitions, one after another.
static void on_whole(struct source *source, const Dray__Piece *message, const struct message *frames)
{
    uint64_t offset[FRAME_FETCH_MAX + 1] = {0};
    struct error err = {0};
    struct buffer *raw = NULL;
    struct download *next;
    int rc = frames->frames == 2 ? payload_decode(frames->frame[1].data, frames->frame[1].size, &raw, &err)
                                 : error_set(&err, EBADMSG, "pieces came without their bytes");

    for (size_t i = 0; i < message->n_size; i++) {
        offset[i + 1] = offset[i] + message->size[i];
    }
    if (rc == 0 && raw->size != offset[message->n_size]) {
        rc = error_set(&err, EBADMSG, "%zu bytes came where %" PRIu64 " were said to be", raw->size,
                       offset[message->n_size]);
    }
    for (struct download *download = source->download; download != NULL; download = next) {
        uint32_t at = download->position;

        next = download->next;
        if (!is_asked(download, message->tag)) {
            continue;
        }
        download->piece[0].used = false;
        if (rc == 0) {
            take_whole(source, download, raw->data + offset[at], offset[at + 1] - offset[at]);
        } else {
            download->fetch->err = err;
            download->fetch->damaged = rc == -EBADMSG;
            finish(source, download, rc);
        }
    }
    buffer_unref(raw);
}

// What was asked for together and is not among what the answer brings is asked for again.
static void leave_rest(struct source *source, const Dray__Piece *message)
{
    uint32_t brings = message->n_size > 0 ? (uint32_t)message->n_size : 1;

    for (struct download *download = source->download; download != NULL; download = download->next) {
        if (is_asked(download, message->tag) && download->position >= brings) {
            download->piece[0].used = false;
            download->asked = 0;
        }
    }
}

static void find_piece(struct source *source, const Dray__Piece *message, const struct message *frames)
{
    source->under_way -= source->under_way > 0;
    leave_rest(source, message);
    if (message->n_size > 0) {
        on_whole(source, message, frames);
        return;
    }
    for (struct download *download = source->download; download != NULL; download = download->next) {
        for (int i = 0; i < WINDOW; i++) {
            struct piece *piece = &download->piece[i];

            if (piece->used && !piece->waits && piece->tag == message->tag) {
                on_piece(source, download, piece, message, frames);
                return;
            }
        }
    }
    // Otherwise nobody waits for it any more.
}

static void on_readable(void *arg)
{
    struct source *source = arg;
    struct message message;
    struct arena arena;

    arena_init(&arena, (size_t)1 << 20);
    while (socket_receive(source->socket, &message) == 1) {
        struct frame frame;
        struct error err = {0};
        int rc = message.frames == 0 ? -EBADMSG
                                     : frame_decode(message.frame[0].data, message.frame[0].size, FROM_WORKER,
                                                    &arena, &frame, &err);

        if (rc != 0 || frame.info->type != FRAME_PIECE) {
            fail_all(source, EBADMSG, "what answers at its address is no worker of Dray's");
        } else if (frame.session != source->incarnation) {
            fail_all(source, ENOENT, "another process answers at its address");
        } else {
            find_piece(source, (const Dray__Piece *)frame.message, &message);
        }
        ask_all(source);
        message_fini(&message);
        arena_reset(&arena);
    }
    arena_fini(&arena);
}

// ---- connections ------------------------------------------------------------------

static void look_for_end(struct source *source);

static void on_watch(void *arg, short revents)
{
    (void)revents;
    look_for_end(arg);
}

static void disconnect(struct source *source)
{
    if (source->socket != NULL) {
        loop_remove_fd(source->owner->loop, socket_watch_fd(source->socket));
        loop_remove_socket(source->owner->loop, source->socket);
        socket_destroy(source->socket, 0);
        source->socket = NULL;
    }
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
    int rc;

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
        source->worker = fetch->worker;
        source->incarnation = fetch->incarnation;
        source->next = downloads->source;
        downloads->source = source;
    }
    return source;
}

static void refuse(struct downloads *downloads, struct fetch *fetch, int rc)
{
    fetch->rc = rc;
    downloads->done(downloads->arg, fetch);
}

void downloads_start(struct downloads *downloads, struct fetch *fetch)
{
    struct source *source = find_source(downloads, fetch);
    struct download *download = NULL;
    int rc = 0;

    if (fetch->endpoints == 0) {
        refuse(downloads, fetch,
               error_set(&fetch->err, EHOSTUNREACH, "it cannot be reached by other workers"));
        return;
    }
    if (source == NULL) {
        source = add_source(downloads, fetch);
    }
    download = calloc(1, sizeof(*download));
    if (source == NULL || download == NULL) {
        free(download);
        refuse(downloads, fetch, error_no_memory(&fetch->err));
        return;
    }
    if (source->socket == NULL) {
        source->endpoint = 0;
        rc = connect_to(source, fetch->endpoint[0], &fetch->err);
    }
    if (rc != 0) {
        free(download);
        refuse(downloads, fetch, rc);
        return;
    }
    download->fetch = fetch;
    download->heard_us = source->used_us = monotonic_us();

    struct download **end = &source->download;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = download;
}

struct downloads *downloads_create(struct loop *loop, struct budget *budget,
                                   void (*done)(void *arg, struct fetch *fetch), void *arg)
{
    struct downloads *downloads = calloc(1, sizeof(*downloads));

    if (downloads != NULL) {
        *downloads =
            (struct downloads){.loop = loop, .budget = budget, .done = done, .arg = arg, .next_tag = 1};
    }
    return downloads;
}

void downloads_destroy(struct downloads *downloads)
{
    if (downloads == NULL) {
        return;
    }
    while (downloads->source != NULL) {
        struct source *source = downloads->source;

        fail_all(source, ECANCELED, "the worker stops");
        disconnect(source);
        downloads->source = source->next;
        free(source);
    }
    free(downloads);
}

// ---- time -------------------------------------------------------------------------

// Everything that is under way is asked for anew, at its next address.
static void try_next_endpoint(struct source *source, const struct fetch *fetch)
{
    struct error err;

    disconnect(source);
    source->under_way = 0;
    source->endpoint++;
    if (connect_to(source, fetch->endpoint[source->endpoint], &err) != 0) {
        fail_all(source, EHOSTUNREACH, "none of its addresses can be reached");
        return;
    }
    for (struct download *download = source->download; download != NULL; download = download->next) {
        download->heard_us = monotonic_us();
        if (download->total == 0) {
            download->piece[0].used = false;
            download->asked = 0;
        }
        for (int i = 0; i < WINDOW; i++) {
            if (download->piece[i].used) {
                ask(source, download, &download->piece[i], NULL, 0);
                source->under_way++;
            }
        }
    }
    ask_all(source);
}

// A worker that was killed ends its connections, and nobody listens where it did.  It does not come back as
// the process that was asked, so nothing is waited for.
static void look_for_end(struct source *source)
{
    uint8_t route[SOCKET_ROUTING_ID_MAX];
    size_t size;
    bool ended = source->socket != NULL && socket_ended(source->socket, route, &size) == 1;
    const struct download *first = source->download;

    if (source->socket == NULL || (!ended && socket_refusals(source->socket) < REFUSALS_MAX)) {
        return;
    }
    if (!ended && first != NULL && source->endpoint + 1 < first->fetch->endpoints) {
        try_next_endpoint(source, first->fetch);
        return;
    }
    source->under_way = 0;
    fail_all(source, ended ? ECONNRESET : ECONNREFUSED,
             ended ? "the connection has ended" : "nobody listens there any more");
    disconnect(source);
}

// Bytes of a large piece on a slow link are no silence.
static uint64_t heard_us(const struct source *source, const struct download *download, uint64_t now)
{
    struct socket_signs signs;

    if (now - download->heard_us > SILENCE_US && socket_signs(source->socket, NULL, 0, &signs) == 0 &&
        signs.received_us < now - download->heard_us) {
        return now - signs.received_us;
    }
    return download->heard_us;
}

static void check_silence(struct source *source, uint64_t now)
{
    struct download *next;

    look_for_end(source);

    for (struct download *download = source->download; download != NULL; download = next) {
        const struct fetch *fetch = download->fetch;

        next = download->next;
        if (download->asked == 0 || now <= download->heard_us ||
            now - heard_us(source, download, now) <= SILENCE_US) {
            continue;
        }
        if (download->total == 0 && source->endpoint + 1 < fetch->endpoints) {
            try_next_endpoint(source, fetch);
            return;
        }
        source->under_way = 0; // there are no answers to wait for
        finish(source, download,
               error_set(&download->fetch->err, ETIMEDOUT, "no bytes came from %s for %d s",
                         fetch->endpoint[source->endpoint < fetch->endpoints ? source->endpoint : 0],
                         SILENCE_US / 1000000));
    }
}

void downloads_tick(struct downloads *downloads)
{
    uint64_t now = monotonic_us();
    struct source **link = &downloads->source;

    while (*link != NULL) {
        struct source *source = *link;

        check_silence(source, now);
        for (struct download *download = source->download; download != NULL; download = download->next) {
            for (int i = 0; i < WINDOW; i++) {
                if (download->piece[i].used && download->piece[i].waits) {
                    ask(source, download, &download->piece[i], NULL, 0);
                }
            }
            source->used_us = now;
        }
        ask_all(source);
        if (source->download == NULL && now > source->used_us && now - source->used_us > IDLE_US) {
            disconnect(source);
            *link = source->next;
            free(source);
        } else {
            link = &source->next;
        }
    }
}
