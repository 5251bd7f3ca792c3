#define XXH_INLINE_ALL
#include "broker/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

#include "broker/ledger_state.h"

enum { AUTO_VACUUM_INCREMENTAL = 2 }; // as PRAGMA auto_vacuum tells it

static const char *const SQL[LEDGER_STATEMENTS] = {
    [INSERT_RECORD] = "INSERT INTO record(seq, job, kind, at, body, sum) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [INSERT_KEPT] = "INSERT OR REPLACE INTO kept(name, job, sum) VALUES(?1, ?2, ?3)",
    [INSERT_WORKER] = "INSERT OR REPLACE INTO worker(incarnation, name, sum) VALUES(?1, ?2, ?3)",
    [INSERT_META] = "INSERT OR REPLACE INTO meta(name, value, sum) VALUES(?1, ?2, ?3)",
    [DELETE_JOB] =
        "DELETE FROM record WHERE kind IN (1, 2, 3, 4, 5, 6, 7, 8, 65, 66, 68, 69, 70) AND job = ?1",
    [DELETE_JOB_KEPT] = "DELETE FROM kept WHERE job = ?1",
    [DELETE_KEPT] = "DELETE FROM kept WHERE name = ?1",
    [DELETE_WORKER] = "DELETE FROM worker WHERE incarnation = ?1",
    [DELETE_OVER] = "DELETE FROM record WHERE kind = 3 AND job = ?1",
    [SELECT_FILES] = "SELECT seq FROM record WHERE kind IN (65, 66, 68, 69, 70) AND job = ?1",
    [DELETE_LAYERS] = "DELETE FROM record WHERE kind IN (2, 66) AND job = ?1 AND at = ?2",
    [SELECT_LAYERS_FILE] = "SELECT seq FROM record WHERE kind = 66 AND job = ?1 AND at = ?2",
    [SELECT_OVER] = "SELECT seq, at, body, sum FROM record WHERE kind = 3 AND job = ?1",
    // Or so many bytes in small ones that joining them is worth what it writes.
    [SELECT_MANY_OVER] = "SELECT job FROM record WHERE kind = 3 GROUP BY job HAVING count(*) > 64 OR "
                         "sum(length(body)) - max(length(body)) > max(262144, max(length(body))) LIMIT 1",
};

static const char LOCK[] =
    "PRAGMA locking_mode = EXCLUSIVE;"; // no shared memory in a file that a full disk could take away
static const char VACUUM[] = "PRAGMA auto_vacuum = INCREMENTAL;";
static const char PREPARE[] = "PRAGMA journal_mode = WAL;"
                              "PRAGMA synchronous = FULL;"
                              "PRAGMA journal_size_limit = 16777216;"
                              "PRAGMA temp_store = MEMORY;"
                              "PRAGMA cell_size_check = ON;";

static const char CREATE[] =
    "BEGIN IMMEDIATE;"
    "PRAGMA application_id = 1148346745;" // LEDGER_APPLICATION
    "PRAGMA user_version = 1;"
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER, sum INTEGER) WITHOUT ROWID;"
    "CREATE TABLE record(seq INTEGER PRIMARY KEY, job INTEGER, kind INTEGER, at INTEGER, body BLOB, sum "
    "INTEGER);"
    "CREATE INDEX record_job ON record(kind, job);"
    "CREATE TABLE kept(name TEXT PRIMARY KEY, job INTEGER, sum INTEGER) WITHOUT ROWID;"
    "CREATE TABLE worker(incarnation INTEGER PRIMARY KEY, name TEXT, sum INTEGER);"
    "COMMIT;";

struct entry *entry_create(enum entry_type type, uint32_t job, uint64_t at, const void *body, size_t size)
{
    struct entry *entry = malloc(sizeof(*entry) + size + 1);

    if (entry != NULL) {
        *entry = (struct entry){.type = type, .job = job, .at = at, .size = size};
        if (size > 0) {
            memcpy(entry->body, body, size);
        }
        entry->body[size] = 0;
    }
    return entry;
}

