#include "worker/kernel/csv_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    WINDOW = 256 << 10,
    CARRY = 16 << 10,
    SMALL = 8 << 10,
    KEEP_MAX = 1 << 20,  // a larger buffer is not kept between tasks
};

void csv_block_clear(struct csv_block *block)
{
    free(block->memory);
    *block = (struct csv_block){0};
}

// memory: PAGE (slack in its last bytes) + carry + window + PAGE (slack).
static size_t window_of(const struct csv_block *block)
{
    return block->size - block->carry - 2 * PAGE;
}

static int take(struct csv_reader *r, uint64_t bytes, struct error *err)
{
    int rc = 0;

    if (bytes > r->taken) {
        rc = budget_take(r->budget, bytes - r->taken, "reading a CSV file", err);
        r->taken = rc == 0 ? bytes : r->taken;
    }
    return rc;
}

// Room for `kept` bytes in front of a window that is at least as large.
static int reserve(struct csv_reader *r, size_t kept, struct error *err)
{
    struct csv_block *b = r->block;
    size_t carry = b->carry != 0 ? b->carry : CARRY;
    size_t window = b->size != 0 ? window_of(b) : WINDOW;

    while (carry < kept) {
        carry *= 2;
    }
    if (window < carry && carry > CARRY) {
        window = carry > WINDOW ? carry : WINDOW;
    }
    size_t size = carry + window + 2 * PAGE;

    if (b->memory != NULL && b->size >= size && b->carry == carry) {
        return 0;
    }
    if (size > CSV_TEXT_MAX) {
        return error_set(err, EFBIG, "%s: the line at byte %llu is longer than 500 MB; is a quote left open?", r->name,
                         (unsigned long long)(r->offset + (uint64_t)(r->end - r->data) - kept));
    }
    // The old buffer is there until the new one is filled.
    int rc = take(r, b->size + size, err);

    if (rc < 0) {
        error_prefix(err, "%s: a line of more than %zu bytes: ", r->name, kept);
        return rc;
    }
    uint8_t *memory = aligned_alloc(PAGE, size);

    if (memory == NULL) {
        return error_no_memory(err);
    }
    // Vector loads reach behind and in front of the text: what is there is never used but must be defined.
    memset(memory, 0, PAGE);
    memset(memory + size - PAGE, 0, PAGE);
    uint8_t *to = memory + PAGE + carry;

    if (kept > 0) {
        memcpy(to - kept, r->end - kept, kept);
    }
    uint64_t old = b->size;

    free(b->memory);
    *b = (struct csv_block){memory, size, carry};
    r->base = memory;
    r->data = to - kept;
    r->end = to;
    budget_give(r->budget, old);
    r->taken -= old;
    return 0;
}

int csv_reader_open(struct csv_reader *r, const struct csv_file *file, Dray__Codec codec, const char *name,
                    uint64_t offset, uint64_t hint, struct budget *budget, struct csv_block *block,
                    struct error *err)
{
    int rc = 0;

    *r = (struct csv_reader){.name = name,
                             .budget = budget,
                             .block = block,
                             .fd = file->fd,
                             .size = file->size,
                             .hint = hint,
                             .small = SMALL};
    if (codec == DRAY__CODEC__PLAIN) {
        r->next = offset / PAGE * PAGE;
        r->offset = r->next;
    } else {
        rc = csv_decoder_create(file->fd, codec, name, budget, &r->decoder, err);
    }
    if (rc == 0) {
        rc = take(r, block->size, err);
    }
    if (rc == 0) {
        rc = reserve(r, 0, err);
    }
    if (rc == 0) {
        r->base = block->memory;
        r->data = block->memory + PAGE + block->carry;
        r->end = r->data;
    }
    return rc;
}

void csv_reader_close(struct csv_reader *r)
{
    if (r->block == NULL) {
        return;
    }
    csv_decoder_destroy(r->decoder);
    if (r->block->size > KEEP_MAX) {
        csv_block_clear(r->block);
    }
    budget_give(r->budget, r->taken);
    *r = (struct csv_reader){.fd = -1};
}

static int read_plain(struct csv_reader *r, uint8_t *to, size_t room, size_t *got, struct error *err)
{
    size_t want = room;

    if (r->next >= r->hint) {
        want = r->small < room ? r->small : room;
        r->small *= 2;
    } else if (r->hint - r->next < room) {
        want = (size_t)((r->hint - r->next + PAGE - 1) / PAGE * PAGE);
    }
    size_t n = 0;

    // A short read would spoil the alignment of the next one.
    while (n < want && r->next + n < r->size) {
        ssize_t part = pread(r->fd, to + n, want - n, (off_t)(r->next + n));

        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part < 0) {
            return csv_file_error(errno, r->name, err);
        }
        if (part == 0) {
            return error_set(err, ESTALE, "%s was cut off at byte %llu while it was read (it had %llu bytes)", r->name,
                             (unsigned long long)(r->next + n), (unsigned long long)r->size);
        }
        n += (size_t)part;
    }
    if (n > r->size - r->next) {
        n = (size_t)(r->size - r->next);  // it grew: what was not there when it was probed is not read
    }
    *got = n;
    return 0;
}

int csv_reader_fill(struct csv_reader *r, const uint8_t *keep, uint32_t *moved, struct error *err)
{
    size_t kept = (size_t)(r->end - keep);
    uint64_t at = r->offset + (uint64_t)(keep - r->data);
    uint32_t place = (uint32_t)(keep - r->base);
    size_t got = 0;
    int rc = reserve(r, kept, err);

    if (rc < 0) {
        return rc;
    }
    uint8_t *window = r->block->memory + PAGE + r->block->carry;

    if (r->end != window) {
        memmove(window - kept, r->end - kept, kept);
    }
    r->data = window - kept;
    r->end = window;
    r->offset = at;
    *moved = (uint32_t)(r->data - r->base) - place;
    if (r->decoder != NULL) {
        rc = csv_decoder_read(r->decoder, window, window_of(r->block), &got, err);
    } else {
        rc = read_plain(r, window, window_of(r->block), &got, err);
    }
    if (rc < 0) {
        return rc;
    }
    r->next += got;
    r->end = window + got;
    memset(r->end, 0, CSV_SLACK);
    r->ended = got == 0 || (r->decoder == NULL && r->next == r->size);
    return 0;
}
