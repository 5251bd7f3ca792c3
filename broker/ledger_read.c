// What the ledger says after a restart, and keeping it small.
#include "broker/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "broker/ledger_state.h"

enum {
    OVERS_JOINED_FROM = 256, // written since the last time ...
    OVER_BYTES_JOINED_FROM = 256 << 10,
    VACUUM_PAGES = 256, // at a time
};

static const char *const KINDS[] = {
    [ENTRY_JOB] = "its submission",
    [ENTRY_LAYERS] = "its layers",
    [ENTRY_OVER] = "tasks that were over (they run again)",
    [ENTRY_FAILED] = "tasks that had failed (they run again)",
    [ENTRY_NOTES] = "notes of tasks",
    [ENTRY_ENDED] = "how it ended",
    [ENTRY_GIVEN_UP] = "that nobody has it any more",
    [ENTRY_DETACHED] = "that it goes on without a client",
};

struct reading {
    struct ledger *ledger;
    int (*read)(void *arg, const struct entry *entry);
    void *arg;
    struct error *err;
};

static void say_damaged(struct ledger *ledger, int64_t seq, int64_t job, int kind, const char *why)
{
    int known = kind & ~KIND_IN_FILE;
    const char *what = known >= ENTRY_JOB && known <= ENTRY_DETACHED ? KINDS[known] : "nothing that is known";

    ledger->damaged++;
    log_write(ledger->log, LEVEL_ERROR,
              "%s: record %" PRId64 " of job %" PRId64 " (%s) is damaged and left out%s%s", ledger->path, seq,
              job, what, why != NULL ? ": " : "", why != NULL ? why : "");
}

static int hand_over(const struct reading *reading, enum entry_type type, uint32_t job, uint64_t at,
                     const void *body, size_t size)
{
    struct entry *entry = entry_create(type, job, at, body, size);
    int rc;

    if (entry == NULL) {
        return error_no_memory(reading->err);
    }
    rc = reading->read(reading->arg, entry);
    free(entry);
    return rc;
}

static int read_file(const struct reading *reading, int kind, int64_t seq, uint32_t job, uint64_t at,
                     const void *body, size_t size)
{
    struct ledger *ledger = reading->ledger;
    struct graphfile file = {.seq = seq};
    struct error why = {0};
    uint8_t *data = NULL;
    uint64_t fields[2] = {0};
    int rc;

    if (size == sizeof(fields)) { // as has been checked
        memcpy(fields, body, sizeof(fields));
    }
    file.size = fields[0];
    file.sum = fields[1];
    rc = graphfile_read(ledger->graphs, ledger->graphs_path, &file, &data, &why);
    if (rc == -ENOMEM) {
        return error_no_memory(reading->err);
    }
    if (rc != 0) {
        say_damaged(ledger, seq, job, kind, why.text);
        return 0;
    }
    rc = hand_over(reading, (enum entry_type)(kind & ~KIND_IN_FILE), job, at, data, file.size);
    free(data);
    return rc;
}

static int read_record(const struct reading *reading, sqlite3_stmt *row)
{
    int64_t seq = sqlite3_column_int64(row, 0), number = sqlite3_column_int64(row, 1);
    int kind = sqlite3_column_int(row, 2), type = kind & ~KIND_IN_FILE;
    uint64_t at = (uint64_t)sqlite3_column_int64(row, 3);
    const void *body = sqlite3_column_blob(row, 4);
    size_t size = (size_t)sqlite3_column_bytes(row, 4);
    uint32_t job = (uint32_t)number;

    if (number <= 0 || number > UINT32_MAX || type < ENTRY_JOB || type > ENTRY_DETACHED ||
        sqlite3_column_int64(row, 5) != ledger_sum(kind, seq, job, at, body, size)) {
        say_damaged(reading->ledger, seq, number, kind, NULL);
        return 0;
    }
    return kind != type ? read_file(reading, kind, seq, job, at, body, size)
                        : hand_over(reading, (enum entry_type)type, job, at, body, size);
}