int64_t ledger_sum(int kind, int64_t seq, uint32_t job, uint64_t at, const void *body, size_t size)
{
    const uint64_t numbers[] = {(uint64_t)kind, (uint64_t)seq, job, at};

    return (int64_t)XXH3_64bits_withSeed(body, size, XXH3_64bits(numbers, sizeof(numbers)));
}

int ledger_error(const struct ledger *ledger, const char *path, const char *what, struct error *err)
{
    int code = EIO;

    switch (sqlite3_errcode(ledger->db) & 0xff) {
    case SQLITE_FULL:
        code = ENOSPC;
        break;
    case SQLITE_NOMEM:
        code = ENOMEM;
        break;
    case SQLITE_NOTADB:
        return error_set(err, EINVAL,
                         "%s is no journal of a broker (it is no SQLite database): move it away, or name "
                         "another folder",
                         path);
    case SQLITE_CORRUPT:
        code = EBADMSG;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, EBUSY, "%s: another process uses this database", path);
    default:
        if (sqlite3_system_errno(ledger->db) > 0) {
            code = sqlite3_system_errno(ledger->db);
        }
        break;
    }
    return error_set(err, code, "%s %s: %s", what, path,
                     code == ENOSPC ? strerror(ENOSPC) : sqlite3_errmsg(ledger->db));
}

// ---- open -------------------------------------------------------------------------

static int query_int(const struct ledger *ledger, const char *sql, int64_t *out)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(ledger->db, sql, -1, &statement, NULL);

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW) {
            *out = sqlite3_column_int64(statement, 0);
            rc = SQLITE_OK;
        }
    }
    sqlite3_finalize(statement);
    return rc;
}

static int check_version(const struct ledger *ledger, const char *path, struct error *err)
{
    int64_t application = 0, version = 0, tables = 0;

    if (query_int(ledger, "PRAGMA application_id", &application) != SQLITE_OK ||
        query_int(ledger, "PRAGMA user_version", &version) != SQLITE_OK ||
        query_int(ledger, "SELECT count(*) FROM sqlite_master", &tables) != SQLITE_OK) {
        return ledger_error(ledger, path, "cannot read", err);
    }
    if (tables == 0 && application == 0) {
        return 1; // new
    }
    if (application != LEDGER_APPLICATION) {
        return error_set(
            err, EINVAL,
            "%s is no journal of a broker (it is a database of something else): move it away, or "
            "name another folder",
            path);
    }
    if (version != LEDGER_VERSION) {
        return error_set(err, EINVAL,
                         "%s was written by another version of Dray (its format is %" PRId64
                         ", this version's is %d): use that one, or name another folder",
                         path, version, LEDGER_VERSION);
    }
    return 0;
}

