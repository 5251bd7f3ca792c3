#include "worker/child/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/child/children_state.h"

enum {
    PIPE_BYTES = 1 << 20,  // of an output that turns out to be large
    STEP_BYTES = 16 << 20, // by which a large output grows
    READS_MAX = 256,       // at once
};

static int capture_reserve(struct capture *c, struct children *children, size_t need, struct error *err)
{
    size_t room = c->room < STEP_BYTES ? c->room * 2 : c->room + STEP_BYTES;
    uint8_t *data;
    int rc;

    if (need <= c->room) {
        return 0;
    }
    room = room < need ? need : room;
    room = (room + READ_BYTES - 1) / READ_BYTES * READ_BYTES;
    rc = children_take(children, room - c->room, "its standard output", err);
    if (rc != 0) {
        return rc;
    }
    data = realloc(c->data, room);
    if (data == NULL) {
        children_give(children, room - c->room);
        return error_no_memory(err);
    }
    c->data = data;
    c->room = room;
    return 0;
}

static int capture_add(struct capture *c, struct children *children, const void *data, size_t size,
                       struct error *err)
{
    int rc = capture_reserve(c, children, c->size + size, err);

    if (rc == 0) {
        memcpy(c->data + c->size, data, size);
        c->size += size;
    }
    return rc;
}

int capture_read(struct capture *c, struct children *children, int fd, struct error *err)
{
    // More than a pipe holds; who writes faster than we read is not to keep us from all else.
    for (int reads = 0; reads < READS_MAX; reads++) {
        bool direct = c->room - c->size >= READ_BYTES;
        ssize_t n =
            direct ? read(fd, c->data + c->size, c->room - c->size) : read(fd, children->some, READ_BYTES);

        if (n == 0) {
            return 0;
        }
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno == EAGAIN ? 1 : 0;
        }
        if (direct) {
            c->size += (size_t)n;
        } else {
            int rc = capture_add(c, children, children->some, (size_t)n, err);

            if (rc != 0) {
                return rc;
            }
        }
        if (n == READ_BYTES && !c->widened) {
            fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
            c->widened = true;
        }
    }
    return 1;
}

void capture_drop(struct capture *c, struct children *children)
{
    free(c->data);
    children_give(children, c->room);
    *c = (struct capture){0};
}

int capture_finish(struct capture *c, struct children *children, struct buffer **out, struct error *err)
{
    size_t padded = c->size == 0 ? CHANNEL_ALIGN : channel_pad(c->size);
    struct buffer *buffer;
    uint8_t *data;

    // Small ones are moved to where they begin at a multiple of 64.
    if (c->size <= READ_BYTES) {
        buffer = buffer_create(c->size, &data);
        if (buffer == NULL) {
            return error_no_memory(err);
        }
        if (c->size > 0) {
            memcpy(data, c->data, c->size);
        }
        free(c->data);
    } else {
        data = realloc(c->data, padded);
        if (data == NULL) {
            return error_no_memory(err);
        }
        c->data = data;
        memset(data + c->size, 0, padded - c->size);
        buffer = buffer_wrap(data, c->size, free, data);
        if (buffer == NULL) {
            return error_no_memory(err);
        }
    }
    children_give(children, c->room > padded ? c->room - padded : 0);
    *c = (struct capture){0};
    *out = buffer;
    return 0;
}
