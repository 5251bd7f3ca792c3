#include "worker/download.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/payload.h"
#include "worker/download_state.h"

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

static bool is_asked(const struct piece *piece, uint32_t tag)
{
    return piece->used && !piece->waits && piece->tag == tag;
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
    owner->handler.done(owner->handler.arg, fetch);
}

void downloads_fail(struct source *source, struct download *download, int code, const char *why)
{
    finish(source, download, error_set(&download->fetch->err, code, "%s", why));
}

void downloads_fail_all(struct source *source, int code, const char *why)
{
    while (source->download != NULL) {
        downloads_fail(source, source->download, code, why);
    }
}

void downloads_fail_asked(struct source *source, uint32_t tag, int code, const char *why)
{
    struct download *next;

    for (struct download *download = source->download; download != NULL; download = next) {
        bool asked = false;

        next = download->next;
        for (int i = 0; i < WINDOW; i++) {
            asked = asked || is_asked(&download->piece[i], tag);
        }
        if (asked) {
            downloads_fail(source, download, code, why);
        }
    }
}

// ---- asking -----------------------------------------------------------------------

bool downloads_may_ask(const struct source *source)
{
    const struct downloads *owner = source->owner;

    return source->by_broker ? owner->broker && !errands_full(&owner->errands)
                             : source->socket != NULL && source->under_way < SOURCE_WINDOW;
}

static uint32_t piece_bytes(const struct source *source)
{
    return source->by_broker ? DETOUR_BYTES : PIECE_BYTES;
}

// A piece that began on another way may be larger than what this one takes: its rest is asked for when that
// has come.
static void ask(struct source *source, const struct download *download, struct piece *piece, uint32_t *also,
                uint32_t n_also)
{
    Dray__Fetch message = DRAY__FETCH__INIT;
    uint32_t most = piece_bytes(source);

    piece->asked = piece->length < most ? piece->length : most;
    piece->tag = source->owner->next_tag++;
    message.tag = piece->tag;
    message.job = download->fetch->job;
    message.layer = download->fetch->layer;
    message.index = download->fetch->index;
    message.offset = piece->offset;
    message.length = piece->asked;
    message.also = also;
    message.n_also = n_also;
    piece->waits = !route_send(source, &message);
}

static void ask_more(struct source *source, struct download *download)
{
    for (int i = 0; i < WINDOW; i++) {
        struct piece *piece = &download->piece[i];

        if (!downloads_may_ask(source)) {
            return;
        }
        if (!piece->used && download->asked < download->total) {
            *piece = (struct piece){
                .used = true, .waits = true, .offset = download->asked, .length = piece_bytes(source)};
            download->asked += piece->length;
        }
        if (piece->used && piece->waits) {
            ask(source, download, piece, NULL, 0);
        }
    }
}