// Where it is no news nothing is written: a broker starts on a full disk.
static int prepare(struct ledger *ledger)
{
    int64_t vacuum = 0;
    int rc = sqlite3_exec(ledger->db, LOCK, NULL, NULL, NULL);

    if (rc == SQLITE_OK) {
        rc = query_int(ledger, "PRAGMA auto_vacuum", &vacuum);
    }
    if (rc == SQLITE_OK && vacuum != AUTO_VACUUM_INCREMENTAL) {
        rc = sqlite3_exec(ledger->db, VACUUM, NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? sqlite3_exec(ledger->db, PREPARE, NULL, NULL, NULL) : rc;
}

int ledger_connect(struct ledger *ledger, const char *path, struct error *err)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int rc;

    if (sqlite3_open_v2(path, &ledger->db, flags, NULL) != SQLITE_OK) {
        return ledger->db == NULL ? error_no_memory(err) : ledger_error(ledger, path, "cannot open", err);
    }
    sqlite3_extended_result_codes(ledger->db, 1);
    ledger->durable = true;
    if (prepare(ledger) != SQLITE_OK) {
        return ledger_error(ledger, path, "cannot use", err);
    }
    ledger_watch_commits(ledger);
    rc = check_version(ledger, path, err);
    if (rc == 1 && sqlite3_exec(ledger->db, CREATE, NULL, NULL, NULL) != SQLITE_OK) {
        return ledger_error(ledger, path, "cannot write", err);
    }
    for (int i = 0; rc >= 0 && i < LEDGER_STATEMENTS; i++) {
        if (sqlite3_prepare_v3(ledger->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &ledger->statement[i],
                               NULL) != SQLITE_OK) {
            rc = ledger_error(ledger, path, "cannot use", err);
        }
    }
    return rc;
}

void ledger_disconnect(struct ledger *ledger)
{
    for (int i = 0; i < LEDGER_STATEMENTS; i++) {
        sqlite3_finalize(ledger->statement[i]);
        ledger->statement[i] = NULL;
    }
    sqlite3_close(ledger->db);
    ledger->db = NULL;
}

// "ok", or what is wrong first.  The caller frees it.
static char *find_damage(const struct ledger *ledger)
{
    sqlite3_stmt *statement = NULL;
    char *damage = NULL;

    if (sqlite3_prepare_v2(ledger->db, "PRAGMA integrity_check(1)", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);

        damage = strdup(text != NULL ? text : "?");
        for (char *at = damage; at != NULL && *at != '\0'; at++) {
            *at = *at == '\n' ? ' ' : *at;
        }
    } else {
        damage = strdup(sqlite3_errmsg(ledger->db));
    }
    sqlite3_finalize(statement);
    return damage;
}

// ---- meta -------------------------------------------------------------------------

static int64_t meta_sum(const char *name, uint64_t value)
{
    return ledger_sum(KIND_META, 0, 0, value, name, strlen(name));
}

static int put_meta(struct ledger *ledger, const char *name, uint64_t value)
{
    sqlite3_stmt *statement = ledger->statement[INSERT_META];
    int rc;

    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, (int64_t)value);
    sqlite3_bind_int64(statement, 3, meta_sum(name, value));
    rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    return rc;
}

static void read_meta(struct ledger *ledger)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(ledger->db, "SELECT name, value, sum FROM meta", -1, &statement, NULL) !=
        SQLITE_OK) {
        return;
    }
    while (sqlite3_step(statement) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        uint64_t value = (uint64_t)sqlite3_column_int64(statement, 1);

        if (name == NULL || sqlite3_column_int64(statement, 2) != meta_sum(name, value)) {
            ledger->damaged++;
            log_write(ledger->log, LEVEL_ERROR, "%s: the entry \"%s\" is damaged and left out", ledger->path,
                      name == NULL ? "?" : name);
        } else if (strcmp(name, "id") == 0) {
            ledger->id = value;
        } else if (strcmp(name, "job") == 0) {
            ledger->numbers.job = ledger->written_job = (uint32_t)value;
        } else if (strcmp(name, "peers") == 0) {
            ledger->numbers.worker = (uint32_t)(value >> 32);
            ledger->numbers.client = (uint32_t)value;
        }
    }
    sqlite3_finalize(statement);
}

// Workers may hold partitions of jobs that it has lost: no other job may have their numbers.
static int leap(struct ledger *ledger, struct error *err)
{
    struct ledger_numbers *numbers = &ledger->numbers;

    if (!ledger->repaired) {
        return 0;
    }
    numbers->job += NUMBERS_LEAP;
    numbers->worker += numbers->worker > 0 ? NUMBERS_LEAP : 0;
    numbers->client += numbers->client > 0 ? NUMBERS_LEAP : 0;
    if (put_meta(ledger, "job", numbers->job) != SQLITE_DONE) {
        return ledger_error(ledger, ledger->path, "cannot write", err);
    }
    ledger->written_job = numbers->job;
    return 0;
}

static int fill_meta(struct ledger *ledger, struct error *err)
{
    int64_t seq = 0, job = 0;
    int rc;

    read_meta(ledger);
    if (query_int(ledger, "SELECT max(seq) FROM record", &seq) != SQLITE_OK ||
        query_int(ledger, "SELECT max(job) FROM record WHERE kind IN (1, 65)", &job) != SQLITE_OK) {
        return ledger_error(ledger, ledger->path, "cannot read", err);
    }
    ledger->seq = seq + 1;
    if (job >= 0 && job < UINT32_MAX && ledger->numbers.job <= (uint32_t)job) {
        ledger->numbers.job = (uint32_t)job + 1;
    }
    if (ledger->numbers.job == 0) {
        ledger->numbers.job = 1;
    }
    rc = leap(ledger, err);
    if (rc != 0) {
        return rc;
    }
    if (ledger->id != 0) {
        return 0;
    }
    if (getrandom(&ledger->id, sizeof(ledger->id), 0) != (ssize_t)sizeof(ledger->id)) {
        return error_set(err, EIO, "cannot get random bytes: %s", strerror(errno));
    }
    ledger->id |= 1;
    return put_meta(ledger, "id", ledger->id) == SQLITE_DONE
               ? 0
               : ledger_error(ledger, ledger->path, "cannot write", err);
}

