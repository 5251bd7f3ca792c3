// The database of a state folder: what is written is there afterwards, whatever happens to it.
#include "broker/ledger.h"

#include "tests/unit/state_folder.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/resource.h>

#include "broker/graphfile.h"
#include "proto/socket.h"

enum { ENOUGH_US = 60000000 }; // where the disk takes its time

static const struct log LOG = {.program = "test", .level = LEVEL_ERROR};

// What was read, as lines of text.
struct heard {
    char text[200000];
    size_t size;
    unsigned entries;
};

static int hear(void *arg, const struct entry *entry)
{
    struct heard *heard = arg;

    heard->entries++;
    if (entry->type == ENTRY_OVER) {
        struct spans over = {0};

        assert_int_equal(spans_decode(&over, entry->job, entry->body, entry->size), 0);
        for (size_t i = 0; i < over.count; i++) {
            heard->size += (size_t)snprintf(heard->text + heard->size, sizeof(heard->text) - heard->size,
                                            "over %u:%u.%u+%u\n", over.span[i].job, over.span[i].layer,
                                            over.span[i].first, over.span[i].count);
        }
        spans_fini(&over);
    } else {
        heard->size += (size_t)snprintf(heard->text + heard->size, sizeof(heard->text) - heard->size,
                                        "%d %u %" PRIu64 " %.*s\n", (int)entry->type, entry->job, entry->at,
                                        entry->size > 40 ? 3 : (int)entry->size, (const char *)entry->body);
    }
    assert_true(heard->size < sizeof(heard->text));
    return 0;
}

