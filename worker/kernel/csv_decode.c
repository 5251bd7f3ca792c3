#include "worker/kernel/csv_decode.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

#include "worker/kernel/csv_file.h"

enum { INPUT_SIZE = 128 << 10 };

struct csv_decoder {
    int fd;
    Dray__Codec codec;
    const char *name;
    struct budget *budget;
    uint64_t taken;
    uint64_t offset;
    size_t start, end;    // of what is in input
    bool input_ended;
    bool in_member;       // between the first byte of a member or frame and its last
    bool began;           // at least one member was complete
    struct inflate_state *inflate;
    ZSTD_DStream *zstd;
    uint8_t input[INPUT_SIZE];
};

static int grow(struct csv_decoder *d, uint64_t total, struct error *err)
{
    int rc = 0;

    if (total > d->taken) {
        rc = budget_take(d->budget, total - d->taken, "decompression", err);
        d->taken = rc == 0 ? total : d->taken;
    }
    return rc;
}

int csv_decoder_create(int fd, Dray__Codec codec, const char *name, struct budget *budget,
                       struct csv_decoder **out, struct error *err)
{
    struct csv_decoder *d = calloc(1, sizeof(*d));
    int rc = 0;

    if (d == NULL) {
        return error_no_memory(err);
    }
    d->fd = fd;
    d->codec = codec;
    d->name = name;
    d->budget = budget;
    rc = grow(d, sizeof(*d) + sizeof(*d->inflate), err);
    if (rc < 0) {
        goto out;
    }
    if (codec == DRAY__CODEC__GZIP) {
        d->inflate = malloc(sizeof(*d->inflate));
    } else {
        d->zstd = ZSTD_createDStream();
    }
    if (d->inflate == NULL && d->zstd == NULL) {
        rc = error_no_memory(err);
    }
out:
    if (rc < 0) {
        csv_decoder_destroy(d);
    } else {
        *out = d;
    }
    return rc;
}

void csv_decoder_destroy(struct csv_decoder *d)
{
    if (d != NULL) {
        budget_give(d->budget, d->taken);
        free(d->inflate);
        ZSTD_freeDStream(d->zstd);
        free(d);
    }
}

static int refill(struct csv_decoder *d, struct error *err)
{
    while (d->start == d->end && !d->input_ended) {
        ssize_t n = pread(d->fd, d->input, sizeof(d->input), (off_t)d->offset);

        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return csv_file_error(errno, d->name, err);
        }
        d->start = 0;
        d->end = (size_t)n;
        d->offset += (size_t)n;
        d->input_ended = n == 0;
    }
    return 0;
}

static const char *codec_name(const struct csv_decoder *d)
{
    return d->codec == DRAY__CODEC__GZIP ? "gzip" : "zstd";
}

static int damaged(const struct csv_decoder *d, const char *why, struct error *err)
{
    return error_set(err, EBADMSG, "%s: the %s data is damaged near byte %llu of the file (%s)", d->name,
                     codec_name(d), (unsigned long long)(d->offset - (d->end - d->start)), why);
}

static int cut_off(const struct csv_decoder *d, struct error *err)
{
    return error_set(err, EBADMSG, "%s: the %s data is cut off: the file ends in the middle of it", d->name,
                     codec_name(d));
}

// gzip pads with zeros on tapes; everybody ignores those.
static int between_members(struct csv_decoder *d, bool *more, struct error *err)
{
    for (;;) {
        int rc = refill(d, err);

        if (rc < 0) {
            return rc;
        }
        if (d->start == d->end) {
            *more = false;
            return 0;
        }
        if (!d->began || d->input[d->start] != 0) {
            break;
        }
        d->start++;
    }
    if (d->input[d->start] != 0x1f) {
        return error_set(err, EBADMSG, "%s: something that is not gzip data follows the gzip data at byte %llu",
                         d->name, (unsigned long long)(d->offset - (d->end - d->start)));
    }
    *more = true;
    return 0;
}

static int inflate_some(struct csv_decoder *d, uint8_t *out, size_t size, size_t *got, struct error *err)
{
    struct inflate_state *s = d->inflate;
    int rc;

    if (!d->in_member) {
        bool more;

        rc = between_members(d, &more, err);
        if (rc < 0 || !more) {
            return rc;
        }
        isal_inflate_init(s);
        s->crc_flag = ISAL_GZIP;
        d->in_member = true;
    }
    rc = refill(d, err);
    if (rc < 0) {
        return rc;
    }
    bool dry = d->start == d->end;

    s->next_in = d->input + d->start;
    s->avail_in = (uint32_t)(d->end - d->start);
    s->next_out = out;
    s->avail_out = size > (1U << 30) ? 1U << 30 : (uint32_t)size;
    uint32_t room = s->avail_out;
    int code = isal_inflate(s);

    d->start = d->end - s->avail_in;
    *got = room - s->avail_out;
    if (code != ISAL_DECOMP_OK && code != ISAL_END_INPUT) {
        return damaged(d, code == ISAL_INCORRECT_CHECKSUM ? "its checksum does not match" : "not valid deflate data",
                       err);
    }
    if (s->block_state == ISAL_BLOCK_FINISH) {
        d->in_member = false;
        d->began = true;
    } else if (dry && *got == 0) {
        return cut_off(d, err);
    }
    return 0;
}

static int unzstd_some(struct csv_decoder *d, uint8_t *out, size_t size, size_t *got, struct error *err)
{
    int rc = refill(d, err);

    if (rc < 0) {
        return rc;
    }
    bool dry = d->start == d->end;

    if (dry && !d->in_member) {
        return 0;
    }
    ZSTD_inBuffer in = {d->input, d->end, d->start};
    ZSTD_outBuffer to = {out, size, 0};
    size_t left = ZSTD_decompressStream(d->zstd, &to, &in);

    d->start = in.pos;
    *got = to.pos;
    if (ZSTD_isError(left)) {
        return damaged(d, ZSTD_getErrorName(left), err);
    }
    d->in_member = left != 0;
    if (dry && *got == 0 && d->in_member) {
        return cut_off(d, err);
    }
    return grow(d, sizeof(*d) + sizeof(*d->inflate) + ZSTD_sizeof_DStream(d->zstd), err);
}

int csv_decoder_read(struct csv_decoder *d, uint8_t *out, size_t size, size_t *got, struct error *err)
{
    size_t n = 0;
    int rc = 0;

    // A call may move input without giving output: go on until there is some, or the end.
    while (rc == 0 && n == 0) {
        rc = d->codec == DRAY__CODEC__GZIP ? inflate_some(d, out, size, &n, err) : unzstd_some(d, out, size, &n, err);
        if (rc == 0 && n == 0 && d->start == d->end && d->input_ended && !d->in_member) {
            break;
        }
    }
    if (rc == 0) {
        *got = n;
    }
    return rc;
}