static bool is_wanted(void *arg, int64_t seq)
{
    const struct ledger *ledger = arg;
    char sql[96];
    int64_t found = 1; // unknown: it stays

    snprintf(sql, sizeof(sql), "SELECT count(*) FROM record WHERE seq = %" PRId64, seq);
    query_int(ledger, sql, &found);
    return found != 0;
}

static int open_parts(struct ledger *ledger, struct error *err)
{
    char *damage;
    int rc = ledger_take_folder(ledger, err);

    if (rc == 0) {
        rc = ledger_look_at_file(ledger, err);
    }
    if (rc >= 0) {
        if (rc == 0 && !ledger->repaired) {
            ledger_look_at_wal(ledger);
        }
        rc = ledger_connect(ledger, ledger->path, err);
    }
    if (rc == -EBADMSG) {
        rc = ledger_repair(ledger, err != NULL ? err->text : "it is damaged", err);
    }
    if (rc == 0) {
        damage = find_damage(ledger);
        rc = damage == NULL              ? error_no_memory(err)
             : strcmp(damage, "ok") == 0 ? 0
                                         : ledger_repair(ledger, damage, err);
        free(damage);
    }
    if (rc == 1) {
        log_write(ledger->log, LEVEL_INFO, "%s begins a new journal", ledger->path);
        rc = 0;
    }
    // Where it is, a journal has been.
    if (rc == 0) {
        rc = ledger_open_folder(ledger->graphs_path, &ledger->graphs, err);
    }
    if (rc == 0) {
        rc = fill_meta(ledger, err);
    }
    if (rc == 0 && ledger->repaired) {
        // What is left of the log would be found again, and missed again.
        ledger_mark_none(ledger);
        fsync(ledger->folder);
        sqlite3_wal_checkpoint_v2(ledger->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    if (rc == 0) {
        ledger_note_file(ledger);
        ledger_mark_open(ledger);
    }
    return rc;
}

int ledger_open(const char *dir, const struct log *log, struct ledger **out, struct error *err)
{
    struct ledger *ledger = calloc(1, sizeof(*ledger));
    struct error error = {0};
    int rc;

    if (ledger == NULL) {
        return error_no_memory(err);
    }
    ledger->log = log;
    ledger->lock = ledger->folder = ledger->graphs = ledger->mark = ledger->wal = -1;
    ledger->dir = strdup(dir);
    if (ledger->dir == NULL || asprintf(&ledger->path, "%s/journal.db", dir) < 0 ||
        asprintf(&ledger->graphs_path, "%s/graphs", dir) < 0) {
        ledger_close(ledger);
        return error_no_memory(err);
    }
    rc = open_parts(ledger, &error);
    if (rc == -ENOSPC || rc == -EDQUOT) {
        ledger_say_full(ledger, &error);
    }
    if (rc != 0) {
        ledger_close(ledger);
        return error_set(err, error.code, "%s", error.text);
    }
    graphfiles_sweep(ledger->graphs, is_wanted, ledger);
    *out = ledger;
    return 0;
}

void ledger_close(struct ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    ledger_mark_closing(ledger);
    if (ledger->db != NULL) {
        ledger_disconnect(ledger);
        ledger_mark_closed(ledger);
    }
    for (int i = 0; i < 3; i++) {
        int fd = i == 0 ? ledger->graphs : i == 1 ? ledger->lock : ledger->folder;

        if (fd >= 0) {
            close(fd);
        }
    }
    free(ledger->file);
    free(ledger->scratch);
    free(ledger->graphs_path);
    free(ledger->path);
    free(ledger->place);
    free(ledger->dir);
    free(ledger);
}

uint64_t ledger_id(const struct ledger *ledger)
{
    return ledger->id;
}

struct ledger_numbers ledger_numbers(const struct ledger *ledger)
{
    return ledger->numbers;
}

size_t ledger_damaged(const struct ledger *ledger)
{
    return ledger->damaged;
}

void ledger_limit(struct ledger *ledger, uint32_t pages)
{
    char sql[64];

    snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %" PRIu32, pages == 0 ? 0xfffffffe : pages);
    sqlite3_exec(ledger->db, sql, NULL, NULL, NULL);
}

// ---- write ------------------------------------------------------------------------

// SQLITE_DONE or what went wrong.
static int insert(struct ledger *ledger, int kind, uint32_t job, uint64_t at, const void *body, size_t size)
{
    sqlite3_stmt *statement = ledger->statement[INSERT_RECORD];
    int64_t seq = ledger->seq++;
    int rc;

    sqlite3_bind_int64(statement, 1, seq);
    sqlite3_bind_int64(statement, 2, job);
    sqlite3_bind_int64(statement, 3, kind);
    sqlite3_bind_int64(statement, 4, (int64_t)at);
    sqlite3_bind_blob64(statement, 5, body, size, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 6, ledger_sum(kind, seq, job, at, body, size));
    rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc;
}

static int run_with(struct ledger *ledger, enum ledger_statement which, uint64_t number)
{
    sqlite3_stmt *statement = ledger->statement[which];
    int rc;

    sqlite3_bind_int64(statement, 1, (int64_t)number);
    rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    return rc;
}

static bool note_file(struct ledger *ledger, int64_t seq, bool is_new)
{
    if (ledger->files == ledger->files_max) {
        size_t max = ledger->files_max * 2 + 16;
        struct ledger_file *more = realloc(ledger->file, max * sizeof(*more));

        if (more == NULL) {
            return false;
        }
        ledger->file = more;
        ledger->files_max = max;
    }
    ledger->file[ledger->files++] = (struct ledger_file){seq, is_new};
    return true;
}

void ledger_remove_pending(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->pending; i++) {
        graphfile_remove(ledger->graphs, ledger->file[i].seq);
    }
    memmove(ledger->file, ledger->file + ledger->pending,
            (ledger->files - ledger->pending) * sizeof(*ledger->file));
    ledger->files -= ledger->pending;
    ledger->pending = 0;
}

// The transaction is over.  Files of what was not written go at once; those of what was forgotten when that
// is on the disk, or a crash of the system would leave a record whose file is gone.  (Files without a record
// are removed at the start.)
static void settle_files(struct ledger *ledger, bool committed)
{
    size_t kept = ledger->pending;

    for (size_t i = ledger->pending; i < ledger->files; i++) {
        if (committed && !ledger->file[i].is_new) {
            ledger->file[kept++] = ledger->file[i];
        } else if (!committed && ledger->file[i].is_new) {
            graphfile_remove(ledger->graphs, ledger->file[i].seq);
        }
    }
    ledger->files = ledger->pending = kept;
    if (committed && ledger->durable && kept > 0) {
        ledger_remove_pending(ledger);
    }
}

static int put_record(struct ledger *ledger, const struct entry *entry, struct error *err)
{
    struct graphfile file;
    uint64_t body[2];

    if (entry->size <= FILE_FROM) {
        return insert(ledger, (int)entry->type, entry->job, entry->at, entry->body, entry->size);
    }
    file = graphfile_of(ledger->seq, entry->body, entry->size);
    if (!note_file(ledger, file.seq, true)) {
        return SQLITE_NOMEM;
    }
    if (graphfile_write(ledger->graphs, ledger->graphs_path, &file, entry->body, err) != 0) {
        return SQLITE_IOERR; // err says more
    }
    body[0] = file.size;
    body[1] = file.sum;
    return insert(ledger, (int)entry->type + KIND_IN_FILE, entry->job, entry->at, body, sizeof(body));
}

// Its files go when the transaction is through (those that cannot be noted at the next start).
static int note_files(struct ledger *ledger, enum ledger_statement which, uint32_t job, uint64_t at)
{
    sqlite3_stmt *statement = ledger->statement[which];
    int rc;

    sqlite3_bind_int64(statement, 1, job);
    if (which == SELECT_LAYERS_FILE) {
        sqlite3_bind_int64(statement, 2, (int64_t)at);
    }
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        note_file(ledger, sqlite3_column_int64(statement, 0), false);
    }
    sqlite3_reset(statement);
    return rc;
}

