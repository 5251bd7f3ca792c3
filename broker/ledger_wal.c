// What SQLite does not say: it takes a write-ahead log up to the first frame whose checksum is wrong, as
// after a power cut, and forgets the rest.  When whole commits stand behind such a frame, the log was
// damaged, and they are lost; and when it is gone although nobody closed the database, then all that was in
// it.  A log that is cut short looks like one of before; so the mark that the database is open says, too,
// which log had how many frames when the last of them were safe: it is written behind each sync and never
// synced itself, so that it may be too old, but never promises what a power cut may take.  Format:
// https://www.sqlite.org/fileformat2.html#the_write_ahead_log
#include "broker/ledger_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER = 32,
    HEADER_SALT = 16, // place of both salts
    FRAME = 24,
    PAGE_MAX = 65536,
    CHECKPOINT = 1000, // frames, as SQLite's own hook has it
    MARK_LINE = 28,
    BIG_ENDIAN_SUMS = 1, // in the magic number
};
static const uint32_t MAGIC = 0x377f0682;
static const char MARK[] = "open"; // there while a broker has the database open: "SALTS FRAMES\n"
static const char MARK_FORMAT[] = "%016" PRIx64 " %010" PRIu32 "\n";

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

static uint64_t salts(const uint8_t *at)
{
    return (uint64_t)big_endian(at) << 32 | big_endian(at + 4);
}

// What is in a log.
struct log_state {
    bool has_header;
    uint64_t salts;
    uint32_t whole; // frames before the first that is not
    off_t at;       // that one's place in the file, when
    uint64_t lost;  // so many commits stand, each whole, behind it
};

static void look(int fd, uint8_t *frame, struct log_state *state)
{
    uint8_t header[HEADER];
    bool big, broken = false;
    size_t size;
    struct sum sum = {0, 0};

    if (!read_whole(fd, header, HEADER, 0) || (big_endian(header) & ~(uint32_t)BIG_ENDIAN_SUMS) != MAGIC) {
        return;
    }
    big = (big_endian(header) & BIG_ENDIAN_SUMS) != 0;
    size = big_endian(header + 8);
    sum = add(sum, big, header, HEADER - 8);
    if (size < 512 || size > PAGE_MAX || size % 8 != 0 || !is_sum(sum, header + HEADER - 8)) {
        return;
    }
    state->has_header = true;
    state->salts = salts(header + HEADER_SALT);
    for (off_t from = HEADER; read_whole(fd, frame, FRAME + size, from); from += (off_t)(FRAME + size)) {
        // Those of an earlier use of the file have other salts.
        bool ours = salts(frame + 8) == state->salts;
        bool whole = false;

        if (ours) {
            sum = add(add(sum, big, frame, 8), big, frame + FRAME, size);
            whole = is_sum(sum, frame + 16);
        }
        if (!whole && !broken) {
            broken = true;
            state->at = from;
        }
        state->whole += broken ? 0 : 1;
        state->lost += broken && whole && big_endian(frame + 4) != 0 ? 1 : 0;
        // Each sum goes on from the one that is written in the frame before.
        sum = (struct sum){big_endian(frame + 16), big_endian(frame + 20)};
    }
}

// What the mark says.  False: there is none; it may be one that says nothing (*frames == 0).
static bool read_mark(const struct ledger *ledger, uint64_t *safe_salts, uint32_t *frames)
{
    char line[MARK_LINE + 1] = "";
    int fd = openat(ledger->folder, MARK, O_RDONLY | O_CLOEXEC);

    *frames = 0;
    if (fd < 0) {
        return false;
    }
    if (pread(fd, line, MARK_LINE, 0) != MARK_LINE || line[MARK_LINE - 1] != '\n' ||
        sscanf(line, "%16" SCNx64 " %10" SCNu32, safe_salts, frames) != 2) {
        *frames = 0;
    }
    close(fd);
    return true;
}

#define WHAT_IS_LOST "(jobs that were accepted late, and what became of others)"

