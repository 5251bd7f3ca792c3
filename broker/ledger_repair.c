// A database that is damaged: what can be read of it goes into a new one.  Whether what was read is true is
// found out later, by the checksum of each record.
#include "broker/ledger_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MISSES_BEFORE_LEAPS = 1000 };

static void copy_columns(sqlite3_stmt *from, sqlite3_stmt *to)
{
    for (int i = 0; i < sqlite3_column_count(from); i++) {
        sqlite3_bind_value(to, i + 1, sqlite3_column_value(from, i));
    }
}

// False: the new database takes no more.
static bool copy_row(sqlite3_stmt *from, sqlite3_stmt *to)
{
    int rc;

    copy_columns(from, to);
    rc = sqlite3_step(to);
    sqlite3_reset(to);
    sqlite3_clear_bindings(to);
    return rc == SQLITE_DONE || (rc & 0xff) == SQLITE_CONSTRAINT; // a row that is there twice
}

// As far as it can be read.
static bool copy_table(sqlite3 *from, const char *sql, sqlite3_stmt *to)
{
    sqlite3_stmt *statement = NULL;
    bool taken = true;

    if (sqlite3_prepare_v2(from, sql, -1, &statement, NULL) == SQLITE_OK) {
        while (taken && sqlite3_step(statement) == SQLITE_ROW) {
            taken = copy_row(statement, to);
        }
    }
    sqlite3_finalize(statement);
    return taken;
}

// From the outside in: behind a page that cannot be read there are others that can.
static int64_t find_last(sqlite3 *from)
{
    sqlite3_stmt *statement = NULL;
    int64_t last = INT64_MAX;

    if (sqlite3_prepare_v2(from, "SELECT max(seq) FROM record", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        last = sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    return last;
}

static bool copy_records(sqlite3 *from, sqlite3_stmt *to)
{
    static const char SQL[] = "SELECT seq, job, kind, at, body, sum FROM record NOT INDEXED WHERE seq >= ?1 "
                              "ORDER BY seq LIMIT 1";
    int64_t seq = 0, last = find_last(from), leap = 1;
    sqlite3_stmt *statement = NULL;
    bool taken = true;
    int misses = 0;

    if (sqlite3_prepare_v2(from, SQL, -1, &statement, NULL) != SQLITE_OK) {
        return true;
    }
    while (taken && seq <= last && leap < INT64_MAX / 4) {
        int rc;

        sqlite3_bind_int64(statement, 1, seq);
        rc = sqlite3_step(statement);
        if (rc == SQLITE_DONE) {
            break;
        }
        if (rc == SQLITE_ROW) {
            seq = sqlite3_column_int64(statement, 0) + 1;
            taken = copy_row(statement, to);
            misses = 0;
            leap = 1;
        } else {
            seq += leap;
            leap = ++misses > MISSES_BEFORE_LEAPS ? 2 * leap : 1;
        }
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
    return taken;
}

static int copy_all(struct ledger *from, struct ledger *to, struct error *err)
{
    bool taken =
        sqlite3_exec(to->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
        copy_table(from->db, "SELECT name, value, sum FROM meta", to->statement[INSERT_META]) &&
        copy_table(from->db, "SELECT name, job, sum FROM kept", to->statement[INSERT_KEPT]) &&
        copy_table(from->db, "SELECT incarnation, name, sum FROM worker", to->statement[INSERT_WORKER]) &&
        copy_records(from->db, to->statement[INSERT_RECORD]) &&
        sqlite3_exec(to->db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;

    return taken ? 0 : ledger_error(to, from->path, "cannot repair", err);
}

// The database and its write-ahead log.
static int move(const char *from, const char *to, struct error *err)
{
    static const char *const ENDS[] = {"", "-wal", "-journal", "-shm"};

    for (size_t i = 0; i < sizeof(ENDS) / sizeof(ENDS[0]); i++) {
        char *a = NULL, *b = NULL;
        int rc = 0;

        if (asprintf(&a, "%s%s", from, ENDS[i]) < 0 || asprintf(&b, "%s%s", to, ENDS[i]) < 0) {
            free(a);
            return error_no_memory(err);
        }
        if (rename(a, b) != 0 && errno != ENOENT) {
            rc = error_set(err, errno, "cannot rename %s to %s: %s", a, b, strerror(errno));
        }
        free(a);
        free(b);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static void remove_left_over(const char *path)
{
    char *wal = NULL;

    unlink(path);
    if (asprintf(&wal, "%s-wal", path) >= 0) {
        unlink(wal);
        free(wal);
    }
}

static int name_files(const struct ledger *ledger, char **fresh, char **aside, struct error *err)
{
    if (asprintf(fresh, "%s/journal.new", ledger->dir) < 0) {
        return error_no_memory(err);
    }
    if (asprintf(aside, "%s/journal.damaged-%lld", ledger->dir, (long long)time(NULL)) < 0) {
        free(*fresh);
        return error_no_memory(err);
    }
    return 0;
}

// The new database takes the place of the damaged one.  In this order: where that is not there any more, the new
// one is whole.
static int exchange(const struct ledger *ledger, const char *fresh, const char *aside, struct error *err)
{
    int rc;

    ledger_mark_none(ledger);
    rc = move(ledger->path, aside, err);
    if (rc == 0) {
        rc = move(fresh, ledger->path, err);
    }
    if (rc == 0 && fsync(ledger->folder) != 0) {
        rc = error_set(err, errno, "cannot write %s: %s", ledger->dir, strerror(errno));
    }
    return rc;
}

int ledger_finish_repair(struct ledger *ledger, struct error *err)
{
    char *path = NULL, *aside = NULL;
    int rc = name_files(ledger, &path, &aside, err);

    if (rc != 0) {
        return rc;
    }
    if (access(path, F_OK) == 0) {
        log_write(ledger->log, LEVEL_ERROR,
                  "%s was damaged, and the last broker of this folder died when what could be read of it took its "
                  "place: that goes on",
                  ledger->path);
        ledger->damaged++;
        ledger->repaired = true;
        rc = exchange(ledger, path, aside, err);
        rc = rc == 0 ? 1 : rc;
    }
    free(path);
    free(aside);
    return rc;
}

int ledger_repair(struct ledger *ledger, const char *why, struct error *err)
{
    struct ledger fresh = {.log = ledger->log, .mark = -1, .wal = -1};
    char *path = NULL, *aside = NULL;
    int rc;

    rc = name_files(ledger, &path, &aside, err);
    if (rc != 0) {
        return rc;
    }
    log_write(ledger->log, LEVEL_ERROR,
              "%s is damaged (%s): what can be read of it is taken over, and it is kept as %s", ledger->path,
              why, aside);
    ledger->damaged++;
    ledger->repaired = true;
    remove_left_over(path);
    rc = ledger_connect(&fresh, path, err);
    rc = rc >= 0 ? copy_all(ledger, &fresh, err) : rc;
    ledger_disconnect(&fresh); // the log goes into the database
    ledger_disconnect(ledger);
    rc = rc == 0 ? exchange(ledger, path, aside, err) : rc;
    free(path);
    free(aside);
    return rc == 0 ? ledger_connect(ledger, ledger->path, err) : rc;
}