static int forget(struct ledger *ledger, uint32_t job)
{
    int rc = note_files(ledger, SELECT_FILES, job, 0);

    if (rc == SQLITE_DONE) {
        rc = run_with(ledger, DELETE_JOB, job);
    }
    if (rc == SQLITE_DONE) {
        rc = run_with(ledger, DELETE_JOB_KEPT, job);
    }
    // The highest number may have been its.
    if (rc == SQLITE_DONE && ledger->written_job < ledger->numbers.job) {
        rc = put_meta(ledger, "job", ledger->numbers.job);
        ledger->writing_job = ledger->numbers.job;
    }
    return rc;
}

// Layers that were written down before it was known that nobody would have them.
static int take_back(struct ledger *ledger, const struct entry *entry)
{
    sqlite3_stmt *statement = ledger->statement[DELETE_LAYERS];
    int rc = note_files(ledger, SELECT_LAYERS_FILE, entry->job, entry->at);

    if (rc == SQLITE_DONE) {
        sqlite3_bind_int64(statement, 1, entry->job);
        sqlite3_bind_int64(statement, 2, (int64_t)entry->at);
        rc = sqlite3_step(statement);
        sqlite3_reset(statement);
    }
    return rc;
}

static int64_t kept_sum(const char *name, size_t size, uint32_t job)
{
    return ledger_sum(ENTRY_KEPT, 0, job, 0, name, size);
}

