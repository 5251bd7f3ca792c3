// What is missed of a write-ahead log: a random history of commits, safe ones and others, with logs that are
// begun anew; then the log as a kill, a power cut or somebody's hand leaves it.
#include "broker/ledger.h"

#include "tests/unit/state_folder.h"

#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>

#include "proto/socket.h"
#include "tests/unit/generate.h"

enum { ENOUGH_US = 60000000 }; // where the disk takes its time
enum { HISTORIES = 5, COMMITS = 50, HEADER = 32, FRAME = 24 + 4096, BODY_MAX = 800000 };

static const struct log LOG = {.program = "test", .level = LEVEL_ERROR};

static uint64_t random_state;

static uint32_t below(uint32_t limit)
{
    return random_below(&random_state, limit);
}

static struct ledger *open_folder(const struct state_folder *folder)
{
    struct ledger *ledger = NULL;
    struct error err = {0};

    if (ledger_open(folder->path, &LOG, &ledger, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return ledger;
}

static int hear_job(void *arg, const struct entry *entry)
{
    uint32_t *jobs = arg;

    assert_int_equal(entry->type, ENTRY_JOB);
    assert_int_equal(entry->job, *jobs + 1); // none is left out before the end
    ++*jobs;
    return 0;
}

// How many jobs are in it, and what was damaged.
static uint32_t look(const struct state_folder *folder, size_t *damaged)
{
    struct ledger *ledger = open_folder(folder);
    struct error err = {0};
    uint32_t jobs = 0;

    *damaged = ledger_damaged(ledger);
    assert_int_equal(ledger_read(ledger, hear_job, &jobs, &err), 0);
    // Numbers of jobs that may have been are not given out again.
    assert_true(*damaged == 0 || ledger_numbers(ledger).job > 1000);
    ledger_close(ledger);
    return jobs;
}

static void commit(struct ledger *ledger, uint32_t job, bool safe)
{
    size_t size = below(3) == 0 ? below(BODY_MAX) : below(200);
    uint8_t *bytes = calloc(1, size + 1);
    struct entry *entry;
    struct error err = {0};

    assert_non_null(bytes);
    memset(bytes, 'a' + (int)(job % 26), size);
    entry = entry_create(ENTRY_JOB, job, job, bytes, size);
    assert_non_null(entry);
    if (ledger_write(ledger, entry, NULL, safe, &err) != 0) {
        fail_msg("%s", err.text);
    }
    free(entry);
    free(bytes);
}

// As the broker's kill leaves it, but that the log ends there; SIZE_MAX: whole.
static void cut(const struct state_folder *folder, struct state_folder *copy, size_t end)
{
    size_t size = 0;
    uint8_t *wal = folder_slurp(folder, "journal.db-wal", &size);

    assert_non_null(wal);
    folder_crash(folder, copy);
    folder_copy_file(folder, copy, "open");
    if (end < size) {
        folder_put(copy, "journal.db-wal", wal, end);
    }
    free(wal);
}

// Bytes of the log that are safe, as the mark has it; 0: the log was begun anew since.
static size_t marked_size(const struct state_folder *folder)
{
    size_t size = 0, wal_size = 0;
    uint8_t *mark = folder_slurp(folder, "open", &size);
    uint8_t *wal = folder_slurp(folder, "journal.db-wal", &wal_size);
    char salts[17];
    uint32_t frames = 0;

    assert_non_null(mark);
    assert_non_null(wal);
    mark[size] = '\0';
    for (int i = 0; i < 8; i++) {
        snprintf(salts + 2 * i, 3, "%02x", wal[16 + i]);
    }
    assert_int_equal(sscanf((const char *)mark + 16, " %10" SCNu32 "\n", &frames), 1);
    size = memcmp(mark, salts, 16) == 0 ? HEADER + (size_t)frames * FRAME : 0;
    free(mark);
    free(wal);
    return size;
}

// safe_end: what the log had when `safe` was written.
static void try_cuts(const struct state_folder *folder, uint32_t written, uint32_t safe, size_t safe_end)
{
    size_t end = marked_size(folder), damaged;
    struct state_folder copy;
    uint32_t jobs;

    cut(folder, &copy, SIZE_MAX); // killed
    assert_int_equal(look(&copy, &damaged), written);
    assert_int_equal(damaged, 0);
    folder_end(&copy);
    if (end == 0) {
        return;
    }
    cut(folder, &copy, safe_end); // a power cut that takes all that was not safe
    jobs = look(&copy, &damaged);
    assert_true(jobs >= safe && jobs <= written);
    assert_int_equal(damaged, 0);
    folder_end(&copy);
    // Somebody's hand: what is missing is missed, whether anything is left or not.
    for (int i = 0; i < 3; i++) {
        cut(folder, &copy, i == 0 ? end - 1 : i == 1 ? 0 : below((uint32_t)end));
        jobs = look(&copy, &damaged);
        assert_int_equal(damaged, 1);
        folder_end(&copy);
    }
}

// The mark is older than the log, as a power cut may leave it.
static void try_old_mark(const struct state_folder *folder, const struct state_folder *before,
                         uint32_t written)
{
    struct state_folder copy;
    size_t damaged;

    cut(folder, &copy, SIZE_MAX);
    folder_copy_file(before, &copy, "open");
    assert_int_equal(look(&copy, &damaged), written);
    assert_int_equal(damaged, 0);
    folder_end(&copy);
}

static void test_histories(void **state)
{
    unsigned begun_anew = 0, histories = 0;
    uint64_t enough_us = monotonic_us() + ENOUGH_US;

    (void)state;
    for (uint64_t seed = 1; seed <= HISTORIES && (histories == 0 || monotonic_us() < enough_us); seed++) {
        struct state_folder folder, before;
        struct ledger *ledger;
        uint32_t safe = 0;
        size_t safe_end = 0, last = 0;

        random_state = seed;
        folder_begin(&folder);
        folder_begin(&before);
        ledger = open_folder(&folder);
        for (uint32_t job = 1; job <= COMMITS; job++) {
            bool is_safe = job == 1 || below(3) > 0;

            commit(ledger, job, is_safe);
            safe = is_safe ? job : safe;
            begun_anew += marked_size(&folder) < last ? 1 : 0;
            last = marked_size(&folder);
            safe_end = is_safe ? last : safe_end;
            if (below(8) == 0) {
                try_cuts(&folder, job, safe, safe_end);
            }
            if (job == 1 || below(15) == 0) {
                folder_copy_file(&folder, &before, "open");
            }
            if (below(10) == 0) {
                try_old_mark(&folder, &before, job);
            }
            if (below(20) == 0) { // killed: what is there is opened again, and goes on
                struct state_folder killed;

                cut(&folder, &killed, SIZE_MAX);
                ledger_close(ledger);
                folder_end(&folder);
                folder = killed;
                ledger = open_folder(&folder);
                assert_int_equal(ledger_damaged(ledger), 0);
            }
        }
        ledger_close(ledger);
        folder_end(&folder);
        folder_end(&before);
        histories++;
    }
    assert_true(begun_anew > histories / 2);
}

// ---- what is no loss -----------------------------------------------------------------------------

enum { LARGE = 200000, BEFORE = 40, MEANWHILE = 25 };

static void commit_large(struct ledger *ledger, uint32_t job)
{
    static uint8_t bytes[LARGE];
    struct entry *entry = entry_create(ENTRY_JOB, job, job, bytes, LARGE);
    struct error err = {0};

    assert_non_null(entry);
    if (ledger_write(ledger, entry, NULL, true, &err) != 0) {
        fail_msg("job %u: %s", job, err.text);
    }
    free(entry);
}

static off_t database_size(const struct state_folder *folder)
{
    char path[100];
    struct stat info;

    snprintf(path, sizeof(path), "%s/journal.db", folder->path);
    assert_int_equal(stat(path, &info), 0);
    return info.st_size;
}

// A log that cannot be brought into the database, for which there is no room, has room itself: what is
// written is safe, and nobody hears that it is not.
static void test_no_room_for_a_checkpoint(void **state)
{
    struct rlimit before, limit;
    struct state_folder folder, killed;
    struct ledger *ledger;
    size_t damaged;
    uint32_t jobs = 0;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    while (jobs < BEFORE) {
        commit_large(ledger, ++jobs);
    }
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)database_size(&folder);
    assert_true(limit.rlim_cur > (rlim_t)LARGE * MEANWHILE * 5 / 4); // the log stays below
    assert_int_equal(sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    while (jobs < BEFORE + MEANWHILE) {
        commit_large(ledger, ++jobs);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    cut(&folder, &killed, SIZE_MAX);
    assert_int_equal(look(&killed, &damaged), jobs);
    assert_int_equal(damaged, 0);
    folder_end(&killed);
    ledger_close(ledger);
    folder_end(&folder);
}

// A broker that cannot use the folder takes the log into the database all the same: its next one misses
// nothing.
static void test_one_that_could_not_open_it(void **state)
{
    struct state_folder folder, killed;
    struct ledger *ledger, *none = NULL;
    char path[100];
    size_t damaged;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    commit_large(ledger, 1);
    cut(&folder, &killed, SIZE_MAX);
    ledger_close(ledger);
    folder_end(&folder);
    snprintf(path, sizeof(path), "%s/graphs", killed.path);
    assert_int_equal(rmdir(path), 0);
    folder_put(&killed, "graphs", "", 0);
    assert_true(ledger_open(killed.path, &LOG, &none, NULL) < 0);
    assert_int_equal(unlink(path), 0);
    ledger = open_folder(&killed);
    assert_int_equal(ledger_damaged(ledger), 0);
    assert_int_equal(ledger_numbers(ledger).job, 2);
    ledger_close(ledger);
    assert_int_equal(look(&killed, &damaged), 1);
    folder_end(&killed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_histories),
        cmocka_unit_test(test_no_room_for_a_checkpoint),
        cmocka_unit_test(test_one_that_could_not_open_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
