#include "broker/backlog.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    METERED_FROM = 16 << 10,  // smaller payloads are copied by the socket
    UNDER_WAY_MAX = 16 << 20, // metered bytes handed to ZeroMQ
    MESSAGE_BYTES = 128,      // what a queued message costs besides its bytes
};

// Counts payload bytes that ZeroMQ holds.  It outlives the backlog: the last word
// on a payload comes from ZeroMQ's thread.
struct meter {
    _Atomic size_t bytes;
    _Atomic unsigned refs;
};

struct ticket {
    struct meter *meter;
    struct buffer *payload;
};

struct letter {
    struct letter *next;
    size_t bytes;
    size_t count;
    struct buffer *buffer[]; // frame 0 and what follows it
};

struct backlog {
    struct letter *head;
    struct letter **tail;
    size_t bytes;
    size_t bytes_max;
    uint64_t posted; // bytes that were ever counted
    struct meter *meter;
};

static void meter_unref(struct meter *meter)
{
    if (atomic_fetch_sub(&meter->refs, 1) == 1) {
        free(meter);
    }
}

static void release_ticket(void *owner)
{
    struct ticket *ticket = owner;

    atomic_fetch_sub(&ticket->meter->bytes, ticket->payload->size);
    buffer_unref(ticket->payload);
    meter_unref(ticket->meter);
    free(ticket);
}

// The same bytes as a buffer that is counted until its last reference goes.
static struct buffer *meter_buffer(struct meter *meter, struct buffer *payload)
{
    struct ticket *ticket;
    struct buffer *metered;

    if (payload->size < METERED_FROM) {
        return buffer_ref(payload);
    }
    ticket = malloc(sizeof(*ticket));
    if (ticket == NULL) {
        return NULL;
    }
    metered = buffer_wrap(payload->data, payload->size, release_ticket, ticket);
    if (metered == NULL) {
        free(ticket);
        return NULL;
    }
    ticket->meter = meter;
    ticket->payload = buffer_ref(payload);
    atomic_fetch_add(&meter->bytes, payload->size);
    atomic_fetch_add(&meter->refs, 1);
    return metered;
}

static void letter_destroy(struct letter *letter)
{
    for (size_t i = 0; i < letter->count; i++) {
        buffer_unref(letter->buffer[i]);
    }
    free(letter);
}

static struct letter *letter_create(const void *frame, size_t size, struct buffer *const *buffers,
                                    size_t count)
{
    struct letter *letter = malloc(sizeof(*letter) + (count + 1) * sizeof(struct buffer *));
    uint8_t *copy;

    if (letter == NULL) {
        return NULL;
    }
    *letter = (struct letter){.count = 1, .bytes = MESSAGE_BYTES + size};
    letter->buffer[0] = buffer_create(size, &copy);
    if (letter->buffer[0] == NULL) {
        free(letter);
        return NULL;
    }
    memcpy(copy, frame, size);
    for (size_t i = 0; i < count; i++) {
        letter->buffer[letter->count++] = buffer_ref(buffers[i]);
        letter->bytes += buffers[i]->size;
    }
    return letter;
}

struct backlog *backlog_create(size_t bytes_max)
{
    struct backlog *backlog = calloc(1, sizeof(*backlog));
    struct meter *meter = calloc(1, sizeof(*meter));

    if (backlog == NULL || meter == NULL) {
        free(backlog);
        free(meter);
        return NULL;
    }
    atomic_init(&meter->refs, 1);
    backlog->meter = meter;
    backlog->tail = &backlog->head;
    backlog->bytes_max = bytes_max;
    return backlog;
}

void backlog_destroy(struct backlog *backlog)
{
    if (backlog == NULL) {
        return;
    }
    while (backlog->head != NULL) {
        struct letter *letter = backlog->head;

        backlog->head = letter->next;
        letter_destroy(letter);
    }
    meter_unref(backlog->meter);
    free(backlog);
}

static size_t metered_bytes(struct buffer *const *buffers, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        bytes += buffers[i]->size >= METERED_FROM ? buffers[i]->size : 0;
    }
    return bytes;
}

static bool may_send(const struct backlog *backlog)
{
    return atomic_load(&backlog->meter->bytes) <= UNDER_WAY_MAX;
}

// -EAGAIN: not now.  `frame` NULL: buffers[0] is frame 0.
static int send_now(struct backlog *backlog, struct socket *socket, const void *route, size_t route_size,
                    const void *frame, size_t size, struct buffer *const *buffers, size_t count)
{
    struct buffer *few[4];
    struct buffer **metered = few;
    int rc = -ENOMEM;
    size_t made = 0;

    if (!may_send(backlog)) {
        return -EAGAIN;
    }
    if (count > sizeof(few) / sizeof(few[0])) {
        metered = malloc(count * sizeof(*metered));
        if (metered == NULL) {
            return -ENOMEM;
        }
    }
    for (; made < count; made++) {
        metered[made] = meter_buffer(backlog->meter, buffers[made]);
        if (metered[made] == NULL) {
            goto out;
        }
    }
    rc = socket_send(socket, route, route_size, frame, size, metered, count);
out:
    for (size_t i = 0; i < made; i++) {
        buffer_unref(metered[i]);
    }
    if (metered != few) {
        free(metered);
    }
    return rc;
}

int backlog_flush(struct backlog *backlog, struct socket *socket, const void *route, size_t route_size)
{
    while (backlog->head != NULL) {
        struct letter *letter = backlog->head;
        int rc = send_now(backlog, socket, route, route_size, NULL, 0, letter->buffer, letter->count);

        if (rc != 0) {
            return rc == -EAGAIN || rc == -ENOMEM ? 0 : rc;
        }
        backlog->head = letter->next;
        if (backlog->head == NULL) {
            backlog->tail = &backlog->head;
        }
        backlog->bytes -= letter->bytes;
        letter_destroy(letter);
    }
    return 0;
}

int backlog_post(struct backlog *backlog, struct socket *socket, const void *route, size_t route_size,
                 const void *frame, size_t size, struct buffer *const *buffers, size_t count)
{
    struct letter *letter;
    int rc = backlog_flush(backlog, socket, route, route_size);

    if (rc != 0) {
        return rc;
    }
    // A large frame 0 goes by way of the queue, where it becomes a buffer that is metered.
    if (backlog->head == NULL && size < METERED_FROM) {
        rc = send_now(backlog, socket, route, route_size, frame, size, buffers, count);
        if (rc != -EAGAIN) {
            backlog->posted += rc == 0 ? metered_bytes(buffers, count) : 0;
            return rc;
        }
    }
    letter = letter_create(frame, size, buffers, count);
    if (letter == NULL) {
        return -ENOMEM;
    }
    if (backlog->head != NULL && backlog->bytes + letter->bytes > backlog->bytes_max) {
        letter_destroy(letter);
        return -ENOBUFS;
    }
    *backlog->tail = letter;
    backlog->tail = &letter->next;
    backlog->bytes += letter->bytes;
    backlog->posted += letter->bytes;
    return size < METERED_FROM ? 0 : backlog_flush(backlog, socket, route, route_size);
}

size_t backlog_bytes(const struct backlog *backlog)
{
    return backlog->bytes + atomic_load(&backlog->meter->bytes);
}

uint64_t backlog_passed(const struct backlog *backlog)
{
    return backlog->posted - backlog_bytes(backlog);
}