static int64_t worker_sum(uint64_t incarnation, const char *name, size_t size)
{
    return ledger_sum(ENTRY_WORKER, 0, 0, incarnation, name, size);
}

static int put_name(struct ledger *ledger, const struct entry *entry)
{
    bool is_kept = entry->type == ENTRY_KEPT;
    sqlite3_stmt *statement = ledger->statement[is_kept ? INSERT_KEPT : INSERT_WORKER];
    const char *name = (const char *)entry->body;
    int rc;

    if (is_kept) {
        sqlite3_bind_int64(statement, 2, entry->job);
    } else {
        sqlite3_bind_int64(statement, 1, (int64_t)entry->at);
    }
    sqlite3_bind_text(statement, is_kept ? 1 : 2, name, (int)entry->size, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 3,
                       is_kept ? kept_sum(name, entry->size, entry->job)
                               : worker_sum(entry->at, name, entry->size));
    rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc;
}

static int remove_name(struct ledger *ledger, const struct entry *entry)
{
    sqlite3_stmt *statement = ledger->statement[DELETE_KEPT];
    int rc;

    sqlite3_bind_text(statement, 1, (const char *)entry->body, (int)entry->size, SQLITE_STATIC);
    rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return rc;
}

// They only grow: what waited for room comes behind what did not have to.
static int put_peers(struct ledger *ledger, uint32_t worker, uint32_t client)
{
    struct ledger_numbers *numbers = &ledger->numbers;

    numbers->worker = worker > numbers->worker ? worker : numbers->worker;
    numbers->client = client > numbers->client ? client : numbers->client;
    return put_meta(ledger, "peers", (uint64_t)numbers->worker << 32 | numbers->client);
}

static int put_entry(struct ledger *ledger, const struct entry *entry, struct error *err)
{
    switch (entry->type) {
    case ENTRY_JOB:
        ledger->numbers.job = entry->job >= ledger->numbers.job ? entry->job + 1 : ledger->numbers.job;
        return put_record(ledger, entry, err);
    case ENTRY_FORGOTTEN:
        return forget(ledger, entry->job);
    case ENTRY_KEPT:
    case ENTRY_WORKER:
        return put_name(ledger, entry);
    case ENTRY_UNKEPT:
        return remove_name(ledger, entry);
    case ENTRY_WORKER_GONE:
        return run_with(ledger, DELETE_WORKER, entry->at);
    case ENTRY_NOT_LAYERS:
        return take_back(ledger, entry);
    case ENTRY_NUMBERS:
        return put_peers(ledger, (uint32_t)(entry->at >> 32), (uint32_t)entry->at);
    default:
        return put_record(ledger, entry, err);
    }
}