// Of kept (name, job, sum) and worker (name, incarnation, sum).
static int read_name(const struct reading *reading, sqlite3_stmt *row, enum entry_type type)
{
    const char *name = (const char *)sqlite3_column_text(row, 0);
    size_t size = (size_t)sqlite3_column_bytes(row, 0);
    int64_t number = sqlite3_column_int64(row, 1);
    uint32_t job = type == ENTRY_KEPT ? (uint32_t)number : 0;
    uint64_t at = type == ENTRY_KEPT ? 0 : (uint64_t)number;

    if (name == NULL || sqlite3_column_int64(row, 2) != ledger_sum(type, 0, job, at, name, size)) {
        reading->ledger->damaged++;
        log_write(reading->ledger->log, LEVEL_ERROR, "%s: the entry of %s \"%s\" is damaged and left out",
                  reading->ledger->path, type == ENTRY_KEPT ? "the kept name" : "the worker",
                  name == NULL ? "?" : name);
        return 0;
    }
    return hand_over(reading, type, job, at, name, size);
}

static int read_table(const struct reading *reading, const char *sql, enum entry_type type)
{
    struct ledger *ledger = reading->ledger;
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(ledger->db, sql, -1, &statement, NULL);
    int result = 0;

    while (result == 0 && (rc == SQLITE_OK || rc == SQLITE_ROW)) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW) {
            result =
                type == ENTRY_JOB ? read_record(reading, statement) : read_name(reading, statement, type);
        }
    }
    if (result == 0 && rc != SQLITE_DONE) {
        result = ledger_error(ledger, ledger->path, "cannot read", reading->err);
    }
    sqlite3_finalize(statement);
    return result;
}

int ledger_read(struct ledger *ledger, int (*read)(void *arg, const struct entry *entry), void *arg,
                struct error *err)
{
    const struct reading reading = {ledger, read, arg, err};
    int rc = read_table(&reading, "SELECT name, incarnation, sum FROM worker", ENTRY_WORKER);

    if (rc == 0) {
        rc = read_table(&reading, "SELECT seq, job, kind, at, body, sum FROM record ORDER BY seq", ENTRY_JOB);
    }
    return rc == 0 ? read_table(&reading, "SELECT name, job, sum FROM kept", ENTRY_KEPT) : rc;
}

// ---- keeping it small -----------------------------------------------------------------

// What the records of tasks that are over say together; damaged ones have nothing to say.
static int collect_over(struct ledger *ledger, uint32_t job, struct spans *out)
{
    sqlite3_stmt *statement = ledger->statement[SELECT_OVER];
    int rc, result = 0;

    sqlite3_bind_int64(statement, 1, job);
    while (result == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        int64_t seq = sqlite3_column_int64(statement, 0);
        uint64_t at = (uint64_t)sqlite3_column_int64(statement, 1);
        const void *body = sqlite3_column_blob(statement, 2);
        size_t size = (size_t)sqlite3_column_bytes(statement, 2);

        if (sqlite3_column_int64(statement, 3) == ledger_sum(ENTRY_OVER, seq, job, at, body, size)) {
            result = spans_decode(out, job, body, size);
        }
    }
    sqlite3_reset(statement);
    return result;
}

// Many small records of a job become one.
static bool join_over(struct ledger *ledger)
{
    sqlite3_stmt *many = ledger->statement[SELECT_MANY_OVER];
    struct spans over = {0};
    uint32_t job = 0;

    if (sqlite3_step(many) == SQLITE_ROW) {
        job = (uint32_t)sqlite3_column_int64(many, 0);
    }
    sqlite3_reset(many);
    if (job == 0 || collect_over(ledger, job, &over) != 0 ||
        ledger_replace_over(ledger, job, &over, NULL) != 0) {
        ledger->overs = 0; // nothing to do, or another time
        ledger->over_bytes = 0;
        job = 0;
    }
    spans_fini(&over);
    return job != 0;
}

bool ledger_tidy(struct ledger *ledger)
{
    sqlite3_stmt *statement = NULL;
    int64_t free_pages = 0;
    char sql[64];

    // Nothing durable came after what they belonged to was forgotten: a checkpoint syncs log and database.
    if (ledger->pending > 0 &&
        sqlite3_wal_checkpoint_v2(ledger->db, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL) == SQLITE_OK) {
        ledger_remove_pending(ledger);
    }
    if (ledger->overs >= OVERS_JOINED_FROM || ledger->over_bytes >= OVER_BYTES_JOINED_FROM) {
        return join_over(ledger);
    }
    if (sqlite3_prepare_v2(ledger->db, "PRAGMA freelist_count", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        free_pages = sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    if (free_pages < VACUUM_PAGES) {
        return false;
    }
    sqlite3_snprintf(sizeof(sql), sql, "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
    return sqlite3_exec(ledger->db, sql, NULL, NULL, NULL) == SQLITE_OK && free_pages >= 2 * VACUUM_PAGES;
}