static void say_lost(struct ledger *ledger, const char *path, const struct log_state *state, uint32_t safe)
{
    ledger->damaged++;
    ledger->repaired = true;
    if (state->whole < safe) {
        log_write(ledger->log, LEVEL_ERROR,
                  "%s is damaged or cut short: of %" PRIu32 " pages in it that were safe %" PRIu32
                  " can be read, what only the others said is lost " WHAT_IS_LOST,
                  path, safe, state->whole);
        return;
    }
    log_write(ledger->log, LEVEL_ERROR,
              "%s is damaged at byte %jd: what was written behind that is lost, %" PRIu64
              " commits (when the power was cut: nothing that anybody was told to be safe; else jobs that "
              "were accepted late, and what became of others)",
              path, (intmax_t)state->at, state->lost);
}

void ledger_look_at_wal(struct ledger *ledger)
{
    char *path = NULL;
    uint8_t *frame = malloc(FRAME + PAGE_MAX);
    struct log_state state = {.has_header = false};
    uint64_t safe_salts = 0;
    uint32_t safe = 0;
    bool marked = read_mark(ledger, &safe_salts, &safe);
    int fd = -1;

    if (frame != NULL && asprintf(&path, "%s-wal", ledger->path) > 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (fd >= 0) {
        look(fd, frame, &state);
        close(fd);
        // A log that was begun anew since holds what came behind it: the database has the rest.
        safe = state.has_header && state.salts != safe_salts ? 0 : safe;
        if (state.whole < safe || state.lost > 0) {
            say_lost(ledger, path, &state, safe);
        }
    } else if (path != NULL && errno == ENOENT && marked) {
        ledger->repaired = true;
        log_write(ledger->log, LEVEL_ERROR,
                  "%s is gone, although the last broker of this folder did not close it: what was in it is "
                  "lost " WHAT_IS_LOST,
                  path);
    }
    free(frame);
    free(path);
}

// ---- the mark --------------------------------------------------------------------------------

void ledger_mark_open(struct ledger *ledger)
{
    ledger->mark = openat(ledger->folder, MARK, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

void ledger_mark_none(const struct ledger *ledger)
{
    unlinkat(ledger->folder, MARK, 0);
}

void ledger_mark_closing(struct ledger *ledger)
{
    if (ledger->mark >= 0) {
        ledger_mark_none(ledger);
        close(ledger->mark);
        ledger->mark = -1;
    }
    if (ledger->wal >= 0) {
        close(ledger->wal);
        ledger->wal = -1;
    }
}

void ledger_mark_closed(const struct ledger *ledger)
{
    // What is lost is left to the next broker to say: this one has taken no new numbers.
    if (!ledger->repaired && ledger->folder >= 0 &&
        faccessat(ledger->folder, LEDGER_WAL_NAME, F_OK, 0) != 0) {
        ledger_mark_none(ledger);
    }
}

// Each commit comes here when it is as safe as it gets.
static int committed(void *arg, sqlite3 *db, const char *database, int frames)
{
    struct ledger *ledger = arg;
    uint8_t salt[8];
    char line[MARK_LINE + 1];

    if (ledger->mark >= 0 && ledger->durable) {
        if (ledger->wal < 0) {
            ledger->wal = openat(ledger->folder, LEDGER_WAL_NAME, O_RDONLY | O_CLOEXEC);
        }
        if (ledger->wal >= 0 && read_whole(ledger->wal, salt, sizeof(salt), HEADER_SALT)) {
            snprintf(line, sizeof(line), MARK_FORMAT, salts(salt), (uint32_t)frames);
            // One that cannot be written stays what it was, and true.
            (void)!pwrite(ledger->mark, line, MARK_LINE, 0);
        }
    }
    if (frames >= CHECKPOINT) {
        // Where there is no room for it, it is tried again: what was committed is safe in the log.
        (void)sqlite3_wal_checkpoint(db, database);
    }
    return SQLITE_OK; // else the commit would be taken for one that failed
}

void ledger_watch_commits(struct ledger *ledger)
{
    sqlite3_wal_hook(ledger->db, committed, ledger);
}
