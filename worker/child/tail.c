#include "worker/child/tail.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
    READS_MAX = 256,    // at once
    PREFIX_BYTES = 260, // of an error: which command, and that the disk was full
    TEXT_LEAST = 40,
};

void tail_clear(struct tail *tail)
{
    tail->written = 0;
}

void tail_add(struct tail *tail, const void *data, size_t size)
{
    const char *from = data;

    if (size > TAIL_BYTES) {
        tail->written += size - TAIL_BYTES;
        from += size - TAIL_BYTES;
        size = TAIL_BYTES;
    }
    size_t at = tail->written % TAIL_BYTES;
    size_t first = size < TAIL_BYTES - at ? size : TAIL_BYTES - at;

    memcpy(tail->data + at, from, first);
    memcpy(tail->data, from + first, size - first);
    tail->written += size;
}

int tail_read(struct tail *tail, int fd)
{
    char some[TAIL_BYTES];

    // More than a pipe holds; who writes faster than we read is not to keep us from all else.
    for (int reads = 0; reads < READS_MAX; reads++) {
        ssize_t n = read(fd, some, sizeof(some));

        if (n > 0) {
            tail_add(tail, some, (size_t)n);
        } else if (n == 0) {
            return 0;
        } else if (errno != EINTR) {
            return errno == EAGAIN ? 1 : -errno;
        }
    }
    return 1;
}

static char byte_at(const struct tail *tail, uint64_t at)
{
    return tail->data[at % TAIL_BYTES];
}

static int is_space(char c)
{
    return c == '\n' || c == '\r' || c == ' ' || c == '\t';
}

void tail_text(const struct tail *tail, char *to, size_t size)
{
    uint64_t begin = tail->written > TAIL_BYTES ? tail->written - TAIL_BYTES : 0, end = tail->written;
    size_t used = 0;

    while (end > begin && is_space(byte_at(tail, end - 1))) {
        end--;
    }
    while (begin < end && is_space(byte_at(tail, begin))) {
        begin++;
    }
    if (end - begin > size - 1) {
        begin = end - (size - 1);
    }
    // Not from within a character.
    while (begin < end && begin > 0 && ((unsigned char)byte_at(tail, begin) & 0xC0U) == 0x80) {
        begin++;
    }
    for (; begin < end; begin++) {
        unsigned char c = (unsigned char)byte_at(tail, begin);

        if (c != '\r') {
            to[used++] = (char)(c == '\n' || (c >= 0x20 && c != 0x7F) ? c : c == '\t' ? ' ' : '?');
        }
    }
    to[used] = '\0';
}

void tail_append(const struct tail *tail, struct error *err)
{
    static const char LEAD[] = "; standard error ends with:\n";
    size_t used = strlen(err->text), room = sizeof(err->text) - used;

    // The last bytes are the caller's: prefixes go in front.
    if (room < sizeof(LEAD) + PREFIX_BYTES + TEXT_LEAST || tail->written == 0) {
        return;
    }
    tail_text(tail, err->text + used + sizeof(LEAD) - 1, room - sizeof(LEAD) - PREFIX_BYTES);
    if (err->text[used + sizeof(LEAD) - 1] != '\0') {
        memcpy(err->text + used, LEAD, sizeof(LEAD) - 1);
    }
}