// With those behind it that are of the same layer and were not asked for either: what does not come with the
// answer is asked for again.  Before its size is known one piece is enough.
static bool ask_first(struct source *source, struct download *download)
{
    struct piece piece = {.used = true, .length = piece_bytes(source)};
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
void downloads_ask_source(struct source *source)
{
    for (struct download *download = source->download; download != NULL && downloads_may_ask(source);
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
        downloads_ask_source(source);
    }
}

void downloads_ask_again(struct source *source)
{
    for (struct download *download = source->download; download != NULL; download = download->next) {
        download->heard_us = monotonic_us();
        if (download->total == 0) {
            download->piece[0].used = false;
            download->asked = 0;
        }
        for (int i = 0; i < WINDOW; i++) {
            download->piece[i].waits = download->piece[i].used;
        }
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

static int take_bytes(struct source *source, struct download *download, struct piece *piece,
                      const Dray__Piece *message, const struct message_frame *payload)
{
    struct error *err = &download->fetch->err;
    struct buffer *raw;
    uint64_t wanted, expected;
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
    wanted = download->total - piece->offset;
    wanted = wanted < piece->length ? wanted : piece->length;
    expected = wanted < piece->asked ? wanted : piece->asked;
    if (piece->offset >= download->total || raw->size != expected) {
        rc = error_set(err, EBADMSG, "a piece of %zu bytes came where %" PRIu64 " were asked for", raw->size,
                       expected);
    } else {
        memcpy(download->data + piece->offset, raw->data, raw->size);
        download->got += expected;
        piece->offset += expected;
        piece->length = (uint32_t)(wanted - expected);
        piece->used = piece->waits = piece->length > 0;
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
                     const Dray__Piece *message, const struct message_frame *payload)
{
    struct error *err = &download->fetch->err;
    int rc;

    download->heard_us = monotonic_us();
    if (message->why != NULL) {
        int code = message->why->code > 0 && message->why->code < 4096 ? message->why->code : EIO;

        finish(source, download, error_set(err, code, "%s", message->why->text));
        return;
    }
    rc = payload != NULL ? take_bytes(source, download, piece, message, payload)
                         : error_set(err, EBADMSG, "a piece came without its bytes");
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

// Whole partitions, one after another.
static void on_whole(struct source *source, const Dray__Piece *message, const struct message_frame *payload)
{
    uint64_t offset[FRAME_FETCH_MAX + 1] = {0};
    struct error err = {0};
    struct buffer *raw = NULL;
    struct download *next;
    int rc = payload != NULL ? payload_decode(payload->data, payload->size, &raw, &err)
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
        if (!is_asked(&download->piece[0], message->tag)) {
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
        if (is_asked(&download->piece[0], message->tag) && download->position >= brings) {
            download->piece[0].used = false;
            download->asked = 0;
        }
    }
}

static void take(struct source *source, const Dray__Piece *message, const struct message_frame *payload)
{
    leave_rest(source, message);
    if (message->n_size > 0) {
        on_whole(source, message, payload);
        return;
    }
    for (struct download *download = source->download; download != NULL; download = download->next) {
        for (int i = 0; i < WINDOW; i++) {
            struct piece *piece = &download->piece[i];

            if (is_asked(piece, message->tag)) {
                on_piece(source, download, piece, message, payload);
                return;
            }
        }
    }
    // Otherwise nobody waits for it any more.
}

void downloads_take(struct source *source, const Dray__Piece *message, const struct message_frame *payload)
{
    source->under_way -= source->under_way > 0;
    take(source, message, payload);
}

// The window is of all of them: who has had one is the last to have another.
static void ask_by_broker(struct downloads *downloads, const struct source *last)
{
    const struct source *stop = last;

    for (struct source *source = last != NULL ? last->next : downloads->source;
         !errands_full(&downloads->errands) && source != stop;) {
        if (source == NULL) {
            source = downloads->source;
            stop = last != NULL ? last->next : NULL;
            continue;
        }
        if (source->by_broker) {
            downloads_ask_source(source);
        }
        source = source->next;
    }
}

void downloads_piece(struct downloads *downloads, const Dray__Piece *message, const struct buffer *payload)
{
    struct source *source;
    struct errand errand;

    if (!errands_take(&downloads->errands, message->tag, &errand)) {
        return; // of an earlier session, or too late
    }
    source = errand.whose;
    if (source != NULL) {
        const struct message_frame frame = {payload != NULL ? payload->data : NULL,
                                            payload != NULL ? payload->size : 0};

        if (payload != NULL) {
            route_detoured(source);
        }
        take(source, message, payload != NULL ? &frame : NULL);
    }
    ask_by_broker(downloads, source);
}

void downloads_session(struct downloads *downloads, bool up)
{
    downloads->broker = up;
    errands_clear(&downloads->errands);
    for (struct source *source = downloads->source; source != NULL; source = source->next) {
        // Those that may come over a connection as well: once more does no harm.
        if (source->by_broker) {
            downloads_ask_again(source);
        }
    }
    if (up) {
        ask_by_broker(downloads, NULL);
    }
}
