// What SQLite does not say: it takes a write-ahead log up to the first frame whose checksum is wrong, as
// after a power cut, and forgets the rest.  When whole commits stand behind such a frame, the log was
// damaged, and they are lost; and when it is gone although nobody closed the database, then all that was in
// it. Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
#include "broker/ledger_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER = 32,
    FRAME = 24,
    PAGE_MAX = 65536,
    BIG_ENDIAN_SUMS = 1, // in the magic number
};
static const uint32_t MAGIC = 0x377f0682;
static const char MARK[] = "open"; // there while a broker has the database open

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static uint32_t little_endian(const uint8_t *at)
{
    return (uint32_t)at[3] << 24 | (uint32_t)at[2] << 16 | (uint32_t)at[1] << 8 | at[0];
}

struct sum {
    uint32_t s0, s1;
};

// `size` is a multiple of 8.
static struct sum add(struct sum sum, bool big, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i += 8) {
        sum.s0 += (big ? big_endian(bytes + i) : little_endian(bytes + i)) + sum.s1;
        sum.s1 += (big ? big_endian(bytes + i + 4) : little_endian(bytes + i + 4)) + sum.s0;
    }
    return sum;
}

static bool is_sum(struct sum sum, const uint8_t *at)
{
    return sum.s0 == big_endian(at) && sum.s1 == big_endian(at + 4);
}

static bool read_whole(int fd, uint8_t *bytes, size_t size, off_t from)
{
    return pread(fd, bytes, size, from) == (ssize_t)size;
}

// Commits that stand, each whole, behind a frame that is not; *at: that frame's place in the file.
static uint64_t lost_commits(int fd, uint8_t *frame, off_t *at)
{
    uint8_t header[HEADER];
    bool big, broken = false;
    size_t size;
    uint64_t lost = 0;
    struct sum sum = {0, 0};

    if (!read_whole(fd, header, HEADER, 0) || (big_endian(header) & ~(uint32_t)BIG_ENDIAN_SUMS) != MAGIC) {
        return 0;
    }
    big = (big_endian(header) & BIG_ENDIAN_SUMS) != 0;
    size = big_endian(header + 8);
    sum = add(sum, big, header, HEADER - 8);
    if (size < 512 || size > PAGE_MAX || size % 8 != 0 || !is_sum(sum, header + HEADER - 8)) {
        return 0;
    }
    for (off_t from = HEADER; read_whole(fd, frame, FRAME + size, from); from += (off_t)(FRAME + size)) {
        // Those of an earlier use of the file have other salts.
        bool ours = memcmp(frame + 8, header + 16, 8) == 0;
        bool whole = false;

        if (ours) {
            sum = add(add(sum, big, frame, 8), big, frame + FRAME, size);
            whole = is_sum(sum, frame + 16);
        }
        if (!whole && !broken) {
            broken = true;
            *at = from;
        }
        lost += broken && whole && big_endian(frame + 4) != 0 ? 1 : 0;
        // Each sum goes on from the one that is written in the frame before.
        sum = (struct sum){big_endian(frame + 16), big_endian(frame + 20)};
    }
    return lost;
}

void ledger_look_at_wal(struct ledger *ledger)
{
    char *path = NULL;
    uint8_t *frame = malloc(FRAME + PAGE_MAX);
    off_t at = 0;
    uint64_t lost = 0;
    int fd = -1;

    if (frame != NULL && asprintf(&path, "%s-wal", ledger->path) > 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd >= 0) {
        lost = lost_commits(fd, frame, &at);
        close(fd);
    } else if (path != NULL && errno == ENOENT && faccessat(ledger->folder, MARK, F_OK, 0) == 0) {
        ledger->repaired = true;
        log_write(ledger->log, LEVEL_ERROR,
                  "%s is gone, although the last broker of this folder did not close it: what was in it is "
                  "lost (jobs "
                  "that were accepted late, and what became of others)",
                  path);
    }
    if (lost > 0) {
        ledger->damaged++;
        ledger->repaired = true;
        log_write(ledger->log, LEVEL_ERROR,
                  "%s is damaged at byte %jd: what was written behind that is lost, %" PRIu64
                  " commits (when the power was cut: nothing that anybody was told to be safe; else jobs that "
                  "were accepted late, and what became of others)",
                  path, (intmax_t)at, lost);
    }
    free(frame);
    free(path);
}

void ledger_mark_open(struct ledger *ledger)
{
    int fd = openat(ledger->folder, MARK, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    ledger->marked = fd >= 0;
    if (fd >= 0) {
        close(fd);
    }
}

void ledger_mark_closed(struct ledger *ledger)
{
    if (ledger->marked) {
        unlinkat(ledger->folder, MARK, 0);
    }
}