static void check_reads(const struct ledger *ledger, const char *text)
{
    struct heard *heard = calloc(1, sizeof(*heard));
    struct error err = {0};

    assert_non_null(heard);
    assert_int_equal(ledger_read((struct ledger *)(uintptr_t)ledger, hear, heard, &err), 0);
    assert_string_equal(heard->text, text);
    free(heard);
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

static int write_entry(struct ledger *ledger, enum entry_type type, uint32_t job, uint64_t at,
                       const char *body, struct error *err)
{
    struct entry *entry = entry_create(type, job, at, body, strlen(body));
    int rc;

    assert_non_null(entry);
    rc = ledger_write(ledger, entry, NULL, true, err);
    free(entry);
    return rc;
}

static void put(struct ledger *ledger, enum entry_type type, uint32_t job, uint64_t at, const char *body)
{
    struct error err = {0};

    if (write_entry(ledger, type, job, at, body, &err) != 0) {
        fail_msg("%s", err.text);
    }
}

static void put_over(struct ledger *ledger, uint32_t job, uint32_t layer, uint32_t first, uint32_t count)
{
    struct spans over = {0};

    assert_int_equal(spans_add(&over, &(struct task_range){job, layer, first, count}), 0);
    assert_int_equal(ledger_write(ledger, NULL, &over, false, NULL), 0);
    spans_fini(&over);
}

static void put_large(struct ledger *ledger, uint32_t job, size_t size, struct error *err, int expected)
{
    struct entry *entry;
    uint8_t *bytes = malloc(size);

    assert_non_null(bytes);
    memset(bytes, 'a' + (int)job, size);
    entry = entry_create(ENTRY_JOB, job, 5, bytes, size);
    assert_non_null(entry);
    assert_int_equal(ledger_write(ledger, entry, NULL, true, err), expected);
    free(entry);
    free(bytes);
}

static void test_what_is_written_is_read(void **state)
{
    struct state_folder folder, copy;
    struct ledger *ledger;
    uint64_t id;
    static const char ALL[] = "35 0 18446744073709551615 w1\n"
                              "1 1 70 first\n"
                              "2 1 3 layers\n"
                              "1 2 71 second\n"
                              "over 1:0.5+10\n"
                              "5 1 0 note\n"
                              "4 1 2 failed\n"
                              "6 2 0 ended\n"
                              "33 2 0 a name\n";

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    assert_int_equal(ledger_numbers(ledger).job, 1);
    id = ledger_id(ledger);
    assert_int_not_equal(id, 0);
    put(ledger, ENTRY_JOB, 1, 70, "first");
    put(ledger, ENTRY_LAYERS, 1, 3, "layers");
    put(ledger, ENTRY_JOB, 2, 71, "second");
    put_over(ledger, 1, 0, 5, 10);
    put(ledger, ENTRY_NOTES, 1, 0, "note");
    put(ledger, ENTRY_FAILED, 1, 2, "failed");
    put(ledger, ENTRY_ENDED, 2, 0, "ended");
    put(ledger, ENTRY_KEPT, 2, 0, "a name");
    put(ledger, ENTRY_KEPT, 2, 0, "another");
    put(ledger, ENTRY_UNKEPT, 0, 0, "another");
    put(ledger, ENTRY_WORKER, 0, UINT64_MAX, "w1");
    put(ledger, ENTRY_WORKER, 0, 5, "w2");
    put(ledger, ENTRY_WORKER_GONE, 0, 5, "");
    put(ledger, ENTRY_NUMBERS, 0, (uint64_t)4097 << 32 | 0x80000007, "");
    put(ledger, ENTRY_NUMBERS, 0, (uint64_t)4096 << 32 | 0x80000006, ""); // it waited for room
    check_reads(ledger, ALL);
    folder_crash(&folder, &copy);
    ledger_close(ledger);
    for (int i = 0; i < 2; i++) { // closed, and as a crash left it
        ledger = open_folder(i == 0 ? &folder : &copy);
        check_reads(ledger, ALL);
        assert_true(ledger_id(ledger) == id);
        assert_int_equal(ledger_numbers(ledger).job, 3);
        assert_int_equal(ledger_numbers(ledger).worker, 4097);
        assert_int_equal(ledger_numbers(ledger).client, 0x80000007);
        assert_int_equal(ledger_damaged(ledger), 0);
        ledger_close(ledger);
    }
    folder_end(&folder);
    folder_end(&copy);
}

static void test_forgotten_jobs_leave_nothing_but_their_numbers(void **state)
{
    struct state_folder folder;
    struct ledger *ledger;
    struct entry *both[2];
    struct error err = {0};

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put(ledger, ENTRY_JOB, 8, 0, "eight");
    put_large(ledger, 9, 3 << 20, &err, 0);
    put_over(ledger, 9, 0, 0, 3);
    put(ledger, ENTRY_NOTES, 9, 0, "note");
    put(ledger, ENTRY_KEPT, 9, 0, "nine");
    assert_int_equal(folder_files(&folder, "graphs"), 1);
    put(ledger, ENTRY_FORGOTTEN, 9, 0, "");
    assert_int_equal(folder_files(&folder, "graphs"), 0);
    // Come and gone in one transaction.
    both[0] = entry_create(ENTRY_JOB, 10, 0, "ten", 3);
    both[1] = entry_create(ENTRY_FORGOTTEN, 10, 0, NULL, 0);
    assert_true(both[0] != NULL && both[1] != NULL);
    both[0]->next = both[1];
    assert_int_equal(ledger_write(ledger, both[0], NULL, true, &err), 0);
    free(both[0]);
    free(both[1]);
    ledger_close(ledger);
    ledger = open_folder(&folder);
    check_reads(ledger, "1 8 0 eight\n");
    assert_int_equal(ledger_numbers(ledger).job, 11);
    ledger_close(ledger);
    folder_end(&folder);
}

// A record that comes back with a crash of the system finds its file.
static void test_files_go_when_it_is_safe(void **state)
{
    static const uint8_t large[500000]; // and still no file
    struct state_folder folder;
    struct ledger *ledger;
    struct entry *entry;
    struct error err = {0};

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put_large(ledger, 1, 2 << 20, &err, 0);
    put_large(ledger, 2, 2 << 20, &err, 0);
    entry = entry_create(ENTRY_FORGOTTEN, 1, 0, NULL, 0);
    assert_non_null(entry);
    assert_int_equal(ledger_write(ledger, entry, NULL, false, &err), 0);
    assert_int_equal(folder_files(&folder, "graphs"), 2);
    // One that fails takes nothing away.
    ledger_limit(ledger, 1);
    entry->job = 2;
    entry->next = entry_create(ENTRY_JOB, 3, 0, large, sizeof(large));
    assert_non_null(entry->next);
    assert_int_equal(ledger_write(ledger, entry, NULL, true, &err), -ENOSPC);
    assert_int_equal(folder_files(&folder, "graphs"), 2);
    free(entry->next);
    entry->next = NULL;
    ledger_limit(ledger, 0);
    put(ledger, ENTRY_JOB, 4, 0, "four");
    assert_int_equal(folder_files(&folder, "graphs"), 1);
    // Without anything durable behind it: some time later.
    assert_int_equal(ledger_write(ledger, entry, NULL, false, &err), 0);
    assert_int_equal(folder_files(&folder, "graphs"), 1);
    ledger_tidy(ledger);
    assert_int_equal(folder_files(&folder, "graphs"), 0);
    free(entry);
    check_reads(ledger, "1 4 0 four\n");
    ledger_close(ledger);
    folder_end(&folder);
}

static void test_large_bodies_are_files(void **state)
{
    struct state_folder folder;
    struct ledger *ledger;
    struct error err = {0};
    size_t size;
    uint8_t *bytes;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put_large(ledger, 1, (1 << 20) + 1, &err, 0);
    put_large(ledger, 2, 1 << 20, &err, 0);
    put_large(ledger, 3, (1 << 20) + 2, &err, 0);
    assert_int_equal(folder_files(&folder, "graphs"), 2);
    check_reads(ledger, "1 1 5 bbb\n1 2 5 ccc\n1 3 5 ddd\n");
    ledger_close(ledger);
    // One of them rots, and what nobody knows is removed.
    bytes = folder_slurp(&folder, "graphs/3", &size);
    assert_int_equal(size, (1 << 20) + 2);
    bytes[500000] ^= 1;
    folder_put(&folder, "graphs/3", bytes, size);
    folder_put(&folder, "graphs/77", bytes, size);
    folder_put(&folder, "graphs/tmp", bytes, size);
    free(bytes);
    ledger = open_folder(&folder);
    assert_int_equal(folder_files(&folder, "graphs"), 2);
    check_reads(ledger, "1 1 5 bbb\n1 2 5 ccc\n");
    assert_int_equal(ledger_damaged(ledger), 1);
    ledger_close(ledger);
    folder_end(&folder);
}

// The log ends anywhere: what was committed before is there, and nothing of the rest.
static void test_torn_writes(void **state)
{
    struct state_folder folder, copy;
    struct ledger *ledger;
    size_t size = 0;
    unsigned last = 0;
    size_t step = 1500;
    uint64_t enough_us = monotonic_us() + ENOUGH_US;
    uint8_t *wal;
    char text[32];

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    for (uint32_t i = 1; i <= 12; i++) {
        snprintf(text, sizeof(text), "job %u", i);
        put(ledger, ENTRY_JOB, i, i, text);
    }
    wal = folder_slurp(&folder, "journal.db-wal", &size);
    assert_non_null(wal);
    folder_crash(&folder, &copy);
    ledger_close(ledger);
    for (size_t cut = 0; cut <= size; cut += cut == size ? 1 : size - cut < step ? size - cut : step) {
        struct heard *heard = calloc(1, sizeof(*heard));
        struct state_folder torn;
        struct error err = {0};

        assert_non_null(heard);
        folder_crash(&copy, &torn);
        folder_put(&torn, "journal.db-wal", wal, cut);
        ledger = open_folder(&torn);
        assert_int_equal(ledger_read(ledger, hear, heard, &err), 0);
        assert_true(heard->entries >= last && heard->entries <= 12);
        assert_int_equal(ledger_damaged(ledger), 0);
        last = heard->entries;
        step = monotonic_us() < enough_us ? 1500 : size;
        put(ledger, ENTRY_JOB, 100, 1, "goes on"); // and it can be written
        ledger_close(ledger);
        folder_end(&torn);
        free(heard);
    }
    assert_int_equal(last, 12);
    free(wal);
    folder_end(&folder);
    folder_end(&copy);
}

// A bit of the log turns over: what was committed behind it is lost, said, and no number is used again.
static void test_damaged_log(void **state)
{
    struct state_folder folder, copy;
    struct ledger *ledger;
    uint64_t enough_us = monotonic_us() + ENOUGH_US;
    size_t size = 0;
    uint8_t *wal;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    for (uint32_t i = 1; i <= 12; i++) {
        put(ledger, ENTRY_JOB, i, i, "a job");
    }
    wal = folder_slurp(&folder, "journal.db-wal", &size);
    assert_non_null(wal);
    folder_crash(&folder, &copy);
    ledger_close(ledger);
    for (size_t at = 32 + 24; at < size - 4120 && (at < 30000 || monotonic_us() < enough_us); at += 3001) {
        struct heard *heard = calloc(1, sizeof(*heard));
        struct state_folder damaged, again;
        struct error err = {0};

        assert_non_null(heard);
        folder_crash(&copy, &damaged);
        wal[at] ^= 16;
        folder_put(&damaged, "journal.db-wal", wal, size);
        wal[at] ^= 16;
        ledger = open_folder(&damaged);
        assert_int_equal(ledger_read(ledger, hear, heard, &err), 0);
        assert_true(heard->entries < 12);
        assert_int_equal(ledger_damaged(ledger), 1);
        assert_true(ledger_numbers(ledger).job > 12);
        // That is said once.
        put(ledger, ENTRY_JOB, ledger_numbers(ledger).job, 1, "goes on");
        folder_crash(&damaged, &again);
        ledger_close(ledger);
        ledger = open_folder(&again);
        assert_int_equal(ledger_damaged(ledger), 0);
        ledger_close(ledger);
        folder_end(&again);
        folder_end(&damaged);
        free(heard);
    }
    free(wal);
    folder_end(&folder);
    folder_end(&copy);
}

// The log is gone, though nobody closed the database.
static void test_lost_log(void **state)
{
    struct state_folder folder, copy;
    struct ledger *ledger;
    char path[100];

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put(ledger, ENTRY_JOB, 1, 1, "a job");
    ledger_close(ledger);
    ledger = open_folder(&folder); // closed properly: nothing is amiss
    assert_true(ledger_numbers(ledger).job == 2);
    put(ledger, ENTRY_JOB, 2, 1, "another job");
    folder_crash(&folder, &copy);
    folder_copy_file(&folder, &copy, "open");
    ledger_close(ledger);
    snprintf(path, sizeof(path), "%s/journal.db-wal", copy.path);
    assert_int_equal(remove(path), 0);
    ledger = open_folder(&copy);
    assert_true(ledger_numbers(ledger).job > 1000);
    ledger_close(ledger);
    folder_end(&folder);
    folder_end(&copy);
}

static void test_damaged_records_are_left_out(void **state)
{
    struct state_folder folder;
    struct ledger *ledger;
    size_t size = 0;
    uint8_t *bytes, *at;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put(ledger, ENTRY_JOB, 1, 1, "the first of them");
    put(ledger, ENTRY_JOB, 2, 2, "the second of them");
    put(ledger, ENTRY_JOB, 3, 3, "the third of them");
    put(ledger, ENTRY_KEPT, 3, 0, "quarterly");
    put(ledger, ENTRY_WORKER, 0, 3, "brave worker");
    ledger_close(ledger);
    bytes = folder_slurp(&folder, "journal.db", &size);
    assert_non_null(bytes);
    at = memmem(bytes, size, "the second", 10);
    assert_non_null(at);
    at[4] ^= 4;
    at = memmem(bytes, size, "brave worker", 12);
    assert_non_null(at);
    at[0] ^= 1;
    folder_put(&folder, "journal.db", bytes, size);
    ledger = open_folder(&folder);
    check_reads(ledger, "1 1 1 the first of them\n1 3 3 the third of them\n33 3 0 quarterly\n");
    assert_int_equal(ledger_damaged(ledger), 2);
    ledger_close(ledger);
    free(bytes);
    folder_end(&folder);
}

// Killed between the two renames of a repair: the next one goes on with what the first had read.
static void test_killed_in_a_repair(void **state)
{
    struct state_folder folder, copy;
    struct ledger *ledger;
    size_t size = 0;
    uint8_t *bytes;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put(ledger, ENTRY_JOB, 1, 1, "the first of them");
    put(ledger, ENTRY_JOB, 2, 2, "the second of them");
    ledger_close(ledger);
    bytes = folder_slurp(&folder, "journal.db", &size);
    assert_non_null(bytes);
    folder_begin(&copy);
    folder_put(&copy, "journal.new", bytes, size);
    folder_put(&copy, "journal.db-wal", bytes, 100); // the damaged one's
    folder_put(&copy, "open", bytes, 1);
    ledger = open_folder(&copy);
    check_reads(ledger, "1 1 1 the first of them\n1 2 2 the second of them\n");
    assert_int_equal(ledger_damaged(ledger), 1);
    assert_true(ledger_numbers(ledger).job > 1000);
    ledger_close(ledger);
    ledger = open_folder(&copy);
    assert_int_equal(ledger_damaged(ledger), 0);
    ledger_close(ledger);
    free(bytes);
    folder_end(&copy);
    folder_end(&folder);
}

// Whatever page is destroyed: it opens or says why not, and what it gives was written.
static void test_damaged_pages(void **state)
{
    struct state_folder folder, copy;
    struct ledger *ledger;
    struct heard *heard = calloc(1, sizeof(*heard));
    size_t size = 0, most = 0, page = 4096;
    uint8_t *bytes;
    char text[400];

    (void)state;
    assert_non_null(heard);
    folder_begin(&folder);
    ledger = open_folder(&folder);
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (uint32_t i = 1; i <= 100; i++) {
        put(ledger, ENTRY_JOB, i, i, text);
    }
    ledger_close(ledger);
    bytes = folder_slurp(&folder, "journal.db", &size);
    assert_true(size > 10 * page);
    for (size_t at = 0; at < size; at += page) {
        struct error err = {0};
        int rc;

        folder_begin(&copy);
        memset(bytes + at, 0xee, page);
        folder_put(&copy, "journal.db", bytes, size);
        rc = ledger_open(copy.path, &LOG, &ledger, &err);
        if (rc != 0) {
            assert_non_null(strstr(err.text, copy.path));
        } else {
            memset(heard, 0, sizeof(*heard));
            assert_true(ledger_numbers(ledger).job > 100); // also when nothing of the last jobs can be read
            assert_int_equal(ledger_read(ledger, hear, heard, &err), 0);
            assert_true(heard->entries <= 100);
            assert_true(ledger_damaged(ledger) > 0 || heard->entries == 100);
            most = heard->entries < 100 && heard->entries > most ? heard->entries : most;
            put(ledger, ENTRY_JOB, 1000, 1, "goes on");
            ledger_close(ledger);
        }
        free(bytes);
        bytes = folder_slurp(&folder, "journal.db", &size);
        folder_end(&copy);
    }
    // A page of records holds nine of them.
    assert_true(most >= 85);
    free(bytes);
    free(heard);
    folder_end(&folder);
}

static void test_what_is_no_journal_is_refused(void **state)
{
    static const char NOISE[] = "this is a shopping list, and rather longer than a database's header is";
    struct state_folder folder;
    struct ledger *ledger = NULL;
    struct error err = {0};
    char noise[8192], path[100];

    (void)state;
    folder_begin(&folder);
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = NOISE[i % sizeof(NOISE)];
    }
    folder_put(&folder, "journal.db", noise, sizeof(noise));
    assert_int_equal(ledger_open(folder.path, &LOG, &ledger, &err), -EINVAL);
    assert_non_null(strstr(err.text, "is no journal"));
    assert_non_null(strstr(err.text, folder.path));
    assert_int_equal(folder_files(&folder, ""), 2); // with its lock
    snprintf(path, sizeof(path), "%s/journal.db", folder.path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(ledger_open(folder.path, &LOG, &ledger, &err), -EINVAL);
    assert_non_null(strstr(err.text, "is a symbolic link"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(ledger_open(folder.path, &LOG, &ledger, &err), -EINVAL);
    assert_non_null(strstr(err.text, "it is a folder"));
    assert_int_equal(ledger_open("/proc/nothing/here", &LOG, &ledger, &err), -ENOENT);
    assert_non_null(strstr(err.text, "/proc/nothing/here"));
    folder_end(&folder);
}

static void test_two_cannot_share_a_folder(void **state)
{
    struct state_folder folder;
    struct ledger *ledger, *second = NULL;
    struct error err = {0};
    char pid[32];

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    assert_int_equal(ledger_open(folder.path, &LOG, &second, &err), -EBUSY);
    snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    put(ledger, ENTRY_JOB, 1, 1, "unharmed");
    ledger_close(ledger);
    ledger = open_folder(&folder);
    check_reads(ledger, "1 1 1 unharmed\n");
    ledger_close(ledger);
    folder_end(&folder);
}

// Nothing is told to be safe in a file that nobody will find again.
static void test_taken_away(void **state)
{
    struct state_folder folder;
    struct ledger *ledger;
    struct error err = {0};
    char path[600], aside[600];

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put(ledger, ENTRY_JOB, 1, 1, "before");
    snprintf(path, sizeof(path), "%s/journal.db", folder.path);
    snprintf(aside, sizeof(aside), "%s/elsewhere", folder.path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(write_entry(ledger, ENTRY_JOB, 2, 1, "refused", &err), -ESTALE);
    assert_non_null(strstr(err.text, path));
    fclose(fopen(path, "w")); // another one is no better
    assert_int_equal(write_entry(ledger, ENTRY_JOB, 2, 1, "refused", &err), -ESTALE);
    assert_int_equal(rename(aside, path), 0);
    put(ledger, ENTRY_JOB, 2, 1, "after");
    ledger_close(ledger);
    ledger = open_folder(&folder);
    check_reads(ledger, "1 1 1 before\n1 2 1 after\n");
    ledger_close(ledger);
    folder_end(&folder);
}

// All or nothing, and afterwards as before.
static void test_full(void **state)
{
    struct state_folder folder;
    struct ledger *ledger;
    struct error err = {0};
    char text[4000];
    uint32_t jobs = 0, again;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    ledger_limit(ledger, 40);
    while (write_entry(ledger, ENTRY_JOB, jobs + 1, 0, text, &err) == 0) {
        jobs++;
        assert_true(jobs < 100);
    }
    assert_int_equal(err.code, ENOSPC);
    assert_non_null(strstr(err.text, strerror(ENOSPC)));
    assert_non_null(strstr(err.text, folder.path));
    assert_non_null(strstr(err.text, " MB are free"));
    assert_true(jobs > 10);
    // Who does not want to know is not told.
    assert_int_equal(write_entry(ledger, ENTRY_JOB, jobs + 1, 0, text, NULL), -ENOSPC);
    // What is forgotten makes room.
    put(ledger, ENTRY_FORGOTTEN, 1, 0, "");
    put(ledger, ENTRY_FORGOTTEN, 2, 0, "");
    put(ledger, ENTRY_JOB, jobs + 2, 0, text);
    ledger_limit(ledger, 0);
    put(ledger, ENTRY_JOB, jobs + 3, 0, text);
    ledger_close(ledger);
    ledger = open_folder(&folder);

    struct heard *heard = calloc(1, sizeof(*heard));

    assert_non_null(heard);
    assert_int_equal(ledger_read(ledger, hear, heard, &err), 0);
    again = heard->entries;
    assert_int_equal(again, jobs);
    free(heard);
    ledger_close(ledger);
    folder_end(&folder);
}

// The system says no, in the middle of a file.
static void test_no_room_for_files(void **state)
{
    struct state_folder folder;
    struct ledger *ledger;
    struct error err = {0};
    struct rlimit before, low;

    (void)state;
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put(ledger, ENTRY_JOB, 1, 0, "one");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    low = before;
    low.rlim_cur = 2 << 20;
    sigaction(SIGXFSZ, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    put_large(ledger, 2, 5 << 20, &err, -EFBIG);
    assert_non_null(strstr(err.text, "graphs"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(folder_files(&folder, "graphs"), 0);
    put_large(ledger, 2, 5 << 20, &err, 0);
    check_reads(ledger, "1 1 0 one\n1 2 5 ccc\n");
    ledger_close(ledger);
    folder_end(&folder);
}

static void test_many_small_records_become_one(void **state)
{
    struct state_folder folder;
    struct ledger *ledger;
    struct heard *heard = calloc(1, sizeof(*heard));
    struct error err = {0};
    size_t size = 0;
    int rounds = 0;

    (void)state;
    assert_non_null(heard);
    folder_begin(&folder);
    ledger = open_folder(&folder);
    put(ledger, ENTRY_JOB, 1, 0, "one");
    put(ledger, ENTRY_JOB, 2, 0, "two");
    for (uint32_t i = 0; i < 300; i++) {
        put_over(ledger, 1, 0, 10 * i, 10);
    }
    put_over(ledger, 2, 0, 5, 1);
    while (ledger_tidy(ledger)) {
        assert_true(++rounds < 100);
    }
    check_reads(ledger, "1 1 0 one\n1 2 0 two\nover 2:0.5+1\nover 1:0.0+3000\n");
    // Pages that are free go back to the system.
    for (uint32_t i = 10; i < 15; i++) {
        put_large(ledger, i, 1 << 20, &err, 0);
    }
    for (uint32_t i = 10; i < 15; i++) {
        put(ledger, ENTRY_FORGOTTEN, i, 0, "");
    }
    while (ledger_tidy(ledger)) {
        assert_true(++rounds < 100);
    }
    ledger_close(ledger);
    free(folder_slurp(&folder, "journal.db", &size));
    assert_true(size < 2 << 20);
    free(heard);
    folder_end(&folder);
}

static void test_files_alone(void **state)
{
    struct graphfile file = graphfile_of(3, "hello", 5);

    (void)state;
    assert_int_equal(file.size, 5);
    assert_int_equal(file.seq, 3);
    assert_true(file.sum != graphfile_of(3, "hallo", 5).sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_forgotten_jobs_leave_nothing_but_their_numbers),
        cmocka_unit_test(test_files_go_when_it_is_safe),
        cmocka_unit_test(test_large_bodies_are_files),
        cmocka_unit_test(test_torn_writes),
        cmocka_unit_test(test_damaged_log),
        cmocka_unit_test(test_lost_log),
        cmocka_unit_test(test_damaged_records_are_left_out),
        cmocka_unit_test(test_killed_in_a_repair),
        cmocka_unit_test(test_damaged_pages),
        cmocka_unit_test(test_what_is_no_journal_is_refused),
        cmocka_unit_test(test_two_cannot_share_a_folder),
        cmocka_unit_test(test_taken_away),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_no_room_for_files),
        cmocka_unit_test(test_many_small_records_become_one),
        cmocka_unit_test(test_files_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