// One record a job.
static int put_over(struct ledger *ledger, struct spans *over)
{
    size_t bytes;
    int rc = SQLITE_DONE;

    over->count = spans_join(over->span, over->count);
    bytes = spans_bytes_max(over->count);
    if (bytes > ledger->scratch_bytes) {
        uint8_t *more = realloc(ledger->scratch, bytes);

        if (more == NULL) {
            return SQLITE_NOMEM;
        }
        ledger->scratch = more;
        ledger->scratch_bytes = bytes;
    }
    for (size_t i = 0, n; rc == SQLITE_DONE && i < over->count; i += n) {
        for (n = 1; i + n < over->count && over->span[i + n].job == over->span[i].job; n++) {
        }
        bytes = spans_encode(&over->span[i], n, ledger->scratch);
        rc = insert(ledger, ENTRY_OVER, over->span[i].job, 0, ledger->scratch, bytes);
        ledger->overs++;
        ledger->over_bytes += bytes;
    }
    return rc;
}

// False: it stays what it was.
static bool set_durable(struct ledger *ledger, bool durable)
{
    if (ledger->durable != durable &&
        sqlite3_exec(ledger->db, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL,
                     NULL, NULL) == SQLITE_OK) {
        ledger->durable = durable;
    }
    return ledger->durable == durable;
}

static int fail(struct ledger *ledger, struct error *said, struct error *err)
{
    if (said->code == 0 && (sqlite3_errcode(ledger->db) & 0xff) == SQLITE_OK) {
        error_no_memory(said);
    } else if (said->code == 0) {
        ledger_error(ledger, ledger->path, "cannot write", said);
    }
    if (said->code == ENOSPC || said->code == EDQUOT) {
        ledger_say_full(ledger, said);
    }
    sqlite3_exec(ledger->db, "ROLLBACK", NULL, NULL, NULL); // it may have been done already
    settle_files(ledger, false);
    ledger->writing_job = 0;
    return error_set(err, said->code, "%s", said->text);
}

int ledger_write(struct ledger *ledger, const struct entry *entries, struct spans *over, bool durable,
                 struct error *err)
{
    struct error said = {0};
    int rc = SQLITE_DONE;

    if (ledger_check_file(ledger, &said) != 0 || (!set_durable(ledger, durable) && durable) ||
        sqlite3_exec(ledger->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) {
        return fail(ledger, &said, err);
    }
    // Before FORGOTTEN, which takes them away again.
    if (over != NULL && over->count > 0) {
        rc = put_over(ledger, over);
    }
    for (const struct entry *entry = entries; rc == SQLITE_DONE && entry != NULL; entry = entry->next) {
        rc = put_entry(ledger, entry, &said);
    }
    if (rc != SQLITE_DONE || sqlite3_exec(ledger->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
        return fail(ledger, &said, err);
    }
    ledger->written_job =
        ledger->writing_job > ledger->written_job ? ledger->writing_job : ledger->written_job;
    settle_files(ledger, true);
    if (ledger->scratch_bytes > (size_t)1 << 20) {
        free(ledger->scratch);
        ledger->scratch = NULL;
        ledger->scratch_bytes = 0;
    }
    return 0;
}

int ledger_replace_over(struct ledger *ledger, uint32_t job, struct spans *over, struct error *err)
{
    struct error said = {0};
    int rc;

    set_durable(ledger, false);
    if (sqlite3_exec(ledger->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK) {
        return fail(ledger, &said, err);
    }
    rc = run_with(ledger, DELETE_OVER, job);
    if (rc == SQLITE_DONE) {
        rc = put_over(ledger, over);
    }
    if (rc != SQLITE_DONE || sqlite3_exec(ledger->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
        return fail(ledger, &said, err);
    }
    return 0;
}
